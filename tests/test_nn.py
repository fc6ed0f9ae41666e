"""Networks, their parts and their data, against mpmath, published numbers and arithmetic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from high_precision import CONTEXT, along, big, rounded

from diffkit.backends.formulas.networks import backpropagation
from diffkit.errors import DatasetError, InvalidInput, NonFiniteDerivative
from diffkit.nn import (
    ACTIVATIONS,
    ARCTAN,
    ELU,
    HALF_SQUARED_ERROR,
    HINGE,
    IDENTITY,
    LEAKY_RELU,
    LOGISTIC,
    LOSSES,
    MEAN_SQUARED_ERROR,
    RELU,
    SELU,
    SIGMOID,
    SOFTMAX_CROSS_ENTROPY,
    SOFTPLUS,
    TANH,
    THRESHOLD,
    Activation,
    Dense,
    Loss,
    Network,
    Penalty,
    activation,
    digits,
    elastic,
    elu,
    fully_connected,
    huber,
    iris,
    leaky_relu,
    load_csv,
    log_softmax,
    sharpened,
    softmax,
    standardise,
)
from diffkit.nn.activations import log_softmax_jacobian, softmax_jacobian, threshold
from diffkit.nn.zoo import NETWORKS, network
from diffkit.operators import derivative, gradient
from diffkit.structure import flatten

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
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=str)


# ------------------------------------------------------------------ activations


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
    with pytest.raises(NonFiniteDerivative):
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


# ------------------------------------------------------------------ losses


def outputs_and_targets(loss: Loss, shape: tuple[int, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(11)
    targets = rng.uniform(size=shape)
    return rng.normal(size=shape), np.sign(targets - 0.5) if loss is HINGE else targets


def precise_loss(loss: Loss) -> Callable[[Any, Any], Any]:
    """The same loss, of functions that run on high-precision numbers."""
    if loss is LOGISTIC:
        return lambda z, t: np.mean(np.log(1 + np.exp(z)) - t * z)
    return loss


@every_loss
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3,)])
def test_the_gradient_of_a_loss(loss: Loss, shape: tuple[int, ...]) -> None:
    outputs, targets = outputs_and_targets(loss, shape)
    v = np.random.default_rng(12).normal(size=shape)
    want = rounded(along(lambda o: precise_loss(loss)(o, targets), outputs, v))
    np.testing.assert_allclose(np.sum(loss.gradient(outputs, targets) * v), want, rtol=1e-13)


def test_a_loss_of_huber_is_quadratic_near_and_linear_far_from_the_target() -> None:
    loss = huber(2.0)
    outputs, targets = np.array([[1.0], [-5.0], [2.0]]), np.zeros((3, 1))
    assert loss(outputs, targets) == pytest.approx((0.5 + 2 * (5 - 1) + 2) / 3, rel=1e-15)
    np.testing.assert_allclose(loss.gradient(outputs, targets), [[1 / 3], [-2 / 3], [2 / 3]])
    with pytest.raises(InvalidInput, match="delta"):
        huber(0.0)


def test_the_logistic_loss_keeps_its_digits_where_it_is_nearly_0() -> None:
    outputs, targets = np.array([[40.0, -40.0, 1e4, -1e4]]), np.array([[1.0, 0.0, 1.0, 0.0]])
    assert LOGISTIC(outputs, targets) == pytest.approx(np.exp(-40) / 2, rel=1e-14)
    got = LOGISTIC.gradient(outputs, targets)
    np.testing.assert_allclose(got, [[-np.exp(-40) / 4, np.exp(-40) / 4, 0, 0]], rtol=1e-14)


def test_the_hinge_loss_wants_signs() -> None:
    assert HINGE(np.array([[2.0], [-1.0]]), np.array([[1.0], [1.0]])) == 1.0
    with pytest.raises(InvalidInput, match=r"\+1 or -1"):
        HINGE(np.zeros((2, 1)), np.array([[0.0], [1.0]]))


@every_loss
def test_a_weighted_loss_counts_a_sample_as_often_as_its_weight_says(loss: Loss) -> None:
    outputs, targets = outputs_and_targets(loss, (3, 2))
    weights, repeated = np.array([2.0, 0.0, 1.0]), [0, 0, 2]
    want = loss(outputs[repeated], targets[repeated])
    assert loss(outputs, targets, weights) == pytest.approx(want, rel=1e-14)
    assert loss(outputs, targets, np.ones(3)) == pytest.approx(loss(outputs, targets), rel=1e-14)
    by_rows = loss.gradient(outputs[repeated], targets[repeated])
    got = loss.adjoint(outputs, targets, weights)
    np.testing.assert_allclose(got, [by_rows[0] * 2, 0 * by_rows[0], by_rows[2]], atol=1e-16)
    np.testing.assert_allclose(
        gradient(loss, outputs, targets, weights, backend="tape"),
        gradient(loss, outputs, targets, weights, backend="analytic"),
        rtol=1e-13,
        atol=1e-16,
    )


@pytest.mark.parametrize(
    "weights", [np.ones(2), -np.ones(3), np.zeros(3), np.array([1, np.nan, 1]), np.ones((3, 1))]
)
def test_weights_that_weigh_nothing_are_refused(weights: Any) -> None:
    with pytest.raises(InvalidInput, match="weights"):
        MEAN_SQUARED_ERROR(np.zeros((3, 1)), np.ones((3, 1)), weights)


def test_a_loss_without_its_samples_cannot_be_weighted() -> None:
    plain = Loss("plain", MEAN_SQUARED_ERROR.function, MEAN_SQUARED_ERROR.gradient)
    with pytest.raises(InvalidInput, match="plain has no loss of each sample"):
        plain(np.zeros((1, 1)), np.ones((1, 1)), np.ones(1))


@pytest.mark.parametrize(
    ("penalty", "value", "slope"),
    [
        (Penalty(l1=0.5), 0.5 * 7, [0.5, 0.0, -0.5]),
        (Penalty(l2=0.5), 0.5 * 25, [4.0, 0.0, -3.0]),
        (elastic(2.0, 0.25), 0.5 * 7 + 1.5 * 25, [12.5, 0.0, -9.5]),
    ],
)
def test_penalties_count_weights_and_not_biases(
    penalty: Penalty, value: float, slope: list[float]
) -> None:
    parameters = {"layer1": {"W": np.array([4.0, 0.0, -3.0]), "b": np.array([100.0])}}
    assert penalty(parameters) == value
    got = penalty.gradient(parameters)
    np.testing.assert_array_equal(got["layer1"]["W"], slope)
    np.testing.assert_array_equal(got["layer1"]["b"], [0])
    for backend in ("analytic", "tape"):
        again = gradient(penalty, parameters, backend=backend)
        np.testing.assert_array_equal(again["layer1"]["W"], slope)


@pytest.mark.parametrize(
    "build", [lambda: Penalty(l1=-1), lambda: Penalty(l2=np.inf), lambda: elastic(1, 2)]
)
def test_penalties_that_make_no_sense_are_refused(build: Any) -> None:
    with pytest.raises(InvalidInput):
        build()


def test_losses_by_hand() -> None:
    outputs, targets = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[0.0, 0.0], [3.0, 3.0]])
    assert MEAN_SQUARED_ERROR(outputs, targets) == (1 + 4 + 0 + 4) / 4
    assert HALF_SQUARED_ERROR(outputs, targets) == (2.5 + 2) / 2
    even = np.zeros((2, 4))
    assert SOFTMAX_CROSS_ENTROPY(even, np.array([0, 3])) == np.log(4)


@pytest.mark.parametrize("shape", [(6, 4), (4,)])
def test_class_numbers_and_one_hot_rows_mean_the_same(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    outputs, labels = rng.normal(size=shape), rng.integers(0, 4, shape[:-1])
    one_hot = np.eye(4)[labels]
    for form in (SOFTMAX_CROSS_ENTROPY.function, SOFTMAX_CROSS_ENTROPY.gradient):
        np.testing.assert_allclose(form(outputs, labels), form(outputs, one_hot), rtol=1e-14)


def test_cross_entropy_stands_large_logits() -> None:
    outputs = np.array([[1e4, -1e4, 0.0]])
    assert SOFTMAX_CROSS_ENTROPY(outputs, np.array([0])) == 0
    assert SOFTMAX_CROSS_ENTROPY(outputs, np.array([1])) == 2e4
    assert np.all(np.isfinite(SOFTMAX_CROSS_ENTROPY.gradient(outputs, np.array([1]))))


@every_loss
def test_losses_keep_float32(loss: Loss) -> None:
    outputs, targets = (a.astype(np.float32) for a in outputs_and_targets(loss, (5, 3)))
    assert loss(outputs, targets).dtype == np.float32
    assert loss.gradient(outputs, targets).dtype == np.float32


def test_cross_entropy_with_class_numbers_keeps_float32() -> None:
    outputs, labels = np.ones((2, 3), np.float32), [0, 2]
    assert SOFTMAX_CROSS_ENTROPY(outputs, labels).dtype == np.float32
    assert SOFTMAX_CROSS_ENTROPY.gradient(outputs, labels).dtype == np.float32


@every_loss
@pytest.mark.parametrize("which", ["function", "gradient"])
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (np.zeros((3, 1)), np.zeros(3)),  # NumPy would broadcast these to (3, 3)
        (np.zeros((3, 2)), np.zeros((2, 3))),
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2))),
        (np.float64(1), np.float64(1)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    loss: Loss, which: str, outputs: Any, targets: Any
) -> None:
    with pytest.raises(InvalidInput):
        getattr(loss, which)(outputs, targets)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.0, 1.0], [True, False], [0, 1, 2]])
def test_class_numbers_that_name_no_class_are_refused(labels: Any) -> None:
    for form in (SOFTMAX_CROSS_ENTROPY.function, SOFTMAX_CROSS_ENTROPY.gradient):
        with pytest.raises(InvalidInput, match="class numbers"):
            form(np.zeros((2, 3)), np.array(labels))


# ------------------------------------------------------------------ networks


def test_iris_mlp_is_the_network_of_the_design() -> None:
    case = network("iris-mlp")
    assert case.network.parameter_count == 131
    assert flatten(case.parameters)[0].size == 131
    assert [x.shape for x in case.data] == [(150, 4), (150, 3)]
    assert case.loss(case.parameters, *case.data) == case.network.loss(case.parameters, *case.data)
    assert flatten(case.parameters)[0].entry_names()[14] == "layer1.W[0, 14]"


def test_the_numbers_that_mazur_prints() -> None:
    case = network("mazur")
    gradient = backpropagation(case.network, case.parameters, *case.data)
    step = [
        w - 0.5 * g
        for layer in ("layer1", "layer2")
        for w, g in zip(
            case.parameters[layer]["W"].T.flat, gradient[layer]["W"].T.flat, strict=True
        )
    ]
    assert f"{case.loss(case.parameters, *case.data):.9f}" == "0.298371109"
    assert f"{gradient['layer2']['W'][0, 0]:.9f}" == "0.082167041"
    np.testing.assert_allclose(
        step,
        [
            *(0.149780716, 0.19956143, 0.24975114, 0.29950229),
            *(0.35891648, 0.408666186, 0.511301270, 0.561370121),
        ],
        atol=5.1e-9,
    )


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_named_networks_come_out_the_same_each_time(name: str) -> None:
    one, other = network(name), network(name)
    assert one.network == other.network
    assert hash(one.network) == hash(other.network)
    assert one.loss(one.parameters, *one.data) == other.loss(other.parameters, *other.data)


def test_an_unknown_network_is_answered_with_the_list() -> None:
    with pytest.raises(InvalidInput, match="choose one of iris-mlp, mazur"):
        network("iris")


def test_a_network_by_hand() -> None:
    net = fully_connected((2, 1), MEAN_SQUARED_ERROR, TANH)
    parameters = {"layer1": {"W": np.array([[2.0], [3.0]]), "b": np.array([1.0])}}
    np.testing.assert_array_equal(net.predict(parameters, np.array([[1.0, 2.0]])), [[9.0]])
    assert net.loss(parameters, np.array([[1.0, 2.0]]), np.array([[7.0]])) == 4.0


def test_one_sample_may_come_without_a_batch() -> None:
    case = network("iris-mlp")
    X, Y = case.data
    assert case.loss(case.parameters, X[7], Y[7]) == pytest.approx(
        case.loss(case.parameters, X[7:8], Y[7:8]), rel=1e-14
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_keep_their_dtype(dtype: Any) -> None:
    net = fully_connected((4, 5, 3), SOFTMAX_CROSS_ENTROPY, SIGMOID)
    parameters = net.initial(1, dtype)
    X, y = iris().X[:9].astype(dtype), iris().y[:9]
    assert {leaf.dtype for leaf in flatten(parameters)[1]} == {np.dtype(dtype)}
    assert net.loss(parameters, X, y).dtype == dtype
    assert flatten(backpropagation(net, parameters, X, y))[1][0].dtype == dtype


def test_a_seed_fixes_the_parameters() -> None:
    net = fully_connected((4, 5, 3), SOFTMAX_CROSS_ENTROPY, TANH)
    one, same, other = net.initial(1), net.initial(1), net.initial(2)
    np.testing.assert_array_equal(one["layer1"]["W"], same["layer1"]["W"])
    assert np.all(one["layer1"]["W"] != other["layer1"]["W"])
    assert np.abs(one["layer1"]["W"]).max() <= (6 / 9) ** 0.5


def test_a_network_cannot_be_changed() -> None:
    net = fully_connected((2, 1), MEAN_SQUARED_ERROR, TANH)
    with pytest.raises(FrozenInstanceError):
        net.criterion = HALF_SQUARED_ERROR  # type: ignore[misc]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Network((), MEAN_SQUARED_ERROR),
        lambda: Network((Dense(2, 3), Dense(4, 1)), MEAN_SQUARED_ERROR),
        lambda: Dense(0, 1),
        lambda: Dense(1, -1),
        lambda: fully_connected((3,), MEAN_SQUARED_ERROR, TANH),
    ],
)
def test_networks_that_do_not_fit_together_are_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput):
        build()


@pytest.mark.parametrize(
    ("parameters", "X"),
    [
        ({}, np.zeros((1, 2))),
        (None, np.zeros((1, 2))),
        ({"layer1": {"W": np.zeros((2, 1))}}, np.zeros((1, 2))),
        ({"layer1": {"W": np.zeros((2, 1)), "b": np.zeros(2)}}, np.zeros((1, 2))),
        ({"layer1": {"W": np.zeros((1, 2)), "b": np.zeros(1)}}, np.zeros((1, 2))),
        ({"layer1": {"W": np.zeros((2, 1)), "b": np.zeros(1)}}, np.zeros((2, 1))),
        ({"layer1": {"W": np.zeros((2, 1)), "b": np.zeros(1)}}, np.float64(1)),
    ],
)
def test_parameters_and_features_that_do_not_fit_are_refused(parameters: Any, X: Any) -> None:
    net = fully_connected((2, 1), MEAN_SQUARED_ERROR, TANH)
    with pytest.raises(InvalidInput):
        net.loss(parameters, X, np.zeros((1, 1)))


# ------------------------------------------------------------------ backpropagation


PRECISE: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "relu": lambda x: x * (x > 0),
}


def precise(net: Network) -> Network:
    """The same network, of functions that run on high-precision numbers."""

    def layer(old: Dense) -> Dense:
        phi = old.activation
        function = PRECISE.get(phi.name, phi.function)
        return Dense(old.inputs, old.outputs, Activation(phi.name, function, IDENTITY, IDENTITY))

    function: Any = precise_loss(net.criterion)
    criterion = Loss(net.criterion.name, function, function)
    return Network(tuple(layer(old) for old in net.layers), criterion)


@every_loss
@pytest.mark.parametrize("hidden", [TANH, SIGMOID, SOFTPLUS, RELU, IDENTITY], ids=str)
@pytest.mark.parametrize("output", [IDENTITY, SIGMOID], ids=str)
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_backpropagation_is_right(
    loss: Loss, hidden: Activation, output: Activation, batch: int | None
) -> None:
    """Along random directions of all parameters, against 90-digit differences."""
    net = fully_connected((3, 4, 2, 2), loss, hidden, output)
    rng = np.random.default_rng(5)
    shape = () if batch is None else (batch,)
    X, y = rng.normal(size=(*shape, 3)), rng.uniform(size=(*shape, 2))
    y = np.sign(y - 0.5) if loss is HINGE else y
    layout, leaves = flatten(net.initial(4))
    vector = layout.ravel(leaves) + 0.1 * rng.normal(size=layout.size)
    v = rng.normal(size=layout.size)

    def loss_of(flat: Any) -> Any:
        ends = np.cumsum([leaf.size for leaf in layout.leaves])[:-1]
        parts = zip(np.split(flat, ends), layout.leaves, strict=True)
        return precise(net).loss(
            layout.unflatten([part.reshape(leaf.shape) for part, leaf in parts]), big(X), y
        )

    gradient = backpropagation(net, layout.unflatten(layout.unravel(vector)), X, y)
    got_layout, got = flatten(gradient)
    assert got_layout == layout
    want = float(np.asarray(along(loss_of, vector, v)).astype(float))
    scale = float(np.linalg.norm(layout.ravel(got)) * np.linalg.norm(v))
    assert abs(layout.ravel(got) @ v - want) <= 1e-14 * scale


def test_backpropagation_of_iris_mlp_along_random_directions() -> None:
    case = network("iris-mlp")
    layout, leaves = flatten(case.parameters)
    X, Y = (a[::25] for a in case.data)
    v = np.random.default_rng(8).normal(size=layout.size)

    def loss_of(t: Any) -> Any:
        moved = [a + big(d) * t for a, d in zip(leaves, layout.unravel(v), strict=True)]
        return case.loss(layout.unflatten(moved), X, Y)

    gradient = flatten(backpropagation(case.network, case.parameters, X, Y))[1]
    want = rounded(along(loss_of, 0.0, 1.0))
    np.testing.assert_allclose(layout.ravel(gradient) @ v, want, rtol=1e-13)


# ------------------------------------------------------------------ data


def test_iris_is_fishers_table() -> None:
    data = iris()
    assert data.X.shape == (150, 4)
    assert data.X.dtype == np.float64
    assert data.class_names == ("setosa", "versicolor", "virginica")
    assert data.feature_names == ("sepal length", "sepal width", "petal length", "petal width")
    np.testing.assert_array_equal(np.bincount(data.y), [50, 50, 50])
    np.testing.assert_array_equal(data.X[0], [5.1, 3.5, 1.4, 0.2])
    np.testing.assert_array_equal(data.X[149], [5.9, 3.0, 5.1, 1.8])


def test_iris_has_the_two_samples_that_the_uci_copy_has_wrong() -> None:
    np.testing.assert_array_equal(iris().X[34], [4.9, 3.1, 1.5, 0.2])
    np.testing.assert_array_equal(iris().X[37], [4.9, 3.6, 1.4, 0.1])


def test_iris_has_the_means_that_fisher_prints() -> None:
    """Table II of the paper, in centimetres."""
    data = iris()
    means = [data.X[data.y == k].mean(axis=0) for k in range(3)]
    np.testing.assert_allclose(means[0], [5.006, 3.428, 1.462, 0.246], atol=1e-12)
    np.testing.assert_allclose(means[1], [5.936, 2.770, 4.260, 1.326], atol=1e-12)
    np.testing.assert_allclose(means[2], [6.588, 2.974, 5.552, 2.026], atol=1e-12)


def test_standardised_features_have_mean_0_and_deviation_1() -> None:
    data = iris().standardised()
    np.testing.assert_allclose(data.X.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(data.X.std(axis=0), 1)
    np.testing.assert_array_equal(data.one_hot.argmax(axis=1), data.y)
    np.testing.assert_array_equal(data.one_hot.sum(axis=1), 1)


def test_what_cannot_be_standardised_is_refused() -> None:
    with pytest.raises(DatasetError, match="column 1 is constant"):
        standardise(np.array([[1.0, 2.0], [3.0, 2.0]]))
    with pytest.raises(DatasetError, match="no samples"):
        standardise(np.zeros((0, 2)))


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "pets.csv"
    file.write_text("\ufeffweight, height,kind\n4, 25,cat\n\n30,60 , dog\n", encoding="utf-8")
    data = load_csv(file)
    np.testing.assert_array_equal(data.X, [[4, 25], [30, 60]])
    np.testing.assert_array_equal(data.y, [0, 1])
    assert data.feature_names == ("weight", "height")
    assert data.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "is empty"),
        ("a\n1\n2\n", "one column"),
        ("1,2,cat\n3,4,dog\n", "names of the columns"),
        ("a,b\n1,cat\nnan,dog\n", "line 3, a: 'nan' is not a finite number"),
        ("a,b\n1,cat\n-inf,dog\n", "line 3, a: '-inf'"),
        ("a,b\n1,cat\nx,dog\n", "line 3, a: 'x'"),
        ("a,b\n1,cat\n,dog\n", "line 3, a: ''"),
        ("a,b\n1,cat\n1,\n", "line 3, b: the class is missing"),
        ("a,b\n1,cat\n1,2,dog\n", "line 3: 3 columns where the first line names 2"),
        ("a,b\n1,cat\n2,cat\n", "one class, 'cat'"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_csv(file)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"a,b\n\xff\xfe,c\n")
    for name in ("absent.csv", "binary.csv"):
        with pytest.raises(DatasetError, match="cannot be read"):
            load_csv(tmp_path / name)


def test_digits_come_from_scikit_learn_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = np.arange(17.0)[:, None] * np.ones(64), np.arange(17) % 10
    stand_in: Any = ModuleType("sklearn.datasets")
    stand_in.load_digits = lambda: SimpleNamespace(data=pixels, target=labels)
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", stand_in)
    data = digits()
    assert (data.X.min(), data.X.max()) == (0, 1)
    assert len(data.class_names) == 10
    assert len(data.feature_names) == 64
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DatasetError, match="pip install scikit-learn"):
        digits()
