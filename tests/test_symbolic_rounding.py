"""The symbolic backend keeps its digits: where terms cancel, it computes with more of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import diffkit as dk
from diffkit.backends.symbolic import Symbolic
from diffkit.tracing.shared_expressions import tree_operations

WRITTEN = ("shared", "expanded")


def prepared(f: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return Symbolic(**options).prepare(f, *arguments)


def exact(f: Callable[[Any], Any], x: float, order: int) -> float:
    """By differences in 300 digits."""
    with mpmath.workdps(300):
        return float(mpmath.diff(f, mpmath.mpf(x), order, h=mpmath.mpf(10) ** -60 * mpmath.mpf(x)))


# ---------------------------------------------------------------------- functions of one number

CANCELLING: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float]] = {
    "sin x / x": (lambda x: np.sin(x) / x, lambda x: mpmath.sin(x) / x, 1e-6),
    "sin x / x, nearer": (lambda x: np.sin(x) / x, lambda x: mpmath.sin(x) / x, 1e-100),
    "filled": (
        lambda x: np.where(x == 0, 1, np.sin(x) / x),
        lambda x: mpmath.sin(x) / x,
        1e-6,
    ),
    "expm1 x / x": (lambda x: np.expm1(x) / x, lambda x: mpmath.expm1(x) / x, 1e-8),
    "(e^x - 1) / x": (lambda x: (np.exp(x) - 1) / x, lambda x: mpmath.expm1(x) / x, 1e-8),
    "(1 - cos x) / x^2": (
        lambda x: (1 - np.cos(x)) / x**2,
        lambda x: 2 * mpmath.sin(x / 2) ** 2 / x**2,
        1e-6,
    ),
    "log1p x / x": (lambda x: np.log1p(x) / x, lambda x: mpmath.log1p(x) / x, 1e-12),
    "j1 x / x": (lambda x: scipy.special.j1(x) / x, lambda x: mpmath.besselj(1, x) / x, 1e-4),
    "log x / (x - 1)": (
        lambda x: np.log(x) / (x - 1),
        lambda x: mpmath.log(x) / (x - 1),
        1 + 2.0**-23,
    ),
    "tanh x - x": (lambda x: np.tanh(x) - x, lambda x: mpmath.tanh(x) - x, 1e-8),
    "far away": (
        lambda x: np.sqrt(x**2 + 1) - x,
        lambda x: mpmath.sqrt(x**2 + 1) - x,
        1e6,
    ),
    "(x - 1)^7, multiplied out": (
        lambda x: x**7 - 7 * x**6 + 21 * x**5 - 35 * x**4 + 35 * x**3 - 21 * x**2 + 7 * x - 1,
        lambda x: (x - 1) ** 7,
        1 + 2.0**-10,
    ),
    "the upper tail of erf": (
        lambda x: (1 - scipy.special.erf(x)) ** 2,
        lambda x: mpmath.erfc(x) ** 2,
        5.0,
    ),
}


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", CANCELLING)
@pytest.mark.parametrize("form", WRITTEN)
def test_no_derivative_loses_its_digits(name: str, order: int, form: str) -> None:
    f, precise, x = CANCELLING[name]
    p = prepared(f, x, form=form)
    expected = exact(precise, x, order)
    for _ in range(3):  # the third time by the fast way
        assert p.derivative(x, order=order) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("form", WRITTEN)
def test_the_fast_way_declines_where_terms_cancel(form: str) -> None:
    p = prepared(lambda x: np.sin(x) / x, 1.0, form=form)
    for _ in range(3):
        assert p.derivative(1.0) == pytest.approx(np.cos(1) - np.sin(1), rel=1e-14)
    assert p.derivative(1e-8) == pytest.approx(-1e-8 / 3, rel=1e-15)


@pytest.mark.parametrize("form", WRITTEN)
def test_an_overflow_inside_a_quotient_is_seen(form: str) -> None:
    p = prepared(lambda x: 1 / (1 + np.exp(-x)), -300.0, form=form)
    for _ in range(3):
        assert p.derivative(-300.0, order=2) == pytest.approx(np.exp(-300.0), rel=1e-13)


def test_a_derivative_that_is_zero_is_zero() -> None:
    assert prepared(lambda x: x**3 - 3 * x, 1.0).derivative(1.0) == 0
    assert prepared(lambda x: np.sin(x) ** 2 + np.cos(x) ** 2, 0.7).derivative(0.7) == 0


def test_what_overflows_on_the_way_has_all_digits() -> None:
    with np.errstate(over="ignore"):
        got = prepared(lambda x: 1 / (1 + np.exp(x)), 400.0).derivative(400.0)
    assert got == pytest.approx(-np.exp(-400.0), rel=1e-13)


def test_an_exponential_without_bounds_ends() -> None:
    f = lambda x: np.exp(-np.exp(np.exp(np.exp(x))))  # noqa: E731
    with np.errstate(over="ignore"):
        assert prepared(f, 3.0, form="shared").derivative(3.0) == 0


# ---------------------------------------------------------------------- several numbers


SEVERAL: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "a root of a quadratic": (
        lambda x: (-x[1] + np.sqrt(x[1] ** 2 - 4 * x[0] * x[2])) / (2 * x[0]),
        [1e-12, 2.0, 1.0],
    ),
    "a quotient of differences": (
        lambda x: (np.exp(x[0]) - np.exp(x[1])) / (x[0] - x[1]),
        [1.0, 1.0000001],
    ),
    "a confident classifier": (lambda x: np.log(np.sum(np.exp(x))) - x[0], [30.0, 0.0, 1.0]),
    "one entry near a singularity": (lambda x: np.sum(np.sin(x) / x), [1.0, 1e-8, 2.0]),
    "a nearly singular matrix": (
        lambda x: np.log(np.linalg.det(x.reshape(2, 2))),
        [1.0, 1 - 1e-5, 1 + 1e-5, 1.0],
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("form", WRITTEN)
def test_gradients_and_hessians_keep_their_digits(name: str, form: str) -> None:
    f, entries = SEVERAL[name]
    x = np.array(entries)
    p = prepared(f, x, form=form)
    for operator in ("gradient", "hessian"):
        truth = getattr(dk.truth, operator)(f, x).value
        scale = np.max(np.abs(truth))
        np.testing.assert_allclose(getattr(p, operator)(x), truth, rtol=1e-9, atol=1e-12 * scale)


def test_many_points_keep_their_digits() -> None:
    points = np.array([[1.0, 2.0], [1e-8, 2.0], [1e-3, 1e-6]])
    f = lambda x: np.sum(np.sin(x) / x)  # noqa: E731
    p = prepared(f, points[0], form="shared")
    expected = [dk.truth.gradient(f, x).value for x in points]
    np.testing.assert_allclose(p.gradients(points), expected, rtol=1e-9)


def test_single_precision_is_held_to_its_own_digits() -> None:
    x = np.float32(1e-3)
    got = prepared(lambda x: np.sin(x) / x, x).derivative(x)
    assert got.dtype == np.float32
    assert got == pytest.approx(-x / 3, rel=1e-6)


# ---------------------------------------------------------------------- options and estimates


def test_refinement_can_be_left_out() -> None:
    x = 1e-8
    f = lambda x: np.sin(x) / x  # noqa: E731
    estimate = prepared(f, x, refine=False).estimate(x)
    assert abs(estimate.value + x / 3) == pytest.approx(estimate.error, rel=1e-6)
    assert estimate.status == {"x": "noisy"}
    refined = prepared(f, x).estimate(x)
    assert refined.error <= np.spacing(x)
    assert refined.status == {"x": "converged"}
    with pytest.raises(dk.InvalidInput, match="refine=1"):
        Symbolic(refine=1)  # type: ignore[arg-type]


def test_an_estimate_of_arrays_tells_which_entries_are_lost() -> None:
    x = np.array([1.0, 1e-6, 2.0])
    f = lambda x: np.sin(x) / x  # noqa: E731
    estimate = prepared(f, x, form="array", refine=False).estimate(x)
    truth = dk.truth.jacobian(f, x).value
    assert np.all(np.abs(estimate.value - truth) <= 2 * estimate.error + 1e-16)
    noisy = [name for name, status in estimate.status.items() if status == "noisy"]
    assert noisy == ["d f(x)[1] / d x[1]"]


def test_arrays_are_held_against_more_digits_the_first_time() -> None:
    x = np.array([1.0, 1e-6, 2.0])
    f = lambda x: np.sum(np.sin(x) / x)  # noqa: E731
    p = prepared(f, x, form="array")
    for _ in range(4):  # and each time once digits were lost
        with pytest.warns(dk.RoundingWarning, match="terms cancel"):
            p.gradient(x)


def test_a_large_function_is_left_to_the_form_that_follows_rounding() -> None:
    x = np.linspace(1, 2, 300)
    x[7] = 1e-8
    p = prepared(lambda x: np.sum(np.sin(x) / x), x)
    assert p.form == "array"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = p.gradient(x)
    assert p.form == "shared"
    expected = np.cos(x) / x - np.sin(x) / x**2
    expected[7] = -x[7] / 3
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_following_rounding_does_not_count_among_the_operations() -> None:
    f = lambda x: np.sin(x) / x  # noqa: E731
    costs = []
    for refine in (True, False):
        p = prepared(f, 0.5, refine=refine)
        p.derivative(0.5)
        costs.append(p.cost.operations)
    assert costs[0] == costs[1]
    assert tree_operations(p.expression, {}) <= costs[0]


# ---------------------------------------------------------------------- printed programs


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("language", ["python", "mpmath"])
def test_printed_programs_keep_the_digits_of_tails(language: str, order: int) -> None:
    x = -20.0
    source = prepared(scipy.special.log_ndtr, x).source(language, order=order)
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    got = namespace["derivative"]([mpmath.mpf(x) if language == "mpmath" else x])[0, 0]
    expected = exact(lambda t: mpmath.log(mpmath.erfc(-t / mpmath.sqrt(2)) / 2), x, order)
    assert float(got) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("f", "language", "called"),
    [
        (scipy.special.log_ndtr, "c", "erfc("),
        (scipy.special.log_ndtr, "mathematica", "Erfc["),
        (lambda x: np.log1p(x) * np.expm1(x), "c", "log1p("),
        (lambda x: np.log1p(x) * np.expm1(x), "c", "expm1("),
        (lambda x: np.log1p(x) * np.expm1(x), "mpmath", "mpmath.expm1("),
    ],
)
def test_what_cancels_is_printed_as_one_function(f: Any, language: str, called: str) -> None:
    source = prepared(f, 0.5).source(language)
    assert called in source
    assert "1.0 - erf" not in source
    assert "1 - Erf" not in source


def test_special_functions_are_imported_by_the_printed_program() -> None:
    assert "from scipy import special" in prepared(scipy.special.gammaln, 2.5).source()


def test_the_hessian_has_a_printed_program() -> None:
    x = np.array([0.5, 2.0])
    namespace: dict[str, Any] = {}
    exec(prepared(lambda x: x[0] ** 2 * x[1], x).source(order=2), namespace)
    np.testing.assert_allclose(namespace["derivative"](x), [[4, 1], [1, 0]])


@pytest.mark.parametrize("order", [0, True, 2, 3])
def test_programs_of_other_orders_are_refused(order: Any) -> None:
    p = prepared(lambda x: x**2, np.ones(2))
    with pytest.raises(dk.InvalidInput, match="order="):
        p.source(order=order)


# ---------------------------------------------------------------------- ties

TIED: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "sort": (lambda x: np.sort(x) @ np.arange(1.0, 4), [1.0, 1, 2], [1.5, 1.5, 3]),
    "sort of three": (lambda x: np.sort(x) @ np.arange(1.0, 4), [1.0, 1, 1], [2, 2, 2]),
    "median": (np.median, [1.0, 1, 2], [0.5, 0.5, 0]),
    "argsort": (lambda x: x[np.argsort(x)] @ np.arange(1.0, 4), [1.0, 1, 2], [1.5, 1.5, 3]),
    "partition": (lambda x: np.partition(x, 1)[1], [1.0, 1, 2], [0.5, 0.5, 0]),
    "argmax": (lambda x: x[np.argmax(x)], [2.0, 2, 1], [0.5, 0.5, 0]),
    "argmin": (lambda x: x[np.argmin(x)] ** 2, [1.0, 2, 1], [1, 0, 1]),
    "where": (lambda x: np.sum(np.where(x > 1, x**2, x)), [1.0, 2, 0.5], [1.5, 4, 1]),
    "branch": (lambda x: np.sum(x) if x[0] > x[1] else np.sum(2 * x), [1.0, 1], [2, 2]),
    "a branch that bends": (lambda x: x[0] if x[0] > 0 else 3 * x[0], [0.0], [2]),
    "interp": (lambda x: np.interp(x[0], [0.0, 1, 2], [0.0, 1, 4]), [1.0], [2]),
}


@pytest.mark.parametrize("form", ["shared", "expanded", "array"])
@pytest.mark.parametrize("name", TIED)
def test_ties_are_shared_among_the_sides(name: str, form: str) -> None:
    f, entries, expected = TIED[name]
    x = np.array(entries)
    aside = x + np.arange(1, len(x) + 1) / 7
    p = prepared(f, aside, form=form)
    for _ in range(3):
        p.gradient(aside)
    for _ in range(2):
        with pytest.warns(dk.KinkWarning):
            np.testing.assert_allclose(p.gradient(x), expected, rtol=1e-9, atol=1e-12)
    with pytest.warns(dk.KinkWarning):
        np.testing.assert_allclose(dk.gradient(f, x), expected, rtol=1e-9)


def test_equals_that_a_function_treats_alike_are_no_kink() -> None:
    x = np.array([1.0, 1, 2])
    np.testing.assert_allclose(prepared(lambda x: np.sum(np.sort(x) ** 2), x).gradient(x), 2 * x)


def test_a_tie_among_many_points_is_told() -> None:
    points = np.array([[1.0, 2, 3], [1.0, 1, 2]])
    p = prepared(lambda x: np.sort(x) @ np.arange(1.0, 4), points[0])
    with pytest.warns(dk.KinkWarning):
        np.testing.assert_allclose(p.gradients(points), [[1, 2, 3], [1.5, 1.5, 3]], rtol=1e-9)


def test_piecewise_functions_have_derivatives() -> None:
    f = lambda x: np.piecewise(x, [x < 0, x >= 0], [lambda t: -(t**3), lambda t: t**3])  # noqa: E731
    for form in ("shared", "expanded", "array"):
        assert prepared(f, 0.5, form=form).derivative(0.5, order=2) == pytest.approx(3)
