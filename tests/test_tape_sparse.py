"""Sparse Jacobians and Hessians by the tape: the pattern from the recording, few sweeps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diffkit as dk
from diffkit.backends.tape.sparsity import structure
from diffkit.sparsity import Sparsity
from diffkit.tracing import trace

RNG = np.random.default_rng(3)
AUTO, SPARSE = dk.Tape(sparsity="auto"), dk.Tape(sparse=True)


def banded(n: int, width: int) -> Any:
    full = RNG.normal(size=(n, n))
    return np.triu(np.tril(full, width), -width)


def pattern(f: Callable[..., Any], x: Any, *data: Any) -> Sparsity:
    graph = trace(f, x, *data)
    return structure(graph, [node.value for node in graph.nodes])


def matrix(found: Sparsity) -> Any:
    full = np.zeros((found.rows, found.columns), bool)
    full[found.entries()] = True
    return full


def agrees(f: Any, x: Any, exact: Any, operator: Any = dk.jacobian) -> None:
    """With a pattern of its own, and as a sparse matrix, the derivative is the exact one."""
    found = operator(f, x, backend=AUTO)
    np.testing.assert_allclose(found, exact, rtol=1e-13, atol=1e-13)
    sparse = operator(f, x, backend=SPARSE)
    np.testing.assert_allclose(sparse.toarray(), exact, rtol=1e-13, atol=1e-13)


# ---------------------------------------------------------------------- scenario families


def differences(n: int) -> Any:
    return np.eye(n, k=1)[:-1] - np.eye(n)[:-1]


X = np.arange(1.0, 7.0)


def test_squared_differences() -> None:
    agrees(lambda x: np.diff(x) ** 2, X, 2 * np.diff(X)[:, None] * differences(6))


def test_squares_and_cubes_of_differences_stacked() -> None:
    d, D = np.diff(X), differences(6)
    exact = np.vstack([2 * d[:, None] * D, 3 * d[:, None] ** 2 * D])
    agrees(lambda x: np.concatenate([np.diff(x) ** 2, np.diff(x) ** 3]), X, exact)


def test_cubes_of_differences() -> None:
    D = differences(6)
    exact = D.T @ np.diag(6 * np.diff(X)) @ D
    agrees(lambda x: np.sum(np.diff(x) ** 3), X, exact, dk.hessian)


@pytest.mark.parametrize("width", [5, 10, 20])
def test_a_banded_quartic_form(width: int) -> None:
    A, x = banded(50, width), RNG.normal(size=50)
    v, S = x**2, A + A.T
    exact = np.diag(2 * (S @ v)) + 4 * x[:, None] * S * x
    agrees(lambda x: (x**2) @ A @ (x**2), x, exact, dk.hessian)
    found = dk.hessian(lambda x: (x**2) @ A @ (x**2), x, backend=SPARSE)
    assert found.nnz == np.count_nonzero((S != 0) | np.eye(50, dtype=bool))


def test_a_banded_linear_map() -> None:
    A, x = banded(40, 2), RNG.normal(size=40)
    agrees(lambda x: A @ (x**2), x, 2 * A * x)


# ---------------------------------------------------------------------- patterns

PATTERNS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: np.sin(x) * 2,
    "neighbours": lambda x: x[1:] * x[:-1] + np.roll(x, 1)[1:],
    "broadcast": lambda x: np.outer(x, x)[:3],
    "masked": lambda x: x * np.array([1.0, 0, 1, 0, 1, 0, 1, 0]) + 1,
    "blocks": lambda x: np.sum(x.reshape(4, 2) ** 2, axis=1),
    "norms": lambda x: np.linalg.norm(x.reshape(2, 4), axis=0),
    "running": lambda x: np.cumsum(x),
    "stacked": lambda x: np.stack([x[::2], x[1::2] ** 2], axis=1),
    "numbers": lambda x: np.array([x[0] * x[3], 2.0, x[7]]),
    "gathered": lambda x: x[np.array([3, 3, 0])] ** 2,
    "scattered": lambda x: np.bincount([0, 1, 1, 5, 5, 5, 2, 2], weights=x),
    "padded": lambda x: np.pad(x, 2)[::3],
    "product": lambda x: np.diag([1.0, 2.0, 0.0, 4.0]) @ x.reshape(4, 2),
    "from the right": lambda x: x.reshape(2, 4) @ np.eye(4, k=1),
    "contraction": lambda x: np.einsum("ij,ij->i", x.reshape(4, 2), x.reshape(4, 2)),
    "constant": lambda x: np.ones(3),
}


def written(x: Any) -> Any:
    y = np.zeros_like(x)
    y[2:4] = x[:2] * x[2:4]
    y[[6, 7]] = x[0]
    return y


PATTERNS["written"] = written


@pytest.mark.parametrize("name", PATTERNS)
def test_the_pattern_is_that_of_the_jacobian(name: str) -> None:
    f, x = PATTERNS[name], RNG.normal(size=8)
    exact = dk.jacobian(f, x)
    size = np.size(f(x))
    assert np.array_equal(matrix(pattern(f, x)), exact.reshape(size, 8) != 0)
    np.testing.assert_allclose(dk.jacobian(f, x, backend=AUTO), exact, rtol=1e-13)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.linalg.solve(np.eye(4) + np.outer(x, x), x),
        lambda x: np.convolve(x, x),
        lambda x: np.where(x > 0, x, x[::-1]),
        lambda x: np.maximum(x, x[::-1]),
        lambda x: np.max(x.reshape(2, 2), axis=1),
        lambda x: np.sort(x)[:2] * np.median(x),
    ],
)
def test_what_is_not_known_counts_as_depending(f: Any) -> None:
    x = RNG.normal(size=4)
    exact = dk.jacobian(f, x)
    assert np.all(matrix(pattern(f, x)) >= (exact != 0))
    np.testing.assert_allclose(dk.jacobian(f, x, backend=AUTO), exact, rtol=1e-12, atol=1e-13)


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_groups_share_no_row(columns: list[list[int]]) -> None:
    found = Sparsity(6, len(columns), tuple(tuple(sorted(set(rows))) for rows in columns))
    groups = found.colours()
    assert sorted(j for group in groups for j in group) == list(range(len(columns)))
    for group in groups:
        rows = [row for j in group for row in found.by_column[j]]
        assert len(rows) == len(set(rows))
    turned = found.transposed()
    assert np.array_equal(matrix(turned), matrix(found).T)


# ---------------------------------------------------------------------- symmetric matrices


def symmetric_pattern(n: int, pairs: list[tuple[int, int]]) -> Sparsity:
    i, j = np.array([*pairs, *((b, a) for a, b in pairs), *((k, k) for k in range(n))]).T
    return Sparsity.of(np.bincount(i * n + j, minlength=n * n).reshape(n, n) > 0)


PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=24)


@given(PAIRS)
@settings(deadline=None, max_examples=80)
def test_a_symmetric_matrix_is_read_off_the_sums_of_its_groups(pairs: Any) -> None:
    found = symmetric_pattern(9, pairs)
    full = np.where(matrix(found), RNG.normal(size=(9, 9)), 0.0)
    full = full + full.T
    groups = found.star_colours()
    assert sorted(v for group in groups for v in group) == list(range(9))
    sums = np.stack([full[:, group].sum(axis=1) for group in groups])
    for i, j in zip(*found.entries(), strict=True):
        assert any(
            sums[g, row] == full[i, j]
            for row, column in ((i, j), (j, i))
            for g, group in enumerate(groups)
            if column in group and np.count_nonzero(full[row, group]) <= 1
        )


def arrowhead(x: Any) -> Any:
    return np.sum(x[0] * x[1:] ** 3) + x[0] ** 4


def chain(x: Any) -> Any:
    return np.sum((x[1:] * x[:-1]) ** 2) + np.sum(x**3)


def loop(x: Any) -> Any:
    return np.sum(np.sin(x * np.roll(x, 1)))


def grid(x: Any) -> Any:
    x = x.reshape(6, 6)
    return np.sum((x[1:] * x[:-1]) ** 2) + np.sum((x[:, 1:] * x[:, :-1]) ** 2) + np.sum(x**3)


@pytest.mark.parametrize(
    ("f", "size", "by_columns", "products"),
    [(arrowhead, 30, 30, 2), (chain, 30, 3, 3), (loop, 31, 4, 3), (grid, 36, 7, 5)],
)
def test_a_hessian_takes_few_products(f: Any, size: int, by_columns: int, products: int) -> None:
    """A star's hub needs one product and its rim another; a path of four three in all."""
    x = RNG.normal(size=size)
    hessian = dk.hessian(f, x)
    found = Sparsity.of(hessian != 0)
    assert len(found.colours()) >= by_columns
    assert len(found.star_colours()) <= products
    for backend in (AUTO, dk.Tape(sparsity=hessian != 0)):
        np.testing.assert_allclose(
            dk.hessian(f, x, backend=backend), hessian, rtol=1e-13, atol=1e-13
        )


