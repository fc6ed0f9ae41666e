"""Rows for the Bessel functions of scipy.special, by their argument, and for np.i0.

The formulas are those of the NIST Digital Library of Mathematical Functions, 10.6, 10.29 and,
for large arguments of the scaled ones, 10.40.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Column, Primitive, Rule
from diffkit.tracing.primitives.rows import row
from diffkit.tracing.primitives.special import SPECIAL, refused_by, special_row


def _of_order(name: str, sympy: Rule, exact: Column, slope: Rule) -> Primitive:
    """The row of a Bessel function of an order that is not differentiated by."""
    return special_row(
        name,
        refused_by(name, "its order"),
        lambda g, y, v, x: g * slope(v, x),
        sympy=sympy,
        exact=exact,
    )


jv: Primitive = _of_order(
    "jv",
    lambda S, v, x: S.besselj(v, x),
    lambda A, v, x: A.bessel(v, x, -1),
    lambda v, x: (jv(v - 1, x) - jv(v + 1, x)) / 2,
)
yv: Primitive = _of_order(
    "yv",
    lambda S, v, x: S.bessely(v, x),
    lambda A, v, x: A.second_bessel(v, x, -1),
    lambda v, x: (yv(v - 1, x) - yv(v + 1, x)) / 2,
)
iv: Primitive = _of_order(
    "iv",
    lambda S, v, x: S.besseli(v, x),
    lambda A, v, x: A.bessel(v, x, 1),
    lambda v, x: (iv(v - 1, x) + iv(v + 1, x)) / 2,
)
kv: Primitive = _of_order(
    "kv",
    lambda S, v, x: S.besselk(v, x),
    lambda A, v, x: A.second_bessel(v, x, 1),
    lambda v, x: (kv(v - 1, x) + kv(v + 1, x)) / -2,
)


def _of_integer_order(function: Primitive) -> Rule:
    """As SciPy's yn and kn, which compute in double precision alone."""
    return lambda n, x: function(n, np.multiply(x, np.float64(1)))


SPECIAL["yn"], SPECIAL["kn"] = _of_integer_order(yv), _of_integer_order(kv)


def _of_fixed_order(name: str, order: int, sympy: str, exact: Column, slope: Rule) -> None:
    special_row(
        name,
        lambda g, y, x: g * slope(x),
        sympy=lambda S, x: getattr(S, sympy)(order, x),
        exact=exact,
    )


_of_fixed_order("j0", 0, "besselj", lambda A, x: A.bessel(0, x, -1), lambda x: -SPECIAL["j1"](x))
_of_fixed_order(
    "j1",
    1,
    "besselj",
    lambda A, x: A.bessel(1, x, -1),
    lambda x: (SPECIAL["j0"](x) - jv(2.0, x)) / 2,
)
_of_fixed_order(
    "y0", 0, "bessely", lambda A, x: A.second_bessel(0, x, -1), lambda x: -SPECIAL["y1"](x)
)
_of_fixed_order(
    "y1",
    1,
    "bessely",
    lambda A, x: A.second_bessel(1, x, -1),
    lambda x: (SPECIAL["y0"](x) - yv(2.0, x)) / 2,
)
_of_fixed_order("i0", 0, "besseli", lambda A, x: A.bessel(0, x, 1), lambda x: SPECIAL["i1"](x))
_of_fixed_order(
    "i1",
    1,
    "besseli",
    lambda A, x: A.bessel(1, x, 1),
    lambda x: (SPECIAL["i0"](x) + iv(2.0, x)) / 2,
)
_of_fixed_order(
    "k0", 0, "besselk", lambda A, x: A.second_bessel(0, x, 1), lambda x: -SPECIAL["k1"](x)
)
_of_fixed_order(
    "k1",
    1,
    "besselk",
    lambda A, x: A.second_bessel(1, x, 1),
    lambda x: -(SPECIAL["k0"](x) + kv(2.0, x)) / 2,
)

_LARGE: Final = 100.0


def _scaled_slope(v: Any, x: Any) -> Any:
    """The derivative of e^-|x| I_v(x) by x: for large |x| that of the asymptotic series.

    (2πx)^(-1/2) Σ_k (-1)^k a_k x^-k with a_k = Π_{j=1..k} (4v² - (2j-1)²) / (k! 8^k); the
    function has the parity of its order.
    """
    far = np.abs(x) > _LARGE * (1 + np.square(v))
    near = np.where(far, 0.0, x)
    slope = (ive(v - 1, near) + ive(v + 1, near)) / 2 - np.sign(near) * ive(v, near)
    z = np.where(far, np.abs(x), _LARGE)
    term, total = 1.0, 0.0
    for k in range(14):
        total = total - (k + 0.5) * term
        term = -term * (4 * np.square(v) - (2 * k + 1) ** 2) / (8 * (k + 1) * z)
    parity = np.where(x < 0, -np.cos(math.pi * v), 1.0)
    return np.where(far, parity * total / (z * np.sqrt(2 * math.pi * z)), slope)


ive: Primitive = _of_order(
    "ive",
    lambda S, v, x: S.exp(-S.Abs(x)) * S.besseli(v, x),
    lambda A, v, x: A.exp(-A.absolute(x)) * A.bessel(v, x, 1),
    _scaled_slope,
)


def _scaled(name: str, order: int) -> None:
    special_row(
        name,
        lambda g, y, x: g * _scaled_slope(float(order), x),
        sympy=lambda S, x: S.exp(-S.Abs(x)) * S.besseli(order, x),
        exact=lambda A, x: A.exp(-A.absolute(x)) * A.bessel(order, x, 1),
    )


_scaled("i0e", 0)
_scaled("i1e", 1)


# ---------------------------------------------------------------------- NumPy's own

_FEWEST: Final = 40


def _i0_derivative(x: Any, *, order: int) -> Any:
    """The derivative of I_0 of some order: the mean of cos^k θ (d/dz)^k cosh(z), z = x cos θ.

    All terms are positive, and the midpoint rule converges geometrically (10.32.1).
    """
    x = np.asarray(x)
    largest = float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)))
    count = _FEWEST + int(6 * math.sqrt(largest))
    cosines = np.cos((np.arange(count // 2) + 0.5) * (math.pi / count)).astype(x.dtype)
    kernel = np.sinh if order % 2 else np.cosh
    terms = kernel(np.expand_dims(x, -1) * cosines) * cosines**order
    return np.sum(terms, axis=-1) * x.dtype.type(2 / count)


i0_derivative: Primitive = row(
    "i0_derivative",
    _i0_derivative,
    (lambda g, y, x, *, order: g * i0_derivative(x, order=order + 1),),
    sympy=lambda S, x, *, order: _derived(S, S.Dummy(real=True), x, order),
    exact=lambda A, x, *, order: A.differentiated(lambda t: A.bessel(0, t, 1), order, x),
    elementwise=True,
)


def _derived(S: Any, t: Any, x: Any, order: int) -> Any:
    return S.diff(S.besseli(0, t), t, order).subs(t, x)


row(
    "i0",
    np.i0,
    (lambda g, y, x: g * i0_derivative(x, order=1),),
    sympy=lambda S, x: S.besseli(0, x),
    exact=lambda A, x: A.bessel(0, x, 1),
    elementwise=True,
    replaces=[np.i0],
)
