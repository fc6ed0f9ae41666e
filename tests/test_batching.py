"""A batch along a leading axis gives what its members give one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.backends.tape import jacobians
from diffkit.tracing import trace
from diffkit.tracing.batching import evaluate_batched

RNG = np.random.default_rng(11)
M = RNG.normal(size=(3, 4))
ROWS = np.array([2, 0, 2])
SQUARE = 4 * np.eye(4) + RNG.normal(size=(4, 4))


def write(y: Any, index: Any, value: Any) -> Any:
    y = y * 1.0
    y[index] = value
    return y


# Functions of x of shape (3, 4), each with one operation that is to be batched.
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: x * M + M[0] - x[0] / x[:, :1],
    "elementwise of lower rank": lambda x: x[0, 0] * M + x[1] * M,
    "comparison": lambda x: np.where(x > 0, x, M[0]),
    "reshape": lambda x: np.reshape(x, (2, -1)),
    "reshape by columns": lambda x: np.reshape(x, (4, 3), order="F"),
    "transpose": lambda x: x.T,
    "swapped": lambda x: np.transpose(x[None], (2, 0, 1)),
    "broadcast": lambda x: np.broadcast_to(x[1], (2, 3, 4)),
    "flipped": lambda x: np.flip(x) + np.roll(x, 1, axis=1),
    "padded": lambda x: np.pad(x, 1)[1:, 1:],
    "tiled": lambda x: np.tile(x, 2),
    "repeated": lambda x: np.repeat(x, [1, 0, 2], axis=0),
    "triangle": lambda x: np.tril(x) + np.triu(x, 1),
    "diagonal": lambda x: np.diagonal(x[:, :3]) + np.diag(x[0])[0, :3],
    "entry": lambda x: x[1, 2],
    "slices": lambda x: x[::-1, 1:3],
    "rows": lambda x: x[ROWS],
    "columns": lambda x: x[:, ROWS],
    "pairs": lambda x: x[ROWS, ROWS],
    "separated": lambda x: x[None][0, :, ROWS],
    "separated by new axes": lambda x: x[ROWS, None, ROWS],
    "mask": lambda x: x[np.array([True, False, True])],
    "sum": lambda x: np.sum(x),
    "sum of rows": lambda x: np.sum(x, axis=-1, keepdims=True),
    "sum of all axes": lambda x: np.sum(x, axis=(0, 1)),
    "mean": lambda x: np.mean(x, axis=0),
    "running sum": lambda x: np.cumsum(x, axis=0) + np.cumsum(x, axis=-1),
    "running product": lambda x: np.cumprod(x, axis=1),
    "product": lambda x: np.prod(x, axis=0),
    "joined": lambda x: np.concatenate([x, M, x[:1]]),
    "joined at the end": lambda x: np.concatenate([x, M[:, :1]], axis=-1),
    "stacked": lambda x: np.stack([x, M], axis=-1),
    "stacked numbers": lambda x: np.array([x[0, 0], 3.0, x[2, 3]]),
    "written": lambda x: write(x, (slice(1), slice(2)), x[1:2, :2]),
    "written into a constant": lambda x: write(np.zeros_like(x), 1, x[0]),
    "written by rows": lambda x: write(x, [0, 2], x[1]),
    "added": lambda x: np.bincount([0, 1, 1, 3], weights=x[0]),
    "matrix by matrix": lambda x: x @ SQUARE,
    "matrix before": lambda x: M.T @ x,
    "two matrices": lambda x: x @ x.T,
    "vectors": lambda x: x[0] @ x[1] + M[0] @ x[1] + x[0] @ M[1],
    "vector by matrix": lambda x: x[0] @ SQUARE + M[0] @ x.T[:, :4].T[0] * x[0],
    "matrix by vector": lambda x: SQUARE @ x[0] + (x @ M[0])[0],
    "stacks": lambda x: np.stack([x, x * 2]) @ SQUARE,
    "stack before vector": lambda x: np.stack([SQUARE, SQUARE]) @ x[0],
    "vector before stack": lambda x: x[0] @ np.stack([SQUARE, SQUARE]),
    "contraction": lambda x: np.einsum("ij,jk,lk->il", x, SQUARE, x),
    "trace": lambda x: np.einsum("ii->i", x[:, :3]) + np.trace(x),
    "convolution": lambda x: np.convolve(x[0], x[1]),
    "system": lambda x: np.linalg.solve(SQUARE, x.T),
    "system of x": lambda x: np.linalg.solve(SQUARE + np.outer(x[0], x[1]), x[2]),
    "determinant": lambda x: np.linalg.det(x[:, :3]),
    "largest": lambda x: np.max(x, axis=1),
    "sorted": lambda x: np.sort(x, axis=0),
    "norm": lambda x: np.linalg.norm(x, axis=0),
    "cast": lambda x: x.astype(np.float32).astype(float),
    "constant": lambda x: M,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_batch_gives_what_its_members_give(name: str) -> None:
    f = OPERATIONS[name]
    batch = RNG.normal(size=(5, 3, 4))
    if name in ("largest", "sorted"):  # of one order, which the recording holds for
        batch = np.sort(np.sort(batch, axis=1), axis=2)
    graph = trace(f, batch[0])
    (found,) = evaluate_batched(graph, [node.value for node in graph.nodes], [batch])
    expected = np.stack([f(member) for member in batch])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_jacobian_in_one_sweep_is_that_of_single_rows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, x = OPERATIONS[name], RNG.normal(size=(3, 4))
    together = dk.jacobian(f, x)
    hessian = dk.hessian(lambda x: np.sum(f(x) ** 2), x)
    monkeypatch.setattr(jacobians, "blocks", lambda graph, values: None)
    np.testing.assert_allclose(together, dk.jacobian(f, x), rtol=1e-12, atol=1e-12)
    by_rows = dk.hessian(lambda x: np.sum(f(x) ** 2), x)
    np.testing.assert_allclose(hessian, by_rows, rtol=1e-11, atol=1e-11)


def test_tall_and_wide_and_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = RNG.normal(size=9)
    tall = dk.jacobian(lambda x: np.outer(x, x), x)
    wide = dk.jacobian(lambda x: x[:7] ** 2 * np.sum(x), x)
    monkeypatch.setattr(jacobians, "LARGEST", 100)  # so that batches run in parts
    np.testing.assert_array_equal(dk.jacobian(lambda x: np.outer(x, x), x), tall)
    np.testing.assert_array_equal(dk.jacobian(lambda x: x[:7] ** 2 * np.sum(x), x), wide)
    eye = np.eye(9)
    np.testing.assert_array_equal(
        tall, eye[:, None, :] * x[None, :, None] + x[:, None, None] * eye[None]
    )


def test_structures_and_dtypes() -> None:
    x = {"a": np.arange(1.0, 7.0).reshape(2, 3), "b": np.float32(2.0), "c": [np.ones(2)]}

    def f(x: Any) -> Any:
        return [x["a"] * x["b"], np.sum(x["a"]) * x["c"][0], np.sin(x["b"])]

    jacobian = dk.jacobian(f, x)
    assert jacobian[0]["a"].shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(jacobian[0]["b"], x["a"])
    np.testing.assert_array_equal(jacobian[1]["c"][0], 21 * np.eye(2))
    assert jacobian[2]["b"].dtype == np.float32
    assert jacobian[0]["b"].dtype == np.float32
    assert jacobian[1]["a"].dtype == np.float64


def test_an_infinite_slope_that_is_dropped_leaves_no_nan() -> None:
    x = np.arange(10.0)
    jacobian = dk.jacobian(lambda x: np.where(x > 0.5, np.sqrt(np.abs(x)), 3 * x), x)
    np.testing.assert_allclose(np.diag(jacobian), [3.0, *(0.5 / np.sqrt(x[1:]))])


def test_inside_another_derivative() -> None:
    def f(x: Any) -> Any:
        return np.sum(dk.jacobian(lambda t: np.outer(t, t) * np.sum(t), x) ** 2)

    x = RNG.normal(size=7)
    numeric = dk.gradient(f, x, backend="finite")
    np.testing.assert_allclose(dk.gradient(f, x), numeric, rtol=1e-7)


def test_a_hessian_vector_product_is_compiled_and_follows_points_data_and_courses() -> None:
    def f(p: Any, scale: Any) -> Any:
        curved = np.sum(p["a"] ** 3 * scale) * p["b"]
        return curved if p["b"] > 0 else curved**2

    def point() -> dict[str, Any]:
        return {"a": RNG.normal(size=4), "b": RNG.normal()}

    prepared = dk.prepare(f, point(), 2.0)
    for scale in (1.0, 2.0, 3.0, 0.5, 4.0):
        x, v = point(), point()
        value, product = prepared.hvp(x, v, scale, value=True)
        hessian = dk.hessian(f, x, scale)
        expected_a = hessian["a"]["a"] @ v["a"] + hessian["a"]["b"] * v["b"]
        expected_b = hessian["b"]["a"] @ v["a"] + hessian["b"]["b"] * v["b"]
        assert value == pytest.approx(f(x, scale))
        np.testing.assert_allclose(product["a"], expected_a, rtol=1e-12)
        assert product["b"] == pytest.approx(expected_b, rel=1e-12)


def test_a_hessian_vector_product_that_does_not_exist_is_refused() -> None:
    prepared = dk.prepare(lambda x: np.sum(np.log(x)), np.ones(3))
    for _ in range(4):
        assert prepared.hvp(np.ones(3), np.ones(3)).tolist() == [-1.0] * 3
    with pytest.raises(dk.NonFiniteDerivative), np.errstate(all="ignore"):
        prepared.hvp(np.array([1.0, -1.0, 1.0]), np.ones(3))
    with pytest.raises(dk.NonFiniteDerivative), np.errstate(all="ignore"):
        prepared.hvp(np.array([1.0, 0.0, 1.0]), np.ones(3))
