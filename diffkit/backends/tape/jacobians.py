"""Jacobians by one vectorised sweep: the pullback, or its transpose, for all units at once.

The pullback of a recording is itself recorded once, and evaluated for a batch of cotangents, one
per entry of the output. The transpose of that recording takes tangents, one per entry of `x`:
fewer where the Jacobian is tall. Large batches run in parts, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.walk import pull_back, walk
from diffkit.structure import Layout, Leaves, is_traced
from diffkit.tracing.batching import evaluate_batched
from diffkit.tracing.graph import Graph, Node
from diffkit.tracing.tracer import Trace

LARGEST: Final = 2**22  # entries of one value of a batch, beyond which it runs in parts
FEWEST: Final = 6  # units, below which a batch costs more than it saves


@dataclass(frozen=True)
class Linear:
    """A linear map, as a recording with the values of its nodes.

    Attributes:
        graph: from the leaves of the one space to those of the other.
        values: of its nodes.
        source: the layout that it takes.
        result: the layout that it gives.
    """

    graph: Graph
    values: list[Any]
    source: Layout
    result: Layout

    def transposed(self) -> Linear:
        """The map the other way, by the pullback of this one."""
        return _recorded(
            self.result,
            self.source,
            lambda weights: walk(self.graph, self.values, weights, None),
        )

    def of_batch(self, size: int, batch: Callable[[int, int], Leaves]) -> Iterator[Leaves]:
        """The images of a batch of elements, part by part.

        Args:
            size: how many there are.
            batch: the elements from one number to another, as leaves with a leading axis.
        """
        widest = max((np.size(value) for value in self.values), default=1)
        step = max(1, min(size, LARGEST // max(widest, 1)))
        for start in range(0, size, step):
            yield evaluate_batched(self.graph, self.values, batch(start, min(start + step, size)))


def pullback(graph: Graph, values: list[Any]) -> Linear:
    """The pullback of a recording: from cotangents of the output to those of `x`."""
    return _recorded(
        graph.output_layout, graph.layout, lambda weights: pull_back(graph, values, weights)
    )


def _recorded(source: Layout, result: Layout, apply: Callable[[Leaves], Leaves]) -> Linear:
    with Trace() as running, np.errstate(all="ignore"):
        # Ones, because zeros would pass for cotangents that nothing flows back from.
        ones = [np.ones(leaf.shape, leaf.dtype) for leaf in source.leaves]
        weights = [running.input(one) for one in source.cast(ones)]
        nodes = [weight.node for weight in weights]
        found = apply(weights)

        def node_of(leaf: Any) -> Node:
            mine = is_traced(leaf) and leaf.recorder is running
            return leaf.node if mine else running.constant(leaf)

        outputs = [node_of(leaf) for leaf in found]
    graph = Graph(running.nodes, nodes, [], source, outputs, result, running.guards)
    return Linear(graph, [node.value for node in graph.nodes], source, result)


def blocks(graph: Graph, values: list[Any]) -> list[Leaves] | None:
    """The blocks of the Jacobian, by rows or by columns, whichever are fewer.

    None where it is better, or needed, to take them one by one: inside another recording, for
    few units, and where an adjoint is not finite, since then places must be told apart.
    """
    output, x = graph.output_layout, graph.layout
    if min(output.size, x.size) < FEWEST or any(map(is_traced, values)):
        return None
    pull = pullback(graph, values)
    if output.size <= x.size:
        images = _of_all_units(pull)
        found = [
            [np.reshape(image[part], leaf.shape + by.shape) for image, by in _beside(images, x)]
            for leaf, part in _parts(output)
        ]
    else:
        images = _of_all_units(pull.transposed())
        found = [
            [
                np.reshape(np.moveaxis(image[part], 0, -1), leaf.shape + by.shape)
                for by, part in _parts(x)
            ]
            for image, leaf in _beside(images, output)
        ]
    if not all(np.all(np.isfinite(block)) for row in found for block in row):
        return None
    return found


def _beside(images: Leaves, layout: Layout) -> Iterator[tuple[Any, Any]]:
    return zip(images, layout.leaves, strict=True)


def _parts(layout: Layout) -> Iterator[tuple[Any, slice]]:
    """Each leaf with the numbers of its entries among all."""
    start = 0
    for leaf in layout.leaves:
        yield leaf, slice(start, start + leaf.size)
        start += leaf.size


def _of_all_units(linear: Linear) -> Leaves:
    """The images of the unit vectors, along a leading axis."""
    source = linear.source
    parts = list(linear.of_batch(source.size, lambda start, stop: units(source, start, stop)))
    return [np.concatenate(leaves) for leaves in zip(*parts, strict=True)]


def units(layout: Layout, start: int, stop: int) -> Leaves:
    """The unit vectors with numbers from `start` to `stop`, as leaves with a leading axis."""
    batch = []
    for leaf, part in _parts(layout):
        unit = np.zeros((stop - start, leaf.size), leaf.dtype)
        chosen = np.arange(max(start, part.start), min(stop, part.stop))
        unit[chosen - start, chosen - part.start] = 1
        batch.append(unit.reshape(stop - start, *leaf.shape))
    return batch
