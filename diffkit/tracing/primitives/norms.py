"""Norms. Where a norm has no derivative (at zero) its rules give NaN, which is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from diffkit.tracing.graph import as_operand
from diffkit.tracing.primitives.linear_algebra import matmul
from diffkit.tracing.primitives.rows import defines
from diffkit.tracing.primitives.shapes import unboxed, unsupported


@defines(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = as_operand(x)
    if x.dtype.kind in "iub":
        x = x.astype(np.float64)
    ndim = np.ndim(x)
    if axis is None and (ord is None or (ord, ndim) in (("fro", 2), ("f", 2), (2, 1))):
        flat = np.ravel(x)
        length = np.sqrt(matmul(flat, flat))
        return np.reshape(length, (1,) * ndim) if keepdims else length
    axes = normalize_axis_tuple(range(ndim) if axis is None else axis, ndim)
    if len(axes) == 1:
        return _norm_of_vectors(x, ord, axes[0], keepdims)
    return _norm_of_matrices(x, ord, axes, keepdims)


def _norm_of_vectors(x: Any, order: Any, axis: int, keepdims: bool) -> Any:
    if order is None or order == 2:
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))
    if order == np.inf:
        return np.max(np.abs(x), axis=axis, keepdims=keepdims)
    if order == -np.inf:
        return np.min(np.abs(x), axis=axis, keepdims=keepdims)
    if order == 0:
        return np.sum(np.not_equal(x, 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if order == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    powers = np.sum(np.abs(x) ** order, axis=axis, keepdims=keepdims)
    return powers ** (1 / order)


def _norm_of_matrices(x: Any, order: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if order in (None, "fro", "f"):
        return np.sqrt(np.sum(x * x, axis=axes, keepdims=keepdims))
    if order not in (1, -1, np.inf, -np.inf):
        raise unsupported(
            f"np.linalg.norm of a matrix with ord={order!r}",
            "it needs singular values: use ord='fro', 1 or inf, or backend='finite'",
        )
    summed, chosen = axes if abs(order) == 1 else axes[::-1]
    sums = np.sum(np.abs(x), axis=summed, keepdims=True)
    extreme = np.max if order > 0 else np.min
    norms = extreme(sums, axis=chosen, keepdims=True)
    return norms if keepdims else unboxed(np.squeeze(norms, axes))


@defines(np.linalg.vector_norm)
def _vector_norm(
    x: Any,
    /,
    *,
    axis: Any = None,
    keepdims: bool = False,
    ord: Any = 2,
) -> Any:
    x = as_operand(x)
    ndim = np.ndim(x)
    axes = normalize_axis_tuple(range(ndim) if axis is None else axis, ndim)
    rest = tuple(i for i in range(ndim) if i not in axes)
    kept = tuple(np.shape(x)[i] for i in rest)
    length = int(np.prod([np.shape(x)[i] for i in axes], dtype=int))
    joined = np.reshape(np.transpose(x, (*axes, *rest)), (length, *kept))
    norms = _norm(joined, ord, 0)
    return np.expand_dims(norms, axes) if keepdims else norms


@defines(np.linalg.matrix_norm)
def _matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return _norm(x, ord, (-2, -1), keepdims)
