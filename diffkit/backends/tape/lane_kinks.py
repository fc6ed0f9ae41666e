"""Ties among the entries of lanes: several largest, a norm of zeros, equal entries in an order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.kink import Kink, Sided, Static, Values, leaning
from diffkit.tracing.primitives.lanes import kept_shape, spread

OF_LANES: Final[dict[str, Kink]] = {}

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


OF_LANES["max"], OF_LANES["min"] = _reduced_extremum(1), _reduced_extremum(-1)


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


OF_LANES["argmax"] = _position(1, np.max, np.argmax)
OF_LANES["argmin"] = _position(-1, np.min, np.argmax)


def _at_zero(y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return spread(np.equal(y, 0), np.shape(x), axis)


def _euclidean(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    (x,), axis = arguments, static["axis"]
    tangent = np.broadcast_to(tangents[0], np.shape(x))
    length = np.sqrt(np.sum(tangent * tangent, axis=axis, keepdims=True))
    beside = tangent / np.where(length == 0, 1, length)
    norms = spread(np.where(np.equal(y, 0), 1, y), np.shape(x), axis)
    return Sided(None, (np.where(tied, beside, x / norms),))


OF_LANES["euclidean"] = Kink(_at_zero, _euclidean, reduces=True)

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


OF_LANES["argsort"] = OF_LANES["argpartition"] = Kink(_repeated, _order)


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


OF_LANES["searchsorted"] = Kink(
    lambda y, a, v, **static: np.any(np.equal(np.expand_dims(v, -1), a)), _searchsorted
)
OF_LANES["digitize"] = Kink(
    lambda y, x, bins, **static: np.any(np.equal(np.expand_dims(x, -1), bins)), _digitize
)
