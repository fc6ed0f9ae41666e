"""Whether the sides of a tie agree on the derivative, and which it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.backends.tape.kinks import BENEATH
from diffkit.backends.tape.sides import Side, joined
from diffkit.errors import DiffkitError
from diffkit.structure import Leaves, concrete
from diffkit.tracing.graph import Graph, GuardFailed

if TYPE_CHECKING:
    from diffkit.backends.tape.ties import Derive, Question

NUDGES: Final = (2.0**-20, 2.0**-30, 2.0**-40)
NOISE: Final = 64.0  # eps, of what is left of terms that cancel
NONE: Final = (0.0, 0.0)


class Judgement:
    """The comparison of the derivatives on several sides of a point.

    Attributes:
        agree: whether the sides agree, for each entry of the output that is judged by itself.
        jumps: whether the function has another value on some side.
        jumps_beneath: whether what it is the derivative of has.
    """

    def __init__(self, question: Question, shared: Leaves, derive: Derive, by_rule: bool) -> None:
        self.question = question
        self.by_rule = by_rule
        self.shared = [np.asarray(concrete(leaf)) for leaf in shared]
        self.values = [concrete(value) for value in question.values]
        self.sides: list[Leaves] = []
        self.jumps = False
        self.jumps_beneath = False
        self._moves = False  # whether any value differs from side to side
        self._outputs = self._at_the_point() if not question.derived else None
        count = len(self._at_the_point()) if question.by_output else 1
        self.agree = np.ones(count, bool)
        for direction, side in self._sides():
            if side is not None and not side.disturbed:
                break
            self._compare(direction, side, derive)
            if not self.agree.any():
                break

    def answer(self) -> Leaves:
        """The derivative where the sides agree, the shared one elsewhere."""
        if not self.sides or not self.agree.any():
            return self._shared()
        first = self.sides[0]
        if not self.question.by_output:
            return self.shared if _close(joined(first), joined(self.shared)).all() else first
        return [
            np.where(np.reshape(agree, shape + (1,) * (np.ndim(s) - len(shape))), f, s)
            for (shape, agree), f, s in zip(self._parts(), first, self._shared(), strict=True)
        ]

    def _shared(self) -> Leaves:
        """The derivative that shares ties: by the rules, else the mean of two opposite sides.

        A branch, an order, a comparison have no rule that shares: there the rules give one side.
        """
        if self.by_rule or self.jumps or len(self.sides) < 2:
            return self.shared
        mean = [((a + b) / 2).astype(a.dtype) for a, b in zip(*self.sides[:2], strict=True)]
        return mean if all(np.all(np.isfinite(leaf)) for leaf in mean) else self.shared

    def _parts(self) -> Iterator[tuple[tuple[int, ...], Any]]:
        """For each leaf of the derivative the shape of the output's leaf, and where sides agree."""
        leaves = self.question.graph.output_layout.leaves
        repeats = len(self.shared) // len(leaves)
        ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
        for leaf, part in zip(leaves, np.split(self.agree, ends), strict=True):
            for _ in range(repeats):
                yield leaf.shape, part

    def _at_the_point(self) -> Any:
        return joined([self.values[node.index] for node in self.question.graph.outputs])

    def _sides(self) -> Iterator[tuple[Leaves, Side | None]]:
        leaves = [np.asarray(self.values[node.index]) for node in self.question.graph.inputs]
        for direction in directions(leaves):
            for along in (direction, [-d for d in direction]):
                yield along, self._side(leaves, along)

    def _side(self, leaves: Leaves, direction: Leaves) -> Side | None:
        """The function on one side; recorded there if it takes another course."""
        side = Side(self.question.graph, self.values, direction)
        for nudge in () if side.holds else NUDGES:
            try:
                graph = self.question.rerecord(
                    [a + nudge * d for a, d in zip(leaves, direction, strict=True)]
                )
                values = self._at(graph)
            except (DiffkitError, GuardFailed):
                continue
            side = Side(graph, values, direction)
            if side.holds:
                break
        return side if side.holds else None

    def _at(self, graph: Graph) -> list[Any]:
        """Every value of another recording at the point itself, whatever its guards say."""
        own = self.question.graph
        leaves = [self.values[node.index] for node in own.inputs]
        data = [self.values[node.index] for node in own.data]
        return replace(graph, guards=[]).evaluate(leaves, data)

    def _compare(self, direction: Leaves, side: Side | None, derive: Derive) -> None:
        found: Leaves = []
        finite = False
        if side is not None:
            outputs, found = (
                side.outputs(),
                [np.asarray(a) for a in derive(side.graph, side.values)],
            )
            finite = all(np.all(np.isfinite(leaf)) for leaf in (outputs, *found))
        if not finite and self._settles(direction, derive):
            found, outputs = self.shared, self._at_the_point()
        elif side is None:
            self.agree[:] = False
            return
        self.sides.append(found)
        self._outputs = outputs if self._outputs is None else self._outputs
        self._moves |= side is not None and side.moves
        noise = self._noise(outputs, found) if finite and self._moves else NONE
        same = _close(outputs, self._outputs, noise[0])
        self.jumps |= not same.all()
        self.agree &= same if self.question.by_output else same.all()
        if side is not None and not self._is_continuous_beneath(side):
            self.jumps = self.jumps_beneath = True
            self.agree[:] = False
        self.agree &= self._agreeing(found, noise[1])

    def _noise(self, outputs: Any, found: Leaves) -> tuple[float, float]:
        """What rounding may do to a value, and to a derivative, whose terms cancel.

        Where values change from side to side, so do their last digits, and what cancelled at the
        point leaves something else: sin(pi) is 1e-16, and sin(-pi) -1e-16.
        """
        x = joined([self.values[node.index] for node in self.question.graph.inputs])
        far = max(1.0, _largest(x))
        eps = NOISE * float(np.finfo(np.result_type(outputs, np.float32)).eps)
        return eps * far * _largest(joined(found)), eps / far * _largest(outputs)

    def _is_continuous_beneath(self, side: Side) -> bool:
        at_point = _beneath(self.question.graph, self.values)
        beside = _beneath(side.graph, side.values)
        noise, _ = self._noise(at_point, [side.outputs()])  # which are its gradient
        return beside.shape == at_point.shape and bool(_close(beside, at_point, noise).all())

    def _settles(self, direction: Leaves, derive: Derive) -> bool:
        """Whether the derivative beside the point approaches the shared one.

        A formula may have no value at the tie itself: np.where(x == 0, 1, np.sin(x) / x).
        """
        question, distances = self.question, []
        at_point = joined([self._at_the_point(), *self.shared])
        for nudge in (2.0**-10, 2.0**-20):
            leaves = [
                self.values[node.index] + (nudge * d).astype(d.dtype)
                for node, d in zip(question.graph.inputs, direction, strict=True)
            ]
            data = [self.values[node.index] for node in question.graph.data]
            try:
                values = question.graph.evaluate(leaves, data)
            except GuardFailed:
                return False
            outputs = [values[node.index] for node in question.graph.outputs]
            distances.append(np.abs(joined([*outputs, *derive(question.graph, values)]) - at_point))
        far, near = distances
        return bool(np.all(near <= 2.0**-6 * far + 1e-9 * (1 + np.abs(at_point))))

    def _agreeing(self, found: Leaves, noise: float) -> Any:
        first = self.sides[0]
        if not self.question.by_output:
            return _close(joined(found)[None], joined(first)[None], noise).all()
        result = self.agree.copy()
        leaves = self.question.graph.output_layout.leaves
        repeats = len(found) // len(leaves)
        start = 0
        for j, leaf in enumerate(leaves):
            part = slice(repeats * j, repeats * (j + 1))
            a, b = (_rows(leaf.size, leaves[part]) for leaves in (found, first))
            result[start : start + leaf.size] &= _close(a, b, noise).all(axis=1)
            start += leaf.size
        return result


