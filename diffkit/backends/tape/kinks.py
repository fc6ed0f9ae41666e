"""Ties, operation by operation: where a choice hangs on equality, and what decides it beside.

At a tie an operation takes one course on one side of the point and another on the other side.
For a step along a direction the first-order change of the arguments (their tangents) says which.
A row of the table says where its operation is tied, and what the operation is on a side: other
values where it jumps or gives an outcome, other slopes where it bends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Missing, Primitive
from diffkit.tracing.primitives.lanes import kept_shape, spread

Values = Sequence[Any]
Static = Mapping[str, Any]


@dataclass(frozen=True)
class Sided:
    """What an operation is on one side of a tie.

    Attributes:
        value: its value there in the limit; None where that is the value at the point.
        slopes: for each argument the factors from tangent to change of the value, laid out like
            the reduced array where the operation reduces; None for an outcome, which is constant.
    """

    value: Any = None
    slopes: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Kink:
    """A row: how one operation behaves at a tie.

    Attributes:
        tied: `tied(y, *arguments, **static)`, an array: true where the outcome hangs on equality.
            In traceable NumPy, since a compiled program asks too.
        side: `side(tied, y, arguments, tangents, static)`, the operation beside the tie.
        reduces: whether slopes belong to entries of lanes that the operation reduces; then alone
            does `tied` look at `y`.
        some: `some(y, *arguments, **static)`, whether anything is tied, where that is found faster.
    """

    tied: Callable[..., Any]
    side: Callable[[Any, Any, Values, Values, Static], Sided]
    reduces: bool = False
    some: Callable[..., bool] | None = None


KINKS: Final[dict[str, Kink]] = {}

# ---------------------------------------------------------------------- which of two is larger


def leaning(a: Any, b: Any = 0.0) -> Any:
    """The sign of `a - b`, 0 where they differ by rounding alone."""
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    small = 1e-9 * (np.abs(a) + np.abs(b))
    return np.where(np.abs(a - b) <= small, 0.0, np.sign(a - b))


def equal(y: Any, a: Any, b: Any, **static: Any) -> Any:
    return np.equal(a, b)


def _extremum(sense: float) -> Kink:
    def side(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
        first = (1 + sense * leaning(tangents[0], tangents[1])) / 2
        return Sided(None, (first, 1 - first))

    return Kink(equal, side)


for _name, _sense in (("maximum", 1), ("fmax", 1), ("minimum", -1), ("fmin", -1)):
    KINKS[_name] = _extremum(_sense)


def _comparison(function: np.ufunc) -> Kink:
    def side(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
        leans = leaning(tangents[0], tangents[1])
        return Sided(np.where(tied & (leans != 0), function(leans, 0), y))

    return Kink(equal, side)


for _ufunc in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
    KINKS[_ufunc.__name__] = _comparison(_ufunc)

# ---------------------------------------------------------------------- zero


def _is_floating(a: Any) -> bool:
    return bool((a.dtype if hasattr(a, "dtype") else np.asarray(a).dtype).kind == "f")


def _zero(y: Any, x: Any, **static: Any) -> Any:
    return np.equal(x, 0)


def _absolute(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    return Sided(None, (leaning(tangents[0]),))


KINKS["absolute"] = KINKS["fabs"] = Kink(_zero, _absolute)


def _copysign(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    a, b = arguments
    sign_a = np.where(np.equal(a, 0), leaning(tangents[0]), np.sign(a))
    leans = leaning(tangents[1])
    sign_b = np.where(np.equal(b, 0) & (leans != 0), leans, np.copysign(1.0, b))
    return Sided(np.abs(a) * sign_b, (sign_a * sign_b, np.zeros(np.shape(sign_b))))


KINKS["copysign"] = Kink(lambda y, a, b: np.equal(a, 0) | np.equal(b, 0), _copysign)


def _hypot(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    length = np.hypot(*tangents)
    length = np.where(length == 0, 1, length)
    return Sided(None, (tangents[0] / length, tangents[1] / length))


KINKS["hypot"] = Kink(lambda y, a, b: np.equal(a, 0) & np.equal(b, 0), _hypot)


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


KINKS["sign"] = Kink(_zero, _sign)
KINKS["signbit"] = Kink(_zero, _signbit)
KINKS["heaviside"] = Kink(lambda y, x, middle: np.equal(x, 0), _heaviside)


def _chosen(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    c, a, b = arguments
    first = np.not_equal(c, 0) | (leaning(tangents[0]) != 0)
    beside = np.broadcast_to(first, np.shape(y)) * 1.0
    return Sided(np.where(first, a, b), (0 * beside, beside, 1 - beside))


KINKS["where"] = Kink(lambda y, c, a, b: np.equal(c, 0) if _is_floating(c) else np.False_, _chosen)


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
    KINKS[_function.__name__] = _truths(_function)

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


KINKS["floor"] = Kink(_whole, _floor)
KINKS["ceil"] = Kink(_whole, _ceil)
KINKS["trunc"] = Kink(lambda y, x: _whole(y, x) & np.not_equal(x, 0), _trunc)
KINKS["to_integer"] = Kink(lambda y, x, *, dtype: _whole(y, x) & np.not_equal(x, 0), _trunc)
KINKS["rint"] = Kink(lambda y, x: np.equal(np.abs(x - np.trunc(x)), 0.5), _rint)


def _quotient(truncated: bool) -> Callable[[Values, Values], Any]:
    """The whole part of a / b beside a point where a / b is whole."""

    def quotient(arguments: Values, tangents: Values) -> Any:
        a, b = arguments
        whole = np.rint(np.divide(a, b))
        leans = leaning(tangents[0], whole * tangents[1]) * np.sign(b)
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


KINKS["floor_divide"] = Kink(_divides, _floor_divide)
KINKS["remainder"] = _remainder(False)
KINKS["fmod"] = _remainder(True)

# ---------------------------------------------------------------------- the largest of many


def _several(y: Any, a: Any, *, axis: Any, keepdims: bool) -> Any:
    """Per lane, whether several entries are the extreme one."""
    count = np.sum(np.equal(a, spread(y, np.shape(a), axis)), axis=axis, keepdims=True)
    return np.broadcast_to(count > 1, np.shape(a))


def _some_several(y: Any, a: Any, *, axis: Any, keepdims: bool) -> bool:
    kept = y if axis is None or keepdims else y.reshape(kept_shape(a.shape, axis))
    return bool(np.count_nonzero(np.equal(a, kept)) > np.size(y))


def _winners(sense: float, y: Any, a: Any, tangent: Any, axis: Any) -> Any:
    """For each entry its share in the extreme: equal shares among those that lead beside."""
    extreme = np.equal(a, spread(y, np.shape(a), axis))
    speed = np.where(extreme, sense * np.asarray(tangent), -np.inf)
    best = np.max(speed, axis=axis, keepdims=True)
    wins = extreme & (leaning(np.where(extreme, speed, 0), np.where(extreme, best, 1)) == 0)
    return wins / np.sum(wins, axis=axis, keepdims=True)


def _reduced_extremum(sense: float) -> Kink:
    def side(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
        return Sided(None, (_winners(sense, y, arguments[0], tangents[0], static["axis"]),))

    return Kink(_several, side, reduces=True, some=_some_several)


KINKS["max"], KINKS["min"] = _reduced_extremum(1), _reduced_extremum(-1)


def _position(sense: float, extreme: Callable[..., Any], position: Callable[..., Any]) -> Kink:
    def tied(y: Any, a: Any, *, axis: Any, keepdims: bool) -> Any:
        best = extreme(a, axis=axis, keepdims=True)
        return np.sum(np.equal(a, best), axis=axis, keepdims=keepdims) > 1

    def side(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
        (a,), axis = arguments, static["axis"]
        shares = _winners(sense, extreme(a, axis=axis, keepdims=True), a, tangents[0], axis)
        only = None if axis is None else axis[0]
        return Sided(position(shares > 0, axis=only, keepdims=static["keepdims"]))

    return Kink(tied, side)


KINKS["argmax"] = _position(1, np.max, np.argmax)
KINKS["argmin"] = _position(-1, np.min, np.argmax)


def _at_zero(y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return spread(np.equal(y, 0), np.shape(x), axis)


def _euclidean(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    (x,), axis = arguments, static["axis"]
    tangent = np.broadcast_to(tangents[0], np.shape(x))
    length = np.sqrt(np.sum(tangent * tangent, axis=axis, keepdims=True))
    beside = tangent / np.where(length == 0, 1, length)
    norms = spread(np.where(np.equal(y, 0), 1, y), np.shape(x), axis)
    return Sided(None, (np.where(tied, beside, x / norms),))


KINKS["euclidean"] = Kink(_at_zero, _euclidean, reduces=True)

# ---------------------------------------------------------------------- orders


def _repeated(y: Any, a: Any, *, axis: Any, **static: Any) -> Any:
    ordered = np.moveaxis(np.sort(a, axis=axis), 0 if axis is None else axis, 0)
    return np.any(np.equal(ordered[1:], ordered[:-1]))


def _order(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    """The same order with equal entries put into that of their tangents."""
    axis = static["axis"]
    a, t = np.asarray(arguments[0]), np.broadcast_to(tangents[0], np.shape(arguments[0]))
    if axis is None:
        a, t, axis = a.ravel(), t.ravel(), 0
    values, speeds = (np.take_along_axis(v, y, axis) for v in (a, t))
    places = np.moveaxis(
        np.broadcast_to(np.arange(y.shape[axis]), y.swapaxes(axis, -1).shape), -1, axis
    )
    wanted = np.lexsort((places, speeds, values), axis=axis)
    present = np.lexsort((places, values), axis=axis)
    beside = np.empty_like(y)
    np.put_along_axis(beside, present, np.take_along_axis(y, wanted, axis), axis)
    return Sided(beside)


KINKS["argsort"] = KINKS["argpartition"] = Kink(_repeated, _order)


def _places(tied: Any, y: Any, a: Any, v: Any, ta: Any, tv: Any, left: bool) -> Sided:
    """Where each of `v` belongs in the ascending `a`."""
    v, tv = np.expand_dims(v, -1), np.expand_dims(np.broadcast_to(tv, np.shape(v)), -1)
    leans = leaning(np.broadcast_to(ta, np.shape(a)), tv)
    before = (leans < 0) | ((leans == 0) & (not left))
    return Sided(np.sum(np.less(a, v) | (np.equal(a, v) & before), axis=-1))


def _searchsorted(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    (a, v), (ta, tv) = arguments, tangents
    if static["sorter"] is not None:
        a, ta = a[static["sorter"]], np.broadcast_to(ta, np.shape(a))[static["sorter"]]
    return _places(tied, y, a, v, ta, tv, static["side"] == "left")


def _digitize(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    (x, bins), (tx, tb) = arguments, tangents
    if len(bins) < 2 or bins[0] <= bins[-1]:
        return _places(tied, y, bins, x, tb, tx, static["right"])
    tb = np.broadcast_to(tb, np.shape(bins))[::-1]
    ascending = _places(tied, y, bins[::-1], x, tb, tx, not static["right"])
    return Sided(len(bins) - ascending.value)


KINKS["searchsorted"] = Kink(
    lambda y, a, v, **static: np.any(np.equal(np.expand_dims(v, -1), a)), _searchsorted
)
KINKS["digitize"] = Kink(
    lambda y, x, bins, **static: np.any(np.equal(np.expand_dims(x, -1), bins)), _digitize
)


def some_tie(of: str, y: Any, arguments: Values, static: Static) -> bool:
    """Whether an operation is tied anywhere; `y` is needed only if it reduces."""
    kink = KINKS[of]
    if kink.some is not None:
        return kink.some(y, *arguments, **static)
    return bool(np.count_nonzero(kink.tied(y, *arguments, **static)))


# ---------------------------------------------------------------------- a derivative at a tie

_WITHIN: Final = Missing("it stands for a derivative at a tie, inside another derivative")


def _corrected_adjoint(g: Any, y: Any, shared: Any, *, correction: Any) -> Any:
    return g


CORRECTED: Final = Primitive(
    "corrected",  # a derivative in which ties are shared, corrected to what the sides agree on
    lambda shared, *, correction: shared + correction,
    (_corrected_adjoint,),
    _WITHIN,
    _WITHIN,
)


def _uncorrected(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    """Beside the tie nothing is shared."""
    return Sided(arguments[0], (np.ones(np.shape(y)),))


KINKS["corrected"] = Kink(
    lambda y, shared, *, correction: np.not_equal(correction, 0), _uncorrected
)


def spread_cotangent(kink: Kink, g: Any, arguments: Values, static: Static) -> Any:
    """A cotangent laid out beside the slopes."""
    if not kink.reduces:
        return g
    return np.reshape(g, kept_shape(np.shape(arguments[0]), static["axis"]))
