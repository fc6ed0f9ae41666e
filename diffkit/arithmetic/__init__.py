"""Arithmetic on values alone: Taylor series in balls, and plain multiprecision numbers.

An `Arithmetic` offers NumPy's scalar functions, under NumPy's names, on one kind of number.
Both kinds support `+ - * /` as operators, so that object arrays of them go through NumPy's
own `add`, `matmul` and `sum`. Neither holds a derivative rule: FLINT composes power series
from values, and multiprecision numbers are only evaluated.
"""

from __future__ import annotations

from diffkit.arithmetic.base import Arithmetic, LengthNeeded, PrecisionNeeded
from diffkit.arithmetic.flint_series import FlintSeries
from diffkit.arithmetic.multiprecision import MultiPrecision

__all__ = ["Arithmetic", "FlintSeries", "LengthNeeded", "MultiPrecision", "PrecisionNeeded"]
