"""Eigenvalues, singular values and QR for object arrays of either arithmetic's numbers.

The constant terms come from the arithmetic itself, with an enclosure where it has balls. The
further terms of a series follow one by one from linear equations, those of the Taylor expansion
of A v = λ v and |v|² = 1: values alone, no derivative rule. Signs follow LAPACK's choice for the
rounded matrix. Matrices may be stacked along leading axes.
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


def eigh(A: Arithmetic, matrix: Array, uplo: str) -> Array:
    """Return the eigenvalues, ascending, as a row above the eigenvectors of symmetric matrices.

    One triangle is read. The eigenvalues must differ.
    """

    def one(a: Array) -> Array:
        n = len(a)
        read = a if uplo == "L" else a.T
        return _eigh(A, _filled((n, n), lambda i, j: read[max(i, j), min(i, j)]))

    return _stacked(matrix, one)


def svd(A: Arithmetic, matrix: Array, full: bool) -> Array:
    """Return left vectors, singular values and right vectors (as rows), joined to one row.

    The singular values must differ, and none may vanish. Vectors that complete a basis are NaN.
    """
    return _stacked(matrix, lambda a: _svd(A, a, full))


def qr(A: Arithmetic, matrix: Array, complete: bool) -> Array:
    """Return Q and R of matrices of full column rank, joined to one row; further columns NaN."""
    return _stacked(matrix, lambda a: _qr(A, a, complete))


def _eigh(A: Arithmetic, a: Array) -> Array:
    n = len(a)
    orders = A.expanded(a)
    values, vectors = A.symmetric_eigen(orders[0])
    vectors = vectors * _signs(vectors, np.linalg.eigh(_floats(orders[0]))[1])
    columns = [_expanded_pair(A, orders, values[i], vectors[:, i]) for i in range(n)]
    out = np.empty((n + 1, n), object)
    for i, column in enumerate(columns):
        for j in range(n + 1):
            out[j, i] = A.joined([term[j] for term in column])
    return out


def _expanded_pair(
    A: Arithmetic, orders: list[Array], value: Number, vector: Array
) -> list[list[Number]]:
    """The Taylor terms of an eigenvalue (first) and its vector, each from those before.

    With (A0 - λ0) v_k - λ_k v0 = Σ_{0<i<k} λ_i v_{k-i} - Σ_{i>0} A_i v_{k-i} and
    2 v0·v_k = -Σ_{0<i<k} v_i·v_{k-i}.
    """
    n = len(vector)
    terms = [(value, vector)]
    border = _filled((n + 1, n + 1), lambda *_: A.number(0))
    border[:n, :n] = orders[0]
    for i in range(n):
        border[i, i] = border[i, i] - value
        border[i, n], border[n, i] = -vector[i], 2 * vector[i]
    for k in range(1, len(orders)):
        right = _filled((n + 1,), lambda *_: A.number(0))
        for i in range(1, k + 1):
            right[:n] = right[:n] - orders[i] @ terms[k - i][1]
        for i in range(1, k):
            right[:n] = right[:n] + _scaled(terms[k - i][1], terms[i][0])
            right[n] = right[n] - terms[i][1] @ terms[k - i][1]
        solution = A.solve(border, right)
        terms.append((solution[n], solution[:n]))
    return [[value, *vector] for value, vector in terms]


def _svd(A: Arithmetic, a: Array, full: bool) -> Array:
    m, n = a.shape
    tall = a if m >= n else a.T
    packed = _eigh(A, tall.T @ tall)
    s = np.array([A.sqrt(x) for x in packed[0]][::-1], object)
    v = packed[1:, ::-1]
    u = tall @ v
    for i, size in enumerate(s):
        u[:, i] = [A.divide(x, size) for x in u[:, i]]
    if m < n:
        u, v = v, u
    signs = _signs(v, np.linalg.svd(_floats(A.expanded(a)[0]), full_matrices=False)[2].T)
    left = _widened(A, u * signs, m if full else len(s))
    right = _widened(A, v * signs, n if full else len(s))
    return np.concatenate([left.ravel(), s, right.T.ravel()])


def _qr(A: Arithmetic, a: Array, complete: bool) -> Array:
    """By orthogonalising the columns one after the other."""
    m, n = a.shape
    q, r = a.copy(), _filled((n, n), lambda *_: A.number(0))
    for j in range(n):
        for i in range(j):
            r[i, j] = q[:, i] @ a[:, j]
            q[:, j] = q[:, j] - _scaled(q[:, i], r[i, j])
        r[j, j] = A.sqrt(q[:, j] @ q[:, j])
        q[:, j] = [A.divide(x, r[j, j]) for x in q[:, j]]
    signs = np.where(np.diagonal(np.linalg.qr(_floats(A.expanded(a)[0]))[1]) < 0, -1, 1)
    q, r = q * signs.astype(object), r * signs.astype(object)[:, None]
    return np.concatenate([_widened(A, q, m if complete else n).ravel(), r.ravel()])


def _widened(A: Arithmetic, columns: Array, width: int) -> Array:
    """The matrix with columns of NaN beyond its own."""
    return _filled(
        (len(columns), width), lambda i, j: columns[i, j] if j < columns.shape[1] else A.infinite(0)
    )


def _signs(vectors: Array, reference: Array) -> Array:
    """1 or -1 for each column, as it points where the reference does or the other way."""
    return np.where(np.sum(_floats(vectors) * reference, axis=0) < 0, -1, 1).astype(object)


def _floats(array: Array) -> Array:
    return np.array([_float(x) for x in array.flat]).reshape(array.shape)


def _float(x: Number) -> float:
    x = x.series[0] if hasattr(x, "series") else x
    return float(x.mid()) if hasattr(x, "mid") else float(x)


def _scaled(vector: Array, factor: Number) -> Array:
    return _filled(vector.shape, lambda i: vector[i] * factor)


def _filled(shape: tuple[int, ...], entry: Callable[..., Number]) -> Array:
    result = np.empty(shape, object)
    for index in np.ndindex(shape):
        result[index] = entry(*index)
    return result


def _stacked(matrix: Array, function: Callable[[Array], Array]) -> Array:
    """Apply a function of matrices along stacks of them."""
    lead = matrix.shape[:-2]
    results = [function(matrix[index]) for index in np.ndindex(lead)]
    out = np.empty((len(results), *results[0].shape), object)
    for i, result in enumerate(results):
        out[i] = result
    return out.reshape(lead + results[0].shape)
