"""Functions that go in steps: constant around a point, until they jump.

Their derivative is 0 wherever there is one, which is right and teaches nothing: a threshold in
a loss cannot be trained through. A rectifier that is off has derivative 0 as well, and no such
reason: where its plateau ends it bends. So a plateau is followed to its end, by values alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from diffkit.callers import warn_user
from diffkit.errors import StepWarning
from diffkit.structure import Leaves, is_traced
from diffkit.target import Output, Point, Target, reservation_of

DISTANCES: Final = (0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 4.0)  # in units of max(|x|, 1)
HALVINGS: Final = {2: 6, 4: 16, 8: 30}  # by bytes of a number: as far as it resolves them
FEWEST: Final = 4  # points off the plateau, ever nearer to it, from which a jump is told


def jump(target: Target, point: Point, output: Output, leaf: int) -> str:
    """Return "it jumps" if `f` is constant around a point in one leaf of `x` up to a jump.

    Empty where the plateau ends in a bend, and where no end of it is found.

    Args:
        target: a function with one number as its value.
        point: not inside a trace.
        output: the value there.
        leaf: the position of the leaf.
    """
    return "it jumps" if _ends_in_jump(target, point, output, leaf) else ""


def _ends_in_jump(target: Target, point: Point, output: Output, leaf: int) -> bool:
    here, start = float(output.leaves[0]), np.asarray(point.leaves[leaf])
    generator = np.random.default_rng(0)
    for distance in DISTANCES:
        push = distance * generator.standard_normal(start.shape) * np.maximum(np.abs(start), 1)
        there = _value(target, point, leaf, start + push)
        if there is not None and there != here:
            return _jumps(target, point, leaf, here, push)
    return False


def warn_of_steps(
    target: Target, point: Point, gradient: Leaves, steps: Callable[[int], str]
) -> bool:
    """Say of leaves whose whole gradient is 0 that it cannot be otherwise; return if there are any.

    Args:
        target: a function with one number as its value. One that has a reservation has said it.
        point: where; inside a trace nothing is said.
        gradient: there, leaf by leaf.
        steps: gives the steps that stand between a leaf and the value; empty if there are none.

    Warns:
        StepWarning: the function depends on a leaf through steps alone.
    """
    if any(map(is_traced, (*point.leaves, *gradient))):
        return False
    zero = [i for i, leaf in enumerate(gradient) if np.size(leaf) and not np.any(leaf)]
    if zero and reservation_of(target.f) is None:
        found = {point.layout.leaves[i].name: told for i in zero if (told := steps(i))}
        if found:
            _warn(target.name, found)
    return bool(zero)


def _warn(function: str, leaves: Mapping[str, str]) -> None:
    steps = "; ".join(dict.fromkeys(leaves.values()))
    warn_user(
        f"{function} depends on {', '.join(leaves)} in steps alone ({steps}): the derivative is 0 "
        "wherever it exists, and gradient descent cannot train what lies before a step; use a "
        "smooth function in its place, as a sigmoid (sharpened, if it must be steep)",
        StepWarning,
    )


def _jumps(target: Target, point: Point, leaf: int, here: float, push: Any) -> bool:
    """Whether the value off the plateau keeps its distance however near to the plateau it is.

    Every point off the plateau is at most half as far from its end as the one before. So are
    the values of a function that bends there.
    """
    start = np.asarray(point.leaves[leaf])
    near, far, off = 0.0, 1.0, []
    for _ in range(HALVINGS.get(start.dtype.itemsize, 30)):
        middle = (near + far) / 2
        there = _value(target, point, leaf, start + middle * push)
        if there is None:
            return False
        if there == here:
            near = middle
        else:
            far = middle
            off.append(abs(there - here))
    if len(off) < FEWEST:
        return False
    grain = 64 * float(np.finfo(start.dtype).eps) * max(abs(here), *off)
    return off[-1] > max(grain, off[-FEWEST] / 2)


def _value(target: Target, point: Point, leaf: int, moved: Any) -> float | None:
    """The value with one leaf moved; None where there is none."""
    leaves: Leaves = list(point.leaves)
    leaves[leaf] = np.asarray(moved, np.asarray(leaves[leaf]).dtype)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = float(target.evaluate(point.layout, leaves, point.data).leaves[0])
        except Exception:  # which a point that nobody asked for may well raise
            return None
    return value if np.isfinite(value) else None
