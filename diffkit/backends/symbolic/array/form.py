"""The array form of one recorded course: its derivatives, derived when asked for, and compiled."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.array.code import ArrayBody, ArrayCode
from diffkit.backends.symbolic.array.emit import Emitter
from diffkit.backends.symbolic.array.extremes import shared_extremes
from diffkit.backends.symbolic.array.lowering import Lowered, lowered
from diffkit.backends.symbolic.array.notation import Shape
from diffkit.backends.symbolic.array.walks import ArrayDerivatives
from diffkit.backends.symbolic.course import Course, Values
from diffkit.backends.symbolic.entry import Entry, compiled_entry
from diffkit.backends.symbolic.kinks import kinks_of
from diffkit.backends.symbolic.request import Request
from diffkit.errors import UnsupportedOperation
from diffkit.structure import Leaves
from diffkit.tracing.shared_expressions import Expression, Symbol

BATCH_BYTES: Final = 2**27  # of all values of a program at once; beyond it batches are cut


class ArrayForm:
    """The derivatives of a course in index notation.

    Several threads may use it at once: what is derived is derived under a lock.

    Args:
        course: the recording.
        budget: how many operations the program may have.
        points: whether it is evaluated at many points at once.

    Raises:
        UnsupportedOperation: an operation has no counterpart in index notation.
        ExpressionTooLarge: the program exceeds the budget.
    """

    def __init__(self, course: Course, budget: int, points: bool = False) -> None:
        self.course = course
        self._points = points
        self._graph = course.graph
        self._budget = budget
        self._dtype = course.dtype
        self._deriving = threading.RLock()
        self._compiled: dict[Request, ArrayCode] = {}
        self._is_torn = False
        self._many: ArrayForm | None = None
        self._convert()
        self._bound = list(self._lowered.bound.values())
        self._whole_numbers = [s in self._lowered.integers for s in self._lowered.bound]
        self._needed = course.needed(self._bound)

    def _convert(self) -> None:
        self._lowered: Lowered = lowered(self._graph, self._budget, self._points)
        low = self._lowered
        self._derivatives = ArrayDerivatives(low.program, low.conditions)
        self._kinks = [
            *kinks_of(low.program, low.outputs, low.conditions),
            *shared_extremes(low.program, low.outputs),
        ]

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

    @property
    def source(self) -> str:
        """The program of the gradient, or of products with the Jacobian from the left."""
        scalar = self._graph.output_layout.is_scalar
        return self.code(Request("gradient") if scalar else Request("vjp", batched=True)).source

    # ------------------------------------------------------------------ derivation

    def _written(self, request: Request) -> ArrayCode:
        low, program = self._lowered, self._lowered.program
        directions = self._directions(request)
        wanted, shapes = self._derived(request, directions)
        ties = list(self._derivatives.ties)
        looked_at = self._kinks if request.kind in ("kinks", "gradient", "derivative") else []
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

    # ------------------------------------------------------------------ evaluation

    def entry(self, request: Request) -> Entry | None:
        """The fast way to a derivative without directions, if there is one."""
        by_row = request.kind == "derivative"
        like = self._graph.output_layout if by_row else self._graph.layout
        body = ArrayBody(
            self.code(request), self._bound, self._whole_numbers, self._dtype, self.course, like
        )
        return compiled_entry(self.course, body, like)

    def matrix(self, kind: str, leaves: Leaves, values: Values) -> Any:
        """The Jacobian (`vjp` by rows, `jvp` by columns) or Hessian (`hvp`) as one matrix."""
        rows = []
        for directions in self._unit_directions(Request(kind, batched=True)):
            parts = self.derivative(Request(kind, batched=True), leaves, values, directions)
            count = len(directions[0])
            rows.append(np.concatenate([part.reshape(count, -1) for part in parts], axis=1))
        stacked = np.concatenate(rows)
        return stacked.T if kind == "jvp" else stacked

    def derivative(
        self, request: Request, leaves: Leaves, values: Values, directions: Leaves
    ) -> Leaves:
        """The derivative leaf by leaf.

        Where it is not finite, adjoints of what was not chosen may have met an infinite slope:
        they are then told apart. Where a value on the way leaves the range of the dtype,
        longdouble may still hold it.

        Raises:
            UnsupportedOperation: a formula just switches or jumps at the point.
        """
        self.course.complete(values, self._needed)
        bound = [values[index] for index in self._bound]
        _, result, overflowed = self._attempt(request, self._dtype, leaves, bound, directions)
        if _finite(result) and not overflowed:
            return result
        if not _finite(result):
            request = request._replace(guarded=True)
            _, result, overflowed = self._attempt(request, self._dtype, leaves, bound, directions)
        if _finite(result) and not overflowed:
            return result
        try:
            wide = np.dtype(np.longdouble)
            _, wider, _ = self._attempt(request, wide, leaves, bound, directions)
        except TypeError as error:  # of linear algebra and SciPy, which have no longdouble
            if not _finite(result):
                return result
            raise UnsupportedOperation(
                f"a value in the symbolic derivative of {self.course.target.name} overflows at "
                "this point, and not all of it can be computed in a wider range; use "
                "backend='tape'"
            ) from error
        with np.errstate(all="ignore"):
            return [np.asarray(part).astype(self._dtype) for part in wider]

    def is_at_kink(self, leaves: Leaves, values: Values) -> bool:
        """Whether the function may bend at the point."""
        if not self._kinks:
            return False
        self.course.complete(values, self._needed)
        bound = [values[index] for index in self._bound]
        with np.errstate(all="ignore"):
            sides = self._run(Request("kinks"), self._dtype, leaves, bound, [])[-1]
        return _any_equal(sides)

    def gradients(self, stacked: Leaves, values: Values) -> tuple[Leaves, Any]:
        """The gradients at points stacked along a leading axis, and where they can be trusted."""
        if self._many is None:
            self._many = ArrayForm(self.course, self._budget, points=True)
        self.course.complete(values, self._needed)
        bound = [values[index] for index in self._bound]
        many, request = self._many, Request("gradient")
        value, gradients, overflowed = many._attempt(request, self._dtype, stacked, bound, [])
        overflowed |= many.is_at_kink(stacked, values)
        rows = [part.reshape(len(stacked[0]), -1) for part in (*value, *gradients)]
        good = np.all([np.isfinite(row).all(axis=1) for row in rows], axis=0)
        return gradients, good & (not overflowed)

    def _attempt(
        self,
        request: Request,
        dtype: np.dtype[Any],
        leaves: Leaves,
        bound: Sequence[Any],
        directions: Leaves,
    ) -> tuple[Leaves, Leaves, bool]:
        """Value and derivative computed in a dtype, and whether a value overflowed on the way."""
        overflows: list[str] = []
        with np.errstate(all="ignore", over="call", call=lambda kind, _: overflows.append(kind)):
            value, derivative, sides, _ = self._run(request, dtype, leaves, bound, directions)
        if _any_equal(sides):
            raise UnsupportedOperation(
                f"{self.course.target.name} switches formula, or jumps, just at an entry of this "
                "point; its formula there says nothing about its derivative"
            )
        return list(value), list(derivative), bool(overflows)

    def _run(
        self,
        request: Request,
        dtype: np.dtype[Any],
        leaves: Leaves,
        bound: Sequence[Any],
        directions: Leaves,
    ) -> tuple[tuple[Any, ...], ...]:
        """All that the program of a request computes, in a dtype."""
        given = [np.asarray(leaf, dtype)[()] for leaf in (*leaves, *directions)]
        x, t = given[: len(leaves)], given[len(leaves) :]
        many = x if self._points else t if request.batched else []
        count = len(many[0]) if many else 0
        code = self.code(request)
        with np.errstate(invalid="ignore", divide="ignore", under="ignore"):
            data = [
                value if whole else _cast(value, dtype, self._dtype)
                for value, whole in zip(bound, self._whole_numbers, strict=True)
            ]
            return code.run(dtype, count, *x, *data, *t)

    def _unit_directions(self, request: Request) -> Iterator[Leaves]:
        """All unit directions, in batches that fit into memory."""
        layout = self._graph.output_layout if request.kind == "vjp" else self._graph.layout
        each = max(1, self.code(request).entries) * self._dtype.itemsize
        length = max(1, min(layout.size, BATCH_BYTES // each))
        for start in range(0, layout.size, length):
            stop = min(start + length, layout.size)
            flat = np.zeros((stop - start, layout.size), self._dtype)
            flat[np.arange(stop - start), np.arange(start, stop)] = 1
            leaves, left = [], 0
            for leaf in layout.leaves:
                part = flat[:, left : left + leaf.size]
                leaves.append(part.reshape(stop - start, *leaf.shape))
                left += leaf.size
            yield leaves


def _any_equal(sides: Sequence[Any]) -> bool:
    """Whether the sides of a pair are equal anywhere."""
    return any(
        np.any(np.equal(left, right)) for left, right in zip(sides[::2], sides[1::2], strict=True)
    )


def _finite(leaves: Leaves) -> bool:
    return all(bool(np.all(np.isfinite(leaf))) for leaf in leaves)


def _cast(value: Any, dtype: np.dtype[Any], usual: np.dtype[Any]) -> Any:
    """A bound value for a computation in a dtype; Python's numbers bend to any."""
    if isinstance(value, float) and dtype == usual:
        return value
    array = np.asarray(value)
    return array.astype(dtype)[()] if dtype != usual or array.dtype.kind != "f" else value
