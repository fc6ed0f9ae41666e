"""A recording beside the point: in the limit along a direction, every tie decided."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from diffkit.backends.tape.kink import Kink, Sided, spread_cotangent
from diffkit.backends.tape.kinks import KINKS
from diffkit.backends.tape.tangents import tangent
from diffkit.structure import Leaves
from diffkit.tracing.graph import Graph, Node, Primitive, same_value
from diffkit.tracing.primitives.lanes import spread


class Side:
    """A recording in the limit from one side: its values there, and how each changes.

    Attributes:
        graph: the recording, its tied operations replaced by what they are on this side.
        values: of its nodes, at the point.
        holds: whether the function takes the recorded course on this side.
        disturbed: whether anything that is tied moves at all.
        moves: whether a value is another one on this side.
    """

    def __init__(self, graph: Graph, values: list[Any], direction: Leaves) -> None:
        self.values = list(values)
        self._nodes = list(graph.nodes)
        self._moved: set[int] = set()
        self.disturbed = False
        self._tangents = {
            node.index: leaf for node, leaf in zip(graph.inputs, direction, strict=True)
        }
        self._asked = _leading_to_ties(graph)
        with np.errstate(all="ignore"):
            for node in graph.nodes:
                if node.primitive is not None:
                    self._pass(node, node.primitive)
        self.graph = replace(graph, nodes=self._nodes)
        self.holds = all(
            guard.holds(self.values[guard.node.index])
            for guard in graph.guards
            if guard.node.index in self._moved
        )

    @property
    def moves(self) -> bool:
        return bool(self._moved)

    def outputs(self) -> Any:
        return joined([self.values[node.index] for node in self.graph.outputs])

    def _pass(self, node: Node, primitive: Primitive) -> None:
        inputs = [i.index for i in node.inputs]
        arguments = [self.values[i] for i in inputs]
        if not self._moved.isdisjoint(inputs):
            self._set(node, primitive.function(*arguments, **node.static))
        if self._tangents.keys().isdisjoint(inputs):
            return
        tangents = [self._tangents.get(i) for i in inputs]
        kink = KINKS.get(primitive.name)
        if kink is not None:
            tied = kink.tied(self.values[node.index], *arguments, **node.static)
            if np.any(tied):
                self._decide(node, primitive, kink, tied, arguments, tangents)
                return
        if node.active and node.index in self._asked:
            y = self.values[node.index]
            self._tangents[node.index] = tangent(primitive, y, arguments, tangents, node.static)

    def _decide(
        self,
        node: Node,
        primitive: Primitive,
        kink: Kink,
        tied: Any,
        arguments: list[Any],
        tangents: list[Any],
    ) -> None:
        y, static = self.values[node.index], node.static
        self.disturbed |= _moves(kink, tied, y, arguments, tangents, static)
        sided = kink.side(tied, y, arguments, [0.0 if t is None else t for t in tangents], static)
        if sided.value is not None:
            self._set(node, sided.value)
        if not node.active or sided.slopes is None:
            return
        rule = partial(_pull_beside, primitive, kink, tied, sided)
        beside = replace(primitive, pullbacks=rule)
        self._nodes[node.index] = node.with_primitive(beside)
        if node.index not in self._asked:
            return
        if kink.reduces:
            pushed = np.sum(sided.slopes[0] * tangents[0], **static)
        else:
            pushed = tangent(beside, self.values[node.index], arguments, tangents, static)
        self._tangents[node.index] = pushed

    def _set(self, node: Node, value: Any) -> None:
        if not same_value(value, self.values[node.index]):
            self._moved.add(node.index)
            plain = np.asarray(value, np.asarray(self.values[node.index]).dtype)
            self.values[node.index] = plain if isinstance(node.value, np.ndarray) else plain[()]


def _leading_to_ties(graph: Graph) -> set[int]:
    """The nodes whose change is asked for: those that an operation which may be tied rests on."""
    found: set[int] = set()
    for node in reversed(graph.nodes):
        if node.index in found or (node.primitive is not None and node.primitive.name in KINKS):
            found.update(source.index for source in node.inputs)
    return found


def _moves(
    kink: Kink, tied: Any, y: Any, arguments: list[Any], tangents: list[Any], static: Any
) -> bool:
    """Whether an argument that is tied moves: the maximum of numbers that rest stays as it is."""
    if kink.reduces:
        tied = tied & np.equal(arguments[0], spread(y, np.shape(tied), static["axis"]))
    if not np.ndim(tied):
        return any(t is not None and np.any(t) for t in tangents)
    return any(t is not None and np.any(np.broadcast_to(t, tied.shape)[tied]) for t in tangents)


def _pull_beside(
    primitive: Primitive,
    kink: Kink,
    tied: Any,
    sided: Sided,
    position: int,
    g: Any,
    y: Any,
    *arguments: Any,
    **static: Any,
) -> Any:
    """The pullback of an operation whose ties are decided."""
    assert sided.slopes is not None
    elsewhere = primitive.pull(position, g, y, arguments, static)
    beside = spread_cotangent(kink, g, arguments, static) * sided.slopes[position]
    return np.where(tied, beside, 0.0 if elsewhere is None else elsewhere)


def joined(leaves: Leaves) -> Any:
    """All entries of some arrays, in order."""
    return np.concatenate([np.ravel(leaf) for leaf in leaves] or [np.zeros(0)])
