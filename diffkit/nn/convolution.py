"""Convolution and pooling over one, two or more axes, through strided views.

A batch has shape (batch, channels, *axes). As everywhere in this field, a convolution does
not turn its kernel around: it is a cross-correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from diffkit.errors import InvalidInput
from diffkit.nn.activations import IDENTITY, Activation
from diffkit.nn.initialisers import Fans
from diffkit.nn.layers import Layer, Parameters, Shapes, require_positive


def windows(x: Any, kernel: tuple[int, ...], stride: int) -> Any:
    """Return the windows that a kernel sees, (batch, channels, *places, *kernel).

    Raises:
        InvalidInput: `x` has other axes than the kernel, or is smaller than it.
    """
    axes = np.shape(x)[2:]
    if len(axes) != len(kernel) or any(n < k for n, k in zip(axes, kernel, strict=True)):
        raise InvalidInput(
            f"a kernel of shape {kernel} does not fit an array of shape {np.shape(x)}, which "
            "should be (batch, channels, *axes) with axes at least as long"
        )
    seen = sliding_window_view(x, kernel, axis=tuple(range(2, 2 + len(kernel))))
    if stride == 1:
        return seen
    return seen[(slice(None), slice(None), *(slice(None, None, stride) for _ in kernel))]


def padded(x: Any, padding: int, rank: int) -> Any:
    """Return `x` with `padding` zeros on both ends of its last `rank` axes."""
    if not padding:
        return x
    return np.pad(x, [(0, 0)] * (np.ndim(x) - rank) + [(padding, padding)] * rank)


@dataclass(frozen=True)
class Convolution(Layer):
    """A convolution: a[n, o, p] = φ(b_o + Σ_c,i W[o, c, i] x[n, c, stride·p + i - padding]).

    Attributes:
        inputs, outputs: channels.
        kernel: its length along each axis, (3,) for sequences, (3, 3) for images.
        stride: the step from window to window.
        padding: zeros put around the array.
        activation: φ.
        bias: whether there is a b. Before a batch normalisation, which takes it out again, its
            derivative is 0 and nothing but rounding.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    activation: Activation = IDENTITY
    bias: bool = True

    def __post_init__(self) -> None:
        require_positive(self, self.inputs, self.outputs, self.stride, *self.kernel)
        if not self.kernel or self.padding < 0:
            raise InvalidInput(f"a convolution needs a kernel and a padding of 0 or more: {self}")

    @property
    def shapes(self) -> Shapes:
        bias: Shapes = {"b": (self.outputs,)} if self.bias else {}
        return {"W": (self.outputs, self.inputs, *self.kernel), **bias}

    def fans(self, name: str) -> Fans:
        return self.inputs * prod(self.kernel), self.outputs * prod(self.kernel)

    def windows(self, x: Any) -> Any:
        """Return the windows of the padded array.

        Raises:
            InvalidInput: `x` has another number of channels or axes, or is too small.
        """
        if np.shape(x)[1:2] != (self.inputs,):
            raise InvalidInput(
                f"{self} was given an array of shape {np.shape(x)}; it takes "
                f"(batch, {self.inputs}, *axes)"
            )
        return windows(padded(x, self.padding, len(self.kernel)), self.kernel, self.stride)

    def preactivation(self, parameters: Parameters, x: Any) -> Any:
        """Return the convolution before φ, of shape (batch, outputs, *places)."""
        self.checked(parameters)
        columns, places = self.columns(x)
        z = np.reshape(parameters["W"], (self.outputs, -1)) @ columns
        z = z + parameters["b"][:, None] if self.bias else z
        return np.reshape(z, (np.shape(x)[0], self.outputs, *places))

    def columns(self, x: Any) -> tuple[Any, tuple[int, ...]]:
        """Return the windows as columns, (batch, numbers in a window, places), and the places.

        Neighbouring places lie side by side in memory, as in `x`, so that the copy is quick and
        the product with the weights comes out as it is needed.
        """
        rank = len(self.kernel)
        seen = self.windows(x)
        places = np.shape(seen)[2 : 2 + rank]
        order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
        shape = (np.shape(x)[0], self.inputs * prod(self.kernel), prod(places))
        return np.reshape(np.transpose(seen, order), shape), places

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return φ of the convolution."""
        return self.activation(self.preactivation(parameters, x))


@dataclass(frozen=True)
class _Pool(Layer):
    """Windows of `size` along every axis, `stride` apart (by default side by side)."""

    size: int
    stride: int | None = None

    def __post_init__(self) -> None:
        require_positive(self, self.size, self.step)

    @property
    def step(self) -> int:
        """How far a window is from the next."""
        return self.size if self.stride is None else self.stride

    def windows(self, x: Any) -> Any:
        """Return the windows, (batch, channels, *places, *kernel)."""
        return windows(x, (self.size,) * (np.ndim(x) - 2), self.step)


def kernel_axes(seen: Any) -> tuple[int, ...]:
    """Return the axes of `windows` that run within a window."""
    rank = (np.ndim(seen) - 2) // 2
    return tuple(range(2 + rank, 2 + 2 * rank))


class MaxPool(_Pool):
    """The largest entry of each window."""

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the maxima, (batch, channels, *places)."""
        seen = self.windows(x)
        return np.max(seen, axis=kernel_axes(seen))


class AveragePool(_Pool):
    """The mean of each window."""

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the means, (batch, channels, *places)."""
        seen = self.windows(x)
        return np.mean(seen, axis=kernel_axes(seen))


@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The mean over all places."""

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return one number per channel, (batch, channels)."""
        return np.mean(x, axis=tuple(range(2, np.ndim(x))))
