"""The interface: a fifth backend needs one hook, and gets every operator from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import diffkit as dk
from diffkit.errors import InvalidInput, NonFiniteDerivative, UnsupportedOperation
from diffkit.interface import Cost, Differentiator, Prepared
from diffkit.structure import Leaves
from diffkit.target import Output, Point, Target

STEP = 1e-20


class Forward(Prepared):
    """A third party's complex step, as a forward product."""

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        moved = [x + 1j * STEP * v for x, v in zip(point.leaves, tangents, strict=True)]
        changed = self.target.call(point.layout.unflatten(moved), point.data)
        return self._value(point), [np.imag(changed) / STEP]


class Reverse(Prepared):
    """A third party's pullback: that of matrix times vector, known by heart."""

    def _vjp(self, point: Point, cotangents: Callable[[Output], Leaves]) -> tuple[Output, Leaves]:
        output = self._value(point)
        return output, [point.data[0].T @ cotangents(output)[0]]


class Blocks(Prepared):
    """A third party's Jacobian."""

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        return self._value(point), [[point.data[0]]]


class Nothing(Prepared):
    pass


@dataclass(frozen=True)
class Fifth(Differentiator):
    name: ClassVar[str] = "fifth"
    kind: type[Prepared] = Forward

    def bind(self, target: Target, point: Point) -> Prepared:
        return self.kind(self, target)


def product(x: Any, A: Any) -> Any:
    return A @ x


A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
X = np.array([0.5, -1.0, 2.0])
V, W = np.array([1.0, 0.0, -2.0]), np.array([3.0, -1.0])


@pytest.mark.parametrize("kind", [Forward, Reverse, Blocks], ids=lambda kind: kind.__name__)
def test_every_operator_follows_from_one_hook(kind: type[Prepared]) -> None:
    backend = Fifth(kind)
    assert np.array_equal(dk.jacobian(product, X, A, backend=backend), A)
    np.testing.assert_allclose(dk.jvp(product, X, V, A, backend=backend), A @ V, rtol=1e-15)
    assert np.array_equal(dk.vjp(product, X, W, A, backend=backend), A.T @ W)


def test_scalar_operators_follow_from_a_forward_product() -> None:
    def f(x: Any) -> Any:
        return np.sum(x**3)

    backend = Fifth()
    value, gradient = dk.value_and_gradient(f, X, backend=backend)
    assert value == f(X)
    np.testing.assert_allclose(gradient, 3 * X**2, rtol=1e-15)
    assert dk.derivative(np.sin, 0.5, backend=backend) == pytest.approx(np.cos(0.5), rel=1e-15)


def test_second_derivatives_nest_the_backend() -> None:
    class Exact(Prepared):
        """x^3 entry by entry, summed: the gradient as a function that can be differentiated."""

        def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
            (x,) = point.leaves
            output = self._value(point)
            if output.layout.is_scalar:
                return output, [[3 * x**2]]
            return output, [[np.diag(6 * x)]]

    backend = Fifth(Exact)

    def f(x: Any) -> Any:
        return np.sum(x**3)

    assert np.array_equal(dk.hessian(f, X, backend=backend), np.diag(6 * X))
    assert np.array_equal(dk.hvp(f, X, V, backend=backend), 6 * X * V)


def test_a_backend_without_a_hook_says_so() -> None:
    with pytest.raises(UnsupportedOperation, match="implements none of _jvp, _vjp"):
        dk.jacobian(product, X, A, backend=Fifth(Nothing))


def test_an_estimate_of_an_exact_method_has_no_error() -> None:
    estimate = dk.prepare(product, X, A, backend=Fifth(Blocks)).estimate(X, A)
    assert np.array_equal(estimate.value, A)
    assert estimate.error is None
    assert Fifth().prepare(product, X, A).cost == Cost(0, None)


@pytest.mark.parametrize("backend", ["analytic", "finite", "symbolic", "tape"])
def test_value_and_estimate_of_every_backend(backend: str) -> None:
    def f(x: Any) -> Any:
        return np.exp(x)

    dk.register(f, derivative=np.exp)
    prepared = dk.prepare(f, 0.5, backend=backend)
    assert prepared.value(0.5) == np.exp(0.5)
    estimate = prepared.estimate(0.5)
    error = abs(estimate.value - np.exp(0.5))
    assert error <= (4e-16 if estimate.error is None else estimate.error)


def test_leaves_that_are_not_finite_are_named_with_their_place_in_the_structure() -> None:
    def f(p: Any) -> Any:
        return {"sum": np.sum(np.sqrt(p["w"])), "first": p["w"][0] * 2}

    with pytest.raises(NonFiniteDerivative) as caught:
        dk.jacobian(f, {"w": np.array([4.0, 0.0])})
    assert caught.value.entries == ("d sum / d w[1]",)
    assert caught.value.value["sum"]["w"][0] == 0.25
    assert np.array_equal(caught.value.value["first"]["w"], [2.0, 0.0])


def test_long_lists_of_entries_are_cut() -> None:
    with pytest.raises(NonFiniteDerivative, match=r"x\[4\] and 5 more"):
        dk.gradient(lambda x: np.sum(np.sqrt(x)), np.zeros(10))


def test_batches_need_entries() -> None:
    with pytest.raises(InvalidInput, match="at least one entry"):
        dk.jvp(np.sin, X, np.zeros((0, 3)), batched=True)


def test_several_arguments_at_once() -> None:
    def f(a: Any, b: Any, c: Any) -> Any:
        return np.sum(a["u"] * b) + c

    by_a, by_b = dk.gradient(f, {"u": X}, V, 1.0, wrt=(0, 1))
    assert np.array_equal(by_a["u"], V)
    assert np.array_equal(by_b, X)
    prepared = dk.prepare(f, {"u": X}, V, 1.0, wrt=1)
    assert np.array_equal(prepared.gradient({"u": X}, V, 1.0), X)


@pytest.mark.parametrize("wrt", [(0, 0), (), "x", True, 2, -1, (0, 5)])
def test_wrt_names_distinct_positions(wrt: Any) -> None:
    with pytest.raises(InvalidInput, match="distinct positional arguments"):
        dk.gradient(lambda x, y: np.sum(x * y), X, V, wrt=wrt)


@pytest.mark.parametrize("backend", ["finite", "symbolic", "tape"])
def test_a_batch_with_an_infinite_product_is_refused_by_name(backend: str) -> None:
    x = np.array([4.0, 0.0])
    with pytest.raises(NonFiniteDerivative, match="of product 1") as caught:
        dk.jvp(np.sqrt, x, np.eye(2), batched=True, backend=backend)
    np.testing.assert_allclose(caught.value.value[0], [0.25, 0.0], rtol=1e-12)


def test_entries_of_a_hessian_are_named_as_second_derivatives() -> None:
    with pytest.raises(NonFiniteDerivative) as caught:
        dk.hessian(lambda x: np.sum(x**1.5), np.array([0.0, 1.0]))
    assert caught.value.entries == ("d^2 / d x[0] d x[0]",)
