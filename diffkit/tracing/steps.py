"""Leaves of `x` that reach the value of a recording through steps alone.

A step is an operation without a derivative to pass on: a comparison, a sign, a rounding, the
position of a maximum.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffkit.tracing.graph import Graph, Node, Primitive


def steps_from(graph: Graph, leaf: int) -> list[Node] | None:
    """Return the steps that stand between a leaf of `x` and the value.

    Empty if derivatives flow, or the leaf has no part in the recording at all; None if it has
    a part in its guards alone, so that another course may have another value.
    """
    source = graph.inputs[leaf]
    depending = {source.index}
    steps: list[Node] = []
    flowing = {source.index}
    for node in graph.nodes:
        if depending.isdisjoint(i.index for i in node.inputs):
            continue
        depending.add(node.index)
        if _passes(node, flowing):
            flowing.add(node.index)
        elif not flowing.isdisjoint(i.index for i in node.inputs):
            steps.append(node)
    outputs = {node.index for node in graph.outputs}
    if not outputs.isdisjoint(flowing):
        return []
    if not outputs.isdisjoint(depending):
        return steps
    return None if any(guard.node.index in depending for guard in graph.guards) else []


def listed(steps: Sequence[Node]) -> str:
    """Return what the steps are called and where they are, each once, at most three of them."""
    names = {
        f"{node.primitive.called} at {node.location}" if node.place else node.primitive.called: None
        for node in steps
        if node.primitive
    }
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(list(names)[:3]) + more


def _passes(node: Node, flowing: set[int]) -> bool:
    """Whether a derivative flows through a node from one of its arguments in `flowing`."""
    if not node.active or node.primitive is None:
        return False
    return any(
        source.active and source.index in flowing and _has_rule(node.primitive, position)
        for position, source in enumerate(node.inputs)
    )


def _has_rule(primitive: Primitive, position: int) -> bool:
    pullbacks = primitive.pullbacks
    return not isinstance(pullbacks, tuple) or pullbacks[position] is not None
