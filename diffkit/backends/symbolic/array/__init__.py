"""Derivatives in index notation: symbols stand for whole arrays, whatever their size.

These modules import SymPy; import them inside functions.
"""
