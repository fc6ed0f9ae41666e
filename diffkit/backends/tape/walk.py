"""The reverse walk: adjoints of the inputs of a recording from those of its outputs."""

from __future__ import annotations

from typing import Any

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
    """The walk itself: the one place where broadcasting is undone and where adjoints meet."""
    adjoints: dict[int, Any] = {}
    alive: dict[int, Any] = {}

    def add(index: int, adjoint: Any, flows: Any) -> None:
        present = adjoints.get(index)
        adjoints[index] = adjoint if present is None else present + adjoint
        if live is not None:
            alive[index] = flows | alive.get(index, False)

    for k, (node, cotangent) in enumerate(zip(graph.outputs, cotangents, strict=True)):
        if node.active:
            add(node.index, cotangent, None if live is None else live[k])
    with np.errstate(all="ignore"):
        for node in reversed(graph.nodes):
            if node.primitive is None:
                continue
            g = adjoints.pop(node.index, None)
            if g is None:
                continue
            arguments = [values[i.index] for i in node.inputs]
            for position, source in enumerate(node.inputs):
                if not source.active:
                    continue
                y = values[node.index]
                adjoint = node.primitive.pull(position, g, y, arguments, node.static)
                if adjoint is None:
                    continue
                flows = None
                if live is not None:
                    flows = _flows(node, position, alive[node.index], adjoint, y, arguments)
                    adjoint = np.where(flows, adjoint, 0.0)
                    flows = _fitted(1.0 * flows, arguments[position]) > 0
                add(source.index, _fitted(adjoint, arguments[position]), flows)
    return [
        adjoints.get(node.index, np.zeros(leaf.shape, leaf.dtype))
        for node, leaf in zip(graph.inputs, graph.layout.leaves, strict=True)
    ]


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


def _fitted(adjoint: Any, argument: Any) -> Any:
    """The adjoint with broadcasting undone, in the dtype of the argument."""
    shape, target = adjoint.shape, argument.shape
    if shape != target:
        adjoint = _unbroadcast(adjoint, shape, target)
    dtype = argument.dtype
    return adjoint if adjoint.dtype == dtype else astype(adjoint, dtype=dtype)


def _unbroadcast(adjoint: Any, shape: tuple[int, ...], target: tuple[int, ...]) -> Any:
    """Sum over the axes along which the argument was repeated; repeat where it was summed."""
    missing = max(len(target) - len(shape), 0)
    adjoint, shape = np.reshape(adjoint, (1,) * missing + shape), (1,) * missing + shape
    extra = len(shape) - len(target)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(target) if n == 1 and shape[extra + i] != 1
    )
    summed = np.reshape(np.sum(adjoint, axis=axes), target) if axes else adjoint
    return summed if np.shape(summed) == target else np.broadcast_to(summed, target)
