"""`compare`: every backend on one derivative, against the arbitrary-precision truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from decimal import Context, Decimal
from typing import Any, Final

import numpy as np

from diffkit import truth
from diffkit.backends import BACKENDS, resolve
from diffkit.comparison.measurement import Operator, Row, duration, measured, one_line, work
from diffkit.display import Display, Displayed, number, short
from diffkit.display import to_json as strict_json
from diffkit.errors import InvalidInput, TruthUnavailable
from diffkit.interface import Differentiator
from diffkit.measures import Enclosure
from diffkit.structure import Array, Layout, flatten
from diffkit.target import Function, Target, point_of

DIGITS: Final = 25  # of the truth, as text
SHOWN: Final = 6  # a point of so many numbers is told by its numbers
EXACT_WORK: Final = 5_000_000  # operations in arbitrary precision: some 5 seconds


@dataclass(frozen=True)
class Reference:
    """The truth that the rows are measured against.

    Attributes:
        value: every entry, rounded to double precision; NaN at a kink.
        decimals: every entry to 25 digits; "kink" where there is none.
        certified: whether the value is a rigorous enclosure.
        radius: the largest radius of an enclosure.
        precision: the largest working precision, in bits.
        kinks: for entries without a derivative, those from the left and from the right.
        note: reservations; empty where there are none.
    """

    value: tuple[float, ...]
    decimals: tuple[str, ...]
    certified: bool
    radius: float
    precision: int
    kinks: dict[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Comparison(Displayed):
    """Every backend on one derivative.

    Attributes:
        function: its name.
        point: where, in words.
        derivative: what was computed, in words.
        entries: the name of every entry of the derivative.
        truth: what the rows are measured against; None if it is not available.
        rows: one per backend.
        disagreement: the largest difference between two backends in an entry, relative to
            the entry; None with fewer than two values.
        note: why there is no truth, or with what reservation.
    """

    function: str
    point: str
    derivative: str
    entries: tuple[str, ...]
    truth: Reference | None
    rows: tuple[Row, ...]
    disagreement: float | None
    note: str = ""

    def row(self, backend: str) -> Row:
        """Return the row of a backend.

        Raises:
            InvalidInput: there is none.
        """
        for row in self.rows:
            if row.backend == backend:
                return row
        names = ", ".join(row.backend for row in self.rows)
        raise InvalidInput(f"no row for {backend!r}; there are {names}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        """Return strict JSON; numbers that are not finite are the strings nan, inf, -inf."""
        return strict_json(self.to_dict())

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Comparison:
        """Return what `to_dict` was called on."""
        known = content["truth"]
        return cls(
            **{
                **content,
                "entries": tuple(content["entries"]),
                "truth": None if known is None else _reference_from(known),
                "rows": tuple(Row.from_dict(row) for row in content["rows"]),
                "disagreement": number(content["disagreement"]),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """Return what `to_json` was called on."""
        return cls.from_dict(json.loads(text))

    def _display(self) -> Display:
        several = len(self.entries) != 1
        first_or_worst = "first entry" if self.truth is None else "worst entry"
        what = first_or_worst if several else "value"
        columns = ("backend", what, "ulps", "digits", "estimate", "calls", "ops", "time")
        remarks = [f"{row.backend} warns: {row.warning}" for row in self.rows if row.warning]
        remarks += [self.note] if self.note else []
        if self.truth is None and self.disagreement is not None:
            remarks.append(
                f"largest disagreement between backends: {self.disagreement:.2g} relative"
            )
        return Display(
            (f"{self.derivative} of {self.function} at {self.point}", *self._truth_lines()),
            columns,
            tuple(self._cells(row) for row in self.rows),
            tuple(remarks),
        )

    def _truth_lines(self) -> tuple[str, ...]:
        if self.truth is None:
            return ()
        known = self.truth
        kinks = [
            f"kink at {name}: {left:.6g} from the left, {right:.6g} from the right"
            for name, (left, right) in list(known.kinks.items())[:5]
        ]
        how = f"{known.precision} bits, {'certified' if known.certified else 'not certified'}"
        if len(self.entries) == 1 and not kinks:
            return (f"truth: {known.decimals[0]} ({how})",)
        count = len(self.entries)
        return (f"truth: {count} entr{'y' if count == 1 else 'ies'} ({how})", *kinks)

    def _cells(self, row: Row) -> tuple[str, ...]:
        if row.refusal is not None:
            return (row.backend, f"refused: {row.refusal}")
        return (
            row.backend,
            self._shown_value(row),
            short(row.error_ulps),
            "exact" if row.digits == np.inf else "-" if row.digits is None else f"{row.digits:.1f}",
            short(row.estimate, 2),
            "-" if row.evaluations is None else str(row.evaluations),
            "-" if row.operations is None else str(row.operations),
            "-" if row.seconds is None else duration(row.seconds),
        )

    def _shown_value(self, row: Row) -> str:
        if not row.value:
            return "-"
        if len(row.value) == 1:
            return str(np.dtype(row.dtype).type(row.value[0]))
        i = self.entries.index(row.worst) if row.worst in self.entries else 0
        return f"{self.entries[i]} = {row.value[i]:.10g}"


def compare(
    f: Function,
    *arguments: Any,
    backends: Sequence[str | Differentiator] | Differentiator | None = None,
    order: int = 1,
    wrt: int | tuple[int, ...] = 0,
    exact: bool | None = None,
) -> Comparison:
    """Return every backend's derivative of `f`, with its error against the truth.

    Args:
        f: a function of a number, an array or nested parameters.
        arguments: the point, then data that are not differentiated.
        backends: names or differentiators, or one of them; all four by default. One that
            refuses is reported in its row.
        order: of the derivative. By more than one number, 1 is the gradient (the Jacobian,
            if `f` has several values) and 2 the Hessian.
        wrt: the position(s) of the differentiated arguments.
        exact: whether to compute the truth; None for where it takes less than about half a minute.

    Raises:
        InvalidInput: the point is not made of finite real numbers, a backend is unknown, or
            the order makes no sense.
    """
    if isinstance(backends, (str, Differentiator)):
        backends = (backends,)
    chosen = [resolve(b) for b in (tuple(BACKENDS) if backends is None else backends)]
    if not callable(f):
        raise InvalidInput(f"the function is of type {type(f).__name__}, not callable")
    target = Target(f, wrt)
    if not arguments:
        raise InvalidInput("no point to differentiate at: pass x after the function")
    layout = point_of(target, arguments).layout
    operator = _operator(target, layout, arguments, order)
    reference, why_not = _truth(operator, target, layout, arguments, exact)
    results = [measured(d, operator, f, arguments, wrt, reference) for d in chosen]
    names = next((entries for entries, _ in results if entries), ())
    note = f"no truth: {why_not}" if reference is None else reference.note
    return Comparison(
        target.name,
        _described(target, layout, arguments),
        operator.name if order == 1 or operator.name != "derivative" else f"derivative {order}",
        reference.entries if reference else names,
        _summary(reference),
        tuple(row for _, row in results),
        _disagreement([row.value for _, row in results if row.value is not None]),
        note,
    )


# ---------------------------------------------------------------------- what is asked


def _operator(target: Target, layout: Layout, arguments: tuple[Any, ...], order: int) -> Operator:
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise InvalidInput(f"order={order!r} must be a positive integer")
    if layout.is_scalar:
        return Operator("derivative", order)
    if order > 2:
        raise InvalidInput(
            f"order={order} needs a function of one number, and x is {layout.summary()}"
        )
    if order == 2:
        return Operator("hessian", 2)
    point = point_of(target, arguments)
    value = target.evaluate(point.layout, point.leaves, point.data)
    return Operator("gradient" if value.layout.is_scalar else "jacobian", 1)


def _truth(
    operator: Operator,
    target: Target,
    layout: Layout,
    arguments: tuple[Any, ...],
    exact: bool | None,
) -> tuple[truth.Truth | None, str]:
    """The truth, or None and why there is none."""
    if exact is False:
        return None, "it was not asked for"
    try:
        if exact is None and (steps := work(operator, target, layout, arguments)) > EXACT_WORK:
            return None, (
                f"it would take about {steps:.1g} operations in arbitrary precision; exact=True "
                "computes it all the same"
            )
        return operator.exactly(target.f, arguments, target.wrt), ""
    except TruthUnavailable as refusal:
        return None, one_line(refusal)


def _described(target: Target, layout: Layout, arguments: tuple[Any, ...]) -> str:
    x, data = target.split(arguments)
    where = layout.summary()
    if 0 < layout.size <= SHOWN:
        values = zip(layout.leaves, layout.flatten(x), strict=True)
        where = ", ".join(f"{leaf.name} = {one_line(value[()])}" for leaf, value in values)
    return f"{where}, and {len(data)} data argument{'s' * (len(data) > 1)}" if data else where


# ---------------------------------------------------------------------- the whole


def _summary(reference: truth.Truth | None) -> Reference | None:
    if reference is None:
        return None
    layout, leaves = flatten(reference.value, "truth")
    known = [e for e in reference.enclosures if e is not None]
    return Reference(
        value=tuple(float(v) for v in layout.ravel(leaves)),
        decimals=tuple("kink" if e is None else _decimal(e) for e in reference.enclosures),
        certified=reference.certified,
        radius=max((float(e.radius) for e in known), default=0.0),
        precision=reference.precision,
        kinks=dict(reference.kinks),
        note=reference.note,
    )


def _decimal(enclosure: Enclosure) -> str:
    middle = enclosure.midpoint
    context = Context(prec=DIGITS)
    return str(context.divide(Decimal(middle.numerator), Decimal(middle.denominator)))


def _disagreement(values: Sequence[tuple[float, ...]]) -> float | None:
    """The largest relative difference between two of several vectors, in any entry."""
    if len(values) < 2 or len({len(v) for v in values}) > 1:
        return None
    stacked: Array = np.array(values, float)
    with np.errstate(all="ignore"):
        spread = stacked.max(axis=0) - stacked.min(axis=0)
        relative = spread / np.max(np.abs(stacked), axis=0, initial=0.0)
    return float(np.max(np.where(spread == 0, 0.0, relative), initial=0.0))


def _reference_from(content: dict[str, Any]) -> Reference:
    return Reference(
        **{
            **content,
            "value": tuple(float(v) for v in content["value"]),
            "decimals": tuple(content["decimals"]),
            "radius": float(content["radius"]),
            "kinks": {k: (float(a), float(b)) for k, (a, b) in content["kinks"].items()},
        }
    )