def test_a_hessian_by_stars_is_as_large_as_it_likes() -> None:
    x = RNG.normal(size=20_000)
    found = dk.hessian(arrowhead, x, backend=SPARSE)
    np.testing.assert_allclose(found[[0]].toarray()[0, 1:], 3 * x[1:] ** 2, rtol=1e-13)
    np.testing.assert_allclose(found.diagonal()[1:], 6 * x[0] * x[1:], rtol=1e-13)


# ---------------------------------------------------------------------- points and courses


def test_prepared_at_other_points_orders_labels_and_courses() -> None:
    def f(x: Any, labels: Any) -> Any:
        picked = x[labels] ** 2 + np.sort(x)[:3]
        return picked * 2 if x[0] > 0 else picked[:, None] * x

    prepared = dk.prepare(f, np.arange(1.0, 9.0), np.array([0, 1, 2]), backend=AUTO)
    for _ in range(6):
        x, labels = RNG.normal(size=8), RNG.integers(0, 8, 3)
        np.testing.assert_allclose(prepared.jacobian(x, labels), dk.jacobian(f, x, labels))


def test_at_a_tie_what_lies_beside_it_counts() -> None:
    def f(x: Any) -> Any:
        return np.sort(x) * 2 + np.maximum(x, x[::-1]) - np.where(x > x[::-1], x, x[::-1])

    x = np.array([1.0, 3.0, 1.0])
    with pytest.warns(dk.KinkWarning):
        expected = dk.jacobian(f, x)
    with pytest.warns(dk.KinkWarning):
        np.testing.assert_array_equal(dk.jacobian(f, x, backend=AUTO), expected)
    with pytest.warns(dk.KinkWarning):
        np.testing.assert_array_equal(dk.jacobian(f, x, backend=SPARSE).toarray(), expected)


