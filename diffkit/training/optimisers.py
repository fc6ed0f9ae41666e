"""How a gradient becomes a step: optimisers, and schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.structure import Leaves

Schedule = Callable[[int], float]
"""The factor by which the learning rate is multiplied in epoch 0, 1, ..."""


class Optimiser(Protocol):
    """How a gradient becomes a step."""

    def start(self, leaves: Leaves) -> Any:
        """Return the state before the first step."""

    def step(self, state: Any, leaves: Leaves, gradient: Leaves, factor: float) -> Any:
        """Move the parameters, leaf by leaf and in place, and return the new state.

        Args:
            state: what `start`, or the step before, returned.
            leaves: the parameters, as arrays.
            gradient: by each of them.
            factor: what the schedule says of the learning rate.
        """


@dataclass(frozen=True)
class SGD:
    """Gradient descent, v ← μ v - η g, θ ← θ + v.

    Attributes:
        rate: the learning rate η.
        momentum: μ, in [0, 1). Source: Polyak (1964).
    """

    rate: float = 0.1
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _require_rate(self.rate)
        _require_fraction("momentum", self.momentum)

    def start(self, leaves: Leaves) -> tuple[Leaves, Leaves]:
        """Return v = 0 for each leaf, and room to compute in."""
        return _zeros(leaves), _scratch(leaves)

    def step(
        self, state: tuple[Leaves, Leaves], leaves: Leaves, gradient: Leaves, factor: float
    ) -> tuple[Leaves, Leaves]:
        rate, momentum = factor * self.rate, self.momentum
        for v, push, leaf, g in zip(*state, leaves, gradient, strict=True):
            np.multiply(g, rate, push)
            if not momentum:
                leaf -= push
                continue
            v *= momentum
            v -= push
            leaf += v
        return state


@dataclass(frozen=True)
class Adam:
    """Steps scaled by running means of the gradient and of its square, entry by entry.

    Source: Kingma and Ba, ICLR 2015, algorithm 1.
    """

    rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _require_rate(self.rate)
        _require_fraction("beta1", self.beta1)
        _require_fraction("beta2", self.beta2)
        if not 0 < self.epsilon < math.inf:
            raise InvalidInput(f"epsilon={self.epsilon!r} must be positive and finite")

    def start(self, leaves: Leaves) -> tuple[int, Leaves, Leaves, Leaves]:
        """Return the number of steps, the means of g and of g², and room to compute in."""
        return 0, _zeros(leaves), _zeros(leaves), _scratch(leaves)

    def step(self, state: Any, leaves: Leaves, gradient: Leaves, factor: float) -> Any:
        count, means, squares, scratch = state
        count += 1
        a, b = self.beta1, self.beta2
        rate = factor * self.rate / (1 - a**count)
        for m, s, t, leaf, g in zip(means, squares, scratch, leaves, gradient, strict=True):
            np.multiply(g, 1 - a, out=t)
            m *= a
            m += t
            np.multiply(g, 1 - b, out=t)
            t *= g
            s *= b
            s += t
            np.divide(s, 1 - b**count, out=t)
            np.sqrt(t, out=t)
            t += self.epsilon
            np.divide(m, t, out=t)
            t *= rate
            leaf -= t
        return count, means, squares, scratch


def _zeros(leaves: Leaves) -> Leaves:
    return [np.zeros_like(leaf) for leaf in leaves]


def _scratch(leaves: Leaves) -> Leaves:
    """Arrays like the leaves to compute in, all in the same memory, which stays in the cache."""
    sizes: dict[Any, int] = {}
    for leaf in leaves:
        sizes[leaf.dtype] = max(leaf.size, sizes.get(leaf.dtype, 0))
    memory = {dtype: np.empty(size, dtype) for dtype, size in sizes.items()}
    return [np.reshape(memory[leaf.dtype][: leaf.size], leaf.shape) for leaf in leaves]


def steps_down(every: int, factor: float) -> Schedule:
    """Return the schedule that multiplies the rate by `factor` after each `every` epochs.

    Raises:
        InvalidInput: `every` is not positive.
    """
    if every < 1:
        raise InvalidInput(f"every={every} must be positive")
    return lambda epoch: float(factor ** (epoch // every))


def cosine(epochs: int) -> Schedule:
    """Return the schedule (1 + cos(π t / T)) / 2 of epoch t, falling from 1 to nearly 0.

    Source: Loshchilov and Hutter, ICLR 2017.

    Raises:
        InvalidInput: `epochs` is not positive.
    """
    if epochs < 1:
        raise InvalidInput(f"epochs={epochs} must be positive")
    return lambda epoch: (1 + math.cos(math.pi * min(epoch, epochs) / epochs)) / 2


def _require_rate(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise InvalidInput(f"the learning rate {rate!r} must be positive and finite")


def _require_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InvalidInput(f"{name}={value!r} must lie in [0, 1)")
