"""Recurrent layers over sequences of shape (batch, time, features), starting from zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diffkit.nn.activations import TANH, Activation, sigmoid
from diffkit.nn.layers import Layer, Parameters, Shapes, require_positive, require_width


@dataclass(frozen=True)
class _Recurrent(Layer):
    """What all have in common: a state that is carried from step to step.

    Attributes:
        inputs: features per step.
        hidden: the width of the state.
        every_step: whether to put out all states, (batch, time, hidden), or the last alone.
    """

    inputs: int
    hidden: int
    every_step: bool = False

    gates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_positive(self, self.inputs, self.hidden)

    @property
    def shapes(self) -> Shapes:
        width = self.gates * self.hidden
        return {"W_x": (self.inputs, width), "W_h": (self.hidden, width), "b": (width,)}

    def steps(self, parameters: Parameters, x: Any) -> tuple[list[Any], Any]:
        """Return the inputs step by step, and the state to start from.

        Raises:
            InvalidInput: the parameters or `x` have another shape than this layer takes.
        """
        self.checked(parameters)
        require_width(self, x, self.inputs, 3)
        start = np.zeros((np.shape(x)[0], self.hidden), x.dtype)
        return [x[:, t] for t in range(np.shape(x)[1])], start

    def chosen(self, states: list[Any]) -> Any:
        """Return what is put out of all states."""
        return np.stack(states, axis=1) if self.every_step else states[-1]


@dataclass(frozen=True)
class Elman(_Recurrent):
    """h_t = φ(x_t W_x + h_{t-1} W_h + b).

    Source: Elman, Cognitive Science 14 (1990).
    """

    activation: Activation = TANH

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the states."""
        inputs, h = self.steps(parameters, x)
        states = []
        for now in inputs:
            h = self.activation(self.preactivation(parameters, now, h))
            states.append(h)
        return self.chosen(states)

    def preactivation(self, parameters: Parameters, x: Any, h: Any) -> Any:
        """Return x W_x + h W_h + b of one step."""
        return x @ parameters["W_x"] + h @ parameters["W_h"] + parameters["b"]


@dataclass(frozen=True)
class LSTM(_Recurrent):
    """Long short-term memory: a cell c that is written, kept and read through gates.

        i, f, o = σ(...), g = tanh(...), each of x_t W_x + h_{t-1} W_h + b
        c_t = f c_{t-1} + i g,    h_t = o tanh c_t

    The columns of the weights are those of i, f, g, o in this order.
    Source: Hochreiter and Schmidhuber, Neural Computation 9 (1997), with the forget gate of
    Gers, Schmidhuber and Cummins (2000).
    """

    gates: ClassVar[int] = 4

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the states h."""
        inputs, h = self.steps(parameters, x)
        c, states = h, []
        for now in inputs:
            i, f, g, o = self.opened(parameters, now, h)
            c = f * c + i * g
            h = o * np.tanh(c)
            states.append(h)
        return self.chosen(states)

    def opened(self, parameters: Parameters, x: Any, h: Any) -> tuple[Any, Any, Any, Any]:
        """Return i, f, g and o of one step."""
        z = x @ parameters["W_x"] + h @ parameters["W_h"] + parameters["b"]
        i, f, g, o = (z[:, k * self.hidden : (k + 1) * self.hidden] for k in range(4))
        return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)


@dataclass(frozen=True)
class GRU(_Recurrent):
    """Gated recurrent unit: a state that is partly kept, partly replaced.

        r, z = σ(...) of x_t W_x + b + h_{t-1} W_h + d
        n = tanh(x_t W_x + b + r (h_{t-1} W_h + d)),    h_t = (1 - z) n + z h_{t-1}

    The columns of the weights are those of r, z, n in this order.
    Source: Cho et al., EMNLP 2014, with the reset gate after the product as in most libraries.
    """

    gates: ClassVar[int] = 3

    @property
    def shapes(self) -> Shapes:
        return {**super().shapes, "d": (3 * self.hidden,)}

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the states."""
        inputs, h = self.steps(parameters, x)
        states = []
        for now in inputs:
            _, z, n, _ = self.opened(parameters, now, h)
            h = (1 - z) * n + z * h
            states.append(h)
        return self.chosen(states)

    def opened(self, parameters: Parameters, x: Any, h: Any) -> tuple[Any, Any, Any, Any]:
        """Return r, z, n and h W_h + d (the columns of n) of one step."""
        k = self.hidden
        new = x @ parameters["W_x"] + parameters["b"]
        old = h @ parameters["W_h"] + parameters["d"]
        r = sigmoid(new[:, :k] + old[:, :k])
        z = sigmoid(new[:, k : 2 * k] + old[:, k : 2 * k])
        return r, z, np.tanh(new[:, 2 * k :] + r * old[:, 2 * k :]), old[:, 2 * k :]
