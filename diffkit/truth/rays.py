"""Derivatives along one direction, on one side: a graph in Taylor arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy.typing as npt

from diffkit.arithmetic import FlintSeries, LengthNeeded
from diffkit.arithmetic.flint_numbers import LONGEST
from diffkit.errors import InvalidInput
from diffkit.measures import Enclosure
from diffkit.structure import Layout, Leaves
from diffkit.tracing.graph import Graph
from diffkit.tracing.to_mpmath import Interpreter

Array = npt.NDArray[Any]
Direction = tuple[tuple[int, Fraction], ...]
"""The entries of x (by position in its raveled leaves) that move, and how fast each does."""
Side = Enclosure | float | None
"""A one-sided derivative: enclosed, infinite at a jump, or None where none could be enclosed."""


@dataclass(frozen=True)
class Entry:
    """A derivative from the left and from the right; infinite where what it derives jumps."""

    left: Side
    right: Side

    @property
    def unresolved(self) -> bool:
        return self.left is None or self.right is None

    @property
    def two_sided(self) -> Enclosure | None:
        """The derivative, where those of both sides agree."""
        left, right = self.left, self.right
        if not isinstance(left, Enclosure) or not isinstance(right, Enclosure):
            return None
        gap = abs(left.midpoint - right.midpoint)
        if gap > left.radius + right.radius:
            return None
        return min(left, right, key=lambda side: side.radius)


@dataclass(frozen=True)
class Ray:
    """The derivatives of every output along one direction, on one side.

    `one_sided` tells that the other side may differ.
    """

    slopes: list[Side]
    one_sided: bool


class Session:
    """A graph at one precision: the interpreter, and all values at the point itself."""

    def __init__(self, graph: Graph, leaves: Leaves, precision: int, final: bool) -> None:
        self.arithmetic = FlintSeries(1, 0, precision, final)
        with self.arithmetic:
            self.interpreter = Interpreter(graph, self.arithmetic)
            self.base = self.interpreter.base(leaves)
        self.outputs = self.interpreter.outputs(self.base)

    def ray(
        self, layout: Layout, direction: Direction, order: int, side: int, here: Sequence[Array]
    ) -> Ray:
        """The derivatives along a direction, with series as long as it takes.

        `here` is what the function gives at the point itself, where another course may be taken.
        """
        A, length = self.arithmetic, order + 1
        A.side, A.one_sided = side, False
        while True:
            A.length = length
            try:
                with A:
                    slopes = self._slopes(layout, direction, order, here)
                return Ray(slopes, A.one_sided)
            except LengthNeeded:
                length = min(2 * length, LONGEST)

    def _slopes(
        self, layout: Layout, direction: Direction, order: int, outputs: Sequence[Array]
    ) -> list[Side]:
        inputs = _moved_leaves(self.arithmetic, self.interpreter, self.base, layout, direction)
        values = self.interpreter.moved(self.base, inputs)
        return [
            self._slope(here, there, order)
            for before, after in zip(outputs, self.interpreter.outputs(values), strict=True)
            for here, there in zip(before.flat, after.flat, strict=True)
        ]

    def _slope(self, here: Any, there: Any, order: int) -> Side:
        A = self.arithmetic
        here, coefficients = A.number(here), A.coefficients(there)
        if not here.overlaps(coefficients[0]):
            if order > 1:
                return None
            return math.copysign(math.inf, A.side * (1 if coefficients[0] > here else -1))
        if len(coefficients) <= order:
            if A.length < LONGEST:
                raise LengthNeeded("a quotient has lost a coefficient")
            return None
        coefficient = coefficients[order]
        if not coefficient.is_finite():
            return None
        try:
            return Enclosure.of(coefficient * math.factorial(order))
        except InvalidInput:  # far beyond every floating-point range
            return None


def above_kink(entry: Entry, lower: Entry) -> Entry:
    """A derivative, given the one below it: where that one jumps, this one is infinite."""
    left, right = lower.left, lower.right
    if lower.unresolved or lower.two_sided is not None:
        return entry
    if not isinstance(left, Enclosure) or not isinstance(right, Enclosure):
        return lower
    rise = math.copysign(math.inf, right.midpoint - left.midpoint)
    return Entry(rise, rise)


def _moved_leaves(
    arithmetic: Any, interpreter: Interpreter, base: Any, layout: Layout, direction: Direction
) -> dict[int, Array]:
    """The leaves of x that move, with x + t v in place of the moving entries."""
    moved: dict[int, Array] = {}
    for position, speed in direction:
        leaf, entry = place(layout, position)
        if leaf not in moved:
            moved[leaf] = base[interpreter.graph.inputs[leaf].index].copy()
        flat = moved[leaf].reshape(-1)
        flat[entry] = arithmetic.variable(flat[entry], arithmetic.exact(speed))
    return moved


def place(layout: Layout, position: int) -> tuple[int, int]:
    """Which leaf, and which entry of it, holds an entry of the raveled leaves."""
    for index, leaf in enumerate(layout.leaves):
        if position < leaf.size:
            return index, position
        position -= leaf.size
    raise AssertionError("the position lies beyond the leaves")


def weighted(weights: Sequence[Fraction], slopes: Sequence[Side]) -> Side:
    """The weighted sum; infinite where one term is."""
    midpoint = radius = Fraction(0)
    for weight, slope in zip(weights, slopes, strict=True):
        if not isinstance(slope, Enclosure):
            return slope if slope is None or len(slopes) == 1 else None
        midpoint += weight * slope.midpoint
        radius += abs(weight) * slope.radius
    return Enclosure(midpoint, radius)


def general_direction(size: int) -> Direction:
    """Speeds between 1/2 and 3/2 of varying sign, no two near each other in a simple ratio."""
    golden = 0x9E3779B1
    speeds = [((i + 1) * golden) % (1 << 32) for i in range(size)]
    return tuple(
        (i, Fraction((1 << 10) + (s >> 21), 1 << 11) * (-1 if s & (1 << 16) else 1))
        for i, s in enumerate(speeds)
    )
