"""Rows of linear algebra: products, systems of equations, determinants, factorisations.

Sources of the formulas: M. Giles, "Collected matrix derivative results for forward and reverse
mode algorithmic differentiation" (2008); I. Murray, "Differentiation of the Cholesky
decomposition" (2016). What is written in terms of these rows is in `products`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Missing, Primitive, as_operand
from diffkit.tracing.primitives.rows import defines, row
from diffkit.tracing.primitives.shapes import object_array

# ---------------------------------------------------------------------- matmul


def _matmul_adjoint_left(g: Any, y: Any, a: Any, b: Any) -> Any:
    if type(g) is type(b) is np.ndarray and b.ndim <= 2:  # at a third of what functions cost
        if b.ndim == 1:
            return g[..., None] * b
        return b @ g if np.ndim(a) == 1 else g @ b.T
    if np.ndim(b) == 1:
        return np.expand_dims(g, -1) * b
    if np.ndim(a) == 1:
        return np.matmul(b, g) if np.ndim(b) == 2 else np.matmul(b, np.expand_dims(g, -1))[..., 0]
    return np.matmul(g, np.swapaxes(b, -1, -2))


def _matmul_adjoint_right(g: Any, y: Any, a: Any, b: Any) -> Any:
    if type(g) is type(a) is np.ndarray and a.ndim <= 2 and 1 <= g.ndim <= 2:
        return a[:, None] * g[..., None, :] if a.ndim == 1 else a.T @ g
    if np.ndim(a) == 1:
        return g * a if np.ndim(b) == 1 else np.expand_dims(a, -1) * np.expand_dims(g, -2)
    if np.ndim(b) == 1:
        turned = np.swapaxes(a, -1, -2)
        if np.ndim(a) == 2:
            return np.matmul(turned, g)
        return np.matmul(turned, np.expand_dims(g, -1))[..., 0]
    return np.matmul(np.swapaxes(a, -1, -2), g)


def _object_matmul(zero: Any, a: Any, b: Any) -> Any:
    """`a @ b` of object arrays; NumPy has no zero of their kind for an empty contraction."""
    if np.shape(a)[-1]:
        return np.matmul(a, b)
    out = np.empty(np.matmul(np.zeros(np.shape(a)), np.zeros(np.shape(b))).shape, object)
    out.fill(zero)
    return out


matmul: Primitive = row(
    "matmul",
    np.matmul,
    (_matmul_adjoint_left, _matmul_adjoint_right),
    sympy=lambda S, a, b: _object_matmul(S.Integer(0), a, b),
    exact=lambda A, a, b: _object_matmul(A.constant(0), a, b),
)


@defines(np.matmul, np.linalg.matmul)
def _matmul(x1: Any, x2: Any, /) -> Any:
    return matmul(x1, x2)


# ---------------------------------------------------------------------- contractions


def _contract(*operands: Any, subscripts: str) -> Any:
    # Beyond two operands the naive loop costs the product of all lengths.
    return np.einsum(subscripts, *operands, optimize=len(operands) > 2)


def _contraction_adjoint(i: int, g: Any, y: Any, *operands: Any, subscripts: str) -> Any:
    sources, target = subscripts.split("->")
    letters = sources.split(",")
    others = [k for k in range(len(operands)) if k != i]
    swapped = ",".join([target, *(letters[k] for k in others)]) + "->" + letters[i]
    return contraction(g, *(operands[k] for k in others), subscripts=swapped)


def _object_contraction(zero: Any, operands: Any, subscripts: str) -> Any:
    if all(np.size(a) for a in operands):
        return np.einsum(subscripts, *operands)
    out = np.empty(np.einsum(subscripts, *(np.zeros(np.shape(a)) for a in operands)).shape, object)
    out.fill(zero)
    return out


# The letters of an operand are distinct, each has one length throughout, and each occurs in the
# result or in another operand: then the adjoint is the contraction with the letters swapped.
contraction: Primitive = row(
    "contraction",
    _contract,
    _contraction_adjoint,
    sympy=lambda S, *a, subscripts: _object_contraction(S.Integer(0), a, subscripts),
    exact=lambda A, *a, subscripts: _object_contraction(A.constant(0), a, subscripts),
)

convolution: Primitive = row(
    "convolution",
    np.convolve,
    (
        lambda g, y, a, v: np.correlate(g, v, "valid"),
        lambda g, y, a, v: np.correlate(g, a, "valid"),
    ),
    sympy=lambda S, a, v: np.convolve(a, v),
    exact=lambda A, a, v: np.convolve(a, v),
)

# ---------------------------------------------------------------------- object matrices


def _matrixwise(function: Callable[..., Any], core: tuple[int, ...], *stacks: Any) -> Any:
    """Apply a function of matrices, with a result of shape `core`, along stacks of them."""
    batch = np.broadcast_shapes(*(np.shape(a)[:-2] for a in stacks))
    full = [np.broadcast_to(a, batch + np.shape(a)[-2:]) for a in stacks]
    out = np.empty(batch + core, object)
    for place in np.ndindex(batch):
        entries = list(np.asarray(function(*(a[place] for a in full)), object).flat)
        out[place] = object_array(entries, core)
    return out


def _detwise(determinant: Callable[[Any], Any], a: Any) -> Any:
    """Apply a function from a matrix to a number along a stack of matrices."""
    stacked = _matrixwise(lambda m: object_array([determinant(m)], (1, 1)), (1, 1), a)
    return stacked[..., 0, 0]


def _sympy_matrix(S: Any, a: Any) -> Any:
    return S.Matrix(*np.shape(a), list(a.flat))


def _sympy_det(S: Any, a: Any) -> Any:
    """The determinant without division, hence without a pivot that could vanish."""
    return _sympy_matrix(S, a).det(method="berkowitz")


_ADJUGATE_LIMIT: Final = 4


def _sympy_solve(S: Any, a: Any, b: Any) -> Any:
    """By Cramer's rule where it is short (no pivot can vanish), else by elimination."""
    matrix, right = _sympy_matrix(S, a), _sympy_matrix(S, b)
    if len(a) > _ADJUGATE_LIMIT:
        solution = matrix.LUsolve(right)
    else:
        solution = matrix.adjugate(method="berkowitz") * right / _sympy_det(S, a)
    return object_array(list(solution), np.shape(b))


