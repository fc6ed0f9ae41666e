"""Linear algebra by elimination, for object arrays of either arithmetic's numbers.

Matrices may be stacked along leading axes, as in numpy.linalg. A singular matrix gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from diffkit.arithmetic.base import Arithmetic

Number = Any
Array = npt.NDArray[Any]


def solve(A: Arithmetic, matrix: Array, right: Array) -> Array:
    """Return X with `matrix @ X = right`; `right` is a vector, or (stacked) matrices."""
    matrix, right = np.asarray(matrix, object), np.asarray(right, object)
    if right.ndim == 1:
        return solve(A, matrix, right[:, None])[..., 0]
    lead = np.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
    matrices = np.broadcast_to(matrix, lead + matrix.shape[-2:])
    rights = np.broadcast_to(right, lead + right.shape[-2:])
    result = np.empty(rights.shape, object)
    for index in np.ndindex(lead):
        result[index] = _solve(A, matrices[index], rights[index])
    return result


def inv(A: Arithmetic, matrix: Array) -> Array:
    """Return the inverse of square matrices."""
    identity = _filled(matrix.shape[-2:], lambda i, j: A.number(int(i == j)))
    return solve(A, matrix, np.broadcast_to(identity, matrix.shape))


def det(A: Arithmetic, matrix: Array) -> Array:
    """Return the determinants of square matrices, as an array of the leading shape."""
    return _stacked(matrix, lambda m: _determinant(A, m))


def slogdet(A: Arithmetic, matrix: Array) -> tuple[Array, Array]:
    """Return the sign and log |.| of the determinants of square matrices."""
    determinants = det(A, matrix)
    sign = _each(A.sign, determinants)
    return sign, _each(lambda d: A.log(A.absolute(d)), determinants)


def cholesky(A: Arithmetic, matrix: Array) -> Array:
    """Return the lower triangular L with L L^T = matrix; the upper triangle is not read."""
    result = np.empty(matrix.shape, object)
    for index in np.ndindex(matrix.shape[:-2]):
        result[index] = _cholesky(A, matrix[index])
    return result


def _solve(A: Arithmetic, matrix: Array, right: Array) -> Array:
    """Gauss-Jordan elimination on the rows of [matrix | right]."""
    n = len(matrix)
    rows = np.concatenate([matrix, right], axis=1)
    for k in range(n):
        pivot = _pivot(A, rows, k)
        if pivot is None:
            return _filled(right.shape, lambda *_: A.infinite(0))
        rows[[k, pivot]] = rows[[pivot, k]]
        for j in range(k + 1, rows.shape[1]):
            rows[k, j] = A.divide(rows[k, j], rows[k, k])
        for i in range(n):
            if i != k:
                rows[i, k + 1 :] = rows[i, k + 1 :] - rows[k, k + 1 :] * _cell(rows[i, k])
    return rows[:, n:]


def _determinant(A: Arithmetic, matrix: Array) -> Number:
    """The product of the pivots; without a certain pivot, Bird's method, which never divides."""
    rows, product = matrix.copy(), A.number(1)
    for k in range(len(rows)):
        pivot = _pivot(A, rows, k)
        if pivot is None:
            return _determinant_without_division(A, matrix)
        if pivot != k:
            rows[[k, pivot]] = rows[[pivot, k]]
            product = -product
        product = product * rows[k, k]
        for i in range(k + 1, len(rows)):
            factor = A.divide(rows[i, k], rows[k, k])
            rows[i, k + 1 :] = rows[i, k + 1 :] - rows[k, k + 1 :] * _cell(factor)
    return product


def _determinant_without_division(A: Arithmetic, matrix: Array) -> Number:
    """Bird, "A simple division-free algorithm for computing determinants" (2011)."""
    n = len(matrix)
    power = matrix
    for _ in range(n - 1):
        power = _bird_step(A, power) @ matrix
    return power[0, 0] if n % 2 else -power[0, 0]


def _bird_step(A: Arithmetic, x: Array) -> Array:
    """The strict upper triangle of `x`, with minus the trace of the rest on the diagonal."""
    n = len(x)
    step = _filled((n, n), lambda i, j: x[i, j] if i < j else A.number(0))
    trace = A.number(0)
    for i in range(n - 1, -1, -1):
        step[i, i] = -trace
        trace = trace + x[i, i]
    return step


def _cholesky(A: Arithmetic, matrix: Array) -> Array:
    n = len(matrix)
    lower = _filled((n, n), lambda *_: A.number(0))
    for j in range(n):
        for i in range(j, n):
            rest = matrix[i, j]
            for k in range(j):
                rest = rest - lower[i, k] * lower[j, k]
            lower[i, j] = A.sqrt(rest) if i == j else A.divide(rest, lower[j, j])
    return lower


def _pivot(A: Arithmetic, rows: Array, k: int) -> int | None:
    """The row at or below k with the largest entry in column k; None where all may be zero."""
    sizes = [A.size(rows[i, k]) for i in range(k, len(rows))]
    best = max(range(len(sizes)), key=lambda i: sizes[i])
    return k + best if sizes[best] > 0 else None


def _filled(shape: tuple[int, ...], entry: Callable[..., Number]) -> Array:
    result = np.empty(shape, object)
    for index in np.ndindex(shape):
        result[index] = entry(*index)
    return result


def _cell(x: Number) -> Array:
    """One number as an array, so that NumPy does not look into it."""
    cell = np.empty((), object)
    cell[()] = x
    return cell


def _each(function: Callable[[Number], Number], array: Array) -> Array:
    return _filled(array.shape, lambda *index: function(array[index]))


def _stacked(matrix: Array, function: Callable[[Array], Number]) -> Array:
    return _filled(matrix.shape[:-2], lambda *index: function(matrix[index]))
