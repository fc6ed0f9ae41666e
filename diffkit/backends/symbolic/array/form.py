"""The array form of one recorded course: its derivatives, derived when asked for, and compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from diffkit.backends.symbolic.array.code import ArrayBody
from diffkit.backends.symbolic.array.derivation import ArrayDerivation
from diffkit.backends.symbolic.course import Course, Values
from diffkit.backends.symbolic.digits import (
    DigitsLostError,
    digits_kept,
    distances,
    one_row,
    scatter,
)
from diffkit.backends.symbolic.entry import Entry, compiled_entry
from diffkit.backends.symbolic.request import Request
from diffkit.errors import UnsupportedOperation
from diffkit.structure import Leaves

MARGIN: Final = 16.0  # on how many digits longdouble has left
BATCH_BYTES: Final = 2**27  # of all values of a program at once; beyond it batches are cut


class ArrayForm(ArrayDerivation):
    """The derivatives of a course in index notation, evaluated.

    Args:
        course: the recording.
        budget: how many operations the program may have.
        points: whether it is evaluated at many points at once.
        checked: whether the first derivative of each kind is held against longdouble.

    Raises:
        UnsupportedOperation: an operation has no counterpart in index notation.
        ExpressionTooLarge: the program exceeds the budget.
    """

    def __init__(
        self, course: Course, budget: int, points: bool = False, checked: bool = False
    ) -> None:
        super().__init__(course, budget, points)
        self._checked = checked
        self._held: set[Request] = set()
        self._loses_digits = False
        self._dtype = course.dtype
        self._many: ArrayForm | None = None
        self._bound = list(self._lowered.bound.values())
        self._whole_numbers = [s in self._lowered.integers for s in self._lowered.bound]
        self._needed = course.needed(self._bound)

    # ------------------------------------------------------------------ evaluation

    def entry(self, request: Request) -> Entry | None:
        """The fast way to a derivative without directions, if there is one."""
        by_row = request.kind == "derivative"
        like = self._graph.output_layout if by_row else self._graph.layout
        if self._loses_digits:
            return None
        body = ArrayBody(
            self.code(request), self._bound, self._whole_numbers, self._dtype, self.course, like
        )
        return compiled_entry(self.course, body, like)

    def matrix(self, kind: str, leaves: Leaves, values: Values, trusting: bool = False) -> Any:
        """The Jacobian (`vjp` by rows, `jvp` by columns) or Hessian (`hvp`) as one matrix.

        If `trusting`, it is not held against longdouble.
        """
        rows, request = [], Request(kind, batched=True)
        for directions in self._unit_directions(request):
            parts = self.derivative(request, leaves, values, directions, trusting)
            count = len(directions[0])
            rows.append(np.concatenate([part.reshape(count, -1) for part in parts], axis=1))
        stacked = np.concatenate(rows)
        return stacked.T if kind == "jvp" else stacked

    def derivative(
        self,
        request: Request,
        leaves: Leaves,
        values: Values,
        directions: Leaves,
        trusting: bool = False,
    ) -> Leaves:
        """The derivative leaf by leaf.

        The first one of each kind is held against longdouble, unless `trusting`.

        Where it is not finite, adjoints of what was not chosen may have met an infinite slope:
        they are then told apart. Where a value on the way leaves the range of the dtype,
        longdouble may still hold it.

        Raises:
            DigitsLostError: the first derivative of its kind has lost its digits to rounding.
            UnsupportedOperation: a formula just switches or jumps at the point.
        """
        self.course.complete(values, self._needed)
        bound = [values[index] for index in self._bound]
        _, result, overflowed = self._attempt(request, self._dtype, leaves, bound, directions)
        if _finite(result) and not overflowed:
            if trusting:
                return result
            return self._held_against_wider(request, result, leaves, bound, directions)
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

    def _held_against_wider(
        self,
        request: Request,
        result: Leaves,
        leaves: Leaves,
        bound: Sequence[Any],
        directions: Leaves,
    ) -> Leaves:
        """The result, or that in longdouble where it has digits that the result has lost."""
        if not self._checked or (request in self._held and not self._loses_digits):
            return result
        self._held.add(request)
        wider = self.wider(request, leaves, bound, directions)
        if wider is None:
            distance = self._scatter(request, result, leaves, bound, directions)
        else:
            distance = distances(result, wider, self._dtype)
        sizes = np.abs(one_row(result if wider is None else wider))[None]
        nothing = wider is None and not sizes.any()
        if nothing or digits_kept(sizes, distance, self._dtype).all():
            return result
        self._loses_digits = True
        gained = float(np.finfo(np.longdouble).eps / np.finfo(self._dtype).eps)
        left = MARGIN * gained * distance
        if wider is not None and digits_kept(sizes, left, self._dtype).all():
            return [part.astype(self._dtype) for part in wider]
        raise DigitsLostError(
            f"rounding takes the digits of the symbolic derivative of {self.course.target.name} at "
            "this point (terms cancel)"
        )

    def _scatter(
        self,
        request: Request,
        result: Leaves,
        leaves: Leaves,
        bound: Sequence[Any],
        directions: Leaves,
    ) -> Any:
        """How far the result moves when the point is rounded otherwise."""

        def moved(nudged: Leaves) -> Leaves:
            return self._attempt(request, self._dtype, nudged, bound, directions)[1]

        return scatter(moved, leaves, result, self._dtype)

    def errors(self, leaves: Leaves, values: Values) -> Any:
        """How far the Jacobian may be off, as a matrix: its distance from that in longdouble.

        Where that cannot be computed, how far it moves when the point is rounded otherwise.
        """
        self.course.complete(values, self._needed)
        bound = [values[index] for index in self._bound]
        rows, columns = self._graph.output_layout.size, self._graph.layout.size
        request = Request("vjp" if rows <= columns else "jvp", batched=True)
        parts = []
        for directions in self._unit_directions(request):
            _, own, _ = self._attempt(request, self._dtype, leaves, bound, directions)
            wider = self.wider(request, leaves, bound, directions)
            if wider is None:
                distance = self._scatter(request, own, leaves, bound, directions)
            else:
                distance = distances(own, wider, self._dtype)
            sizes = [part[0].size for part in own]
            cut = np.split(distance[0], np.cumsum([part.size for part in own])[:-1])
            count = len(directions[0])
            pairs = zip(cut, sizes, strict=True)
            parts.append(np.concatenate([c.reshape(count, n) for c, n in pairs], axis=1))
        matrix = np.concatenate(parts) * (np.finfo(self._dtype).eps / 2)
        return (matrix if rows <= columns else matrix.T).astype(self._dtype)

    def wider(
        self, request: Request, leaves: Leaves, bound: Sequence[Any], directions: Leaves
    ) -> Leaves | None:
        """A derivative in longdouble, in which it stays.

        None where that holds no more digits, or linear algebra and SciPy do not have it.
        """
        wide = np.dtype(np.longdouble)
        if np.finfo(wide).eps >= np.finfo(self._dtype).eps:
            return None
        try:
            _, wider, _ = self._attempt(request, wide, leaves, bound, directions)
        except TypeError:
            return None
        return [np.asarray(part) for part in wider]

    def ties(self, leaves: Leaves, values: Values) -> set[bool]:
        """For each kink at the point, whether its rule shares among equals."""
        if not self._kinks:
            return set()
        self.course.complete(values, self._needed)
        bound = [values[index] for index in self._bound]
        with np.errstate(all="ignore"):
            sides = self._run(Request("kinks"), self._dtype, leaves, bound, [])[-1]
        pairs = zip(sides[::2], sides[1::2], self._kinks.values(), strict=True)
        return {shares for left, right, shares in pairs if np.any(np.equal(left, right))}

    def gradients(self, stacked: Leaves, values: Values) -> tuple[Leaves, Any]:
        """The gradients at points stacked along a leading axis, and where they can be trusted."""
        if self._many is None:
            self._many = ArrayForm(self.course, self._budget, points=True)
        self.course.complete(values, self._needed)
        bound = [values[index] for index in self._bound]
        many, request = self._many, Request("gradient")
        value, gradients, overflowed = many._attempt(request, self._dtype, stacked, bound, [])
        overflowed |= bool(many.ties(stacked, values))
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
