"""A function recorded at a point and nearby, and derivatives along rays by what holds there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from diffkit.arithmetic import PrecisionNeeded
from diffkit.errors import DiffkitError, InvalidInput, TruthUnavailable
from diffkit.structure import Layout, Leaves
from diffkit.target import Point, Target
from diffkit.tracing import record
from diffkit.tracing.fixed_indices import fixed_indices
from diffkit.tracing.graph import Graph, Guard, GuardFailed
from diffkit.truth.agreement import require_same_value
from diffkit.truth.rays import Direction, Ray, Session, place

PRECISIONS: Final = (128, 256, 512, 1024, 2048, 4096)
NEIGHBOURS: Final = (1, 4, 64, 4096)
"""How many floats away a branch is looked for that `f` takes on one side only."""


class CannotBeRecorded(TruthUnavailable):
    """`f` is a black box."""


class Recorded:
    """A function at a point, recorded and checked.

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

    # ------------------------------------------------------------------ rays

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
