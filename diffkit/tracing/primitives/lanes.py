"""Lanes: what a reduction along some axes reduces, laid out along one last axis."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

Axes = tuple[int, ...] | None
Lane = list[Any]


def normalized(axis: Any, ndim: int) -> Axes:
    """`axis` as a tuple of positive integers in order, or None for all axes."""
    if axis is None:
        return None
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    if ndim == 0 and axis in (0, -1):  # as NumPy's reductions of a scalar allow
        return ()
    return tuple(sorted(normalize_axis_tuple(axis, ndim)))


def one_axis(axis: Any, ndim: int) -> int:
    """`axis` as a positive integer."""
    return int(normalize_axis_index(operator.index(axis), ndim))


def kept_shape(shape: Sequence[int], axis: Axes) -> tuple[int, ...]:
    """`shape` with 1 along the reduced axes."""
    return tuple(1 if axis is None or i in axis else n for i, n in enumerate(shape))


def reduced_shape(shape: Sequence[int], axis: Axes, keepdims: bool) -> tuple[int, ...]:
    """The shape of a reduction's value."""
    if keepdims:
        return kept_shape(shape, axis)
    return tuple(n for i, n in enumerate(shape) if axis is not None and i not in axis)


def lane_length(shape: Sequence[int], axis: Axes) -> int:
    """How many entries each lane has."""
    return math.prod(n for i, n in enumerate(shape) if axis is None or i in axis)


def spread(value: Any, shape: Sequence[int], axis: Axes) -> Any:
    """What a reduction gave, or its adjoint, repeated along the axes that were reduced."""
    if type(value) is np.float64:  # far sooner than np.broadcast_to
        return np.ndarray(shape, value.dtype, value, 0, (0,) * len(shape))
    kept = kept_shape(shape, axis)
    if type(value) is np.ndarray and value.flags.c_contiguous:
        return _repeated(value.reshape(kept), tuple(shape))
    return np.broadcast_to(np.reshape(value, kept), tuple(shape))


def _repeated(value: Any, shape: tuple[int, ...]) -> Any:
    """`np.broadcast_to` for a contiguous array with as many axes, at a fifth of the cost."""
    strides = tuple(
        [0 if n == 1 else stride for n, stride in zip(value.shape, value.strides, strict=True)]
    )
    view = np.ndarray(shape, value.dtype, value, 0, strides)
    view.flags.writeable = False
    return view


def _order(ndim: int, axis: Axes) -> list[int]:
    reduced = list(range(ndim)) if axis is None else list(axis)
    return [i for i in range(ndim) if i not in reduced] + reduced


def to_lanes(a: Any, axis: Axes) -> Any:
    """`a` with the reduced axes joined to one, the last."""
    shape = np.shape(a)
    kept = reduced_shape(shape, axis, False)
    moved = np.transpose(a, _order(len(shape), axis))
    return np.reshape(moved, (*kept, lane_length(shape, axis)))


def from_lanes(lanes: Any, shape: Sequence[int], axis: Axes) -> Any:
    """The array of the given shape of which these are the lanes."""
    order = _order(len(shape), axis)
    moved = np.reshape(lanes, tuple(shape[i] for i in order))
    return np.transpose(moved, [order.index(i) for i in range(len(shape))])


def reverse(a: Any, axis: int) -> Any:
    """`a` with the entries along one axis in reverse order."""
    return a[(slice(None),) * axis + (slice(None, None, -1),)]


def objects(entries: Sequence[Any], shape: Sequence[int]) -> Any:
    """An object array of the entries in C order, whatever they are; an entry if 0-d."""
    out = np.empty(len(entries), object)
    for i, entry in enumerate(entries):
        out[i] = entry
    return out.reshape(tuple(shape))[()]


def _object_array(a: Any) -> Any:
    return a if isinstance(a, np.ndarray) else np.reshape(np.array([a, None], object)[:1], ())


def reduce_objects(reduce: Callable[[Lane], Any], a: Any, axis: Axes, keepdims: bool) -> Any:
    """Reduce each lane of an object array by a function of the list of its entries."""
    a = _object_array(a)
    shape = reduced_shape(a.shape, axis, keepdims)
    lanes = to_lanes(a, axis).reshape(math.prod(shape), lane_length(a.shape, axis))
    return objects([reduce(list(lane)) for lane in lanes], shape)


def accumulate_objects(accumulate: Callable[[Lane], Lane], a: Any, axis: int) -> Any:
    """Replace each lane of an object array by as many entries made of it."""
    a = _object_array(a)
    lanes = to_lanes(a, (axis,))
    entries = [
        entry
        for lane in lanes.reshape(lanes.size // max(a.shape[axis], 1), a.shape[axis])
        for entry in accumulate(list(lane))
    ]
    return from_lanes(objects(entries, lanes.shape), a.shape, (axis,))
