"""Reverse mode over the recorded graph.

The function is recorded once. Its derivative walks the graph backwards and asks each node's
primitive for the adjoints of its arguments; the walker knows no rule. Rules are written in
traceable NumPy, so the walk can itself be recorded: that is how derivatives nest to any order,
how the forward product (jvp) comes from the pullback, which is linear in its cotangent, and how
a gradient that is asked for again becomes one straight-line program.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from diffkit.assembly import by_columns, by_rows
from diffkit.backends.tape.entry import Compiled, compiled
from diffkit.backends.tape.walk import pull_back
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.interface import Cost, Differentiator, Prepared
from diffkit.structure import Layout, Leaves, is_traced
from diffkit.target import Function, Output, Point, Target
from diffkit.tracing.graph import Graph, GuardFailed, same_value
from diffkit.tracing.outside import OutsideState, outside_state
from diffkit.tracing.recording import DataLayout, describe_data, record
from diffkit.tracing.tracer import Trace

LONGEST: Final = 5_000  # operations; compiling many more at once costs seconds and gigabytes


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

    def once(self, f: Function, *arguments: Any, wrt: int | tuple[int, ...] = 0) -> Prepared:
        return _TapeOnce(self, *self._target_and_point(f, arguments, wrt))


@dataclass
class _Program:
    """A recording, what it is valid for, and its compiled gradient once that is wanted.

    Attributes:
        gradients: how many gradients it has given by the general way.
        compiled: its gradient as one function; None until a second gradient was asked for.
    """

    graph: Graph
    layout: Layout
    arguments: DataLayout
    outside: OutsideState
    gradients: int = 0
    compiled: Compiled | None = None

    def fits(self, layout: Layout, arguments: DataLayout) -> bool:
        return self.layout == layout and self.arguments == arguments and self.outside.holds()


@dataclass(frozen=True)
class _Run:
    """The graph with the value of every node at one point."""

    graph: Graph
    values: list[Any]
    program: _Program | None = None

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
                run = _evaluated(program, leaves, numbers[len(leaves) :])
            except GuardFailed:
                continue
            self._keep(program)
            return run
        graph = record(self.target, point)
        # What the function itself changes outside is not among what its programs depend on.
        outside = outside_state(self.target.f, *arguments.fixed)
        program = _Program(graph, point.layout, arguments, outside)
        self._keep(program)
        return _Run(graph, [node.value for node in graph.nodes], program)

    def value_and_gradient(self, *arguments: Any) -> tuple[Any, Any]:
        """Return `f(x)` and its gradient, by a compiled program where one applies."""
        for program in reversed(self._programs) if arguments else ():
            if program.compiled is None or not program.outside.holds():
                continue
            result: tuple[Any, Any] | None = program.compiled.run(*self.target.split(arguments))
            if result is not None:
                if program is not self._programs[-1]:
                    self._keep(program)
                return result
        return super().value_and_gradient(*arguments)

    def source(self) -> str:
        """Return the source of the compiled gradient used last, with the lines of `f` it is for.

        Raises:
            UnsupportedOperation: there is none yet: it is compiled when a gradient is asked for
                a second time, unless the function takes very many operations.
        """
        for program in reversed(self._programs):
            if program.compiled is not None:
                return program.compiled.source
        raise UnsupportedOperation(
            f"no gradient of {self.target.name} has been compiled yet; it is when it is asked for "
            f"a second time, if it takes at most {LONGEST} operations"
        )

    def _gradient(self, point: Point) -> tuple[Output, Leaves]:
        run = self.run(point)
        output, program = run.output, run.program
        self._require_scalar(output)
        if program is not None:
            program.gradients += 1
            if program.gradients == 2 and program.graph.operations <= LONGEST:
                program.compiled = compiled(program.graph, point.data)
        leaf = output.layout.leaves[0]
        seed = leaf.dtype.type(1) if leaf.scalar else np.ones((), leaf.dtype)
        return output, run.pull_back([seed])

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


class _TapeOnce(TapePrepared):
    """A function recorded at one point, for a call at that point alone: nothing to check."""

    def __init__(self, differentiator: Tape, target: Target, point: Point) -> None:
        super().__init__(differentiator, target)
        graph = record(target, point)
        self._at = point
        self._recorded = _Run(graph, [node.value for node in graph.nodes])

    def _point(self, arguments: tuple[Any, ...]) -> Point:
        return self._at

    def _bind(self, target: Target, point: Point) -> Prepared:
        return _TapeOnce(self.differentiator, target, point)

    def run(self, point: Point) -> _Run:
        return self._recorded if point is self._at else super().run(point)


def _evaluated(program: _Program, leaves: Leaves, data: Leaves) -> _Run:
    graph = program.graph
    known = [node.value for node in graph.nodes]
    recorded = [known[node.index] for node in (*graph.inputs, *graph.data)]
    if all(_same_point(a, b) for a, b in zip(recorded, [*leaves, *data], strict=True)):
        return _Run(graph, known, program)
    return _Run(graph, graph.evaluate(leaves, data), program)


def _same_point(a: Any, b: Any) -> bool:
    """Whether a recording's own values serve for the point, without evaluating it again."""
    if is_traced(a) or is_traced(b):
        return is_traced(a) and is_traced(b) and a.node is b.node
    return same_value(a, b)


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
