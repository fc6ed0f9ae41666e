"""Linear algebra in the primitive table: values are NumPy's, derivatives those of the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from primitive_checks import (
    assert_close,
    assert_derivatives,
    assert_pullback,
    assert_single_precision,
    central_jacobian,
)

import diffkit as dk
from diffkit.tracing.primitives import PRIMITIVES

Function = Callable[[Any], Any]


def numbers(*shape: int) -> Any:
    """Numbers without structure, the same for the same shape."""
    return np.random.default_rng(shape).normal(size=shape)


V, W = numbers(3), numbers(4)
A = numbers(3, 3) + 3 * np.eye(3)
B = numbers(3, 4)
STACK = numbers(2, 3, 3) + 3 * np.eye(3)
BOX = numbers(2, 3, 4)
POSITIVE = A @ A.T

PRODUCTS: dict[str, tuple[Function, Any]] = {
    "matrix @ matrix": (lambda x: x @ B, A),
    "matrix @ vector": (lambda x: x @ V, A),
    "vector @ matrix": (lambda x: x @ B, V),
    "vector @ matrix, by the matrix": (lambda x: V @ x, B),
    "vector @ vector": (lambda x: x @ x, V),
    "stack @ matrix": (lambda x: x @ B, STACK),
    "matrix @ stack, by the matrix": (lambda x: x @ BOX, A),
    "stack @ vector": (lambda x: x @ V, STACK),
    "stack @ vector, by the vector": (lambda x: STACK @ x, V),
    "vector @ stack": (lambda x: x @ BOX, V),
    "vector @ stack, by the stack": (lambda x: V @ x, BOX),
    "broadcast stacks": (lambda x: x @ numbers(4, 3, 2), numbers(2, 1, 3, 3)),
    "x @ x.T": (lambda x: x @ x.T, A),
    "linalg.matmul": (lambda x: np.linalg.matmul(x, B), A),
    "dot with a number": (lambda x: np.dot(x, 2.0), V),
    "dot of stacks": (lambda x: np.dot(x, BOX), STACK),
    "dot of stacks, by the right": (lambda x: np.dot(STACK, x), BOX),
    "dot of a stack and a vector": (lambda x: np.dot(STACK, x), V),
    "vdot": (lambda x: np.vdot(x, A), A),
    "inner": (lambda x: np.inner(x, STACK), A),
    "inner with a number": (lambda x: np.inner(3.0, x), V),
    "outer": (lambda x: np.outer(x, B), V),
    "linalg.outer": (lambda x: np.linalg.outer(x, x), V),
    "tensordot over pairs": (lambda x: np.tensordot(x, BOX, ([1, 2], [1, 0])), numbers(4, 3, 2)),
    "tensordot over two axes": (lambda x: np.tensordot(x, BOX, 2), numbers(5, 2, 3)),
    "tensordot over none": (lambda x: np.tensordot(x, V, 0), A),
    "linalg.tensordot": (lambda x: np.linalg.tensordot(x, B, axes=1), A),
    "kron": (lambda x: np.kron(x, B), A),
    "kron of unequal dimensions": (lambda x: np.kron(V, x), B),
    "cross": (lambda x: np.cross(x, V), numbers(4, 3)),
    "cross along axes": (
        lambda x: np.cross(x, np.sin(x[:, ::-1]), axisa=0, axisb=1, axisc=0),
        numbers(3, 3),
    ),
    "linalg.cross": (lambda x: np.linalg.cross(x, V), A),
    "trace": (lambda x: np.trace(x, 1), B),
    "linalg.trace": (lambda x: np.linalg.trace(x), STACK),
    "vecdot": (lambda x: np.vecdot(x, BOX), W),
    "linalg.vecdot": (lambda x: np.linalg.vecdot(x, BOX, axis=1), BOX),
    "multi_dot": (lambda x: np.linalg.multi_dot([V, x, B, W]), A),
    "multi_dot of matrices": (lambda x: np.linalg.multi_dot([x, x, B, B.T]), A),
}

if hasattr(np, "matvec"):  # new in NumPy 2.2
    PRODUCTS["matvec"] = (lambda x: np.matvec(STACK, x), V)
    PRODUCTS["vecmat"] = (lambda x: np.vecmat(x, BOX), V)

EINSUMS: dict[str, tuple[Function, Any]] = {
    "product": (lambda x: np.einsum("ij,jk->ik", x, B), A),
    "trace": (lambda x: np.einsum("ii", x), A),
    "diagonal": (lambda x: np.einsum("ii->i", x), A),
    "transpose": (lambda x: np.einsum("ij->ji", x), B),
    "sum": (lambda x: np.einsum("ij->", x), B),
    "stacked product": (lambda x: np.einsum("bij,bjk->bik", STACK, x), BOX),
    "implicit result": (lambda x: np.einsum("cb,ba", x, A), B.T),
    "ellipsis, implicit result": (lambda x: np.einsum("...ij,jk", x, B), STACK),
    "ellipsis of unequal width": (lambda x: np.einsum("a...,...->a...", x, B), BOX),
    "ellipsis kept": (lambda x: np.einsum("i...->...", x), BOX),
    "diagonal within a product": (lambda x: np.einsum("iij,jk->ik", x, B), numbers(2, 2, 3)),
    "three operands": (lambda x: np.einsum("i,j,k->ijk", x, x, V), V),
    "index summed within one operand": (lambda x: np.einsum("ij,k->k", x, V), B),
    "length 1 is broadcast": (lambda x: np.einsum("i,i->i", x, V), numbers(1)),
    "length 1 is broadcast and summed": (lambda x: np.einsum("ij,jk", x, B), numbers(2, 1)),
    "empty": (lambda x: np.einsum("ij,jk->ik", x, np.ones((0, 2))), numbers(2, 0)),
    "lists of indices": (lambda x: np.einsum(x, [0, 1], B, [1, 2], [0, 2]), A),
    "lists with an ellipsis": (lambda x: np.einsum(x, [Ellipsis, 1], B, [1, 2]), A),
    "optimize": (lambda x: np.einsum("ij,jk,kl->il", x, B, B.T, optimize=True), A),
    "operand used thrice": (lambda x: np.einsum("ij,kj,lk->il", x, x, x), A),
}

SYSTEMS: dict[str, tuple[Function, Any]] = {
    "solve, by the matrix": (lambda x: np.linalg.solve(x, B), A),
    "solve, by the vector": (lambda x: np.linalg.solve(A, x), V),
    "solve stack, by the matrix": (lambda x: np.linalg.solve(x, V), STACK),
    "solve stack of right sides": (lambda x: np.linalg.solve(A, x), BOX),
    "solve with one right side": (lambda x: np.linalg.solve(STACK, x), B),
    "inv": (np.linalg.inv, STACK),
    "matrix_power 3": (lambda x: np.linalg.matrix_power(x, 3), A),
    "matrix_power 1": (lambda x: np.linalg.matrix_power(x, 1), STACK),
    "matrix_power 0": (lambda x: np.linalg.matrix_power(x, 0) * x, STACK),
    "matrix_power -2": (lambda x: np.linalg.matrix_power(x, -2), A),
    "tensorsolve": (lambda x: np.linalg.tensorsolve(x, numbers(2, 3)), numbers(2, 3, 6)),
    "tensorsolve along axes": (
        lambda x: np.linalg.tensorsolve(x, numbers(2, 3), axes=(0,)),
        numbers(6, 2, 3),
    ),
    "tensorinv": (np.linalg.tensorinv, numbers(2, 3, 3, 2)),
    "det": (np.linalg.det, STACK),
    "det of a large matrix": (np.linalg.det, numbers(9, 9)),
    "det of a singular matrix": (np.linalg.det, np.arange(9.0).reshape(3, 3)),
    "det of a matrix of rank 0": (np.linalg.det, np.zeros((2, 2))),
    "det of one zero": (np.linalg.det, np.zeros((1, 1))),
    "slogdet": (lambda x: np.linalg.slogdet(x).logabsdet, STACK),
    "sign of slogdet": (lambda x: np.linalg.slogdet(x)[0] * x[0, 1], A),
    "cholesky": (np.linalg.cholesky, POSITIVE),
    "cholesky, upper": (lambda x: np.linalg.cholesky(x, upper=True), POSITIVE),
    "cholesky of a stack": (np.linalg.cholesky, np.stack([POSITIVE, A.T @ A])),
}

NORMS: dict[str, tuple[Function, Any]] = {
    **{
        f"vectors, {order}, axis {axis}, keepdims {keep}": (
            lambda x, o=order, a=axis, k=keep: np.linalg.norm(x, o, a, k),
            B,
        )
        for order in (None, 1, 2, 3, 0.5, -1, 0, np.inf, -np.inf)
        for axis, keep in ((0, False), (1, True))
    },
    **{
        f"matrix, {order}": (lambda x, o=order: np.linalg.norm(x, o), B)
        for order in (None, "fro", 1, -1, np.inf, -np.inf)
    },
    "all entries": (np.linalg.norm, BOX),
    "all entries, kept": (lambda x: np.linalg.norm(x, keepdims=True), BOX),
    "matrices along axes": (lambda x: np.linalg.norm(x, 1, (2, 0), True), BOX),
    "vector_norm": (lambda x: np.linalg.vector_norm(x, axis=(0, 2)), BOX),
    "vector_norm, 3": (lambda x: np.linalg.vector_norm(x, ord=3, keepdims=True), BOX),
    "matrix_norm": (lambda x: np.linalg.matrix_norm(x, ord=1), BOX),
}

CASES = {
    f"{family}: {name}": case
    for family, table in (
        ("product", PRODUCTS), ("einsum", EINSUMS), ("system", SYSTEMS), ("norm", NORMS)
    )
    for name, case in table.items()
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::diffkit.errors.StepWarning")  # a norm of order 0 counts
@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_first_and_second_derivatives(f: Function, x: Any) -> None:
    assert_derivatives(f, x)


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_single_precision_stays(f: Function, x: Any) -> None:
    assert_single_precision(f, x)


@pytest.mark.parametrize(
    ("name", "arguments", "static"),
    [
        ("matmul", (A, B), {}),
        ("matmul", (V, B), {}),
        ("matmul", (A, V), {}),
        ("matmul", (V, V), {}),
        ("matmul", (STACK, B), {}),
        ("matmul", (V, BOX), {}),
        ("matmul", (STACK, V), {}),
        ("contraction", (A, B), {"subscripts": "ij,jk->ki"}),
        ("contraction", (V, A, B), {"subscripts": "i,ij,jk->k"}),
        ("convolution", (V, W), {}),
        ("solve", (A, B), {}),
        ("solve", (A, BOX), {}),
        ("solve", (STACK, B), {}),
        ("inv", (STACK,), {}),
        ("inv_or_nan", (A,), {}),
        ("det", (STACK,), {}),
        ("log_abs_det", (STACK,), {}),
        ("large_cofactors", (A,), {}),
        ("cholesky", (POSITIVE,), {}),
        ("einsum_view", (numbers(3, 2, 3),), {"subscripts": "iji->ji"}),
    ],
)
def test_pullback_of_a_row(name: str, arguments: tuple[Any, ...], static: dict[str, Any]) -> None:
    assert_pullback(PRIMITIVES[name], *arguments, **static)


# ---------------------------------------------------------------------- determinants


def test_cofactors_are_the_gradient_of_the_determinant_whatever_the_rank() -> None:
    large = PRIMITIVES["large_cofactors"].function
    for rank in range(4):
        singular = numbers(4, rank) @ numbers(rank, 4)
        expected = central_jacobian(np.linalg.det, singular)
        assert_close(dk.gradient(np.linalg.det, singular), expected, 1e-8)
        assert_close(large(singular), expected, 1e-8)


def test_gradient_of_the_determinant_of_a_large_singular_matrix() -> None:
    singular = numbers(12, 11) @ numbers(11, 12) / 4
    singular[:, 3] = singular[:, 5]
    gradient = dk.gradient(np.linalg.det, singular)
    assert_close(gradient, central_jacobian(np.linalg.det, singular), 1e-6)


def test_determinant_of_integers_has_an_exact_gradient() -> None:
    gradient = dk.gradient(np.linalg.det, np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(gradient, [[4.0, -3.0], [-2.0, 1.0]])


def test_logarithm_of_a_vanishing_determinant_is_refused() -> None:
    with pytest.raises(dk.NonFiniteDerivative):
        dk.gradient(lambda x: np.exp(np.linalg.slogdet(x)[1]), np.ones((2, 2)))


def test_empty_matrices() -> None:
    empty = np.zeros((0, 0))
    for f in (np.linalg.det, np.linalg.inv, lambda x: x @ x, lambda x: np.linalg.slogdet(x)[1]):
        jacobian = dk.jacobian(f, empty)
        assert jacobian.shape == (*np.shape(f(empty)), 0, 0)
    assert dk.jacobian(lambda x: x @ np.zeros((0, 3)), np.zeros((2, 0))).shape == (2, 3, 2, 0)
    assert dk.jacobian(lambda x: np.linalg.solve(A, x), np.zeros((3, 0))).shape == (3, 0, 3, 0)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("order", [3, 1.5])
def test_norm_of_zero_has_no_gradient(order: Any) -> None:
    with pytest.raises(dk.NonFiniteDerivative):
        dk.gradient(lambda x: np.linalg.norm(x, order), np.zeros(3))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.linalg.solve(x, V),
        lambda x: np.linalg.inv(x),
        lambda x: np.linalg.cholesky(-x),
        lambda x: np.linalg.det(x[:2]),
    ],
)
def test_what_numpy_refuses_raises_its_own_error(f: Function) -> None:
    with pytest.raises(np.linalg.LinAlgError):
        dk.jacobian(f, np.ones((3, 3)))


@pytest.mark.parametrize("subscripts", ["ij,jk->ijl", "ij", "ij,kj->iij", "i,jk"])
def test_wrong_subscripts_raise_numpys_error(subscripts: str) -> None:
    with pytest.raises(ValueError, match="ein"):
        dk.jacobian(lambda x: np.einsum(subscripts, x, B), A)


# ---------------------------------------------------------------------- laws


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_pullback_of_matmul_is_its_transpose(m: int, k: int, n: int) -> None:
    a, b, g = numbers(m, k), numbers(k, n), numbers(m, n)
    left, right = (PRIMITIVES["matmul"].pull(i, g, a @ b, (a, b), {}) for i in (0, 1))
    direction = numbers(m, k, 7)[..., 0]
    np.testing.assert_allclose(np.sum(g * (direction @ b)), np.sum(left * direction), atol=1e-12)
    direction = numbers(k, n, 7)[..., 0]
    np.testing.assert_allclose(np.sum(g * (a @ direction)), np.sum(right * direction), atol=1e-12)


def test_chain_of_products_takes_the_cheapest_order() -> None:
    """The classical example of a chain whose left-to-right product is 15 times dearer."""
    chain = [numbers(10, 100), numbers(100, 5), numbers(5, 50)]
    graph = dk.trace(lambda x: np.linalg.multi_dot([x, *chain[1:]]), chain[0])
    shapes = [np.shape(node.value) for node in graph.nodes if node.primitive is not None]
    assert shapes == [(10, 5), (10, 50)]


def test_view_by_einsum_writes_through() -> None:
    def f(x: Any) -> Any:
        y = x * 1.0
        np.einsum("ii->i", y)[:] = y[0] ** 2
        return y

    assert_derivatives(f, A)
