"""Named networks with parameters and data, ready to be differentiated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import SIGMOID, TANH
from diffkit.nn.datasets import iris
from diffkit.nn.losses import HALF_SQUARED_ERROR, SOFTMAX_CROSS_ENTROPY
from diffkit.nn.network import Network, fully_connected


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


NETWORKS: dict[str, Callable[[], Case]] = {"iris-mlp": _iris_mlp, "mazur": _mazur}
