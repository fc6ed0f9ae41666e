"""Measures of error and cost: ulps, correct digits, seconds, sizes, and how they grow."""

from __future__ import annotations

from diffkit.measures.accuracy import Enclosure, correct_digits, nearest, ulp, ulps
from diffkit.measures.fitting import Growth, growth
from diffkit.measures.sizes import ExpressionSize, ProgramSize, expression_size, program_size
from diffkit.measures.timing import timed

__all__ = [
    "Enclosure",
    "ExpressionSize",
    "Growth",
    "ProgramSize",
    "correct_digits",
    "expression_size",
    "growth",
    "nearest",
    "program_size",
    "timed",
    "ulp",
    "ulps",
]
