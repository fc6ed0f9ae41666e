"""The finite-difference backend: its options, and the operators it implements."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diffkit.assembly import assembled, assembled_blocks
from diffkit.backends.finite.sampling import Tally, entries, line
from diffkit.backends.finite.stencils import ORDERS
from diffkit.backends.finite.tasks import Task
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.interface import Cost, Differentiator, Estimate, Prepared
from diffkit.structure import Array, Layout, Leaves
from diffkit.target import Output, Point, Target, require_plain

SCHEMES = (*ORDERS, "complex")
STEPS = ("adaptive", "rule")
HIGHEST_DERIVATIVE = 4


@dataclass(frozen=True)
class FiniteDifference(Differentiator):
    """Derivatives of a black box by differences of its values.

    Attributes:
        scheme: `central`, `forward`, `backward`, or `complex` (the complex step: exact up to
            rounding for functions that are analytic as written; every result is compared with
            a central difference, and first derivatives only).
        order: the order of accuracy in the step: 2, 4, 6, 8 for central, 1 to 8 for forward
            and backward. With the adaptive step it caps the extrapolation. None stands for 2
            (central) and 1 (one-sided) at a fixed step, and for no cap at the adaptive one.
        step: `adaptive` extrapolates from shrinking steps to the accuracy of the dtype, or
            says that it could not; `rule` takes eps**(1/(derivative + order)) * max(|x|, 1);
            a number is used as it is given, in the arithmetic of the textbook formula (along a
            tangent it is how far the entry that moves fastest moves).
        relative: whether a numeric step is in units of max(|x|, 1) of each entry.

    Raises:
        InvalidInput: an option is unknown, or contradicts another.
    """

    scheme: str = "central"
    order: int | None = None
    step: float | str = "adaptive"
    relative: bool = False

    name: ClassVar[str] = "finite"

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InvalidInput(
                f"unknown scheme {self.scheme!r}; choose one of {', '.join(SCHEMES)}"
            )
        self._check_order()
        self._check_step()

    def bind(self, target: Target, point: Point) -> Prepared:
        require_plain(point, self.name)
        return _Prepared(self, target)

    @property
    def fixed_step(self) -> float | None:
        """The step given as a number, if one was."""
        return None if isinstance(self.step, str) else self.step

    def _check_order(self) -> None:
        if self.order is None:
            return
        allowed = ORDERS.get(self.scheme)
        if allowed is None:
            raise InvalidInput("the complex step has no order to choose; leave order=None")
        if isinstance(self.order, bool) or self.order not in allowed:
            raise InvalidInput(
                f"order={self.order!r} is not an order of the {self.scheme} scheme; "
                f"choose one of {', '.join(map(str, allowed))}"
            )

    def _check_step(self) -> None:
        if not isinstance(self.relative, bool):
            raise InvalidInput(f"relative={self.relative!r} must be True or False")
        if isinstance(self.step, str):
            if self.step not in STEPS:
                raise InvalidInput(
                    f"unknown step {self.step!r}; give a positive number, 'adaptive' or 'rule'"
                )
            if self.relative:
                raise InvalidInput(f"relative=True needs a numeric step, not {self.step!r}")
            return
        real = isinstance(self.step, numbers.Real) and not isinstance(self.step, bool)
        if not real or not math.isfinite(self.step) or self.step <= 0:
            raise InvalidInput(f"step={self.step!r} must be a positive finite number")


class _Prepared(Prepared):
    """`f` as a black box. Nothing but a count is kept from one call to the next."""

    def __init__(self, differentiator: FiniteDifference, target: Target) -> None:
        super().__init__(differentiator, target)
        self.options = differentiator
        self.tally = Tally()

    @property
    def cost(self) -> Cost:
        return Cost(self.tally.evaluations)

    # ------------------------------------------------------------------ hooks

    def _value(self, point: Point) -> Output:
        return self._task(point).output

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        task = self._task(point)
        axes, names = entries(point, task.dtype), point.layout.entry_names()
        return task.output, _blocks(task.slopes(axes, names), task.output, point)

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        task = self._task(point)
        if not any(np.any(t) for t in tangents):
            return task.output, task.output.layout.zeros()
        length, along = line(point, tangents, task.dtype)
        (slope,) = task.slopes([along], ["the tangent"])
        return task.output, _shaped(length * slope, task.output.layout)

    def _derivative(self, point: Point, order: int) -> tuple[Output, Leaves]:
        task = self._task(point)
        axes, names = entries(point, task.dtype), point.layout.entry_names()
        if order == 1:
            (result,) = task.slopes(axes, names)
            return task.output, _shaped(result, task.output.layout)
        self._require_differences(f"a derivative of order {order}")
        if order > HIGHEST_DERIVATIVE:
            raise UnsupportedOperation(
                f"finite differences give derivatives up to order {HIGHEST_DERIVATIVE}, not "
                f"{order}: rounding leaves no digits; use backend='tape' or 'symbolic'"
            )
        (result,) = task.values([task.along(axes[0], order)], names)
        return task.output, _shaped(result, task.output.layout)

    def _hessian(self, point: Point) -> tuple[Output, list[Leaves]]:
        self._require_differences("a Hessian")
        task = self._task(point)
        self._require_scalar(task.output)
        axes, names = entries(point, task.dtype), point.layout.entry_names()
        if len(axes) > 1:
            task.pace(axes)
        pairs = [(i, j) for i in range(len(axes)) for j in range(i + 1)]
        found = task.values(
            [task.mixed(axes[i], axes[j]) for i, j in pairs],
            [f"{names[i]} and {names[j]}" for i, j in pairs],
        )
        matrix = np.zeros((len(axes), len(axes)), task.dtype)
        for (i, j), value in zip(pairs, found, strict=True):
            matrix[i, j] = matrix[j, i] = value[0]
        return task.output, _blocks(list(matrix), Output(point.layout, point.leaves), point)

    def _hvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        self._require_differences("a Hessian-vector product")
        task = self._task(point)
        self._require_scalar(task.output)
        if not any(np.any(t) for t in tangents):
            return task.output, point.layout.zeros()
        length, along = line(point, tangents, task.dtype)
        axes, names = entries(point, task.dtype), point.layout.entry_names()
        task.pace([*axes, along])
        found = task.values([task.mixed(axis, along) for axis in axes], names)
        return task.output, _shaped(length * np.concatenate(found), point.layout)

    def _estimate(self, point: Point) -> Estimate:
        before = self.tally.evaluations
        task = self._task(point)
        axes, names = entries(point, task.dtype), point.layout.entry_names()
        if self.options.scheme == "complex":
            slopes, error = task.slopes(axes, names), None
            states = [np.full(slope.shape, "converged") for slope in slopes]
        else:
            limits = [task.limit(task.along(axis), doubt=True) for axis in axes]
            slopes, states = [found.value for found in limits], [found.status for found in limits]
            error = self._structured([found.error for found in limits], task.output, point)
        value = self._structured(slopes, task.output, point)
        status = _named(states, task.output.layout, point.layout)
        return Estimate(value, error, self.tally.evaluations - before, status)

    # ------------------------------------------------------------------ shared

    def _task(self, point: Point) -> Task:
        require_plain(point, self.options.name)
        return Task(self.options, self.target, point, self.tally)

    def _require_differences(self, what: str) -> None:
        if self.options.scheme == "complex":
            raise UnsupportedOperation(
                f"the complex step gives first derivatives, not {what}; use scheme='central'"
            )

    def _structured(self, columns: Sequence[Array], output: Output, point: Point) -> Any:
        """The gradient or Jacobian in the user's structure, finite or not."""
        blocks = _blocks(columns, output, point)
        if output.layout.is_scalar:
            return assembled(blocks[0], point.layout)[0]
        return assembled_blocks(blocks, output.layout, point.layout)[0]


