"""Norms. The Euclidean one has slope 0 at zero: the mean of the slopes along any line."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from diffkit.tracing.graph import Primitive, as_operand
from diffkit.tracing.primitives.counterparts import number
from diffkit.tracing.primitives.decompositions import svdvals
from diffkit.tracing.primitives.elementwise import ratio
from diffkit.tracing.primitives.lanes import Axes, kept_shape, reduce_objects
from diffkit.tracing.primitives.rows import defines, row
from diffkit.tracing.primitives.shapes import unboxed


def _euclidean(x: Any, *, axis: Axes, keepdims: bool) -> Any:
    if axis is not None:
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))
    flat = np.ravel(x)
    length = np.sqrt(np.matmul(flat, flat))
    return np.reshape(length, (1,) * np.ndim(x)) if keepdims else length


def _euclidean_adjoint(g: Any, y: Any, x: Any, *, axis: Axes, keepdims: bool) -> Any:
    kept = kept_shape(np.shape(x), axis)
    return np.reshape(g, kept) * ratio(x, np.reshape(y, kept))


euclidean: Primitive = row(
    "euclidean",
    _euclidean,
    (_euclidean_adjoint,),
    sympy=lambda S, x, *, axis, keepdims: reduce_objects(
        lambda lane: S.sqrt(S.Add(*(number(S, e) ** 2 for e in lane))), x, axis, keepdims
    ),
    exact=lambda A, x, *, axis, keepdims: reduce_objects(
        lambda lane: A.sqrt(reduce(A.add, map(A.square, lane), A.constant(0))), x, axis, keepdims
    ),
)


@defines(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = as_operand(x)
    if x.dtype.kind in "iub":
        x = x.astype(np.float64)
    ndim = np.ndim(x)
    if axis is None and (ord is None or (ord, ndim) in (("fro", 2), ("f", 2), (2, 1))):
        return euclidean(x, axis=None, keepdims=keepdims)
    axes = normalize_axis_tuple(range(ndim) if axis is None else axis, ndim)
    if len(axes) == 1:
        return _norm_of_vectors(x, ord, axes[0], keepdims)
    return _norm_of_matrices(x, ord, axes, keepdims)


def _norm_of_vectors(x: Any, order: Any, axis: int, keepdims: bool) -> Any:
    if order is None or order == 2:
        return euclidean(x, axis=(axis,), keepdims=keepdims)
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
        return euclidean(x, axis=tuple(sorted(axes)), keepdims=keepdims)
    if order in (2, -2, "nuc"):
        s = svdvals(np.moveaxis(x, axes, (-2, -1)))
        norms = np.sum(s, axis=-1) if order == "nuc" else s[..., 0 if order == 2 else -1]
        return np.expand_dims(norms, axes) if keepdims else unboxed(norms)
    if order not in (1, -1, np.inf, -np.inf):
        raise ValueError("Invalid norm order for matrices.")
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
