"""Eigenvalues of symmetric matrices, singular values, and what is made of them.

Each decomposition is computed once, as one array that carries no derivative (`factors`); its
parts are rows of the matrix and of that array. Sources of the formulas: M. Giles, "Collected
matrix derivative results for forward and reverse mode algorithmic differentiation" (2008);
J. Townsend, "Differentiating the singular value decomposition" (2016).

Vectors are defined up to their sign, which follows LAPACK's choice: a derivative is right for
what does not depend on it, and for what does as long as the choice stays. Where eigenvalues or
singular values coincide, see `degenerate`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from diffkit.errors import UnsupportedOperation
from diffkit.tracing.graph import Missing, Primitive, as_operand
from diffkit.tracing.locations import user_location
from diffkit.tracing.primitives.degenerate import (
    coincident,
    divided_by_gaps,
    nothing_from,
    resolution,
    spread,
    steady,
    tied_pairs,
)
from diffkit.tracing.primitives.linear_algebra import inv, matmul
from diffkit.tracing.primitives.rows import defines, row

NO_FORMULA: Final = Missing("the roots of a polynomial of high degree have no formula")
IN_PARTS: Final = Missing("its parts carry the derivatives")


def turned(a: Any) -> Any:
    """The transpose of each matrix of a stack."""
    return np.swapaxes(a, -1, -2)


def product(*matrices: Any) -> Any:
    """The product of stacks of matrices, from the left."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = matmul(result, matrix)
    return result


# ---------------------------------------------------------------------- symmetric eigenvalues


def _eigh_packed(a: Any, *, uplo: Any) -> Any:
    """The eigenvalues as a first row above the matrix of eigenvectors."""
    w, v = np.linalg.eigh(a, uplo)
    return np.concatenate([np.expand_dims(w, -2), v], axis=-2)


eigh_factors: Primitive = row(
    "linalg.eigh",
    _eigh_packed,
    IN_PARTS,
    sympy=NO_FORMULA,
    exact="eigh",
)


def _in_triangle(matrix: Any, uplo: str) -> Any:
    """The adjoint of a symmetric matrix of which one triangle is read."""
    n = np.shape(matrix)[-1]
    kept = (np.tri(n) - np.eye(n) / 2).astype(matrix.dtype)
    return (matrix + turned(matrix)) * (kept if uplo == "L" else kept.T)


def _eigenvalues_adjoint(g: Any, y: Any, a: Any, factors: Any, *, uplo: str) -> Any:
    v = _vectors(a, factors, uplo)
    return _in_triangle(product(v, spread(g, y, null=False), turned(v)), uplo)


def _eigenvectors_adjoint(g: Any, y: Any, a: Any, factors: Any, *, uplo: str) -> Any:
    w = eigenvalues(a, factors, uplo=uplo)
    gaps = np.expand_dims(w, -2) - np.expand_dims(w, -1)
    mixing = divided_by_gaps(matmul(turned(y), g), gaps, tied_pairs(w))
    return _in_triangle(product(y, mixing, turned(y)), uplo)


eigenvalues: Primitive = row(
    "eigenvalues",
    lambda a, factors, *, uplo: np.copy(factors[..., 0, :]),
    (_eigenvalues_adjoint, None),
    sympy=NO_FORMULA,
    exact=lambda A, a, factors, *, uplo: factors[..., 0, :],
)
eigenvectors: Primitive = row(
    "eigenvectors",
    lambda a, factors, *, uplo: np.copy(factors[..., 1:, :]),
    (_eigenvectors_adjoint, None),
    sympy=NO_FORMULA,
    exact=lambda A, a, factors, *, uplo: factors[..., 1:, :],
)
eigvalsh: Primitive = row(
    "linalg.eigvalsh",
    lambda a, *, uplo: np.linalg.eigvalsh(a, uplo),
    (
        lambda g, y, a, *, uplo: _eigenvalues_adjoint(
            g, y, a, eigh_factors(a, uplo=uplo), uplo=uplo
        ),
    ),
    sympy=NO_FORMULA,
    exact=lambda A, a, *, uplo: A.eigh(a, uplo=uplo)[..., 0, :],
)


def _vectors(a: Any, factors: Any, uplo: str) -> Any:
    """The eigenvectors, those of eigenvalues that coincide marked."""
    w = eigenvalues(a, factors, uplo=uplo)
    v = eigenvectors(a, factors, uplo=uplo)
    return steady(v, np.expand_dims(coincident(w, null=False), -2))


