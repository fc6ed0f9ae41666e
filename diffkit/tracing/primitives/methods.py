"""The methods of ufuncs: `reduce`, `accumulate`, `reduceat`, `outer` and `at`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from diffkit.structure import is_traced
from diffkit.tracing.graph import as_operand
from diffkit.tracing.primitives import reductions
from diffkit.tracing.primitives.gathering import added
from diffkit.tracing.primitives.lanes import (
    from_lanes,
    normalized,
    one_axis,
    reduced_shape,
    to_lanes,
)
from diffkit.tracing.primitives.rows import METHODS
from diffkit.tracing.primitives.shapes import fixed, unboxed
from diffkit.tracing.refusals import refuse


def _as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction as the method of a ufunc, which takes the first axis by default."""

    def method(array: Any, axis: Any = 0, dtype: Any = None, **options: Any) -> Any:
        if options.get("initial", reductions.ABSENT) is None:
            del options["initial"]
        return function(reductions.operand(array, dtype), axis=axis, **options)

    return method


def _in_pairs(ufunc: np.ufunc) -> Callable[..., Any]:
    """The reduction by an associative ufunc, written as its elementwise use on halves."""

    def reduction(a: Any, axis: Any, *, keepdims: bool = False) -> Any:
        axes = normalized(axis, np.ndim(a))
        shape = reduced_shape(np.shape(a), axes, keepdims)
        lanes = to_lanes(a, axes)
        if np.shape(lanes)[-1] == 0:
            return ufunc.reduce(np.zeros(np.shape(lanes)), axis=-1).reshape(shape)
        while (length := np.shape(lanes)[-1]) > 1:
            half = length // 2
            pairs = ufunc(lanes[..., :half], lanes[..., half : 2 * half])
            lanes = np.concatenate([pairs, lanes[..., 2 * half :]], axis=-1)
        return unboxed(np.copy(np.reshape(lanes, shape)))

    return reduction


def _running(ufunc: np.ufunc) -> Callable[..., Any]:
    """Running results of an associative ufunc, by doubling how far each entry looks back."""

    def running(a: Any, axis: Any) -> Any:
        axes = (one_axis(axis, np.ndim(a)),)
        lanes = to_lanes(a, axes)
        distance = 1
        while distance < np.shape(lanes)[-1]:
            looked_back = ufunc(lanes[..., :-distance], lanes[..., distance:])
            lanes = np.concatenate([lanes[..., :distance], looked_back], axis=-1)
            distance *= 2
        return np.copy(from_lanes(lanes, np.shape(a), axes))

    return running


def _reduced_at(ufunc: np.ufunc) -> Callable[..., Any]:
    """`reduceat`: one reduction for each slice from an index to the next."""

    def reduceat(array: Any, indices: Any, axis: int = 0, dtype: Any = None) -> Any:
        array = np.moveaxis(reductions.operand(array, dtype), one_axis(axis, np.ndim(array)), 0)
        starts = [int(i) for i in fixed(indices)]
        stops = [*starts[1:], np.shape(array)[0]]
        reduce = METHODS[ufunc, "reduce"]
        parts = [
            reduce(array[start:stop], 0) if start < stop else array[start]
            for start, stop in zip(starts, stops, strict=True)
        ]
        return np.moveaxis(np.stack(parts), 0, axis)

    return reduceat


def _at(ufunc: np.ufunc) -> Callable[..., Any]:
    """`np.add.at(a, indices, b)`, each entry as often as it is named."""

    def at(a: Any, indices: Any, b: Any) -> None:
        if not is_traced(a):
            refuse(
                f"np.{ufunc.__name__}.at was to write a traced value into an ordinary array; make "
                "the array with np.zeros_like(x)"
            )
        a[...] = ufunc(a, added(as_operand(b), indices, np.shape(a)).astype(a.dtype))

    return at


def _outer(ufunc: np.ufunc) -> Callable[..., Any]:
    def outer(a: Any, b: Any) -> Any:
        a, b = as_operand(a), as_operand(b)
        return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b)

    return outer


_ufunc: Any
_function: Any
for _ufunc, _function in (
    (np.add, np.sum),
    (np.multiply, np.prod),
    (np.maximum, np.max),
    (np.minimum, np.min),
    (np.logical_and, np.all),
    (np.logical_or, np.any),
    (np.logaddexp, _in_pairs(np.logaddexp)),
    (np.logaddexp2, _in_pairs(np.logaddexp2)),
    (np.hypot, _in_pairs(np.hypot)),
    (np.fmax, _in_pairs(np.fmax)),
    (np.fmin, _in_pairs(np.fmin)),
):
    METHODS[_ufunc, "reduce"] = _as_method(_function)

for _ufunc, _function in (
    (np.add, np.cumsum),
    (np.multiply, np.cumprod),
    (np.maximum, _running(np.maximum)),
    (np.minimum, _running(np.minimum)),
    (np.fmax, _running(np.fmax)),
    (np.fmin, _running(np.fmin)),
    (np.logaddexp, _running(np.logaddexp)),
    (np.logaddexp2, _running(np.logaddexp2)),
    (np.hypot, _running(np.hypot)),
):
    METHODS[_ufunc, "accumulate"] = _as_method(_function)

for _ufunc in (np.add, np.multiply, np.maximum, np.minimum, np.logaddexp, np.logaddexp2):
    METHODS[_ufunc, "reduceat"] = _reduced_at(_ufunc)

for _ufunc in (np.add, np.subtract):
    METHODS[_ufunc, "at"] = _at(_ufunc)

for _ufunc in (
    *(np.add, np.subtract, np.multiply, np.divide, np.floor_divide, np.remainder, np.fmod),
    *(np.power, np.hypot, np.arctan2, np.copysign, np.heaviside, np.logaddexp, np.logaddexp2),
    *(np.maximum, np.minimum, np.fmax, np.fmin, np.logical_and, np.logical_or, np.logical_xor),
    *(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal),
):
    METHODS[_ufunc, "outer"] = _outer(_ufunc)
