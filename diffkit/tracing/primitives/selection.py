"""Rows with kinks and jumps: absolute value, extrema, comparisons, rounding, choice by condition.

At a kink the derivative is the mean of the one-sided derivatives: 0 for |x| at 0, one half for
each of two equal arguments of `maximum`, one half for `clip` at its bounds.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Primitive
from diffkit.tracing.primitives.counterparts import (
    condition,
    differ,
    function_of_sympy,
    number,
    rounded,
    truncated,
    truth,
)
from diffkit.tracing.primitives.rows import defines, elementwise, row, step

# ---------------------------------------------------------------------- choice by condition


def _symbolic_where(S: Any, c: Any, a: Any, b: Any) -> Any:
    a, b = S.sympify(a), S.sympify(b)
    if not isinstance(a, S.Expr) and not isinstance(b, S.Expr):
        return S.ITE(truth(S, c), a, b)
    return S.Piecewise((number(S, a), truth(S, c)), (number(S, b), True))


where: Primitive = row(
    "where",
    lambda c, a, b: np.where(c, a, b),
    (None, lambda g, y, c, a, b: where(c, g, 0), lambda g, y, c, a, b: where(c, 0, g)),
    sympy=_symbolic_where,
    exact="where",
    elementwise=True,
    routes=True,
)

_ABSENT: Final = object()


@defines(np.where)
def _where(condition: Any, x: Any = _ABSENT, y: Any = _ABSENT, /) -> Any:
    return np.nonzero(condition) if x is _ABSENT else where(condition, x, y)


# ---------------------------------------------------------------------- kinks

for _absolute in (np.absolute, np.fabs):
    elementwise(_absolute, lambda g, y, x: g * np.sign(x), sympy="Abs", exact="absolute")

elementwise(
    np.copysign,
    lambda g, y, a, b: g * np.sign(a) * np.sign(y),
    None,
    sympy=lambda S, a, b: S.Abs(a) * S.Piecewise((1, b >= 0), (-1, True)),
    exact="copysign",
)


def _shared(g: Any, wins: Any, other_wins: Any) -> Any:
    return np.where(wins, np.where(other_wins, g / 2, g), 0)


def _not_below(a: Any, b: Any) -> Any:
    return (a >= b) | (a != a)


def _not_below_or_alone(a: Any, b: Any) -> Any:
    return (a >= b) | (b != b)


elementwise(
    np.maximum,
    lambda g, y, a, b: _shared(g, _not_below(a, b), _not_below(b, a)),
    lambda g, y, a, b: _shared(g, _not_below(b, a), _not_below(a, b)),
    sympy=function_of_sympy("Max"),
    exact="maximum",
    routes=True,
)
elementwise(
    np.minimum,
    lambda g, y, a, b: _shared(g, _not_below(-a, -b), _not_below(-b, -a)),
    lambda g, y, a, b: _shared(g, _not_below(-b, -a), _not_below(-a, -b)),
    sympy=function_of_sympy("Min"),
    exact="minimum",
    routes=True,
)
elementwise(
    np.fmax,
    lambda g, y, a, b: _shared(g, _not_below_or_alone(a, b), _not_below_or_alone(b, a)),
    lambda g, y, a, b: _shared(g, _not_below_or_alone(b, a), _not_below_or_alone(a, b)),
    sympy=function_of_sympy("Max"),
    exact="fmax",
    routes=True,
)
elementwise(
    np.fmin,
    lambda g, y, a, b: _shared(g, _not_below_or_alone(-a, -b), _not_below_or_alone(-b, -a)),
    lambda g, y, a, b: _shared(g, _not_below_or_alone(-b, -a), _not_below_or_alone(-a, -b)),
    sympy=function_of_sympy("Min"),
    exact="fmin",
    routes=True,
)

# ---------------------------------------------------------------------- comparisons and logic

step(np.less, sympy=function_of_sympy("Lt"), exact="less")
step(np.less_equal, sympy=function_of_sympy("Le"), exact="less_equal")
step(np.greater, sympy=function_of_sympy("Gt"), exact="greater")
step(np.greater_equal, sympy=function_of_sympy("Ge"), exact="greater_equal")
step(np.equal, sympy=lambda S, a, b: S.Not(differ(S, a, b)), exact="equal")
step(np.not_equal, sympy=differ, exact="not_equal")

step(np.logical_and, sympy=function_of_sympy("And", truth), exact="logical_and")
step(np.logical_or, sympy=function_of_sympy("Or", truth), exact="logical_or")
step(np.logical_xor, sympy=function_of_sympy("Xor", truth), exact="logical_xor")
step(np.logical_not, sympy=function_of_sympy("Not", truth), exact="logical_not")

step(np.bitwise_and, sympy=function_of_sympy("And", condition), exact="logical_and")
step(np.bitwise_or, sympy=function_of_sympy("Or", condition), exact="logical_or")
step(np.bitwise_xor, sympy=function_of_sympy("Xor", condition), exact="logical_xor")
step(np.invert, sympy=function_of_sympy("Not", condition), exact="logical_not")

# SymPy's symbols are finite.
step(np.isfinite, sympy=lambda S, x: S.true, exact="isfinite")
step(np.isnan, sympy=lambda S, x: S.false, exact="isnan")
step(np.isinf, sympy=lambda S, x: S.false, exact="isinf")
step(np.signbit, sympy=lambda S, x: S.Lt(x, 0), exact=lambda A, x: A.less(x, A.constant(0)))

# ---------------------------------------------------------------------- jumps

step(np.sign, sympy="sign", exact="sign")
step(np.floor, sympy="floor", exact="floor")
step(np.ceil, sympy="ceiling", exact="ceil")
step(np.trunc, sympy=truncated, exact="trunc")
step(np.rint, sympy=rounded, exact="rint")
step(np.floor_divide, sympy=lambda S, a, b: S.floor(a / b), exact="floor_divide")

elementwise(
    np.remainder,
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g * np.floor_divide(a, b),
    sympy=lambda S, a, b: a - b * S.floor(a / b),
    exact="remainder",
)
elementwise(
    np.fmod,
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g * np.rint((a - y) / b),
    sympy=lambda S, a, b: a - b * truncated(S, a / b),
    exact="fmod",
)
elementwise(
    np.heaviside,
    None,
    lambda g, y, x, middle: np.where(x == 0, g, 0),
    sympy=lambda S, x, middle: S.Piecewise((0, x < 0), (middle, S.Eq(x, 0)), (1, True)),
    exact="heaviside",
)
