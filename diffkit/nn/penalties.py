"""Penalties on large weights: L1, L2 and both, each with its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.errors import InvalidInput


@dataclass(frozen=True)
class Penalty:
    """R(parameters) = l1 Σ |w| + l2 Σ w², over the weights alone.

    Weights are the arrays whose name begins with W; biases, scales and shifts go free.

    Attributes:
        l1: λ of the sum of absolute values.
        l2: λ of the sum of squares.
    """

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        for name, factor in (("l1", self.l1), ("l2", self.l2)):
            if not 0 <= factor < np.inf:
                raise InvalidInput(f"{name}={factor!r} must be finite and not negative")

    def __bool__(self) -> bool:
        return bool(self.l1 or self.l2)

    def __call__(self, parameters: Any) -> Any:
        """Return R, one number."""
        return sum(self._of(w) for w in _weights(parameters))

    def gradient(self, parameters: Any) -> Any:
        """Return l1 sign w + 2 l2 w for weights and 0 elsewhere, in their own structure.

        The sign of 0 is 0, the middle of the subgradients there.
        """
        return _mapped(parameters, lambda w: self.l1 * np.sign(w) + 2 * self.l2 * w)

    def _of(self, w: Any) -> Any:
        parts = [self.l1 * np.sum(np.abs(w))] if self.l1 else []
        return sum([*parts, self.l2 * np.sum(w**2)] if self.l2 else parts)


NO_PENALTY: Final = Penalty()


def elastic(strength: float, ratio: float) -> Penalty:
    """Return λ (ρ Σ |w| + (1 - ρ) Σ w²) with λ = strength and ρ = ratio.

    Source: Zou and Hastie, Journal of the Royal Statistical Society B 67 (2005).

    Raises:
        InvalidInput: the strength is negative, or the ratio not in [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise InvalidInput(f"ratio={ratio!r} must lie in [0, 1]")
    return Penalty(strength * ratio, strength * (1 - ratio))


def _weights(parameters: Any, name: str = "") -> list[Any]:
    if isinstance(parameters, dict):
        return [w for key, member in parameters.items() for w in _weights(member, key)]
    return [parameters] if name.startswith("W") else []


def _mapped(parameters: Any, function: Any, name: str = "") -> Any:
    if isinstance(parameters, dict):
        return {key: _mapped(member, function, key) for key, member in parameters.items()}
    return function(parameters) if name.startswith("W") else np.zeros_like(parameters)
