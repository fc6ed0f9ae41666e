"""One recorded course of a function with its derivatives, in whichever form they are computed.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from diffkit.backends.symbolic.course import Course, OtherCourseError, Values
from diffkit.backends.symbolic.entry import Entry
from diffkit.backends.symbolic.request import Request
from diffkit.backends.symbolic.scalar_derivation import LONGEST_FOLLOWED, WRITTEN
from diffkit.backends.symbolic.scalar_form import ScalarForm
from diffkit.errors import ExpressionTooLarge, UnsupportedOperation
from diffkit.target import Point, Target

if TYPE_CHECKING:
    from diffkit.backends.symbolic.array.form import ArrayForm
    from diffkit.backends.symbolic.differentiator import Symbolic

LARGEST_SHARED: Final = 200
SMALLEST_ARRAYS: Final = 4
"""By default arrays are kept whole where a function does more than `LARGEST_SHARED` operations on
single numbers, and at least `SMALLEST_ARRAYS` for each of its operations on arrays.

Measured on networks and chains: an operation on arrays takes three to four times as long to derive
as one on single numbers, and a call 0.7 µs or more for it, against 0.03 µs.
"""
LARGEST_MATRIX: Final = 4
"""Rows of a matrix whose systems and determinants have short formulas without a pivot."""
_SYSTEMS: Final = frozenset(
    ("solve", "inv", "inv_or_nan", "det", "log_abs_det", "large_cofactors", "cholesky")
)


@dataclass(frozen=True)
class Batch:
    """Points that one course serves, each with the values that the course was recognised by."""

    recorded: Recorded
    points: list[Point]
    values: list[Values]


class Recorded:
    """One recorded course of the function, with what has been derived from it.

    Several threads may use it at once: what is derived is derived under a lock, and never
    changes.

    Args:
        target: the function.
        point: where to record it.
        options: the form of the derivatives and their budget.

    Attributes:
        course: the recording.
        options: the form wanted, and the budget.
        form: `expanded`, `shared` or `array`.
        array: the array form, if it is the one.
        sample: the scalar form for one sample of the data, if that was looked at.

    Raises:
        ExpressionTooLarge: the derivative would exceed the budget.
        UnsupportedOperation: SymPy has no counterpart of an operation.
    """

    def __init__(self, target: Target, point: Point, options: Symbolic) -> None:
        self.course = Course(target, point, looks_up=options.form not in WRITTEN)
        self.options = options
        self._building = threading.Lock()
        self._scalar: ScalarForm | None = None
        self._longest = LONGEST_FOLLOWED
        self.sample: ScalarForm | None = None
        self._uses: Counter[str] = Counter()
        self._entries: dict[str, Entry | None] = {}
        self.array: ArrayForm | None = self._array_form()
        if self.array is None and self.course.looks_up:
            self.course = Course(target, point)
        self.form = "array" if self.array else self.scalar.form

    def _array_form(self) -> ArrayForm | None:
        """The array form, where it is wanted or the function is large; else None."""
        from diffkit.backends.symbolic.array.form import ArrayForm

        wanted, course = self.options.form, self.course
        if wanted in WRITTEN or (wanted is None and not self._is_large()):
            return None
        try:
            return ArrayForm(course, self.options.max_operations, checked=self.options.refine)
        except UnsupportedOperation:
            if wanted is not None:
                raise
            return None

    def leave_arrays(self) -> None:
        """Answer by the shared form from now on, which then follows the rounding of all it does."""
        with self._building:
            self.array = self._scalar = None
            self._longest = self.options.max_operations
            self._entries.clear()
        self.form = self.scalar.form

    def _is_large(self) -> bool:
        nodes = self.course.graph.nodes
        applied = sum(
            n.active and n.primitive is not None and not n.primitive.movement for n in nodes
        )
        wanted = max(LARGEST_SHARED + 1, SMALLEST_ARRAYS * applied)
        return self.course.operations >= wanted or any(
            node.primitive is not None
            and node.primitive.name in _SYSTEMS
            and node.active
            and node.inputs[0].value.shape[-1] > LARGEST_MATRIX
            for node in nodes
        )

    @property
    def scalar(self) -> ScalarForm:
        """The scalar program, in the shared form if none is chosen, made when it is asked for."""
        with self._building:
            if self._scalar is None:
                course = self.course
                if course.looks_up:  # an expression refers to entries by name
                    course = Course(course.target, course.point)
                self._scalar = ScalarForm(course, self.options, self._longest)
            return self._scalar

    def scalar_at(self, point: Point, values: Values) -> tuple[ScalarForm, Values]:
        """The scalar form that holds at a point of this course, with the values that it knows."""
        scalar = self.scalar
        if scalar.course is self.course:
            return scalar, values
        try:
            return scalar, scalar.course.values(point)
        except OtherCourseError:
            with self._building:
                course = Course(self.course.target, point)
                self._scalar = ScalarForm(course, self.options, self._longest)
            return self._scalar, self._scalar.course.values(point)

    def entry(self, what: str) -> Entry | None:
        """The fast way to `gradient` or `derivative 3`, once it has been compiled."""
        return self._entries.get(what)

    def count_use(self, what: str) -> None:
        """Note that a derivative was asked for; the second time, a fast way to it is compiled."""
        self._uses[what] += 1
        if self._uses[what] != 2:
            return
        try:
            self._entries[what] = self._compiled_entry(what)
        except (UnsupportedOperation, ExpressionTooLarge):
            self._entries[what] = None  # the general way has just given it

    def _compiled_entry(self, what: str) -> Entry | None:
        if self.array is None:
            return self.scalar.entry("jacobian" if what == "gradient" else what)
        order = 1 if what == "gradient" else int(what.split()[1])
        return self.array.entry(Request(what.split()[0], order=order))

    def take(self, points: Sequence[Point]) -> tuple[Batch, list[Point]]:
        """The points where this course is taken, and the others."""
        taken: list[Point] = []
        values: list[Values] = []
        others: list[Point] = []
        if not self.course.holds_outside():
            return Batch(self, taken, values), list(points)
        for point in points:
            try:
                values.append(self.course.values(point))
                taken.append(point)
            except OtherCourseError:
                others.append(point)
        return Batch(self, taken, values), others


def sample_of(recorded: Recorded, sample: Point) -> ScalarForm:
    """The scalar form of the same function for one sample of its data, made once."""
    if recorded.sample is None:
        course = Course(recorded.course.target, sample)
        recorded.sample = ScalarForm(course, recorded.options)
    return recorded.sample
