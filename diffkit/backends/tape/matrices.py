"""Jacobians, Hessians and their products, from one recording by as few sweeps as may be.

What needs one direction is a walk; what needs many is one vectorised sweep, or few where the
matrix is known to be sparse. A Hessian is the Jacobian of the gradient, which is recorded in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from diffkit.assembly import by_columns, by_rows, derivative_name
from diffkit.backends.tape import jacobians
from diffkit.backends.tape.compression import (
    Compression,
    dense_blocks,
    general_product,
    of_blocks,
    sparse_blocks,
)
from diffkit.backends.tape.kinks import BENEATH
from diffkit.backends.tape.sparsity import selecting, structure
from diffkit.backends.tape.ties import OF, tied_nodes
from diffkit.interface import Prepared
from diffkit.sparsity import Sparsity
from diffkit.structure import Leaves
from diffkit.target import Output, Point, Target, with_x_first
from diffkit.tracing.graph import Graph, same_value
from diffkit.tracing.recording import is_nested

if TYPE_CHECKING:
    from diffkit.backends.tape.differentiator import Tape, _Program, _Run


class Matrices(Prepared):
    """A recorded function, as far as its Jacobian and Hessian are concerned.

    Attributes:
        is_gradient: whether the function is a gradient, so that its Jacobian is symmetric.
    """

    differentiator: Tape
    is_gradient = False
    _programs: list[_Program]
    _compression: tuple[Graph, list[Any], Compression] | None = None
    _gradient_prepared: Matrices | None = None

    if TYPE_CHECKING:

        def run(self, point: Point) -> _Run: ...

        def _keep(self, program: _Program) -> None: ...

        def _answer(
            self, run: _Run, point: Point, derive: Callable[[_Run], Leaves], by_output: bool = False
        ) -> Leaves: ...

    def _vjps(self, point: Point, cotangents: Leaves) -> tuple[Output, Leaves]:
        return self._swept(point, cotangents, False) or super()._vjps(point, cotangents)

    def _jvps(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        return self._swept(point, tangents, True) or super()._jvps(point, tangents)

    def _hvps(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        run = self.run(point)
        if run.program is not None and not is_nested(point):
            products = run.program.products
            if not jacobians.are_many(run.graph, tangents):
                found = products.each(point, tangents)
                if found is not None:
                    return run.output, found
            products.count(self.target, point)
        return run.output, self._gradient_function(point)._vjps(point, tangents)[1]

    def _swept(self, point: Point, batch: Leaves, forward: bool) -> tuple[Output, Leaves] | None:
        """The value and products with several directions, if one sweep finds them."""
        run = self.run(point)
        if tied_nodes(run.graph, run.values):
            return None
        found = jacobians.images(run.graph, run.values, batch, forward=forward)
        return None if found is None else (run.output, found)

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        if self.differentiator.sparsity is not None and not is_nested(point):
            output, pattern, entries = self._compressed(point)
            return output, dense_blocks(pattern, entries, output.layout, point.layout)
        run = self.run(point)
        return run.output, self._blocks(run, point)

    def _blocks(self, run: _Run, point: Point) -> list[Leaves]:
        output, x = run.output, point.layout

        def blocks(at: _Run) -> Leaves:
            together = jacobians.blocks(at.graph, at.values)
            if together is not None:
                return list(chain(*together))
            if output.layout.size <= x.size:
                return list(chain(*by_rows(output, x, at.pull_back)))
            return list(chain(*by_columns(output, x, at.push_forward())))

        found = self._answer(run, point, blocks, True)
        width = len(x.leaves)
        return [found[i : i + width] for i in range(0, len(found), width)]

    def _compressed(self, point: Point) -> tuple[Output, Sparsity, Any]:
        """The value, and the pattern and entries of a sparse Jacobian."""
        run = self.run(point)
        if tied_nodes(run.graph, run.values):  # beside the tie other entries may count
            found = of_blocks(self._blocks(run, point), run.output.layout, point.layout)
            return run.output, *found
        compression = self._compression_of(run)
        entries = compression.entries(run.graph, run.values)
        if self.differentiator.sparsity != "auto":
            compression.require_complete(entries, general_product(run.graph, run.values))
        return run.output, compression.pattern, entries

    def _compression_of(self, run: _Run) -> Compression:
        graph, given = run.graph, self.differentiator.sparsity
        if not isinstance(given, str):
            given.require_shape(graph.output_layout, graph.layout)
            symmetric = self.is_gradient and given.transposed() == given
            return Compression.of(given, symmetric=symmetric)
        integers, known = selecting(graph, run.values), self._compression
        same = known is not None and known[0] is graph
        if known is None or not same or not all(map(same_value, known[1], integers)):
            pattern = structure(graph, run.values)
            if self.is_gradient:  # so that its Jacobian is symmetric
                pattern = pattern.symmetric_part()
            found = Compression.of(pattern, symmetric=self.is_gradient)
            self._compression = known = (graph, integers, found)
        return known[2]

    def jacobian(self, *arguments: Any) -> Any:
        """Return the Jacobian, with `sparse` as matrices of scipy.sparse."""
        if not self.differentiator.sparse:
            return super().jacobian(*arguments)
        return self._sparse(self._point(arguments), 1)

    def hessian(self, *arguments: Any) -> Any:
        """Return the Hessian, with `sparse` as matrices of scipy.sparse."""
        if not self.differentiator.sparse:
            return super().hessian(*arguments)
        point = self._point(arguments)
        self._require_scalar(self._value(point))
        gradient = self._gradient_function(point)
        return gradient._sparse(point, 2)

    def _sparse(self, point: Point, order: int) -> Any:
        output, pattern, entries = self._compressed(point)
        x = point.layout
        rows, columns = output.layout.entry_names(), x.entry_names()
        wrong = ~np.isfinite(entries)
        bad = [
            derivative_name(rows[i], columns[j], order)
            for i, j in zip(*(part[wrong] for part in pattern.entries()), strict=True)
        ]
        found = sparse_blocks(pattern, entries, output.layout, x)
        nested = output.layout.unflatten([x.unflatten(row) for row in found])
        return self._finite(output, nested, bad)

    def hvp(
        self, x: Any, tangent: Any, *rest: Any, value: bool = False, batched: bool = False
    ) -> Any:
        """Return the Hessian times `tangent`, by a compiled program where one applies."""
        for program in () if batched else reversed(self._programs):
            product = program.products.compiled
            if product is None or not program.outside.holds():
                continue
            at, data = self.target.split((x, *rest))
            result = product.run((at, tangent), data)
            if result is not None:
                if program is not self._programs[-1]:
                    self._keep(program)
                return result if value else result[1]
        return super().hvp(x, tangent, *rest, value=value, batched=batched)

    def _hvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        # The Hessian is symmetric, so one pullback of the gradient gives its product.
        _, product = self._gradient_function(point)._vjp(point, lambda _: tangents)
        run = self.run(point)
        if run.program is not None and not is_nested(point):
            run.program.products.count(self.target, point)
        return run.output, product

    def _gradient_function(self, point: Point) -> Matrices:
        if self._gradient_prepared is None:
            function = with_x_first(self.target)

            def gradient(x: Any, *data: Any) -> Any:
                prepared = self.differentiator.once(function, x, *data)
                prepared.quiet = True  # whoever asks for the derivative warns
                value, found = prepared.value_and_gradient(x, *data)
                BENEATH(value)  # whose jumps at a tie the gradient does not tell
                return found

            gradient.__qualname__ = f"{OF}{self.target.name}"
            vars(gradient)["__wrapped__"] = self.target.f
            prepared = self._bind(Target(gradient), point)
            assert isinstance(prepared, Matrices)
            prepared.is_gradient = True
            self._gradient_prepared = prepared
        return self._gradient_prepared
