"""Values of `f` around a point, one by one, in one batched call, or by several workers.

Results are in a working precision at least that of float64; what `f` sees has the dtype of
its own leaves.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diffkit.backends.finite.lines import Places
from diffkit.backends.finite.progress import Meter
from diffkit.errors import InvalidInput, InvalidOutput, TracingError
from diffkit.structure import Array, Layout, Leaves, flatten, is_traced
from diffkit.target import Output, Point, Target

if TYPE_CHECKING:
    from diffkit.backends.finite.differentiator import FiniteDifference

OUTSIDE_THE_DOMAIN = (ValueError, ArithmeticError)
BATCH_BYTES = 1 << 17  # how much of x one batched call is given: temporaries that malloc keeps
BATCH_CHECKS = 2  # single evaluations that batched ones are compared with
BATCH_TOLERANCE = 1e4  # roundings by which a batched value may differ from a single one


@dataclass
class Tally:
    """How many times `f` was called; a batched call counts once for each of its points."""

    evaluations: int = 0


class Sampler:
    """`f` around one point, as a vector of all entries of its output.

    A sample is NaN where `f` is not defined: that is also what an exception means that the
    standard library's mathematics raises outside a domain, if `f` is defined at the point
    itself. Its `refusal` keeps the first of them. `underflow` is the absolute rounding error
    that each entry of the output has, however small it is.
    """

    def __init__(
        self, target: Target, point: Point, tally: Tally, options: FiniteDifference
    ) -> None:
        self.target = target
        self.point = point
        self.tally = tally
        self.options = options
        self.refusal: Exception | None = None
        self.meter = Meter(target.name)
        limit = options.max_evaluations
        self._last = None if limit is None else tally.evaluations + limit
        self._batch_checked = False
        self.tally.evaluations += 1
        self.output: Output = target.evaluate(point.layout, point.leaves, point.data)
        if any(is_traced(leaf) for leaf in self.output.leaves):
            raise TracingError(
                f"{target.name} returned a value that is being traced: through finite differences "
                "its derivative would be lost; inside a differentiated function use backend='tape'"
            )
        self.dtype = np.result_type(
            np.float64,
            *(leaf.dtype for leaf in point.layout.leaves),
            *(leaf.dtype for leaf in self.output.layout.leaves),
        )
        self.center = self._ravel(self.output)
        self._number = self.output.layout.is_scalar
        self._expected = [leaf.shape for leaf in self.output.layout.leaves]
        self._output_eps = _per_entry(self.output.layout, _eps)
        self.underflow = _per_entry(self.output.layout, _least)
        self.plain = self._is_plain()
        self._known: dict[float, float] = {}  # where all is plain

    def eps(self, leaves: tuple[int, ...]) -> Array:
        """The relative rounding error of each entry of the output, when those leaves move."""
        moved = max((_eps(self.point.layout.leaves[k].dtype) for k in leaves), default=0.0)
        return np.asarray(np.maximum(self._output_eps, moved))

    @property
    def unlimited(self) -> bool:
        """Whether there is no budget."""
        return self._last is None

    def affordable(self, evaluations: int) -> bool:
        """Whether the budget leaves that many evaluations."""
        if self.options.vectorized and not self._batch_checked:
            evaluations += BATCH_CHECKS
        return self._last is None or self.tally.evaluations + evaluations <= self._last

    def require(self, evaluations: int) -> None:
        """Refuse what is known beforehand to cost more than the budget.

        Raises:
            InvalidInput: it does.
        """
        if not self.affordable(evaluations):
            raise InvalidInput(
                f"max_evaluations={self.options.max_evaluations} is less than the "
                f"{evaluations + 1} that this takes for {self.target.name}"
            )

    def at(self, places: Places) -> Array:
        """The outputs at several places, one row each; to be called where warnings are `quiet`.

        Raises:
            InvalidOutput: `f` returns another structure there than at the point.
            InvalidInput: `f` was said to be vectorized, and is not.
        """
        rows = np.full((len(places), self.center.size), np.nan, self.dtype)
        inside = np.flatnonzero(places.finite)
        if self.plain:
            for i, (number,) in zip(inside.tolist(), places.each(inside), strict=True):
                rows[i] = self.number(float(number))
            return rows
        self.tally.evaluations += len(inside)
        if self.options.vectorized and len(inside):
            self._fill_batched(rows, inside, places)
        elif self.options.jobs != 1 and len(inside) > 1:
            self._fill_parallel(rows, inside, places)
        else:
            for i, leaves in zip(inside.tolist(), places.each(inside), strict=True):
                rows[i] = self._single(leaves)
                self.meter.tick(1)
        return rows

    def number(self, x: float) -> float:
        """The value at a number, where all is `plain`; it is never asked for twice."""
        if x not in self._known:
            self.tally.evaluations += 1
            value = self._single([np.float64(x)])
            self._known[x] = float(value if isinstance(value, float) else value[0])
            self.meter.tick(1)
        return self._known[x]

    def _is_plain(self) -> bool:
        """Whether `f` takes one number in double precision to another, call by call, unlimited."""
        called = not self.options.vectorized and self.options.jobs == 1
        if not (self.point.layout.is_scalar and self._number and called and self.unlimited):
            return False
        return bool(self.point.leaves[0].dtype == self.dtype == np.float64)

    # ------------------------------------------------------------------ ways to evaluate

    def _single(self, leaves: Leaves) -> Any:
        """The value at a place, whose moved leaves are fresh."""
        layout, data = self.point.layout, self.point.data
        try:
            if data or not layout.is_single:
                return self._row(self.target.evaluate(layout, leaves, data))
            result = self.target.call(layout.cast(leaves)[0], ())
            if self._number and type(result) in (np.float64, float):
                return result
            return self._row(self.target.output(result))
        except OUTSIDE_THE_DOMAIN as error:
            self.refusal = self.refusal or error
            return np.nan

    def _row(self, output: Output) -> Array:
        if output.layout != self.output.layout:
            require_same_layout(self.target, self.output.layout, output.layout)
        return self._ravel(output)

    def _fill_parallel(self, rows: Array, inside: Array, places: Places) -> None:
        """By joblib: only worth its cost where `f` is slow."""
        import joblib

        pool = joblib.Parallel(n_jobs=self.options.jobs)
        layout, data = self.point.layout, self.point.data
        call = joblib.delayed(_outcome)
        found = pool(call(self.target, layout, places[i], data) for i in inside)
        for i, (output, error) in zip(inside, found, strict=True):
            self.refusal = self.refusal or error
            rows[i] = np.nan if error is not None else self._row(output)

    def _fill_batched(self, rows: Array, inside: Array, places: Places) -> None:
        size = max(1, sum(leaf.nbytes for leaf in self.point.leaves))
        length = max(1, BATCH_BYTES // size)
        for start in range(0, len(inside), length):
            chosen = inside[start : start + length]
            rows[chosen] = self._batch(places.stacked(chosen), len(chosen))
            self.meter.tick(len(chosen))
        if not self._batch_checked:
            self._check_batch(rows, inside, places)
            self._batch_checked = True

    def _batch(self, stacked: Leaves, count: int) -> Array:
        layout = self.point.layout
        result = self.target.call(layout.unflatten(stacked), self.point.data)
        plain = self._number and type(result) is np.ndarray and result.dtype == np.float64
        if plain and result.shape == (count,):
            return np.asarray(result[:, np.newaxis])
        found, parts = flatten(
            result, f"{self.target.name}(x)", promote_integers=True, error=InvalidOutput
        )
        expected = [(count, *shape) for shape in self._expected]
        if found.nesting != self.output.layout.nesting or [p.shape for p in parts] != expected:
            raise InvalidInput(
                f"vectorized=True, but {self.target.name} returned {found.summary()} for "
                f"{count} points along a leading axis, where f(x) is "
                f"{self.output.layout.summary()}; {_KEEP_AXIS}"
            )
        if len(parts) == 1:
            return np.asarray(parts[0].reshape(count, -1))
        return np.concatenate([np.zeros((count, 0)), *(p.reshape(count, -1) for p in parts)], 1)

    def _check_batch(self, rows: Array, inside: Array, places: Places) -> None:
        """Compare the batched values with single ones, at the first and the last point."""
        scale = np.nanmax(abs(rows), axis=0, initial=0.0)
        allowed = BATCH_TOLERANCE * (self._output_eps * scale + self.underflow)
        for i in {int(inside[0]), int(inside[-1])}:
            self.tally.evaluations += 1
            single = self._single(places[i])
            same = (abs(rows[i] - single) <= allowed) | (rows[i] == single)
            same |= np.isnan(rows[i]) & np.isnan(single)
            if not same.all():
                raise InvalidInput(
                    f"vectorized=True, but {self.target.name} gives another value for a point in "
                    f"a batch than for the same point alone; {_KEEP_AXIS}"
                )

    def _ravel(self, output: Output) -> Array:
        leaves = output.leaves
        if len(leaves) == 1:
            return np.asarray(leaves[0].reshape(-1).astype(self.dtype))
        return output.layout.ravel(leaves).astype(self.dtype)


_KEEP_AXIS = "let it work along the trailing axes (np.sum(..., axis=-1)), or leave vectorized=False"


def require_same_layout(target: Target, expected: Layout, got: Layout) -> None:
    """Refuse a function whose output changes its structure from point to point."""
    shapes = [leaf.shape for leaf in got.leaves]
    if got.nesting != expected.nesting or shapes != [leaf.shape for leaf in expected.leaves]:
        raise InvalidOutput(
            f"{target.name} returned {expected.summary()} at x and {got.summary()} nearby; a "
            "function whose output changes its shape has no derivative"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without floating-point warnings: away from the point they are not the user's."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _outcome(
    target: Target, layout: Layout, leaves: Leaves, data: tuple[Any, ...]
) -> tuple[Output | None, Exception | None]:
    """What `f` returned, or how it refused, in a worker of its own."""
    with quiet():
        try:
            return target.evaluate(layout, leaves, data), None
        except OUTSIDE_THE_DOMAIN as error:
            return None, error


def _per_entry(layout: Layout, measure: Any) -> Array:
    parts = [np.full(leaf.size, measure(leaf.dtype)) for leaf in layout.leaves]
    return np.concatenate([np.zeros(0), *parts])


def _least(dtype: Any) -> Any:
    return np.finfo(dtype).smallest_subnormal


def _eps(dtype: Any) -> float:
    return float(np.finfo(dtype).eps)