_EighResult: Final[Any] = type(np.linalg.eigh(np.eye(1)))


@defines(np.linalg.eigh)
def _eigh(a: Any, UPLO: str = "L") -> Any:
    a, uplo = _floating(a), UPLO.upper()
    factors = eigh_factors(a, uplo=uplo)
    return _EighResult(eigenvalues(a, factors, uplo=uplo), _vectors(a, factors, uplo))


@defines(np.linalg.eigvalsh)
def _eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return eigvalsh(_floating(a), uplo=UPLO.upper())


def _floating(a: Any) -> Any:
    a = as_operand(a)
    return a if a.dtype.kind == "f" else a.astype(np.float64)


def _general(name: str) -> Any:
    def refused(a: Any) -> Any:
        raise UnsupportedOperation(
            f"np.linalg.{name} gives complex numbers in general, which are not followed; for a "
            f"symmetric matrix use np.linalg.eigvalsh or eigh, else backend='finite' "
            f"[{user_location()}]"
        )

    return refused


defines(np.linalg.eig)(_general("eig"))
defines(np.linalg.eigvals)(_general("eigvals"))

# ---------------------------------------------------------------------- singular values


def _sizes(a: Any, full: bool) -> tuple[int, int, int, int]:
    """Rows of `a`, left vectors, singular values and right vectors."""
    m, n = np.shape(a)[-2:]
    k = min(m, n)
    return m, m if full else k, k, n if full else k


def _svd_packed(a: Any, *, full: bool) -> Any:
    u, s, vh = np.linalg.svd(a, full_matrices=full)
    lead = np.shape(s)[:-1]
    return np.concatenate([u.reshape(*lead, -1), s, vh.reshape(*lead, -1)], axis=-1)


def _left(a: Any, factors: Any, *, full: bool) -> Any:
    m, p, _, _ = _sizes(a, full)
    return np.reshape(np.copy(factors[..., : m * p]), (*np.shape(a)[:-2], m, p))


def _values(a: Any, factors: Any, *, full: bool) -> Any:
    m, p, k, _ = _sizes(a, full)
    return np.copy(factors[..., m * p : m * p + k])


def _right(a: Any, factors: Any, *, full: bool) -> Any:
    m, p, k, q = _sizes(a, full)
    return np.reshape(np.copy(factors[..., m * p + k :]), (*np.shape(a)[:-2], q, np.shape(a)[-1]))


svd_factors: Primitive = row("linalg.svd", _svd_packed, IN_PARTS, sympy=NO_FORMULA, exact="svd")


def _thin(a: Any, factors: Any, full: bool) -> tuple[Any, Any, Any, Any]:
    """Left vectors, singular values and right vectors (as columns), and 1 over the values."""
    k = min(np.shape(a)[-2:])
    u = left_vectors(a, factors, full=full)[..., :k]
    s = singular_values(a, factors, full=full)
    v = turned(right_vectors(a, factors, full=full)[..., :k, :])
    return u, s, v, 1 / np.where(s <= resolution(s), 1.0, s)


def _mixing(vectors: Any, g: Any, s: Any) -> Any:
    """How the adjoint of vectors turns them into each other: symmetric."""
    rows, columns = np.expand_dims(s, -1), np.expand_dims(s, -2)
    gaps = (columns - rows) * (columns + rows)
    turn = divided_by_gaps(matmul(turned(vectors), g), gaps, tied_pairs(s))
    return turn + turned(turn)


def _outside(vectors: Any, g: Any) -> Any:
    """The part of the columns of `g` that is orthogonal to the vectors."""
    return g - product(vectors, turned(vectors), g)


def _left_adjoint(g: Any, y: Any, a: Any, factors: Any, *, full: bool) -> Any:
    m, n = np.shape(a)[-2:]
    u, s, v, inverse = _thin(a, factors, full)
    if full and m > n:
        g = g[..., :n] + nothing_from(g[..., n:])
    adjoint = product(u, _mixing(u, g, s) * np.expand_dims(s, -2), turned(v))
    if m <= n:
        return adjoint
    return adjoint + matmul(_outside(u, g) * np.expand_dims(inverse, -2), turned(v))


def _right_adjoint(g: Any, y: Any, a: Any, factors: Any, *, full: bool) -> Any:
    m, n = np.shape(a)[-2:]
    u, s, v, inverse = _thin(a, factors, full)
    if full and n > m:
        g = g[..., :m, :] + nothing_from(g[..., m:, :])
    g = turned(g)
    adjoint = product(u * np.expand_dims(s, -2), _mixing(v, g, s), turned(v))
    if n <= m:
        return adjoint
    return adjoint + matmul(u, turned(_outside(v, g) * np.expand_dims(inverse, -2)))


