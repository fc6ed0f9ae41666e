"""What the derivative is at a tie: where `max`, `where`, `sort`, a branch hang on an equality.

The derivative of `max(a, b)` at a = b depends on the side from which one looks. Often what
follows heals that: `relu(x) - relu(-x)` is x. So a recording with a tie is looked at beside the
point, along directions of general position: the tangents of the values decide every tie, and the
pullback then gives the derivative as it is in the limit on that side. Where all sides agree the
function is linear to first order, and that is its derivative. Where they do not there is none:
the equally shared subgradient is returned, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.bends import Bends
from diffkit.backends.tape.judgement import Judgement, directions
from diffkit.backends.tape.kink import equal
from diffkit.backends.tape.kinks import CORRECTED, KINKS, some_tie
from diffkit.backends.tape.sides import joined
from diffkit.callers import warn_user
from diffkit.errors import KinkWarning
from diffkit.structure import Leaves, concrete, is_traced
from diffkit.tracing.graph import Graph, Node, same_value, watch
from diffkit.tracing.primitives.lanes import kept_shape

Derive = Callable[[Graph, list[Any]], Any]
Rerecord = Callable[[Leaves], Graph]

SHARING: Final = {
    *("maximum", "minimum", "fmax", "fmin", "max", "min"),
    *("absolute", "fabs", "copysign", "hypot", "euclidean"),
}
OF: Final = "the gradient of "  # how the name of a derivative begins


def tied_nodes(graph: Graph, values: list[Any]) -> list[Node]:
    """The nodes whose outcome at the point hangs on an equality that `x` can break."""
    return [node for node in graph.nodes if may_tie(node) and is_tied(node, values)]


def may_tie(node: Node) -> bool:
    """Whether a node's outcome can hang on an equality that `x` can break."""
    if node.primitive is None or node.primitive.name not in KINKS:
        return False
    inputs = node.inputs
    if KINKS[node.primitive.name].tied is equal and _equal_for_good(*inputs):
        return False
    return any(i.active for i in inputs)


def _equal_for_good(a: Node, b: Node) -> bool:
    """Whether two nodes are equal wherever they are, or else another node is tied.

    Each entry is compared with itself, or with the largest of its lane: what lets go of that is
    another entry as large, at which the search for the largest is tied itself.
    """
    return a is b or _is_extreme_of(a, b) or _is_extreme_of(b, a)


def _is_extreme_of(extreme: Node, a: Node) -> bool:
    """Whether a node is the largest or smallest of each lane of another, laid out beside it."""
    shape = np.shape(concrete(a.value))
    node = extreme
    if _made_by(node, "broadcast_to"):
        node = node.inputs[0]
    laid_out = np.shape(concrete(node.value))
    if _made_by(node, "reshape"):
        node = node.inputs[0]
    if not (_made_by(node, "max") or _made_by(node, "min")) or node.inputs[0] is not a:
        return False
    return laid_out in ((), kept_shape(shape, node.static["axis"]))


def _made_by(node: Node, name: str) -> bool:
    return node.primitive is not None and node.primitive.name == name


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
        nodes = tied_nodes(self.graph, self.values)
        if not nodes:
            return derive(self.graph, self.values)
        by_rule = all(map(_shares, nodes))
        nested = any(map(is_traced, self.values))
        if by_rule and not (nested or self.by_output or self.derived):
            bends = Bends(self.graph, self.values, nodes)
            shared = derive(bends.graph, self.values)
            if self._is_proven(bends, shared):
                if not self.quiet:
                    _warn(self.name, nodes, "bends")
                return shared
        else:
            shared = derive(self.graph, self.values)
        judgement = Judgement(self, shared, derive, by_rule)
        answer = judgement.answer()
        if nested:
            return self._carried(shared, answer)
        finite = all(np.all(np.isfinite(leaf)) for leaf in answer)
        if not np.all(judgement.agree) and finite and not self.quiet:
            name = self.name.removeprefix(OF) if judgement.jumps_beneath else self.name
            _warn(name, nodes, "jumps" if judgement.jumps else "bends")
        return answer

    def _is_proven(self, bends: Bends, shared: Leaves) -> bool:
        """Whether the function certainly bends, and only that, where it is all there."""
        leaves = [np.asarray(self.values[node.index]) for node in self.graph.inputs]
        direction = next(directions(leaves))
        with np.errstate(all="ignore"):
            slope = float(joined(shared) @ joined(direction))
            return np.isfinite(slope) and bends.proven(direction, slope)

    def _carried(self, shared: Leaves, answer: Leaves) -> Leaves:
        """Inside another derivative: the shared one, corrected to the answer at this very point."""
        if all(map(same_value, map(concrete, shared), answer)):
            return shared
        for node in self.graph.inputs:
            watch(self.values[node.index], None)
        return [
            CORRECTED(s, correction=a - concrete(s)) for s, a in zip(shared, answer, strict=True)
        ]


def _shares(node: Node) -> bool:
    """Whether the rule of an operation shares a tie among its sides."""
    if node.primitive is None or node.primitive.name not in SHARING:
        return False
    return node.primitive.name != "copysign" or not node.inputs[1].depends


def _warn(name: str, nodes: list[Node], what: str) -> None:
    """Say where there is no derivative, once, at the line of the user's that asked for it."""
    places = list(
        dict.fromkeys(f"{n.primitive.name} at {n.location}" for n in nodes if n.primitive)
    )
    shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    warn_user(
        f"{name} {what} at this point, so that it has no derivative there: {shown}; the "
        "subgradient that shares ties equally is returned",
        KinkWarning,
    )
