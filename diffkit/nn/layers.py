"""Layers: the affine map with its activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.errors import InvalidInput
from diffkit.nn.activations import IDENTITY, Activation

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Dense:
    """A fully connected layer: a = φ(x W + b), with W of shape (inputs, outputs)."""

    inputs: int
    outputs: int
    activation: Activation = IDENTITY

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.outputs < 1:
            raise InvalidInput(f"a layer needs inputs and outputs, not {self}")

    @property
    def parameter_count(self) -> int:
        return (self.inputs + 1) * self.outputs

    def initial(self, generator: np.random.Generator, dtype: npt.DTypeLike) -> Parameters:
        """Return W uniform in ±sqrt(6 / (inputs + outputs)) and b = 0.

        Source: Glorot and Bengio, AISTATS 2010, equation 16.
        """
        limit = (6 / (self.inputs + self.outputs)) ** 0.5
        W = generator.uniform(-limit, limit, (self.inputs, self.outputs))
        return {"W": W.astype(dtype), "b": np.zeros(self.outputs, dtype)}

    def preactivation(self, parameters: Parameters, x: Any) -> Any:
        """Return z = x W + b, of shape (..., outputs).

        Raises:
            InvalidInput: the parameters or `x` have another shape than this layer takes.
        """
        W, b = self._checked(parameters)
        if np.shape(x)[-1:] != (self.inputs,):
            raise InvalidInput(
                f"a layer of {self.inputs} inputs was given an array of shape {np.shape(x)}; "
                f"its last axis must have length {self.inputs}"
            )
        return x @ W + b

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return φ(x W + b), of shape (..., outputs)."""
        return self.activation(self.preactivation(parameters, x))

    def _checked(self, parameters: Parameters) -> tuple[Any, Any]:
        if set(parameters) != {"W", "b"}:
            raise InvalidInput(f"a dense layer has parameters W and b, not {sorted(parameters)}")
        W, b = parameters["W"], parameters["b"]
        if np.shape(W) != (self.inputs, self.outputs) or np.shape(b) != (self.outputs,):
            raise InvalidInput(
                f"a layer of {self.inputs} inputs and {self.outputs} outputs was given W of "
                f"shape {np.shape(W)} and b of shape {np.shape(b)}"
            )
        return W, b
