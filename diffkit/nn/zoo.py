"""Named networks with parameters and data, ready to be differentiated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import SIGMOID, TANH
from diffkit.nn.blocks import Attention, LayerNorm, Residual
from diffkit.nn.convolution import Convolution, MaxPool
from diffkit.nn.datasets import iris
from diffkit.nn.layers import Dense, Flatten, Layer
from diffkit.nn.losses import HALF_SQUARED_ERROR, MEAN_SQUARED_ERROR, SOFTMAX_CROSS_ENTROPY
from diffkit.nn.models import autoencoder, linear_regression, logistic_regression, skip_gram
from diffkit.nn.network import Network, fully_connected
from diffkit.nn.penalties import Penalty, elastic
from diffkit.nn.rectifiers import GELU
from diffkit.nn.recurrent import GRU, LSTM, Elman


@dataclass(frozen=True, eq=False)
class Case:
    """A network at given parameters on given data.

    Attributes:
        name: its name in `NETWORKS`.
        network: the network.
        parameters: where its loss is differentiated.
        data: features and targets, the further arguments of `loss`.
    """

    name: str
    network: Network
    parameters: dict[str, Any]
    data: tuple[Any, Any]

    @property
    def loss(self) -> Callable[..., Any]:
        """The loss as a function of (parameters, X, Y)."""
        return self.network.loss


def network(name: str) -> Case:
    """Return a named network with its parameters and data.

    Raises:
        InvalidInput: there is none of that name.
    """
    if name not in NETWORKS:
        raise InvalidInput(f"unknown network {name!r}; choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]()


def _iris_mlp() -> Case:
    """A 4-16-3 tanh classifier, 131 parameters, over all 150 standardised samples.

    The targets are one-hot rows, so that a sample's loss is an expression in them.
    """
    classifier = fully_connected((4, 16, 3), SOFTMAX_CROSS_ENTROPY, TANH)
    samples = iris().standardised()
    return Case("iris-mlp", classifier, classifier.initial(seed=1936), (samples.X, samples.one_hot))


def _mazur() -> Case:
    """A 2-2-2 sigmoid network on one sample, with every number printed in its source.

    Source: M. Mazur, "A step by step backpropagation example", 2015. His w1 ... w8 are the
    columns of W, one after the other.
    """
    classifier = fully_connected((2, 2, 2), HALF_SQUARED_ERROR, SIGMOID, SIGMOID)
    parameters = {
        "layer1": {"W": np.array([[0.15, 0.25], [0.20, 0.30]]), "b": np.array([0.35, 0.35])},
        "layer2": {"W": np.array([[0.40, 0.50], [0.45, 0.55]]), "b": np.array([0.60, 0.60])},
    }
    data = (np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]]))
    return Case("mazur", classifier, parameters, data)


def _two_layer_regression() -> Case:
    """a = b3 + w31 σ(b1 + w11 x1 + w12 x2) + w32 σ(b2 + w21 x1 + w22 x2) on a saddle."""
    net = fully_connected((2, 2, 1), MEAN_SQUARED_ERROR, SIGMOID)
    X = _grid()
    return Case("two-layer-regression", net, net.initial(seed=1), (X, X[:, :1] * X[:, 1:]))


def _two_layer_classifier() -> Case:
    """σ of the same, on exclusive-or."""
    net = fully_connected((2, 2, 1), MEAN_SQUARED_ERROR, SIGMOID, SIGMOID)
    return Case("two-layer-classifier", net, net.initial(seed=2), (_CORNERS, _EXCLUSIVE_OR))


def _linear_regression() -> Case:
    """Petal width from the three other lengths, in centimetres, with an L2 penalty."""
    X = iris().X
    net = linear_regression(3, penalty=Penalty(l2=0.1))
    return Case("linear-regression", net, net.initial(seed=3), (X[:, :3], X[:, 3:]))


def _logistic_regression() -> Case:
    """Versicolor or virginica, with an elastic penalty."""
    samples = iris().standardised()
    net = logistic_regression(4, penalty=elastic(0.02, 0.5))
    data = (samples.X[50:], samples.one_hot[50:, 2:])
    return Case("logistic-regression", net, net.initial(seed=4), data)


def _autoencoder() -> Case:
    """4-2-4 with one matrix for both directions, denoising."""
    X = iris().standardised().X[::10]
    noisy = X + np.random.default_rng(5).normal(0, 0.1, X.shape)
    net = autoencoder((4, 2), tied=True)
    return Case("autoencoder", net, net.initial(seed=5), (noisy, X))


def _convolutional() -> Case:
    """Bars or stripes: 4×4 images, convolution, max pool, logits."""
    lines = np.array([[1.0, -1, 1, -1], [1, 1, -1, -1], [-1, 1, 1, -1]])
    bars, stripes = [np.outer(v, np.ones(4)) for v in lines], [np.tile(v, (4, 1)) for v in lines]
    images = np.array([*bars, *stripes])
    X = images[:, None] + np.random.default_rng(6).normal(0, 0.1, (6, 1, 4, 4))
    layers = (Convolution(1, 2, (2, 2), activation=TANH), MaxPool(2), Flatten(), Dense(2, 2))
    net = Network(layers, SOFTMAX_CROSS_ENTROPY)
    return Case("convolutional", net, net.initial(seed=6), (X, np.eye(2)[[0, 0, 0, 1, 1, 1]]))


def _recurrent(name: str, layer: Layer) -> Case:
    """The next value of a sine from the last three, by a state of width 3."""
    wave = np.sin(0.7 * np.arange(8.0))
    X = np.stack([wave[i : i + 3] for i in range(5)])[:, :, None]
    net = Network((layer, Dense(3, 1)), MEAN_SQUARED_ERROR)
    return Case(name, net, net.initial(seed=7), (X, wave[3:, None]))


def _skip_gram() -> Case:
    """Five words, negative sampling."""
    net = skip_gram(5, 3, negative=True)
    X = np.array([[0, 1, 3], [1, 0, 4], [2, 3, 0], [3, 2, 1], [4, 2, 0]])
    return Case("skip-gram", net, net.initial(seed=8), (X, np.tile([1.0, 0.0], (5, 1))))


def _attention() -> Case:
    """One causal head over sequences of three steps."""
    rng = np.random.default_rng(9)
    net = Network((Attention(3, 2, True), Flatten(), Dense(6, 1)), HALF_SQUARED_ERROR)
    data = (rng.normal(size=(4, 3, 3)), rng.normal(size=(4, 1)))
    return Case("attention", net, net.initial(seed=9), data)


def _residual() -> Case:
    """A normalised residual block on every tenth flower."""
    samples = iris().standardised()
    block = Residual((LayerNorm(4), Dense(4, 6, GELU), Dense(6, 4)))
    net = Network((block, Dense(4, 3)), SOFTMAX_CROSS_ENTROPY)
    data = (samples.X[::10], samples.one_hot[::10])
    return Case("residual", net, net.initial(seed=10), data)


_CORNERS: Final = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
_EXCLUSIVE_OR: Final = np.array([[0.0], [1.0], [1.0], [0.0]])


def _grid() -> Any:
    """The 25 points of a square grid from -1 to 1, (25, 2)."""
    axis = np.linspace(-1, 1, 5)
    return np.stack([np.repeat(axis, 5), np.tile(axis, 5)], axis=1)


NETWORKS: dict[str, Callable[[], Case]] = {
    "iris-mlp": _iris_mlp,
    "mazur": _mazur,
    "two-layer-regression": _two_layer_regression,
    "two-layer-classifier": _two_layer_classifier,
    "linear-regression": _linear_regression,
    "logistic-regression": _logistic_regression,
    "autoencoder": _autoencoder,
    "convolutional": _convolutional,
    "elman": partial(_recurrent, "elman", Elman(1, 3)),
    "lstm": partial(_recurrent, "lstm", LSTM(1, 3)),
    "gru": partial(_recurrent, "gru", GRU(1, 3)),
    "skip-gram": _skip_gram,
    "attention": _attention,
    "residual": _residual,
}
