"""Activations and softmax, against mpmath, published vectors and every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from high_precision import CONTEXT, along, rounded

from diffkit.errors import DiffkitWarning, InvalidInput, NonFiniteDerivative
from diffkit.nn import (
    ACTIVATIONS,
    ARCTAN,
    ELU,
    LEAKY_RELU,
    RELU,
    SELU,
    SOFTMAX_CROSS_ENTROPY,
    THRESHOLD,
    Activation,
    activation,
    elu,
    leaky_relu,
    log_softmax,
    sharpened,
    softmax,
)
from diffkit.nn.activations import (
    log_softmax_jacobian,
    softmax_complement,
    softmax_jacobian,
    threshold,
)
from diffkit.operators import derivative

DTYPES = [np.float16, np.float32, np.float64, np.longdouble]
HALF = CONTEXT.mpf(1) / 2
GELU_C = CONTEXT.sqrt(2 / CONTEXT.pi)
SELU_CONSTANTS = (
    CONTEXT.mpf("1.05070098735548049341933498529460"),
    CONTEXT.mpf("1.67326324235437728481704299167172"),
)
EXACT: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "tanh": CONTEXT.tanh,
    "sigmoid": lambda x: 1 / (1 + CONTEXT.exp(-x)),
    "softplus": lambda x: CONTEXT.log1p(CONTEXT.exp(x)),
    "relu": lambda x: max(x, CONTEXT.mpf(0)),
    "threshold": lambda x: CONTEXT.mpf(x > 0),
    "arctan": CONTEXT.atan,
    "leaky_relu": lambda x: x if x > 0 else CONTEXT.mpf(0.1) * x,
    "elu": lambda x: x if x > 0 else CONTEXT.expm1(x),
    "selu": lambda x: SELU_CONSTANTS[0] * (x if x > 0 else SELU_CONSTANTS[1] * CONTEXT.expm1(x)),
    "gelu": lambda x: x * HALF * (1 + CONTEXT.tanh(GELU_C * (x + CONTEXT.mpf("0.044715") * x**3))),
    "gelu_erf": lambda x: x * CONTEXT.erfc(-x / CONTEXT.sqrt(2)) / 2,
    "silu": lambda x: x / (1 + CONTEXT.exp(-x)),
}
POINTS = [-700.0, -40.0, -9.0, -1.3, -1e-3, 0.25, 1e-8, 2.0, 17.0, 36.0, 700.0]
every_activation = pytest.mark.parametrize("phi", ACTIVATIONS.values(), ids=str)


@every_activation
@pytest.mark.parametrize("x", POINTS)
def test_an_activation_and_its_derivatives_keep_their_digits(phi: Activation, x: float) -> None:
    """In relative terms, in both tails: 40 ulps, because |x| = 40 is rounded in e^x.

    The Gaussian ones round x² and x³ there. Near -1.3 the slope of some has a zero.
    """
    exact = EXACT[phi.name]
    ulps = 40 if not phi.name.startswith("gelu") else 300 if abs(x) < 10 else 2000
    unseen = phi.name.endswith("relu") or x > 10  # beside 1, by an oracle of 90 digits
    tiny = 1e-15 if x == -1.3 else 1e-60 if unseen else 1e-300
    for order, form in enumerate((phi.function, phi.derivative, phi.second)):
        want = float(CONTEXT.diff(exact, CONTEXT.mpf(x), order))
        np.testing.assert_allclose(form(x), want, rtol=ulps * 2.3e-16, atol=tiny)


@every_activation
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activation_is_finite_far_out_and_keeps_its_dtype(phi: Activation, dtype: Any) -> None:
    x = np.array([-1e3, -30, 0 if phi is not THRESHOLD else 1, 30, 1e3], dtype)
    for form in (phi.function, phi.derivative, phi.second):
        y = form(x)
        assert y.dtype == dtype
        assert np.all(np.isfinite(y))
        assert type(form(x[0])) is dtype


@every_activation
def test_far_out_an_activation_has_reached_its_limits(phi: Activation) -> None:
    low, high, *slopes = {
        "identity": (-1e3, 1e3, 1, 1),
        "tanh": (-1.0, 1.0, 0, 0),
        "sigmoid": (0.0, 1.0, 0, 0),
        "softplus": (0.0, 1e3, 0, 1),
        "relu": (0.0, 1e3, 0, 1),
        "threshold": (0.0, 1.0, 0, 0),
        "arctan": (np.arctan(-1e3), np.arctan(1e3), 1e-6, 1e-6),
        "leaky_relu": (-1e2, 1e3, 0.1, 1),
        "elu": (-1.0, 1e3, 0, 1),
        "selu": (-1.7580993408473766, 1050.7009873554805, 0, 1.0507009873554805),
        "gelu": (0.0, 1e3, 0, 1),
        "gelu_erf": (0.0, 1e3, 0, 1),
        "silu": (0.0, 1e3, 0, 1),
    }[phi.name]
    np.testing.assert_allclose(phi(np.array([-1e3, 1e3])), [low, high], rtol=1e-15, atol=1e-300)
    got = phi.derivative(np.array([-1e3, 1e3]))
    np.testing.assert_allclose(got, slopes, rtol=1.1e-6 if phi is ARCTAN else 1e-15, atol=1e-300)


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_at_a_kink_the_derivative_is_the_mean_of_both_slopes() -> None:
    """Which every backend gives too; for ELU with α = 1 there is no kink."""
    for phi, left, right in (
        (RELU, 0, 1),
        (LEAKY_RELU, 0.1, 1),
        (ELU, 1, 1),
        (elu(0.5), 0.5, 1),
        (SELU, 1.7580993408473766, 1.0507009873554805),
    ):
        assert phi.derivative(0.0) == pytest.approx((left + right) / 2, rel=1e-15)
        assert derivative(phi, 0.0, backend="tape") == pytest.approx((left + right) / 2, rel=1e-15)
        steps = np.array([-1e-9, 1e-9])
        np.testing.assert_allclose(phi(steps) / steps, [left, right], rtol=1e-8)


def test_the_threshold_has_no_derivative_at_its_jump() -> None:
    assert threshold(np.array([-1e-300, 0.0, 5e-324])).tolist() == [0, 0, 1]
    assert np.isnan(THRESHOLD.derivative(0.0))
    with pytest.warns(DiffkitWarning, match="cannot train"), pytest.raises(NonFiniteDerivative):
        derivative(THRESHOLD, 0.0, backend="analytic")


@pytest.mark.parametrize("C", [1.0, 7.0, 300.0])
def test_a_sharpened_sigmoid_approaches_the_threshold(C: float) -> None:
    phi = sharpened(C)
    x = np.array([-0.5, -0.01, 0.02, 1.0])
    assert np.all(np.abs(phi(x) - threshold(x)) <= np.exp(-C * np.abs(x)))
    for form, slope in ((phi, phi.derivative), (phi.derivative, phi.second)):
        np.testing.assert_allclose(
            slope(x), [derivative(form, t, backend="tape") for t in x], rtol=1e-12, atol=1e-300
        )
        for t in x:
            assert derivative(phi, t, backend="analytic") == phi.derivative(t)


def test_parametric_activations_are_the_same_for_the_same_parameter() -> None:
    assert leaky_relu() is LEAKY_RELU
    assert elu(1) is ELU
    assert sharpened(2.0) is sharpened(2.0)
    assert leaky_relu(0.2)(-1.0) == -0.2
    for build in (lambda: sharpened(0), lambda: leaky_relu(np.inf), lambda: elu(np.nan)):
        with pytest.raises(InvalidInput):
            build()


@pytest.mark.filterwarnings("ignore:the derivative of a threshold")
@every_activation
@pytest.mark.parametrize("x", [-1e3, -2.5, -0.5, 0.75, 1e3])
def test_four_backends_agree_on_every_activation(phi: Activation, x: float) -> None:
    """The derivative is right where each backend's way to it ends at the same number."""
    for backend in ("analytic", "finite", "symbolic", "tape"):
        got = derivative(phi.function, x, backend=backend)
        rtol = 1e-11 if backend == "finite" else 1e-14
        np.testing.assert_allclose(got, phi.derivative(x), rtol=rtol, atol=1e-15)