def _sympy_inv(S: Any, a: Any) -> Any:
    identity = object_array([S.Integer(int(e)) for e in np.eye(len(a)).flat], np.shape(a))
    return _sympy_solve(S, a, identity)


def _sympy_cholesky(S: Any, a: Any) -> Any:
    """The factor row by row, from the lower triangle, which is all that NumPy reads.

    S.Matrix.cholesky would want to prove that the matrix is symmetric and positive.
    """
    out = object_array([S.Integer(0)] * np.size(a), np.shape(a))
    for i in range(len(a)):
        for j in range(i + 1):
            rest = a[i, j] - sum(out[i, k] * out[j, k] for k in range(j))
            out[i, j] = S.sqrt(rest) if i == j else rest / out[j, j]
    return out


# ---------------------------------------------------------------------- systems


def _solve_adjoint_left(g: Any, y: Any, a: Any, b: Any) -> Any:
    return -np.matmul(_solve_adjoint_right(g, y, a, b), np.swapaxes(y, -1, -2))


def _solve_adjoint_right(g: Any, y: Any, a: Any, b: Any) -> Any:
    return solve_matrix(np.swapaxes(a, -1, -2), g)


solve_matrix: Primitive = row(
    "solve",
    np.linalg.solve,
    (_solve_adjoint_left, _solve_adjoint_right),
    sympy=lambda S, a, b: _matrixwise(lambda m, r: _sympy_solve(S, m, r), np.shape(b)[-2:], a, b),
    exact="solve",
)


@defines(np.linalg.solve)
def _solve(a: Any, b: Any) -> Any:
    a, b = as_operand(a), as_operand(b)
    if np.ndim(b) == 1:
        return solve_matrix(a, np.expand_dims(b, -1))[..., 0]
    return solve_matrix(a, b)


def _inv_adjoint(g: Any, y: Any, a: Any) -> Any:
    transposed = np.swapaxes(y, -1, -2)
    return -np.matmul(np.matmul(transposed, g), transposed)


def _inv_row(name: str, function: Callable[[Any], Any]) -> Primitive:
    return row(
        name,
        function,
        (_inv_adjoint,),
        sympy=lambda S, a: _matrixwise(lambda m: _sympy_inv(S, m), np.shape(a)[-2:], a),
        exact="inv",
    )


def _inv_or_nan(a: Any) -> Any:
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        return np.full_like(a, np.nan)


inv: Primitive = _inv_row("inv", np.linalg.inv)
# For adjoints, which do not exist where the matrix is singular.
inv_or_nan: Primitive = _inv_row("inv_or_nan", _inv_or_nan)


@defines(np.linalg.inv)
def _inv(a: Any) -> Any:
    return inv(a)


# ---------------------------------------------------------------------- determinants

det: Primitive = row(
    "det",
    np.linalg.det,
    (lambda g, y, a: np.expand_dims(g, (-2, -1)) * cofactors(a),),
    sympy=lambda S, a: _detwise(lambda m: _sympy_det(S, m), a),
    exact="det",
)


@defines(np.linalg.det)
def _det(a: Any) -> Any:
    return det(a)


_MINORS_LIMIT: Final = 8


def cofactors(a: Any) -> Any:
    """The matrix of cofactors: the gradient of the determinant, singular or not.

    A small matrix has them from its minors, polynomials that nest to any order.
    """
    n = np.shape(a)[-1]
    if n > _MINORS_LIMIT:
        return large_cofactors(a)
    kept = np.array([[k for k in range(n) if k != i] for i in range(n)], np.intp)
    kept = kept.reshape(n, max(n - 1, 0))
    minors = a[..., kept[:, None, :, None], kept[None, :, None, :]]
    signs = (-1.0) ** np.add.outer(np.arange(n), np.arange(n))
    return signs.astype(a.dtype) * _small_det(minors)


