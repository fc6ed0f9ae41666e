"""QR, the pseudoinverse and least squares.

Sources of the formulas: S. Walter and L. Lehmann, "Algorithmic differentiation of linear algebra
functions with application in optimum experimental design" (2010), for QR; G. Golub and
V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
variables separate" (1973). All hold for matrices of full rank; of any other rank QR and the
pseudoinverse have no derivative, and the rules give NaN, which is refused.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from diffkit.structure import concrete
from diffkit.tracing.graph import Missing, Primitive, as_operand
from diffkit.tracing.primitives.decompositions import IN_PARTS, product, svdvals, turned
from diffkit.tracing.primitives.degenerate import nothing_from, steady
from diffkit.tracing.primitives.linear_algebra import inv_or_nan, matmul, solve_matrix
from diffkit.tracing.primitives.rows import defines, row
from diffkit.tracing.primitives.shapes import fixed, unsupported

# ---------------------------------------------------------------------- QR

_NO_SIGN: Final = Missing("the signs of its columns follow from LAPACK's choice alone")


def _qr_packed(a: Any, *, complete: bool) -> Any:
    """Q above R. Only for matrices of at least as many rows as columns."""
    q, r = np.linalg.qr(a, "complete" if complete else "reduced")
    n = np.shape(a)[-1]
    return np.concatenate([q.reshape(*q.shape[:-2], -1), r[..., :n, :].reshape(*r.shape[:-2], -1)],
                          axis=-1)  # fmt: skip


def _q_part(a: Any, factors: Any, *, complete: bool) -> Any:
    m, n = np.shape(a)[-2:]
    width = m if complete else n
    return np.reshape(np.copy(factors[..., : m * width]), (*np.shape(a)[:-2], m, width))


def _r_part(a: Any, factors: Any, *, complete: bool) -> Any:
    m, n = np.shape(a)[-2:]
    size = m * (m if complete else n)
    return np.reshape(np.copy(factors[..., size:]), (*np.shape(a)[:-2], n, n))


qr_factors: Primitive = row("linalg.qr", _qr_packed, IN_PARTS, sympy=_NO_SIGN, exact="qr")


def _pulled_through_r(inner: Any, g: Any, q: Any, r: Any) -> Any:
    """(g + Q copyltu(M)) R^-T, with copyltu the lower triangle of M, mirrored."""
    lower = np.tril(inner)
    symmetric = lower + turned(np.tril(inner, -1))
    whole = matmul(q, symmetric) if g is None else g + matmul(q, symmetric)
    pivots = np.abs(np.diagonal(r, axis1=-2, axis2=-1))
    n = np.shape(r)[-1]
    least = n * float(np.finfo(r.dtype).eps) * np.max(pivots, axis=-1, keepdims=True, initial=0.0)
    singular = np.any(pivots <= least, axis=-1)
    inverse = inv_or_nan(np.where(np.expand_dims(singular, (-2, -1)), np.nan, r))
    return matmul(whole, turned(inverse))


def _q_adjoint(g: Any, y: Any, a: Any, factors: Any, *, complete: bool) -> Any:
    n = np.shape(a)[-1]
    q, r = y[..., :n], r_part(a, factors, complete=complete)
    if complete:
        g = g[..., :n] + nothing_from(g[..., n:])
    return _pulled_through_r(-matmul(turned(g), q), g, q, r)


def _r_adjoint(g: Any, y: Any, a: Any, factors: Any, *, complete: bool) -> Any:
    q = q_part(a, factors, complete=complete)[..., : np.shape(a)[-1]]
    return _pulled_through_r(matmul(y, turned(g)), None, q, y)


q_part: Primitive = row(
    "q_part",
    _q_part,
    (_q_adjoint, None),
    sympy=_NO_SIGN,
    exact=lambda A, a, factors, *, complete: _q_part(a, factors, complete=complete),
)
r_part: Primitive = row(
    "r_part",
    _r_part,
    (_r_adjoint, None),
    sympy=_NO_SIGN,
    exact=lambda A, a, factors, *, complete: _r_part(a, factors, complete=complete),
)

_QRResult: Final[Any] = type(np.linalg.qr(np.eye(1)))


@defines(np.linalg.qr)
def _qr(a: Any, mode: str = "reduced") -> Any:
    a = as_operand(a)
    if mode not in ("reduced", "complete", "r"):
        raise unsupported(f"np.linalg.qr with mode={mode!r}", "use mode='reduced'")
    m, n = np.shape(a)[-2:]
    square, complete = a[..., :m], mode == "complete" and m > n
    factors = qr_factors(square, complete=complete)
    q = q_part(square, factors, complete=complete)
    r = r_part(square, factors, complete=complete)
    if n > m:
        r = np.concatenate([r, matmul(turned(q), a[..., m:])], axis=-1)
    if complete:
        q = steady(q, np.arange(m) >= n)
        nothing = np.zeros((*np.shape(a)[:-2], m - n, n), r.dtype)
        r = np.concatenate([r, nothing], axis=-2)
    return r if mode == "r" else _QRResult(q, r)


# ---------------------------------------------------------------------- the pseudoinverse


def _pinv_adjoint(g: Any, y: Any, a: Any) -> Any:
    m, n = np.shape(a)[-2:]
    adjoint = -product(turned(y), g, turned(y))
    if m > n:
        outside = turned(g) - product(a, y, turned(g))
        adjoint = adjoint + product(outside, y, turned(y))
    if n > m:
        outside = turned(g) - product(turned(g), y, a)
        adjoint = adjoint + product(turned(y), y, outside)
    return adjoint


def _normal_pinv(solve: Any, a: Any) -> Any:
    """(AᵀA)⁻¹Aᵀ or Aᵀ(AAᵀ)⁻¹ for object matrices."""
    m, n = np.shape(a)[-2:]
    t = turned(a)
    if m >= n:
        return solve(np.matmul(t, a), t)
    return turned(solve(np.matmul(a, t), a))


def _normal_pinv_in_sympy(S: Any, a: Any) -> Any:
    solve: Any = solve_matrix.sympy
    return _normal_pinv(lambda matrix, right: solve(S, matrix, right), a)


pinv: Primitive = row(
    "linalg.pinv",
    np.linalg.pinv,
    (_pinv_adjoint,),
    sympy=_normal_pinv_in_sympy,
    exact=lambda A, a: _normal_pinv(A.solve, a),
)


def _has_full_rank(a: Any, rcond: Any) -> bool:
    """Whether every matrix has, as NumPy judges it; a guard is kept on the outcome."""
    s = svdvals(a)
    largest = np.max(s, axis=-1, keepdims=True, initial=0.0)
    return bool(fixed(np.all(s > np.expand_dims(as_operand(rcond), -1) * largest)))


@defines(np.linalg.pinv)
def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    a = as_operand(a)
    if rcond is None:
        rcond = 1e-15 if rtol is None else rtol
    if not hermitian and _has_full_rank(a, rcond):
        return pinv(a)
    u, s, vh = np.linalg.svd(a, full_matrices=False, hermitian=hermitian)
    least = np.expand_dims(as_operand(rcond), -1) * np.max(s, axis=-1, keepdims=True)
    large = s > least
    inverses = np.where(large, 1 / np.where(large, s, 1.0), 0.0)
    return matmul(turned(vh), np.expand_dims(inverses, -1) * turned(u))


# ---------------------------------------------------------------------- least squares


def _lstsq_adjoint_matrix(g: Any, y: Any, a: Any, b: Any, *, rcond: Any) -> Any:
    m, n = np.shape(a)
    inverse = pinv(a)
    pulled = matmul(turned(inverse), g)
    adjoint = -matmul(pulled, turned(y))
    if m > n:
        adjoint = adjoint + matmul(b - matmul(a, y), turned(matmul(inverse, pulled)))
    if n > m:
        outside = turned(g) - product(turned(g), inverse, a)
        adjoint = adjoint + product(turned(inverse), y, outside)
    return adjoint


lstsq: Primitive = row(
    "linalg.lstsq",
    lambda a, b, *, rcond: np.linalg.lstsq(a, b, rcond)[0],
    (
        _lstsq_adjoint_matrix,
        lambda g, y, a, b, *, rcond: matmul(turned(pinv(a)), g),
    ),
    sympy=lambda S, a, b, *, rcond: np.matmul(_normal_pinv_in_sympy(S, a), b),
    exact=lambda A, a, b, *, rcond: np.matmul(_normal_pinv(A.solve, a), b),
)


@defines(np.linalg.lstsq)
def _lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """As NumPy: the solution, the squared residuals, the rank and the singular values."""
    a, b = as_operand(a), as_operand(b)
    a = np.multiply(a, np.ones((), np.result_type(a, b)))
    m, n = np.shape(a)
    right = np.expand_dims(b, -1) if np.ndim(b) == 1 else b
    eps = float(np.finfo(a.dtype).eps)
    least = max(m, n) * eps if rcond is None else eps if rcond == -1 else rcond
    s = svdvals(a)
    rank = int(np.sum(fixed(s > least * s[:1])))
    full = rank == min(m, n)
    x = lstsq(a, right, rcond=rcond) if full else matmul(_pinv(a, least), right)
    residuals = np.zeros(0, np.asarray(concrete(x)).dtype)
    if rank == n < m:
        residuals = np.sum(np.square(right - matmul(a, x)), axis=0)
    return (x[:, 0] if np.ndim(b) == 1 else x), residuals, rank, s
