"""The first-order change of one operation's value, from those of its arguments.

A pullback is linear in its cotangent, and its transpose is the push forward. Where the
operation is elementwise the two are the same factor; where it is linear it is its own push.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.walk import walk
from diffkit.structure import Leaf, all_finite, flatten, is_traced
from diffkit.tracing.graph import Graph, Primitive
from diffkit.tracing.tracer import Trace

LINEAR: Final = {
    *("sum", "cumsum", "astype", "laid_out", "add_at", "gather", "scatter", "einsum_view"),
    *("concatenate", "stack", "stack_scalars", "index_update", "written"),
}
MULTILINEAR: Final = {"matmul", "contraction", "convolution"}

Tangents = Sequence[Any]


def tangent(
    primitive: Primitive, y: Any, arguments: Sequence[Any], tangents: Tangents, static: Any
) -> Any:
    """The change of the value `y` for tangents of the arguments, each None where it rests."""
    moving = [k for k, t in enumerate(tangents) if t is not None]
    with np.errstate(all="ignore"):
        if primitive.elementwise:
            return sum(_scaled(primitive, k, tangents[k], y, arguments, static) for k in moving)
        if primitive.name in MULTILINEAR:
            return sum(
                primitive.function(*_with(arguments, k, tangents[k]), **static) for k in moving
            )
        if primitive.movement or primitive.name in LINEAR:
            return primitive.function(*_moved(arguments, tangents), **static)
        return _transposed(primitive, y, arguments, tangents, static)


def _scaled(primitive: Primitive, k: int, t: Any, y: Any, arguments: Any, static: Any) -> Any:
    """A tangent times the local derivative, which may be infinite where nothing moves."""
    if type(t) is float:  # which raises an error where NumPy has an infinity
        t = np.float64(t)
    if np.shape(t) != np.shape(y):
        t = np.broadcast_to(t, np.shape(y))
    scaled = primitive.pull(k, t, y, arguments, static)
    if scaled is None:
        return 0.0
    return scaled if all_finite(scaled) else np.where(t == 0, 0.0, scaled)


def _with(arguments: Sequence[Any], k: int, t: Any) -> list[Any]:
    return [*arguments[:k], t, *arguments[k + 1 :]]


def _moved(arguments: Sequence[Any], tangents: Tangents) -> list[Any]:
    """The tangents in place of the numbers, zero where one rests; integers stay."""
    return [
        t if t is not None else a if np.asarray(a).dtype.kind in "iu" else np.zeros_like(a)
        for a, t in zip(arguments, tangents, strict=True)
    ]


def _transposed(
    primitive: Primitive, y: Any, arguments: Sequence[Any], tangents: Tangents, static: Any
) -> Any:
    """By the pullback of the pullback."""
    layout, _ = flatten(np.asarray(y))
    with Trace() as running:
        cotangent = running.input(np.ones_like(y))
        total: Any = 0.0
        for k, t in enumerate(tangents):
            if t is None:
                continue
            pulled = primitive.pull(k, cotangent, y, arguments, static)
            if pulled is not None:
                total = total + np.sum(pulled * np.broadcast_to(t, np.shape(arguments[k])))
        if not is_traced(total):
            return np.zeros_like(y)
        inputs, outputs = [cotangent.node], [total.node]
    output = type(layout)(layout.nesting, (Leaf("", (), total.dtype, True),))
    graph = Graph(running.nodes, inputs, [], layout, outputs, output, running.guards)
    (pushed,) = walk(graph, [node.value for node in graph.nodes], [np.ones(())], None)
    return pushed
