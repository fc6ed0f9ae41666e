"""The reverse walk: adjoints of the inputs of a recording from those of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from diffkit.structure import Leaves, all_finite, is_traced
from diffkit.tracing.graph import Graph, Node
from diffkit.tracing.primitives.shapes import astype


def pull_back(graph: Graph, values: list[Any], cotangents: Leaves) -> Leaves:
    """Reverse walk: the adjoints of the inputs, given those of the outputs.

    A local derivative may be infinite where nothing depends on it (`np.where(x > 0, np.log(x),
    0)` at x = 0). Should an adjoint come out not finite, the walk is repeated with such places
    told apart: no adjoint flows where the cotangent was never more than dropped. Where the walk
    is itself recorded, the choice is a guard, and the places are computed with the rest.

    NumPy's warnings must be off.
    """
    adjoints = walk(graph, values, cotangents, None)
    if not all(map(_is_finite, adjoints)):
        adjoints = walk(graph, values, cotangents, [w != 0 for w in cotangents])
    return adjoints


def _is_finite(adjoint: Any) -> bool:
    if is_traced(adjoint):
        return bool(np.all(np.isfinite(adjoint)))
    return all_finite(adjoint)


def walk(graph: Graph, values: list[Any], cotangents: Leaves, live: Leaves | None) -> Leaves:
    """The walk itself, in which adjoints meet.

    Args:
        graph: the recording.
        values: the value of every node.
        cotangents: the adjoints of the outputs.
        live: for each output where its cotangent can be other than zero; None if that need not
            be followed.
    """
    if live is None:
        adjoints = all_adjoints(graph.nodes, values, graph.outputs, cotangents)
    else:
        adjoints = _live_adjoints(graph, values, cotangents, live)
    return [
        np.zeros(leaf.shape, leaf.dtype) if (adjoint := adjoints[node.index]) is None else adjoint
        for node, leaf in zip(graph.inputs, graph.layout.leaves, strict=True)
    ]


def all_adjoints(
    nodes: Sequence[Node], values: list[Any], outputs: Sequence[Node], cotangents: Leaves
) -> list[Any]:
    """The adjoint of every node that no operation computed, by index; None where none flows."""
    adjoints: list[Any] = [None] * len(values)
    owned: set[int] = set()  # whose adjoint is an array that nothing else holds
    for node, cotangent in zip(outputs, cotangents, strict=True):
        if node.active:
            _add(adjoints, owned, node.index, cotangent)
    for node in reversed(nodes):
        index, primitive = node.index, node.primitive
        g = adjoints[index]
        if g is None or primitive is None:
            continue
        adjoints[index] = None
        y, inputs, static = values[index], node.inputs, node.static
        if len(inputs) == 1:
            arguments: Any = (values[inputs[0].index],)
        elif len(inputs) == 2:
            arguments = (values[inputs[0].index], values[inputs[1].index])
        else:
            arguments = [values[source.index] for source in inputs]
        rules: Any = primitive.pullbacks
        if type(rules) is not tuple:
            rules = [partial(rules, position) for position in range(len(inputs))]
        for rule, source, argument in zip(rules, inputs, arguments, strict=False):
            if rule is None or not source.active:
                continue
            if primitive.adds is not None and _add_in_place(
                primitive.adds, adjoints, owned, source.index, g, argument, static
            ):
                continue
            adjoint = rule(g, y, *arguments, **static) if static else rule(g, y, *arguments)
            if type(adjoint) is not np.float64 or type(argument) is not np.float64:
                if adjoint is None:
                    continue
                adjoint = fitted(adjoint, argument)
            place = source.index
            if adjoints[place] is None:
                adjoints[place] = adjoint
            else:
                _add(adjoints, owned, place, adjoint)
    return adjoints


def _add(adjoints: list[Any], owned: set[int], index: int, adjoint: Any) -> None:
    """Add to the adjoint of a node, in place where nothing else can hold it."""
    present = adjoints[index]
    if present is None:
        adjoints[index] = adjoint
    elif index in owned and type(adjoint) is np.ndarray:
        present += adjoint
    else:
        adjoints[index] = present = present + adjoint
        if type(present) is np.ndarray:
            owned.add(index)
        else:  # a sum of arrays without axes is a number, which nothing can be added to in place
            owned.discard(index)


def _add_in_place(
    adds: Any,
    adjoints: list[Any],
    owned: set[int],
    index: int,
    g: Any,
    argument: Any,
    static: Any,
) -> bool:
    """Add entries to the adjoint of a node; False where it is recorded itself or a scalar."""
    total = adjoints[index]
    if type(g) not in _PLAIN or type(argument) is not np.ndarray:
        return False
    if index not in owned:
        if total is None:
            total = np.zeros(argument.shape, argument.dtype)
        elif type(total) is np.ndarray:
            total = total.copy()
        else:
            return False
        owned.add(index)
        adjoints[index] = total
    adds(total, g, **static)
    return True


_PLAIN: Final = (np.float64, np.ndarray)


def _live_adjoints(graph: Graph, values: list[Any], cotangents: Leaves, live: Leaves) -> list[Any]:
    """The same, where no adjoint flows from a place at which the cotangent was only dropped."""
    adjoints: list[Any] = [None] * len(values)
    alive: list[Any] = [False] * len(values)

    def add(index: int, adjoint: Any, flows: Any) -> None:
        present = adjoints[index]
        adjoints[index] = adjoint if present is None else present + adjoint
        alive[index] = flows | alive[index]

    for node, cotangent, flows in zip(graph.outputs, cotangents, live, strict=True):
        if node.active:
            add(node.index, cotangent, flows)
    for node in reversed(graph.nodes):
        g, primitive = adjoints[node.index], node.primitive
        if g is None or primitive is None:
            continue
        arguments, y = [values[source.index] for source in node.inputs], values[node.index]
        for position, source in enumerate(node.inputs):
            adjoint = None
            if source.active:
                adjoint = primitive.pull(position, g, y, arguments, node.static)
            if adjoint is None:
                continue
            flows = _flows(node, position, alive[node.index], adjoint, y, arguments)
            adjoint = fitted(np.where(flows, adjoint, 0.0), arguments[position])
            add(source.index, adjoint, fitted(1.0 * flows, arguments[position]) > 0)
        adjoints[node.index] = None
    return adjoints


def _flows(node: Node, position: int, live: Any, adjoint: Any, y: Any, arguments: list[Any]) -> Any:
    """Where an adjoint can be other than zero, given where the cotangent can."""
    assert node.primitive is not None
    shape = np.shape(adjoint)
    if node.primitive.routes:
        routed = node.primitive.pull(position, 1.0 * live, y, arguments, node.static)
        return np.broadcast_to(routed != 0, shape)
    if node.primitive.elementwise:
        return np.broadcast_to(live, shape)
    return np.broadcast_to(np.any(live), shape)


def fitted(adjoint: Any, argument: Any) -> Any:
    """The adjoint with broadcasting undone, in the dtype of the argument."""
    shape, target = adjoint.shape, argument.shape
    if shape != target:
        adjoint = _unbroadcast(adjoint, shape, target)
    dtype = argument.dtype
    return adjoint if adjoint.dtype == dtype else astype(adjoint, dtype=dtype)


def _unbroadcast(adjoint: Any, shape: tuple[int, ...], target: tuple[int, ...]) -> Any:
    """Sum over the axes along which the argument was repeated; repeat where it was summed."""
    if type(adjoint) is np.ndarray:  # the two everyday cases, at less than half the cost
        extra = len(shape) - len(target)
        if extra > 0 and shape[extra:] == target:
            return np.add.reduce(adjoint, tuple(range(extra)))
        if shape[:-1] == target[:-1] and target[-1:] == (1,):
            return np.add.reduce(adjoint, -1, keepdims=True)
    missing = max(len(target) - len(shape), 0)
    adjoint, shape = np.reshape(adjoint, (1,) * missing + shape), (1,) * missing + shape
    extra = len(shape) - len(target)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(target) if n == 1 and shape[extra + i] != 1
    )
    summed = np.reshape(np.sum(adjoint, axis=axes), target) if axes else adjoint
    return summed if np.shape(summed) == target else np.broadcast_to(summed, target)