def _values_adjoint(g: Any, y: Any, a: Any, factors: Any, *, full: bool) -> Any:
    k = min(np.shape(a)[-2:])
    u, vh = _marked(a, factors, full)
    return product(u[..., :k], spread(g, y, null=True), vh[..., :k, :])


left_vectors: Primitive = row(
    "left_vectors",
    _left,
    (_left_adjoint, None),
    sympy=NO_FORMULA,
    exact=lambda A, a, factors, *, full: _left(a, factors, full=full),
)
right_vectors: Primitive = row(
    "right_vectors",
    _right,
    (_right_adjoint, None),
    sympy=NO_FORMULA,
    exact=lambda A, a, factors, *, full: _right(a, factors, full=full),
)
singular_values: Primitive = row(
    "singular_values",
    _values,
    (_values_adjoint, None),
    sympy=NO_FORMULA,
    exact=lambda A, a, factors, *, full: _values(a, factors, full=full),
)
svdvals: Primitive = row(
    "linalg.svdvals",
    lambda a: np.linalg.svd(a, compute_uv=False),
    (lambda g, y, a: _values_adjoint(g, y, a, svd_factors(a, full=False), full=False),),
    sympy=NO_FORMULA,
    exact=lambda A, a: _values(a, A.svd(a, full=False), full=False),
)


def _marked(a: Any, factors: Any, full: bool) -> tuple[Any, Any]:
    """Left and right vectors; those that are an arbitrary choice are marked."""
    s = singular_values(a, factors, full=full)
    undefined = coincident(s, null=True)

    def flags(count: int) -> Any:
        more = np.ones((*np.shape(s)[:-1], count - np.shape(s)[-1]), bool)
        return np.concatenate([undefined, more], axis=-1) if more.size else undefined

    u = left_vectors(a, factors, full=full)
    vh = right_vectors(a, factors, full=full)
    u = steady(u, np.expand_dims(flags(np.shape(u)[-1]), -2))
    return u, steady(vh, np.expand_dims(flags(np.shape(vh)[-2]), -1))


_SVDResult: Final[Any] = type(np.linalg.svd(np.eye(1)))


@defines(np.linalg.svd)
def _svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    a = _floating(a)
    if hermitian:
        return _svd_of_symmetric(a, compute_uv)
    if not compute_uv:
        return svdvals(a)
    factors = svd_factors(a, full=full_matrices)
    u, vh = _marked(a, factors, full_matrices)
    return _SVDResult(u, singular_values(a, factors, full=full_matrices), vh)


def _svd_of_symmetric(a: Any, compute_uv: bool) -> Any:
    """As NumPy: the sizes of the eigenvalues in descending order, the signs on the right."""
    w, v = _eigh(a)
    order = np.argsort(np.abs(w), axis=-1)[..., ::-1]
    w = np.take_along_axis(w, order, axis=-1)
    if not compute_uv:
        return np.abs(w)
    u = np.take_along_axis(v, np.expand_dims(order, -2), axis=-1)
    return _SVDResult(u, np.abs(w), turned(u * np.expand_dims(np.sign(w), -2)))


@defines(np.linalg.svdvals)
def _svdvals(x: Any, /) -> Any:
    return svdvals(_floating(x))


@defines(np.linalg.cond)
def _cond(x: Any, p: Any = None) -> Any:
    x = _floating(x)
    if p is not None and p not in (2, -2):
        norm = np.linalg.norm
        return norm(x, p, axis=(-2, -1)) * norm(inv(x), p, axis=(-2, -1))
    s = svdvals(x)
    return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]


@defines(np.linalg.matrix_rank)
def _matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    A = _floating(A)
    if np.ndim(A) < 2:
        return np.any(np.not_equal(A, 0)).astype(int)
    s = _svd(A, compute_uv=False, hermitian=hermitian)
    if tol is None:
        rtol = max(np.shape(A)[-2:]) * float(np.finfo(s.dtype).eps) if rtol is None else rtol
        tol = np.max(s, axis=-1, keepdims=True) * np.expand_dims(rtol, -1)
    else:
        tol = np.expand_dims(as_operand(tol), -1)
    return np.count_nonzero(s > tol, axis=-1)
