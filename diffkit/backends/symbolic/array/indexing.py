"""Primitives that move entries, as index operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from diffkit.backends.symbolic.array.notation import Shape
from diffkit.backends.symbolic.array.operations import (
    Gather,
    Indexing,
    Joined,
    Lookup,
    Packed,
    Part,
    Placed,
    Positions,
    Scatter,
    Section,
    Spread,
    Transpose,
    repeated,
    reshaped,
)
from diffkit.tracing.graph import Node
from diffkit.tracing.primitives.gathering import put_together
from diffkit.tracing.primitives.shapes import is_basic
from diffkit.tracing.shared_expressions import Expression

if TYPE_CHECKING:
    from diffkit.backends.symbolic.array.lowering import Lowering

Rule = Callable[["Lowering", Node], Any]


def index_rules() -> dict[str, Rule]:
    """The rules of this module by the names of the primitives."""
    return {
        "moved": _moved,
        "reshape": _reshape,
        "transpose": _transpose,
        "broadcast_to": _broadcast,
        "astype": _same,
        "laid_out": _same,
        "index": _index,
        "add_at": _add_at,
        "gather": _lookup,
        "scatter": _spread,
        "index_update": _index_update,
        "concatenate": _concatenate,
        "stack": _stack,
        "stack_scalars": _stack_scalars,
    }


def places(shape: Shape) -> Any:
    """The position of each entry, counted from 1: what is made up elsewhere is 0."""
    return np.arange(1, math.prod(shape) + 1).reshape(shape)


def gathered(lowering: Lowering, a: Expression, positions: Any) -> Expression:
    """Entries of `a` by their positions counted from 1, 0 for a zero."""
    return lowering.program.apply(Gather((a,), Positions(np.asarray(positions) - 1)))


def _moved(lowering: Lowering, node: Node) -> Any:
    """Any movement: what it does to positions tells what it does to entries."""
    assert node.primitive is not None
    (source,) = node.inputs
    moved = node.primitive.function(places(np.shape(source.value)), **node.static)
    return gathered(lowering, lowering.array(source), moved)


def _same(lowering: Lowering, node: Node) -> Any:
    return lowering.array(node.inputs[0])


def _reshape(lowering: Lowering, node: Node) -> Any:
    if node.static.get("order", "C") != "C":
        return _moved(lowering, node)
    return reshaped(lowering.program, lowering.array(node.inputs[0]), np.shape(node.value))


def _transpose(lowering: Lowering, node: Node) -> Any:
    a, axes = lowering.array(node.inputs[0]), node.static.get("axes")
    ndim = np.ndim(node.value)
    turned = tuple(range(ndim))[::-1] if axes is None else tuple(int(i) % ndim for i in axes)
    return lowering.program.apply(Transpose((a,), turned)) if ndim else a


def _broadcast(lowering: Lowering, node: Node) -> Any:
    return repeated(lowering.program, lowering.array(node.inputs[0]), np.shape(node.value))


def _section(index: Any) -> Section | None:
    """An index of integers and slices, one for each axis; None for any other."""
    if not is_basic(index):
        return None
    return Section(tuple(index) if isinstance(index, tuple) else (index,))


def _index(lowering: Lowering, node: Node) -> Any:
    (source,), index = node.inputs, node.static["index"]
    section = _section(index)
    if section is None:
        return _moved(lowering, node)
    a = lowering.array(source)
    if not np.ndim(source.value):
        return reshaped(lowering.program, a, np.shape(node.value))
    return lowering.program.apply(Part((a,), section))


def _add_at(lowering: Lowering, node: Node) -> Any:
    (source,), index, to = node.inputs, node.static["index"], tuple(node.static["shape"])
    section = _section(index)
    if section is not None:
        value = repeated(lowering.program, lowering.array(source), section.shape(to))
        return lowering.program.apply(Placed((value,), section, to))
    taken = places(to)[index]
    value = repeated(lowering.program, lowering.array(source), np.shape(taken))
    return lowering.program.apply(Scatter((value,), Positions(taken - 1), to))


def _lookup(lowering: Lowering, node: Node) -> Any:
    source, *others = node.inputs
    operands = (lowering.array(source), *map(lowering.integers, others))
    index = Indexing(node.static["index"])
    return lowering.program.apply(Lookup(operands, index, np.shape(node.value)))


def _spread(lowering: Lowering, node: Node) -> Any:
    """Values, repeated to what the index selects, at integers."""
    source, *others = node.inputs
    to, index = tuple(node.static["shape"]), node.static["index"]
    selected = put_together(index, [np.asarray(i.value) for i in others])
    shape = np.broadcast_to(np.int8(0), to)[selected].shape
    value = repeated(lowering.program, lowering.array(source), shape)
    operands = (value, *map(lowering.integers, others))
    return lowering.program.apply(Spread(operands, Indexing(index), to))


def _index_update(lowering: Lowering, node: Node) -> Any:
    """Old and new entries in a row, and of each place the one that was written last."""
    assert node.primitive is not None
    program = lowering.program
    old, new = node.inputs
    shape = np.shape(node.value)
    taken = places(shape)[node.static["index"]]
    written = places(np.shape(taken)) + math.prod(shape)
    value = repeated(program, lowering.array(new), np.shape(taken))
    parts = (lowering.array(old), math.prod(shape)), (value, math.prod(np.shape(taken)))
    flat = (repeated(program, reshaped(program, a, (n,)), (n,)) for a, n in parts)
    row = Joined(tuple(flat), 0)
    chosen = node.primitive.function(places(shape), written, **node.static)
    return gathered(lowering, program.apply(row), chosen)


def _concatenate(lowering: Lowering, node: Node) -> Any:
    parts = tuple(lowering.array(i) for i in node.inputs)
    return lowering.program.apply(Joined(parts, node.static["axis"] % np.ndim(node.value)))


def _stack(lowering: Lowering, node: Node) -> Any:
    axis = node.static["axis"] % np.ndim(node.value)
    parts = []
    for source in node.inputs:
        shape = list(np.shape(source.value))
        shape.insert(axis, 1)
        part = repeated(lowering.program, lowering.array(source), np.shape(source.value))
        parts.append(_with_axis(lowering, part, tuple(shape)))
    return lowering.program.apply(Joined(tuple(parts), axis))


def _with_axis(lowering: Lowering, a: Expression, shape: Shape) -> Expression:
    return repeated(lowering.program, reshaped(lowering.program, a, shape), shape)


def _stack_scalars(lowering: Lowering, node: Node) -> Any:
    packed = lowering.program.apply(Packed(tuple(lowering.array(i) for i in node.inputs)))
    return reshaped(lowering.program, packed, np.shape(node.value))
