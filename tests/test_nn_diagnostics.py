"""Diagnostics: gradients vanish, units die and layers approximate as the theory says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffkit import gradient
from diffkit.errors import InvalidInput
from diffkit.nn import (
    MEAN_SQUARED_ERROR,
    RELU,
    SELU,
    SIGMOID,
    TANH,
    Activation,
    Dense,
    Dropout,
    LayerNorm,
    Network,
    fully_connected,
    glorot,
    he,
    lecun,
    normal,
)
from diffkit.nn.diagnostics import (
    approximation_errors,
    decay,
    layer_signals,
    loss_surface,
    zigzag,
)

DEPTH, WIDTH = 12, 24
X = np.random.default_rng(0).normal(size=(16, WIDTH))
Y = np.random.default_rng(1).normal(size=(16, 1))


def signals_of(phi: Activation, initialiser: Any) -> Any:
    net = fully_connected((WIDTH,) * (DEPTH + 1) + (1,), MEAN_SQUARED_ERROR, phi)
    parameters = net.initial(2, initialiser=initialiser)
    return layer_signals(net, parameters, X, gradient(net.loss, parameters, X, Y))


def test_gradients_vanish_through_sigmoids_and_not_through_rectifiers() -> None:
    """σ' is at most 1/4, so each layer costs about a factor of 4 or more."""
    assert decay(signals_of(SIGMOID, glorot)) < 0.35
    assert 0.7 < decay(signals_of(RELU, he)) < 1.4
    assert 0.7 < decay(signals_of(TANH, glorot)) < 1.4
    assert 0.7 < decay(signals_of(SELU, lecun)) < 1.4


def test_gradients_explode_from_large_weights_and_vanish_from_small_ones() -> None:
    """The signal of each layer is multiplied by σ sqrt(width / 2), and the adjoint likewise."""
    large, right, small = (
        signals_of(RELU, start)[0].gradient for start in (normal(0.8), he, normal(0.05))
    )
    assert large > 1e6 * right
    assert small < 1e-6 * right


def test_selu_keeps_the_deviation_of_its_outputs() -> None:
    hidden = signals_of(SELU, lecun)[:-1]
    assert all(0.6 < signal.deviation < 1.5 for signal in hidden)
    assert signals_of(SIGMOID, glorot)[-2].deviation < 0.3


def test_saturation_and_death_by_hand() -> None:
    net = Network((Dense(1, 3, RELU), Dense(3, 1)), MEAN_SQUARED_ERROR)
    parameters = {
        "layer1": {"W": np.array([[1.0, -1.0, 0.0]]), "b": np.array([0.0, 0.0, -1.0])},
        "layer2": {"W": np.ones((3, 1)), "b": np.zeros(1)},
    }
    data = np.array([[1.0], [2.0], [-1.0], [-2.0]]), np.zeros((4, 1))
    first, last = layer_signals(net, parameters, data[0], gradient(net.loss, parameters, *data))
    assert first.dead == pytest.approx(1 / 3)  # the third never fires
    assert first.saturated == pytest.approx((2 + 2 + 4) / 12)
    assert (last.dead, last.saturated) == (0, 0)
    # loss = mean |x|²; by the weights of layer 2: 2 · mean |x| h
    assert last.gradient == pytest.approx(2 * np.hypot(5 / 4, 5 / 4))


def test_layers_without_weights_or_units_have_no_such_numbers() -> None:
    net = Network((Dense(2, 2, TANH), LayerNorm(2), Dropout(0.5)), MEAN_SQUARED_ERROR)
    parameters, data = net.initial(1), np.ones((3, 2)) * [[1.0], [2.0], [3.0]]
    found = layer_signals(net, parameters, data, gradient(net.loss, parameters, data, data))
    assert [signal.name for signal in found] == ["layer1", "layer2", "layer3"]
    assert found[1].saturated is None
    assert found[2].gradient is None
    with pytest.raises(InvalidInput):
        decay(found[:1])


def test_all_positive_inputs_make_the_path_zigzag() -> None:
    net = Network((Dense(5, 1),), MEAN_SQUARED_ERROR)
    parameters, targets = net.initial(1), np.random.default_rng(3).normal(size=(40, 1))
    centred = np.random.default_rng(4).normal(size=(40, 5))

    def share(inputs: Any) -> float:
        rows = [
            gradient(net.loss, parameters, inputs[i : i + 1], targets[i : i + 1])["layer1"]["W"]
            for i in range(len(inputs))
        ]
        return zigzag(np.array(rows)[:, :, 0])

    assert share(np.abs(centred)) == 1
    assert share(centred) < 0.25


def test_a_wide_sigmoid_layer_approximates_and_a_polynomial_one_does_not() -> None:
    def f(x: Any) -> Any:
        return np.abs(np.sin(3 * x))

    widths = (4, 16, 64, 256)
    by_sigmoid = approximation_errors(f, SIGMOID, widths)
    square = Activation("square", lambda x: x**2, lambda x: 2 * x, lambda x: 2 + 0 * x)
    by_square = approximation_errors(f, square, widths)
    errors = list(by_sigmoid.values())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05
    best_parabola = np.polyval(np.polyfit(*(x := np.linspace(-1, 1, 400), f(x)), 2), x)
    stuck = float(np.max(np.abs(best_parabola - f(x))))
    assert stuck > 0.2
    assert list(by_square.values())[1:] == pytest.approx([stuck] * 3, rel=1e-6)


def test_a_loss_surface_is_the_loss_on_a_plane() -> None:
    parameters = {"layer1": {"W": np.array([[1.0], [2.0]]), "b": np.zeros(1)}}
    first = {"layer1": {"W": np.array([[1.0], [0.0]]), "b": np.zeros(1)}}
    second = {"layer1": {"W": np.array([[0.0], [1.0]]), "b": np.zeros(1)}}
    steps = np.array([-1.0, 0.0, 2.0])
    got = loss_surface(lambda p: np.sum(p["layer1"]["W"] ** 2), parameters, (first, second), steps)
    np.testing.assert_array_equal(got, (1 + steps[:, None]) ** 2 + (2 + steps) ** 2)
