"""Derivatives by SymPy of what the function computed, compiled to NumPy."""

from __future__ import annotations

from diffkit.backends.symbolic.differentiator import Symbolic

__all__ = ["Symbolic"]
