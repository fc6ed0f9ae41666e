"""A study of one function at one point: directional derivatives, enclosed on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

from diffkit.errors import TruthUnavailable
from diffkit.measures import Enclosure, ulp
from diffkit.tracing.graph import Graph
from diffkit.truth.differences import difference
from diffkit.truth.rays import (
    Direction,
    Entry,
    Side,
    above_kink,
    general_direction,
    weighted,
)
from diffkit.truth.recorded import PRECISIONS, Recorded

RADIUS: Final = Fraction(1, 1 << 20)
"""How wide an enclosure may be, in ulps."""
AGREEMENT: Final = Fraction(1, 1 << 10)
"""How far differences may be from an enclosure, in ulps."""
STEPS: Final = (30, 120, 400, 1600)
"""The steps of differences, as negative powers of ten, tried until they are small enough."""
FEW: Final = 4
"""Up to how many entries of x each gets a second opinion of its own."""


class Study(Recorded):
    """A function at a point, ready to be asked for derivatives.

    What it knows of its answers so far is said at `Recorded`.
    """

    # ------------------------------------------------------------------ answers

    def value(self, dtypes: Sequence[Any]) -> list[Entry]:
        """The value of every output, enclosed."""
        found: list[Side] = []
        for precision in PRECISIONS:
            found = [
                Enclosure.of(ball) if ball.is_finite() else None for ball in self._balls(precision)
            ]
            if all(map(_is_narrow, found, dtypes)):
                break
        return [Entry(side, side) for side in found]

    def _balls(self, precision: int) -> list[Any]:
        session = self._session(self.graph, precision, precision == PRECISIONS[-1])
        A = session.arithmetic
        return [A.number(x) for array in session.outputs for x in array.flat]

    def entries(
        self, terms: Sequence[tuple[Fraction, Direction]], order: int, dtypes: Sequence[Any]
    ) -> list[Entry]:
        """A weighted sum of derivatives along directions, for every output.

        Raises:
            TruthUnavailable: the two ways to compute it disagree, or a branch is undecidable.
        """
        right, one_sided = self._side(terms, order, dtypes, 1)
        left = self._side(terms, order, dtypes, -1)[0] if one_sided else _mirrored(right)
        if self.point.layout.size <= FEW:
            self._second_opinion(terms, order, dtypes, right, 1)
            if one_sided:
                self._second_opinion(terms, order, dtypes, left, -1)
        found = [Entry(a, b) for a, b in zip(left, right, strict=True)]
        if one_sided and order > 1:
            for _, direction in terms:
                lower = self.entries([(Fraction(1), direction)], order - 1, dtypes)
                found = [above_kink(a, b) for a, b in zip(found, lower, strict=True)]
        return found

    def examine_other_directions(
        self, by_column: Sequence[Sequence[Entry]], dtypes: Sequence[Any]
    ) -> None:
        """Check partial derivatives against the derivative along a direction of general position.

        It gets a second opinion. Where the partial derivatives exist and do not add up to it,
        the function is not differentiable: a note says so.

        Args:
            by_column: for each entry of x the partial derivatives of every output.
            dtypes: of every output's derivative.
        """
        if self.point.layout.size < 2:
            return
        direction = general_direction(self.point.layout.size)
        found = self.entries([(Fraction(1), direction)], 1, dtypes)
        if self.point.layout.size > FEW:
            self.confirm(direction, dtypes, found)
        for output, along in enumerate(found):
            parts = [column[output].two_sided for column in by_column]
            if all(part is not None for part in parts):
                self._compare_sum(direction, [p for p in parts if p is not None], along)

    def confirm(self, direction: Direction, dtypes: Sequence[Any], found: Sequence[Entry]) -> None:
        """Compare what was found along a direction with high-precision differences.

        Raises:
            TruthUnavailable: they disagree.
        """
        terms = [(Fraction(1), direction)]
        self._second_opinion(terms, 1, dtypes, [entry.right for entry in found], 1)
        if any(entry.two_sided is None for entry in found):
            self._second_opinion(terms, 1, dtypes, [entry.left for entry in found], -1)

    def _compare_sum(self, direction: Direction, parts: Sequence[Enclosure], along: Entry) -> None:
        total = sum(v * p.midpoint for (_, v), p in zip(direction, parts, strict=True))
        radius = sum(abs(v) * p.radius for (_, v), p in zip(direction, parts, strict=True))
        if along.unresolved:
            self.certified = False
            self._note(
                f"{self.target.name} could not be followed along directions other than those of "
                "the entries of x; it may not be defined all around this point"
            )
            return
        slope = along.two_sided
        if slope is None or abs(slope.midpoint - total) > slope.radius + radius:
            self.certified = self.smooth = False
            self._note(
                f"{self.target.name} has partial derivatives here but is not differentiable: its "
                "slope along other directions is not what they add up to"
            )

    # ------------------------------------------------------------------ rays

    def _side(
        self,
        terms: Sequence[tuple[Fraction, Direction]],
        order: int,
        dtypes: Sequence[Any],
        side: int,
    ) -> tuple[list[Side], bool]:
        """The weighted sum on one side, precise enough, and whether the sides may differ."""
        slopes: list[Side] = [None] * len(dtypes)
        one_sided = False
        for precision in PRECISIONS:
            rays = [self._ray(direction, order, side, precision) for _, direction in terms]
            if any(ray is None for ray in rays):
                continue
            known = [ray for ray in rays if ray is not None]
            one_sided = any(ray.one_sided for ray in known)
            weights = [weight for weight, _ in terms]
            slopes = [
                weighted(weights, [ray.slopes[i] for ray in known]) for i in range(len(dtypes))
            ]
            if all(map(_is_narrow, slopes, dtypes)):
                break
        return slopes, one_sided

    # ------------------------------------------------------------------ second opinion

    def _second_opinion(
        self,
        terms: Sequence[tuple[Fraction, Direction]],
        order: int,
        dtypes: Sequence[Any],
        slopes: Sequence[Side],
        side: int,
    ) -> None:
        """Compare with high-precision differences, with smaller steps until they agree.

        Raises:
            TruthUnavailable: they never do.
        """
        enclosed = [s for s in slopes if isinstance(s, Enclosure)]
        if not enclosed:
            return
        vanishing = any(s.midpoint == 0 for s in enclosed)
        for digits in STEPS[2:] if vanishing else STEPS:
            sums = self._differences(terms, order, side, digits)
            if sums is not None and all(
                _agree(total, slope, dtype)
                for total, slope, dtype in zip(sums, slopes, dtypes, strict=True)
            ):
                return
        raise TruthUnavailable(
            f"Taylor arithmetic and high-precision differences disagree on a derivative of "
            f"{self.target.name}; please report this"
        )

    def _differences(
        self, terms: Sequence[tuple[Fraction, Direction]], order: int, side: int, digits: int
    ) -> list[Fraction | None] | None:
        sums: list[Fraction | None] = []
        for weight, direction in terms:
            graph = self._graphs[direction, side] if side < 0 else self._right(direction)
            self.evaluations += order + 1
            found = difference(graph, self.point, direction, order, side, digits)
            if found is None:
                return None
            scaled = [None if d is None else weight * d for d in found]
            sums = (
                [
                    None if a is None or b is None else a + b
                    for a, b in zip(sums, scaled, strict=True)
                ]
                if sums
                else scaled
            )
        return sums

    def _right(self, direction: Direction) -> Graph:
        return self._graphs[direction, 1]


def _mirrored(right: Sequence[Side]) -> list[Side]:
    """The left side of a function that is even about a jump, or has none."""
    return [side if isinstance(side, Enclosure) or side is None else -side for side in right]


def _is_narrow(side: Side, dtype: Any) -> bool:
    if isinstance(side, Enclosure):
        return side.radius <= RADIUS * ulp(side.midpoint, dtype)
    return side is not None


def _agree(total: Fraction | None, slope: Side, dtype: Any) -> bool:
    if not isinstance(slope, Enclosure):
        return True
    if total is None:
        return False
    return abs(total - slope.midpoint) <= AGREEMENT * ulp(slope.midpoint, dtype)
