"""Errors in ulps and correct digits, against references that are never rounded.

A reference is an exact rational or an enclosure, and an error is a fraction of an ulp of the
dtype in question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from diffkit.errors import InvalidInput

_FURTHEST: Final = 100_000
"""Beyond 2^this, and below its reciprocal, numbers are not written out."""


@dataclass(frozen=True)
class Enclosure:
    """A real number known to lie within `radius` of `midpoint`."""

    midpoint: Fraction
    radius: Fraction = Fraction(0)

    @classmethod
    def of(cls, reference: Any) -> Enclosure:
        """Return the enclosure meant by a reference: what it holds is taken exactly.

        Args:
            reference: an Enclosure, a finite Python or NumPy number, a Fraction, an mpmath
                `mpf`, a FLINT ball, or a pair of those (midpoint, radius).

        Raises:
            InvalidInput: it is none of these, or not finite.
        """
        if isinstance(reference, Enclosure):
            return reference
        if hasattr(reference, "rad") and hasattr(reference, "mid"):
            reference = (reference.mid(), reference.rad())
        midpoint, radius = reference if isinstance(reference, tuple) else (reference, 0)
        center, tail = _scaled(midpoint)
        width, further = _scaled(radius)
        return cls(center, abs(width) + tail + further)


def ulp(t: Any, dtype: Any) -> Fraction:
    """Return the spacing of `dtype` at the real number `t`, exactly.

    That is 2^(e-p+1) for 2^e <= |t| < 2^(e+1), with p the bits of the significand; the
    smallest subnormal below the normal range, and the spacing of the last binade above it.
    (Goldberg 1991; Harrison's ulp differs at powers of two only.)
    """
    info = np.finfo(dtype)
    t = abs(Enclosure.of(t).midpoint)
    exponent = info.minexp if t == 0 else max(info.minexp, _exponent(t))
    return Fraction(2) ** (min(exponent, info.maxexp - 1) - info.nmant)


def ulps(value: Any, reference: Any, dtype: Any = None) -> float:
    """Return the error of one computed number in fractional ulps of its dtype.

    The distance from the reference's midpoint, in units of `ulp(midpoint, dtype)`. An infinite
    value has error 0 where the reference rounds to that infinity; otherwise, and for NaN, the
    error is infinite.

    Args:
        value: a Python or NumPy real number.
        reference: what `Enclosure.of` takes.
        dtype: the floating dtype; the value's own by default.

    Raises:
        InvalidInput: the reference is an enclosure wider than 1/1000 of an ulp.
    """
    kind = np.dtype(np.asarray(value).dtype if dtype is None else dtype)
    enclosure = Enclosure.of(reference)
    unit = ulp(enclosure.midpoint, kind)
    if 1000 * enclosure.radius > unit:
        raise InvalidInput("the reference is not known well enough to measure an error in ulps")
    if np.isnan(value):
        return math.inf
    if np.isinf(value):
        return 0.0 if nearest(enclosure.midpoint, kind) == value else math.inf
    return _as_float(abs(_rational(value) - enclosure.midpoint) / unit)


def nearest(t: Any, dtype: Any) -> Any:
    """Return the number of `dtype` nearest to the real number `t`, ties to even."""
    kind = np.dtype(dtype).type
    t = Enclosure.of(t).midpoint
    info = np.finfo(dtype)
    unit = ulp(t, dtype)
    significand = round(t / unit)
    if abs(significand) * unit >= Fraction(2) ** info.maxexp:
        return kind(math.copysign(math.inf, significand))
    high, low = divmod(abs(significand), 1 << 32)
    exact = np.ldexp(np.longdouble(high), 32) + np.longdouble(low)
    rounded = np.ldexp(exact, _exponent(unit)).astype(kind)
    return -rounded if t < 0 else rounded


def correct_digits(value: Any, reference: Any) -> float:
    """Return -log10 of the relative error: infinite for an exact value, never below 0.

    Where the reference is zero, any other value has no correct digit.
    """
    t = Enclosure.of(reference).midpoint
    if not np.isfinite(value):
        return 0.0
    error = abs(_rational(value) - t)
    if error == 0:
        return math.inf
    if t == 0:
        return 0.0
    relative = error / abs(t)
    return max(0.0, math.log10(relative.denominator) - math.log10(relative.numerator))


def _rational(x: Any) -> Fraction:
    """One finite real number, exactly."""
    return _scaled(x)[0]


def _scaled(x: Any) -> tuple[Fraction, Fraction]:
    """One finite real number as a rational, and how far that may be off.

    A number far below every floating-point range counts as zero, not quite known: its exact
    rational could be too long to hold.
    """
    if isinstance(x, np.ndarray) and x.ndim == 0:
        x = x[()]
    if isinstance(x, (int, Fraction)):
        return Fraction(x), Fraction(0)
    if isinstance(x, (float, np.floating)) and np.isfinite(x):
        return Fraction(*x.as_integer_ratio()), Fraction(0)
    if isinstance(x, (np.integer, np.bool_)):
        return Fraction(int(x)), Fraction(0)
    mantissa, exponent = _binary(x)
    if mantissa and exponent + mantissa.bit_length() < -_FURTHEST:
        return Fraction(0), Fraction(1, 1 << _FURTHEST)
    if exponent > _FURTHEST:
        raise InvalidInput("a reference beyond 2^100000 is too large to measure against")
    return mantissa * Fraction(2) ** exponent, Fraction(0)


def _binary(x: Any) -> tuple[int, int]:
    """The mantissa and exponent of an mpmath number or an exact FLINT ball."""
    try:
        mantissa, exponent = (int(i) for i in (x.man_exp() if callable(x.man_exp) else x.man_exp))
    except (AttributeError, ValueError):
        mantissa, exponent = 0, 1
    if not mantissa and not _is_zero(x):
        raise InvalidInput(f"{x!r} is not a finite real number that can serve as a reference")
    return (-mantissa if mantissa > 0 and x < 0 else mantissa), exponent


def _is_zero(x: Any) -> bool:
    return hasattr(x, "man_exp") and bool(x == 0)


def _exponent(t: Fraction) -> int:
    """The e with 2^e <= t < 2^(e+1), for positive t."""
    e = t.numerator.bit_length() - t.denominator.bit_length()
    return e if Fraction(2) ** e <= t else e - 1


def _as_float(x: Fraction) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.inf
