"""Derivatives of a function that cannot be recorded: the best of independent numerical methods.

Arbitrary precision is out of reach for a black box. What is left are central differences from
several first steps, each extrapolated to step zero, and the complex step where `f` takes complex
numbers. What they agree on is believed as far as they agree; nothing of it is proven.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from diffkit.errors import TruthUnavailable
from diffkit.measures import Enclosure
from diffkit.structure import Array, Layout, Leaves, flatten, map_leaves
from diffkit.target import Output, Point, Target
from diffkit.truth.rays import Direction, Entry, general_direction, place

FIRST_STEPS: Final = (0.4, 0.09, 0.013, 2e-4)
"""Times the size of `x`: where the extrapolations begin, in no simple ratio to each other."""
CONTRACTION: Final = 1.6
ROWS: Final = 9
TINY: Final = 1e-20
"""The complex step, times the size of `x`."""
SAFETY: Final = 4
"""Times the disagreement of the methods: how far what they agree on is believed."""
USELESS: Final = 1e-4
"""A relative doubt above which there is no reference."""
NEGLIGIBLE: Final = 1e-6
"""What part of f / x a derivative must be, or its digits do not count."""


@dataclass(frozen=True)
class _Opinion:
    """What one method says of every output, and how far it doubts that."""

    value: Array
    doubt: Array


class BlackBox:
    """A function at a point as a black box, asked the questions that a `Study` answers.

    Attributes:
        certified: never.
        smooth, precision, evaluations, notes: as of a `Study`.

    Raises:
        TruthUnavailable: two calls at the same point give two values, or `x` is not in float64,
            whose rounding the methods are made for.
    """

    certified: Final = False
    precision: Final = 53

    def __init__(self, target: Target, point: Point, why: TruthUnavailable) -> None:
        if any(leaf.dtype != np.float64 for leaf in point.layout.leaves):
            raise why
        self.target = target
        self.point = point
        self.evaluations = 0
        self.smooth = True
        self._why = why
        self._methods = {f"central differences from {len(FIRST_STEPS)} first steps"}
        self._doubt = self._largest = 0.0
        self._output = self._plainly()
        self._center = self._vector(self._output)
        if not np.array_equal(self._center, self._vector(self._plainly()), equal_nan=True):
            raise TruthUnavailable(
                f"{target.name} returns different values for the same x: it has no derivative"
            )

    @property
    def output_layout(self) -> Layout:
        return self._output.layout

    @property
    def notes(self) -> list[str]:
        return [
            f"not certified: {self.target.name} cannot be recorded, and the reference is what "
            f"{' and '.join(sorted(self._methods))} agree on, to be trusted to an error of "
            f"{self._doubt:.0e} where the largest entry is {self._largest:.1e}"
        ]

    def entries(
        self, terms: Sequence[tuple[Fraction, Direction]], order: int, dtypes: Sequence[Any]
    ) -> list[Entry]:
        """The derivative of every output along one direction.

        Raises:
            TruthUnavailable: the methods do not agree, the slopes on the two sides differ, or
                another derivative than the first is asked for.
        """
        if order > 1 or len(terms) > 1:
            raise self._why
        ((_, direction),) = terms
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen = [self._seen(direction, first) for first in FIRST_STEPS]
            self._require_one_slope([sides for _, sides in seen])
            best, doubt = self._agreed([o for o, _ in seen], self._complex_step(direction))
        self._require_use(direction, best, doubt)
        return [_entry(v, d) for v, d in zip(best, doubt, strict=True)]

    def examine_other_directions(
        self, by_column: Sequence[Sequence[Entry]], dtypes: Sequence[Any]
    ) -> None:
        """Check partial derivatives against the derivative along a direction of general position.

        Raises:
            TruthUnavailable: they do not add up to it.
        """
        if len(by_column) < 2:
            return
        direction = general_direction(len(by_column))
        for output, along in enumerate(self.entries([(Fraction(1), direction)], 1, dtypes)):
            parts = [column[output].two_sided for column in by_column]
            terms = [(v, p) for (_, v), p in zip(direction, parts, strict=True) if p]
            total = sum(v * p.midpoint for v, p in terms)
            radius = sum(abs(v) * p.radius for v, p in terms)
            slope = along.two_sided
            if slope is None or abs(slope.midpoint - total) > slope.radius + radius:
                raise TruthUnavailable(
                    f"the partial derivatives of {self.target.name} do not add up to its slope "
                    "along another direction"
                )

    def value(self, dtypes: Sequence[Any]) -> list[Entry]:
        """Nothing: a value is not known better than it is computed.

        Raises:
            TruthUnavailable: always.
        """
        raise self._why

    def _require_use(self, direction: Direction, best: Array, doubt: Array) -> None:
        """Refuse what is known too badly; what cannot be told from zero beside f / x is zero."""
        natural = NEGLIGIBLE * abs(self._center) / self._size(direction)
        if not np.all(doubt <= USELESS * np.maximum(abs(best), natural)):
            raise TruthUnavailable(
                f"independent numerical methods do not agree on a derivative of "
                f"{self.target.name}, which cannot be recorded"
            )
        self._doubt = max(self._doubt, float(np.max(doubt, initial=0.0)))
        self._largest = max(self._largest, float(np.max(abs(best), initial=0.0)))

    # ------------------------------------------------------------------ differences

    def _seen(self, direction: Direction, first: float) -> tuple[_Opinion, Array]:
        """What central differences from one first step say, and where the sides differ."""
        steps = first * self._size(direction) / CONTRACTION ** np.arange(ROWS)
        if len(direction) == 1:
            leaf, entry = place(self.point.layout, direction[0][0])
            x = np.ravel(self.point.leaves[leaf])[entry]
            steps = (x + steps) - x  # as they are made
        ahead = np.array([self._at(direction, step) for step in steps])
        behind = np.array([self._at(direction, -step) for step in steps])
        noise = np.finfo(float).eps * np.maximum(abs(ahead), abs(behind))
        column = steps[:, np.newaxis]
        central = _extrapolated(steps, (ahead - behind) / (2 * column), noise / column, 2)
        right, left = (
            _extrapolated(steps, (values - self._center) / h, 2 * noise / column, 1)
            for values, h in ((ahead, column), (behind, -column))
        )
        apart = abs(right.value - left.value)
        size = np.maximum(abs(right.value), abs(left.value))
        return central, (apart > 10 * (right.doubt + left.doubt)) & (apart > 1e-3 * size)

    def _require_one_slope(self, differing: list[Array]) -> None:
        """A kink is seen from every distance; from afar, other things look like one."""
        if np.any(np.all(differing, axis=0)):
            raise TruthUnavailable(
                f"the slopes of {self.target.name} on the two sides differ, so there is no "
                "derivative"
            )

    def _agreed(self, opinions: list[_Opinion], complex_step: Array | None) -> tuple[Array, Array]:
        """What the two methods that doubt least agree on, and how far that is believed."""
        values = np.array([o.value for o in opinions])
        doubts = np.array([o.doubt for o in opinions])
        first, second = np.argsort(doubts, axis=0, kind="stable")[:2]
        entry = np.arange(values.shape[1])
        best, other = values[first, entry], values[second, entry]
        rounding = np.finfo(float).eps * abs(best)
        doubt = SAFETY * (doubts[first, entry] + abs(best - other) + rounding)
        doubt = np.where(np.isfinite(doubt) & np.isfinite(best), doubt, np.inf)
        if complex_step is None or not np.all(abs(complex_step - best) <= doubt):
            return best, doubt
        self._methods.add("the complex step")
        return complex_step, SAFETY * (abs(complex_step - best) + rounding)

    # ------------------------------------------------------------------ the complex step

    def _complex_step(self, direction: Direction) -> Array | None:
        """Im f(x + ih) / h, where `f` takes complex numbers and returns them."""
        h = TINY * self._size(direction)
        leaves = [np.asarray(leaf).astype(complex) for leaf in self.point.leaves]
        for position, speed in direction:
            leaf, entry = place(self.point.layout, position)
            leaves[leaf].reshape(-1)[entry] += 1j * h * float(speed)
        scalars = [leaf.scalar for leaf in self.point.layout.leaves]
        x = self.point.layout.unflatten(
            [leaf[()] if scalar else leaf for leaf, scalar in zip(leaves, scalars, strict=True)]
        )
        self.evaluations += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                result = self.target.call(x, self.point.data)
                layout, parts = flatten(map_leaves(_imaginary, result))
        except Exception:  # whatever a black box does with numbers that it was not made for
            return None
        if [leaf.shape for leaf in layout.leaves] != self._shapes:
            return None
        found = np.asarray(layout.ravel(parts), float) / h
        return found if np.all(np.isfinite(found)) else None

    # ------------------------------------------------------------------ the function

    def _plainly(self) -> Output:
        self.evaluations += 1
        return self.target.evaluate(self.point.layout, self.point.leaves, self.point.data)

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [leaf.shape for leaf in self._output.layout.leaves]

    def _size(self, direction: Direction) -> float:
        """The largest number that moves, or 1 where all are zero, by how fast it does."""
        moved = [(place(self.point.layout, p), abs(float(speed))) for p, speed in direction]
        sizes = [
            (abs(float(np.ravel(self.point.leaves[leaf])[entry])) or 1.0) / speed
            for (leaf, entry), speed in moved
        ]
        return min(sizes)

    def _at(self, direction: Direction, step: float) -> Array:
        leaves: Leaves = [np.array(leaf) for leaf in self.point.leaves]
        for position, speed in direction:
            leaf, entry = place(self.point.layout, position)
            leaves[leaf].reshape(-1)[entry] += step * float(speed)
        self.evaluations += 1
        try:
            output = self.target.evaluate(self.point.layout, leaves, self.point.data)
        except (ValueError, ArithmeticError):
            return np.full(self._center.shape, np.nan)
        if [leaf.shape for leaf in output.layout.leaves] != self._shapes:
            raise TruthUnavailable(f"the value of {self.target.name} changes its shape nearby")
        return self._vector(output)

    @staticmethod
    def _vector(output: Output) -> Array:
        return np.asarray(output.layout.ravel(output.leaves), float)


def _extrapolated(steps: Array, quotients: Array, noise: Array, power: int) -> _Opinion:
    """The entry of Neville's table, of all rows and columns, with the least doubt."""
    value, error = quotients, noise
    best = _Opinion(quotients[-1], np.full(quotients.shape[1:], np.inf))
    for width in range(1, len(steps)):
        factor = 1 / ((steps[0] / steps[width]) ** power - 1)
        before, after = value[:-1], value[1:]
        value = after + (after - before) * factor
        error = error[1:] + (error[1:] + error[:-1]) * factor
        doubt = np.maximum(abs(value - after), abs(value - before)) + error
        doubt = np.where(np.isfinite(doubt), doubt, np.inf)
        row = doubt.argmin(axis=0)
        entry = np.arange(doubt.shape[1])
        better = doubt[row, entry] < best.doubt
        best = _Opinion(
            np.where(better, value[row, entry], best.value),
            np.where(better, doubt[row, entry], best.doubt),
        )
    return best


def _imaginary(value: Any) -> Any:
    part = np.imag(np.asarray(value))
    return part if isinstance(value, np.ndarray) else part[()]


def _entry(value: Any, doubt: Any) -> Entry:
    enclosure = Enclosure(Fraction(float(value)), Fraction(float(doubt)))
    return Entry(enclosure, enclosure)
