"""Reverse mode over the recorded graph.

The function is recorded once. Its derivative walks the graph backwards and asks each node's
primitive for the adjoints of its arguments; the walker knows no rule. Rules are written in
traceable NumPy, so the walk can itself be recorded: that is how derivatives nest to any order,
and how the forward product (jvp) comes from the pullback, which is linear in its cotangent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diffkit.assembly import by_columns, by_rows
from diffkit.errors import InvalidInput
from diffkit.interface import Cost, Differentiator, Prepared
from diffkit.structure import Layout, Leaves, concrete, is_traced
from diffkit.target import Output, Point, Target
from diffkit.tracing.graph import Graph, GuardFailed, Node, same_value
from diffkit.tracing.outside import OutsideState, outside_state
from diffkit.tracing.primitives.shapes import astype
from diffkit.tracing.recording import DataLayout, describe_data, record
from diffkit.tracing.tracer import Trace


@dataclass(frozen=True)
class Tape(Differentiator):
    """Reverse-mode differentiation of plain NumPy code.

    Attributes:
        programs: how many recordings a prepared function keeps, one per course that its
            control flow took and per shape of its arguments. The least recently used leaves.
    """

    name: ClassVar[str] = "tape"
    programs: int = 16

    def __post_init__(self) -> None:
        if self.programs < 1:
            raise InvalidInput(f"programs={self.programs} must be at least 1")

    def bind(self, target: Target, point: Point) -> TapePrepared:
        prepared = TapePrepared(self, target)
        prepared.run(point)
        return prepared


@dataclass(frozen=True)
class _Program:
    """A recording and what it is valid for."""

    graph: Graph
    layout: Layout
    arguments: DataLayout
    outside: OutsideState

    def fits(self, layout: Layout, arguments: DataLayout) -> bool:
        return self.layout == layout and self.arguments == arguments and self.outside.holds()


@dataclass(frozen=True)
class _Run:
    """The graph with the value of every node at one point."""

    graph: Graph
    values: list[Any]

    @property
    def output(self) -> Output:
        graph = self.graph
        return Output(graph.output_layout, [self.values[node.index] for node in graph.outputs])

    def pull_back(self, cotangents: Leaves) -> Leaves:
        """The adjoints of the inputs for the given adjoints of the outputs."""
        return pull_back(self.graph, self.values, cotangents)


class TapePrepared(Prepared):
    """A function recorded by the tape. It keeps its recordings and checks their guards.

    Several threads may use it at once. It can be pickled if its function can; the recordings
    are left behind.
    """

    differentiator: Tape

    def __init__(self, differentiator: Tape, target: Target) -> None:
        super().__init__(differentiator, target)
        self._programs: list[_Program] = []
        self._gradient_prepared: Prepared | None = None
        self._keeping = threading.Lock()

    def __reduce__(self) -> Any:
        return type(self), (self.differentiator, self.target)

    def run(self, point: Point) -> _Run:
        """Evaluate a recording that holds at the point, or record a new one."""
        leaves = point.layout.cast(point.leaves)
        arguments, numbers = describe_data((*leaves, *point.data))
        for program in reversed(self._programs):
            if not program.fits(point.layout, arguments):
                continue
            try:
                run = _evaluated(program.graph, leaves, numbers[len(leaves) :])
            except GuardFailed:
                continue
            self._keep(program)
            return run
        graph = record(self.target, point)
        # What the function itself changes outside is not among what its programs depend on.
        outside = outside_state(self.target.f, *arguments.fixed)
        self._keep(_Program(graph, point.layout, arguments, outside))
        return _Run(graph, [node.value for node in graph.nodes])

    def _keep(self, program: _Program) -> None:
        """Make a program the one used last; the one unused for longest leaves."""
        with self._keeping:
            others = [other for other in self._programs if other is not program]
            self._programs = [*others, program][-self.differentiator.programs :]

    @property
    def cost(self) -> Cost:
        return Cost(0, self._programs[-1].graph.operations if self._programs else None)

    @property
    def graph(self) -> Graph:
        """The recording used last."""
        return self._programs[-1].graph

    def _value(self, point: Point) -> Output:
        return self.run(point).output

    def _vjp(self, point: Point, cotangents: Callable[[Output], Leaves]) -> tuple[Output, Leaves]:
        run = self.run(point)
        return run.output, run.pull_back(cotangents(run.output))

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        run = self.run(point)
        return run.output, _push_forward(run)(tangents)

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        run = self.run(point)
        output, x = run.output, point.layout
        if output.layout.size <= x.size:
            return output, by_rows(output, x, run.pull_back)
        return output, by_columns(output, x, _push_forward(run))

    def _hvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        # The Hessian is symmetric, so one pullback of the gradient gives its product.
        _, product = self._gradient_function(point)._vjp(point, lambda _: tangents)
        return self._value(point), product

    def _gradient_function(self, point: Point) -> Prepared:
        if self._gradient_prepared is None:
            self._gradient_prepared = super()._gradient_function(point)
        return self._gradient_prepared


def _evaluated(graph: Graph, leaves: Leaves, data: Leaves) -> _Run:
    known = [node.value for node in graph.nodes]
    recorded = [known[node.index] for node in (*graph.inputs, *graph.data)]
    if all(_same_point(a, b) for a, b in zip(recorded, [*leaves, *data], strict=True)):
        return _Run(graph, known)
    return _Run(graph, graph.evaluate(leaves, data))


def _same_point(a: Any, b: Any) -> bool:
    """Whether a recording's own values serve for the point, without evaluating it again."""
    if is_traced(a) or is_traced(b):
        return is_traced(a) and is_traced(b) and a.node is b.node
    return same_value(a, b)


