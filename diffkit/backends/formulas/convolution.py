"""Backpropagation through convolution and pooling; the formulas take what those of `dense` do."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from diffkit.backends.formulas.dense import Backward, share_of_maxima
from diffkit.nn.convolution import (
    AveragePool,
    Convolution,
    GlobalAveragePool,
    MaxPool,
    kernel_axes,
)


def convolution(layer: Convolution, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """With z[n, o, p] = b_o + Σ_c,i W[o, c, i] x[n, c, s·p + i] (x padded) and δ = ∂L/∂z:

        ∂L/∂W[o, c, i] = Σ_n,p δ[n, o, p] x[n, c, s·p + i]        ∂L/∂b_o = Σ_n,p δ[n, o, p]
        ∂L/∂x[n, c, q] = Σ_o,i,p with s·p + i = q of δ[n, o, p] W[o, c, i]

    Source: LeCun et al., Neural Computation 1 (1989); Dumoulin and Visin (2016), chapter 4.
    """
    batch, rank = np.shape(x)[0], len(layer.kernel)
    delta = adjoint * layer.activation.derivative(layer.preactivation(parameters, x))
    columns, places = layer.columns(x)
    rows = np.reshape(delta, (batch, layer.outputs, -1))
    by_weight = np.sum(rows @ np.swapaxes(columns, 1, 2), axis=0)
    gradient = {"W": np.reshape(by_weight, np.shape(parameters["W"]))}
    if layer.bias:
        gradient["b"] = np.sum(rows, axis=(0, 2))
    seen = np.reshape(parameters["W"], (layer.outputs, -1)).T @ rows
    seen = np.reshape(seen, (batch, layer.inputs, *layer.kernel, *places))
    whole = tuple(n + 2 * layer.padding for n in np.shape(x)[2:])
    inner = tuple(slice(layer.padding, layer.padding + n) for n in np.shape(x)[2:])
    last = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    by_input = folded(np.transpose(seen, last), whole, layer.stride)
    return gradient, by_input[(slice(None), slice(None), *inner)]


def max_pool(layer: MaxPool, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """The adjoint of a window goes to its maximum, in equal parts to several."""
    seen = layer.windows(x)
    shares = share_of_maxima(seen, kernel_axes(seen))
    return {}, folded(shares * _spread(adjoint, seen), np.shape(x)[2:], layer.step)


def average_pool(layer: AveragePool, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """The adjoint of a window goes to all its entries in equal parts."""
    seen = layer.windows(x)
    count = prod(np.shape(seen)[axis] for axis in kernel_axes(seen))
    parts = _spread(adjoint, seen) / count * np.ones_like(seen)
    return {}, folded(parts, np.shape(x)[2:], layer.step)


def global_average_pool(
    layer: GlobalAveragePool, parameters: dict[str, Any], x: Any, adjoint: Any
) -> Backward:
    """The adjoint of a channel goes to all its entries in equal parts."""
    rank = np.ndim(x) - 2
    parts = np.reshape(adjoint / prod(np.shape(x)[2:]), (*np.shape(adjoint), *(1,) * rank))
    return {}, parts * np.ones_like(x)


def folded(seen: Any, axes: tuple[int, ...], stride: int) -> Any:
    """Return the array whose entries are the sums of what falls on them from all windows.

    The transpose of cutting windows out: `seen` has shape (batch, channels, *places, *kernel).
    """
    rank = len(axes)
    places, kernel = np.shape(seen)[2 : 2 + rank], np.shape(seen)[2 + rank :]
    total: Any = 0
    for offset in np.ndindex(*kernel):
        part = seen[(..., *offset)]
        for axis, (i, n, length) in enumerate(zip(offset, places, axes, strict=True), start=2):
            part = _placed(part, axis, i, n, length, stride)
        total = total + part
    return total


def _placed(part: Any, axis: int, start: int, count: int, length: int, stride: int) -> Any:
    """`count` entries along an axis put at start, start + stride, ... of one of `length`."""
    if stride > 1:
        apart = [(0, 0)] * (np.ndim(part) + 1)
        apart[axis + 1] = (0, stride - 1)
        shape = list(np.shape(part))
        shape[axis] = count * stride
        part = np.reshape(np.pad(np.expand_dims(part, axis + 1), apart), shape)
        used = [slice(None)] * np.ndim(part)
        used[axis] = slice(0, (count - 1) * stride + 1)
        part = part[tuple(used)]
    around = [(0, 0)] * np.ndim(part)
    around[axis] = (start, length - start - np.shape(part)[axis])
    return np.pad(part, around)


def _spread(adjoint: Any, seen: Any) -> Any:
    """The adjoint of each window, in a shape that broadcasts against its entries."""
    return np.reshape(adjoint, np.shape(adjoint) + (1,) * len(kernel_axes(seen)))