@every_activation
def test_activations_are_found_by_name_and_compare_by_what_they_are(phi: Activation) -> None:
    assert activation(phi.name) is phi
    assert phi == Activation(phi.name, phi.function, phi.derivative, phi.second)
    assert len({phi, activation(phi.name)}) == 1


def test_an_unknown_activation_is_answered_with_the_list() -> None:
    with pytest.raises(InvalidInput, match="choose one of identity, tanh, sigmoid"):
        activation("sigmiod")


@pytest.mark.parametrize(
    ("x", "published", "digits"),
    [
        ((-1, 0, 1, 0, -1), (0.07, 0.18, 0.50, 0.18, 0.07), 2),
        ((0.5, 0.5, 0.1, 0.7), (0.257, 0.257, 0.172, 0.314), 3),
        ((1, 1, 1, 2, 1), (0.15, 0.15, 0.15, 0.40, 0.15), 2),
    ],
)
def test_published_softmax_vectors(x: Any, published: Any, digits: int) -> None:
    np.testing.assert_array_equal(np.round(softmax(np.array(x, float)), digits), published)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_stands_large_logits(dtype: Any) -> None:
    x = np.array([1e4, -1e4, 1e4], dtype)
    np.testing.assert_array_equal(softmax(x), np.array([0.5, 0, 0.5], dtype))
    assert softmax(x).dtype == log_softmax(x).dtype == dtype
    assert np.all(np.isfinite(log_softmax(x)))


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 2, 3), (1, 1)])
@pytest.mark.parametrize(
    ("f", "jacobian"), [(softmax, softmax_jacobian), (log_softmax, log_softmax_jacobian)]
)
def test_jacobians_of_softmax(f: Any, jacobian: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    x, v = rng.normal(size=shape), rng.normal(size=shape)
    got = jacobian(x)
    assert got.shape == shape + shape
    np.testing.assert_allclose(
        np.tensordot(got, v, len(shape)), rounded(along(f, x, v)), rtol=1e-13, atol=1e-14
    )


def test_a_softmax_that_is_nearly_1_keeps_the_digits_of_the_rest() -> None:
    x = np.array([[40.0, 0.0, 1.0], [-3.0, -3.0, -3.0]])
    rest = float(CONTEXT.exp(-40) + CONTEXT.exp(-39))
    np.testing.assert_allclose(softmax_complement(x), [[rest, 1, 1], [2 / 3] * 3], rtol=1e-15)
    got = softmax_jacobian(x[0])[0, 0]
    assert got == pytest.approx(rest, rel=1e-15)
    assert log_softmax_jacobian(x[0])[1, 0] == pytest.approx(-1, rel=1e-15)
    for targets in (np.array([0, 1]), np.eye(3)[[0, 1]]):
        delta = SOFTMAX_CROSS_ENTROPY.gradient(x, targets)
        assert delta[0, 0] == pytest.approx(-rest / 2, rel=1e-15)
        np.testing.assert_allclose(delta[1], [1 / 6, -1 / 3, 1 / 6], rtol=1e-15)
