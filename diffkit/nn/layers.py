"""Layers: what a network is a chain of. Here the affine ones, and those without parameters.

Samples are numbered by the first axis. A layer is a frozen description; its parameters are a
plain dict, kept outside. What it is differentiated by lives elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.errors import InvalidInput
from diffkit.nn.activations import IDENTITY, Activation, softmax
from diffkit.nn.initialisers import Fans, Initialiser, glorot

Parameters = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]


class Layer(ABC):
    """A differentiable map from an array of samples to another, with parameters."""

    @property
    def shapes(self) -> Shapes:
        """The shape of each parameter by its name; weights have names that begin with W."""
        return {}

    @property
    def parameter_count(self) -> int:
        """How many numbers the layer learns."""
        return sum(prod(shape) for shape in self.shapes.values())

    @abstractmethod
    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the output for a batch `x`."""

    def fans(self, name: str) -> Fans:
        """How many numbers flow into and out of each unit through a weight."""
        *inner, outputs = self.shapes[name]
        return prod(inner), outputs

    def initial(
        self,
        generator: np.random.Generator,
        dtype: npt.DTypeLike = np.float64,
        initialiser: Initialiser = glorot,
    ) -> Parameters:
        """Return fresh parameters: weights from the initialiser, everything else 0."""
        return {
            name: np.asarray(
                initialiser(generator, shape, self.fans(name))
                if name.startswith("W")
                else np.zeros(shape)
            ).astype(dtype)
            for name, shape in self.shapes.items()
        }

    def checked(self, parameters: Parameters) -> Parameters:
        """Return `parameters`, which must have this layer's names and shapes.

        Raises:
            InvalidInput: they have not.
        """
        if set(parameters) != set(self.shapes):
            raise InvalidInput(
                f"{self} has the parameters {', '.join(self.shapes)}, not {sorted(parameters)}"
            )
        for name, shape in self.shapes.items():
            if np.shape(parameters[name]) != shape:
                raise InvalidInput(
                    f"{self} has {name} of shape {shape}, and was given {name} of shape "
                    f"{np.shape(parameters[name])}"
                )
        return parameters


def require_width(layer: Layer, x: Any, width: int, ndim: int | None = None) -> None:
    """Check the length of the last axis, and how many axes there are.

    Raises:
        InvalidInput: `x` is of another shape.
    """
    shape = np.shape(x)
    if shape[-1:] != (width,) or (ndim is not None and len(shape) != ndim):
        axes = "" if ndim is None else f"of {ndim} axes, "
        raise InvalidInput(
            f"{layer} was given an array of shape {shape}; it takes arrays {axes}whose last axis "
            f"has length {width}"
        )


def require_positive(layer: Layer, *numbers: int) -> None:
    """Check sizes.

    Raises:
        InvalidInput: one is not a positive integer.
    """
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in numbers):
        raise InvalidInput(f"the sizes of a layer must be positive integers: {layer}")


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: a = φ(x W + b), with W of shape (inputs, outputs)."""

    inputs: int
    outputs: int
    activation: Activation = IDENTITY
    bias: bool = True

    def __post_init__(self) -> None:
        require_positive(self, self.inputs, self.outputs)

    @property
    def shapes(self) -> Shapes:
        bias: Shapes = {"b": (self.outputs,)} if self.bias else {}
        return {"W": (self.inputs, self.outputs), **bias}

    def preactivation(self, parameters: Parameters, x: Any) -> Any:
        """Return z = x W + b, of shape (..., outputs).

        Raises:
            InvalidInput: the parameters or `x` have another shape than this layer takes.
        """
        self.checked(parameters)
        require_width(self, x, self.inputs)
        z = x @ parameters["W"]
        return z + parameters["b"] if self.bias else z

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return φ(x W + b), of shape (..., outputs)."""
        return self.activation(self.preactivation(parameters, x))


