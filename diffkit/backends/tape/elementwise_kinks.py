"""Ties of operations on numbers: the larger of two, zero, whole numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.kink import Kink, Sided, Static, Values, equal, leaning

ELEMENTWISE: Final[dict[str, Kink]] = {}

# ---------------------------------------------------------------------- which of two is larger


def _extremum(sense: float) -> Kink:
    def side(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
        first = (1 + sense * leaning(tangents[0], tangents[1])) / 2
        return Sided(None, (first, 1 - first))

    return Kink(equal, side)


for _name, _sense in (("maximum", 1), ("fmax", 1), ("minimum", -1), ("fmin", -1)):
    ELEMENTWISE[_name] = _extremum(_sense)


def _comparison(function: np.ufunc) -> Kink:
    def side(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
        leans = leaning(tangents[0], tangents[1])
        return Sided(np.where(tied & (leans != 0), function(leans, 0), y))

    return Kink(equal, side)


for _ufunc in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
    ELEMENTWISE[_ufunc.__name__] = _comparison(_ufunc)

# ---------------------------------------------------------------------- zero


def _is_floating(a: Any) -> bool:
    return bool((a.dtype if hasattr(a, "dtype") else np.asarray(a).dtype).kind == "f")


def _zero(y: Any, x: Any, **static: Any) -> Any:
    return np.equal(x, 0)


def _absolute(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    return Sided(None, (leaning(tangents[0]),))


ELEMENTWISE["absolute"] = ELEMENTWISE["fabs"] = Kink(_zero, _absolute)


def _copysign(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    a, b = arguments
    sign_a = np.where(np.equal(a, 0), leaning(tangents[0]), np.sign(a))
    leans = leaning(tangents[1])
    sign_b = np.where(np.equal(b, 0) & (leans != 0), leans, np.copysign(1.0, b))
    return Sided(np.abs(a) * sign_b, (sign_a * sign_b, np.zeros(np.shape(sign_b))))


ELEMENTWISE["copysign"] = Kink(lambda y, a, b: np.equal(a, 0) | np.equal(b, 0), _copysign)


def _hypot(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    length = np.hypot(*tangents)
    length = np.where(length == 0, 1, length)
    return Sided(None, (tangents[0] / length, tangents[1] / length))


ELEMENTWISE["hypot"] = Kink(lambda y, a, b: np.equal(a, 0) & np.equal(b, 0), _hypot)


def _arctan2(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    a, b = arguments
    leans = leaning(tangents[0])
    squares = np.square(a) + np.square(b)
    beside = np.where(tied & (leans != 0), np.copysign(y, leans), y)
    return Sided(beside, (b / squares, -a / squares))


ELEMENTWISE["arctan2"] = Kink(lambda y, a, b: np.equal(a, 0) & np.less(b, 0), _arctan2)


def _sign(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    return Sided(np.where(tied, leaning(tangents[0]), y))


def _signbit(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    leans = leaning(tangents[0])
    return Sided(np.where(tied & (leans != 0), leans < 0, y))


def _heaviside(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    leans = leaning(tangents[0])
    moved = tied & (leans != 0)
    kept = np.where(moved | (np.not_equal(arguments[0], 0)), 0.0, 1.0)
    return Sided(np.where(moved, leans > 0, y), (np.zeros(np.shape(kept)), kept))


ELEMENTWISE["sign"] = Kink(_zero, _sign)
ELEMENTWISE["signbit"] = Kink(_zero, _signbit)
ELEMENTWISE["heaviside"] = Kink(lambda y, x, middle: np.equal(x, 0), _heaviside)


def _chosen(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    c, a, b = arguments
    first = np.not_equal(c, 0) | (leaning(tangents[0]) != 0)
    beside = np.broadcast_to(first, np.shape(y)) * 1.0
    return Sided(np.where(first, a, b), (0 * beside, beside, 1 - beside))


ELEMENTWISE["where"] = Kink(
    lambda y, c, a, b: np.equal(c, 0) if _is_floating(c) else np.False_, _chosen
)


def _truths(function: Callable[..., Any]) -> Kink:
    """Logic on numbers: a zero that moves is true beside the point."""

    def tied(y: Any, *arguments: Any, **static: Any) -> Any:
        zeros = (np.any(np.equal(a, 0)) for a in arguments if _is_floating(a))
        return functools.reduce(np.logical_or, zeros, np.False_)

    def side(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
        moved = [
            np.not_equal(a, 0) | (leaning(t) != 0) for a, t in zip(arguments, tangents, strict=True)
        ]
        return Sided(function(*moved, **static))

    return Kink(tied, side)


for _function in (np.logical_not, np.logical_and, np.logical_or, np.logical_xor, np.any, np.all):
    ELEMENTWISE[_function.__name__] = _truths(_function)

# ---------------------------------------------------------------------- whole numbers


def _whole(y: Any, x: Any, **static: Any) -> Any:
    return np.equal(x, np.rint(x)) if _is_floating(x) else np.False_


def _floor(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    return Sided(np.where(tied & (leaning(tangents[0]) < 0), y - 1, y))


def _ceil(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    return Sided(np.where(tied & (leaning(tangents[0]) > 0), y + 1, y))


def _trunc(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    inwards = leaning(tangents[0]) * np.sign(arguments[0]) < 0
    beside = np.where(tied & inwards, y - np.sign(arguments[0]), y)
    return Sided(beside.astype(np.asarray(y).dtype))


def _rint(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    x, leans = arguments[0], leaning(tangents[0])
    beside = np.where(leans > 0, np.ceil(x), np.floor(x))
    return Sided(np.where(tied & (leans != 0), beside, y))


ELEMENTWISE["floor"] = Kink(_whole, _floor)
ELEMENTWISE["ceil"] = Kink(_whole, _ceil)
ELEMENTWISE["trunc"] = Kink(lambda y, x: _whole(y, x) & np.not_equal(x, 0), _trunc)
ELEMENTWISE["to_integer"] = Kink(lambda y, x, *, dtype: _whole(y, x) & np.not_equal(x, 0), _trunc)
ELEMENTWISE["rint"] = Kink(lambda y, x: np.equal(np.abs(x - np.trunc(x)), 0.5), _rint)


def _quotient(truncated: bool) -> Callable[[Values, Values], Any]:
    """The whole part of a / b beside a point where a / b is whole."""

    def quotient(arguments: Values, tangents: Values) -> Any:
        a, b = arguments
        whole = np.rint(np.divide(a, b))
        leans = leaning(tangents[0], whole * tangents[1]) * np.sign(np.asarray(b, float))
        if truncated:
            return np.where(leans * np.sign(whole) < 0, whole - np.sign(whole), whole)
        return np.where(leans < 0, whole - 1, whole)

    return quotient


def _divides(y: Any, a: Any, b: Any) -> Any:
    return np.equal(np.fmod(a, b), 0)


def _floor_divide(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    return Sided(np.where(tied, _quotient(False)(arguments, tangents), y))


def _remainder(truncated: bool) -> Kink:
    def side(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
        a, b = arguments
        whole = _quotient(truncated)(arguments, tangents)
        return Sided(np.where(tied, a - b * whole, y), (np.ones(np.shape(whole)), -whole))

    return Kink(_divides, side)


ELEMENTWISE["floor_divide"] = Kink(_divides, _floor_divide)
ELEMENTWISE["remainder"] = _remainder(False)
ELEMENTWISE["fmod"] = _remainder(True)
