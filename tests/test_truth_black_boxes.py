"""The truth of functions that cannot be recorded: uncertified, and trusted only so far."""

from __future__ import annotations

import cmath
import math
from typing import Any

import mpmath
import numpy as np
import pytest

from diffkit import truth
from diffkit.errors import InvalidOutput, TruthUnavailable


def complex_friendly(x: Any) -> Any:
    y = cmath.exp(x) / (1 + x * x)
    return y if isinstance(x, complex) else y.real


SCALAR = [
    (math.sin, mpmath.cos, (0.5, 3.0, 100.0)),
    (math.exp, mpmath.exp, (-5.0, 0.0, 3.0)),
    (math.log, lambda x: 1 / x, (1e-5, 0.3, 1e6)),
    (math.sqrt, lambda x: 1 / (2 * mpmath.sqrt(x)), (1e-8, 2.0)),
    (lambda x: math.tanh(50 * x), lambda x: 50 * mpmath.sech(50 * x) ** 2, (0.01, 0.05)),
    (math.erf, lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x), (0.3, 1.5)),
    (lambda x: math.sin(200 * x), lambda x: 200 * mpmath.cos(200 * x), (0.3, 1.0)),
    (lambda x: math.fabs(x - 1), lambda x: mpmath.sign(x - 1), (1.01, 0.5)),
]


@pytest.mark.parametrize(
    ("f", "slope", "x"), [(f, slope, x) for f, slope, points in SCALAR for x in points]
)
def test_the_doubt_holds_and_is_of_use(f: Any, slope: Any, x: float) -> None:
    found = truth.derivative(lambda x: f(x), x)
    (enclosure,) = found.enclosures
    assert enclosure is not None
    with mpmath.workdps(40):
        exact = slope(mpmath.mpf(x))
        middle, radius = (
            mpmath.mpf(r.numerator) / r.denominator for r in (enclosure.midpoint, enclosure.radius)
        )
        assert abs(middle - exact) <= radius
        assert radius <= abs(exact) * mpmath.mpf("1e-9")
    assert not found.certified
    assert "not certified" in found.note
    assert found.evaluations > 50


def test_the_complex_step_is_used_where_it_agrees() -> None:
    found = truth.derivative(complex_friendly, 0.7)
    assert "the complex step" in found.note
    exact = math.exp(0.7) * (1 / 1.49 - 1.4 / 1.49**2)
    assert found.value == pytest.approx(exact, rel=1e-14)


def test_gradients_jacobians_and_products() -> None:
    x = np.array([0.3, 2.0])

    def f(x: Any) -> Any:
        return math.sin(x[0]) * math.exp(x[1])

    exact = [math.cos(0.3) * math.exp(2), math.sin(0.3) * math.exp(2)]
    np.testing.assert_allclose(truth.gradient(f, x).value, exact, rtol=1e-11)
    both = truth.jacobian(lambda x: np.array([f(x), math.log(x[1])]), x)
    np.testing.assert_allclose(both.value, [exact, [0, 0.5]], rtol=1e-11, atol=1e-13)
    along = truth.jvp(f, x, np.array([1.0, -2.0]))
    assert along.value == pytest.approx(exact[0] - 2 * exact[1], rel=1e-11)
    with pytest.raises(InvalidOutput, match="one number"):
        truth.gradient(lambda x: np.array([math.sin(x[0])] * 2), x)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: math.fabs(x), 0.0),
        (lambda x: math.floor(math.fabs(x)) + 0.5 * x, 1.0),
        (lambda x: round(math.sin(x), 2), 0.5),
        (lambda x: math.sqrt(x), 0.0),
        (lambda x: float(np.float16(math.sin(x))), 0.5),
    ],
)
def test_what_the_methods_do_not_agree_on_is_refused(f: Any, x: float) -> None:
    with pytest.raises(TruthUnavailable):
        truth.derivative(f, x)


@pytest.mark.parametrize(
    "f", [lambda x: round(math.sin(x), 8), lambda x: float(np.float32(math.sin(x)))]
)
def test_noise_widens_the_doubt(f: Any) -> None:
    (enclosure,) = truth.derivative(f, 0.5).enclosures
    assert enclosure is not None
    assert abs(float(enclosure.midpoint) - math.cos(0.5)) <= enclosure.radius
    assert 1e-9 < enclosure.radius < 1e-4


def test_partial_derivatives_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(TruthUnavailable):
        truth.gradient(lambda x: min(math.fabs(x[0]), math.fabs(x[1])), np.zeros(2))


def test_what_needs_a_recording_is_refused() -> None:
    for question in (
        lambda f: truth.derivative(f, 0.5, order=2),
        lambda f: truth.value(f, 0.5),
        lambda f: truth.hessian(f, 0.5),
        lambda f: truth.sample(f, 0.5),
        lambda f: truth.gradient(f, np.float32(0.5)),
    ):
        with pytest.raises(TruthUnavailable, match="cannot be recorded"):
            question(lambda x: math.sin(x))
