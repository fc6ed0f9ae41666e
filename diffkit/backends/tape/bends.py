"""A quick proof that a function bends at a tie: the usual case, where nothing heals it.

Let no tied operation lead to another, and each bend only: its value is the same on all sides. In
a direction d the one-sided derivatives f'(x; d) and -f'(x; -d) then differ by the sum, over all
that is tied, of its adjoint times the difference of its own one-sided derivatives. Where that sum
is clearly not zero the function has no derivative. Else the sides are looked at one by one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.kinks import KINKS
from diffkit.backends.tape.tangents import tangent
from diffkit.structure import Leaves
from diffkit.tracing.graph import Graph, Node, Primitive

CLEARLY: Final = 1e-6  # of the size of the terms


class Bends:
    """The tied operations of a recording, whose adjoints are noted as it is walked back.

    Attributes:
        graph: the recording, to be walked in place of the original.
    """

    def __init__(self, graph: Graph, values: list[Any], tied: list[Node]) -> None:
        self.values = values
        self.tied = tied
        self._adjoints: dict[int, Any] = {}
        nodes = list(graph.nodes)
        for node in tied:
            assert node.primitive is not None
            noting = replace(node.primitive, pullbacks=partial(self._pull, node))
            nodes[node.index] = node.with_primitive(noting)
        self.graph = replace(graph, nodes=nodes)

    def _pull(
        self, node: Node, position: int, g: Any, y: Any, *arguments: Any, **static: Any
    ) -> Any:
        assert node.primitive is not None
        self._adjoints[node.index] = g
        return node.primitive.pull(position, g, y, arguments, static)

    def proven(self, direction: Leaves, slope: float) -> bool:
        """Whether the function certainly bends along a direction, in which it has a slope."""
        tangents = self._tangents(direction)
        if tangents is None:
            return False
        total, size = 0.0, abs(slope)
        for node in self.tied:
            g = self._adjoints.get(node.index)
            if g is None:
                continue
            opening = self._opening(node, node.primitive, tangents)  # type: ignore[arg-type]
            if opening is None:
                return False
            terms = np.asarray(g) * opening
            total += float(np.sum(terms))
            size += float(np.sum(np.abs(terms)))
        return abs(total) > CLEARLY * size

    def _tangents(self, direction: Leaves) -> dict[int, Any] | None:
        """The change of all that leads to what is tied; None where that is tied in turn."""
        needed = {source.index for node in self.tied for source in node.inputs}
        for node in reversed(self.graph.nodes):
            if node.index in needed:
                needed.update(source.index for source in node.inputs)
        if any(node.index in needed for node in self.tied):
            return None
        pairs = zip(self.graph.inputs, direction, strict=True)
        found = {node.index: leaf for node, leaf in pairs if node.index in needed}
        for node in self.graph.nodes:
            if node.primitive is None or not node.active or node.index not in needed:
                continue
            inputs = [source.index for source in node.inputs]
            if not found.keys().isdisjoint(inputs):
                arguments, moving = self._arguments(inputs, found)
                y = self.values[node.index]
                found[node.index] = tangent(node.primitive, y, arguments, moving, node.static)
        return found

    def _arguments(self, inputs: list[int], tangents: dict[int, Any]) -> tuple[Any, Any]:
        return [self.values[i] for i in inputs], [tangents.get(i) for i in inputs]

    def _opening(self, node: Node, primitive: Primitive, tangents: dict[int, Any]) -> Any:
        """The difference of the one-sided derivatives of what is tied; None where it may jump."""
        kink, y, static = KINKS[primitive.name], self.values[node.index], node.static
        arguments, moving = self._arguments([source.index for source in node.inputs], tangents)
        tied = kink.tied(y, *arguments, **static)
        opening: Any = 0.0
        for sign in (1.0, -1.0):
            along = [0.0 if t is None else sign * t for t in moving]
            sided = kink.side(tied, y, arguments, along, static)
            if sided.value is not None or sided.slopes is None:
                return None
            for slope, t in zip(sided.slopes, along, strict=True):
                opening = opening + np.where(tied, slope * t, 0.0)
        return np.sum(opening, **static) if kink.reduces else opening
