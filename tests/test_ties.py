"""The derivative at a tie: what the sides of it agree on, else the shared one with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diffkit as dk
from diffkit.backends.tape import bends
from diffkit.errors import KinkWarning, NonFiniteDerivative


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def elu(x: Any) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def branching_elu(x: Any) -> Any:
    return x if x > 0 else np.expm1(x)


def descended(x: Any) -> Any:
    """The slope of elu, by which something else is scaled."""
    return dk.gradient(elu, x) * x


LINEAR_AT: list[tuple[str, Callable[[Any], Any], float, float]] = [
    ("relu pair", lambda x: relu(x) - relu(-x), 0.0, 1.0),
    ("the same twice", lambda x: np.maximum(x, x), 0.3, 1.0),
    ("equal", lambda x: np.maximum(2 * x, x + x), 0.3, 2.0),
    ("elu", elu, 0.0, 1.0),
    ("elu by a branch", branching_elu, 0.0, 1.0),
    ("cube of a size", lambda x: abs(x) ** 3, 0.0, 0.0),
    ("x times its size", lambda x: x * abs(x), 0.0, 0.0),
    ("signed square", lambda x: x * x * np.sign(x), 0.0, 0.0),
    ("size as a product", lambda x: np.sign(x) * x - abs(x) + x, 0.0, 1.0),
    ("extremes", lambda x: np.maximum(x, 1.0) + np.minimum(x, 1.0), 1.0, 1.0),
    ("clipped pieces", lambda x: np.clip(x, 0, 1) + np.clip(x, 1, 2), 1.0, 1.0),
    ("exception that is none", lambda x: np.where(x == 0, 0.0, 3 * x), 0.0, 3.0),
    ("floor and remainder", lambda x: np.floor(x) + x % 1, 2.0, 1.0),
    ("trunc and fmod", lambda x: np.trunc(x) + np.fmod(x, 1.0), -2.0, 1.0),
    ("ceil and rest", lambda x: np.ceil(x) - (np.ceil(x) - x), 3.0, 1.0),
    ("quotient and rest", lambda x: (x // 0.5) * 0.5 + x % 0.5, 1.5, 1.0),
    ("rounded and rest", lambda x: np.rint(x) + (x - np.rint(x)), 2.5, 1.0),
    ("norm", lambda x: np.linalg.norm(np.stack([x, 2 * x])) ** 2, 0.0, 0.0),
    ("hypot", lambda x: np.hypot(x, 3 * x) ** 3, 0.0, 0.0),
    ("straight interpolation", lambda x: np.interp(x, [0.0, 1, 2], [1.0, 3, 5]), 1.0, 2.0),
    ("table", lambda x: np.array([0.0, 1.0, 2.0])[int(x)] + (x - int(x)), 1.0, 1.0),
    ("half of two", lambda x: np.sum(np.sort(np.stack([x, 1.0, 2 - x]))[:3]), 1.0, 0.0),
    ("copied sign", lambda x: np.copysign(x, x), 0.0, 1.0),
    ("slope inside", descended, 0.0, 1.0),
    ("across the cut of the angle", lambda x: np.sin(np.arctan2(x, -1.0)), 0.0, 1.0),
    ("from below it", lambda x: np.sin(np.arctan2(x, -1.0)), -0.0, 1.0),
    ("even across it", lambda x: np.cos(np.arctan2(x, -1.0)), 0.0, 0.0),
    ("the largest against a mask", lambda x: x * (np.max(np.stack([x, 1])) == x) + 1, 3.0, 1.0),
]
BENT_AT: list[tuple[str, Callable[[Any], Any], float, float]] = [
    ("relu", relu, 0.0, 0.5),
    ("size", np.abs, 0.0, 0.0),
    ("size by a branch", lambda x: x if x > 0 else -x, 0.0, 0.0),
    ("size as a product", lambda x: x * np.sign(x), 0.0, 0.0),
    ("relu by a choice", lambda x: np.where(x > 0, x, 0.0), 0.0, 0.5),
    ("leaky by a branch", lambda x: x if x >= 0 else 0.2 * x, 0.0, 0.6),
    ("bound", lambda x: np.clip(x, 0.0, 1.0), 1.0, 0.5),
    ("norm", lambda x: np.linalg.norm(np.stack([x, x])), 0.0, 0.0),
    ("distance", lambda x: np.hypot(x, 2 * x), 0.0, 0.0),
    ("interpolation", lambda x: np.interp(x, [0.0, 1, 2], [0.0, 1, 4]), 1.0, 2.0),
    ("size by a copied sign", lambda x: np.copysign(x, 1.0), 0.0, 0.0),
    ("size by a sign of its own", lambda x: np.copysign(1.0, x) * x, 0.0, 0.0),
    ("relu by a step", lambda x: np.heaviside(x, 0.5) * x, 0.0, 0.5),
    ("square of an angle at its cut", lambda x: np.arctan2(x, -1.0) ** 2, 0.0, 0.0),
]
JUMPING_AT: list[tuple[str, Callable[[Any], Any], float]] = [
    ("sign", np.sign, 0.0),
    ("floor", lambda x: np.floor(x) * x, 2.0),
    ("remainder", lambda x: x % 1, 2.0),
    ("rint", lambda x: np.rint(x) + x, 0.5),
    ("heaviside", lambda x: np.heaviside(x, 0.5), 0.0),
    ("step by a branch", lambda x: x + 1 if x > 0 else x, 0.0),
    ("exception", lambda x: np.where(x == 0, 5.0, x), 0.0),
    ("table", lambda x: np.arange(4.0)[int(x)] + x, 2.0),
    ("place", lambda x: np.searchsorted(np.array([0.0, 1.0]), x) * 2.0 + x, 1.0),
    ("angle at its cut", lambda x: np.arctan2(x, -1.0), 0.0),
    ("angle below its cut", lambda x: np.arctan2(x, -2.0), -0.0),
    ("argument of a number", lambda x: np.angle(-1 + 1j * x), 0.0),
    ("copied sign", lambda x: np.copysign(2.0, x) + x, 0.0),
    ("digits", lambda x: np.round(x, 1) + x, 0.25),
    ("fraction", lambda x: np.modf(x)[0] + x, 1.0),
]
BENT_SLOPE_AT: list[tuple[str, Callable[[Any], Any], float, float]] = [
    ("square of relu", lambda x: relu(x) ** 2, 0.0, 1.0),
    ("square by a choice", lambda x: np.where(x > 0, x**2, 0.0), 0.0, 1.0),
    ("square by a branch", lambda x: x * x if x > 0 else 0 * x, 0.0, 1.0),
    ("signed square", lambda x: x * abs(x), 0.0, 0.0),
    ("Huber", lambda x: np.where(abs(x) < 1, 0.5 * x * x, abs(x) - 0.5), 1.0, 0.5),
    ("elu", elu, 0.0, 0.5),
    ("sorted", lambda x: np.sort(np.stack([x, 0.0]))[1] ** 2, 0.0, 1.0),
]


def ids(cases: Any) -> list[str]:
    return [case[0] for case in cases]


@pytest.mark.parametrize(("name", "f", "x", "expected"), LINEAR_AT, ids=ids(LINEAR_AT))
def test_where_the_sides_agree_there_is_a_derivative(
    name: str, f: Any, x: float, expected: float
) -> None:
    assert dk.derivative(f, x) == pytest.approx(expected, abs=1e-12)
    assert dk.gradient(f, x) == pytest.approx(expected, abs=1e-12)
    prepared = dk.prepare(f, x + 0.125)
    for at in (x + 0.125, x + 0.25, x, x + 0.125, x):
        gradient = prepared.gradient(at)
    assert gradient == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "f", "x", "expected"), BENT_AT, ids=ids(BENT_AT))
def test_where_they_do_not_the_shared_slope_comes_with_a_warning(
    name: str, f: Any, x: float, expected: float
) -> None:
    with pytest.warns(KinkWarning, match="bends at this point"):
        assert dk.derivative(f, x) == pytest.approx(expected)
    prepared = dk.prepare(f, x + 0.125)
    for at in (x + 0.125, x + 0.25):
        prepared.gradient(at)
    with pytest.warns(KinkWarning, match="bends"):
        assert prepared.gradient(x) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "f", "x"), JUMPING_AT, ids=ids(JUMPING_AT))
def test_a_jump_is_told(name: str, f: Any, x: float) -> None:
    with pytest.warns(KinkWarning, match="jumps at this point"):
        dk.derivative(f, x)


@pytest.mark.parametrize(("name", "f", "x", "mean"), BENT_SLOPE_AT, ids=ids(BENT_SLOPE_AT))
def test_where_the_slope_bends_the_second_derivative_is_the_mean_of_both_sides(
    name: str, f: Any, x: float, mean: float
) -> None:
    prepared = dk.prepare(f, x + 0.125)
    for _ in range(3):
        prepared.hvp(x + 0.125, 1.0)
    for second in (
        lambda: dk.hessian(f, x),
        lambda: dk.hvp(f, x, 1.0),
        lambda: dk.derivative(f, x, order=2),
        lambda: prepared.hessian(x),
        lambda: prepared.hvp(x, 1.0),
    ):
        with pytest.warns(KinkWarning, match="the (gradient|derivative) of .* bends"):
            assert second() == pytest.approx(mean)


@pytest.mark.filterwarnings("ignore::diffkit.errors.StepWarning")
@pytest.mark.parametrize(("name", "f", "x"), JUMPING_AT, ids=ids(JUMPING_AT))
def test_a_jump_is_told_of_second_derivatives_too(name: str, f: Any, x: float) -> None:
    for second in (lambda: dk.hessian(f, x), lambda: dk.hvp(f, x, 1.0)):
        with pytest.warns(KinkWarning, match="jumps at this point"):
            second()
    prepared = dk.prepare(f, x + 0.125)
    for at in (x + 0.125, x + 0.25):
        prepared.hessian(at), prepared.hvp(at, 1.0)
    with pytest.warns(KinkWarning, match="jumps at this point"):
        prepared.hessian(x)
    with pytest.warns(KinkWarning, match="jumps at this point"):
        prepared.hvp(x, 1.0)


def piecewise(weights: Any, offsets: Any) -> Callable[[Any], Any]:
    """A function in pieces whose kinks meet at 0."""

    def f(x: Any) -> Any:
        parts = [
            *(relu(weights @ x), np.abs(x), np.maximum(x, weights.T @ x)),
            *(np.max(np.stack([x[0], x[1], 0.0])), np.hypot(x[0], x[2])),
            np.linalg.norm(x),
        ]
        return sum(c * np.sum(part) for c, part in zip(offsets, parts, strict=True))

    return f


@given(st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5]), min_size=6, max_size=6), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_the_quick_proof_says_what_looking_at_the_sides_does(offsets: Any, seed: int) -> None:
    f = piecewise(np.random.default_rng(seed).normal(size=(3, 3)), offsets)
    with warnings.catch_warnings(record=True) as quick:
        warnings.simplefilter("always")
        found = dk.gradient(f, np.zeros(3))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as careful:
        warnings.simplefilter("always")
        patch.setattr(bends, "CLEARLY", np.inf)
        expected = dk.gradient(f, np.zeros(3))
    np.testing.assert_array_equal(found, expected)
    assert [str(w.message) for w in quick] == [str(w.message) for w in careful]


def test_the_warning_is_one_and_names_the_operation_and_both_lines() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.abs(x))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert dk.gradient(f, np.zeros(5)).tolist() == [0.0] * 5
    (warning,) = caught
    assert warning.filename == __file__
    assert "absolute at" in str(warning.message)
    assert f"{__file__}:{f.__code__.co_firstlineno + 1}" in str(warning.message)


def test_each_entry_of_a_jacobian_is_judged_by_itself() -> None:
    def f(x: Any) -> Any:
        return {"smooth": np.stack([relu(x[0]) - relu(-x[0]), elu(x[1])]), "bent": abs(x[0])}

    with pytest.warns(KinkWarning, match="f bends"):
        jacobian = dk.jacobian(f, np.zeros(2))
    assert jacobian["smooth"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert jacobian["bent"].tolist() == [0.0, 0.0]
    assert dk.jvp(lambda x: f(x)["smooth"], np.zeros(2), np.array([3.0, 4.0])).tolist() == [
        3.0,
        4.0,
    ]
    assert dk.vjp(lambda x: f(x)["smooth"], np.zeros(2), np.array([3.0, 4.0])).tolist() == [
        3.0,
        4.0,
    ]


def test_many_that_tie() -> None:
    assert dk.gradient(lambda x: np.max(x) + np.min(x), np.ones(2)).tolist() == [1.0, 1.0]
    assert dk.gradient(lambda x: np.sum(np.sort(x)), np.ones(4)).tolist() == [1.0] * 4
    assert dk.gradient(lambda x: np.sum(x[np.argsort(x)] ** 2), np.ones(3)).tolist() == [2.0] * 3
    assert dk.gradient(lambda x: x[np.argmax(x)] + x[np.argmin(x)], np.ones(2)).tolist() == [1, 1]
    with pytest.warns(KinkWarning):
        shares = dk.gradient(lambda x: np.max(x), np.array([1.0, 1.0, 0.0, 1.0]))
    assert shares == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    with pytest.warns(KinkWarning):
        assert dk.gradient(lambda x: np.sort(x)[0], np.ones(2)).tolist() == [0.5, 0.5]
    with pytest.warns(KinkWarning):
        assert dk.gradient(lambda x: x[np.argmax(x)], np.ones(2)).tolist() == [0.5, 0.5]


def test_second_derivatives_at_a_kink_of_the_slope_are_told_or_right() -> None:
    def second(f: Any, x: float = 0.0) -> Any:
        return dk.derivative(f, x, order=2)

    assert second(lambda x: abs(x) ** 3) == 0.0
    assert second(lambda x: (relu(x) - relu(-x)) ** 2) == 2.0
    assert second(lambda x: relu(x) ** 3) == 0.0
    for bent in (elu, lambda x: x * abs(x), lambda x: relu(x) ** 2, branching_elu):
        with pytest.warns(KinkWarning):
            second(bent)
    with pytest.warns(KinkWarning):
        dk.hessian(lambda x: np.max(x**2), np.ones(2))
    hessian = dk.hessian(lambda x: np.sum((relu(x) - relu(-x)) ** 2 * np.arange(3)), np.zeros(3))
    assert hessian.tolist() == np.diag([0.0, 2.0, 4.0]).tolist()
    prepared = dk.prepare(lambda x: np.sum(x * np.abs(x)), np.ones(2))
    assert prepared.hessian(np.ones(2)).tolist() == [[2.0, 0.0], [0.0, 2.0]]
    with pytest.warns(KinkWarning):
        prepared.hessian(np.zeros(2))


def test_a_formula_without_a_value_at_the_tie_is_judged_beside_it() -> None:
    def sinc(x: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.where(x == 0, 1.0, np.sin(x) / x)

    assert dk.gradient(lambda x: np.sum(sinc(x)), np.zeros(2)).tolist() == [0.0, 0.0]


def test_what_is_tied_but_does_not_move_is_no_kink() -> None:
    """Several zeros of a rectified patch tie for its maximum, and none of them moves."""
    x = np.array([[-1.0, -2.0, -3.0], [1.0, -2.0, 0.5]])
    gradient = dk.gradient(lambda x: np.sum(np.max(relu(x), axis=1)), x)
    assert gradient.tolist() == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    zero = np.zeros((3, 2))
    assert not np.any(dk.gradient(lambda W: np.sum(relu(zero @ W)), np.ones((2, 4))))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_in_both_precisions(kind: Any) -> None:
    x = np.zeros(3, kind)
    gradient = dk.gradient(lambda x: np.sum(elu(x)), x)
    assert gradient.dtype == kind
    assert gradient.tolist() == [1.0] * 3


# ---------------------------------------------------------------------- hard places without a tie


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: x**0, 0.0, 0.0),
        (lambda x: x**0.0, -1.5, 0.0),
        (lambda x: 0.0**x, 2.0, 0.0),
        (lambda x: x**3, -2.0, 12.0),
        (lambda x: x**-2.0, -2.0, 0.25),
        (lambda x: np.prod(np.stack([x, 0 * x + 2, 3 + 0 * x])), 0.0, 6.0),
        (lambda x: np.prod(np.stack([x, x, 3 + 0 * x])), 0.0, 0.0),
        (lambda x: np.sum(np.cumprod(np.stack([2 + 0 * x, x, 3 + 0 * x]))), 0.0, 8.0),
        (np.sinc, 0.0, 0.0),
        (np.log1p, 1e-300, 1.0),
        (np.expm1, -800.0, 0.0),
        (lambda x: np.logaddexp(x, 0.0), 800.0, 1.0),
        (lambda x: np.logaddexp(x, 0.0), -800.0, 0.0),
        (np.tanh, 1e3, 0.0),
        (lambda x: np.hypot(x, 1e200), 1e200, 0.5**0.5),
        (lambda x: np.hypot(x, 1e-200), 1e-200, 0.5**0.5),
        (lambda x: 1 / (1 + np.exp(-x)), 750.0, 0.0),
    ],
)  # fmt: skip
def test_hard_places(f: Any, x: float, expected: float) -> None:
    with np.errstate(all="ignore"):
        assert dk.derivative(f, x) == pytest.approx(expected, rel=1e-12, abs=1e-300)
        prepared = dk.prepare(f, x)
        for _ in range(3):
            gradient = prepared.gradient(x)
    assert gradient == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.expm1, 800.0),
        (lambda x: 1 / (1 + np.exp(-x)), -750.0),
        (np.sqrt, 0.0),
        (lambda x: np.linalg.norm(np.stack([x, x])), 1e200),
        (lambda x: np.linalg.norm(np.stack([x, x])), 1e-200),
        (lambda x: x**0.5, 0.0),
    ],
)
def test_what_overflows_or_has_no_finite_slope_is_refused(f: Any, x: float) -> None:
    with np.errstate(all="ignore"), pytest.raises(dk.NonFiniteDerivative):
        dk.derivative(f, x)


def test_a_side_that_cannot_be_computed_at_the_point_is_left_out() -> None:
    """Beside the point another course is taken, by a matrix that is singular at the point."""

    def f(x: Any) -> Any:
        try:
            y = np.linalg.solve(np.diag(x), x)
        except np.linalg.LinAlgError:
            y = 2 * x
        if y[0] > 0:
            y = y + 2
        return np.sum(y * y)

    with pytest.warns(KinkWarning):
        np.testing.assert_allclose(dk.gradient(f, np.array([0.0, 2.0])), [0.0, 16.0])


def test_a_remainder_by_a_truth_is_judged_as_one_by_a_number() -> None:
    with pytest.warns(KinkWarning):
        assert dk.gradient(lambda a: np.fmod(a, True) + a, 2.0) == 2.0
    with pytest.warns(KinkWarning):
        assert dk.gradient(lambda a: np.floor_divide(a, True) * 1.0 + a, 2.0) == 1.0


def test_a_division_by_a_written_zero_is_refused_where_there_is_a_tie() -> None:
    with np.errstate(all="ignore"), pytest.raises(NonFiniteDerivative):
        dk.gradient(lambda x: np.maximum(x, 2 * x) / -0.0, 0.0)
