"""The finite-difference backend: its options, and the operators it implements."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import wraps
from itertools import count
from typing import Any, ClassVar, TypeVar

import numpy as np

from diffkit.assembly import assembled, assembled_blocks
from diffkit.backends.finite.lines import Axes, line
from diffkit.backends.finite.sampling import Tally
from diffkit.backends.finite.stencils import LOWEST, Node
from diffkit.backends.finite.tasks import Task
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.interface import Cost, Differentiator, Estimate, Prepared
from diffkit.plateaus import jump
from diffkit.sparsity import Sparsity
from diffkit.structure import Array, Layout, Leaves
from diffkit.target import Output, Point, Target, require_plain

SCHEMES = (*LOWEST, "complex")
STEPS = ("adaptive", "ridders", "optimal", "rule")
HIGHEST_DERIVATIVE = 4

T = TypeVar("T")


@dataclass(frozen=True)
class FiniteDifference(Differentiator):
    """Derivatives of a black box by differences of its values.

    Where a gradient is at hand, its `jacobian` is a better Hessian than second differences of the
    function, and its `jvp` a better product: second differences lose twice the digits.

    Attributes:
        scheme: `central`, `forward`, `backward`, or `complex` (the complex step: exact up to
            rounding for functions that are analytic as written; every result is compared with
            a central difference, and first derivatives only).
        order: the order of accuracy in the step: any even one for central, any for forward
            and backward. With the adaptive step it caps the extrapolation. None stands for 2
            (central) and 1 (one-sided) at a fixed step, and for no cap at the adaptive one.
        step: `adaptive` extrapolates from shrinking steps to the accuracy of the dtype, or
            says that it could not (of 256 entries of `x` or more, a few are followed that far;
            the others take the few steps that those show to be enough, at the cost of about one
            digit, unless they prove to be different); `ridders` is Ridders' table of 1982 as it
            is commonly printed, with steps from max(|x|, 1) / 10 and its own estimate; `optimal`
            measures the noise of `f` and the next derivative, and balances truncation with rounding
            (Gill, Murray, Saunders and Wright 1983);
            `rule` takes eps**(1/(derivative + order)) * max(|x|, 1);
            a number is used as it is given, in the arithmetic of the textbook formula (along a
            tangent it is how far the entry that moves fastest moves).
        relative: whether a numeric step is in units of max(|x|, 1) of each entry.
        vectorized: whether `f` maps over a leading axis of `x`, and so may be given many points
            in one call; compared with single calls.
        jobs: how many processes share the evaluations (joblib's n_jobs), for slow functions.
        max_evaluations: the most evaluations that one call of an operator may take. What the
            adaptive step has not resolved by then is `unresolved`; what is known beforehand to
            take more is refused.
        sparsity: a matrix, true where an entry of `f(x)` (row) depends on one of `x` (column):
            columns that share no row are found together. Compared with a slope in a direction
            of general position.
        nodes: offsets in units of the step, for a stencil of one's own instead of a scheme and
            an order: distinct whole numbers or fractions. Not for steps that extrapolate.

    Raises:
        InvalidInput: an option is unknown, or contradicts another.
    """

    scheme: str = "central"
    order: int | None = None
    step: float | str = "adaptive"
    relative: bool = False
    vectorized: bool = False
    jobs: int = 1
    max_evaluations: int | None = None
    sparsity: Any = None
    nodes: tuple[Node, ...] | None = None

    name: ClassVar[str] = "finite"

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InvalidInput(
                f"unknown scheme {self.scheme!r}; choose one of {', '.join(SCHEMES)}"
            )
        self._check_order()
        self._check_step()
        self._check_evaluation()
        self._check_nodes()

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
        lowest = LOWEST.get(self.scheme)
        if lowest is None:
            raise InvalidInput("the complex step has no order to choose; leave order=None")
        if self.step == "ridders":
            raise InvalidInput("Ridders' table has no order to choose; leave order=None")
        whole = isinstance(self.order, int) and not isinstance(self.order, bool)
        if not whole or self.order < lowest or self.order % lowest:
            raise InvalidInput(
                f"order={self.order!r} is not an order of the {self.scheme} scheme; choose "
                + ("a positive even number" if lowest == 2 else "a positive whole number")
            )

    def _check_nodes(self) -> None:
        if self.nodes is None:
            return
        if self.scheme != "central" or self.order is not None:
            raise InvalidInput("nodes stand for a scheme and an order; leave those away")
        if self.step in ("adaptive", "ridders"):
            raise InvalidInput(
                f"step={self.step!r} extrapolates stencils of its own; with nodes give a number, "
                "'optimal' or 'rule'"
            )
        nodes = tuple(self.nodes) if isinstance(self.nodes, (tuple, list)) else ()
        exact = all(isinstance(n, (int, Fraction)) and not isinstance(n, bool) for n in nodes)
        if not exact or len(set(nodes)) < max(2, len(nodes)):
            raise InvalidInput(
                f"nodes={self.nodes!r} must be at least two distinct whole numbers or fractions"
            )
        object.__setattr__(self, "nodes", nodes)

    def _check_evaluation(self) -> None:
        if not isinstance(self.vectorized, bool):
            raise InvalidInput(f"vectorized={self.vectorized!r} must be True or False")
        whole = isinstance(self.jobs, int) and not isinstance(self.jobs, bool)
        if not whole or self.jobs == 0:
            raise InvalidInput(f"jobs={self.jobs!r} must be a number of processes, -1 for all")
        if self.vectorized and self.jobs != 1:
            raise InvalidInput("vectorized=True makes one call of all points; leave jobs=1")
        limit = self.max_evaluations
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, int) or limit < 1
        ):
            raise InvalidInput(f"max_evaluations={limit!r} must be a positive integer or None")
        if self.sparsity is not None:
            if self.scheme == "complex":
                raise InvalidInput("sparsity is for differences, not for the complex step")
            object.__setattr__(self, "sparsity", Sparsity.of(self.sparsity))

    def _check_step(self) -> None:
        if not isinstance(self.relative, bool):
            raise InvalidInput(f"relative={self.relative!r} must be True or False")
        if isinstance(self.step, str):
            if self.step not in STEPS:
                raise InvalidInput(
                    f"unknown step {self.step!r}; give a positive number, 'adaptive', "
                    "'ridders', 'optimal' or 'rule'"
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
        self._before = 0  # evaluations, when the call under way began

    @property
    def cost(self) -> Cost:
        return Cost(self.tally.evaluations)

    # ------------------------------------------------------------------ hooks

    def _value(self, point: Point) -> Output:
        return self._task(point).output

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        task = self._task(point)
        axes, names = Axes(point, task.dtype), point.layout.entry_names
        if self.options.sparsity is None:
            slopes = task.slopes(axes, names)
        else:
            slopes = task.checked(task.columns(), names)
        return task.output, _blocks(slopes, task.output, point)

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        task = self._task(point)
        if not any(np.any(t) for t in tangents):
            return task.output, task.output.layout.zeros()
        length, along = line(point, tangents, task.dtype)
        (slope,) = task.slopes([along], lambda: ["the tangent"])
        return task.output, _shaped(length * slope, task.output.layout)

    def _derivative(self, point: Point, order: int) -> tuple[Output, Leaves]:
        task = self._task(point)
        axes, names = Axes(point, task.dtype), point.layout.entry_names
        if order == 1:
            (result,) = task.slopes(axes, names)
            return task.output, _shaped(result, task.output.layout)
        self._require_differences(f"a derivative of order {order}")
        if order > HIGHEST_DERIVATIVE:
            raise UnsupportedOperation(
                f"finite differences give derivatives up to order {HIGHEST_DERIVATIVE}, not "
                f"{order}: rounding leaves no digits; use backend='tape' or 'symbolic'"
            )
        (result,) = task.checked(task.along(axes, order), names)
        return task.output, _shaped(result, task.output.layout)

    def _hessian(self, point: Point) -> tuple[Output, list[Leaves]]:
        self._require_differences("a Hessian")
        task = self._task(point)
        self._require_scalar(task.output)
        axes, names = Axes(point, task.dtype), point.layout.entry_names
        pairs = _pairs(range(len(axes)))
        found = task.checked(
            task.mixed([(axes[i], axes[j]) for i, j in pairs]),
            lambda: [f"{first} and {second}" for first, second in _pairs(names())],
        )
        matrix = np.zeros((len(axes), len(axes)), task.dtype)
        for (i, j), value in zip(pairs, found, strict=True):
            matrix[i, j] = matrix[j, i] = value[0]
        return task.output, _blocks(matrix, Output(point.layout, point.leaves), point)

    def _hvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        self._require_differences("a Hessian-vector product")
        task = self._task(point)
        self._require_scalar(task.output)
        if not any(np.any(t) for t in tangents):
            return task.output, point.layout.zeros()
        length, along = line(point, tangents, task.dtype)
        axes, names = Axes(point, task.dtype), point.layout.entry_names
        found = task.checked(task.mixed([(axis, along) for axis in axes]), names)
        return task.output, _shaped(length * found[:, 0], point.layout)

    def _estimate(self, point: Point) -> Estimate:
        before = self.tally.evaluations
        task = self._task(point, doubt=True)
        axes, names = Axes(point, task.dtype), point.layout.entry_names
        errors: list[Any] = [None, None, None]
        if self.options.scheme == "complex":
            slopes = task.slopes(axes, names)
            states = np.full(slopes.shape, "converged")
        else:
            found = task.columns()
            slopes, states = found.value, found.status
            errors = [
                self._structured(doubt, task.output, point)
                for doubt in (found.error, found.truncation, found.roundoff)
            ]
        value = self._structured(slopes, task.output, point)
        status = _named(states, task.output.layout, point.layout)
        evaluations = self.tally.evaluations - before
        return Estimate(value, errors[0], evaluations, status, errors[1], errors[2])

    def _steps(self, point: Point, output: Output, leaf: int) -> str:
        """Found by values, which count, as far as the budget allows."""
        f, left = self.target.f, self._left()

        @wraps(f)
        def counted(*arguments: Any) -> Any:
            if next(calls) >= left:
                raise InvalidInput("the budget is used up")
            self.tally.evaluations += 1
            return f(*arguments)

        calls = count()
        return jump(self.target._replace(f=counted), point, output, leaf)

    # ------------------------------------------------------------------ shared

    def _left(self) -> float:
        """How many evaluations the call under way has left."""
        limit = self.options.max_evaluations
        return math.inf if limit is None else self._before + limit - self.tally.evaluations

    def _task(self, point: Point, *, doubt: bool = False) -> Task:
        require_plain(point, self.options.name)
        self._before = self.tally.evaluations
        return Task(self.options, self.target, point, self.tally, doubt=doubt)

    def _require_differences(self, what: str) -> None:
        if self.options.scheme == "complex":
            raise UnsupportedOperation(
                f"the complex step gives first derivatives, not {what}; use scheme='central'"
            )

    def _structured(self, columns: Array, output: Output, point: Point) -> Any:
        """The gradient or Jacobian in the user's structure, finite or not."""
        blocks = _blocks(columns, output, point)
        if output.layout.is_scalar:
            return assembled(blocks[0], point.layout)[0]
        return assembled_blocks(blocks, output.layout, point.layout)[0]


def _pairs(items: Sequence[T]) -> list[tuple[T, T]]:
    """Every pair of items, the second not after the first."""
    return [(items[i], items[j]) for i in range(len(items)) for j in range(i + 1)]


def _shaped(vector: Array, layout: Layout) -> Leaves:
    """A vector cut into leaves of a layout's shapes, in its own dtype."""
    ends = np.cumsum([leaf.size for leaf in layout.leaves])
    pieces = np.split(vector, ends[:-1]) if layout.leaves else []
    return [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, layout.leaves, strict=True)]


def _blocks(columns: Array, output: Output, point: Point) -> list[Leaves]:
    """Jacobian blocks from one derivative vector, a row, per entry of `x`."""
    matrix = columns.T
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


def _named(states: Array, rows: Layout, columns: Layout) -> dict[str, str]:
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