def _shaped(vector: Array, layout: Layout) -> Leaves:
    """A vector cut into leaves of a layout's shapes, in its own dtype."""
    ends = np.cumsum([leaf.size for leaf in layout.leaves])
    pieces = np.split(vector, ends[:-1]) if layout.leaves else []
    return [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, layout.leaves, strict=True)]


def _blocks(columns: Sequence[Array], output: Output, point: Point) -> list[Leaves]:
    """Jacobian blocks from one derivative vector per entry of `x`."""
    matrix = np.zeros((output.layout.size, point.layout.size), np.result_type(float, *columns))
    for i, column in enumerate(columns):
        matrix[:, i] = column
    blocks, start = [], 0
    for leaf in output.layout.leaves:
        rows = matrix[start : start + leaf.size]
        start += leaf.size
        ends = np.cumsum([x.size for x in point.layout.leaves])
        parts = np.split(rows, ends[:-1], axis=1) if point.layout.leaves else []
        blocks.append(
            [
                part.reshape(leaf.shape + x.shape)
                for part, x in zip(parts, point.layout.leaves, strict=True)
            ]
        )
    return blocks


def _named(states: Sequence[Array], rows: Layout, columns: Layout) -> dict[str, str]:
    """The status of every entry by its name."""
    by_column = zip(columns.entry_names(), states, strict=True)
    if rows.is_scalar:
        return {name: str(status[0]) for name, status in by_column}
    pairs = {
        (i, name): f"d {row} / d {name}"
        for i, row in enumerate(rows.entry_names())
        for name in columns.entry_names()
    }
    found = dict(by_column)
    return {label: str(found[name][i]) for (i, name), label in pairs.items()}
