"""A better average of quotients whose limit is already known.

Extrapolation ends at steps so short that rounding, divided by them, is most of its error.
Polynomials through runs of longer steps, with a few more of those put between, need not reach
that far: nodes that are dense at the long end amplify rounding least, as Chebyshev's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffkit.backends.finite.limit import some
from diffkit.backends.finite.quotients import Sample
from diffkit.backends.finite.table import raised
from diffkit.structure import Array

BETWEEN = (1 / 3, 2 / 3)  # where new steps go, in logarithms, below the longest step of use


@dataclass(frozen=True)
class Run:
    """The best polynomial of each line and entry; its noise is infinite where none is good.

    Attributes:
        value: at step 0.
        spread: how far from it the polynomials through one row less are.
        noise: what rounding can have done to it.
    """

    value: Array
    spread: Array
    noise: Array


def steps_of_use(samples: Sequence[Sample], top: Array, error: Array) -> tuple[Array, Array]:
    """Return for each line the longest step that its worst entry uses, and the next one if any.

    Args:
        samples: all so far.
        top: the row where what gave each entry begins.
        error: of each entry.
    """
    worst = error.argmax(axis=1)
    lines = np.arange(len(worst))
    rows = top[lines, worst]
    steps = np.array([s.steps for s in samples])
    return steps[rows, lines], steps[np.minimum(rows + 1, len(steps) - 1), lines]


def best_run(
    samples: Sequence[Sample], used: Sequence[Array], floor: Array, power: int, columns: int
) -> Run:
    """Return the polynomial in step**power through successive steps that has the least noise.

    Only those count whose spread is lost in it.

    Args:
        samples: in any order of their steps.
        used: for each the lines for which it counts.
        floor: the noise in values of `f`, for each line and entry, beyond their rounding.
        power: of the step.
        columns: how many powers a polynomial may have at most.
    """
    steps = np.array([np.where(u, s.steps, np.nan) for u, s in zip(used, samples, strict=True)])
    order = np.argsort(-steps, axis=0)  # NaN last
    lines = np.arange(steps.shape[1])
    steps = steps[order, lines]
    both = np.array([[s.value for s in samples], [s.noise + floor * s.gain for s in samples]])[
        :, order, lines
    ]
    grid = lines[:, np.newaxis], np.arange(both.shape[3])
    best = Run(both[0, 0], *np.full((2, *both.shape[2:]), np.inf))
    powers = steps**power
    for width in range(1, min(columns, len(steps) - 1) + 1):
        values, both = both[0], raised(both, powers, width)
        spread = abs(both[0] - np.array([values[:-1], values[1:]])).max(axis=0)
        best = _better(best, both[0], spread, both[1], grid)
    return best


def _better(best: Run, value: Array, spread: Array, noise: Array, grid: tuple[Array, Array]) -> Run:
    """The best so far or, where that is better, the best of some more runs (first axis)."""
    good = spread <= noise
    if not some(good):
        return best
    score = np.where(good, noise, np.inf)
    choice = (score.argmin(axis=0), *grid)
    least = score[choice]
    better = least < best.noise
    if not some(better):
        return best
    return Run(
        np.where(better, value[choice], best.value),
        np.where(better, spread[choice], best.spread),
        np.where(better, least, best.noise),
    )
