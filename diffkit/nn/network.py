"""Networks: layers one after the other, and a loss on what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.errors import InvalidInput
from diffkit.nn.activations import IDENTITY, THRESHOLD, Activation
from diffkit.nn.initialisers import Initialiser, glorot
from diffkit.nn.layers import Dense, Layer, Parameters
from diffkit.nn.losses import Loss
from diffkit.nn.penalties import NO_PENALTY, Penalty


@dataclass(frozen=True)
class Network:
    """A chain of layers. Its parameters are a plain nested dict, kept outside.

    Attributes:
        layers: from input to output; each takes what the one before puts out.
        criterion: what `loss` measures. A softmax is part of its cross-entropy, so the last
            layer of a classifier puts out logits.
        penalty: what `loss` adds for large weights.
    """

    layers: tuple[Layer, ...]
    criterion: Loss
    penalty: Penalty = NO_PENALTY

    def __post_init__(self) -> None:
        if not self.layers:
            raise InvalidInput("a network needs at least one layer")
        for before, after in pairwise(self.layers):
            if not isinstance(before, Dense) or not isinstance(after, Dense):
                continue
            if before.outputs != after.inputs:
                raise InvalidInput(
                    f"a layer with {before.outputs} outputs cannot feed one with "
                    f"{after.inputs} inputs"
                )

    @property
    def named_layers(self) -> tuple[tuple[str, Layer], ...]:
        """The layers with the names of their parameters: layer1, layer2, ..."""
        return tuple((f"layer{i}", layer) for i, layer in enumerate(self.layers, start=1))

    @property
    def parameter_count(self) -> int:
        """How many numbers the network learns."""
        return sum(layer.parameter_count for layer in self.layers)

    def initial(
        self,
        seed: int = 0,
        dtype: npt.DTypeLike = np.float64,
        initialiser: Initialiser = glorot,
    ) -> dict[str, Parameters]:
        """Return fresh parameters: {"layer1": {"W": ..., "b": ...}, ...}, the same for one seed.

        Layers without parameters have no entry.
        """
        generator = np.random.default_rng(seed)
        return {
            name: layer.initial(generator, dtype, initialiser)
            for name, layer in self.named_layers
            if layer.parameter_count
        }

    def predict(
        self, parameters: dict[str, Parameters], X: Any, masks: dict[str, Any] | None = None
    ) -> Any:
        """Return the outputs, of shape (batch, outputs) for `X` of shape (batch, inputs).

        Args:
            parameters: as from `initial`.
            X: features, (batch, inputs).
            masks: of dropout layers, as from `nn.draw_masks`; by default each has its own,
                which stays the same. `nn.without_dropout` gives the network for use.

        Raises:
            InvalidInput: the parameters, `X` or the masks do not fit the layers.
        """
        self.require_parameters(parameters)
        parameters = with_masks(parameters, masks)
        for name, layer in self.named_layers:
            X = layer.forward(parameters.get(name, {}), X)
        return X

    def loss(
        self,
        parameters: dict[str, Parameters],
        X: Any,
        y: Any,
        weights: Any = None,
        masks: dict[str, Any] | None = None,
    ) -> Any:
        """Return the empirical risk: the mean loss over the batch plus the penalty, one number.

        Args:
            parameters: as from `initial`.
            X: features, (batch, inputs).
            y: targets, as the criterion takes them.
            weights: how much each sample counts, (batch,); by default all the same.
            masks: of dropout layers, as from `nn.draw_masks`.

        Raises:
            InvalidInput: parameters, features, targets, weights or masks do not fit.
        """
        risk = self.criterion(self.predict(parameters, X, masks), y, weights)
        return risk + self.penalty(parameters) if self.penalty else risk

    @property
    def __diffkit_reservation__(self) -> str | None:
        """What differentiating its methods comes with: a warning, if there are thresholds."""
        stuck = [name for name, layer in self.named_layers if THRESHOLD in _activations(layer)]
        if not stuck:
            return None
        return (
            f"the units of {', '.join(stuck)} are thresholds, whose derivative is 0 wherever it "
            "exists: every gradient by the parameters of that layer and those before it is 0, "
            "and gradient descent cannot train them; use a sigmoid (sharpened, if it must be "
            "steep) instead"
        )

    def require_parameters(self, parameters: dict[str, Parameters]) -> None:
        """Check that there is one entry per layer that has parameters.

        Raises:
            InvalidInput: one is missing, or there are more.
        """
        names = [name for name, layer in self.named_layers if layer.parameter_count]
        if not isinstance(parameters, dict) or set(parameters) != set(names):
            raise InvalidInput(f"the parameters must be a dict with the keys {', '.join(names)}")


def fully_connected(
    widths: Sequence[int],
    criterion: Loss,
    hidden: Activation,
    output: Activation = IDENTITY,
    penalty: Penalty = NO_PENALTY,
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
    return Network(layers, criterion, penalty)


def with_masks(parameters: dict[str, Any], masks: dict[str, Any] | None) -> dict[str, Any]:
    """Return the parameters with the masks of dropout layers put beside them."""
    merged = dict(parameters)
    for name, own in (masks or {}).items():
        merged[name] = with_masks(merged.get(name, {}), own) if isinstance(own, dict) else own
    return merged


def _activations(layer: Layer) -> list[Activation]:
    """The activations of a layer, and of those within it."""
    own = [value for value in vars(layer).values() if isinstance(value, Activation)]
    within = (inner for member in vars(layer).get("layers", ()) for inner in _activations(member))
    return [*own, *within]
