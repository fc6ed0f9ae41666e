"""Rows that map numbers to a number: every column against mpmath, which knows none of them.

The oracle of a derivative is a central difference of the function itself on 450-digit numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

import diffkit as dk
from diffkit.arithmetic import FlintSeries, MultiPrecision
from diffkit.tracing.graph import Missing, Same
from diffkit.tracing.primitives import FUNCTIONS, PRIMITIVES

M = mpmath.mp.clone()
M.dps = 450
EPS = np.finfo(np.float64).eps

Points = list[tuple[float, ...]]
Oracle = Callable[..., Any]


def _cbrt(x: Any) -> Any:
    return M.sign(x) * M.cbrt(abs(x))


def _sinc(x: Any) -> Any:
    return M.sinc(M.pi * x)


UNARY: dict[str, tuple[Oracle, list[float]]] = {
    "negative": (lambda x: -x, [0.0, -2.5, 1e300]),
    "positive": (lambda x: x, [0.0, -2.5]),
    "conjugate": (lambda x: x, [0.0, -2.5]),
    "reciprocal": (lambda x: 1 / x, [0.3, -7.0, 1e-100, 1e100]),
    "square": (lambda x: x * x, [0.0, -3.0, 1e-200, 1e150]),
    "sqrt": (M.sqrt, [0.25, 2.0, 1e-300, 1e300]),
    "cbrt": (_cbrt, [0.25, -2.0, 1e-200, 1e300]),
    "exp": (M.exp, [0.0, -700.0, 700.0, 1e-9]),
    "exp2": (lambda x: M.power(2, x), [0.0, -1000.0, 900.0, 0.5]),
    "expm1": (M.expm1, [0.0, 1e-18, -1e-18, -300.0, 300.0]),
    "log": (M.log, [1.0, 1e-300, 1e300, 0.5]),
    "log2": (lambda x: M.log(x) / M.log(2), [1.0, 1e-300, 1e300]),
    "log10": (lambda x: M.log(x) / M.log(10), [1.0, 1e-300, 1e300]),
    "log1p": (lambda x: M.log(1 + x), [0.0, 1e-18, -1e-18, -0.75, 1e300]),
    "sin": (M.sin, [0.0, 1.0, -1e3, 1e-9]),
    "cos": (M.cos, [0.0, 1.0, -1e3, 1e-9]),
    "tan": (M.tan, [0.0, 1.0, 1.5, -1e3]),
    "arcsin": (M.asin, [0.0, 0.5, -0.75, 1 - 1e-10, -1 + 1e-10]),
    "arccos": (M.acos, [0.0, 0.5, -0.75, 1 - 1e-10, -1 + 1e-10]),
    "arctan": (M.atan, [0.0, 1.0, -1e8, 1e-9]),
    "deg2rad": (lambda x: x * M.pi / 180, [0.0, 90.0]),
    "rad2deg": (lambda x: x * 180 / M.pi, [0.0, 1.5]),
    "sinc": (_sinc, [0.5, -0.1, 1e-3, 1e-8, 0.636, 0.637, 1.7, 20.25, 1e4 + 0.3]),
    "sinh": (M.sinh, [0.0, 1.0, -700.0, 1e-9]),
    "cosh": (M.cosh, [0.0, 1.0, -700.0, 1e-9]),
    "tanh": (M.tanh, [0.0, 0.3, -1.0, 20.0, -300.0, 1e3, 1e-9]),
    "arcsinh": (M.asinh, [0.0, 1.0, -1e8, 1e200, 1e-9]),
    "arccosh": (M.acosh, [1.5, 1 + 1e-10, 1e200]),
    "arctanh": (M.atanh, [0.0, 0.5, -1 + 1e-10, 1e-9]),
    "sech": (M.sech, [0.5, -3.0, 300.0, 1e-9]),
    "logistic": (lambda x: 1 / (1 + M.exp(-x)), [0.0, 2.0, -30.0, 300.0, -700.0]),
    "absolute": (abs, [2.0, -2.0, 1e-300]),
    "fabs": (abs, [2.0, -2.0, 1e-300]),
}

BINARY: dict[str, tuple[Oracle, Points]] = {
    "add": (lambda a, b: a + b, [(1.0, 2.0)]),
    "subtract": (lambda a, b: a - b, [(1.0, 2.0)]),
    "multiply": (lambda a, b: a * b, [(3.0, -2.0), (0.0, 5.0), (0.0, 0.0)]),
    "divide": (lambda a, b: a / b, [(3.0, -2.0), (0.0, 5.0), (1e200, 1e150), (1e-200, 1e-150)]),
    "ratio": (lambda a, b: a / b, [(3.0, -2.0), (0.0, 5.0)]),
    "power": (lambda a, b: a**b, [(2.5, 3.5), (2.0, 0.0), (1e-100, 2.0), (1.0, 300.0)]),
    "hypot": (
        lambda a, b: M.sqrt(a * a + b * b),
        [(3.0, -4.0), (1e200, 2e200), (1e-200, 2e-200), (0.0, 2.0), (-3.0, 0.0)],
    ),
    "arctan2": (
        M.atan2,
        [(1.0, 2.0), (1.0, -2.0), (-3.0, 0.5), (1e200, 2e200), (1e-150, 2e-150), (0.0, 2.0)],
    ),
    "logaddexp": (
        lambda a, b: M.log(M.exp(a) + M.exp(b)),
        [(0.5, -1.0), (800.0, 800.5), (-800.0, -800.25), (2.0, 40.0), (100.0, -100.0)],
    ),
    "logaddexp2": (
        lambda a, b: M.log(M.power(2, a) + M.power(2, b)) / M.log(2),
        [(0.5, -1.0), (1800.0, 1800.5), (-1800.0, -1800.25), (2.0, 40.0)],
    ),
    "maximum": (max, [(1.0, 2.0), (2.0, 1.0), (-1.0, -2.0)]),
    "minimum": (min, [(1.0, 2.0), (2.0, 1.0), (-1.0, -2.0)]),
    "fmax": (max, [(1.0, 2.0), (2.0, 1.0)]),
    "fmin": (min, [(1.0, 2.0), (2.0, 1.0)]),
    "copysign": (
        lambda a, b: abs(a) * M.sign(b),
        [(2.0, 1.0), (2.0, -1.0), (-2.0, 3.0), (-2.0, -3.0)],
    ),
    "remainder": (
        lambda a, b: a - M.floor(a / b) * b,
        [(7.5, 2.0), (-7.5, 2.0), (7.5, -2.0), (1.0, 0.1), (1e10, 0.3)],
    ),
    "fmod": (
        lambda a, b: a - b * (M.floor(a / b) if a / b > 0 else M.ceil(a / b)),
        [(7.5, 2.0), (-7.5, 2.0), (7.5, -2.0), (1.0, 0.1), (1e10, 0.3)],
    ),
}

SMOOTH = [
    *((name, f, (x,)) for name, (f, points) in UNARY.items() for x in points),
    *((name, f, point) for name, (f, points) in BINARY.items() for point in points),
]
SMOOTH_IDS = [f"{name}{point}" for name, _, point in SMOOTH]


def difference(f: Oracle, point: tuple[float, ...], along: tuple[int, ...]) -> Any:
    """The mixed derivative by the arguments `along`, by nested central differences."""
    exact = tuple(M.mpf(x) for x in point)
    steps = [(abs(x) or M.mpf(1)) * M.mpf(10) ** -35 for x in exact]
    total = M.mpf(0)
    for signs in itertools.product((1, -1), repeat=len(along)):
        moved = list(exact)
        for sign, i in zip(signs, along, strict=True):
            moved[i] += sign * steps[i]
        total += math.prod(signs) * f(*moved)
    return total / math.prod(2 * steps[i] for i in along)


def assert_close(actual: Any, expected: Any, ulps: float = 16) -> None:
    """Equal to so many relative spacings of float64, or both below its smallest number."""
    expected = float(expected)
    assert abs(float(actual) - expected) <= ulps * EPS * abs(expected) + 1e-307, (actual, expected)


def pull(name: str, position: int, *arguments: Any, g: Any = 1.0) -> Any:
    """The pullback of a row, called as the walker calls it."""
    primitive = PRIMITIVES[name]
    with np.errstate(all="ignore"):
        y = primitive.function(*arguments)
        return primitive.pull(position, np.asarray(g, y.dtype)[()], y, arguments, {})


# ---------------------------------------------------------------------- the table itself


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_row_has_its_four_columns_or_says_why_not(name: str) -> None:
    row = PRIMITIVES[name]
    assert row.name == name
    assert callable(row.function)
    if isinstance(row.pullbacks, Missing):
        assert row.pullbacks.reason
    elif not callable(row.pullbacks):
        assert all(rule is None or callable(rule) for rule in row.pullbacks)
    for column, namespaces in ((row.sympy, [sp]), (row.exact, [MultiPrecision(), FlintSeries()])):
        if isinstance(column, str):
            assert all(callable(getattr(space, column)) for space in namespaces)
        elif isinstance(column, Missing):
            assert column.reason
        else:
            assert callable(column) or isinstance(column, Same)


def test_every_elementwise_row_with_a_derivative_is_in_this_file() -> None:
    elsewhere = {"where", "heaviside", "ldexp", "power_log", "sinc_derivative"}
    rows = {name for name, row in PRIMITIVES.items() if row.elementwise and row.differentiable}
    assert rows == set(UNARY) | set(BINARY) | elsewhere


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


EASY = {
    **{name: (f, (1.25,) if name == "arccosh" else (0.25,)) for name, (f, _) in UNARY.items()},
    **{name: (f, (1.25, 0.75)) for name, (f, _) in BINARY.items()},
}


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
    single = dk.derivative(lambda t: np.float_power(t, 3), np.float32(2.0))
    assert (single, single.dtype) == (12.0, np.float32)


# ---------------------------------------------------------------------- kinks


def by_both(function: Any, a: float, b: float) -> list[float]:
    """The derivatives of a function of two numbers."""
    gradient: list[float] = dk.gradient(lambda v: function(v[0], v[1]), np.array([a, b])).tolist()
    return gradient


@pytest.mark.parametrize("function", [np.maximum, np.minimum, np.fmax, np.fmin])
def test_a_tie_is_shared_equally(function: Any) -> None:
    assert by_both(function, 2.0, 2.0) == [0.5, 0.5]
    assert dk.derivative(lambda x: function(x, x), 2.0) == 1.0
    assert dk.derivative(lambda x: function(x, 0.0), 0.0) == 0.5
    assert by_both(function, 0.0, -0.0) == [0.5, 0.5]


@pytest.mark.parametrize("function", [np.maximum, np.minimum])
def test_the_extremum_of_a_nan_follows_the_nan(function: Any) -> None:
    a, b = np.array([np.nan, 1.0, np.nan]), np.array([1.0, np.nan, np.nan])
    name = function.__name__
    assert pull(name, 0, a, b, g=np.ones(3)).tolist() == [1.0, 0.0, 0.5]
    assert pull(name, 1, a, b, g=np.ones(3)).tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("function", [np.fmax, np.fmin])
def test_fmax_follows_the_number_beside_a_nan(function: Any) -> None:
    a, b = np.array([np.nan, 1.0, np.nan]), np.array([1.0, np.nan, np.nan])
    name = function.__name__
    assert pull(name, 0, a, b, g=np.ones(3)).tolist() == [0.0, 1.0, 0.5]
    assert pull(name, 1, a, b, g=np.ones(3)).tolist() == [1.0, 0.0, 0.5]


def test_absolute_value_at_zero_has_the_mean_slope() -> None:
    assert dk.derivative(np.abs, 0.0) == 0.0
    assert dk.derivative(np.fabs, 0.0) == 0.0
    assert by_both(np.copysign, 0.0, -1.0) == [0.0, 0.0]


def test_hypot_at_the_origin_is_zero_and_has_no_second_derivative() -> None:
    assert by_both(np.hypot, 0.0, 0.0) == [0.0, 0.0]
    with pytest.raises(dk.NonFiniteDerivative):
        dk.hessian(lambda v: np.hypot(v[0], v[1]), np.zeros(2))


def test_no_derivative_where_a_root_is_vertical() -> None:
    for function in (np.sqrt, np.cbrt):
        with pytest.raises(dk.NonFiniteDerivative):
            dk.derivative(function, 0.0)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"a_min": -1.0, "a_max": 1.0}, [0.0, 0.5, 1.0, 0.5, 0.0]),
        ({"a_min": None, "a_max": 1.0}, [1.0, 1.0, 1.0, 0.5, 0.0]),
        ({"a_min": -1.0, "a_max": None}, [0.0, 0.5, 1.0, 1.0, 1.0]),
        ({"min": -1.0, "max": 1.0}, [0.0, 0.5, 1.0, 0.5, 0.0]),
    ],
)
def test_clip_has_the_mean_slope_at_its_bounds(bounds: dict[str, Any], expected: Any) -> None:
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    gradient = dk.gradient(lambda x: np.sum(np.clip(x, **bounds)), x)
    assert gradient.tolist() == expected


def test_clip_follows_its_bounds() -> None:
    bounds = np.array([-1.0, 1.0])
    gradient = dk.gradient(lambda b: np.sum(np.clip(np.array([-3.0, 0.0, 2.0, 5.0]), *b)), bounds)
    assert gradient.tolist() == [1.0, 2.0]


# ---------------------------------------------------------------------- choice by condition


def test_where_keeps_the_branches_apart() -> None:
    x = np.array([-1.0, 0.5, 2.0])
    gradient = dk.gradient(lambda x: np.sum(np.where(x > 0, x**2, -3 * x)), x)
    assert gradient.tolist() == [-3.0, 1.0, 4.0]
    hessian = dk.hessian(lambda x: np.sum(np.where(x > 0, x**3, -3 * x)), x)
    np.testing.assert_array_equal(hessian, np.diag([0.0, 3.0, 12.0]))


def test_where_of_scalars_broadcasts() -> None:
    assert dk.derivative(lambda x: np.sum(np.where([True, False, True], x, 0.0)), 3.0) == 2.0


def test_where_of_a_condition_alone_gives_positions() -> None:
    x = np.array([3.0, -1.0, 2.0])
    gradient = dk.gradient(lambda x: np.sum(x[np.where(x > 0)] ** 2), x)
    assert gradient.tolist() == [6.0, 0.0, 4.0]


@pytest.mark.parametrize("positions", [np.nonzero, np.flatnonzero])
def test_positions_are_numbers_that_hold_for_their_point_only(positions: Any) -> None:
    def f(x: Any) -> Any:
        return np.sum(x[positions(x > 0)]) * np.size(positions(x > 0))

    prepared = dk.prepare(f, np.array([3.0, -1.0]))
    assert prepared.gradient(np.array([3.0, -1.0])).tolist() == [1.0, 0.0]
    assert prepared.gradient(np.array([3.0, 1.0])).tolist() == [2.0, 2.0]


def test_select_takes_the_first_condition_that_holds() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.select([x < 0, x < 1], [x**2, 5 * x], default=x))

    assert dk.gradient(f, np.array([-1.0, 0.5, 3.0])).tolist() == [-2.0, 5.0, 1.0]


def test_piecewise_calls_each_function_where_its_condition_holds() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.piecewise(x, [x < 0, x > 1], [lambda t: -t, np.sqrt, lambda t: t**2]))

    assert dk.gradient(f, np.array([-4.0, 0.5, 4.0])).tolist() == [-1.0, 1.0, 0.25]
    one = dk.gradient(lambda x: np.sum(np.piecewise(x, x < 0, [0.0, np.log])), np.array([-1.0, 2]))
    assert one.tolist() == [0.0, 0.5]


# ---------------------------------------------------------------------- steps


@pytest.mark.parametrize(
    "function",
    [np.sign, np.floor, np.ceil, np.trunc, np.rint, np.fix, np.round, np.around],
)
def test_a_step_has_derivative_zero(function: Any) -> None:
    x = np.array([-1.6, 0.3, 2.5])
    assert dk.gradient(lambda x: np.sum(function(x)), x).tolist() == [0.0, 0.0, 0.0]
    assert dk.gradient(lambda x: np.sum(x * function(x)), x).tolist() == function(x).tolist()


def test_round_to_decimals_is_a_step() -> None:
    x = np.array([1.26, -2.349])
    for decimals in (1, 2, -1):
        gradient = dk.gradient(lambda x, d=decimals: np.sum(x * np.round(x, d)), x)
        assert gradient.tolist() == np.round(x, decimals).tolist()


def test_floor_divide_and_divmod() -> None:
    x = np.array([7.5, -7.5])
    assert dk.gradient(lambda x: np.sum(x * (x // 2)), x).tolist() == [3.0, -4.0]

    def f(x: Any) -> Any:
        quotient, rest = divmod(x, 2.0)
        return np.sum(quotient * rest)

    assert dk.gradient(f, x).tolist() == [3.0, -4.0]
    parts = dk.gradient(lambda x: np.sum(np.modf(x)[0] + 10 * np.modf(x)[1]), x)
    assert parts.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "function",
    [np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal],
)
def test_a_comparison_masks_without_derivative(function: Any) -> None:
    x = np.array([-1.0, 0.0, 2.0])
    gradient = dk.gradient(lambda x: np.sum(x * function(x, 0.0)), x)
    assert gradient.tolist() == function(x, 0.0).astype(float).tolist()


def test_logic_on_conditions() -> None:
    x = np.array([-2.0, 0.5, 3.0])

    def f(x: Any) -> Any:
        both = np.logical_and(x > 0, x < 1) | ~(x > -1)
        return np.sum(np.where(both ^ (x > 100), x**2, 0.0))

    assert dk.gradient(f, x).tolist() == [-4.0, 1.0, 0.0]


def test_heaviside_passes_on_its_value_at_zero() -> None:
    gradient = dk.gradient(
        lambda v: np.sum(np.heaviside(v[:3], v[3])), np.array([-1.0, 0.0, 2.0, 0.5])
    )
    assert gradient.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_ldexp_scales() -> None:
    assert dk.derivative(lambda x: np.ldexp(x, 3), 1.5) == 8.0


def test_special_values_are_replaced_without_derivative() -> None:
    x = np.array([1.0, np.nan, np.inf, -np.inf])
    data = np.array([2.0, 3.0, 4.0, 5.0])
    gradient = dk.gradient(lambda d, x: np.sum(np.nan_to_num(x, posinf=7.0, neginf=8) * d), data, x)
    assert gradient.tolist() == [1.0, 0.0, 7.0, 8.0]
    replaced = dk.gradient(lambda x: np.sum(np.nan_to_num(np.where(x > 1, np.nan, x))), data / 3)
    assert replaced.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_real_part_of_a_real_number_is_itself() -> None:
    x = np.array([1.0, 2.0])
    assert dk.gradient(lambda x: np.sum(np.real(x) ** 2 + np.imag(x)), x).tolist() == [2.0, 4.0]


def test_nearly_equal_is_an_outcome() -> None:
    def f(x: Any) -> Any:
        if np.allclose(x, 0.0) or np.array_equal(x, np.ones(2)):
            return np.sum(5 * x)
        return np.sum(np.where(np.isclose(x, 2.0), x, 7 * x))

    assert dk.gradient(f, np.zeros(2)).tolist() == [5.0, 5.0]
    assert dk.gradient(f, np.ones(2)).tolist() == [5.0, 5.0]
    assert dk.gradient(f, np.array([2.0, 3.0])).tolist() == [1.0, 7.0]


@pytest.mark.parametrize("function", [np.angle, np.i0, np.unwrap, np.nextafter])
def test_what_is_not_in_the_table_is_refused_by_name(function: Any) -> None:
    arguments = (2.0,) if function is np.nextafter else ()
    with pytest.raises(dk.UnsupportedOperation, match=function.__name__):
        dk.gradient(lambda x: np.sum(function(x, *arguments)), np.ones(3))


# ---------------------------------------------------------------------- the other columns

STEP_POINTS: dict[str, Points] = {
    **{name: [(2.25,), (-2.25,), (2.5,), (3.5,), (-2.5,), (0.0,)]
       for name in ("sign", "floor", "ceil", "trunc", "rint")},
    **{name: [(1.0, 2.0), (2.0, 1.0), (2.0, 2.0)]
       for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")},
    **{name: [(1.0, 0.0), (0.0, 0.0), (2.0, 3.0)]
       for name in ("logical_and", "logical_or", "logical_xor")},
    "logical_not": [(0.0,), (2.0,)],
    "floor_divide": [(7.5, 2.0), (-7.5, 2.0)],
    "heaviside": [(-1.0, 0.5), (0.0, 0.25), (2.0, 0.5)],
    "signbit": [(-1.0,), (2.0,)],
    "isnan": [(1.0,)], "isinf": [(1.0,)], "isfinite": [(1.0,)],
    "ldexp": [(1.5, 3)],
    "where": [(1.0, 2.0, 3.0), (0.0, 2.0, 3.0)],
}  # fmt: skip
COLUMNS = [
    *((name, point) for name, points in STEP_POINTS.items() for point in points),
    *((name, point) for name, (_, point) in EASY.items()),
]


def in_sympy(name: str, point: tuple[float, ...]) -> Any:
    column = PRIMITIVES[name].sympy
    rule = getattr(sp, column) if isinstance(column, str) else lambda *a: column(sp, *a)
    symbols = sp.symbols(f"x:{len(point)}", real=True)
    expression = sp.sympify(rule(*symbols))
    value = expression.subs(dict(zip(symbols, map(sp.Rational, point), strict=True)))
    return float(sp.N(value, 30)) if isinstance(value, sp.Expr) else float(bool(value))


def in_arithmetic(name: str, point: tuple[float, ...], A: Any) -> float:
    column = PRIMITIVES[name].exact
    rule = getattr(A, column) if isinstance(column, str) else lambda *a: column(A, *a)
    value = rule(*(A.constant(x) for x in point))
    return float(value) if isinstance(value, bool) else float(mpmath.mpf(value))


@pytest.mark.parametrize(("name", "point"), COLUMNS)
def test_every_column_computes_the_same_number(name: str, point: tuple[float, ...]) -> None:
    value = float(PRIMITIVES[name].function(*point))
    assert in_sympy(name, point) == pytest.approx(value, rel=1e-13)
    assert in_arithmetic(name, point, MultiPrecision(40)) == pytest.approx(value, rel=1e-13)


def test_conditions_count_as_numbers_and_numbers_as_conditions_in_sympy() -> None:
    x = sp.Symbol("x", real=True)
    masked = PRIMITIVES["multiply"].sympy(sp, x, x > 0)  # type: ignore[operator]
    assert (masked.subs(x, 3), masked.subs(x, -3)) == (3, 0)
    both = PRIMITIVES["logical_and"].sympy(sp, x, x < 2)  # type: ignore[operator]
    assert (both.subs(x, 1), both.subs(x, 0)) == (sp.true, sp.false)
    with pytest.raises(dk.UnsupportedOperation):
        PRIMITIVES["bitwise_and"].sympy(sp, x, x)  # type: ignore[operator]


def test_aliases_share_one_row() -> None:
    for alias, name in ((np.radians, "deg2rad"), (np.degrees, "rad2deg"), (np.mod, "remainder")):
        assert FUNCTIONS[alias] is PRIMITIVES[name]
