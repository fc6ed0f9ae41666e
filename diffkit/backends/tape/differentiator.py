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
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np

from diffkit.backends.tape import jacobians
from diffkit.backends.tape.agreement import agree
from diffkit.backends.tape.entry import Compiled, compiled
from diffkit.backends.tape.matrices import Matrices
from diffkit.backends.tape.once import (
    Tried,
    gradient_at_once,
    number_and_gradient,
)
from diffkit.backends.tape.products import Products
from diffkit.backends.tape.rounding import estimated
from diffkit.backends.tape.ties import Question
from diffkit.backends.tape.underflow import pulled_in_range
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.interface import Cost, Differentiator, Estimate, Prepared
from diffkit.sparsity import Sparsity
from diffkit.structure import Layout, Leaves, is_traced
from diffkit.target import Function, Output, Point, Target, warn_of_reservation
from diffkit.tracing.fixed_indices import fixed_indices
from diffkit.tracing.graph import Graph, GuardFailed, same_value
from diffkit.tracing.outside import OutsideState, outside_state
from diffkit.tracing.recording import DataLayout, describe_data, is_nested, record, record_beside
from diffkit.tracing.steps import listed, steps_from

LONGEST: Final = 20_000  # operations; to compile many more takes longer than it saves
LAST_TRIAL: Final = 32  # gradients, by which a program must have given one that is right


@dataclass(frozen=True)
class Tape(Differentiator):
    """Reverse-mode differentiation of plain NumPy code.

    Attributes:
        programs: how many recordings a prepared function keeps, one per course that its
            control flow took and per shape of its arguments. The least recently used leaves.
        sparsity: for Jacobians and Hessians: "auto" finds out from the recording which entries
            may differ from zero; a matrix says so, true where an entry of `f(x)` (row) depends on
            one of `x` (column), and is compared with a product in a direction of general
            position. Columns, or rows, that do not meet are then found together.
        sparse: whether Jacobians and Hessians come as SciPy's sparse matrices, with a row for
            each entry of a leaf of `f(x)` (or of `x`) in C order; finds the pattern itself.

    Raises:
        InvalidInput: an option is unknown.
    """

    name: ClassVar[str] = "tape"
    programs: int = 16
    sparsity: Any = None
    sparse: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.sparsity, str) and self.sparsity != "auto":
            raise InvalidInput(f"sparsity={self.sparsity!r} must be 'auto', a matrix or None")
        if self.sparsity is None and self.sparse:
            object.__setattr__(self, "sparsity", "auto")
        if self.sparsity is not None and not isinstance(self.sparsity, str):
            object.__setattr__(self, "sparsity", Sparsity.of(self.sparsity))
        if self.programs < 1:
            raise InvalidInput(f"programs={self.programs} must be at least 1")

    def bind(self, target: Target, point: Point) -> TapePrepared:
        prepared = TapePrepared(self, target)
        prepared.run(point)
        return prepared

    def once(self, f: Function, *arguments: Any, wrt: int | tuple[int, ...] = 0) -> _TapeOnce:
        return _TapeOnce(self, *self._target_and_point(f, arguments, wrt))

    def value_and_gradient_once(
        self, f: Function, *arguments: Any, wrt: int | tuple[int, ...] = 0
    ) -> tuple[Any, Any]:
        result: Any = None
        if wrt == 0 and arguments and callable(f):
            result = gradient_at_once(f, arguments[0], arguments[1:])
            if type(result) is tuple:
                warn_of_reservation(f)
                return result
        prepared = self.once(f, *arguments, wrt=wrt)
        if isinstance(result, Tried):
            prepared.go_on_from(result.plain)
        return prepared.value_and_gradient(*arguments)


@dataclass
class _Program:
    """A recording, what it is valid for, and its compiled gradient once that is wanted.

    Attributes:
        gradients: how many gradients it has given by the general way.
        candidate: its gradient as one function, before it has been seen to agree.
        compiled: the same from then on; None until a second gradient was asked for.
        products: what it has for Hessian times vector.
    """

    graph: Graph
    layout: Layout
    arguments: DataLayout
    outside: OutsideState
    gradients: int = 0
    candidate: Compiled | None = None
    compiled: Compiled | None = None
    products: Products = field(default_factory=Products)

    @property
    def has_values(self) -> bool:
        """Whether the recording still holds the values it was made with."""
        return self.compiled is None

    def fits(self, layout: Layout, arguments: DataLayout) -> bool:
        return self.layout == layout and self.arguments == arguments and self.outside.holds()

    def count_gradient(self, point: Point, gradient: Leaves) -> None:
        """Compile at the second gradient, because there will be more.

        The program serves once it has given what the general way gave.

        Args:
            point: where.
            gradient: there, by the general way.
        """
        self.gradients += 1
        if self.gradients == 2 and self.graph.operations <= LONGEST:
            self.candidate = compiled(self.graph, point.data)
            self.outside.quicken()
        if self.candidate is None:
            return
        found = self.candidate.run(point.x, point.data)
        if found is not None and agree(point.layout.flatten(found[1]), gradient):
            self.compiled, self.candidate = self.candidate, None
            self.graph.forget_values()  # the program's buffers hold as much again
        elif self.gradients == LAST_TRIAL:
            self.candidate = None


@dataclass(slots=True)
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
        return pulled_in_range(self.graph, self.values, cotangents)

    def push_forward(self) -> Callable[[Leaves], Leaves]:
        """From tangents of the inputs to those of the outputs."""
        return jacobians.push_forward(self.graph, self.values)


