"""The derivative of each smooth elementwise row, to a few units in the last place.

The oracle is a central difference of mpmath's function on 450-digit numbers.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from elementwise_cases import BINARY, EASY, UNARY, M, Oracle, difference, pull

import diffkit as dk

EPS = np.finfo(np.float64).eps

SMOOTH = [
    *((name, f, (x,)) for name, (f, points) in UNARY.items() for x in points),
    *((name, f, point) for name, (f, points) in BINARY.items() for point in points),
]
SMOOTH_IDS = [f"{name}{point}" for name, _, point in SMOOTH]


def assert_close(actual: Any, expected: Any, ulps: float = 16) -> None:
    """Equal to so many relative spacings of float64, or both below its smallest number."""
    expected = float(expected)
    assert abs(float(actual) - expected) <= ulps * EPS * abs(expected) + 1e-307, (actual, expected)


# ---------------------------------------------------------------------- first derivatives


@pytest.mark.parametrize(("name", "f", "point"), SMOOTH, ids=SMOOTH_IDS)
def test_pullback_is_the_derivative(name: str, f: Oracle, point: tuple[float, ...]) -> None:
    arguments = tuple(np.float64(x) for x in point)
    for i in range(len(point)):
        pulled = pull(name, i, *arguments)
        assert_close(0.0 if pulled is None else pulled, difference(f, point, (i,)))


@pytest.mark.parametrize(("name", "f", "point"), SMOOTH, ids=SMOOTH_IDS)
def test_pullback_scales_with_the_adjoint(name: str, f: Oracle, point: tuple[float, ...]) -> None:
    arguments = tuple(np.float64(x) for x in point)
    for i in range(len(point)):
        once, thrice = pull(name, i, *arguments), pull(name, i, *arguments, g=-3.0)
        if once is not None:
            assert_close(thrice, -3 * M.mpf(float(once)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
@pytest.mark.parametrize("name", EASY)
def test_pullback_keeps_the_precision_of_its_arguments(name: str, dtype: Any) -> None:
    f, point = EASY[name]
    arrays = tuple(np.full(3, x, dtype) for x in point)
    for i in range(len(point)):
        beside_numbers = tuple(arrays[j] if j == i else x for j, x in enumerate(point))
        for arguments in (arrays, beside_numbers):
            pulled = pull(name, i, *arguments, g=np.ones(3, dtype))
            if pulled is not None:
                assert pulled.dtype == dtype
                tolerance = 16 * max(float(np.finfo(dtype).eps), EPS)
                expected = float(difference(f, point, (i,)))
                np.testing.assert_allclose(pulled.astype(float), expected, rtol=tolerance)


# ---------------------------------------------------------------------- higher derivatives

NOT_TWICE = {"ratio", "sech", "logistic"}  # rows without a NumPy function of their own
NESTED = [(n, f, p) for n, f, p in SMOOTH if n not in NOT_TWICE]


def numpy_function(name: str) -> Any:
    return getattr(np, name)


@pytest.mark.parametrize(("name", "f", "point"), NESTED, ids=[f"{n}{p}" for n, _, p in NESTED])
def test_second_derivatives_are_right(name: str, f: Oracle, point: tuple[float, ...]) -> None:
    function = numpy_function(name)
    if len(point) == 1:
        expected = difference(f, point, (0, 0))
        if abs(expected) > np.finfo(np.float64).max:
            with pytest.raises(dk.NonFiniteDerivative):
                dk.derivative(function, point[0], order=2)
            return
        scale = abs(difference(f, point, (0,)))
        assert_near(dk.derivative(function, point[0], order=2), expected, scale)
        return
    with np.errstate(all="ignore"):
        hessian = dk.hessian(lambda v: function(v[0], v[1]), np.array(point))
    for i, j in itertools.product(range(2), repeat=2):
        expected = difference(f, point, (i, j))
        size = abs(M.mpf(point[i])) or 1
        assert_near(hessian[i, j], expected, abs(difference(f, point, (j,))) / size)


def assert_near(actual: Any, expected: Any, scale: Any) -> None:
    """Right to 1e-13, relatively or compared with the scale of the terms that cancel."""
    expected = float(expected)
    bound = 1e-13 * max(abs(expected), float(scale)) + 1e-290
    assert abs(float(actual) - expected) <= bound, (actual, expected)


@pytest.mark.parametrize("name", ["tanh", "sinc", "arctan", "arcsinh", "exp2", "log1p", "cosh"])
@pytest.mark.parametrize("x", [0.0, 0.4, -1.3e-5, 0.97])
@pytest.mark.parametrize("order", [3, 4])
def test_higher_derivatives_are_right(name: str, x: float, order: int) -> None:
    f = UNARY[name][0]
    expected = difference(f, (x,), (0,) * order)
    assert_near(dk.derivative(numpy_function(name), x, order=order), expected, 1.0)


# ---------------------------------------------------------------------- powers


def power_gradient(x: float, n: float) -> Any:
    return dk.gradient(lambda v: np.power(v[0], v[1]), np.array([x, n]))


@pytest.mark.parametrize("n", [0, 1, 2, 3, -1, -2, 0.0, 2.0, 2.5])
@pytest.mark.parametrize("x", [-2.0, 0.0, 3.0])
@pytest.mark.parametrize("kind", ["number", "array"])
def test_power_by_its_base_at_every_sign(n: float, x: float, kind: str) -> None:
    if (x < 0 and n != int(n)) or (x == 0 and n < 0):
        return
    expected = 0.0 if n == 0 else n * x ** (n - 1) if x or n != 1 else 1.0
    exponent = n if kind == "number" else np.asarray(n)
    assert dk.derivative(lambda t: t**exponent, x) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["number", "array"])
def test_second_derivative_of_a_whole_power_at_zero(n: int, kind: str) -> None:
    exponent = n if kind == "number" else np.asarray(float(n))
    assert dk.derivative(lambda t: t**exponent, 0.0, order=2) == (2.0 if n == 2 else 0.0)


def test_power_of_zero_by_its_exponent() -> None:
    assert power_gradient(0.0, 2.0).tolist() == [0.0, 0.0]
    assert power_gradient(0.0, 1.0).tolist() == [1.0, 0.0]
    assert dk.hessian(lambda v: v[0] ** v[1], np.array([0.0, 3.0])).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("x", "n"), [(0.0, 0.0), (0.0, -1.0), (-2.0, 2.0)])
def test_power_has_no_derivative_by_the_exponent_there(x: float, n: float) -> None:
    with np.errstate(all="ignore"), pytest.raises(dk.NonFiniteDerivative):
        power_gradient(x, n)


def test_mixed_derivative_of_power_where_log_diverges_is_refused() -> None:
    with pytest.raises(dk.NonFiniteDerivative):
        dk.hessian(lambda v: v[0] ** v[1], np.array([0.0, 1.0]))


def test_mixed_derivative_of_power_at_exponent_zero() -> None:
    hessian = dk.hessian(lambda v: v[0] ** v[1], np.array([2.0, 0.0]))
    np.testing.assert_allclose(hessian, [[0, 0.5], [0.5, math.log(2) ** 2]], rtol=1e-15)


def test_power_of_a_constant_keeps_single_precision() -> None:
    x = np.float32(1.5)
    gradient = dk.derivative(lambda t: 2**t, x)
    assert gradient.dtype == np.float32
    assert gradient == pytest.approx(2**1.5 * math.log(2), rel=1e-6)


def test_float_power_is_power_in_double_precision() -> None:
    assert dk.derivative(lambda t: np.float_power(t, 3), 2.0) == 12.0
    single = dk.gradient(lambda t: np.float_power(t, 3), np.float32(2.0))
    assert (single, single.dtype) == (12.0, np.float32)
