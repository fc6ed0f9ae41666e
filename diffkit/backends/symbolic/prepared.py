"""A function with its derivatives by SymPy: which program answers, and how."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.assembly import assembled, assembled_blocks, contracted, direction_leaves
from diffkit.backends.symbolic.kinked import Kinked
from diffkit.backends.symbolic.matrices import blocks_of, spoil_rows
from diffkit.backends.symbolic.request import Request
from diffkit.backends.symbolic.samples import is_mean, is_network_loss, rows
from diffkit.backends.symbolic.sizes import GRADIENT_GROWTH
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.interface import Cost, Estimate
from diffkit.structure import Leaves, flatten, map_leaves
from diffkit.target import Output, Point, Target, require_plain

if TYPE_CHECKING:
    from diffkit.backends.symbolic.array.code import ArrayCode
    from diffkit.backends.symbolic.array.form import ArrayForm
    from diffkit.backends.symbolic.code import Code
    from diffkit.backends.symbolic.course import Values
    from diffkit.backends.symbolic.differentiator import Symbolic
    from diffkit.backends.symbolic.program import Batch, Recorded

PROGRAMS_KEPT: Final = 8


class SymbolicPrepared(Kinked):
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

    # ------------------------------------------------------------------ many points at once

    def gradients(self, points: Any, *data: Any) -> Any:
        """Return the gradients at several points, in the structure of `x`.

        Points where the function takes the same course are computed together, by one program
        over whole columns.

        Args:
            points: in the structure of `x`, each leaf with one more leading axis.
            data: the further arguments of `f`, the same at every point.

        Raises:
            InvalidInput: the leading axes differ in length.
            InvalidOutput: `f(x)` is not a single number.
            NonFiniteDerivative: an entry is infinite or NaN.
        """
        _, stacked = flatten(points, "points")
        counts = {np.shape(leaf)[:1] for leaf in stacked}
        if len(counts) != 1 or () in counts:
            raise InvalidInput("each leaf of the points must have a leading axis, of one length")
        (count,) = counts.pop()
        if not count:
            return points
        layout, _ = flatten(map_leaves(lambda leaf: np.asarray(leaf)[0], points), "x")
        result = [np.empty((count, *leaf.shape), leaf.dtype) for leaf in layout.leaves]
        at = [Point(layout, [leaf[i] for leaf in stacked], data) for i in range(count)]
        for places, recorded, values in self._by_course(at):
            form = recorded.array or recorded.scalar
            gradients, good = form.gradients([leaf[places] for leaf in stacked], values)
            for whole, part in zip(result, gradients, strict=True):
                whole[places] = part
            for i in np.asarray(places)[~good]:
                output, leaves = self._gradient(at[i])
                self._finite(output, *assembled(leaves, layout))
                for whole, part in zip(result, leaves, strict=True):
                    whole[i] = part
        return layout.unflatten(result)

    def _by_course(self, points: list[Point]) -> Iterator[tuple[list[int], Recorded, Values]]:
        """The numbers of the points that take the same course, with what is known there."""
        courses: dict[int, tuple[list[int], Recorded, Values]] = {}
        for i, point in enumerate(points):
            (batch,) = self._batches(point)
            self._require_scalar(Output(batch.recorded.course.graph.output_layout, []))
            known = courses.setdefault(id(batch.recorded), ([], batch.recorded, batch.values[0]))
            known[0].append(i)
            if not batch.recorded.course.graph.guards:
                known[0].extend(range(i + 1, len(points)))
                break
        return iter(courses.values())

    # ------------------------------------------------------------------ kinks

    def one_sided(self, x: Any, tangent: Any, *rest: Any) -> tuple[Any, Any]:
        """Return the derivatives along `tangent` from the left and from the right.

        Of f(x + t tangent) by t, for t < 0 and for t > 0 next to 0, each shaped like `f(x)`. They
        differ at a kink.

        Raises:
            UnsupportedOperation: `f` jumps there, or what lies beside cannot be decided: it takes
                another branch there, or two quantities are equal to first order.
        """
        point = self._point((x, *rest))
        direction = direction_leaves(tangent, point.layout, "tangent")
        output = self._value(point)
        batch = self._batches(point)[0]
        scalar, values = batch.recorded.scalar_at(point, batch.values[0])
        guards = scalar.course.graph.guards
        sides = []
        for sign in (-1, 1):
            turned = [sign * np.asarray(leaf) for leaf in direction]
            entries, same = scalar.beside(point.leaves, values, turned)
            decided = sum(guard.node.depends for guard in guards) == len(scalar.conditions())
            if not (same and decided and np.all(np.isfinite(entries))):
                side = "left" if sign < 0 else "right"
                raise UnsupportedOperation(
                    f"what {self.target.name} does to the {side} of this point along this "
                    "direction cannot be decided: it jumps, takes another branch, or compares "
                    "quantities that are equal to first order"
                )
            leaves, start = [], 0
            for leaf in output.layout.leaves:
                part = sign * entries[start : start + leaf.size]
                leaves.append(part.reshape(leaf.shape).astype(leaf.dtype))
                start += leaf.size
            sides.append(self._finite(output, *assembled(leaves, output.layout)))
        return sides[0], sides[1]

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
        """The derivative with how far rounding took it, an estimate; of arrays there is none.

        The error is the distance from the shared form in longdouble: an expanded form may lose
        digits where the function loses none.
        """
        value = self._public_derivative(point)
        batch, *others = self._batches(point)
        error = None
        if batch.recorded.array is None and not others and len(batch.points) == 1:
            output, x = self._value(point).layout, point.layout
            scalar, values = batch.recorded.scalar_at(point, batch.values[0])
            error = scalar.errors((output.size, x.size), point.leaves, values)
            if error is not None:
                blocks = blocks_of(error, output, x)
                whole = assembled_blocks(blocks, output, x)[0]
                error = assembled(blocks[0], x)[0] if output.is_scalar else whole
        return Estimate(value, error, self.cost.evaluations)

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

        def matrix(form: ArrayForm, values: Values) -> Leaves:
            return [form.matrix(kind, point.layout.cast(point.leaves), values)]

        whole = self._by_arrays(point, Request(kind, batched=True), matrix)
        return None if whole is None else whole[0]

    def _leaves(
        self, point: Point, request: Request, output: Output, directions: Leaves | None = None
    ) -> Leaves | None:
        """A derivative leaf by leaf in the array form; None where another form is to answer."""

        def derivative(form: ArrayForm, values: Values) -> Leaves:
            leaves = point.layout.cast(point.leaves)
            return form.derivative(request, leaves, values, directions or [])

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
        compute: Callable[[ArrayForm, Values], Leaves],
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
            result = compute(form, values)
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
        from diffkit.backends.symbolic.scalar_form import DigitsLostError

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
