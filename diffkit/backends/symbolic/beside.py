"""Whether a derivative found at a kink is the derivative: a look at it beside the point.

If the derivative at points on all sides approaches the one at the point, and so does the value,
then that is the derivative there. If it approaches another one, the formula at the point is wrong
about it; if it approaches several, there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import numpy as np

from diffkit.callers import warn_user
from diffkit.errors import DiffkitError, KinkWarning
from diffkit.structure import Leaves
from diffkit.target import Output, Point

Derive = Callable[[Point], tuple[Output, Leaves]]

DIRECTIONS: Final = 2
FAR, NEAR, SLACK = 0.3, 0.45, 0.6  # powers of the unit round-off
SHRUNK: Final = 0.25
CLOSE: Final = 1e-3  # relative distance from a limit at which it is believed


class Verdict(Enum):
    """What is found beside a point."""

    SAME = auto()
    OTHER = auto()
    NONE = auto()


@dataclass(frozen=True)
class Look:
    """What a derivative is beside a point.

    Attributes:
        verdict: about the one at the point.
        shared: the mean of those on two opposite sides, where the function only bends and they
            are finite; else None.
    """

    verdict: Verdict
    shared: Leaves | None


def beside(point: Point, output: Output, found: Leaves, derive: Derive) -> Look:
    """Judge what `derive` gave at a point by what it gives beside it."""
    at_point = _joined(output.leaves), _joined(found)
    directions = _directions(point)
    sides = [
        (_at(point, along, FAR, derive), _at(point, along, NEAR, derive)) for along in directions
    ]
    steps = [(far, near) for far, near in sides if far is not None and near is not None]
    eps = _eps(point)
    meets = [_approaches(far[0], near[0], at_point[0], eps) for far, near in steps]
    if len(steps) < len(sides) or not all(meets):
        opposite = [side for pair in sides[:2] for side in pair]
        bends = all(meets) and not any(side is None for side in opposite)
        return Look(Verdict.NONE, _mean(point, directions, found, derive) if bends else None)
    if all(_approaches(far[1], near[1], at_point[1], eps) for far, near in steps):
        return Look(Verdict.SAME, None)
    first_far, first_near = steps[0]
    agree = all(
        _approaches(far[1] - first_far[1], near[1] - first_near[1], 0 * at_point[1], eps)
        for far, near in steps[1:]
    )
    if agree:
        return Look(Verdict.OTHER, None)
    return Look(Verdict.NONE, _mean(point, directions, found, derive))


def warn_of_kink(name: str) -> None:
    """Say that there is no derivative, at the line of the user's that asked for it."""
    warn_user(
        f"{name} bends or jumps at this point, so that it has no derivative there; a subgradient "
        "that shares it among the sides is returned, or at a jump that of its formula",
        KinkWarning,
    )


def _mean(point: Point, directions: list[Leaves], found: Leaves, derive: Derive) -> Leaves | None:
    """The mean of the limits on two opposite sides; as found where that is the same."""
    limits = []
    for along in directions[:2]:
        near, twice = (_at(point, along, NEAR, derive, factor) for factor in (1.0, 2.0))
        if near is None or twice is None:
            return None
        limits.append(2 * near[1] - twice[1])
        apart = np.max(np.abs(near[1] - limits[-1]), initial=0)
        if apart > CLOSE * np.max(np.abs(limits[-1]), initial=0):
            return None
    own, mean = _joined(found), (limits[0] + limits[1]) / 2
    scale = np.max(np.abs(own), initial=0) + np.max(np.abs(mean), initial=0)
    flat = np.where(np.abs(mean - own) <= _eps(point) ** 0.5 * scale, own, mean)
    parts = np.split(flat, np.cumsum([np.size(leaf) for leaf in found])[:-1])
    return [
        part.reshape(np.shape(leaf)).astype(np.asarray(leaf).dtype)
        for part, leaf in zip(parts, found, strict=True)
    ]


def _directions(point: Point) -> list[Leaves]:
    generator = np.random.default_rng(20)
    result: list[Leaves] = []
    for _ in range(DIRECTIONS):
        along = [
            generator.standard_normal(np.shape(a)) * np.maximum(np.abs(a), 1) for a in point.leaves
        ]
        result += [along, [-part for part in along]]
    return result


def _at(
    point: Point, along: Leaves, power: float, derive: Derive, factor: float = 1.0
) -> tuple[Any, Any] | None:
    step = factor * _eps(point) ** power
    leaves = [
        (a + step * part).astype(np.asarray(a).dtype)[()]
        for a, part in zip(map(np.asarray, point.leaves), along, strict=True)
    ]
    try:
        with np.errstate(all="ignore"):  # the function may not be defined on that side
            output, found = derive(Point(point.layout, leaves, point.data))
    except DiffkitError:
        return None
    value, slopes = _joined(output.leaves), _joined(found)
    return (value, slopes) if np.isfinite(value).all() and np.isfinite(slopes).all() else None


def _approaches(far: Any, near: Any, limit: Any, eps: float) -> bool:
    """Whether the distance to a limit shrinks with the step, be it as slowly as its cube root."""
    scale = np.max(np.abs(limit), initial=0) + np.max(np.abs(far), initial=0)
    distances = (np.max(np.abs(value - limit), initial=0) for value in (far, near))
    before, after = distances
    return bool(after <= SHRUNK * before + eps**SLACK * scale)


def _eps(point: Point) -> float:
    return max((float(np.finfo(np.asarray(a).dtype).eps) for a in point.leaves), default=2e-16)


def _joined(leaves: Leaves) -> Any:
    return np.concatenate([np.zeros(0), *(np.ravel(np.asarray(a, float)) for a in leaves)])
