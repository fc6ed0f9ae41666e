"""A study of one function at one point: directional derivatives, enclosed on both sides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np

from diffkit.arithmetic import PrecisionNeeded
from diffkit.errors import DiffkitError, InvalidInput, TruthUnavailable
from diffkit.measures import Enclosure, ulp
from diffkit.structure import Layout, Leaves
from diffkit.target import Point, Target
from diffkit.tracing import record
from diffkit.tracing.fixed_indices import fixed_indices
from diffkit.tracing.graph import Graph, Guard, GuardFailed
from diffkit.truth.agreement import require_same_value
from diffkit.truth.differences import difference
from diffkit.truth.rays import (
    Direction,
    Entry,
    Ray,
    Session,
    Side,
    above_kink,
    general_direction,
    place,
    weighted,
)

PRECISIONS: Final = (128, 256, 512, 1024, 2048, 4096)
RADIUS: Final = Fraction(1, 1 << 20)
"""How wide an enclosure may be, in ulps."""
AGREEMENT: Final = Fraction(1, 1 << 10)
"""How far differences may be from an enclosure, in ulps."""
STEPS: Final = (30, 120, 400, 1600)
"""The steps of differences, as negative powers of ten, tried until they are small enough."""
NEIGHBOURS: Final = (1, 4, 64, 4096)
"""How many floats away a branch is looked for that `f` takes on one side only."""
FEW: Final = 4
"""Up to how many entries of x each gets a second opinion of its own."""


class CannotBeRecorded(TruthUnavailable):
    """`f` is a black box."""


class Study:
    """A function at a point, recorded, checked, and ready to be asked for derivatives.

    Attributes:
        certified: whether all answers so far are rigorous.
        smooth: whether no direction so far has contradicted the partial derivatives.
        notes: reservations about the answers so far.
        precision: the largest precision used so far, in bits.
        evaluations: how often a graph was evaluated so far.

    Raises:
        TruthUnavailable: `f` cannot be recorded or repeated in arbitrary precision, or its
            exact value is far from what it computes.
    """

    def __init__(self, target: Target, point: Point) -> None:
        self.target = target
        self.point = point
        self.certified = True
        self.smooth = True
        self.notes: list[str] = []
        self.precision = 0
        self.evaluations = 0
        self.graph = self._recorded(point)
        self._graphs: dict[tuple[Direction, int], Graph] = {}
        self._sessions: dict[tuple[int, int, bool], Session] = {}
        self._rays: dict[tuple[Direction, int, int, int], Ray | None] = {}
        self._check_value()
        self._note_casts()

    @property
    def output_layout(self) -> Layout:
        return self.graph.output_layout

    # ------------------------------------------------------------------ recording and checking

    def _recorded(self, point: Point) -> Graph:
        try:
            return fixed_indices(record(self.target, point))
        except InvalidInput:
            raise
        except DiffkitError as error:
            raise CannotBeRecorded(
                f"{self.target.name} cannot be recorded, so there is no reference: {error}"
            ) from error

    def _check_value(self) -> None:
        for precision in PRECISIONS:
            try:
                session = self._session(self.graph, precision, precision == PRECISIONS[-1])
                with session.arithmetic:
                    session.interpreter.check_guards(session.base)
                require_same_value(self.target.name, self.graph, session.outputs)
                self._note_overflow()
                return
            except PrecisionNeeded as error:
                undecided = error
            except GuardFailed as failed:
                raise self._other_branch(failed.guard) from failed
        raise TruthUnavailable(f"an outcome in {self.target.name} cannot be decided: {undecided}")

    def _other_branch(self, guard: Guard) -> TruthUnavailable:
        return TruthUnavailable(
            f"{self.target.name} takes another course in exact arithmetic than in floating "
            f"point at {guard.location}: the outcome there depends on rounding, or on a "
            "side that could not be recorded"
        )

    def _note_overflow(self) -> None:
        if not all(np.all(np.isfinite(node.value)) for node in self.graph.outputs):
            self._note(f"the value of {self.target.name} is not finite in floating point")

    def _note_casts(self) -> None:
        for node in self.graph.nodes:
            if node.primitive is not None and node.primitive.name == "astype" and node.active:
                source = np.asarray(node.inputs[0].value).dtype
                if node.static["dtype"].itemsize < source.itemsize:
                    self._note(
                        f"the cast to {node.static['dtype']} at {node.location} counts as the "
                        "identity"
                    )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

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

    def _ray(self, direction: Direction, order: int, side: int, precision: int) -> Ray | None:
        """The derivatives along a direction; None where the precision does not decide enough.

        Raises:
            TruthUnavailable: not even the highest precision does.
        """
        key = (direction, order, side, precision)
        if key not in self._rays:
            final = precision == PRECISIONS[-1]
            try:
                self._rays[key] = self._attempt(direction, order, side, precision, False)
            except PrecisionNeeded as error:
                self._rays[key] = self._last_attempt(key, error) if final else None
        return self._rays[key]

    def _last_attempt(
        self, key: tuple[Direction, int, int, int], undecided: PrecisionNeeded
    ) -> Ray:
        try:
            ray = self._attempt(*key, True)
        except PrecisionNeeded as error:
            raise TruthUnavailable(
                f"an outcome in {self.target.name} cannot be decided with {key[-1]} bits: {error}"
            ) from undecided
        self.certified = False
        self._note(
            f"values that agree to {key[-1]} bits, where the larger or smaller was chosen, are "
            "taken to be equal"
        )
        return ray

    def _attempt(
        self, direction: Direction, order: int, side: int, precision: int, final: bool
    ) -> Ray:
        """A ray by the recording that holds on this side, made at a point nearby if need be."""
        known = self._graphs.get((direction, side))
        failed: GuardFailed | None = None
        for graph in [known] if known else self._candidates(direction, side):
            session = self._session(graph, precision, final)
            self.evaluations += 1
            try:
                here = self._session(self.graph, precision, final).outputs
                ray = session.ray(self.point.layout, direction, order, side, here)
            except GuardFailed as error:
                failed = failed or error
                continue
            self._graphs[direction, side] = graph
            one_sided = ray.one_sided or graph is not self.graph
            return Ray(ray.slopes, one_sided)
        assert failed is not None
        raise self._other_branch(failed.guard)

    def _candidates(self, direction: Direction, side: int) -> Iterator[Graph]:
        yield self.graph
        for count in NEIGHBOURS:
            leaves = self._nudged(direction, side, count)
            try:
                nudged = Point(self.point.layout, leaves, self.point.data)
                yield fixed_indices(record(self.target, nudged))
            except DiffkitError:
                continue

    def _nudged(self, direction: Direction, side: int, count: int) -> Leaves:
        """The leaves of a point some floats away."""
        leaves = [np.array(leaf) for leaf in self.point.leaves]
        for position, speed in direction:
            leaf, entry = place(self.point.layout, position)
            flat = leaves[leaf].reshape(-1)
            target = flat.dtype.type(math.copysign(math.inf, side * speed))
            step = np.nextafter(flat[entry], target) - flat[entry]
            flat[entry] += count * step
        return leaves

    def _session(self, graph: Graph, precision: int, final: bool) -> Session:
        key = (id(graph), precision, final)
        if key not in self._sessions:
            self._sessions[key] = Session(graph, self.point.leaves, precision, final)
            self.evaluations += 1
        self.precision = max(self.precision, precision)
        return self._sessions[key]

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
