"""Functions of sampled values: convolution, differences, interpolation, polynomials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from diffkit.tracing.graph import as_operand
from diffkit.tracing.primitives.gathering import entries
from diffkit.tracing.primitives.linear_algebra import convolution
from diffkit.tracing.primitives.rows import defines

# ---------------------------------------------------------------------- convolution


@defines(np.convolve)
def _convolve(a: Any, v: Any, mode: str = "full") -> Any:
    a, v = np.atleast_1d(as_operand(a)), np.atleast_1d(as_operand(v))
    shorter, longer = sorted((np.shape(a)[0], np.shape(v)[0]))
    return _middle(convolution(a, v), mode, shorter, longer, (shorter - 1) // 2)


@defines(np.correlate)
def _correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = np.atleast_1d(as_operand(a)), np.atleast_1d(as_operand(v))
    shorter, longer = sorted((np.shape(a)[0], np.shape(v)[0]))
    swapped = np.shape(a)[0] < np.shape(v)[0]
    start = shorter // 2 if swapped else (shorter - 1) // 2
    return _middle(convolution(a, v[::-1]), mode, shorter, longer, start)


def _middle(full: Any, mode: str, shorter: int, longer: int, start: int) -> Any:
    """The part of a full convolution that `mode` asks for; "same" begins at `start`."""
    if mode.startswith("v"):
        return full[shorter - 1 : longer]
    return full[start : start + longer] if mode.startswith("s") else full


# ---------------------------------------------------------------------- differences


@defines(np.ediff1d)
def _ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    flat = np.ravel(as_operand(ary))
    parts = [to_begin, flat[1:] - flat[:-1], to_end]
    return np.concatenate(
        [np.ravel(as_operand(part)).astype(flat.dtype) for part in parts if part is not None]
    )


@defines(np.unwrap)
def _unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 6.283185307179586) -> Any:
    """As NumPy: jumps of `discont` and more are brought within half a period."""
    p = as_operand(p)
    p = p.astype(np.result_type(p.dtype, float if p.dtype.kind != "f" else p.dtype))
    steps = np.diff(p, axis=axis)
    half = period / 2
    least = half if discont is None else discont
    short = np.mod(steps + half, period) - half
    short = np.where(np.logical_and(short == -half, steps > 0), half, short)
    turns = np.where(np.abs(steps) < least, 0.0, short - steps)
    first = np.zeros_like(np.take(p, [0], axis=axis))
    return p + np.concatenate([first, np.cumsum(turns, axis=axis)], axis=axis).astype(p.dtype)


@defines(np.gradient)
def _gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    f = as_operand(f)
    f = f if f.dtype.kind == "f" else f.astype(np.float64)
    axes = normalize_axis_tuple(range(np.ndim(f)) if axis is None else axis, np.ndim(f))
    spacings = [as_operand(v) for v in varargs] or [1.0]
    if len(spacings) == 1:
        spacings *= len(axes)
    slopes = tuple(
        _slope(f, spacing, along, edge_order) for spacing, along in zip(spacings, axes, strict=True)
    )
    return slopes[0] if len(slopes) == 1 else slopes


def _slope(f: Any, spacing: Any, axis: int, edge_order: int) -> Any:
    """Differences of second order inside and of `edge_order` at both ends of an axis."""
    f = np.moveaxis(f, axis, -1)
    count = np.shape(f)[-1]
    if np.ndim(spacing):
        steps = spacing[1:] - spacing[:-1]
        inner = _inner_slopes(f, steps[:-1], steps[1:])
    else:
        steps = spacing * np.ones(count - 1, f.dtype)
        inner = (f[..., 2:] - f[..., :-2]) / (2 * spacing)
    first = _edge_slope(f, steps, edge_order)
    last = -_edge_slope(f[..., ::-1], steps[::-1], edge_order)
    slopes = np.concatenate([first, inner, last], axis=-1).astype(f.dtype)
    return np.moveaxis(slopes, -1, axis)


def _inner_slopes(f: Any, before: Any, after: Any) -> Any:
    """The slopes at all but the first and last of unevenly spaced samples."""
    return (
        -after / (before * (before + after)) * f[..., :-2]
        + (after - before) / (before * after) * f[..., 1:-1]
        + before / (after * (before + after)) * f[..., 2:]
    )


def _edge_slope(f: Any, steps: Any, edge_order: int) -> Any:
    """The slope at the first sample, from the first two or three samples."""
    f0, f1 = f[..., 0:1], f[..., 1:2]
    h1 = steps[0]
    if edge_order == 1:
        return (f1 - f0) / h1
    h2, f2 = steps[1], f[..., 2:3]
    return (
        -(2 * h1 + h2) / (h1 * (h1 + h2)) * f0
        + (h1 + h2) / (h1 * h2) * f1
        - h1 / (h2 * (h1 + h2)) * f2
    )


# ---------------------------------------------------------------------- grids


@defines(np.linspace)
def _linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    start, stop = as_operand(start), as_operand(stop)
    step = (stop - start) / (max(num - 1, 1) if endpoint else max(num, 1))
    places = np.arange(num).reshape((num,) + (1,) * np.ndim(step))
    values = start + places.astype(step.dtype) * step
    if endpoint and num > 1:
        values = np.concatenate([values[:-1], np.expand_dims(stop + 0 * start, 0)])
    values = np.moveaxis(values if dtype is None else values.astype(dtype), 0, axis)
    return (values, step) if retstep else values


@defines(np.logspace)
def _logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    powers = np.power(base, np.linspace(start, stop, num, endpoint, axis=axis))
    return powers if dtype is None else powers.astype(dtype)


@defines(np.geomspace)
def _geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    start, stop = as_operand(start), as_operand(stop)
    share = np.linspace(0.0, 1.0, num, endpoint)
    share = np.reshape(share, (num,) + (1,) * np.ndim(start + stop))
    values = np.moveaxis(start * (stop / start) ** share, 0, axis)
    return values if dtype is None else values.astype(dtype)


# ---------------------------------------------------------------------- interpolation


@defines(np.interp)
def _interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    x, xp, fp = (as_operand(v) for v in (x, xp, fp))
    x, xp, fp = (v.astype(np.float64) if hasattr(v, "astype") else v for v in (x, xp, fp))
    if period is not None:
        return _interp_periodic(x, xp, fp, abs(period))
    inside = _on_segments(x, xp, fp)
    if left is not None:
        inside = np.where(np.less(x, xp[0]), left, inside)
    return inside if right is None else np.where(np.greater(x, xp[-1]), right, inside)


def _on_segments(x: Any, xp: Any, fp: Any) -> Any:
    """The interpolant, constant beyond the knots; at a knot, the mean of its two segments."""
    slopes = (fp[1:] - fp[:-1]) / (xp[1:] - xp[:-1])
    slopes = np.concatenate([np.zeros(1), slopes, np.zeros(1)])

    def on(segment: Any) -> Any:
        knot = np.maximum(segment - 1, 0)
        return entries(slopes, segment) * (x - entries(xp, knot)) + entries(fp, knot)

    to_left, to_right = (np.searchsorted(xp, x, side=side) for side in ("left", "right"))
    if np.array_equal(to_left, to_right):
        return on(to_right)
    return (on(to_left) + on(to_right)) / 2


def _interp_periodic(x: Any, xp: Any, fp: Any, period: Any) -> Any:
    x, xp = np.remainder(x, period), np.remainder(xp, period)
    order = np.argsort(xp)
    xp, fp = xp[order], fp[order]
    xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
    return _interp(x, xp, np.concatenate([fp[-1:], fp, fp[:1]]))


# ---------------------------------------------------------------------- polynomials


@defines(np.polyval)
def _polyval(p: Any, x: Any) -> Any:
    p, x = as_operand(p), as_operand(x)
    value = np.zeros_like(x)
    for coefficient in p:
        value = value * x + coefficient
    return value


@defines(np.vander)
def _vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    x = as_operand(x)
    x = x.astype(np.promote_types(x.dtype, int))
    count = np.shape(x)[0] if N is None else N
    columns = [np.ones_like(x)]
    while len(columns) < count:
        columns.append(columns[-1] * x)
    matrix = np.stack(columns, axis=-1)[:, :count]
    return matrix if increasing else matrix[:, ::-1]


# ---------------------------------------------------------------------- along an axis


@defines(np.apply_along_axis)
def _apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any
) -> Any:
    arr = as_operand(arr)
    axis = normalize_axis_index(axis, np.ndim(arr))
    lanes = np.moveaxis(arr, axis, -1)
    around = np.shape(lanes)[:-1]
    results = [as_operand(func1d(lanes[i], *args, **kwargs)) for i in np.ndindex(around)]
    shape = np.shape(results[0])
    joined = np.reshape(np.stack(results), around + shape)
    inserted = range(len(around), len(around) + len(shape))
    return np.moveaxis(joined, list(inserted), list(range(axis, axis + len(shape))))


@defines(np.apply_over_axes)
def _apply_over_axes(func: Callable[..., Any], a: Any, axes: Any) -> Any:
    value = as_operand(a)
    ndim = np.ndim(value)
    for axis in np.atleast_1d(axes):
        reduced = func(value, int(axis))
        value = reduced if np.ndim(reduced) == ndim else np.expand_dims(reduced, int(axis))
    return value
