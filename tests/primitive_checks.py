"""Oracles for the rows of the primitive table: differences of values, and NumPy itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import diffkit as dk
from diffkit.tracing.graph import Primitive

STEP = 1e-6


def central_jacobian(f: Callable[[Any], Any], x: Any) -> Any:
    """The Jacobian by central differences of second order, one column per entry of `x`."""
    x = np.asarray(x, float)
    shape = np.shape(f(x))
    columns = []
    for position in range(x.size):
        unit = np.zeros(x.size)
        unit[position] = STEP
        unit = unit.reshape(x.shape)
        columns.append((np.asarray(f(x + unit)) - np.asarray(f(x - unit))) / (2 * STEP))
    if not columns:
        return np.zeros(shape + x.shape)
    return np.stack(columns, axis=-1).reshape(shape + x.shape)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-7) -> None:
    """Equal in shape, and to `tolerance` of the largest entry."""
    assert np.shape(actual) == np.shape(expected)
    scale = 1 + np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def assert_derivatives(f: Callable[[Any], Any], x: Any) -> None:
    """The tape's Jacobian of `f` and Hessian of a weighted sum of squares of its entries."""
    x = np.asarray(x, float)
    assert_close(dk.jacobian(f, x), central_jacobian(f, x), 1e-6)
    weights = np.cos(np.arange(np.size(f(x)))).reshape(np.shape(f(x)))

    def squares(x: Any) -> Any:
        return np.sum(weights * f(x) ** 2)

    gradient = dk.prepare(squares, x).gradient
    assert_close(dk.hessian(squares, x), central_jacobian(gradient, x), 1e-5)


def assert_single_precision(f: Callable[[Any], Any], x: Any) -> None:
    """In float32, the traced value has NumPy's dtype and the derivative that of `x`."""
    x = np.asarray(x, np.float32)
    value = np.asarray(f(x))
    traced, pulled = dk.vjp(f, x, np.ones(value.shape), value=True)
    assert np.asarray(traced).dtype == value.dtype
    assert np.asarray(pulled).dtype == np.float32


def assert_pullback(primitive: Primitive, *arguments: Any, **static: Any) -> None:
    """Each rule of a row, on plain arrays, against differences of the row's own function."""
    value = primitive.function(*arguments, **static)
    g = np.sin(1.0 + np.arange(np.size(value))).reshape(np.shape(value))
    for position, argument in enumerate(arguments):
        pulled = primitive.pull(position, g, value, arguments, static)

        def moved(x: Any, position: int = position) -> Any:
            changed = [*arguments[:position], x, *arguments[position + 1 :]]
            return primitive.function(*changed, **static)

        expected = np.tensordot(g, central_jacobian(moved, argument), np.ndim(value))
        assert_close(unbroadcast(pulled, np.shape(argument)), expected)


def unbroadcast(adjoint: Any, shape: tuple[int, ...]) -> Any:
    """Sum an adjoint over the axes along which its argument was repeated."""
    adjoint = np.asarray(adjoint)
    adjoint = adjoint.sum(axis=tuple(range(adjoint.ndim - len(shape))))
    axes = tuple(i for i, n in enumerate(shape) if n == 1)
    return adjoint.sum(axis=axes, keepdims=True)
