"""Whether a derivative found at a kink is the derivative: a look at it beside the point.

If the derivative at points on all sides approaches the one at the point, and so does the value,
then that is the derivative there. If it approaches another one, the formula at the point is wrong
about it; if it approaches several, there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import numpy as np

from diffkit.errors import DiffkitError, KinkWarning
from diffkit.structure import Leaves
from diffkit.target import Output, Point
from diffkit.tracing.locations import warn_user

Derive = Callable[[Point], tuple[Output, Leaves]]

DIRECTIONS: Final = 2
FAR, NEAR, SLACK = 0.3, 0.45, 0.6  # powers of the unit round-off
SHRUNK: Final = 0.25


class Verdict(Enum):
    """What is found beside a point."""

    SAME = auto()
    OTHER = auto()
    NONE = auto()


def beside(point: Point, output: Output, found: Leaves, derive: Derive) -> Verdict:
    """Judge what `derive` gave at a point by what it gives beside it."""
    at_point = _joined(output.leaves), _joined(found)
    sides = [
        (_at(point, along, FAR, derive), _at(point, along, NEAR, derive))
        for along in _directions(point)
    ]
    if any(far is None or near is None for far, near in sides):
        return Verdict.NONE
    steps = [(far, near) for far, near in sides if far is not None and near is not None]
    eps = _eps(point)
    if not all(_approaches(far[0], near[0], at_point[0], eps) for far, near in steps):
        return Verdict.NONE
    if all(_approaches(far[1], near[1], at_point[1], eps) for far, near in steps):
        return Verdict.SAME
    first_far, first_near = steps[0]
    agree = all(
        _approaches(far[1] - first_far[1], near[1] - first_near[1], 0 * at_point[1], eps)
        for far, near in steps[1:]
    )
    return Verdict.OTHER if agree else Verdict.NONE


def warn_of_kink(name: str) -> None:
    """Say that there is no derivative, at the line of the user's that asked for it."""
    warn_user(
        f"{name} bends or jumps at this point, so that it has no derivative there; the subgradient "
        "that its formula gives is returned",
        KinkWarning,
    )


def _directions(point: Point) -> list[Leaves]:
    generator = np.random.default_rng(20)
    result: list[Leaves] = []
    for _ in range(DIRECTIONS):
        along = [
            generator.standard_normal(np.shape(a)) * np.maximum(np.abs(a), 1) for a in point.leaves
        ]
        result += [along, [-part for part in along]]
    return result


def _at(point: Point, along: Leaves, power: float, derive: Derive) -> tuple[Any, Any] | None:
    step = _eps(point) ** power
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
