"""How symbolic derivatives are called: at once, at many points, beside a kink, with their error."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest

import diffkit as dk
from diffkit.backends.symbolic import Symbolic
from diffkit.problems.families import FAMILIES
from diffkit.tracing.shared_expressions import tree_operations

FORMS = ("shared", "expanded", "array")


def prepared(f: Any, *arguments: Any, **options: Any) -> Any:
    return dk.prepare(f, *arguments, backend=Symbolic(**options))


def thrice(call: Callable[[], Any]) -> list[Any]:
    """What a call gives derived, compiled, and again."""
    return [call() for _ in range(3)]


def entry_of(made: Any, what: str = "gradient") -> Any:
    return made._latest.entry(what)


# ---------------------------------------------------------------------- at once


def bump(x: Any) -> Any:
    return np.sin(x[0] * x[1]) * np.exp(-(x[0] ** 2)) + np.sqrt(x[1])


def bump_gradient(x: Any) -> Any:
    a, b = x
    e, s, c = np.exp(-(a**2)), np.sin(a * b), np.cos(a * b)
    return np.array([e * (b * c - 2 * a * s), e * a * c + 0.5 / np.sqrt(b)])


@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_asked_for_again_is_computed_at_once(form: str) -> None:
    x = np.array([0.7, 1.3])
    made = prepared(bump, x, form=form)
    for got in thrice(lambda: made.gradient(x)):
        np.testing.assert_allclose(got, bump_gradient(x), rtol=1e-14)
        got[:] = 0
    assert entry_of(made) is not None
    other = np.array([-0.2, 3.0])
    np.testing.assert_allclose(made.gradient(other), bump_gradient(other), rtol=1e-14)
    value, gradient = made.value_and_gradient(other)
    assert value == bump(other)
    np.testing.assert_allclose(gradient, bump_gradient(other), rtol=1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_a_number_at_once(form: str, order: int) -> None:
    made = prepared(np.sin, 0.3, form=form)
    for got in thrice(lambda: made.derivative(0.3, order=order)):
        assert type(got) is np.float64
        assert got == pytest.approx(np.sin(0.3 + order * np.pi / 2), rel=1e-15)
    assert entry_of(made, f"derivative {order}") is not None
    assert made.derivative(np.float64(0.5), order=order) == pytest.approx(
        np.sin(0.5 + order * np.pi / 2), rel=1e-15
    )


class Pair(NamedTuple):
    a: Any
    b: Any


@pytest.mark.parametrize("form", FORMS)
def test_structures_data_and_constants_at_once(form: str) -> None:
    captured = np.array([0.1, 0.2])

    def f(p: Any, y: Any, options: Any) -> Any:
        scale = y[:, 0] * 0.3 if options["scaled"] else y[:, 0]
        return np.sum(p["w"].a * captured * scale) * p["w"].b ** 2 + p["c"][0]

    p = {"w": Pair(np.array([1.0, 2.0]), 3.0), "c": [4.0]}
    y = np.array([[5.0], [6.0]])
    made = prepared(f, p, y, {"scaled": True}, form=form)
    for got in thrice(lambda: made.gradient(p, y, {"scaled": True})):
        np.testing.assert_allclose(got["w"].a, captured * y[:, 0] * 0.3 * 9, rtol=1e-14)
        assert got["w"].b == pytest.approx(6 * np.sum(p["w"].a * captured * y[:, 0] * 0.3))
        assert got["c"] == [1.0]
    assert entry_of(made) is not None
    unscaled = made.gradient(p, 2 * y, {"scaled": False})
    np.testing.assert_allclose(unscaled["w"].a, captured * 2 * y[:, 0] * 9, rtol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_branches_are_watched_at_once(form: str) -> None:
    made = prepared(lambda x: np.sum(x**2) if x[0] > 0 else np.sum(x**3), np.ones(2), form=form)
    for _ in range(4):
        np.testing.assert_array_equal(made.gradient(np.ones(2)), [2, 2])
        np.testing.assert_array_equal(made.gradient(-np.ones(2)), [3, 3])


@pytest.mark.parametrize("form", FORMS)
def test_refusals_are_the_same_at_once(form: str) -> None:
    made = prepared(lambda x: np.log(x) + np.floor(x), 0.5, form=form)
    thrice(lambda: made.derivative(0.5))
    assert entry_of(made, "derivative 1") is not None
    with pytest.raises(dk.NonFiniteDerivative), np.errstate(all="ignore"):
        made.derivative(-0.5)  # 1 / x is a number, the logarithm is not
    with pytest.raises(dk.UnsupportedOperation, match="jumps"):
        made.derivative(2.0)
    with pytest.raises(dk.InvalidInput):
        made.derivative(float("nan"))
    with pytest.raises(dk.InvalidInput):
        made.derivative(np.ones(2))


@pytest.mark.parametrize("form", FORMS)
def test_an_overflow_on_the_way_is_not_computed_at_once(form: str) -> None:
    def f(x: Any) -> Any:
        with np.errstate(over="ignore"):
            return x**3 / (x * x * x * x + 1)

    made = prepared(f, 2.0, form=form)
    thrice(lambda: made.derivative(2.0))
    assert entry_of(made, "derivative 1") is not None
    assert made.derivative(1e90) == pytest.approx(-1e-180, rel=1e-12)


def test_many_kinds_of_formulas_at_once() -> None:
    def f(x: Any) -> Any:
        a, b = x
        piece = np.where((a > 0) & (b > 0) | (a < -5), a**3, -b)
        extreme = np.maximum(a, b) * np.minimum(a, 0.3) + np.abs(b) * np.sign(a)
        powers = np.abs(a) ** 1.5 + b**-2 + 2.0**a + a ** (1 / 3) + np.hypot(a, b)
        logs = np.log1p(a) + np.expm1(b) + np.log2(b) + np.log10(a) + np.cbrt(b)
        waves = np.arctan2(a, b) + np.arcsinh(a) + np.tan(b) + np.sinc(a) + np.mod(b, a)
        return piece + extreme + powers + logs + waves

    x = np.array([0.7, 1.3])
    expected = dk.gradient(f, x, backend="tape")
    made = prepared(f, x, form="shared")
    for got in thrice(lambda: made.gradient(x)):
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    assert entry_of(made) is not None


def test_a_closure_that_is_rebound_is_seen_at_once() -> None:
    scale = 2.0

    def f(x: Any) -> Any:
        return scale * x

    made = prepared(f, 1.0)
    assert thrice(lambda: made.derivative(1.0)) == [2.0] * 3
    scale = 5.0
    assert made.derivative(1.0) == 5.0


@pytest.mark.parametrize("form", FORMS)
def test_several_threads_at_once(form: str) -> None:
    made = prepared(bump, np.array([0.7, 1.3]), form=form)
    points = [np.array([0.1 * i, 1.0 + i]) for i in range(20)] * 5
    thrice(lambda: made.gradient(points[0]))
    with ThreadPoolExecutor(8) as pool:
        for x, got in zip(points, pool.map(made.gradient, points), strict=True):
            np.testing.assert_allclose(got, bump_gradient(x), rtol=1e-13)


# ---------------------------------------------------------------------- many points


@pytest.mark.parametrize("form", FORMS)
def test_gradients_at_many_points(form: str) -> None:
    points = np.random.default_rng(0).uniform(0.1, 2, (50, 2))
    made = prepared(bump, points[0], form=form)
    expected = np.array([bump_gradient(x) for x in points])
    np.testing.assert_allclose(made.gradients(points), expected, rtol=1e-12, atol=1e-14)
    assert made.gradients(points[:0]).shape == (0, 2)


@pytest.mark.parametrize("form", ["shared", "array"])
def test_gradients_at_points_of_different_courses_and_structures(form: str) -> None:
    def f(p: Any, y: Any) -> Any:
        z = np.tanh(y @ p["W"] + p["b"])
        return np.sum(z**2) if p["b"][0] > 0 else np.sum(z**3) + p["b"][1]

    generator = np.random.default_rng(1)
    P = {"W": generator.normal(size=(6, 2, 3)), "b": generator.normal(size=(6, 3))}
    y = generator.normal(size=(4, 2))
    got = prepared(f, {"W": P["W"][0], "b": P["b"][0]}, y, form=form).gradients(P, y)
    for i in range(6):
        expected = dk.gradient(f, {"W": P["W"][i], "b": P["b"][i]}, y)
        for name in P:
            np.testing.assert_allclose(got[name][i], expected[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_refused_where_one_does_not_exist(form: str) -> None:
    made = prepared(lambda x: np.sum(np.log(x)), np.ones(2), form=form)
    with pytest.raises(dk.NonFiniteDerivative), np.errstate(all="ignore"):
        made.gradients(np.array([[1.0, 2.0], [3.0, -1.0]]))


@pytest.mark.parametrize(
    "points", [1.0, {"a": np.ones((2, 3)), "b": np.ones((3, 3))}], ids=["number", "lengths"]
)
def test_points_without_a_common_leading_axis(points: Any) -> None:
    with pytest.raises(dk.InvalidInput, match="leading axis"):
        prepared(lambda x: x, 1.0).gradients(points)


# ---------------------------------------------------------------------- precision


def test_source_for_mpmath_reaches_any_precision() -> None:
    def f(x: Any) -> Any:
        smooth = np.tanh(x) * np.exp(-(x**2)) * 0.1 + np.log1p(x**2) / 3
        return np.sum(smooth + np.maximum(x, 0.2) ** 1.5 + np.where(x > 1, x**3, np.arctan(x)))

    x = np.array([0.3, 1.7])
    made = prepared(f, x, form="shared")
    names: dict[str, Any] = {}
    exec(made.source("mpmath"), names)
    b = [mpmath.mpf(float(value)) for value in made.constants.values()]
    with mpmath.workdps(60):
        got = names["derivative"]([mpmath.mpf(float(e)) for e in x], b)
        for j in range(2):

            def along(t: Any, j: int = j) -> Any:
                y = mpmath.mpf(float(x[j])) + t
                tail = y**3 if y > 1 else mpmath.atan(y)
                kink = max(y, mpmath.mpf(0.2)) ** mpmath.mpf(1.5)
                bell = mpmath.tanh(y) * mpmath.exp(-(y**2)) * mpmath.mpf(0.1)
                return bell + mpmath.log1p(y**2) / 3 + kink + tail

            assert abs(got[0, j] - mpmath.diff(along, 0)) < mpmath.mpf(10) ** -25
    assert float(got[0, 0]) == pytest.approx(made.gradient(x)[0], rel=1e-15)


def test_an_estimate_tells_the_digits_that_the_expanded_form_loses() -> None:
    x = 8.0
    truth = float(1 / mpmath.cosh(mpmath.mpf(x)) ** 2)
    for form, lost in (("expanded", True), ("shared", False)):
        estimate = prepared(np.tanh, x, form=form, refine=False).estimate(x)
        error = abs(estimate.value - truth)
        assert error <= 2 * estimate.error + np.spacing(truth)
        assert (estimate.error > 1e-11 * truth) == lost
    assert prepared(np.tanh, x, form="array").estimate(x).error <= 1e-15


def test_simplification_may_not_take_all_memory() -> None:
    made = prepared(bump, np.array([0.7, 1.3]), form="expanded", simplify="full", max_bytes=10**7)
    with pytest.raises(dk.ExpressionTooLarge, match="simplify"):
        _ = made.expression


# ---------------------------------------------------------------------- beside kinks


@pytest.mark.parametrize(
    ("f", "x", "left", "right"),
    [
        (np.abs, 0.0, -1, 1),
        (np.abs, -2.0, -1, -1),
        (lambda x: np.maximum(x, 2 * x), 0.0, 1, 2),
        (lambda x: np.where(x > 0, x, 3 * x), 0.0, 3, 1),
        (lambda x: np.clip(x, 0, 1) + np.abs(x - 1) / 4, 1.0, 3 / 4, 1 / 4),
        (lambda x: np.exp(np.abs(np.sin(x))), 0.0, -1, 1),
        (lambda x: np.where((x > 0) & (x < 5), x**2 + x, 0.0), 0.0, 0, 1),
        (lambda x: x if x > 0 else 2 * x, 1.0, 1, 1),
        (lambda x: np.floor(x) + x, 1.5, 1, 1),
    ],
)
def test_one_sided_derivatives(f: Any, x: float, left: float, right: float) -> None:
    assert prepared(f, x).one_sided(x, 1.0) == pytest.approx((left, right))
    assert prepared(f, x).one_sided(x, -2.0) == pytest.approx((-2 * right, -2 * left))


def test_one_sided_derivatives_along_a_direction() -> None:
    x, v = np.array([0.0, 1.0, 1.0]), np.array([1.0, -1.0, 2.0])

    def f(x: Any) -> Any:
        return np.array([np.sum(np.abs(x)), np.max(x)])

    left, right = prepared(f, x).one_sided(x, v)
    np.testing.assert_array_equal(left, [0, -1])
    np.testing.assert_array_equal(right, [2, 2])


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.sign, 0.0),
        (lambda x: np.where(x > 0, x + 1, x), 0.0),
        (lambda x: np.where(x**2 > 0, x, 5 * x), 0.0),
        (lambda x: x if x > 0 else 2 * x, 0.0),
        (lambda x: np.floor(x) * x, 1.0),
    ],
)
def test_one_sided_derivatives_that_cannot_be_decided(f: Any, x: float) -> None:
    with pytest.raises(dk.UnsupportedOperation, match="cannot be decided"):
        prepared(f, x).one_sided(x, 1.0)


# ---------------------------------------------------------------------- size

SIZES = {
    "logistic": 100,
    "speelpenning": 400,
    "sigmoids": 60,
    "mlp-depth": 12,
    "mlp-width": 12,
    "helmholtz": 16,
    "determinant": 5,
}


@pytest.mark.parametrize("name", SIZES)
def test_the_shared_form_stays_within_five_operations_for_one(name: str) -> None:
    member = FAMILIES[name].member(SIZES[name])
    made = prepared(member.f, *member.arguments, form="shared")
    made.gradient(*member.arguments)
    program = made._latest.scalar._program
    outputs = [entry for leaf in program.outputs for entry in leaf]
    own = sum(tree_operations(d, {}) for d in program.shared.reachable(outputs).values())
    assert made.cost.operations <= 5 * own


def test_a_chain_is_derived_without_recursion_and_stays_linear() -> None:
    def chain(length: int) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            for _ in range(length // 2):
                x = np.sin(x) * 1.001
            return x

        return f

    for length in (500, 2_000):
        made = prepared(chain(length), 0.3, form="shared")
        slope, x = 1.0, 0.3
        for _ in range(length // 2):
            slope, x = slope * 1.001 * np.cos(x), 1.001 * np.sin(x)
        assert made.derivative(0.3) == pytest.approx(slope, rel=1e-12)
        assert made.cost.operations <= 3 * length
