"""Jacobians by one vectorised sweep: the pullback, or its transpose, for all units at once.

The pullback of a recording is itself recorded once, and evaluated for a batch of cotangents, one
per entry of the output. The transpose of that recording takes tangents, one per entry of `x`:
fewer where the Jacobian is tall. Large batches run in parts, so that their values stay in the
processor's cache and memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.underflow import kept_in_range, pulled_in_range
from diffkit.backends.tape.walk import pull_back, walk
from diffkit.structure import Layout, Leaves, concrete, is_traced
from diffkit.tracing.batching import evaluate_batched
from diffkit.tracing.graph import Graph, Node
from diffkit.tracing.tracer import Trace

FITTING: Final = 2**14  # entries of one value of a batch that stay near the processor
LARGEST: Final = 2**22  # entries of one value of a batch, beyond which memory counts
TOGETHER: Final = 2  # units in a part, if memory allows, that fit or not
MANY: Final = 32  # units, from which on a batch costs less than a compiled product for each
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
        widest = max(largest_value(self.graph), 1)
        step = min(size, max(FITTING // widest, min(TOGETHER, LARGEST // widest), 1))
        for start in range(0, size, step):
            part = batch(start, min(start + step, size))
            yield kept_in_range(partial(self._of_scaled, part))

    def _of_scaled(self, batch: Leaves, factor: float) -> Leaves:
        scaled = batch if factor == 1.0 else [factor * leaf for leaf in batch]
        return evaluate_batched(self.graph, self.values, scaled)


def largest_value(graph: Graph) -> int:
    """The entries of the largest value of which there is one for each element of a batch."""
    return max((np.size(concrete(node.value)) for node in graph.nodes if node.depends), default=1)


def are_many(graph: Graph, batch: Leaves) -> bool:
    """Whether a batch costs less than as many calls of a compiled program."""
    return len(batch[0]) >= MANY and largest_value(graph) * MANY <= FITTING


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


def push_forward(graph: Graph, values: list[Any]) -> Callable[[Leaves], Leaves]:
    """The forward product: the pullback is linear in the cotangent, so transpose it."""
    pull = pullback(graph, values)
    return lambda tangents: pulled_in_range(pull.graph, pull.values, tangents)


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


def images(graph: Graph, values: list[Any], batch: Leaves, *, forward: bool) -> Leaves | None:
    """The products of the Jacobian with several directions, batched along a leading axis.

    None where it is better, or needed, to take them one by one, as for `blocks`.

    Args:
        graph: a recording.
        values: of its nodes.
        batch: tangents, or cotangents.
        forward: whether they are tangents.
    """
    count = len(batch[0])
    if count < FEWEST or any(map(is_traced, (*values, *batch))):
        return None
    linear = pullback(graph, values)
    if forward:
        linear = linear.transposed()
    found = _all_images(linear, count, lambda start, stop: [leaf[start:stop] for leaf in batch])
    return found if all(np.all(np.isfinite(leaf)) for leaf in found) else None


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
    return _all_images(linear, source.size, lambda start, stop: units(source, start, stop))


def _all_images(linear: Linear, size: int, batch: Callable[[int, int], Leaves]) -> Leaves:
    parts = list(linear.of_batch(size, batch))
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