def directions(leaves: Leaves) -> Iterator[Leaves]:
    """Two directions of general position, each entry moving about as far as it is large."""
    generator = np.random.default_rng(20)
    for _ in range(2):
        yield [
            (generator.standard_normal(a.shape) * np.maximum(np.abs(a), 1)).astype(a.dtype)
            for a in leaves
        ]


def _beneath(graph: Graph, values: list[Any]) -> Any:
    """The value of the function of which a recording is the derivative; empty of any other."""
    return joined([values[node.index] for node in graph.nodes if node.primitive is BENEATH])


def _rows(count: int, leaves: Leaves) -> Any:
    return np.concatenate([np.reshape(leaf, (count, -1)) for leaf in leaves], axis=1)


def _largest(a: Any) -> float:
    return float(np.max(np.abs(a), initial=0.0))


def _close(a: Any, b: Any, noise: float = 0.0) -> Any:
    """Entry by entry, equal to rounding as it gathers over a computation (and finite)."""
    eps = float(np.finfo(np.result_type(a, np.float32)).eps)
    scale = np.max(np.abs(b), axis=-1, keepdims=True, initial=0.0)
    with np.errstate(invalid="ignore"):
        return np.isfinite(a) & (np.abs(a - b) <= eps**0.65 * scale + noise)
