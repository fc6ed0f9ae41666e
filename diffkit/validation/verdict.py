"""`validate`: is a gradient that somebody wrote by hand right, wrong, or not to be told?

No tolerance is chosen by hand. An entry agrees where it is no farther from the reference than
rounding can move a correct gradient at this point, in its dtype.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from diffkit.display import Display, Displayed, number, short
from diffkit.display import to_json as strict_json
from diffkit.errors import InvalidInput
from diffkit.structure import Array, Layout, Leaf, Leaves, flatten, map_leaves
from diffkit.target import Function, Point, Target, point_of, warn_of_reservation
from diffkit.validation.diagnosis import diagnose
from diffkit.validation.references import Reference, reference_gradient

AGREE: Final = "agree"
DISAGREE: Final = "disagree"
UNRESOLVED: Final = "unresolved"
LOST: Final = 0.5  # an entry of which rounding may take this part tells nothing
EXACT: Final = 1e-6  # unless it is this close, relatively, all the same
COARSE: Final = 1e-4  # a part of an entry that is worth telling if rounding may take so much


@dataclass(frozen=True)
class LeafVerdict:
    """One leaf of the parameters, and its worst entry.

    Attributes:
        name: of the leaf.
        entries: how many numbers it holds.
        worst: the name of the entry that is worst.
        given, reference: that entry in the gradient given, and as it should be.
        difference: their distance.
        allowed: the distance that rounding may cause.
        verdict: of the leaf: `agree`, `disagree` or `unresolved`.
        reason: why, where it does not agree.
    """

    name: str
    entries: int
    worst: str
    given: float
    reference: float
    difference: float
    allowed: float
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Validation(Displayed):
    """The verdict on a gradient.

    Attributes:
        function: the name of the loss.
        verdict: `agree`, `disagree` or `unresolved`.
        worst: the name of the worst entry; None for parameters without entries.
        reason: why; where a simple mistake explains a wrong gradient, which.
        leaves: one verdict per leaf of the parameters.
        reference: what the gradient was compared with.
    """

    function: str
    verdict: str
    worst: str | None
    reason: str
    leaves: tuple[LeafVerdict, ...]
    reference: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        """Return strict JSON; numbers that are not finite are the strings nan, inf, -inf."""
        return strict_json(self.to_dict())

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Validation:
        """Return what `to_dict` was called on."""
        numbers = ("given", "reference", "difference", "allowed")
        leaves = tuple(
            LeafVerdict(**{**leaf, **{key: number(leaf[key]) for key in numbers}})
            for leaf in content["leaves"]
        )
        return cls(**{**content, "leaves": leaves})

    @classmethod
    def from_json(cls, text: str) -> Validation:
        """Return what `to_json` was called on."""
        return cls.from_dict(json.loads(text))

    def _display(self) -> Display:
        rows = tuple(
            (
                leaf.name,
                leaf.verdict,
                leaf.worst,
                f"{leaf.given:.9g}",
                f"{leaf.reference:.9g}",
                short(leaf.difference),
                short(leaf.allowed),
            )
            for leaf in self.leaves
        )
        reasons = [f"{leaf.name}: {leaf.reason}" for leaf in self.leaves if leaf.reason]
        return Display(
            (f"gradient of {self.function}: {self.verdict}", self.reason),
            ("leaf", "verdict", "worst entry", "given", "reference", "difference", "allowed"),
            rows,
            (*reasons, f"compared with: {self.reference}"),
            left=3,
        )


def validate(loss: Function, params: Any, gradient: Any, *data: Any) -> Validation:
    """Return the verdict on a gradient of a scalar loss at one point.

    Args:
        loss: called as loss(params, *data).
        params: a scalar, an array, or nested dicts, lists and tuples of those.
        gradient: what is to be judged, in the structure of `params`, or a function called as
            gradient(params, *data) that returns it.
        data: the further arguments, not differentiated.

    Raises:
        InvalidInput: `params` is not made of finite real numbers, or `gradient` is nested
            differently from it or is not made of real numbers.
        InvalidOutput: `loss` does not return one number.
    """
    if not callable(loss):
        raise InvalidInput(f"the loss is of type {type(loss).__name__}, not callable")
    warn_of_reservation(loss)
    target = Target(loss)
    point = point_of(target, (params, *data))
    given_layout, given = _given(gradient, point)
    misshapen = _misshapen(target, point.layout, given_layout)
    if misshapen is not None:
        return misshapen
    eps = [
        max(float(np.finfo(a.dtype).eps), float(np.finfo(b.dtype).eps))
        for a, b in zip(point.layout.leaves, given_layout.leaves, strict=True)
    ]
    vector = np.asarray(point.layout.ravel(given), np.longdouble)
    reference = reference_gradient(target, point, vector, eps)
    return _judge(target, point, _Case(vector, reference))


def _given(gradient: Any, point: Point) -> tuple[Layout, Leaves]:
    if callable(gradient):
        x = point.layout.restore([np.array(leaf) for leaf in point.leaves])
        gradient = gradient(x, *(map_leaves(_copied, item) for item in point.data))
    gradient = _aligned(gradient, point.x, "")
    layout, leaves = flatten(gradient, "gradient", promote_integers=True)
    if layout.nesting != point.layout.nesting:
        raise InvalidInput(
            f"the gradient is nested differently from the parameters: expected "
            f"{point.layout.summary()}, got {layout.summary()}"
        )
    return layout, leaves


def _aligned(gradient: Any, params: Any, path: str) -> Any:
    """The gradient with the keys of its dicts in the order of the parameters'.

    Raises:
        InvalidInput: a key is missing, or there is one too many.
    """
    if type(gradient) in (list, tuple):
        if type(gradient) is not type(params) or len(gradient) != len(params):
            return gradient
        pairs = enumerate(zip(gradient, params, strict=True))
        return type(gradient)(_aligned(g, p, f"{path}[{i}]") for i, (g, p) in pairs)
    if not isinstance(gradient, dict) or not isinstance(params, dict):
        return gradient
    names = {key: f"{path}.{key}" if path else str(key) for key in (*params, *gradient)}
    for owner, other, words in ((params, gradient, "lacks"), (gradient, params, "should not have")):
        for key in owner:
            if key not in other:
                raise InvalidInput(f"the gradient {words} an entry for {names[key]}")
    return {key: _aligned(gradient[key], params[key], names[key]) for key in params}


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def _misshapen(target: Target, layout: Layout, given: Layout) -> Validation | None:
    """The verdict on a gradient with a leaf of another shape than its parameter."""
    for expected, got in zip(layout.leaves, given.leaves, strict=True):
        if expected.shape != got.shape:
            turned = " (is it transposed?)" if expected.shape == got.shape[::-1] else ""
            reason = (
                f"the gradient for {expected.name} has shape {got.shape}, and the parameter "
                f"has shape {expected.shape}{turned}"
            )
            return Validation(target.name, DISAGREE, expected.name, reason, (), "the shapes alone")
    return None


@dataclass(frozen=True)
class _Case:
    """The given gradient and the reference, entry by entry."""

    given: Array
    reference: Reference

    @property
    def difference(self) -> Array:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(self.given - self.reference.value))

    @property
    def outside(self) -> Array:
        """Where the given entry is farther away than rounding explains, or not finite."""
        with np.errstate(invalid="ignore"):
            return np.asarray(~(self.difference <= self.reference.allowed))

    def states(self) -> list[str]:
        """The verdict on each entry."""
        outside = self.outside
        return [self._state(i, bool(outside[i])) for i in range(self.given.size)]

    def _state(self, i: int, outside: bool) -> str:
        reference = self.reference
        if i in reference.kinks:
            low, high = reference.kinks[i]
            slack = max(reference.allowed[i], EXACT * (high - low))
            defensible = low - slack <= self.given[i] <= high + slack
            return UNRESOLVED if defensible else DISAGREE
        if reference.doubt[i]:
            return UNRESOLVED
        return DISAGREE if outside else AGREE

    def lost(self) -> Array:
        """Where rounding may be as large as the entry, so that agreement means nothing."""
        size = np.abs(self.reference.value)
        with np.errstate(invalid="ignore"):
            lost = (self.reference.allowed > LOST * size) & (self.difference > EXACT * size)
        return np.asarray(lost)


def _judge(target: Target, point: Point, case: _Case) -> Validation:
    states, excess = case.states(), _excess(case)
    lost = case.lost()
    if states and set(states) == {AGREE} and lost.all():
        states = [UNRESOLVED] * len(states)
        case.reference.doubt[:] = ["the entry is smaller than its own rounding"] * len(states)
    leaves, start, lengths = [], 0, _lengths(point)
    for leaf in point.layout.leaves:
        part = slice(start, start + leaf.size)
        start = part.stop
        if leaf.size:
            leaves.append(_leaf_verdict(case, states, excess, part, leaf, lengths))
    verdict = _worst_of(states)
    candidates = [leaf for leaf in leaves if leaf.verdict == verdict]
    by_name = dict(zip(point.layout.entry_names(), excess, strict=True))
    worst = max(candidates, key=lambda leaf: by_name[leaf.worst], default=None)
    return Validation(
        target.name,
        verdict,
        worst.worst if worst else None,
        _reason(case, verdict, worst, states, lost, point),
        tuple(leaves),
        ", ".join(case.reference.how),
    )


def _excess(case: _Case) -> Array:
    """The distance from the reference in units of what is allowed; infinite for a NaN."""
    tiny = np.finfo(np.longdouble).tiny
    with np.errstate(all="ignore"):
        excess = case.difference / np.maximum(case.reference.allowed, tiny)
    return np.where(np.isnan(excess), np.inf, excess)


def _leaf_verdict(
    case: _Case, states: Sequence[str], excess: Array, part: slice, leaf: Leaf, lengths: list[int]
) -> LeafVerdict:
    verdict = _worst_of(states[part])
    candidates = [i for i in range(part.start, part.stop) if states[i] == verdict]
    i = max(candidates, key=lambda k: excess[k])
    reference = case.reference
    reason = ""
    if verdict == DISAGREE:
        wrong = np.array([state == DISAGREE for state in states[part]])
        given, right, allowed = (
            v[part].reshape(leaf.shape) for v in (case.given, reference.value, reference.allowed)
        )
        reason = reference.doubt[i] or diagnose(given, right, allowed, wrong, lengths)
    elif verdict == UNRESOLVED:
        reason = reference.doubt[i]
    return LeafVerdict(
        leaf.name,
        leaf.size,
        leaf.entry_name(i - part.start),
        float(case.given[i]),
        float(reference.value[i]),
        float(case.difference[i]),
        float(reference.allowed[i]),
        verdict,
        reason,
    )


def _worst_of(states: Sequence[str]) -> str:
    present = set(states)
    return next((v for v in (DISAGREE, UNRESOLVED) if v in present), AGREE)


def _reason(
    case: _Case,
    verdict: str,
    worst: LeafVerdict | None,
    states: Sequence[str],
    lost: Array,
    point: Point,
) -> str:
    total = len(states)
    if worst is None:
        return "there are no parameters"
    if verdict == AGREE:
        unseen = int(lost.sum())
        note = f"; {unseen} of them smaller than their own rounding" if unseen else ""
        note += _resolution(case, lost, point)
        return f"every entry ({total}) is as close to the reference as rounding allows{note}"
    if verdict == UNRESOLVED:
        count = sum(state == UNRESOLVED for state in states)
        return f"{count} of {total} entries cannot be judged, {worst.worst} for one: {worst.reason}"
    wrong = np.array([state == DISAGREE for state in states])
    common = ""
    if len(point.layout.leaves) > 1 and wrong.all():
        reference = case.reference
        common = diagnose(case.given, reference.value, reference.allowed, wrong, _lengths(point))
    why = common or worst.reason
    head = (
        f"{worst.worst} is {worst.given:.9g} and should be {worst.reference:.9g} "
        f"({int(wrong.sum())} of {total} entries wrong)"
    )
    return f"{head}: {why}" if why else head


def _resolution(case: _Case, lost: Array, point: Point) -> str:
    """How large an error could hide in the rounding of an entry, where that is much."""
    with np.errstate(all="ignore"):
        part = np.where(lost, 0, case.reference.allowed / np.abs(case.reference.value))
    part = np.where(np.isfinite(part), part, 0)
    i = int(np.argmax(part))
    if part[i] <= COARSE:
        return ""
    name = point.layout.entry_names()[i]
    return f"; of {name} an error of up to {100 * float(part[i]):.1g}% would not be seen"


def _lengths(point: Point) -> list[int]:
    """The lengths of the data and of the parameters: candidates for a forgotten factor."""
    arrays = [a for item in point.data for a in _arrays(item)]
    return [n for a in (*arrays, *point.leaves) for n in (*np.shape(a), np.size(a)) if n > 1]


def _arrays(item: Any) -> list[Any]:
    found: list[Any] = []
    map_leaves(lambda leaf: found.append(leaf) if isinstance(leaf, np.ndarray) else None, item)
    return found