@dataclass(frozen=True)
class Maxout(Layer):
    """Units that learn their activation: a_j = max_k (x W_jk + b_jk).

    W has shape (inputs, outputs, pieces).
    Source: Goodfellow et al., ICML 2013.
    """

    inputs: int
    outputs: int
    pieces: int = 2

    def __post_init__(self) -> None:
        require_positive(self, self.inputs, self.outputs, self.pieces)

    @property
    def shapes(self) -> Shapes:
        return {"W": (self.inputs, self.outputs, self.pieces), "b": (self.outputs, self.pieces)}

    def fans(self, name: str) -> Fans:
        return self.inputs, self.outputs

    def candidates(self, parameters: Parameters, x: Any) -> Any:
        """Return the affine pieces, of shape (batch, outputs, pieces)."""
        self.checked(parameters)
        require_width(self, x, self.inputs, 2)
        return np.tensordot(x, parameters["W"], 1) + parameters["b"]

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the largest piece, of shape (batch, outputs)."""
        return np.max(self.candidates(parameters, x), axis=-1)


@dataclass(frozen=True)
class TiedAutoencoder(Layer):
    """An autoencoder whose decoder is its encoder transposed: ψ(φ(x W + b) Wᵀ + c)."""

    inputs: int
    hidden: int
    encode: Activation
    decode: Activation = IDENTITY

    def __post_init__(self) -> None:
        require_positive(self, self.inputs, self.hidden)

    @property
    def shapes(self) -> Shapes:
        return {"W": (self.inputs, self.hidden), "b": (self.hidden,), "c": (self.inputs,)}

    def preactivations(self, parameters: Parameters, x: Any) -> tuple[Any, Any]:
        """Return x W + b and φ(x W + b) Wᵀ + c."""
        self.checked(parameters)
        require_width(self, x, self.inputs, 2)
        z = x @ parameters["W"] + parameters["b"]
        return z, self.encode(z) @ parameters["W"].T + parameters["c"]

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the reconstruction, in the shape of `x`."""
        return self.decode(self.preactivations(parameters, x)[1])


@dataclass(frozen=True)
class Elementwise(Layer):
    """An activation as a layer of its own."""

    activation: Activation

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return φ(x)."""
        return self.activation(x)


@dataclass(frozen=True)
class Softmax(Layer):
    """The softmax along the last axis as a layer, for losses that take probabilities.

    With a cross-entropy use that of logits, `SOFTMAX_CROSS_ENTROPY`, instead: it stays finite.
    """

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return softmax(x)."""
        return softmax(x)


@dataclass(frozen=True)
class Flatten(Layer):
    """All axes but the first made one."""

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return `x` as (batch, numbers per sample)."""
        return np.reshape(x, (np.shape(x)[0], prod(np.shape(x)[1:])))


@dataclass(frozen=True)
class Dropout(Layer):
    """Entries set to 0 by a mask, the others scaled up by 1/(1 - rate).

    A mask drawn anew at each call would make the loss another function each time, which no
    method can differentiate. So the mask is either given, as data, under the name `mask` beside
    the parameters (`nn.draw_masks` and training do so for each step), or it stays the same and
    follows from the seed and the shape.
    """

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise InvalidInput(f"the rate of dropout must lie in [0, 1), not {self.rate!r}")

    def mask(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """Return the mask that stays the same."""
        return self.drawn(np.random.default_rng(self.seed), shape, dtype)

    def drawn(
        self, generator: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> Any:
        """Return 0 where an entry is dropped and 1/(1 - rate) where it is kept."""
        kept = generator.random(shape) >= self.rate
        return (kept / (1 - self.rate)).astype(dtype)

    def applied(self, parameters: Parameters, x: Any) -> Any:
        """Return the mask that is applied to `x`.

        Raises:
            InvalidInput: the one that was given has another shape.
        """
        given = parameters.get("mask")
        if given is None:
            return self.mask(np.shape(x), x.dtype)
        if np.shape(given) != np.shape(x):
            raise InvalidInput(
                f"{self} was given a mask of shape {np.shape(given)} for an array of shape "
                f"{np.shape(x)}"
            )
        return given

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return `x` masked."""
        return x * self.applied(parameters, x)
