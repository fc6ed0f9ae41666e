"""Primitives that reduce or accumulate along axes, as index operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.array.extremes import Extreme
from diffkit.backends.symbolic.array.indexing import gathered, places
from diffkit.backends.symbolic.array.notation import Shape
from diffkit.backends.symbolic.array.operations import (
    Joined,
    Part,
    RunningSum,
    Section,
    Sum,
    repeated,
    reshaped,
)
from diffkit.tracing.graph import Node
from diffkit.tracing.primitives.lanes import to_lanes
from diffkit.tracing.shared_expressions import Expression

if TYPE_CHECKING:
    from diffkit.backends.symbolic.array.lowering import Lowering

Rule = Callable[["Lowering", Node], Any]


def reduction_rules() -> dict[str, Rule]:
    """The rules of this module by the names of the primitives."""
    return {
        "sum": _sum,
        "euclidean": _euclidean,
        "prod": _product,
        "max": lambda lowering, node: _extreme(lowering, node, True),
        "min": lambda lowering, node: _extreme(lowering, node, False),
        "cumsum": _running_sum,
        "cumprod": _running_product,
        "all": _all,
        "any": _any,
    }


def _axes(node: Node) -> tuple[int, ...]:
    ndim, axis = np.ndim(node.inputs[0].value), node.static["axis"]
    return tuple(range(ndim)) if axis is None else tuple(axis)


def _finished(lowering: Lowering, kept: Expression, node: Node) -> Expression:
    return reshaped(lowering.program, kept, np.shape(node.value))


def _summed(lowering: Lowering, a: Expression, node: Node) -> Expression:
    axes = tuple(i for i in _axes(node) if lowering.program.shape(a)[i] != 1)
    return lowering.program.apply(Sum((a,), axes)) if axes else a


def _sum(lowering: Lowering, node: Node) -> Any:
    return _finished(lowering, _summed(lowering, lowering.array(node.inputs[0]), node), node)


def _euclidean(lowering: Lowering, node: Node) -> Any:
    """The root of the sum of the squares."""
    squares = lowering.program.define(lowering.array(node.inputs[0]) ** 2)
    whole = repeated(lowering.program, squares, np.shape(node.inputs[0].value))
    total = _finished(lowering, _summed(lowering, whole, node), node)
    return lowering.program.define(sp.sqrt(total))


def _extreme(lowering: Lowering, node: Node, largest: bool) -> Any:
    a, axes = lowering.array(node.inputs[0]), _axes(node)
    if not axes:
        return a
    return _finished(lowering, lowering.program.apply(Extreme((a,), axes, largest)), node)


def _any(lowering: Lowering, node: Node) -> Any:
    return _finished(lowering, _count(lowering, node, holds=True), node)


def _all(lowering: Lowering, node: Node) -> Any:
    failing = _finished(lowering, _count(lowering, node, holds=False), node)
    return sp.Eq(failing, 0)


def _count(lowering: Lowering, node: Node, holds: bool) -> Expression:
    """How many entries along the axes hold, or fail."""
    a, program = lowering.array(node.inputs[0]), lowering.program
    failing, holding = (sp.Integer(int(holds is wanted)) for wanted in (False, True))
    marks = program.define(sp.Piecewise((failing, sp.Eq(a, 0)), (holding, True)))
    return _summed(lowering, repeated(program, marks, np.shape(node.inputs[0].value)), node)


def _running_sum(lowering: Lowering, node: Node) -> Any:
    a = lowering.array(node.inputs[0])
    return lowering.program.apply(RunningSum((a,), node.static["axis"] % np.ndim(node.value)))


def _product(lowering: Lowering, node: Node) -> Any:
    """By halves: the first of the lane times the second, until one number is left."""
    shape = np.shape(node.inputs[0].value)
    lanes = gathered(lowering, lowering.array(node.inputs[0]), to_lanes(places(shape), _axes(node)))
    length = lowering.program.shape(lanes)[-1]
    if not length:
        return repeated(lowering.program, sp.Integer(1), np.shape(node.value))
    while length > 1:
        half = length // 2
        joined = lowering.program.define(
            _slice(lowering, lanes, 0, half) * _slice(lowering, lanes, half, 2 * half)
        )
        if length % 2:
            joined = _joined(lowering, joined, _slice(lowering, lanes, length - 1, length))
        lanes, length = joined, length - half
    return _finished(lowering, lanes, node)


def _running_product(lowering: Lowering, node: Node) -> Any:
    """By doubling: times the product of as many before as are already multiplied."""
    shape, axis = np.shape(node.value), node.static["axis"] % np.ndim(node.value)
    there = to_lanes(places(shape), (axis,))
    lanes = gathered(lowering, lowering.array(node.inputs[0]), there)
    distance, length = 1, shape[axis]
    while distance < length:
        later = lowering.program.define(
            _slice(lowering, lanes, distance, length)
            * _slice(lowering, lanes, 0, length - distance)
        )
        lanes = _joined(lowering, _slice(lowering, lanes, 0, distance), later)
        distance *= 2
    back = np.empty(math.prod(shape), np.intp)
    back[there.ravel() - 1] = np.arange(1, math.prod(shape) + 1)
    return gathered(lowering, lanes, back.reshape(shape))


def _slice(lowering: Lowering, a: Expression, start: int, stop: int) -> Expression:
    shape: Shape = lowering.program.shape(a)
    section = Section((slice(None),) * (len(shape) - 1) + (slice(start, stop),))
    return lowering.program.apply(Part((a,), section))


def _joined(lowering: Lowering, a: Expression, b: Expression) -> Expression:
    return lowering.program.apply(Joined((a, b), len(lowering.program.shape(a)) - 1))