def test_structures_come_block_by_block() -> None:
    def f(p: Any) -> Any:
        return np.sum(p["a"] ** 3) + p["b"] ** 2 * p["a"][0]

    p = {"a": np.arange(3.0), "b": 2.0}
    dense, sparse = dk.hessian(f, p), dk.hessian(f, p, backend=SPARSE)
    np.testing.assert_array_equal(sparse["a"]["a"].toarray(), dense["a"]["a"])
    np.testing.assert_array_equal(sparse["a"]["b"].toarray()[:, 0], dense["a"]["b"])
    np.testing.assert_array_equal(sparse["b"]["b"].toarray()[0, 0], dense["b"]["b"])


def test_ten_thousand_columns_take_a_few_sweeps() -> None:
    def rosenbrock(x: Any) -> Any:
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    x = RNG.normal(size=10_000)
    hessian = dk.hessian(rosenbrock, x, backend=SPARSE)
    assert hessian.nnz == 3 * 10_000 - 2
    v = RNG.normal(size=10_000)
    np.testing.assert_allclose(hessian @ v, dk.hvp(rosenbrock, x, v), rtol=1e-11, atol=1e-9)


# ---------------------------------------------------------------------- options


def test_a_pattern_of_ones_own() -> None:
    given_pattern = differences(6) != 0
    backend = dk.Tape(sparsity=given_pattern)
    exact = dk.jacobian(lambda x: np.diff(x) ** 2, X)
    np.testing.assert_array_equal(dk.jacobian(lambda x: np.diff(x) ** 2, X, backend=backend), exact)
    with pytest.raises(dk.InvalidInput, match="leaves out entries that are not zero, in row 0"):
        dk.jacobian(lambda x: np.diff(x) ** 2, X, backend=dk.Tape(sparsity=np.eye(5, 6)))
    with pytest.raises(dk.InvalidInput, match=r"shape \(5, 6\), and the Jacobian has \(6, 6\)"):
        dk.jacobian(lambda x: x**2, X, backend=backend)
    with pytest.raises(dk.InvalidInput, match="must be 'auto', a matrix or None"):
        dk.Tape(sparsity="dense")


def test_a_derivative_that_is_not_finite_names_its_entries() -> None:
    with pytest.raises(dk.NonFiniteDerivative) as refusal:
        dk.jacobian(np.sqrt, np.array([1.0, 0.0, 4.0]), backend=SPARSE)
    assert refusal.value.entries == ("d sqrt(x)[1] / d x[1]",)


def test_without_scipy_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(dk.UnsupportedOperation, match="SciPy is not installed"):
        dk.jacobian(np.sin, X, backend=SPARSE)
    assert dk.jacobian(np.sin, X, backend=AUTO).shape == (6, 6)
