"""High-precision differences of a graph with mpmath: the second opinion."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from diffkit.arithmetic import MultiPrecision
from diffkit.measures import Enclosure
from diffkit.structure import Layout
from diffkit.target import Point
from diffkit.tracing.graph import Graph, GuardFailed
from diffkit.tracing.to_mpmath import Interpreter


def difference(
    graph: Graph,
    point: Point,
    direction: tuple[tuple[int, Fraction], ...],
    order: int,
    side: int,
    digits: int,
) -> list[Fraction | None] | None:
    """Return the derivative of every output along a direction, by a one-sided difference.

    The sum over j of (-1)^(k-j) C(k, j) f(x + (j+1) h v) / h^k, with h of size 10^-digits
    relative to x on the given side; its error is of the order of h. An output that is not
    finite gives None. None is also returned where a recorded branch does not hold that near.
    """
    A = MultiPrecision((order + 2) * digits + 50)
    interpreter = Interpreter(graph, A)
    base = interpreter.base(point.leaves)
    inputs = [base[node.index] for node in graph.inputs]
    flat = [number for array in inputs for number in array.flat]
    scale = max(abs(flat[position]) for position, _ in direction) or A.number(1)
    step = side * scale * A.context.mpf(10) ** -digits
    totals: Any = 0
    for j in range(order + 1):
        moved = list(flat)
        for position, speed in direction:
            moved[position] = moved[position] + (j + 1) * step * A.exact(speed)
        try:
            values = interpreter.moved(base, _leaves(point.layout, moved, direction))
        except GuardFailed:
            return None
        outputs = [A.number(x) for array in interpreter.outputs(values) for x in array.flat]
        weight = (-1) ** (order - j) * math.comb(order, j)
        totals = (
            [weight * x for x in outputs]
            if j == 0
            else [t + weight * x for t, x in zip(totals, outputs, strict=True)]
        )
    return [
        Enclosure.of(t / step**order).midpoint if A.context.isfinite(t) else None for t in totals
    ]


def _leaves(
    layout: Layout, flat: list[Any], direction: tuple[tuple[int, Fraction], ...]
) -> dict[int, Any]:
    """The leaves that hold a moving entry, as object arrays."""
    moving = {position for position, _ in direction}
    found, start = {}, 0
    for index, leaf in enumerate(layout.leaves):
        if any(start <= position < start + leaf.size for position in moving):
            array = np.empty(leaf.size, object)
            array[:] = flat[start : start + leaf.size]
            found[index] = array.reshape(leaf.shape)
        start += leaf.size
    return found
