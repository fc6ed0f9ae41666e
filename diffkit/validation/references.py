"""A gradient to judge others by, with what is known against it, entry by entry.

The tape gives every entry. A second opinion that shares no derivative rule with it (arbitrary
precision where that is affordable, else differences) is asked about all entries or, where
there are too many, about the most suspect ones and a spread of the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from diffkit import truth
from diffkit.backends.finite import FiniteDifference
from diffkit.backends.tape import Tape
from diffkit.backends.tape.rounding import MARGIN, rounding_budget
from diffkit.errors import (
    DiffkitError,
    InvalidOutput,
    KinkWarning,
    NonFiniteDerivative,
    TruthUnavailable,
)
from diffkit.measures import nearest
from diffkit.plateaus import jump, warn_of_steps
from diffkit.structure import Array, Layout, flatten
from diffkit.target import Point, Target
from diffkit.tracing import Graph
from diffkit.tracing.fixed_indices import fixed_indices
from diffkit.tracing.graph import scalar_operations
from diffkit.tracing.recording import record

EXACT_OPERATIONS: Final = 5_000_000  # scalar operations worth repeating in arbitrary precision
DIFFERENCED: Final = 64  # entries that differences are asked about
SAMPLED: Final = 16  # at least so many entries are worth an opinion on some of them


@dataclass
class Reference:
    """The gradient as one vector, in extended precision.

    Attributes:
        value: each entry.
        allowed: how far rounding may move a correct one.
        doubt: why an entry cannot be judged; empty where it can.
        kinks: for entries without a derivative, the range of their one-sided ones.
        asked: how many entries have a second opinion.
        how: where the values come from, for the reader.
    """

    value: Array
    allowed: Array
    doubt: list[str]
    kinks: dict[int, tuple[float, float]] = field(default_factory=dict)
    asked: int = 0
    how: list[str] = field(default_factory=list)


def reference_gradient(
    target: Target, point: Point, given: Array, eps: Sequence[float]
) -> Reference:
    """Return the gradient of a scalar function, to judge the `given` one by.

    Args:
        target: the function.
        point: where.
        given: the gradient to be judged, raveled; it decides which entries are suspect.
        eps: of each leaf, the coarser of the parameter's and the given gradient's dtype.
    """
    wide = _widened(point)
    try:
        graph = fixed_indices(record(target, point))
    except DiffkitError as refusal:
        if isinstance(refusal, InvalidOutput):
            raise
        return _by_differences_alone(target, point, wide, given, eps, str(refusal))
    if not graph.output_layout.is_scalar:
        raise InvalidOutput(
            f"{target.name} must return one number to have a gradient, and returned "
            f"{graph.output_layout.summary()}"
        )
    reference = _by_tape(target, wide, graph, eps)
    _ask(reference, target, wide, graph, given)
    return reference


# ---------------------------------------------------------------------- the first opinion


def _by_tape(target: Target, wide: Point, graph: Graph, eps: Sequence[float]) -> Reference:
    prepared = Tape().bind(target, wide)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KinkWarning)  # the verdict tells kinks itself
            gradient = prepared.gradient(wide.x, *wide.data)
    except NonFiniteDerivative as refusal:
        gradient = refusal.value
    leaves = [np.asarray(leaf, np.longdouble) for leaf in wide.layout.flatten(gradient)]
    widest = max(
        (unit / float(np.finfo(leaf.dtype).eps)
         for unit, leaf in zip(eps, graph.layout.leaves, strict=True)), default=1.0,
    )  # fmt: skip
    allowed = rounding_budget(graph, widest).allowed(leaves, eps)
    value, budget = wide.layout.ravel(leaves), wide.layout.ravel(allowed)
    budget = np.asarray(budget, np.longdouble)
    doubt = ["" if np.isfinite(v) else "the derivative is not finite" for v in value]
    for i in np.flatnonzero(~np.isfinite(budget)):
        doubt[i] = doubt[i] or "rounding can make this entry anything"
    return Reference(value, budget, doubt, how=["reverse mode"])


def _by_differences_alone(
    target: Target, point: Point, wide: Point, given: Array, eps: Sequence[float], why: str
) -> Reference:
    """The function cannot be recorded: differences are all there is, and their doubt counts."""
    prepared = FiniteDifference().bind(target, wide)
    estimate = prepared.estimate(wide.x, *wide.data)
    here = target.evaluate(wide.layout, wide.leaves, wide.data)
    found = wide.layout.flatten(estimate.value)
    warn_of_steps(target, wide, found, lambda leaf: jump(target, wide, here, leaf))
    value = _vector(wide.layout, estimate.value)
    error = _vector(wide.layout, estimate.error)
    units = np.repeat(eps, [leaf.size for leaf in wide.layout.leaves])
    allowed = MARGIN * (error + units * np.abs(value))
    largest = np.max(np.abs(value), initial=0.0)
    doubt = [
        f"differences say {status}" if status != "converged" else ""
        for status in estimate.status.values()
    ]
    for i in np.flatnonzero(allowed > 1e-5 * largest):
        doubt[i] = doubt[i] or "differences are not accurate enough to tell"
    off = np.abs(given - value)
    unseen = _unseen_rounding(target, point, wide, value, units)
    for i in np.flatnonzero((off > allowed) & (off <= unseen)):
        doubt[i] = doubt[i] or "rounding inside the function, which is not seen, may explain it"
    return Reference(
        value,
        allowed,
        doubt,
        asked=wide.layout.size,
        how=[f"finite differences alone, because {why}"],
    )


def _unseen_rounding(
    target: Target, point: Point, wide: Point, value: Array, units: Array
) -> Array:
    """What rounding may do to a gradient of a black box, in a precision below double.

    It may cost half the digits, where terms cancel. Where `f` itself loses more, that is seen in
    its own value; its derivative then loses as much, per change of x by its own size.
    """
    coarse = units > np.finfo(np.float64).eps
    size = np.maximum(np.abs(value), np.max(np.abs(value), initial=0.0))
    with np.errstate(all="ignore"):
        values = [np.longdouble(target.evaluate(p.layout, p.leaves, p.data).leaves[0])
                  for p in (point, wide)]  # fmt: skip
        at = np.abs(_vector(wide.layout, wide.x))
        reach = np.where(at > 0, at, np.max(at, initial=0.0))
        own = np.nan_to_num(MARGIN * np.abs(values[0] - values[1]) / reach, posinf=0.0)
    return np.where(coarse, np.maximum(np.sqrt(units) * size, own), 0.0)


# ---------------------------------------------------------------------- the second opinion


def _ask(reference: Reference, target: Target, wide: Point, graph: Graph, given: Array) -> None:
    """Ask a second opinion and enter it into the reference."""
    size = wide.layout.size
    affordable = EXACT_OPERATIONS // max(1, scalar_operations(graph))
    if affordable >= min(size, SAMPLED):
        picks = _picks(reference, given, min(size, affordable))
        try:
            _ask_truth(reference, target, wide, picks)
            return
        except TruthUnavailable as refusal:
            reference.how.append(f"no arbitrary precision ({refusal})")
    _ask_differences(reference, target, wide, _picks(reference, given, min(size, DIFFERENCED)))


def _picks(reference: Reference, given: Array, count: int) -> list[int]:
    """The entries to ask about: all, or the most suspect half and a spread of the others."""
    size = reference.value.size
    if count >= size:
        return list(range(size))
    with np.errstate(all="ignore"):
        excess = np.abs(given - reference.value) / reference.allowed
    ranked = np.argsort(-np.nan_to_num(excess, nan=np.inf), kind="stable")
    suspects = [int(i) for i in ranked[: count // 2]]
    others = np.setdiff1d(np.arange(size), suspects)
    spread = np.random.default_rng(0).choice(others, count - len(suspects), replace=False)
    return sorted({*suspects, *(int(i) for i in spread)})


def _ask_truth(reference: Reference, target: Target, wide: Point, picks: list[int]) -> None:
    f, x = _restricted(target, wide, picks)
    exact = truth.gradient(f, x, *wide.data)
    for j, (i, name) in enumerate(zip(picks, exact.entries, strict=True)):
        enclosure = exact.enclosures[j]
        if enclosure is not None:
            reference.value[i] = nearest(enclosure.midpoint, np.longdouble)
            reference.allowed[i] += float(enclosure.radius)  # wide where it is not certified
            reference.doubt[i] = ""
        elif name in exact.kinks:
            _at_kink(reference, i, *exact.kinks[name])
    reference.asked = len(picks)
    certified = "" if exact.certified else ", not certified"
    reference.how.append(f"{_count(picks, reference)} in arbitrary precision{certified}")


def _ask_differences(reference: Reference, target: Target, wide: Point, picks: list[int]) -> None:
    f, x = _restricted(target, wide, picks)
    prepared = FiniteDifference().prepare(f, x, *wide.data)
    estimate = prepared.estimate(x, *wide.data)
    values, errors = np.ravel(estimate.value), np.ravel(estimate.error)
    for i, value, error, status in zip(
        picks, values, errors, estimate.status.values(), strict=True
    ):
        if status == "kink":
            _at_kink(reference, i, float(value - error), float(value + error))
        elif status != "converged":
            continue
        elif not abs(value - reference.value[i]) <= MARGIN * error + reference.allowed[i]:
            reference.doubt[i] = (
                f"reverse mode gives {float(reference.value[i]):.6g} and differences "
                f"{value:.6g} with an error of about {error:.1e}"
            )
    reference.asked = len(picks)
    reference.how.append(f"{_count(picks, reference)} confirmed by finite differences")


def _at_kink(reference: Reference, i: int, left: float, right: float) -> None:
    """No derivative there: any value between the one-sided ones can be defended."""
    low, high = min(left, right), max(left, right)
    reference.doubt[i] = f"the function has a kink there, with slopes {left:.6g} and {right:.6g}"
    reference.kinks[i] = (low, high)


def _count(picks: list[int], reference: Reference) -> str:
    everything = len(picks) == reference.value.size
    return "all entries" if everything else f"{len(picks)} of {reference.value.size} entries"


# ---------------------------------------------------------------------- the point


def _widened(point: Point) -> Point:
    """The same point in double precision at least: an exact reference for single precision."""
    leaves = [leaf.astype(np.promote_types(leaf.dtype, np.float64)) for leaf in point.leaves]
    layout, _ = flatten(point.layout.unflatten([
        leaf[()] if known.scalar else leaf
        for leaf, known in zip(leaves, point.layout.leaves, strict=True)
    ]))  # fmt: skip
    return Point(layout, leaves, point.data)


def _restricted(target: Target, point: Point, picks: list[int]) -> tuple[Callable[..., Any], Any]:
    """The function of the picked entries alone, as a vector, and where they are."""
    layout = point.layout
    source = np.full(layout.size, -1)
    source[picks] = np.arange(len(picks))
    ends = np.cumsum([leaf.size for leaf in layout.leaves])[:-1]
    sources = [
        part.reshape(leaf.shape)
        for part, leaf in zip(np.split(source, ends), layout.leaves, strict=True)
    ]

    def restricted(t: Any, *data: Any) -> Any:
        moved = [
            leaf
            if np.all(of < 0)
            else t[int(of)]
            if not of.shape
            else np.where(of < 0, leaf, t[of])
            for leaf, of in zip(layout.cast(point.leaves), sources, strict=True)
        ]
        return target.call(layout.unflatten(moved), data)

    restricted.__name__ = restricted.__qualname__ = target.name
    return restricted, layout.ravel(point.leaves)[picks]


def _vector(layout: Layout, structure: Any) -> Array:
    """A structure's entries in one vector, in extended precision."""
    return np.asarray(layout.ravel(layout.flatten(structure)), np.longdouble)
