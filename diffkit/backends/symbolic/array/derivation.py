"""The derivatives of one recorded course over arrays, derived when asked for."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import sympy as sp

from diffkit.backends.symbolic.array.code import ArrayCode
from diffkit.backends.symbolic.array.emit import Emitter
from diffkit.backends.symbolic.array.extremes import shared_extremes
from diffkit.backends.symbolic.array.lowering import Lowered, lowered
from diffkit.backends.symbolic.array.notation import Shape
from diffkit.backends.symbolic.array.walks import ArrayDerivatives
from diffkit.backends.symbolic.course import Course
from diffkit.backends.symbolic.kinks import kinks_of
from diffkit.backends.symbolic.request import Request
from diffkit.tracing.shared_expressions import Expression, Symbol


class ArrayDerivation:
    """The derivatives of a course in index notation, as programs.

    Several threads may use it at once: what is derived is derived under a lock.

    Args:
        course: the recording.
        budget: how many operations the program may have.
        points: whether it is evaluated at many points at once.

    Raises:
        UnsupportedOperation: an operation has no counterpart in index notation.
        ExpressionTooLarge: the program exceeds the budget.
    """

    def __init__(self, course: Course, budget: int, points: bool) -> None:
        self.course = course
        self._points = points
        self._graph = course.graph
        self._budget = budget
        self._deriving = threading.RLock()
        self._compiled: dict[Request, ArrayCode] = {}
        self._is_torn = False
        self._convert()

    def _convert(self) -> None:
        self._lowered: Lowered = lowered(self._graph, self._budget, self._points)
        low = self._lowered
        self._derivatives = ArrayDerivatives(low.program, low.conditions)
        self._kinks = {
            **dict.fromkeys(shared_extremes(low.program, low.outputs), True),
            **kinks_of(low.program, low.outputs, low.conditions),
        }

    def code(self, request: Request) -> ArrayCode:
        """The compiled derivative; if deriving it was broken off before, it starts afresh."""
        known = self._compiled.get(request)
        if known is not None:
            return known
        with self._deriving:
            if request not in self._compiled:
                if self._is_torn:
                    self._convert()
                self._is_torn = True
                self._compiled[request] = self._written(request)
                self._is_torn = False
            return self._compiled[request]

    def source(self, order: int) -> str:
        """The program of the gradient, or of products with the Jacobian from the left.

        For a higher order, of the derivative by one number or of products with the Hessian.
        """
        scalar = self._graph.output_layout.is_scalar
        if order == 1:
            request = Request("gradient") if scalar else Request("vjp", batched=True)
        elif self._graph.layout.is_scalar:
            request = Request("derivative", order=order)
        else:
            request = Request("hvp", batched=True)
        return self.code(request).source

    # ------------------------------------------------------------------ derivation

    def _written(self, request: Request) -> ArrayCode:
        low, program = self._lowered, self._lowered.program
        directions = self._directions(request)
        wanted, shapes = self._derived(request, directions)
        ties = list(self._derivatives.ties)
        looked_at = list(self._kinks) if request.kind in ("kinks", "gradient", "derivative") else []
        sides, bends = (
            [program.define(side) for pair in pairs for side in pair] for pairs in (ties, looked_at)
        )
        read = {s: f"x{i}" for i, s in enumerate(low.inputs)}
        read |= {s: f"b{i}" for i, s in enumerate(low.bound)}
        read |= {s: f"t{i}" for i, s in enumerate(directions)}
        emitter = Emitter(program, read)
        emitter.write([*low.outputs, *wanted, *sides, *bends])
        points, each = self._points, self._points or request.batched
        output_shapes = [leaf.shape for leaf in self._graph.output_layout.leaves]
        results = (
            [emitter.result(o, s, points) for o, s in zip(low.outputs, output_shapes, strict=True)],
            [emitter.result(e, s, each) for e, s in zip(wanted, shapes, strict=True)],
            [emitter.scalar(side) for side in sides],
            [emitter.scalar(side) for side in bends],
        )
        needed = program.reachable(wanted)
        entries = sum(math.prod(program.shapes[s]) for s in needed if s in program.batched)
        parameters = (
            [read[s] for s in low.inputs],
            [read[s] for s in low.bound],
            [read[s] for s in directions],
        )
        return ArrayCode(emitter, parameters, results, ties, entries)

    def _directions(self, request: Request) -> list[Symbol]:
        """Symbols for the cotangents or tangents."""
        layouts = {"vjp": self._graph.output_layout, "jvp": self._graph.layout}
        layouts["hvp"] = self._graph.layout
        if request.kind not in layouts:
            return []
        leaves = layouts[request.kind].leaves
        return [self._lowered.program.given(leaf.shape, batched=request.batched) for leaf in leaves]

    def _derived(
        self, request: Request, directions: Sequence[Symbol]
    ) -> tuple[list[Expression], list[Shape]]:
        """The derivative leaf by leaf, and the shapes of these."""
        low, derivatives = self._lowered, self._derivatives
        output_shapes = [leaf.shape for leaf in self._graph.output_layout.leaves]
        input_shapes = [leaf.shape for leaf in self._graph.layout.leaves]
        if request.kind == "kinks":
            return [], []
        if request.kind == "vjp":
            pulled = derivatives.pulled(low.outputs, directions, low.inputs, request.guarded)
            return pulled, input_shapes
        if request.kind == "jvp":
            tangents = dict(zip(low.inputs, directions, strict=True))
            return derivatives.pushed(low.outputs, tangents), output_shapes
        if request.kind == "derivative":
            entries = list(low.outputs)
            for _ in range(request.order):
                entries = derivatives.pushed(entries, {low.inputs[0]: sp.Integer(1)})
            return entries, output_shapes
        seeds = [sp.Integer(1)]
        gradient = derivatives.pulled(low.outputs, seeds, low.inputs, request.guarded)
        if request.kind == "gradient":
            return gradient, input_shapes
        tangents = dict(zip(low.inputs, directions, strict=True))
        return derivatives.pushed(gradient, tangents), input_shapes
