"""A recording with the integers that select entries fixed at what they were, and guarded.

An expression, and a computation in arbitrary precision, refer to entries by name: `x[3]`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from diffkit.structure import concrete
from diffkit.tracing.graph import Graph, Guard, Node, Primitive
from diffkit.tracing.primitives import gathering, shapes
from diffkit.tracing.primitives.gathering import put_together

# The row with a fixed index, and how many operands come before the integers.
_STATIC: Final[dict[Primitive | None, tuple[Primitive | None, int]]] = {
    gathering.gather: (shapes.index, 1),
    gathering.scatter: (shapes.add_at, 1),
    gathering.written: (shapes.index_update, 2),
    gathering.left_in_place: (None, 0),
}


def fixed_indices(graph: Graph) -> Graph:
    """The same recording with fixed indices, guards on what they were computed from added."""
    if not any(node.primitive in _STATIC for node in graph.nodes):
        return graph
    guards: dict[int, Guard] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        primitive, inputs, static = node.primitive, node.inputs, node.static
        if primitive in _STATIC:
            assert primitive is not None
            primitive, count = _STATIC[primitive]
            for i in inputs[count:]:
                guards[i.index] = Guard(nodes[i.index], concrete(i.value), node.location)
            integers = [concrete(i.value) for i in inputs[count:]]
            inputs, static = inputs[:count], _fixed(static, integers)
        depends = node.depends and not (primitive is None and node.primitive is not None)
        sources = tuple(nodes[i.index] for i in inputs)
        fixed = Node(primitive, sources, static, node.value, node.active, depends, node.place)
        fixed.index = node.index
        nodes.append(fixed)
    own = [replace(guard, node=nodes[guard.node.index]) for guard in graph.guards]
    return replace(
        graph,
        nodes=nodes,
        inputs=[nodes[node.index] for node in graph.inputs],
        data=[nodes[node.index] for node in graph.data],
        outputs=[nodes[node.index] for node in graph.outputs],
        guards=[*own, *guards.values()],
    )


def _fixed(static: Any, integers: list[Any]) -> dict[str, Any]:
    return {
        name: put_together(value, integers) if name == "index" else value
        for name, value in static.items()
    }
