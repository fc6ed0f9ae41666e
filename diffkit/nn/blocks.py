"""Blocks of modern networks: normalisation, residual connections, attention."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.errors import InvalidInput
from diffkit.nn.activations import IDENTITY, Activation, softmax
from diffkit.nn.initialisers import Initialiser, glorot
from diffkit.nn.layers import Layer, Parameters, Shapes, require_positive, require_width


@dataclass(frozen=True)
class _Normalisation(Layer):
    """a = γ x̂ + β with x̂ = (x - mean) / sqrt(variance + ε), over some axes.

    Attributes:
        width: how many features, or channels.
        epsilon: ε, which keeps a constant feature finite.
    """

    width: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        require_positive(self, self.width)

    @property
    def shapes(self) -> Shapes:
        return {"gamma": (self.width,), "beta": (self.width,)}

    def initial(
        self,
        generator: np.random.Generator,
        dtype: npt.DTypeLike = np.float64,
        initialiser: Initialiser = glorot,
    ) -> Parameters:
        """Return γ = 1 and β = 0."""
        return {"gamma": np.ones(self.width, dtype), "beta": np.zeros(self.width, dtype)}

    @abstractmethod
    def axes(self, x: Any) -> tuple[int, ...]:
        """Return the axes over which mean and variance are taken."""

    @abstractmethod
    def laid_out(self, parameter: Any, x: Any) -> Any:
        """Return γ or β in a shape that broadcasts against `x`."""

    def normalised(self, x: Any) -> tuple[Any, Any]:
        """Return x̂, and the 1 / sqrt(variance + ε) that it was scaled by."""
        centred = x - np.mean(x, axis=self.axes(x), keepdims=True)
        variance = np.mean(centred**2, axis=self.axes(x), keepdims=True)
        scale = 1 / np.sqrt(variance + self.epsilon)
        return centred * scale, scale

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return γ x̂ + β, in the shape of `x`."""
        self.checked(parameters)
        gamma, beta = (self.laid_out(parameters[name], x) for name in ("gamma", "beta"))
        return self.normalised(x)[0] * gamma + beta


class BatchNorm(_Normalisation):
    """Every feature (every channel, if there are further axes) normalised over the batch.

    By the statistics of the batch itself, as in training.
    Source: Ioffe and Szegedy, ICML 2015.
    """

    def axes(self, x: Any) -> tuple[int, ...]:
        if np.ndim(x) < 2 or np.shape(x)[1] != self.width:
            raise InvalidInput(f"{self} takes (batch, {self.width}, ...), not {np.shape(x)}")
        return (0, *range(2, np.ndim(x)))

    def laid_out(self, parameter: Any, x: Any) -> Any:
        return np.reshape(parameter, (self.width,) + (1,) * (np.ndim(x) - 2))


class LayerNorm(_Normalisation):
    """Every sample normalised along its last axis.

    Source: Ba, Kiros and Hinton, "Layer normalization" (2016).
    """

    def axes(self, x: Any) -> tuple[int, ...]:
        require_width(self, x, self.width)
        return (np.ndim(x) - 1,)

    def laid_out(self, parameter: Any, x: Any) -> Any:
        return parameter


@dataclass(frozen=True)
class Residual(Layer):
    """φ(x + F(x)), F a chain of layers; or φ(S(x) + F(x)) with a layer S as shortcut.

    The parameters nest: {"layer1": ..., "layer2": ..., "shortcut": ...}.
    Source: He, Zhang, Ren and Sun, CVPR 2016.
    """

    layers: tuple[Layer, ...]
    activation: Activation = IDENTITY
    shortcut: Layer | None = None

    @property
    def named_layers(self) -> tuple[tuple[str, Layer], ...]:
        """The layers of F with the names of their parameters."""
        return tuple((f"layer{i}", layer) for i, layer in enumerate(self.layers, start=1))

    @property
    def members(self) -> tuple[tuple[str, Layer], ...]:
        """All layers that have parameters, with their names."""
        shortcut = () if self.shortcut is None else (("shortcut", self.shortcut),)
        return tuple(
            (name, layer)
            for name, layer in (*self.named_layers, *shortcut)
            if layer.parameter_count
        )

    @property
    def parameter_count(self) -> int:
        return sum(layer.parameter_count for _, layer in self.members)

    def initial(
        self,
        generator: np.random.Generator,
        dtype: npt.DTypeLike = np.float64,
        initialiser: Initialiser = glorot,
    ) -> Parameters:
        """Return fresh parameters of all members."""
        return {name: layer.initial(generator, dtype, initialiser) for name, layer in self.members}

    def checked(self, parameters: Parameters) -> Parameters:
        """Return `parameters`, which must have one entry per member; masks may stand beside.

        Raises:
            InvalidInput: they have not.
        """
        names = [name for name, _ in self.members]
        masked = {name for name, layer in self.named_layers if not layer.parameter_count}
        if not isinstance(parameters, dict) or set(parameters) - masked != set(names):
            raise InvalidInput(f"a residual block has the parameters {', '.join(names)}")
        return parameters

    def preactivation(self, parameters: Parameters, x: Any) -> Any:
        """Return S(x) + F(x).

        Raises:
            InvalidInput: the two have different shapes.
        """
        self.checked(parameters)
        y = x
        for name, layer in self.named_layers:
            y = layer.forward(parameters.get(name, {}), y)
        if self.shortcut is not None:
            x = self.shortcut.forward(parameters.get("shortcut", {}), x)
        if np.shape(x) != np.shape(y):
            raise InvalidInput(
                f"a residual block adds {np.shape(x)} to {np.shape(y)}; give it a shortcut that "
                "changes the shape likewise"
            )
        return x + y

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return φ(S(x) + F(x))."""
        return self.activation(self.preactivation(parameters, x))


@dataclass(frozen=True)
class Attention(Layer):
    """One head: softmax(Q Kᵀ / √d) V, with Q = x W_q, K = x W_k, V = x W_v.

    `x` has shape (batch, time, inputs). In a causal head a step attends to no later one.
    Source: Vaswani et al., NeurIPS 2017, equation 1.
    """

    inputs: int
    width: int
    causal: bool = False

    def __post_init__(self) -> None:
        require_positive(self, self.inputs, self.width)

    @property
    def shapes(self) -> Shapes:
        return dict.fromkeys(("W_q", "W_k", "W_v"), (self.inputs, self.width))

    def attended(self, parameters: Parameters, x: Any) -> tuple[Any, Any, Any, Any]:
        """Return Q, K, V and the weights softmax(Q Kᵀ / √d), of shape (batch, time, time)."""
        self.checked(parameters)
        require_width(self, x, self.inputs, 3)
        Q, K, V = (x @ parameters[name] for name in ("W_q", "W_k", "W_v"))
        scores = Q @ np.swapaxes(K, 1, 2) / self.width**0.5
        return Q, K, V, _causal_softmax(scores) if self.causal else softmax(scores)

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return (batch, time, width)."""
        *_, V, weights = self.attended(parameters, x)
        return weights @ V


def _causal_softmax(scores: Any) -> Any:
    """The softmax of each row over the steps up to its own, and 0 for later ones."""
    time = np.shape(scores)[-1]
    later = np.arange(time) > np.arange(time)[:, None]
    known = np.where(later, np.min(scores, axis=-1, keepdims=True), scores)
    e = np.where(later, 0, np.exp(known - np.max(known, axis=-1, keepdims=True)))
    return e / np.sum(e, axis=-1, keepdims=True)
