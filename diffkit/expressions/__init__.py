"""Formulas as functions: from text, without ever evaluating it as code, and from SymPy."""

from diffkit.expressions.from_tree import from_sympy
from diffkit.expressions.program import Expression
from diffkit.expressions.text import parse

__all__ = ["Expression", "from_sympy", "parse"]
