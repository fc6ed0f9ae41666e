"""The numbers behind the chapter on networks: small trainings, each from a fixed seed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from diffkit.errors import DiffkitWarning
from diffkit.nn import (
    ELU,
    LEAKY_RELU,
    LOGISTIC,
    MEAN_SQUARED_ERROR,
    RELU,
    SELU,
    SIGMOID,
    SOFTMAX_CROSS_ENTROPY,
    TANH,
    Activation,
    Dense,
    Network,
    constant,
    fully_connected,
    glorot,
    he,
    iris,
    logistic_regression,
    normal,
)
from diffkit.nn.diagnostics import approximation_errors, decay, layer_signals, loss_surface, zigzag
from diffkit.nn.initialisers import Initialiser
from diffkit.operators import gradient, prepare
from diffkit.training import SGD, Adam, Plan, final_losses, train

WIDTH: Final = 32
ACTIVATIONS: Final = (SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SELU)
STARTS: Final[dict[str, Initialiser]] = {
    "N(0, 0.05²)": normal(0.05),
    "Xavier": glorot,
    "He": he,
    "N(0, 0.5²)": normal(0.5),
}
SQUARE: Final = Activation("x²", lambda x: x**2, lambda x: 2 * x, lambda x: 2 + 0 * x)
UNITS: Final = (SIGMOID, TANH, RELU, SQUARE)


@dataclass(frozen=True)
class Signal:
    """What one layer of a deep network does at the start.

    Attributes:
        activation, start: how the network is built.
        layer: its number, from the input.
        gradient: norm of the gradient by its weights.
        deviation: standard deviation of its outputs.
        saturated: share of slopes below a hundredth.
        dead: share of units with slope 0 for every sample.
    """

    activation: str
    start: str
    layer: int
    gradient: float
    deviation: float
    saturated: float
    dead: float


def signals(depth: int, activations: Sequence[Activation] = ACTIVATIONS) -> list[Signal]:
    """Return the signals in the hidden layers of networks of that depth."""
    return [
        Signal(
            phi.name, start, layer, signal.gradient or 0.0, signal.deviation,
            signal.saturated or 0.0, signal.dead or 0.0,
        )
        for phi in activations
        for start in STARTS
        for layer, signal in enumerate(_layers(phi, start, depth)[:-1], start=1)
    ]  # fmt: skip


def decays(depths: Sequence[int]) -> dict[tuple[str, str], list[float]]:
    """Return by activation and start the factor per layer for networks of each depth."""
    return {
        (phi.name, start): [decay(_layers(phi, start, depth)) for depth in depths]
        for phi in ACTIVATIONS
        for start in STARTS
    }


def _layers(phi: Activation, start: str, depth: int) -> Any:
    net = fully_connected((WIDTH,) * (depth + 1) + (1,), MEAN_SQUARED_ERROR, phi)
    parameters = net.initial(2, initialiser=STARTS[start])
    generator = np.random.default_rng(0)
    X, Y = generator.normal(size=(64, WIDTH)), generator.normal(size=(64, 1))
    return layer_signals(net, parameters, X, gradient(net.loss, parameters, X, Y))


def wave(x: Any) -> Any:
    """Return |sin 3x|, which has kinks that no polynomial follows."""
    return np.abs(np.sin(3 * x))


def approximation(widths: Sequence[int]) -> dict[str, list[float]]:
    """Return the largest error of the best output layer, by activation, for each width."""
    return {phi.name: list(approximation_errors(wave, phi, widths).values()) for phi in UNITS}


def loss_spread(sizes: Sequence[int], seeds: int, epochs: int) -> dict[int, tuple[float, ...]]:
    """Return the errors on points held out after training, by hidden units, over seeds."""
    generator = np.random.default_rng(0)
    X, held = generator.uniform(-1, 1, (120, 2)), generator.uniform(-1, 1, (400, 2))

    def f(x: Any) -> Any:
        return np.sin(3 * x[:, :1]) * np.cos(2 * x[:, 1:])

    return final_losses(
        lambda size: fully_connected((2, size, 1), MEAN_SQUARED_ERROR, TANH),
        sizes, X, f(X), Plan(Adam(0.03), epochs=epochs),
        seeds=seeds, initialiser=normal(1.0), held_out=(held, f(held)),
    )  # fmt: skip


def dead_units(rates: Sequence[float], seeds: int) -> dict[str, list[float]]:
    """Return the mean share of dead units after training at each rate, by activation.

    On flowers in centimetres, as they are measured: all inputs are positive.
    """
    shares: dict[str, list[float]] = {}
    for phi in (RELU, LEAKY_RELU, ELU):
        net = fully_connected((4, WIDTH, 3), SOFTMAX_CROSS_ENTROPY, phi)
        shares[phi.name] = [
            float(np.mean([_dead_after(net, rate, seed) for seed in range(seeds)]))
            for rate in rates
        ]
    return shares


def _dead_after(net: Network, rate: float, seed: int) -> float:
    data = iris()
    start = net.initial(seed, initialiser=he)
    end = train(net, start, data.X, data.one_hot, Plan(SGD(rate), epochs=60)).parameters
    slopes = gradient(net.loss, end, data.X, data.one_hot)
    return layer_signals(net, end, data.X, slopes)[0].dead or 0.0


@dataclass(frozen=True)
class Path:
    """How the two weights of a neuron move, sample by sample.

    Attributes:
        points: the weights, (steps + 1, 2).
        share: of the samples that push both weights the same way.
    """

    points: Any
    share: float


def paths(steps: int) -> dict[str, Path]:
    """Return the paths from (0, 0) to (1, -1) with positive and with centred inputs."""
    generator = np.random.default_rng(5)
    positive = generator.uniform(0.2, 1.2, (steps, 2))
    return {
        "all inputs positive": _path(positive),
        "inputs centred": _path(positive - positive.mean(axis=0)),
    }


def _path(X: Any) -> Path:
    net = Network((Dense(2, 1, bias=False),), MEAN_SQUARED_ERROR)
    weights, points, slopes = np.zeros((2, 1)), [np.zeros(2)], []
    Y = X @ np.array([[1.0], [-1.0]])
    prepared = prepare(net.loss, {"layer1": {"W": weights}}, X[:1], Y[:1])
    rate = 0.1 / float(np.mean(X**2))
    for i in range(len(X)):
        p = {"layer1": {"W": weights}}
        slope = prepared.gradient(p, X[i : i + 1], Y[i : i + 1])["layer1"]["W"]
        weights = weights - rate * slope
        points.append(weights[:, 0])
        slopes.append(slope[:, 0])
    return Path(np.array(points), zigzag(np.array(slopes)))


def surfaces(axis: Any) -> dict[str, Any]:
    """Return two losses of a logistic neuron over its weight and bias, (axis, axis)."""
    x = np.linspace(-2, 2, 20)[:, None]
    y = (x > 0.3).astype(float)
    start = {"layer1": {"W": np.zeros((1, 1)), "b": np.zeros(1)}}
    weight = {"layer1": {"W": np.ones((1, 1)), "b": np.zeros(1)}}
    bias = {"layer1": {"W": np.zeros((1, 1)), "b": np.ones(1)}}
    found = {}
    for name, criterion in (("squared loss", MEAN_SQUARED_ERROR), ("log loss", LOGISTIC)):
        loss = partial(_loss_at, logistic_regression(1, criterion), x, y)
        found[name] = loss_surface(loss, start, (bias, weight), axis)
    return found


def _loss_at(net: Network, X: Any, y: Any, parameters: Any) -> Any:
    return net.loss(parameters, X, y)


XOR: Final = (
    np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]),
    np.array([[0.0], [1.0], [1.0], [0.0]]),
)


def exclusive_or_losses(epochs: int) -> dict[str, tuple[float, ...]]:
    """Return the loss by epoch of a 2-4-1 network on exclusive-or, from several starts."""
    net = fully_connected((2, 4, 1), LOGISTIC, TANH)
    starts: dict[str, Initialiser] = {
        "all 0": constant(0.0), "all 1": constant(1.0), "N(0, 0.5²)": normal(0.5),
        "Xavier": glorot, "He": he,
    }  # fmt: skip
    found = {}
    for name, start in starts.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DiffkitWarning)  # from all 0 nothing can be learned
            history = train(
                net, net.initial(1, initialiser=start), *XOR, Plan(Adam(0.05), epochs=epochs)
            ).history
        found[name] = history.loss + history.loss[-1:] * (epochs - history.epochs)
    return found