class TapePrepared(Matrices):
    """A function recorded by the tape. It keeps its recordings and checks their guards.

    Several threads may use it at once. It can be pickled if its function can; the recordings
    are left behind.
    """

    differentiator: Tape
    derived = False  # whether what it differentiates is a derivative itself
    quiet = False  # whether whoever asks for the derivative warns of ties

    def __init__(self, differentiator: Tape, target: Target) -> None:
        super().__init__(differentiator, target)
        self._programs: list[_Program] = []
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

    def source(self, of: str = "gradient") -> str:
        """Return the source of the compiled gradient used last, with the lines of `f` it is for.

        Args:
            of: "gradient", or "hvp" for the product of the Hessian with a vector.

        Raises:
            InvalidInput: `of` is neither.
            UnsupportedOperation: there is none yet: it is compiled when a gradient is asked for
                a second time, unless the function takes very many operations.
        """
        if of not in ("gradient", "hvp"):
            raise InvalidInput(f"of={of!r} must be 'gradient' or 'hvp', which are compiled")
        for program in reversed(self._programs):
            gradient = program.compiled or program.candidate
            found = gradient if of == "gradient" else program.products.compiled
            if found is not None:
                return found.source
        raise UnsupportedOperation(
            f"no {of} of {self.target.name} has been compiled yet; it is when it is asked for "
            f"a second time, if it takes at most {LONGEST} operations"
        )

    def _gradient(self, point: Point) -> tuple[Output, Leaves]:
        run = self.run(point)
        output, program = run.output, run.program
        self._require_scalar(output)
        leaf = output.layout.leaves[0]
        seed = leaf.dtype.type(1) if leaf.scalar else np.ones((), leaf.dtype)
        gradient = self._answer(run, point, lambda at: at.pull_back([seed]))
        if program is not None:
            program.count_gradient(point, gradient)
        return output, gradient

    def _answer(
        self, run: _Run, point: Point, derive: Callable[[_Run], Leaves], by_output: bool = False
    ) -> Leaves:
        """A derivative at a point, which at a tie is what the sides agree on."""

        def rerecord(leaves: Leaves) -> Graph:
            return record(self.target, Point(point.layout, leaves, point.data))

        about = (self.target.name, run.graph, run.values, rerecord)
        question = Question(*about, by_output, self.derived, self.quiet)
        return question.answer(lambda graph, values: derive(_Run(graph, values)))  # type: ignore[no-any-return]

    def _keep(self, program: _Program) -> None:
        """Make a program the one used last; the one unused for longest leaves."""
        with self._keeping:
            others = [other for other in self._programs if other is not program]
            self._programs = [*others, program][-self.differentiator.programs :]

    def _steps(self, point: Point, output: Output, leaf: int) -> str:
        steps = steps_from(self.run(point).graph, leaf)
        if steps is None and not self.derived:  # other courses have other values
            return super()._steps(point, output, leaf)
        return listed(steps or [])

    def _estimate(self, point: Point) -> Estimate:
        value = self._public_derivative(point)
        return estimated(fixed_indices(record(self.target, point)), value)

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
        weights = cotangents(run.output)
        return run.output, self._answer(run, point, lambda at: at.pull_back(weights))

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        run = self.run(point)
        return run.output, self._answer(run, point, lambda at: at.push_forward()(tangents), True)

    def _bind(self, target: Target, point: Point) -> Prepared:
        return _about_derivative(super()._bind(target, point))


class _TapeOnce(TapePrepared):
    """A function for one call at one point: it is recorded there, and nothing need be checked."""

    def __init__(self, differentiator: Tape, target: Target, point: Point) -> None:
        super().__init__(differentiator, target)
        self._at = point
        self._recorded: _Run | None = None

    def _point(self, arguments: tuple[Any, ...]) -> Point:
        return self._at

    def _bind(self, target: Target, point: Point) -> Prepared:
        return _about_derivative(_TapeOnce(self.differentiator, target, point))

    def run(self, point: Point) -> _Run:
        if point is not self._at:
            return super().run(point)
        if self._recorded is None:
            self._keep_run(record(self.target, point))
        assert self._recorded is not None
        return self._recorded

    def go_on_from(self, plain: Any) -> None:
        """Record, knowing what the plain function gave."""
        self._keep_run(record_beside(self.target, self._at, self.target.output(plain)))

    def _keep_run(self, graph: Graph) -> None:
        self._recorded = _Run(graph, [node.value for node in graph.nodes])

    def value_and_gradient(self, *arguments: Any) -> tuple[Any, Any]:
        """Return `f(x)` and its gradient: at once where nothing is out of the ordinary."""
        target, point = self.target, self._at
        if self._recorded is None and not is_nested(point):
            plain = target.call_plain(point)
            result = number_and_gradient(target, point, plain)
            if result is not None:
                return result
            self.go_on_from(plain)
        return super().value_and_gradient(*arguments)


def _about_derivative(prepared: Prepared) -> Prepared:
    assert isinstance(prepared, TapePrepared)
    prepared.derived = True
    return prepared


def _evaluated(program: _Program, leaves: Leaves, data: Leaves) -> _Run:
    graph = program.graph
    if program.has_values:
        recorded = [node.value for node in (*graph.inputs, *graph.data)]
        if all(_same_point(a, b) for a, b in zip(recorded, [*leaves, *data], strict=True)):
            return _Run(graph, [node.value for node in graph.nodes], program)
    return _Run(graph, graph.evaluate(leaves, data), program)


def _same_point(a: Any, b: Any) -> bool:
    """Whether a recording's own values serve for the point, without evaluating it again."""
    if is_traced(a) or is_traced(b):
        return is_traced(a) and is_traced(b) and a.node is b.node
    return same_value(a, b)
