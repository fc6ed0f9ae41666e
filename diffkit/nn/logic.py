"""Logic by neurons: a = φ(⟨w, x⟩ + b) with a threshold φ, and what takes more than one.

Source: McCulloch and Pitts (1943) and Rosenblatt (1958); Minsky and Papert (1969) for
exclusive-or, which no single neuron computes. Inputs are rows of 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import THRESHOLD, Activation
from diffkit.nn.layers import Dense
from diffkit.nn.losses import MEAN_SQUARED_ERROR
from diffkit.nn.network import Network


@dataclass(frozen=True, eq=False)
class Gate:
    """A network with the weights that make it a logical function.

    Attributes:
        network: of threshold units, or of the activation asked for.
        parameters: its weights.
    """

    network: Network
    parameters: dict[str, Any]

    def __call__(self, x: Any) -> Any:
        """Return one number per row of `x`."""
        return self.network.predict(self.parameters, x)[:, 0]

    def truth_table(self) -> dict[tuple[int, ...], float]:
        """Return the output for every row of 0 and 1."""
        rows = list(product((0, 1), repeat=self.network.layers[0].shapes["W"][0]))
        outputs = self(np.array(rows, float))
        return {row: float(a) for row, a in zip(rows, outputs, strict=True)}


def neuron(bias: float, *weights: float, activation: Activation = THRESHOLD) -> Gate:
    """Return φ(b + w1 x1 + w2 x2 + ...).

    Raises:
        InvalidInput: there are no weights.
    """
    if not weights:
        raise InvalidInput("a neuron needs at least one weight")
    return _chain(activation, ([bias], [list(weights)]))


def conjunction(activation: Activation = THRESHOLD) -> Gate:
    """Return x1 AND x2, as x1 + x2 > 1.5."""
    return neuron(-1.5, 1, 1, activation=activation)


def disjunction(activation: Activation = THRESHOLD) -> Gate:
    """Return x1 OR x2, as x1 + x2 > 0.5."""
    return neuron(-0.5, 1, 1, activation=activation)


def comparator(activation: Activation = THRESHOLD) -> Gate:
    """Return whether x1 > x2: weights (0, 1, -1), the bias first."""
    return neuron(0, 1, -1, activation=activation)


def classifier(activation: Activation = THRESHOLD) -> Gate:
    """Return whether 2 x1 + 3 x2 > 5: weights (-5, 2, 3), the bias first."""
    return neuron(-5, 2, 3, activation=activation)


def exclusive_or(activation: Activation = THRESHOLD) -> Gate:
    """Return x1 XOR x2: both OR and NOT AND.

    φ(φ(x1 + x2 - 0.5) + φ(1.5 - x1 - x2) - 1.5), three neurons.
    """
    return _chain(activation, ([-0.5, 1.5], [[1, 1], [-1, -1]]), ([-1.5], [[1, 1]]))


def _chain(activation: Activation, *layers: tuple[list[float], list[list[float]]]) -> Gate:
    """Layers given by their biases, and one row of weights per neuron."""
    parameters = {
        f"layer{i}": {"W": np.array(rows, float).T, "b": np.array(biases, float)}
        for i, (biases, rows) in enumerate(layers, start=1)
    }
    chain = tuple(Dense(len(rows[0]), len(rows), activation) for _, rows in layers)
    return Gate(Network(chain, MEAN_SQUARED_ERROR), parameters)
