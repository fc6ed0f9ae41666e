"""What every scenario may be crossed with: dtypes, other sizes, several directions, data, F order.

Each modifier runs against every backend, on functions with hand-written derivatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import diffkit as dk

BACKENDS = ("analytic", "finite", "symbolic", "tape")
DTYPES = (np.float16, np.float32, np.float64, np.longdouble)


def f(x: Any) -> Any:
    """A sum with Python constants, which must not promote the dtype."""
    return np.sum(2.0 * np.exp(x) / 3 + x**2)


def f_gradient(x: Any) -> Any:
    return 2 * np.exp(x) / 3 + 2 * x


def f_hessian(x: Any) -> Any:
    return np.diag(2 * np.exp(x.ravel()) / 3 + 2).reshape(x.shape + x.shape)


def g(x: Any) -> Any:
    return np.stack([x[0] * x[1], x[0] ** 2, np.sin(x[1])])


def g_jacobian(x: Any) -> Any:
    return np.array([[x[1], x[0]], [2 * x[0], 0 * x[0]], [0 * x[0], np.cos(x[1])]])


@pytest.fixture(autouse=True)
def closed_forms() -> None:
    dk.register(f, gradient=f_gradient, hessian=f_hessian)
    dk.register(g, jacobian=g_jacobian)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_every_floating_dtype_comes_back(dtype: Any, backend: str) -> None:
    x = np.array([0.5, 1.25, -0.75], dtype)
    value, gradient = dk.value_and_gradient(f, x, backend=backend)
    assert np.asarray(value).dtype == dtype
    assert gradient.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    # Differences lose about a third of the digits of the dtype, at worst; the others nothing.
    allowed = 16 * eps ** (2 / 3) if backend == "finite" else 16 * eps
    expected = f_gradient(x.astype(np.longdouble))
    np.testing.assert_allclose(gradient.astype(np.longdouble), expected, rtol=allowed)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "x", [2, np.int32(2), np.float32(2.0), 2.0], ids=lambda x: type(x).__name__
)
def test_a_number_of_any_type(x: Any, backend: str) -> None:
    def square(x: Any) -> Any:
        return x**2 + 2 * x + 1

    dk.register(square, derivative=lambda x: 2 * x + 2)
    result = dk.derivative(square, x, backend=backend)
    assert result == pytest.approx(6.0, rel=1e-5)
    assert result.dtype == (np.float32 if isinstance(x, np.float32) else np.float64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_prepared_at_one_layout_and_called_at_others(backend: str) -> None:
    prepared = dk.prepare(f, np.array([0.5, 1.0]), backend=backend)
    for x in (
        np.linspace(-1, 1, 5),
        np.array([0.5], np.float32),
        np.ones((2, 2)) / 4,
        np.zeros(0),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6.0)[::-2],
    ):
        before = x.copy()
        gradient = prepared.gradient(x)
        assert gradient.shape == x.shape
        assert gradient.dtype == x.dtype
        rtol = 1e-9 if x.dtype == np.float64 else 1e-3
        np.testing.assert_allclose(gradient, f_gradient(x), rtol=rtol)
        assert np.array_equal(x, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_directions_at_once(backend: str) -> None:
    x = np.array([0.75, -0.5])
    J = g_jacobian(x)
    tangents = np.array([[1.0, 0.0], [0.5, -2.0], [3.0, 1.0]])
    cotangents = np.array([[1.0, 0.0, 2.0], [-1.0, 1.0, 0.5]])
    pushed = dk.jvp(g, x, tangents, batched=True, backend=backend)
    np.testing.assert_allclose(pushed, tangents @ J.T, rtol=1e-9, atol=1e-12)
    value, pulled = dk.vjp(g, x, cotangents, batched=True, value=True, backend=backend)
    np.testing.assert_allclose(value, g(x), rtol=1e-15)
    np.testing.assert_allclose(pulled, cotangents @ J, rtol=1e-9, atol=1e-12)
    products = dk.hvp(f, x, tangents, batched=True, backend=backend)
    np.testing.assert_allclose(products, tangents @ f_hessian(x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_share_no_memory_with_what_was_given(backend: str) -> None:
    def copy_of(x: Any) -> Any:
        return x

    dk.register(copy_of, jacobian=lambda x: np.eye(len(x)))
    x, w = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    prepared = dk.prepare(copy_of, x, backend=backend)
    value, pulled = prepared.vjp(x, w, value=True)
    value[:] = 0
    pulled[:] = 0
    assert np.array_equal(x, [1.0, 2.0])
    assert np.array_equal(w, [3.0, 4.0])
    assert np.array_equal(prepared.vjp(x, w), [3.0, 4.0])


@pytest.mark.parametrize("backend", ["finite", "symbolic", "tape"])
def test_data_are_not_differentiated_and_may_change(backend: str) -> None:
    def loss(p: Any, X: Any, y: Any, power: int) -> Any:
        return np.sum((X @ p["w"] + p["b"] - y) ** power)

    rng = np.random.default_rng(3)
    p = {"w": rng.normal(size=2), "b": 0.5}
    prepared = dk.prepare(loss, p, np.ones((3, 2)), np.ones(3), 2, backend=backend)
    for power in (2, 4):
        X, y = rng.normal(size=(3, 2)), rng.normal(size=3)
        slope = power * (X @ p["w"] + p["b"] - y) ** (power - 1)
        gradient = prepared.gradient(p, X, y, power)
        np.testing.assert_allclose(gradient["w"], slope @ X, rtol=1e-8)
        np.testing.assert_allclose(gradient["b"], slope.sum(), rtol=1e-8)


@pytest.mark.parametrize("backend", ["finite", "symbolic", "tape"])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_higher_derivatives_of_a_number(backend: str, power: int) -> None:
    result = dk.derivative(lambda x: np.sin(2 * x), 0.3, order=power, backend=backend)
    expected = 2**power * np.sin(0.6 + power * np.pi / 2)
    assert result == pytest.approx(expected, rel=1e-6)


def test_texts_and_sympy_expressions_become_functions() -> None:
    import sympy

    x, y = sympy.symbols("x y")
    text = dk.parse("x**2 * sin(y)")
    tree = dk.from_sympy(x**2 * sympy.sin(y), [x, y])
    at = {"x": 1.5, "y": 0.5}
    for function in (text, tree):
        for backend in ("finite", "symbolic", "tape"):
            gradient = dk.gradient(function, at, backend=backend)
            assert gradient["x"] == pytest.approx(3 * np.sin(0.5), rel=1e-9)
            assert gradient["y"] == pytest.approx(2.25 * np.cos(0.5), rel=1e-9)
