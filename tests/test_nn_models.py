"""The named networks: gates by truth table, regressions at their minimum, the rest in small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from diffkit import gradient, hessian, validate
from diffkit.errors import DiffkitWarning, InvalidInput
from diffkit.nn import (
    HINGE,
    LOGISTIC,
    MEAN_SQUARED_ERROR,
    THRESHOLD,
    Dense,
    Elementwise,
    Network,
    Penalty,
    Residual,
    TiedAutoencoder,
    autoencoder,
    iris,
    least_squares,
    linear_regression,
    logic,
    logistic_regression,
    sharpened,
    skip_gram,
    small_alexnet,
    small_resnet,
    softmax,
    softmax_regression,
)
from diffkit.nn.zoo import NETWORKS, network
from diffkit.structure import flatten
from diffkit.validation.crosscheck import cross_check

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 2))


def largest(structure: Any) -> float:
    layout, leaves = flatten(structure)
    return float(np.abs(layout.ravel(leaves)).max())


# ------------------------------------------------------------------ logic


@pytest.mark.parametrize(
    ("gate", "table"),
    [
        (logic.conjunction, [0, 0, 0, 1]),
        (logic.disjunction, [0, 1, 1, 1]),
        (logic.comparator, [0, 0, 1, 0]),
        (logic.exclusive_or, [0, 1, 1, 0]),
    ],
)
def test_truth_tables(gate: Callable[..., logic.Gate], table: list[float]) -> None:
    assert list(gate().truth_table()) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert list(gate().truth_table().values()) == table


def test_the_classifier_is_a_half_plane() -> None:
    x = RNG.uniform(-3, 3, (500, 2))
    np.testing.assert_array_equal(logic.classifier()(x), 2 * x[:, 0] + 3 * x[:, 1] > 5)
    np.testing.assert_array_equal(logic.comparator()(x), x[:, 0] > x[:, 1])


@pytest.mark.parametrize(
    "gate", [logic.conjunction, logic.disjunction, logic.exclusive_or], ids=lambda g: g.__name__
)
def test_sharper_and_sharper_sigmoids_become_the_gate(gate: Callable[..., logic.Gate]) -> None:
    want = np.array(list(gate().truth_table().values()))
    errors = [
        np.abs(np.array(list(gate(sharpened(C)).truth_table().values())) - want).max()
        for C in (4.0, 16.0, 64.0)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-12


def test_no_single_neuron_is_an_exclusive_or() -> None:
    """The best linear guess for it is 1/2 everywhere."""
    corners = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    best = least_squares(corners, np.array([[0.0], [1], [1], [0]]))
    np.testing.assert_allclose(linear_regression(2).predict(best, corners), 0.5)


@pytest.mark.parametrize("backend", ["analytic", "finite", "symbolic", "tape"])
def test_zeros_from_threshold_units_come_with_a_warning(backend: str) -> None:
    gate = logic.exclusive_or()
    data = (np.array([[0.25, 1.0]]), np.array([[0.0]]))
    with pytest.warns(DiffkitWarning, match="layer1, layer2 are thresholds.*cannot train"):
        got = gradient(gate.network.loss, gate.parameters, *data, backend=backend)
    assert largest(got) == 0


def test_validation_of_threshold_units_comes_with_a_warning() -> None:
    gate = logic.conjunction()
    data = (np.array([[0.25, 1.0]]), np.array([[0.0]]))
    zeros = {"layer1": {"W": np.zeros((2, 1)), "b": np.zeros(1)}}
    with pytest.warns(DiffkitWarning, match="thresholds"):
        assert validate(gate.network.loss, gate.parameters, zeros, *data).verdict == "agree"


def test_threshold_units_are_found_wherever_they_are() -> None:
    data = np.ones((2, 3)), np.zeros((2, 3))
    for layer in (
        Elementwise(THRESHOLD),
        Residual((Dense(3, 3, THRESHOLD),)),
        TiedAutoencoder(3, 2, THRESHOLD),
    ):
        net = Network((layer,), MEAN_SQUARED_ERROR)
        with pytest.warns(DiffkitWarning, match="layer1 are thresholds"):
            gradient(net.loss, net.initial(), *data)
        net.loss(net.initial(), *data)  # whose value is as good as any


def test_a_neuron_needs_weights() -> None:
    with pytest.raises(InvalidInput):
        logic.neuron(1.0)


# ------------------------------------------------------------------ regression


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_least_squares_is_where_the_gradient_is_0(l2: float) -> None:
    net = linear_regression(3, 2, Penalty(l2=l2))
    best = least_squares(X, Y, l2)
    for backend in ("analytic", "tape"):
        assert largest(gradient(net.loss, best, X, Y, backend=backend)) < 1e-15
    lowest = net.loss(best, X, Y)
    layout, leaves = flatten(best)
    for seed in range(5):
        step = 1e-3 * np.random.default_rng(seed).normal(size=layout.size)
        moved = layout.unflatten(layout.unravel(layout.ravel(leaves) + step))
        assert net.loss(moved, X, Y) > lowest


def test_least_squares_of_exact_data_finds_the_truth() -> None:
    W, b = np.array([[2.0], [-1.0], [0.5]]), np.array([4.0])
    found = least_squares(X, X @ W + b)["layer1"]
    np.testing.assert_allclose(found["W"], W, rtol=1e-13)
    np.testing.assert_allclose(found["b"], b, rtol=1e-13)


@pytest.mark.parametrize("arguments", [(X, Y[:5]), (X, Y[:, 0]), (X[:0], Y[:0]), (X, Y, -1)])
def test_least_squares_refuses_what_does_not_fit(arguments: Any) -> None:
    with pytest.raises(InvalidInput):
        least_squares(*arguments)


def test_the_log_loss_is_convex_and_the_squared_loss_is_not() -> None:
    """Second derivatives along one weight: σ' of the logit, which cannot be negative."""
    x, y = np.array([[1.0]]), np.array([[0.0]])
    by_log, by_square = logistic_regression(1), logistic_regression(1, MEAN_SQUARED_ERROR)
    for w in (-3.0, 0.0, 4.0):
        p = {"layer1": {"W": np.array([[w]]), "b": np.zeros(1)}}
        second = hessian(by_log.loss, p, x, y)["layer1"]["W"]["layer1"]["W"]
        assert second.item() == pytest.approx(np.exp(-w) / (1 + np.exp(-w)) ** 2, rel=1e-12)
        a = 1 / (1 + np.exp(-w))
        second = hessian(by_square.loss, p, x, y)["layer1"]["W"]["layer1"]["W"]
        assert second.item() == pytest.approx(2 * a**2 * (1 - a) * (2 - 3 * a), rel=1e-12)


