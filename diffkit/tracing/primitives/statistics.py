"""Means, spreads, order statistics and differences, written in traceable NumPy.

At a tie, an order statistic follows the entry that the sort put in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffkit.errors import UnsupportedOperation
from diffkit.structure import is_traced
from diffkit.tracing.graph import as_operand
from diffkit.tracing.locations import user_location
from diffkit.tracing.primitives.lanes import (
    kept_shape,
    lane_length,
    normalized,
    one_axis,
    reduced_shape,
    to_lanes,
)
from diffkit.tracing.primitives.rows import defines
from diffkit.tracing.primitives.shapes import fixed, unboxed

# ---------------------------------------------------------------------- means and spreads


def _count(a: Any, axis: Any, keepdims: bool, where: Any) -> Any:
    """How many entries each lane has, of those chosen."""
    if where is True:
        return lane_length(np.shape(a), normalized(axis, np.ndim(a)))
    chosen = np.broadcast_to(where, np.shape(a))
    return np.sum(chosen, axis=axis, keepdims=keepdims, dtype=a.dtype)


def _floating(a: Any, dtype: Any) -> Any:
    """The operand of a mean: integers and booleans as float64."""
    a = as_operand(a)
    if dtype is not None:
        return a.astype(dtype)
    return a if a.dtype.kind == "f" else a.astype(np.float64)


@defines(np.mean)
def _mean(
    a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False, where: Any = True
) -> Any:
    a = _floating(a, dtype)
    if a.dtype == np.float16 and dtype is None:  # as NumPy, which adds up in single precision
        single = _mean(a, axis, np.float32, keepdims=keepdims, where=where)
        return single.astype(np.float16)
    total = np.sum(a, axis=axis, keepdims=keepdims, where=where)
    return total / _count(a, axis, keepdims, where)


@defines(np.var)
def _var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    *,
    ddof: Any = 0,
    keepdims: bool = False,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    a = _floating(a, dtype)
    if a.dtype == np.float16 and dtype is None:
        options = {"ddof": ddof, "keepdims": keepdims, "where": where, "correction": correction}
        return _var(a, axis, np.float32, mean=mean, **options).astype(np.float16)
    if mean is None:
        mean = _mean(a, axis, keepdims=True, where=where)
    total = np.sum(np.square(a - mean), axis=axis, keepdims=keepdims, where=where)
    degrees = _count(a, axis, keepdims, where) - (ddof if correction is None else correction)
    return total / (np.maximum(degrees, 0) if where is not True else max(degrees, 0))


@defines(np.std)
def _std(a: Any, axis: Any = None, dtype: Any = None, **options: Any) -> Any:
    return np.sqrt(_var(a, axis, dtype, **options))


@defines(np.ptp)
def _ptp(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    a = as_operand(a)
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


@defines(np.average)
def _average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False
) -> Any:
    a = as_operand(a)
    if weights is None:
        mean = _mean(a, axis, keepdims=keepdims)
        total = _count(a, axis, keepdims, True) * np.ones(np.shape(mean), a.dtype)
        return (mean, total) if returned else mean
    weights = _weights_like(as_operand(weights), a, axis)
    total = np.sum(weights, axis=axis, keepdims=keepdims)
    mean = np.sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (mean, total) if returned else mean


def _weights_like(weights: Any, a: Any, axis: Any) -> Any:
    """Weights of the shape of `a`; those of fewer dimensions lie along the given axes."""
    shape = np.shape(a)
    if np.shape(weights) == shape:
        return weights
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    axes = normalized(axis, len(shape)) or ()
    if np.shape(weights) != tuple(shape[i] for i in axes):
        raise ValueError("Shape of weights must be consistent with shape of a along axis.")
    along = tuple(n if i in axes else 1 for i, n in enumerate(shape))
    return np.broadcast_to(np.reshape(weights, along), shape)


# ---------------------------------------------------------------------- order statistics


@defines(np.median)
def _median(
    a: Any, axis: Any = None, overwrite_input: bool = False, *, keepdims: bool = False
) -> Any:
    a = _floating(a, None)
    axes = normalized(axis, np.ndim(a))
    ordered = np.sort(to_lanes(a, axes), axis=-1)
    length = np.shape(ordered)[-1]
    if length == 0:
        return np.mean(a, axis=axes, keepdims=keepdims)
    middle = ordered[..., (length - 1) // 2 : length // 2 + 1]
    median = _unless_nan(ordered, np.mean(middle, axis=-1))
    return unboxed(np.reshape(median, reduced_shape(np.shape(a), axes, keepdims)))


def _unless_nan(ordered: Any, value: Any) -> Any:
    """An order statistic, or NaN for a lane that has one; the sort has put it last."""
    last = ordered[..., -1]
    return np.where(np.isnan(last), last, value)


@defines(np.quantile)
def _quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    if method != "linear" or weights is not None or is_traced(q):
        raise UnsupportedOperation(
            f"np.quantile at {user_location()} is supported with method='linear', without "
            "weights and for constant q only; for others use np.sort"
        )
    a = _floating(a, None)
    return at_levels(a, q, axis, keepdims, _at_level)


def at_levels(
    a: Any, q: Any, axis: Any, keepdims: bool, at_level: Callable[[Any, Any], Any]
) -> Any:
    """The quantiles of `a` at the levels `q`, given that of sorted lanes at one level."""
    axes = normalized(axis, np.ndim(a))
    ordered = np.sort(to_lanes(a, axes), axis=-1)
    shape = reduced_shape(np.shape(a), axes, keepdims)
    levels = np.asarray(q, a.dtype if isinstance(q, (int, float)) else None)
    if not np.all((levels >= 0) & (levels <= 1)):
        raise ValueError("Quantiles must be in the range [0, 1]")
    values = [np.reshape(at_level(ordered, level), shape) for level in levels.reshape(-1)]
    if levels.ndim == 0:
        return unboxed(values[0])
    stacked = np.stack(values) if values else np.zeros((0, *shape), a.dtype)
    return np.reshape(stacked, levels.shape + shape)


def _at_level(ordered: Any, level: Any) -> Any:
    """The quantile between the two entries of each sorted lane that enclose it."""
    place = level * (np.shape(ordered)[-1] - 1)
    below = math.floor(place)
    fraction = float(place - below)
    low = ordered[..., below]
    if fraction == 0:
        return _unless_nan(ordered, low)
    return _unless_nan(ordered, low + (ordered[..., below + 1] - low) * fraction)


@defines(np.percentile)
def _percentile(a: Any, q: Any, *arguments: Any, **options: Any) -> Any:
    level = q if is_traced(q) else q / 100 if isinstance(q, (int, float)) else np.asarray(q) / 100
    return _quantile(a, level, *arguments, **options)


# ---------------------------------------------------------------------- NaN left out


def _without_nan(a: Any, replacement: Any) -> tuple[Any, Any]:
    a = as_operand(a)
    missing = np.isnan(a)
    return np.where(missing, replacement, a), np.logical_not(missing)


def _treating_nan_as(neutral: float, function: Callable[..., Any]) -> Callable[..., Any]:
    def without_nan(a: Any, axis: Any = None, dtype: Any = None, **options: Any) -> Any:
        filled, _ = _without_nan(a, neutral)
        return function(filled, axis=axis, dtype=dtype, **options)

    return without_nan


for _nan_function, _neutral, _function in (
    (np.nansum, 0, np.sum),
    (np.nanprod, 1, np.prod),
    (np.nancumsum, 0, np.cumsum),
    (np.nancumprod, 1, np.cumprod),
):
    defines(_nan_function)(_treating_nan_as(_neutral, _function))


@defines(np.nanmean)
def _nanmean(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    filled, present = _without_nan(a, 0)
    return _mean(filled, axis, dtype, keepdims=keepdims, where=present)


@defines(np.nanvar)
def _nanvar(
    a: Any, axis: Any = None, dtype: Any = None, *, ddof: Any = 0, keepdims: bool = False
) -> Any:
    filled, present = _without_nan(a, 0)
    return _var(filled, axis, dtype, ddof=ddof, keepdims=keepdims, where=present)


@defines(np.nanstd)
def _nanstd(a: Any, axis: Any = None, dtype: Any = None, **options: Any) -> Any:
    return np.sqrt(_nanvar(a, axis, dtype, **options))


def _extremum_without_nan(function: Callable[..., Any], filling: float) -> Callable[..., Any]:
    def extremum(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        filled, present = _without_nan(a, filling)
        found = np.any(present, axis=axis, keepdims=keepdims)
        return unboxed(np.where(found, function(filled, axis=axis, keepdims=keepdims), np.nan))

    return extremum


defines(np.nanmax)(_extremum_without_nan(np.max, -np.inf))
defines(np.nanmin)(_extremum_without_nan(np.min, np.inf))


def _position_without_nan(function: Callable[..., Any], filling: float) -> Callable[..., Any]:
    def position(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        filled, present = _without_nan(a, filling)
        if not fixed(np.all(np.any(present, axis=axis))):
            raise ValueError("All-NaN slice encountered")
        return function(filled, axis=axis, keepdims=keepdims)

    return position


defines(np.nanargmax)(_position_without_nan(np.argmax, -np.inf))
defines(np.nanargmin)(_position_without_nan(np.argmin, np.inf))

# ---------------------------------------------------------------------- differences


def _cut(a: Any, axis: int, start: int | None, stop: int | None) -> Any:
    return a[(slice(None),) * axis + (slice(start, stop),)]


@defines(np.diff)
def _diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")
    a = as_operand(a)
    if n == 0:
        return a
    axis = one_axis(axis, np.ndim(a))
    edges = [part if part is None else _edge(part, a, axis) for part in (prepend, append)]
    parts = [part for part in (edges[0], a, edges[1]) if part is not None]
    joined = np.concatenate(parts, axis=axis) if len(parts) > 1 else a
    subtract = np.not_equal if joined.dtype.kind == "b" else np.subtract
    for _ in range(n):
        joined = subtract(_cut(joined, axis, 1, None), _cut(joined, axis, None, -1))
    return joined


def _edge(part: Any, a: Any, axis: int) -> Any:
    part = as_operand(part)
    return np.broadcast_to(part, kept_shape(np.shape(a), (axis,))) if np.ndim(part) == 0 else part


@defines(np.trapezoid)
def _trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = as_operand(y)
    axis = one_axis(axis, np.ndim(y))
    width = dx
    if x is not None:
        x = as_operand(x)
        width = np.diff(x) if np.ndim(x) == 1 else np.diff(x, axis=axis)
        if np.ndim(x) == 1:
            width = np.reshape(width, [-1 if i == axis else 1 for i in range(np.ndim(y))])
    heights = (_cut(y, axis, 1, None) + _cut(y, axis, None, -1)) / 2
    return np.sum(width * heights, axis=axis)


# ---------------------------------------------------------------------- running sums and products


def _cumulative(function: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    def cumulative(
        x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False
    ) -> Any:
        x = np.atleast_1d(as_operand(x))
        if axis is None:
            if np.ndim(x) > 1:
                raise ValueError(
                    "For arrays which have more than one dimension ``axis`` argument is required."
                )
            axis = 0
        running = function(x, axis=axis, dtype=dtype)
        if not include_initial:
            return running
        first = np.full(kept_shape(np.shape(x), (one_axis(axis, np.ndim(x)),)), neutral)
        return np.concatenate([first.astype(running.dtype), running], axis=axis)

    return cumulative


if hasattr(np, "cumulative_sum"):  # new in NumPy 2.1
    defines(np.cumulative_sum)(_cumulative(np.cumsum, 0))
    defines(np.cumulative_prod)(_cumulative(np.cumprod, 1))
