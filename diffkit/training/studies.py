"""Many trainings at once: what a single one cannot show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from diffkit.errors import InvalidInput
from diffkit.interface import Differentiator
from diffkit.nn.initialisers import Initialiser, glorot
from diffkit.nn.network import Network
from diffkit.training.loop import Plan, train


def final_losses(
    build: Callable[[int], Network],
    sizes: Sequence[int],
    X: Any,
    y: Any,
    plan: Plan,
    *,
    seeds: int = 10,
    initialiser: Initialiser = glorot,
    held_out: tuple[Any, Any] | None = None,
    backend: str | Differentiator = "tape",
) -> dict[int, tuple[float, ...]]:
    """Return the losses at which training ends, in ascending order, by size of the network.

    The larger the network, the closer together they lie: its local minima are nearly all as
    good as the best.
    Source: Choromanska et al., AISTATS 2015, figure 3.

    Args:
        build: makes the network of a size.
        sizes: which.
        X, y: what it learns from.
        plan: how.
        seeds: how many starts for each size.
        initialiser: of the weights.
        held_out: where the final loss is measured; by default on what it learned from.
        backend: where the gradients come from.

    Raises:
        InvalidInput: there are no seeds.
    """
    if seeds < 1:
        raise InvalidInput(f"seeds={seeds} must be positive")
    features, targets = (X, y) if held_out is None else held_out
    losses = {}
    for size in sizes:
        network = build(size)
        starts = [network.initial(seed, initialiser=initialiser) for seed in range(seeds)]
        ends = [train(network, start, X, y, plan, backend=backend).parameters for start in starts]
        losses[size] = tuple(sorted(float(network.loss(end, features, targets)) for end in ends))
    return losses
