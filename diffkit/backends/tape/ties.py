"""What the derivative is at a tie: where `max`, `where`, `sort`, a branch hang on an equality.

The derivative of `max(a, b)` at a = b depends on the side from which one looks. Often what
follows heals that: `relu(x) - relu(-x)` is x. So a recording with a tie is looked at beside the
point, along directions of general position: the tangents of the values decide every tie, and the
pullback then gives the derivative as it is in the limit on that side. Where all sides agree the
function is linear to first order, and that is its derivative. Where they do not there is none:
the equally shared subgradient is returned, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.kinks import CORRECTED, KINKS, equal, some_tie
from diffkit.backends.tape.sides import Side, joined
from diffkit.errors import DiffkitError, KinkWarning
from diffkit.structure import Leaves, concrete, is_traced
from diffkit.tracing.graph import (
    Graph,
    GuardFailed,
    Node,
    same_value,
    watch,
)
from diffkit.tracing.locations import warn_user

Derive = Callable[[Graph, list[Any]], Any]
Rerecord = Callable[[Leaves], Graph]

SHARING: Final = {
    *("maximum", "minimum", "fmax", "fmin", "max", "min"),
    *("absolute", "fabs", "copysign", "hypot", "euclidean"),
}
NUDGES: Final = (2.0**-20, 2.0**-30, 2.0**-40)


def tied_nodes(graph: Graph, values: list[Any]) -> list[Node]:
    """The nodes whose outcome at the point hangs on an equality that `x` can break."""
    return [node for node in graph.nodes if may_tie(node) and is_tied(node, values)]


def may_tie(node: Node) -> bool:
    """Whether a node's outcome can hang on an equality that `x` can break."""
    if node.primitive is None or node.primitive.name not in KINKS:
        return False
    inputs = node.inputs
    if KINKS[node.primitive.name].tied is equal and inputs[0] is inputs[1]:
        return False
    return any(i.active for i in inputs)


def is_tied(node: Node, values: list[Any]) -> bool:
    assert node.primitive is not None
    arguments = [concrete(values[i.index]) for i in node.inputs]
    y = concrete(values[node.index])
    with np.errstate(all="ignore"):
        return some_tie(node.primitive.name, y, arguments, node.static)


# ---------------------------------------------------------------------- which derivative it is


@dataclass(frozen=True)
class Question:
    """A derivative that is asked for at a point.

    Attributes:
        name: what to call the function.
        graph: its recording.
        values: of the nodes, at the point.
        rerecord: records the function at other leaves of `x`.
        by_output: whether the leaves of the derivative begin with the shapes of the output, so
            that each entry of the output is judged by itself.
        derived: whether the function is a derivative, whose value at the tie may be shared.
        quiet: whether to leave out the warning, because whoever asks will give one.
    """

    name: str
    graph: Graph
    values: list[Any]
    rerecord: Rerecord
    by_output: bool = False
    derived: bool = False
    quiet: bool = False

    def answer(self, derive: Derive) -> Any:
        """What `derive` gives for the recording, or at a tie for the sides of it.

        Args:
            derive: from a recording and its values, the derivative as a list of arrays.

        Warns:
            KinkWarning: there is no derivative; the shared subgradient is returned.
        """
        shared = derive(self.graph, self.values)
        nodes = tied_nodes(self.graph, self.values)
        if not nodes:
            return shared
        # In the derivative of a derivative the comparisons are mostly those of our own rules.
        by_rule = self.derived or all(map(_shares, nodes))
        judgement = _Judgement(self, shared, derive, by_rule)
        answer = judgement.answer()
        if any(map(is_traced, self.values)):
            return self._carried(shared, answer)
        finite = all(np.all(np.isfinite(leaf)) for leaf in answer)
        if not np.all(judgement.agree) and finite and not self.quiet:
            _warn(self.name, nodes, judgement.jumps)
        return answer

    def _carried(self, shared: Leaves, answer: Leaves) -> Leaves:
        """Inside another derivative: the shared one, corrected to the answer at this very point."""
        if all(map(same_value, map(concrete, shared), answer)):
            return shared
        for node in self.graph.inputs:
            watch(self.values[node.index], None)
        return [
            CORRECTED(s, correction=a - concrete(s)) for s, a in zip(shared, answer, strict=True)
        ]


class _Judgement:
    """The comparison of the derivatives on several sides of a point."""

    def __init__(self, question: Question, shared: Leaves, derive: Derive, by_rule: bool) -> None:
        self.question = question
        self.by_rule = by_rule
        self.shared = [np.asarray(concrete(leaf)) for leaf in shared]
        self.values = [concrete(value) for value in question.values]
        self.sides: list[Leaves] = []
        self.jumps = False
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
        graph = self.question.graph
        generator = np.random.default_rng(20)
        leaves = [np.asarray(self.values[node.index]) for node in graph.inputs]
        for _ in range(2):
            direction = [
                (generator.standard_normal(a.shape) * np.maximum(np.abs(a), 1)).astype(a.dtype)
                for a in leaves
            ]
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
            except DiffkitError:
                continue
            side = Side(graph, self._at(graph), direction)
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
        same = _close(outputs, self._outputs)
        self.jumps |= not same.all()
        self.agree &= same if self.question.by_output else same.all()
        self.agree &= self._agreeing(found)

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

    def _agreeing(self, found: Leaves) -> Any:
        first = self.sides[0]
        if not self.question.by_output:
            return _close(joined(found)[None], joined(first)[None]).all()
        result = self.agree.copy()
        leaves = self.question.graph.output_layout.leaves
        repeats = len(found) // len(leaves)
        start = 0
        for j, leaf in enumerate(leaves):
            part = slice(repeats * j, repeats * (j + 1))
            a, b = (_rows(leaf.size, leaves[part]) for leaves in (found, first))
            result[start : start + leaf.size] &= _close(a, b).all(axis=1)
            start += leaf.size
        return result


def _rows(count: int, leaves: Leaves) -> Any:
    return np.concatenate([np.reshape(leaf, (count, -1)) for leaf in leaves], axis=1)


def _close(a: Any, b: Any) -> Any:
    """Entry by entry, equal to rounding as it gathers over a computation (and finite)."""
    eps = float(np.finfo(np.result_type(a, np.float32)).eps)
    scale = np.max(np.abs(b), axis=-1, keepdims=True, initial=0.0)
    with np.errstate(invalid="ignore"):
        return np.isfinite(a) & (np.abs(a - b) <= eps**0.65 * scale)


def _shares(node: Node) -> bool:
    """Whether the rule of an operation shares a tie among its sides."""
    return node.primitive is not None and node.primitive.name in SHARING


def _warn(name: str, nodes: list[Node], jumps: bool) -> None:
    """Say where there is no derivative, once, at the line of the user's that asked for it."""
    places = list(
        dict.fromkeys(f"{n.primitive.name} at {n.location}" for n in nodes if n.primitive)
    )
    shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    what = "jumps" if jumps else "bends"
    warn_user(
        f"{name} {what} at this point, so that it has no derivative there: {shown}; the "
        "subgradient that shares ties equally is returned",
        KinkWarning,
    )
