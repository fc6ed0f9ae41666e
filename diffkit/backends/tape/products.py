"""A Hessian times a tangent as one program: the walk back, and that walked back in turn.

The Hessian is symmetric, so the product is the pullback of the gradient with the tangent as its
cotangent. The reverse walk is recorded behind the function itself, in one recording, and walked:
what is needed for the value of the gradient alone falls away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.entry import Compiled, compiled
from diffkit.backends.tape.plan import Again, Origin, Plan, observed, origins_of, outcomes, plan_of
from diffkit.backends.tape.transposes import untransposed
from diffkit.backends.tape.walk import walk
from diffkit.structure import Leaves, is_traced
from diffkit.target import Point, Target
from diffkit.tracing.graph import Graph, Node
from diffkit.tracing.recording import record
from diffkit.tracing.tracer import Traced

LONGEST: Final = 5_000  # operations of the function; its product takes four times as many


@dataclass
class Products:
    """What a recording has for Hessian times vector.

    Attributes:
        asked: how many products were computed by the general way.
        compiled: the product as one function; None until it was asked for twice.
    """

    asked: int = 0
    compiled: Compiled | None = None

    def count(self, target: Target, point: Point) -> None:
        """Compile at the second product, because there will be more."""
        self.asked += 1
        if self.asked != 2:
            return
        graph = record(target, point)
        if graph.operations <= LONGEST:
            self.compiled = compiled(graph, point.data, product_plan, along=("tangent",))

    def each(self, point: Point, tangents: Leaves) -> Leaves | None:
        """The products with several tangents, batched along a leading axis, by the program."""
        if self.compiled is None:
            return None
        layout, found = point.layout, []
        x = layout.unflatten(layout.cast(point.leaves))
        for i in range(len(tangents[0])):
            tangent = layout.unflatten(layout.cast([leaf[i] for leaf in tangents]))
            result = self.compiled.run((x, tangent), point.data)
            if result is None:
                return None
            found.append(layout.flatten(result[1]))
        return [np.stack(leaves) for leaves in zip(*found, strict=True)]


def product_plan(graph: Graph) -> Plan:
    """The plan of the value of a function that returns one number, and of its Hessian's product.

    It takes the leaves of `x`, those of the tangent, and the data.
    """
    running = Again()
    back = _Walk(running)
    twice = _Walk(running, back.follows)
    with running, np.errstate(all="ignore"):
        x = [running.input(node.value) for node in graph.inputs]
        tangents = [running.data(np.ones_like(node.value)[()]) for node in graph.inputs]
        data = [running.data(node.value) for node in graph.data]
        given = [traced.node for traced in (*x, *tangents, *data)]
        values = running.values_of(graph, [*x, *data])
        seed = [np.ones((), leaf.dtype)[()] for leaf in graph.output_layout.leaves]
        outputs = [running.node_of(value) for value in back.of(graph, values, seed)]
        slopes = Graph(
            list(running.nodes), given[: len(x)], [], graph.layout, outputs, graph.layout
        )
        known = _values(running, slopes.nodes, given)
        products = twice.of(slopes, known, tangents)
        ties = _ties(slopes, known, dict(back.weights(values, len(slopes.nodes))))
        ends = [running.node_of(values[node.index]) for node in graph.outputs]
        ends += [running.node_of(product) for product in products]
    origins = origins_of(graph, values, back.pulled, len(slopes.nodes))
    origins += [None] * (len(running.nodes) - len(origins))
    for start, end, node in twice.stretches(len(running.nodes)):
        origin = origins[node.index]
        origins[start:end] = [origin and Origin(origin.line, True)] * (end - start)
    return untransposed(plan_of(running, given, ends, origins, back.follows, ties))


@dataclass
class _Walk:
    """A reverse walk that is recorded, and what `observed` notes of it.

    Attributes:
        running: the recording.
        follows: of adjoints, which they are made of.
        pulled: from which node on which node is pulled back.
        choices: the adjoint of each choice.
    """

    running: Again
    follows: dict[int, int] = field(default_factory=dict)
    pulled: list[tuple[int, Node]] = field(default_factory=list)
    choices: dict[int, int] = field(default_factory=dict)

    def of(self, graph: Graph, values: list[Any], cotangents: Leaves) -> Leaves:
        """The adjoints of the inputs of a graph."""
        # Where an adjoint is not finite, no more is the product, and the program declines.
        nodes = observed(graph.nodes, self.running, self.pulled, self.follows, self.choices)
        return walk(replace(graph, nodes=nodes), values, cotangents, None)

    def stretches(self, length: int) -> Iterator[tuple[int, int, Node]]:
        """From where to where which node is pulled back, in a recording of a length."""
        ends = [*(start for start, _ in self.pulled[1:]), length]
        for (start, node), end in zip(self.pulled, ends, strict=False):
            yield start, end, node

    def weights(self, values: list[Any], length: int) -> Iterator[tuple[int, int]]:
        """For each choice, and what its rule computes, the adjoint without which none matters."""
        for index, adjoint in self.choices.items():
            if is_traced(values[index]):
                yield values[index].node.index, adjoint
        for start, end, node in self.stretches(length):
            if node.index in self.choices:
                yield from ((index, self.choices[node.index]) for index in range(start, end))


def _values(running: Again, nodes: list[Node], given: list[Node]) -> list[Any]:
    """The values of nodes, traced where they are not constants."""
    varying = {node.index for node in given}
    return [
        Traced(running, node) if node.primitive or node.index in varying else node.value
        for node in nodes
    ]


def _ties(graph: Graph, values: list[Any], weights: dict[int, int]) -> dict[int, int | None]:
    """The outcomes that tell of a tie, of the function or of its gradient."""
    return {
        tied.node.index: weights.get(node.index)
        for node, tied in outcomes(graph, values)
        if is_traced(tied)
    }
