"""Eigenvalues, singular values, QR and least squares: derivatives where they exist, else none.

Oracles: differences of NumPy's own values, closed forms, and the arbitrary-precision truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from primitive_checks import (
    assert_close,
    assert_derivatives,
    assert_single_precision,
    central_jacobian,
)

import diffkit as dk
from diffkit import truth
from diffkit.arithmetic import FlintSeries, MultiPrecision

Function = Callable[[Any], Any]
L: Any = np.linalg


def numbers(*shape: int) -> Any:
    """Numbers without structure, the same for the same shape."""
    return np.random.default_rng(shape).normal(size=shape)


SQUARE, TALL, WIDE = numbers(4, 4), numbers(5, 3), numbers(3, 5)
SYMMETRIC = SQUARE + SQUARE.T
STACK, TALLS = numbers(3, 4, 4), numbers(2, 4, 2)
IDENTITY = np.eye(3)
RANK_ONE = np.ones((2, 2))
SPIKED = np.eye(3) + np.outer([1.0, 2, 2], [1.0, 2, 2]) / 9  # eigenvalues 1, 1, 2


def symmetrised(x: Any) -> Any:
    return x + np.swapaxes(x, -1, -2)


def matrix_function(f: Function) -> Function:
    def of_matrix(x: Any) -> Any:
        w, v = L.eigh(x)
        return (v * f(w)) @ v.T

    return of_matrix


SYMMETRIC_CASES: dict[str, tuple[Function, Any]] = {
    "eigvalsh": (L.eigvalsh, SYMMETRIC),
    "eigvalsh of the upper triangle": (lambda x: L.eigvalsh(x, "U"), SYMMETRIC),
    "eigvalsh of a stack": (lambda x: L.eigvalsh(symmetrised(x)), STACK),
    "eigenvalues": (lambda x: L.eigh(x).eigenvalues, SYMMETRIC),
    "eigenvectors": (lambda x: L.eigh(x)[1], SYMMETRIC),
    "eigenvectors by the upper triangle": (lambda x: L.eigh(x, "U")[1], SYMMETRIC),
    "eigenvectors of a stack": (lambda x: L.eigh(symmetrised(x))[1], STACK),
    "matrix exponential": (matrix_function(lambda w: np.exp(w / 3)), SYMMETRIC),
}
SINGULAR_CASES: dict[str, tuple[Function, Any]] = {
    "svdvals": (L.svdvals, TALL),
    "svd without vectors": (lambda x: L.svd(x, compute_uv=False), WIDE),
    "values beside vectors": (lambda x: L.svd(x)[1], WIDE),
    "left, tall": (lambda x: L.svd(x, full_matrices=False).U, TALL),
    "left, wide": (lambda x: L.svd(x, full_matrices=False).U, WIDE),
    "left, square": (lambda x: L.svd(x).U, SQUARE),
    "right, tall": (lambda x: L.svd(x, full_matrices=False).Vh, TALL),
    "right, wide": (lambda x: L.svd(x, full_matrices=False).Vh, WIDE),
    "right, square": (lambda x: L.svd(x).Vh, SQUARE),
    "left, of a full basis": (lambda x: L.svd(x).U[:, :2], TALL),
    "right, of a full basis": (lambda x: L.svd(x).Vh[:2], WIDE),
    "left, stacked": (lambda x: L.svd(x, full_matrices=False).U, TALLS),
    "symmetric": (lambda x: L.svd(x + x.T, hermitian=True).Vh, SQUARE),
    "symmetric, values": (lambda x: L.svd(x + x.T, compute_uv=False, hermitian=True), SQUARE),
    "low rank": (lambda x: (lambda u, s, v: (u[:, :1] * s[:1]) @ v[:1])(*L.svd(x)), TALL),
    "cond": (L.cond, SQUARE),
    "cond, -2": (lambda x: L.cond(x, -2), TALL),
    "cond, 1": (lambda x: L.cond(x, 1), SQUARE),
    "norm, 2": (lambda x: L.norm(x, 2), TALL),
    "norm, -2": (lambda x: L.norm(x, -2), TALL),
    "norm, nuclear": (lambda x: L.norm(x, "nuc"), WIDE),
    "norm, 2, along axes": (lambda x: L.norm(x, 2, (0, 2), True), numbers(3, 2, 4)),
    "matrix_norm, nuclear": (lambda x: L.matrix_norm(x, ord="nuc"), STACK),
    "matrix_rank": (lambda x: L.matrix_rank(x) * x, TALL),
}
SOLVING_CASES: dict[str, tuple[Function, Any]] = {
    "q, tall": (lambda x: L.qr(x).Q, TALL),
    "q, wide": (lambda x: L.qr(x).Q, WIDE),
    "q, square": (lambda x: L.qr(x).Q, SQUARE),
    "r, tall": (lambda x: L.qr(x).R, TALL),
    "r, wide": (lambda x: L.qr(x, "r"), WIDE),
    "r, stacked": (lambda x: L.qr(x).R, STACK),
    "q, of a complete basis": (lambda x: L.qr(x, "complete").Q[:, :3], TALL),
    "r, complete": (lambda x: L.qr(x, "complete").R, TALL),
    "pinv, tall": (L.pinv, TALL),
    "pinv, wide": (L.pinv, WIDE),
    "pinv, square": (L.pinv, SQUARE),
    "pinv, stacked": (L.pinv, TALLS),
    "pinv, symmetric": (lambda x: L.pinv(x + x.T, hermitian=True), SQUARE),
    "pinv, truncated": (lambda x: L.pinv(x, rcond=0.6), TALL),
    "lstsq, by the matrix": (lambda x: L.lstsq(x, np.arange(5.0))[0], TALL),
    "lstsq, by the right side": (lambda x: L.lstsq(TALL, x)[0], numbers(5, 2)),
    "lstsq, residuals": (lambda x: L.lstsq(x, np.arange(5.0))[1], TALL),
    "lstsq, wide": (lambda x: L.lstsq(x, np.arange(3.0))[0], WIDE),
    "lstsq, wide, by the right side": (lambda x: L.lstsq(WIDE, x)[0], np.arange(3.0)),
    "lstsq, singular values": (lambda x: L.lstsq(x, np.arange(3.0))[3], WIDE),
}
CASES = {**SYMMETRIC_CASES, **SINGULAR_CASES, **SOLVING_CASES}


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_first_and_second_derivatives(f: Function, x: Any) -> None:
    assert_derivatives(f, x)


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_products_along_a_direction(f: Function, x: Any) -> None:
    direction = np.cos(np.arange(x.size)).reshape(x.shape)
    expected = np.tensordot(central_jacobian(f, x), direction, np.ndim(x))
    assert_close(dk.jvp(f, x, direction), expected, 1e-6)


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("lstsq, by")])
def test_single_precision_stays(name: str) -> None:
    f, x = CASES[name]
    if not name.startswith("lstsq"):  # whose right sides here are in double precision
        assert_single_precision(f, x)


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_prepared_gradients_hold_at_other_points(f: Function, x: Any) -> None:
    def total(x: Any) -> Any:
        y = f(x)
        return np.sum(np.cos(np.arange(np.size(y))).reshape(np.shape(y)) * y)

    prepared = dk.prepare(total, x)
    for scale in (1.0, 1.5, 0.8):
        expected = dk.gradient(total, scale * x)
        assert_close(prepared.gradient(scale * x), expected, 1e-12)


# ---------------------------------------------------------------------- closed forms


@given(st.integers(1, 5))
@settings(deadline=None, max_examples=5)
def test_spectral_sums_are_traces_of_powers(n: int) -> None:
    x = symmetrised(numbers(n, n))

    def by_eigenvalues(x: Any) -> Any:
        return np.sum(L.eigvalsh((x + x.T) / 2) ** 3)

    assert_close(dk.gradient(by_eigenvalues, x), 3 * x @ x, 1e-11)


def test_the_nuclear_norm_has_the_orthogonal_factor_as_its_gradient() -> None:
    u, _, vh = L.svd(TALL, full_matrices=False)
    assert_close(dk.gradient(lambda x: L.norm(x, "nuc"), TALL), u @ vh, 1e-12)


def test_least_squares_by_the_normal_equations() -> None:
    b = np.arange(5.0)

    def normal(x: Any) -> Any:
        return L.solve(x.T @ x, x.T @ b)

    found = dk.jacobian(lambda x: L.lstsq(x, b)[0], TALL)
    assert_close(found, dk.jacobian(normal, TALL), 1e-11)


def test_the_product_of_q_and_r_is_the_matrix() -> None:
    jacobian = dk.jacobian(lambda x: (lambda q, r: q @ r)(*L.qr(x)), TALL)
    assert_close(jacobian, np.eye(15).reshape(5, 3, 5, 3), 1e-12)


# ---------------------------------------------------------------------- values that coincide


def test_functions_that_treat_equal_eigenvalues_alike_have_their_gradient() -> None:
    for f in (lambda x: L.eigvalsh(x).sum(), lambda x: L.eigh(x)[0].sum()):
        np.testing.assert_array_equal(dk.gradient(f, IDENTITY), IDENTITY)
    found = dk.gradient(lambda x: np.exp(L.eigvalsh(x)).sum(), IDENTITY)
    assert_close(found, np.e * IDENTITY, 1e-14)
    found = dk.gradient(lambda x: (L.eigvalsh(x) ** 2).sum(), SPIKED)
    assert_close(found, 2 * np.tril(2 * SPIKED, -1) + np.diag(np.diag(2 * SPIKED)), 1e-13)


def test_what_belongs_to_a_simple_eigenvalue_is_right_beside_equal_ones() -> None:
    assert_derivative_at_spike(lambda x: L.eigh(x)[1][0, -1] ** 2)
    assert_derivative_at_spike(lambda x: L.eigh(x)[0][-1])


def assert_derivative_at_spike(f: Function) -> None:
    assert_close(dk.gradient(f, SPIKED), central_jacobian(f, SPIKED), 1e-8)


def test_functions_that_treat_equal_singular_values_alike_have_their_gradient() -> None:
    assert_close(dk.gradient(lambda x: L.norm(x, "nuc"), IDENTITY), IDENTITY, 1e-14)
    assert_close(dk.gradient(lambda x: L.pinv(x).sum(), IDENTITY), -np.ones((3, 3)), 1e-14)
    for x in (RANK_ONE, np.zeros((2, 2))):
        assert_close(dk.gradient(lambda x: np.sum(L.svdvals(x) ** 2), x), 2 * x, 1e-14)


WITHOUT_DERIVATIVE: dict[str, tuple[Function, Any]] = {
    "one of equal eigenvalues": (lambda x: L.eigvalsh(x)[0], IDENTITY),
    "logarithm of the identity": (lambda x: matrix_function(np.log)(x)[0, 1], IDENTITY),
    "sum of the logarithm": (lambda x: matrix_function(np.log)(x).sum(), IDENTITY),
    "exponential of the identity": (lambda x: matrix_function(np.exp)(x)[0, 1], IDENTITY),
    "vector of equal eigenvalues": (lambda x: L.eigh(x)[1][0, 0], SPIKED),
    "largest of equal singular values": (lambda x: L.norm(x, 2), IDENTITY),
    "orthogonal factor": (lambda x: (lambda u, s, v: (u @ v)[0, 1])(*L.svd(x)), IDENTITY),
    "nuclear norm at a vanishing value": (lambda x: L.norm(x, "nuc"), RANK_ONE),
    "vector that completes a basis": (lambda x: L.svd(x)[0][0, 4], TALL),
    "row that completes a basis": (lambda x: L.svd(x)[2][4, 0], WIDE),
    "column of Q that completes a basis": (lambda x: L.qr(x, "complete")[0][0, 4], TALL),
    "pseudoinverse of a singular matrix": (lambda x: L.pinv(x).sum(), RANK_ONE),
    "least squares of a singular matrix": (
        lambda x: L.lstsq(x, np.ones(2), rcond=None)[0].sum(),
        RANK_ONE,
    ),
    "QR of a singular matrix": (lambda x: L.qr(x)[1].sum(), RANK_ONE),
}


@pytest.mark.parametrize(("f", "x"), WITHOUT_DERIVATIVE.values(), ids=WITHOUT_DERIVATIVE)
def test_no_derivative_rests_on_an_arbitrary_choice(f: Function, x: Any) -> None:
    with pytest.raises(dk.NonFiniteDerivative):
        dk.gradient(f, x)
    with pytest.raises(dk.NonFiniteDerivative):
        dk.jvp(f, x, np.cos(np.arange(x.size)).reshape(x.shape))


def test_one_degenerate_matrix_of_a_stack_does_not_spoil_the_others() -> None:
    stack = np.stack([IDENTITY, np.diag([1.0, 2, 3])])
    with pytest.raises(dk.NonFiniteDerivative) as caught:
        dk.gradient(lambda x: L.eigvalsh(x)[:, 0].sum(), stack)
    assert not np.isfinite(caught.value.value[0]).any()
    np.testing.assert_array_equal(caught.value.value[1], np.diag([1.0, 0, 0]))


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("f", [L.eig, L.eigvals])
def test_complex_eigenvalues_are_refused(f: Function) -> None:
    with pytest.raises(dk.UnsupportedOperation, match="eigvalsh"):
        dk.gradient(lambda x: np.sum(np.real(f(x)[0])), SQUARE)


def test_the_raw_mode_of_qr_is_refused() -> None:
    with pytest.raises(dk.UnsupportedOperation, match="raw"):
        dk.gradient(lambda x: np.sum(L.qr(x, "raw")[0]), SQUARE)


def test_what_has_no_formula_is_refused_by_the_symbolic_backend() -> None:
    for f in (L.eigvalsh, L.svdvals, lambda x: L.qr(x)[1]):
        with pytest.raises(dk.UnsupportedOperation, match="no symbolic counterpart"):
            dk.jacobian(f, SYMMETRIC, backend="symbolic")


def test_the_pseudoinverse_has_a_formula() -> None:
    for x in (TALL[:3, :2], WIDE[:2, :3]):
        found = dk.jacobian(L.pinv, x, backend="symbolic")
        assert_close(found, dk.jacobian(L.pinv, x), 1e-11)


# ---------------------------------------------------------------------- truth

TRUE: dict[str, tuple[Function, Any]] = {
    "eigenvalue": (lambda x: L.eigvalsh(x)[0], SQUARE[:3, :3]),
    "eigenvector": (lambda x: L.eigh(x, "U")[1][0, 1], SQUARE[:3, :3]),
    "left vector": (lambda x: L.svd(x, full_matrices=False)[0][1, 1], TALL[:, :2]),
    "left vector, of a full basis": (lambda x: L.svd(x)[0][1, 1], TALL[:, :2]),
    "right vector": (lambda x: L.svd(x, full_matrices=False)[2][1, 1], WIDE[:2]),
    "nuclear norm": (lambda x: L.norm(x, "nuc"), WIDE[:2, :3]),
    "q": (lambda x: L.qr(x)[0][0, 1], TALL[:3, :2]),
    "r": (lambda x: np.sum(L.qr(x)[1]), SQUARE[:3, :3]),
    "pinv": (lambda x: np.sum(L.pinv(x)), WIDE[:2, :3]),
    "lstsq": (lambda x: np.sum(L.lstsq(x, np.ones(3))[0]), TALL[:3, :2]),
    "cond": (L.cond, SQUARE[:3, :3]),
}


@pytest.mark.parametrize(("f", "x"), TRUE.values(), ids=TRUE)
def test_the_tape_agrees_with_a_certified_truth(f: Function, x: Any) -> None:
    reference = truth.gradient(f, x)
    assert reference.certified
    assert_close(dk.gradient(f, x), reference.value, 1e-13)


def test_second_derivatives_agree_with_the_truth() -> None:
    reference = truth.hessian(lambda x: L.eigvalsh(x)[0], SQUARE[:2, :2])
    assert_close(dk.hessian(lambda x: L.eigvalsh(x)[0], SQUARE[:2, :2]), reference.value, 1e-13)


def test_there_is_no_truth_where_eigenvalues_coincide() -> None:
    with pytest.raises(dk.TruthUnavailable, match="coincide"):
        truth.gradient(lambda x: np.sum(L.eigvalsh(x)), IDENTITY)


def test_both_arithmetics_decompose_alike() -> None:
    flint, plain = FlintSeries(1, 0, 200), MultiPrecision(60)
    for name, options, x in (
        ("eigh", {"uplo": "L"}, SYMMETRIC),
        ("svd", {"full": False}, TALL),
        ("svd", {"full": False}, WIDE),
        ("qr", {"complete": False}, TALL),
    ):
        with flint:
            ball = [
                float(v.mid()) for v in getattr(flint, name)(_numbers(flint, x), **options).flat
            ]
        number = [float(v) for v in getattr(plain, name)(_numbers(plain, x), **options).flat]
        assert_close(ball, number, 1e-15)


def _numbers(A: Any, x: Any) -> Any:
    return np.frompyfunc(A.constant, 1, 1)(x)
