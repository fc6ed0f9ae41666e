"""One backend, measured on one derivative against the truth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Final

import numpy as np

from diffkit import truth
from diffkit.display import number
from diffkit.errors import DiffkitError, DiffkitWarning
from diffkit.interface import Differentiator, Prepared
from diffkit.measures import Enclosure, correct_digits, timed, ulp, ulps
from diffkit.structure import Layout, flatten
from diffkit.target import Function, Target, point_of
from diffkit.tracing.graph import scalar_operations
from diffkit.tracing.recording import record

CALLS: Final = 20
SECONDS: Final = 0.3  # for timing one backend


@dataclass(frozen=True)
class Row:
    """What one backend gave.

    Attributes:
        backend: its name, with the options that are not its defaults.
        value: every entry, in the order of `Comparison.entries`; None if it refused.
        error_ulps: the largest error of an entry, in fractional ulps of the result's dtype;
            None without a truth.
        digits: correct decimal digits of the worst entry; infinite for an exact result.
        worst: the name of the entry with the largest error.
        estimate: its own estimate of the absolute error, the largest of an entry; None where
            it makes none.
        evaluations: calls of the function that one derivative takes.
        operations: elementary operations that one derivative takes, where it can tell.
        seconds: the least time that a call took, after preparation.
        dtype: of the result.
        warning: the reservation with which it gave the value; None without.
        refusal: the message of the error it raised; None if it raised none.
    """

    backend: str
    value: tuple[float, ...] | None = None
    error_ulps: float | None = None
    digits: float | None = None
    worst: str | None = None
    estimate: float | None = None
    evaluations: int | None = None
    operations: int | None = None
    seconds: float | None = None
    dtype: str | None = None
    warning: str | None = None
    refusal: str | None = None

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Row:
        """Return the row that `asdict` was called on."""
        value = content["value"]
        floats = {k: number(content[k]) for k in ("error_ulps", "digits", "estimate", "seconds")}
        entries = None if value is None else tuple(float(v) for v in value)
        return cls(**{**content, **floats, "value": entries})


@dataclass(frozen=True)
class Operator:
    """An operator: the method of `Prepared`, and the function of `truth`, of that name."""

    name: str
    order: int

    @property
    def options(self) -> dict[str, int]:
        return {"order": self.order} if self.name == "derivative" else {}

    def of(self, prepared: Prepared, arguments: tuple[Any, ...]) -> Any:
        return getattr(prepared, self.name)(*arguments, **self.options)

    def exactly(self, f: Function, arguments: tuple[Any, ...], wrt: Any) -> truth.Truth:
        found: truth.Truth = getattr(truth, self.name)(f, *arguments, wrt=wrt, **self.options)
        return found


def measured(
    differentiator: Differentiator,
    operator: Operator,
    f: Function,
    arguments: tuple[Any, ...],
    wrt: Any,
    reference: truth.Truth | None,
) -> tuple[tuple[str, ...], Row]:
    """The names of a backend's entries, and its row."""
    label = _label(differentiator)
    try:
        with _reservations() as warned:
            prepared = differentiator.prepare(f, *arguments, wrt=wrt)
            before = prepared.cost.evaluations
            result = operator.of(prepared, arguments)
            evaluations = prepared.cost.evaluations - before
            estimate = _own_estimate(prepared, operator, arguments)
            seconds = timed(lambda: operator.of(prepared, arguments), SECONDS, CALLS)
    except DiffkitError as refusal:
        return (), Row(label, refusal=one_line(refusal))
    layout, leaves = flatten(result, "derivative")
    error, digits, worst = worst_error(layout, leaves, reference)
    vector = layout.ravel(leaves)
    row = Row(
        backend=label,
        value=tuple(float(v) for v in vector),
        error_ulps=error,
        digits=digits,
        worst=worst,
        estimate=estimate,
        evaluations=evaluations,
        operations=prepared.cost.operations,
        seconds=seconds,
        dtype=str(vector.dtype),
        warning=warned[0] if warned else None,
    )
    return tuple(layout.entry_names()), row


@contextmanager
def _reservations() -> Iterator[list[str]]:
    """Collect the warnings of ours in a list, and let the others pass at the end."""
    ours: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DiffkitWarning)
        try:
            yield ours
        finally:
            ours += [one_line(w.message) for w in caught if _is_ours(w)]
    for other in caught:
        if not _is_ours(other):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, DiffkitWarning)


def worst_error(
    layout: Layout, leaves: list[Any], reference: truth.Truth | None
) -> tuple[float | None, float | None, str | None]:
    """The largest error in ulps, the fewest correct digits, and the entry with the former."""
    if reference is None:
        return None, None, None
    entries = [(v, leaf.dtype) for leaf in leaves for v in leaf.ravel()]
    errors: list[tuple[float, str]] = []
    digits: list[float] = []
    for (value, dtype), name, enclosure in zip(
        entries, reference.entries, reference.enclosures, strict=True
    ):
        if enclosure is not None:
            known = _known(value, enclosure, dtype)
            errors.append((ulps(value, known, dtype), name))
            digits.append(correct_digits(value, known))
    if not errors:
        return None, None, None
    error, name = max(errors, key=lambda pair: pair[0])
    return error, min(digits), name


def _known(value: Any, enclosure: Enclosure, dtype: Any) -> Enclosure:
    """What to measure against: where the truth is wide, its end that is farther from the value."""
    if 1000 * enclosure.radius <= ulp(enclosure.midpoint, dtype):
        return enclosure
    below = bool(value < float(enclosure.midpoint))
    return Enclosure(enclosure.midpoint + (enclosure.radius if below else -enclosure.radius))


def _own_estimate(
    prepared: Prepared, operator: Operator, arguments: tuple[Any, ...]
) -> float | None:
    if operator.order != 1:
        return None
    error = prepared.estimate(*arguments).error
    if error is None:
        return None
    layout, leaves = flatten(error, "error")
    return float(np.max(layout.ravel(leaves), initial=0.0))


def _label(differentiator: Differentiator) -> str:
    """The backend's name, with the options that differ from their defaults."""
    if not is_dataclass(differentiator):
        return differentiator.name
    options = [
        f"{option.name}={getattr(differentiator, option.name)}"
        for option in fields(differentiator)
        if option.default is MISSING or getattr(differentiator, option.name) != option.default
    ]
    return f"{differentiator.name} ({', '.join(options)})" if options else differentiator.name


def one_line(error: object) -> str:
    return " ".join(str(error).split())


def work(operator: Operator, target: Target, layout: Layout, arguments: tuple[Any, ...]) -> int:
    """About how many operations the truth takes: the function's, for every direction."""
    try:
        graph = record(target, point_of(target, arguments))
    except DiffkitError:
        return 0
    directions = layout.size**2 if operator.name == "hessian" else layout.size
    return directions * scalar_operations(graph)


def duration(seconds: float) -> str:
    """Return seconds with three digits, in the unit that suits them."""
    for unit, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e9:.3g} ns"