@pytest.mark.parametrize("criterion", [LOGISTIC, MEAN_SQUARED_ERROR], ids=str)
def test_logistic_regression_four_ways(criterion: Any) -> None:
    net = logistic_regression(3, criterion, Penalty(l1=0.01, l2=0.02))
    data = (X, (Y[:, :1] > 0).astype(float))
    assert cross_check(net.loss, net.initial(1), *data).verdict == "agree"


def test_two_classes_of_softmax_are_logistic_regression() -> None:
    soft, logistic = softmax_regression(3, 2), logistic_regression(3)
    p = soft.initial(2)["layer1"]
    difference = {"layer1": {"W": p["W"][:, 1:] - p["W"][:, :1], "b": p["b"][1:] - p["b"][:1]}}
    labels = (Y[:, 0] > 0).astype(int)
    assert logistic.loss(difference, X, labels[:, None].astype(float)) == pytest.approx(
        soft.loss({"layer1": p}, X, labels), rel=1e-14
    )
    probability = softmax(soft.predict({"layer1": p}, X))[:, 1]
    logit = logistic.predict(difference, X)[:, 0]
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logit)), rtol=1e-13)


def test_a_support_vector_machine_four_ways() -> None:
    net = Network((Dense(3, 1),), HINGE, Penalty(l2=0.1))
    assert cross_check(net.loss, net.initial(1), X, np.sign(Y[:, :1])).verdict == "agree"


# ------------------------------------------------------------------ autoencoders, words