def pull_back(graph: Graph, values: list[Any], cotangents: Leaves) -> Leaves:
    """Reverse walk: the adjoints of the inputs, given those of the outputs.

    A local derivative may be infinite where nothing depends on it (`np.where(x > 0, np.log(x),
    0)` at x = 0). Should an adjoint come out not finite, the walk is repeated with such places
    told apart: no adjoint flows where the cotangent was never more than dropped.
    """
    adjoints = _walk(graph, values, cotangents, None)
    if not all(np.all(np.isfinite(concrete(leaf))) for leaf in adjoints):
        live = [np.asarray(concrete(w)) != 0 for w in cotangents]
        adjoints = _walk(graph, values, cotangents, live)
    return adjoints


def _walk(graph: Graph, values: list[Any], cotangents: Leaves, live: Leaves | None) -> Leaves:
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
            if node.primitive is None or node.index not in adjoints:
                continue
            g = adjoints.pop(node.index)
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
                    flows = concrete(_fitted(1.0 * flows, arguments[position])) > 0
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
        y, arguments = concrete(y), [concrete(a) for a in arguments]
        weights = np.asarray(live, np.float64)
        routed = node.primitive.pull(position, weights, y, arguments, node.static)
        return np.broadcast_to(np.asarray(routed) != 0, shape)
    if node.primitive.elementwise:
        return np.broadcast_to(live, shape)
    return np.full(shape, bool(np.any(live)))


def _fitted(adjoint: Any, argument: Any) -> Any:
    """The adjoint with broadcasting undone, in the dtype of the argument."""
    shape, target = np.shape(adjoint), np.shape(argument)
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


def _push_forward(run: _Run) -> Callable[[Leaves], Leaves]:
    """The forward product: the pullback is linear in the cotangent, so transpose it."""
    layout = run.output.layout
    with Trace() as running:
        # Ones, because zeros would pass for cotangents that nothing flows back from.
        ones = [np.ones(leaf.shape, leaf.dtype) for leaf in layout.leaves]
        weights = [running.input(one) for one in layout.cast(ones)]
        nodes = [weight.node for weight in weights]
        pulled = run.pull_back(weights)
        outputs = [
            leaf.node if is_traced(leaf) and leaf.recorder is running else running.constant(leaf)
            for leaf in pulled
        ]
    transposed = Graph(running.nodes, nodes, [], layout, outputs, run.graph.layout, running.guards)
    values = [node.value for node in transposed.nodes]

    def push(tangents: Leaves) -> Leaves:
        return pull_back(transposed, values, tangents)

    return push
