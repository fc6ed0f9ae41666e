"""A function with its derivatives by SymPy: which program answers, and how."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.assembly import assembled, assembled_blocks, contracted
from diffkit.backends.symbolic.digits import DigitsLostError, warn_of_lost_digits
from diffkit.backends.symbolic.estimates import estimated
from diffkit.backends.symbolic.many_points import ManyPoints
from diffkit.backends.symbolic.matrices import blocks_of, matrix_of_blocks, spoil_rows
from diffkit.backends.symbolic.request import Request
from diffkit.backends.symbolic.samples import is_mean, is_network_loss, rows
from diffkit.backends.symbolic.sizes import GRADIENT_GROWTH
from diffkit.errors import UnsupportedOperation
from diffkit.interface import Cost, Estimate
from diffkit.structure import Leaves
from diffkit.target import Output, Point, Target, require_plain

if TYPE_CHECKING:
    from diffkit.backends.symbolic.array.code import ArrayCode
    from diffkit.backends.symbolic.array.form import ArrayForm
    from diffkit.backends.symbolic.code import Code
    from diffkit.backends.symbolic.course import Values
    from diffkit.backends.symbolic.differentiator import Symbolic
    from diffkit.backends.symbolic.program import Batch, Recorded

PROGRAMS_KEPT: Final = 8


class SymbolicPrepared(ManyPoints):
    """A function with its derivatives as expressions and as compiled code.

    Several threads may use it at once. It can be pickled if its function can; what was derived
    is left behind.
    """

    differentiator: Symbolic

    def __init__(self, differentiator: Symbolic, target: Target) -> None:
        super().__init__(differentiator, target)
        self._programs: list[Recorded] = []
        self._latest_code: Code | ArrayCode | None = None
        self._evaluations = 0
        self._by_sample: bool | None = None
        self._keeping = threading.Lock()

    def __reduce__(self) -> Any:
        return type(self), (self.differentiator, self.target)

    def record(self, point: Point) -> None:
        """Have a program for the point; its derivatives follow when they are asked for."""
        self._batches(point)

    # ------------------------------------------------------------------ the fast way

    def gradient(self, *arguments: Any) -> Any:
        """Return the gradient of a scalar function, in the structure of `x`."""
        found = self._at_once("gradient", arguments)
        return super().value_and_gradient(*arguments)[1] if found is None else found[1]

    def value_and_gradient(self, *arguments: Any) -> tuple[Any, Any]:
        """Return `f(x)` and its gradient, in the structure of `x`."""
        found = self._at_once("gradient", arguments)
        if found is None:
            return super().value_and_gradient(*arguments)
        value, gradient = found
        return self.value(*arguments) if value is None else value, gradient

    def derivative(self, *arguments: Any, order: int = 1) -> Any:
        """Return the derivative by a scalar `x`, in the structure and shape of `f(x)`."""
        found = self._at_once(f"derivative {order}", arguments)
        return super().derivative(*arguments, order=order) if found is None else found[1]

    def _at_once(self, what: str, arguments: tuple[Any, ...]) -> Any:
        """The value (or None) and the derivative by a compiled entry; None where none applies."""
        if self._by_sample or not arguments:
            return None
        for recorded in reversed(self._programs):
            entry = recorded.entry(what)
            if entry is None or not recorded.course.holds_outside():
                continue
            result = entry.run(*self.target.split(arguments))
            if result is not None:
                if recorded is not self._programs[-1]:
                    self._keep([recorded])
                return result
        return None

    # ------------------------------------------------------------------ hooks

    def _value(self, point: Point) -> Output:
        require_plain(point, "symbolic")
        with self._keeping:
            self._evaluations += 1
        return super()._value(point)

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        output, (matrix,) = self._at_kinks(point, self._jacobian_matrix, lambda m, _: [m])
        return output, blocks_of(matrix, output.layout, point.layout)

    def _jacobian_matrix(self, point: Point) -> tuple[Output, Leaves]:
        output = self._value(point)
        shape = output.layout.size, point.layout.size
        matrix = self._whole(point, "vjp" if shape[0] <= shape[1] else "jvp", shape)
        if matrix is None:
            matrix = self._evaluated(point, "jacobian", shape)
        spoil_rows(matrix, output)
        return output, [matrix]

    def _gradient(self, point: Point) -> tuple[Output, Leaves]:
        def exactly(matrix: Any, output: Output) -> Leaves:
            return blocks_of(matrix, output.layout, point.layout)[0]

        found = self._at_kinks(point, self._formal_gradient, exactly)
        self._count_use("gradient")
        return found

    def _formal_gradient(self, point: Point) -> tuple[Output, Leaves]:
        output = self._value(point)
        self._require_scalar(output)
        gradient = self._leaves(point, Request("gradient"), output)
        if gradient is None:
            matrix = self._evaluated(point, "jacobian", (1, point.layout.size))
            spoil_rows(matrix, output)
            gradient = blocks_of(matrix, output.layout, point.layout)[0]
        return output, gradient

    def _vjp(self, point: Point, cotangents: Callable[[Output], Leaves]) -> tuple[Output, Leaves]:
        if self._batches(point)[0].recorded.array is None:
            return super()._vjp(point, cotangents)
        directions = cotangents(self._value(point))

        def exactly(matrix: Any, output: Output) -> Leaves:
            blocks = blocks_of(matrix.T, point.layout, output.layout)
            return contracted(blocks, directions, point.layout)

        return self._at_kinks(point, lambda there: self._formal_vjp(there, directions), exactly)

    def _formal_vjp(self, point: Point, directions: Leaves) -> tuple[Output, Leaves]:
        output = self._value(point)
        product = self._leaves(point, Request("vjp"), output, directions)
        return super()._vjp(point, lambda _: directions) if product is None else (output, product)

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        if self._batches(point)[0].recorded.array is None:
            return super()._jvp(point, tangents)

        def exactly(matrix: Any, output: Output) -> Leaves:
            blocks = blocks_of(matrix, output.layout, point.layout)
            return contracted(blocks, tangents, output.layout)

        return self._at_kinks(point, lambda there: self._formal_jvp(there, tangents), exactly)

    def _formal_jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        output = self._value(point)
        product = self._leaves(point, Request("jvp"), output, tangents)
        return super()._jvp(point, tangents) if product is None else (output, product)

    def _hessian(self, point: Point) -> tuple[Output, list[Leaves]]:
        output, (matrix,) = self._at_kinks(point, self._hessian_matrix)
        return output, blocks_of(matrix, point.layout, point.layout)

    def _hessian_matrix(self, point: Point) -> tuple[Output, Leaves]:
        output = self._value(point)
        self._require_scalar(output)
        shape = point.layout.size, point.layout.size
        matrix = self._whole(point, "hvp", shape)
        if matrix is None:
            matrix = self._evaluated(point, "hessian", shape)
        if not np.all(np.isfinite(output.leaves[0])):
            matrix[...] = np.nan
        return output, [matrix]

    def _hvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        return self._at_kinks(point, lambda there: self._formal_hvp(there, tangents))

    def _formal_hvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        output = self._value(point)
        self._require_scalar(output)
        whole = self._leaves(point, Request("hvp"), output, tangents)
        if whole is not None:
            return output, whole
        product = self._evaluated(point, "hvp", (1, point.layout.size), tangents)
        spoil_rows(product, output)
        return output, blocks_of(product, output.layout, point.layout)[0]

    def _derivative(self, point: Point, order: int) -> tuple[Output, Leaves]:
        def exactly(matrix: Any, output: Output) -> Leaves:
            return [row[0] for row in blocks_of(matrix, output.layout, point.layout)]

        found = self._at_kinks(
            point,
            lambda there: self._formal_derivative(there, order),
            exactly if order == 1 else None,
        )
        self._count_use(f"derivative {order}")
        return found

    def _formal_derivative(self, point: Point, order: int) -> tuple[Output, Leaves]:
        output = self._value(point)
        whole = self._leaves(point, Request("derivative", order=order), output)
        if whole is None:
            column = self._evaluated(point, f"derivative {order}", (output.layout.size, 1))
            spoil_rows(column, output)
            whole = [row[0] for row in blocks_of(column, output.layout, point.layout)]
        return output, whole

    def _count_use(self, what: str) -> None:
        if not self._by_sample:
            self._latest.count_use(what)

    def _estimate(self, point: Point) -> Estimate:
        """The derivative with how far rounding took it: its distance from one with more digits.

        That is the same formulas in as high a precision as it takes, of arrays in longdouble. Of
        a mean over samples there is none.
        """
        output, blocks = self._jacobian(point)
        rows, x = output.layout, point.layout
        if rows.is_scalar:
            value = self._finite(output, *assembled(blocks[0], x))
        else:
            value = self._finite(output, *assembled_blocks(blocks, rows, x))
        batch, *others = self._batches(point)
        leaves, error = point.layout.cast(point.leaves), None
        matrix = matrix_of_blocks(blocks, rows, x)
        if not others and len(batch.points) == 1 and matrix.size:
            if batch.recorded.array is not None:
                error = batch.recorded.array.errors(leaves, batch.values[0])
            else:
                scalar, values = batch.recorded.scalar_at(point, batch.values[0])
                error = scalar.errors(matrix, point.leaves, values)
        return estimated(value, matrix, error, rows, x, self.cost.evaluations)

    @property
    def cost(self) -> Cost:
        """The calls of `f`, and the operations of the code compiled last."""
        code = self._latest_code
        return Cost(self._evaluations, code.operations if code else None)

    # ------------------------------------------------------------------ evaluation

    def _whole(self, point: Point, kind: str, shape: tuple[int, int]) -> Any:
        """A Jacobian or Hessian in the array form; None where another form is to answer."""
        if not all(shape):
            return None

        def matrix(form: ArrayForm, values: Values, trusting: bool) -> Leaves:
            return [form.matrix(kind, point.layout.cast(point.leaves), values, trusting)]

        whole = self._by_arrays(point, Request(kind, batched=True), matrix)
        return None if whole is None else whole[0]

    def _leaves(
        self, point: Point, request: Request, output: Output, directions: Leaves | None = None
    ) -> Leaves | None:
        """A derivative leaf by leaf in the array form; None where another form is to answer."""

        def derivative(form: ArrayForm, values: Values, trusting: bool) -> Leaves:
            leaves = point.layout.cast(point.leaves)
            return form.derivative(request, leaves, values, directions or [], trusting)

        result = self._by_arrays(point, request, derivative)
        if result is None or all(np.all(np.isfinite(leaf)) for leaf in output.leaves):
            return result
        if request.kind not in ("jvp", "derivative"):
            return [np.full_like(part, np.nan) for part in result]
        pairs = zip(result, output.leaves, strict=True)
        return [np.where(np.isfinite(value), part, np.nan) for part, value in pairs]

    def _by_arrays(
        self,
        point: Point,
        request: Request,
        compute: Callable[[ArrayForm, Values, bool], Leaves],
    ) -> Leaves | None:
        """What the array form gives; None where another form is to answer.

        By default a small function is left to the shared form where the array form gives up, or
        gives what is not finite: the shared form may do better.
        """
        require_plain(point, "symbolic")
        batches = self._batches(point)
        form, values = batches[0].recorded.array, batches[0].values[0]
        if form is None:
            return None
        options = self.differentiator
        small = GRADIENT_GROWTH * form.course.operations <= options.max_operations
        try:
            result = compute(form, values, False)
        except DigitsLostError:
            if options.form is None and small:
                batches[0].recorded.leave_arrays()
                return None
            warn_of_lost_digits(self.target.name)
            result = compute(form, values, True)
        except UnsupportedOperation:
            if options.form is None and small:
                return None
            raise
        self._latest_code = form.code(request)
        finite = all(np.all(np.isfinite(part)) for part in result)
        return None if options.form is None and small and not finite else result

    def _evaluated(
        self, point: Point, what: str, shape: tuple[int, int], tangents: Leaves | None = None
    ) -> Any:
        """A derivative as a matrix by a scalar form, averaged over the samples if several."""
        require_plain(point, "symbolic")
        batches = self._batches(point)
        total: Any = None
        for batch in batches:
            matrix = self._evaluated_batch(batch, what, shape, tangents)
            total = matrix if total is None else total + matrix
        count = sum(len(batch.points) for batch in batches)
        return total if count == 1 else total / np.asarray(count, total.dtype)

    def _evaluated_batch(
        self, batch: Batch, what: str, shape: tuple[int, int], tangents: Leaves | None
    ) -> Any:
        """A derivative summed over a batch; pivots that fail at its point are chosen anew there."""
        from diffkit.backends.symbolic.program import Recorded

        point = batch.points[0]
        scalar, first = batch.recorded.scalar_at(point, batch.values[0])
        samples = [first, *batch.values[1:]]
        try:
            matrix = scalar.evaluated(what, shape, point.leaves, samples, tangents)
        except DigitsLostError:
            if len(batch.points) > 1 or point is batch.recorded.course.point:
                raise
            again = Recorded(self.target, point, self.differentiator)
            self._keep([again])
            scalar, values = again.scalar, again.course.values(point)
            matrix = scalar.evaluated(what, shape, point.leaves, [values], tangents)
        self._latest_code = scalar.derived(what).code
        return matrix

    def _batches(self, point: Point) -> list[Batch]:
        """The points (one per sample) with the programs that hold there."""
        from diffkit.backends.symbolic.program import Recorded

        if self._by_sample is None:
            written = self.differentiator.form in ("shared", "expanded")
            self._by_sample = (
                written and is_network_loss(self.target) and is_mean(self.target, point)
            )
        waiting = rows(point) if self._by_sample else [point]
        batches: list[Batch] = []
        for recorded in reversed(self._programs):
            batch, waiting = recorded.take(waiting)
            if batch.points:
                batches.append(batch)
            if not waiting:
                break
        while waiting:
            recorded = Recorded(self.target, waiting[0], self.differentiator)
            batch, waiting = recorded.take(waiting)
            if not batch.points:
                raise UnsupportedOperation(
                    f"{self.target.name} takes another course each time it is called; "
                    "it must depend on its arguments alone"
                )
            batches.append(batch)
        self._keep([batch.recorded for batch in batches])
        return batches

    def _keep(self, used: list[Recorded]) -> None:
        """Make programs the ones used last; those unused for longest leave."""
        with self._keeping:
            others = [program for program in self._programs if program not in used]
            self._programs = [*others, *used][-max(PROGRAMS_KEPT, len(used)) :]
