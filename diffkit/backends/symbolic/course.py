"""One recorded course of a function, and where it holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from diffkit.backends.symbolic.orders import is_tied, ordering_nodes
from diffkit.backends.symbolic.sizes import predicted_operations, working_dtype
from diffkit.target import Point, Target
from diffkit.tracing.fixed_indices import fixed_indices
from diffkit.tracing.graph import Graph, GuardFailed, Node
from diffkit.tracing.outside import outside_state
from diffkit.tracing.primitives.gathering import gather, left_in_place, scatter, written
from diffkit.tracing.recording import describe_data, record

Values = dict[int, Any]  # of nodes, by index


class OtherCourseError(Exception):
    """The function takes another course, or the point or the data are laid out differently."""


class Course:
    """A recording of a function, with the values that its guards look at.

    Attributes:
        target: the function.
        point: where it was recorded.
        graph: the recording.
        dtype: the widest that the function computed in.
        operations: about how many operations on single numbers it did.
        orderings: the nodes that order what depends on `x`.
        looks_up: whether it selects entries by integers among the data, which may change.
    """

    def __init__(self, target: Target, point: Point, *, looks_up: bool = False) -> None:
        self.target = target
        self.point = point
        graph = record(target, point)
        self.looks_up = looks_up and _looks_up(graph)
        self.graph = graph if self.looks_up else fixed_indices(graph)
        self.data_layout, _ = describe_data(point.data)
        # What the function itself changes outside is not among what its derivatives depend on.
        self.outside = outside_state(target.f, *self.data_layout.fixed)
        self.dtype = working_dtype(self.graph)
        self.operations = predicted_operations(self.graph)
        self.guards = self.graph.guards_by_node()
        self.orderings = ordering_nodes(self.graph.guards)
        self._guarded = self.needed(guard.node.index for guard in self.graph.guards)

    def holds_outside(self) -> bool:
        """Whether what the function refers to outside is still what it was."""
        return self.outside.holds()

    def values(self, point: Point) -> Values:
        """The values at a point where the course is taken, of what it is recognised by.

        Raises:
            OtherCourseError: it is not taken there.
        """
        layout, data = describe_data(point.data)
        if point.layout != self.point.layout or layout != self.data_layout:
            raise OtherCourseError
        nodes = [*self.graph.inputs, *self.graph.data]
        leaves = [*point.layout.cast(point.leaves), *data]
        values = {node.index: leaf for node, leaf in zip(nodes, leaves, strict=True)}
        try:
            self.complete(values, self._guarded)
        except GuardFailed as failure:
            raise OtherCourseError from failure
        return values

    def hangs_on_order(self, values: Values) -> bool:
        """Whether an order or a place among numbers hangs on the equality of two of them."""
        return any(
            is_tied(node, *(values[i.index] for i in node.inputs)) for node in self.orderings
        )

    def complete(self, values: Values, nodes: Iterable[Node]) -> None:
        """Compute the values of nodes, each after its inputs.

        Raises:
            GuardFailed: a guard on one of them does not hold.
        """
        with np.errstate(all="ignore"):
            for node in nodes:
                if node.primitive is None:
                    values.setdefault(node.index, node.value)
                elif node.index not in values:
                    arguments = [values[i.index] for i in node.inputs]
                    values[node.index] = node.primitive(*arguments, **node.static)
                for guard in self.guards.get(node.index, ()):
                    if not guard.holds(values[node.index]):
                        raise GuardFailed(guard)

    def needed(self, indices: Iterable[int]) -> list[Node]:
        """What the nodes of the given indices are computed from, in order, with themselves."""
        nodes, waiting = self.graph.nodes, list(indices)
        found: set[int] = set()
        while waiting:
            index = waiting.pop()
            if index not in found:
                found.add(index)
                waiting.extend(node.index for node in nodes[index].inputs)
        return [nodes[index] for index in sorted(found)]


def _looks_up(graph: Graph) -> bool:
    """Whether entries are selected or added by integers, all of them free of `x`."""
    selecting = [node for node in graph.nodes if node.primitive in (gather, scatter)]
    writing = any(node.primitive in (written, left_in_place) for node in graph.nodes)
    free = not any(i.depends for node in selecting for i in node.inputs[1:])
    return bool(selecting) and free and not writing