@pytest.mark.parametrize("tied", [False, True])
def test_autoencoders_four_ways(tied: bool) -> None:
    net = autoencoder((3, 2), tied=tied)
    noisy = X + 0.1 * np.random.default_rng(3).normal(size=X.shape)
    parameters = net.initial(2)
    assert net.predict(parameters, X).shape == X.shape
    assert cross_check(net.loss, parameters, noisy, X).verdict == "agree"


def test_a_tied_autoencoder_is_one_with_equal_weights() -> None:
    tied, free = autoencoder((3, 2), tied=True), autoencoder((3, 2))
    p = tied.initial(4)["layer1"]
    untied = {"layer1": {"W": p["W"], "b": p["b"]}, "layer2": {"W": p["W"].T, "b": p["c"]}}
    assert tied.loss({"layer1": p}, X, X) == free.loss(untied, X, X)
    g, h = gradient(tied.loss, {"layer1": p}, X, X), gradient(free.loss, untied, X, X)
    want = h["layer1"]["W"] + h["layer2"]["W"].T
    np.testing.assert_allclose(g["layer1"]["W"], want, rtol=1e-13)


@pytest.mark.parametrize(
    "build",
    [
        lambda: autoencoder((3,)),
        lambda: autoencoder((5, 3, 2), tied=True),
        lambda: small_alexnet(size=18),
    ],
)
def test_models_that_cannot_be_are_refused(build: Any) -> None:
    with pytest.raises(InvalidInput):
        build()


def test_deeper_autoencoders_mirror_their_widths() -> None:
    shapes = [layer.shapes["W"] for layer in autoencoder((7, 4, 2)).layers]
    assert shapes == [(7, 4), (4, 2), (2, 4), (4, 7)]


def test_skip_gram_by_hand() -> None:
    net = skip_gram(5, 3)
    p = net.initial(1)
    V, U = p["layer1"]["W"], p["layer2"]["W"]
    centres, near = np.array([0, 2]), np.array([4, 2])
    want = -np.mean([np.log(softmax(V[c] @ U)[n]) for c, n in zip(centres, near, strict=True)])
    assert net.loss(p, centres, near) == pytest.approx(want, rel=1e-14)


def test_negative_sampling_by_hand() -> None:
    net = skip_gram(5, 3, negative=True)
    p = net.initial(1)["layer1"]
    V, U = p["W_in"], p["W_out"]

    def sigmoid(t: Any) -> Any:
        return 1 / (1 + np.exp(-t))

    want = -np.log(sigmoid(V[0] @ U[4])) - np.log(sigmoid(-V[0] @ U[1]))
    got = net.loss({"layer1": p}, np.array([[0, 4, 1]]), np.array([[1.0, 0.0]]))
    assert got == pytest.approx(want / 2, rel=1e-14)


# ------------------------------------------------------------------ images


@pytest.mark.parametrize(
    ("net", "size", "count"),
    [(small_alexnet(1, 8, 3), 8, 2075), (small_resnet(2, 3), 4, 1339)],
    ids=["alexnet", "resnet"],
)
def test_image_networks_by_formula_and_by_tape(net: Network, size: int, count: int) -> None:
    channels = net.layers[0].inputs  # type: ignore[attr-defined]
    images = np.random.default_rng(1).normal(size=(2, channels, size, size))
    labels, parameters = np.array([0, 2]), net.initial(1)
    assert net.predict(parameters, images).shape == (2, 3)
    assert net.parameter_count == flatten(parameters)[0].size == count

    found = cross_check(
        net.loss, parameters, images, labels, reference="tape", backends=("analytic",)
    )
    assert found.verdict == "agree", found


def test_iris_by_softmax_regression_four_ways() -> None:
    net, data = softmax_regression(4, 3), iris().standardised()
    found = cross_check(net.loss, net.initial(1), data.X[::10], data.one_hot[::10])
    assert found.verdict == "agree", found


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "iris-mlp"])
def test_every_named_network_four_ways(name: str) -> None:
    case = network(name)
    found = cross_check(case.loss, case.parameters, *case.data)
    assert not found.refusals
    assert found.verdict == "agree", found
