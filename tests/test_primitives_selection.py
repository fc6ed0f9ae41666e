"""Kinks, jumps and choices: mean slopes at kinks, no derivative through outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from elementwise_cases import pull

import diffkit as dk

# ---------------------------------------------------------------------- kinks


def by_both(function: Any, a: float, b: float) -> list[float]:
    """The derivatives of a function of two numbers."""
    gradient: list[float] = dk.gradient(lambda v: function(v[0], v[1]), np.array([a, b])).tolist()
    return gradient


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
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


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_absolute_value_at_zero_has_the_mean_slope() -> None:
    assert dk.derivative(np.abs, 0.0) == 0.0
    assert dk.derivative(np.fabs, 0.0) == 0.0
    assert by_both(np.copysign, 0.0, -1.0) == [0.0, 0.0]


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_hypot_at_the_origin_is_zero_and_has_no_second_derivative() -> None:
    assert by_both(np.hypot, 0.0, 0.0) == [0.0, 0.0]
    with pytest.raises(dk.NonFiniteDerivative):
        dk.hessian(lambda v: np.hypot(v[0], v[1]), np.zeros(2))


def test_no_derivative_where_a_root_is_vertical() -> None:
    for function in (np.sqrt, np.cbrt):
        with pytest.raises(dk.NonFiniteDerivative):
            dk.derivative(function, 0.0)


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
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


def test_piecewise_accepts_numpys_forms() -> None:
    mask = np.array([True, False, True])
    x = np.array([2.0, 3.0, -1.0])

    def gradient(*arguments: Any) -> Any:
        return dk.gradient(lambda x: np.sum(np.piecewise(x, *arguments)), x).tolist()

    assert gradient(mask, [np.square, 0.0]) == [4.0, 0.0, -2.0]
    assert gradient(np.stack([mask, ~mask]), [np.square, np.positive]) == [4.0, 1.0, -2.0]
    assert gradient([mask], [lambda t, n: t**n, 1.0], 3) == [12.0, 0.0, 3.0]
    at_number = dk.derivative(lambda t: np.piecewise(t, [t < 0, t >= 0], [np.sin, np.square]), 3.0)
    assert at_number == 6.0


def test_choices_that_do_not_match_are_numpys_own_error() -> None:
    x = np.ones(3)
    with pytest.raises(ValueError, match="same length"):
        dk.gradient(lambda x: np.sum(np.select([x > 0], [x, x])), x)
    with pytest.raises(ValueError, match="function"):
        dk.gradient(lambda x: np.sum(np.piecewise(x, [x > 0, x > 2], [np.sin])), x)


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_positions_of_what_holds() -> None:
    x = np.array([[1.0, -1.0], [0.0, 2.0]])

    def f(x: Any) -> Any:
        rows, columns = np.nonzero(x > 0)
        return np.sum(x[rows, columns] ** 2) + 10 * np.sum(np.argwhere(x)) * x[0, 0]

    assert dk.gradient(f, x).tolist() == [[32.0, 0.0], [0.0, 4.0]]


# ---------------------------------------------------------------------- steps


@pytest.mark.filterwarnings("ignore::diffkit.errors.StepWarning")
@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
@pytest.mark.parametrize(
    "function",
    [
        *(np.sign, np.floor, np.ceil, np.trunc, np.rint, np.round, np.around),
        pytest.param(np.fix, marks=pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")),
    ],
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


def test_whole_numbers_are_their_own_rounding() -> None:
    def f(x: Any, n: Any) -> Any:
        return np.sum(x * np.round(n, 1) * np.nan_to_num(n))

    assert dk.gradient(f, np.ones(2), np.array([2, 3])).tolist() == [4.0, 9.0]
    with pytest.raises(dk.UnsupportedOperation, match="decimals"):
        dk.gradient(lambda x, n: np.sum(x * np.round(n, -1)), np.ones(2), np.array([2, 3]))


def test_floor_divide_and_divmod() -> None:
    x = np.array([7.5, -7.5])
    both = dk.gradient(lambda x: np.sum(np.divmod(x, 2.0)[0] * np.divmod(x, 2.0)[1]), x)
    assert both.tolist() == [3.0, -4.0]
    assert dk.gradient(lambda x: np.sum(x * (x // 2)), x).tolist() == [3.0, -4.0]

    def f(x: Any) -> Any:
        quotient, rest = divmod(x, 2.0)
        return np.sum(quotient * rest)

    assert dk.gradient(f, x).tolist() == [3.0, -4.0]
    parts = dk.gradient(lambda x: np.sum(np.modf(x)[0] + 10 * np.modf(x)[1]), x)
    assert parts.tolist() == [1.0, 1.0]


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
@pytest.mark.parametrize(
    "function",
    [np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal],
)
def test_a_comparison_masks_without_derivative(function: Any) -> None:
    x = np.array([-1.0, 0.0, 2.0])
    gradient = dk.gradient(lambda x: np.sum(x * function(x, 0.0)), x)
    expected = function(x, 0.0).astype(float)
    expected[1] = (function(1e-9, 0.0) + 0.0 + function(-1e-9, 0.0)) / 2  # as on both sides
    assert gradient.tolist() == expected.tolist()


def test_logic_on_conditions() -> None:
    x = np.array([-2.0, 0.5, 3.0])

    def f(x: Any) -> Any:
        both = np.logical_and(x > 0, x < 1) | ~(x > -1)
        return np.sum(np.where(both ^ (x > 100), x**2, 0.0))

    assert dk.gradient(f, x).tolist() == [-4.0, 1.0, 0.0]


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_heaviside_passes_on_its_value_at_zero() -> None:
    gradient = dk.gradient(
        lambda v: np.sum(np.heaviside(v[:3], v[3])), np.array([-1.0, 0.0, 2.0, 0.5])
    )
    assert gradient.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_ldexp_scales() -> None:
    assert dk.derivative(lambda x: np.ldexp(x, 3), 1.5) == 8.0


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_special_values_are_replaced_without_derivative() -> None:
    x = np.array([1.0, np.nan, np.inf, -np.inf])
    data = np.array([2.0, 3.0, 4.0, 5.0])
    gradient = dk.gradient(lambda d, x: np.sum(np.nan_to_num(x, posinf=7.0, neginf=8) * d), data, x)
    assert gradient.tolist() == [1.0, 0.0, 7.0, 8.0]
    replaced = dk.gradient(lambda x: np.sum(np.nan_to_num(np.where(x > 1, np.nan, x))), data / 3)
    assert replaced.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_special_values_are_replaced_in_place() -> None:
    def f(x: Any) -> Any:
        y = np.where(x > 1, np.nan, x)
        np.nan_to_num(y, copy=False, nan=5.0)
        return np.sum(y * x)

    assert dk.gradient(f, np.array([0.5, 2.0])).tolist() == [1.0, 5.0]


def test_infinities_are_told_apart() -> None:
    def f(x: Any) -> Any:
        y = np.array([1.0, np.inf, -np.inf]) * np.sign(x)
        return np.sum(np.where(np.isposinf(y), 2 * x, np.where(np.isneginf(y), 3 * x, x)))

    assert dk.gradient(f, np.ones(3)).tolist() == [1.0, 2.0, 3.0]


def test_real_part_of_a_real_number_is_itself() -> None:
    x = np.array([1.0, 2.0])
    assert dk.gradient(lambda x: np.sum(np.real(x) ** 2 + np.imag(x)), x).tolist() == [2.0, 4.0]


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_nearly_equal_is_an_outcome() -> None:
    def f(x: Any) -> Any:
        if np.allclose(x, 0.0) or np.array_equal(x, np.ones(2)):
            return np.sum(5 * x)
        return np.sum(np.where(np.isclose(x, 2.0), x, 7 * x))

    assert dk.gradient(f, np.zeros(2)).tolist() == [5.0, 5.0]
    assert dk.gradient(f, np.ones(2)).tolist() == [5.0, 5.0]
    assert dk.gradient(f, np.array([2.0, 3.0])).tolist() == [1.0, 7.0]


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_nan_is_nearly_equal_to_nan_on_request() -> None:
    holes = np.array([np.nan, 1.0])

    def f(x: Any) -> Any:
        y = np.where(x > 1, x, np.nan)
        same = np.array_equal(y, np.array([np.nan, 2.0]), equal_nan=True)
        near = np.isclose(y, holes, equal_nan=True)
        return np.sum(x * near) + (np.sum(x) if same and not np.array_equal(y, y[:1]) else 0.0)

    assert dk.gradient(f, np.array([0.0, 2.0])).tolist() == [2.0, 1.0]


@pytest.mark.parametrize("function", [np.spacing, np.nextafter])
def test_what_is_not_in_the_table_is_refused_by_name(function: Any) -> None:
    arguments = (2.0,) if function is np.nextafter else ()
    with pytest.raises(dk.UnsupportedOperation, match=function.__name__):
        dk.gradient(lambda x: np.sum(function(x, *arguments)), np.ones(3))