def _small_det(a: Any) -> Any:
    """The determinant; NumPy's own rounds that of a single entry (it takes logarithms)."""
    n = np.shape(a)[-1]
    if n == 1:
        return a[..., 0, 0]
    if n == 2:
        return a[..., 0, 0] * a[..., 1, 1] - a[..., 0, 1] * a[..., 1, 0]
    return det(a)


def _large_cofactors(a: Any) -> Any:
    out = np.empty_like(a)
    for place in np.ndindex(np.shape(a)[:-2]):
        out[place] = _cofactors_of_matrix(a[place])
    return out


def _cofactors_of_matrix(a: Any) -> Any:
    """det(a) inv(a).T, whose two factors share their rounding; by singular values if singular."""
    with np.errstate(all="ignore"):
        determinant = np.linalg.det(a)
        product = determinant * _inv_or_nan(a).T
    if determinant != 0 and np.all(np.isfinite(product)):
        return product
    u, s, vt = np.linalg.svd(a)
    others = np.array([np.prod(np.delete(s, i)) for i in range(len(s))], a.dtype)
    return np.round(np.linalg.det(u) * np.linalg.det(vt)) * ((u * others) @ vt)


def _large_cofactors_adjoint(g: Any, y: Any, a: Any) -> Any:
    inverse = np.swapaxes(inv_or_nan(a), -1, -2)
    inner = np.sum(g * y, axis=(-2, -1), keepdims=True)
    return inverse * inner - np.matmul(np.matmul(inverse, np.swapaxes(g, -1, -2)), y)


large_cofactors: Primitive = row(
    "large_cofactors",
    _large_cofactors,
    (_large_cofactors_adjoint,),
    sympy=lambda S, a: _matrixwise(
        lambda m: _sympy_det(S, m) * _sympy_inv(S, m).T, np.shape(a)[-2:], a
    ),
    exact=lambda A, a: np.expand_dims(A.det(a), (-2, -1)) * np.swapaxes(A.inv(a), -1, -2),
)


def _half_log_of_square(S: Any, x: Any) -> Any:
    """log |x|, unevaluated: SymPy would look for a sign through every term of a large `x`."""
    square = S.Pow(x, 2, evaluate=False)
    return S.Mul(S.Rational(1, 2), S.log(square, evaluate=False), evaluate=False)


log_abs_det: Primitive = row(
    "log_abs_det",
    lambda a: np.linalg.slogdet(a)[1],
    (lambda g, y, a: np.expand_dims(g, (-2, -1)) * np.swapaxes(inv_or_nan(a), -1, -2),),
    sympy=lambda S, a: _detwise(lambda m: _half_log_of_square(S, _sympy_det(S, m)), a),
    exact=lambda A, a: A.slogdet(a)[1],
)

sign_of_det: Primitive = row(
    "sign_of_det",
    lambda a: np.linalg.slogdet(a)[0],
    Missing("piecewise constant: its derivative is zero"),
    sympy=lambda S, a: _detwise(lambda m: S.sign(_sympy_det(S, m), evaluate=False), a),
    exact=lambda A, a: A.slogdet(a)[0],
)

_SlogdetResult: Final[Any] = type(np.linalg.slogdet(np.eye(1)))


@defines(np.linalg.slogdet)
def _slogdet(a: Any) -> Any:
    return _SlogdetResult(sign_of_det(a), log_abs_det(a))


# ---------------------------------------------------------------------- Cholesky


def _cholesky_adjoint(g: Any, y: Any, a: Any) -> Any:
    """For dL = L Phi(L^-1 dA L^-T), Phi the lower triangle with half the diagonal."""
    n = np.shape(a)[-1]
    transposed = np.swapaxes(y, -1, -2)
    phi = (np.tri(n) - np.eye(n) / 2).astype(a.dtype)
    half = np.matmul(transposed, g) * phi
    right = solve_matrix(transposed, half)
    full = np.swapaxes(solve_matrix(transposed, np.swapaxes(right, -1, -2)), -1, -2)
    return np.tril(full) + np.swapaxes(np.triu(full, 1), -1, -2)


cholesky: Primitive = row(
    "cholesky",
    np.linalg.cholesky,
    (_cholesky_adjoint,),
    sympy=lambda S, a: _matrixwise(lambda m: _sympy_cholesky(S, m), np.shape(a)[-2:], a),
    exact="cholesky",
)


@defines(np.linalg.cholesky)
def _cholesky(a: Any, /, *, upper: bool = False) -> Any:
    if not upper:
        return cholesky(a)
    return np.swapaxes(cholesky(np.swapaxes(as_operand(a), -1, -2)), -1, -2)
