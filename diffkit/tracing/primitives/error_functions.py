"""Rows for the error functions of scipy.special, the normal distribution and logistic functions.

For large arguments the derivatives of erfcx and dawsn are differences that cancel; there an
asymptotic series takes their place (NIST Digital Library of Mathematical Functions, 7.12).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Primitive
from diffkit.tracing.primitives.special import SPECIAL, power_series, special_row

SQRT_PI: Final = math.sqrt(math.pi)
SQRT_2: Final = math.sqrt(2)
SQRT_2_PI: Final = math.sqrt(2 * math.pi)

# ---------------------------------------------------------------------- error functions

special_row("erf", lambda g, y, x: g * np.exp(-x * x) * (2 / SQRT_PI), sympy="erf", exact="erf")
special_row("erfc", lambda g, y, x: g * np.exp(-x * x) * (-2 / SQRT_PI), sympy="erfc", exact="erfc")
special_row("erfi", lambda g, y, x: g * np.exp(x * x) * (2 / SQRT_PI), sympy="erfi", exact="erfi")
special_row(
    "erfinv", lambda g, y, x: g * np.exp(y * y) * (SQRT_PI / 2), sympy="erfinv", exact="erfinv"
)
special_row(
    "erfcinv",
    lambda g, y, x: g * np.exp(y * y) * (-SQRT_PI / 2),
    sympy="erfcinv",
    exact="erfcinv",
)

# 1 + Σ (-1)^k (2k-1)!! / (2 x²)^k, without the 1, in powers of u = 1/x²: sqrt(π) x erfcx(x) - 1;
# with all signs positive it is 2 x dawsn(x) - 1.
_TAIL: Final = [(-1) ** k * math.prod(range(1, 2 * k, 2)) / 2**k for k in range(1, 10)]
_FAR: Final = 30.0


def _erfcx_slope(x: Any) -> Any:
    """2 x erfcx(x) - 2 / sqrt(π)."""
    far = x > _FAR
    z = np.where(far, x, _FAR)
    u = 1 / (z * z)
    tail = power_series(_TAIL, u) * u * (2 / SQRT_PI)
    w = np.where(far, 0.0, x)
    return np.where(far, tail, 2 * w * erfcx(w) - 2 / SQRT_PI)


erfcx: Primitive = special_row(
    "erfcx",
    lambda g, y, x: g * _erfcx_slope(x),
    sympy=lambda S, x: S.exp(x**2) * S.erfc(x),
    exact=lambda A, x: A.exp(A.square(x)) * A.erfc(x),
)


def _dawsn_slope(x: Any) -> Any:
    """1 - 2 x dawsn(x)."""
    far = np.abs(x) > _FAR
    z = np.where(far, x, _FAR)
    u = 1 / (z * z)
    tail = -power_series([abs(c) for c in _TAIL], u) * u
    w = np.where(far, 0.0, x)
    return np.where(far, tail, 1 - 2 * w * dawsn(w))


dawsn: Primitive = special_row(
    "dawsn",
    lambda g, y, x: g * _dawsn_slope(x),
    sympy=lambda S, x: S.sqrt(S.pi) / 2 * S.exp(-(x**2)) * S.erfi(x),
    exact=lambda A, x: A.sqrt(A.pi) / 2 * A.exp(-A.square(x)) * A.erfi(x),
)

# ---------------------------------------------------------------------- the normal distribution

special_row(
    "ndtr",
    lambda g, y, x: g * np.exp(-x * x / 2) / SQRT_2_PI,
    sympy=lambda S, x: S.erfc(-x / S.sqrt(2)) / 2,
    exact=lambda A, x: A.erfc(-A.number(x) / A.sqrt(2)) / 2,
)


def _hazard(x: Any) -> Any:
    """The density over the distribution function, good in both tails."""
    upper = x > 0
    low, high = np.where(upper, 0.0, x), np.where(upper, x, 0.0)
    below = math.sqrt(2 / math.pi) / erfcx(-low / SQRT_2)
    return np.where(upper, np.exp(-high * high / 2) / SQRT_2_PI / SPECIAL["ndtr"](high), below)


special_row(
    "log_ndtr",
    lambda g, y, x: g * _hazard(x),
    sympy=lambda S, x: S.log(S.erfc(-x / S.sqrt(2)) / 2),
    exact=lambda A, x: A.log(A.erfc(-A.number(x) / A.sqrt(2)) / 2),
)
special_row(
    "ndtri",
    lambda g, y, x: g * np.exp(y * y / 2) * SQRT_2_PI,
    sympy=lambda S, x: -S.sqrt(2) * S.erfcinv(2 * x),
    exact=lambda A, x: -A.sqrt(2) * A.erfcinv(2 * A.number(x)),
)

# ---------------------------------------------------------------------- logistic functions

expit: Primitive = special_row(
    "expit",
    lambda g, y, x: g * y * expit(-x),
    sympy=lambda S, x: 1 / (1 + S.exp(-x)),
    exact="sigmoid",
)
special_row(
    "logit",
    lambda g, y, x: g / (x * (1 - x)),
    sympy=lambda S, x: S.log(x / (1 - x)),
    exact=lambda A, x: A.log(A.divide(x, 1 - A.number(x))),
)
special_row(
    "log_expit",
    lambda g, y, x: g * expit(-x),
    sympy=lambda S, x: -S.log(1 + S.exp(-x)),
    exact=lambda A, x: -A.logaddexp(0, -A.number(x)),
)
