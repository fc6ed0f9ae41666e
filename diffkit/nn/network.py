"""Networks: layers one after the other, and a loss on what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.errors import InvalidInput
from diffkit.nn.activations import IDENTITY, Activation
from diffkit.nn.layers import Dense, Parameters
from diffkit.nn.losses import Loss


@dataclass(frozen=True)
class Network:
    """A fully connected network. Its parameters are a plain nested dict, kept outside.

    Attributes:
        layers: from input to output; each takes as many inputs as the one before puts out.
        criterion: what `loss` measures. A softmax is part of its cross-entropy, so the last
            layer of a classifier puts out logits.
    """

    layers: tuple[Dense, ...]
    criterion: Loss

    def __post_init__(self) -> None:
        if not self.layers:
            raise InvalidInput("a network needs at least one layer")
        for before, after in pairwise(self.layers):
            if before.outputs != after.inputs:
                raise InvalidInput(
                    f"a layer with {before.outputs} outputs cannot feed one with "
                    f"{after.inputs} inputs"
                )

    @property
    def named_layers(self) -> tuple[tuple[str, Dense], ...]:
        """The layers with the names of their parameters: layer1, layer2, ..."""
        return tuple((f"layer{i}", layer) for i, layer in enumerate(self.layers, start=1))

    @property
    def parameter_count(self) -> int:
        return sum(layer.parameter_count for layer in self.layers)

    def initial(self, seed: int = 0, dtype: npt.DTypeLike = np.float64) -> dict[str, Parameters]:
        """Return fresh parameters: {"layer1": {"W": ..., "b": ...}, ...}, the same for one seed."""
        generator = np.random.default_rng(seed)
        return {name: layer.initial(generator, dtype) for name, layer in self.named_layers}

    def predict(self, parameters: dict[str, Parameters], X: Any) -> Any:
        """Return the outputs, of shape (batch, outputs) for `X` of shape (batch, inputs).

        Raises:
            InvalidInput: the parameters or `X` do not fit the layers.
        """
        self.require_parameters(parameters)
        for name, layer in self.named_layers:
            X = layer.forward(parameters[name], X)
        return X

    def loss(self, parameters: dict[str, Parameters], X: Any, y: Any) -> Any:
        """Return the mean loss over the batch, one number.

        Args:
            parameters: as from `initial`.
            X: features, (batch, inputs).
            y: targets, as the criterion takes them.

        Raises:
            InvalidInput: parameters, features or targets do not fit.
        """
        return self.criterion(self.predict(parameters, X), y)

    def require_parameters(self, parameters: dict[str, Parameters]) -> None:
        """Check that there is one entry per layer.

        Raises:
            InvalidInput: one is missing, or there are more.
        """
        names = [name for name, _ in self.named_layers]
        if not isinstance(parameters, dict) or set(parameters) != set(names):
            raise InvalidInput(f"the parameters must be a dict with the keys {', '.join(names)}")


def fully_connected(
    widths: Sequence[int],
    criterion: Loss,
    hidden: Activation,
    output: Activation = IDENTITY,
) -> Network:
    """Return a network of dense layers, `widths` running from the inputs to the outputs.

    Raises:
        InvalidInput: there are fewer than two widths, or one is not positive.
    """
    if len(widths) < 2:
        raise InvalidInput(f"a network needs at least two widths, its inputs and outputs: {widths}")
    activations = [hidden] * (len(widths) - 2) + [output]
    layers = tuple(
        Dense(inputs, outputs, activation)
        for (inputs, outputs), activation in zip(pairwise(widths), activations, strict=True)
    )
    return Network(layers, criterion)
