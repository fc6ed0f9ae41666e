"""Derivatives that are in range, though numbers on the way to them are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.backends.tape.underflow import in_range
from diffkit.errors import UnderflowWarning
from diffkit.truth import gradient as exact


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


SMALL: list[tuple[str, Callable[[Any], Any], float]] = [
    *((f"sigmoid at {x}", sigmoid, x) for x in (-372.0, -400.0, -600.0, -700.0, -708.0)),
    ("its square", lambda x: sigmoid(x) ** 2, -340.0),
    ("its logarithm", lambda x: np.log(sigmoid(x)), -700.0),
    ("weighted", lambda x: 1e8 * sigmoid(x) + x * 1e-250, -560.0),
    ("an odds ratio", lambda x: np.exp(x) / (1 + np.exp(x)), -700.0),
    ("a reciprocal", lambda x: 1 / (x * 1e200), 1.0),
    ("a far tail", lambda x: 1 / np.cosh(x) ** 2, 340.0),
]


@pytest.mark.parametrize(("name", "f", "x"), SMALL, ids=[case[0] for case in SMALL])
def test_a_derivative_in_range_is_found(name: str, f: Any, x: float) -> None:
    (expected,) = (float(e.midpoint) for e in exact(f, x).enclosures)
    assert dk.derivative(f, x) == pytest.approx(expected, rel=1e-12)
    assert dk.jvp(f, x, 1.0) == pytest.approx(expected, rel=1e-12)
    assert dk.vjp(f, x, 1.0) == pytest.approx(expected, rel=1e-12)
    assert dk.gradient(f, x) == pytest.approx(expected, rel=1e-12)
    prepared = dk.prepare(f, 0.5)
    many = dk.prepare(lambda x: np.sum(f(x)), np.array([0.5, 1.0]))
    for _ in range(3):
        prepared.gradient(0.5), many.gradient(np.array([0.5, 1.0]))
    assert prepared.gradient(x) == pytest.approx(expected, rel=1e-12)
    assert many.gradient(np.array([x, 0.5]))[0] == pytest.approx(expected, rel=1e-12)
    assert dk.gradient(lambda x: np.sum(f(x)), np.array([0.5, x]))[1] == pytest.approx(expected)


@pytest.mark.parametrize("x", [-20.0, -60.0, -80.0])
def test_in_single_precision_too(x: float) -> None:
    at = np.array([x, 0.5], np.float32)
    expected = np.exp(np.float64(at[0]))
    for found in (dk.vjp(sigmoid, at, np.ones(2, np.float32)), dk.jvp(sigmoid, at, np.ones(2))):
        assert found.dtype == np.float32
        assert found[0] == pytest.approx(expected, rel=1e-4)


def test_so_are_jacobians_products_and_hessians_of_many() -> None:
    x = np.linspace(-700, -350, 8)
    with np.errstate(all="ignore"):
        slope = np.exp(x)
    for backend in (dk.Tape(), dk.Tape(sparsity="auto")):
        found = dk.jacobian(sigmoid, x, backend=backend)
        np.testing.assert_allclose(found.diagonal(), slope, rtol=1e-12)
    found = dk.jvp(sigmoid, x, np.eye(8), batched=True)
    np.testing.assert_allclose(found.diagonal(), slope, rtol=1e-12)


def test_second_derivatives_are_found_or_their_loss_is_told() -> None:
    prepared = dk.prepare(lambda x: np.sum(sigmoid(x)), np.ones(8))
    for _ in range(3):
        prepared.hvp(np.ones(8), np.ones(8))
    x = np.linspace(-440, -350, 8)
    for found in (
        prepared.hvp(x, np.ones(8)),
        prepared.hvp(x, np.eye(8), batched=True).diagonal(),
        prepared.hessian(x).diagonal(),
    ):
        np.testing.assert_allclose(found, np.exp(x), rtol=1e-12)
    with pytest.warns(UnderflowWarning):
        prepared.hvp(np.linspace(-700, -690, 8), np.ones(8))


def test_each_entry_is_taken_from_the_scale_that_suits_it() -> None:
    def f(x: Any) -> Any:
        return sigmoid(x[0]) + 1e300 * x[1] + np.exp(x[2])

    found = dk.gradient(f, np.array([-400.0, 2.0, 600.0]))
    np.testing.assert_allclose(found, [np.exp(-400.0), 1e300, np.exp(600.0)], rtol=1e-12)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.tanh, 400.0),
        (lambda x: np.exp(-x * x), 40.0),
        (lambda x: np.log(np.sum(np.exp(np.stack([x, 0.0])))), -800.0),
        (lambda x: np.maximum(x, 0), -1.0),
        (lambda x: np.prod(np.stack([x, 1e-200, 1e-200])), 1.0),
    ],
)
def test_what_is_too_small_in_truth_is_zero_without_a_word(f: Any, x: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert abs(dk.gradient(f, x)) < 1e-300
        assert abs(dk.derivative(f, x)) < 1e-300


def test_what_no_scale_keeps_in_range_is_told() -> None:
    """Beside an adjoint of 1e250, which forbids a large factor, stands one that needs it."""

    def f(x: Any) -> Any:
        return sigmoid(x) + (x * 1e-308) * 1e-250 * 1e250

    for derivative in (dk.gradient, dk.derivative, lambda f, x: dk.vjp(f, x, 1.0)):
        with pytest.warns(UnderflowWarning, match="too small"):
            derivative(f, -500.0)
    with pytest.warns(UnderflowWarning):
        assert set(dk.prepare(f, 0.5).estimate(-500.0).status.values()) == {"noisy"}


def test_an_estimate_charges_what_underflowed_in_the_function() -> None:
    """The square of 1e-160 has five digits."""
    x, f = 1e-160, lambda x: np.sqrt(x * x + x * x)
    found = dk.prepare(f, x).estimate(x)
    assert found.status == {"x": "noisy"}
    assert abs(found.value - 2**0.5) <= found.error


def test_a_scale_that_overflows_does_not_count() -> None:
    def apply(factor: float) -> list[Any]:
        tiny = np.float64(1e-200) * np.float64(1e-200)  # reported
        return [np.array([factor * 3.0, 1e10 * factor, np.nan if factor > 1 else 2.0]) + tiny]

    found = in_range(apply)
    np.testing.assert_array_equal(found.leaves[0], [3.0, 1e10, 2.0])


def test_a_derivative_that_is_fine_takes_one_walk() -> None:
    factors = []

    def apply(factor: float) -> list[Any]:
        factors.append(factor)
        return [np.float64(factor)]

    assert in_range(apply).leaves == [1.0]
    assert factors == [1.0]


def bounded(x: Any) -> Any:
    return np.sum(np.float32(1) / (np.float32(1) + np.exp(-x)))


def bounded_and_more(x: Any) -> Any:
    return np.sum(1 / (1 + np.exp(-x["a"]))) + np.sum(x["b"] ** 2)


@pytest.mark.parametrize(
    ("f", "near", "far"),
    [
        (bounded, np.zeros(2, np.float32), np.array([-60, -50], np.float32)),
        (bounded, np.zeros(2), np.array([-500.0, -400.0])),
        (
            bounded_and_more,
            {"a": np.zeros(2), "b": np.ones(2, np.float32)},
            {"a": np.array([-400.0, -400.0]), "b": np.ones(2, np.float32)},
        ),
        (
            lambda x: np.sum(x["a"] * x["c"] * x["b"] * x["b"]),
            {"a": np.ones(2), "b": np.ones(2), "c": np.ones(2)},
            {"a": np.full(2, 1e100), "b": np.full(2, 1e-200), "c": np.full(2, 1e200)},
        ),
    ],
)
def test_a_program_finds_what_underflows_in_it_in_any_dtype(f: Any, near: Any, far: Any) -> None:
    expected = dk.gradient(f, far)
    prepared = dk.prepare(f, near)
    for _ in range(3):
        prepared.gradient(near)
    found = prepared.gradient(far)
    for name in far if isinstance(far, dict) else (...,):
        assert np.all(expected[name] != 0)
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=0)
