"""The swell meter: how large each form of a derivative is, what it costs, and what it loses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import numpy as np

from diffkit.comparison.forms import FORMS, Program, derived, operator_of
from diffkit.comparison.measurement import duration, one_line, work, worst_error
from diffkit.display import Display, Displayed, number, short
from diffkit.display import to_json as strict_json
from diffkit.errors import DiffkitError, ExpressionTooLarge, InvalidInput, TruthUnavailable
from diffkit.measures import Growth, growth, timed
from diffkit.problems.families import Family, Member, family
from diffkit.structure import flatten
from diffkit.target import Function, Target
from diffkit.truth import Truth

COUNTS: Final = ("tree", "dag", "operations", "lines", "bytes")
TIMES: Final = ("derive_seconds", "compile_seconds", "call_seconds")
QUANTITIES: Final = (*COUNTS, "error_ulps", *TIMES)
NEAR: Final = 0.05  # relative distance of the other points from the member's own
EXACT_WORK: Final = 300_000  # operations in arbitrary precision for one point: some 0.3 seconds
CALLING: Final = 0.05  # seconds for timing a call


@dataclass(frozen=True)
class Size:
    """One form of one derivative.

    Attributes:
        form: `expanded`, `shared` and further forms of the symbolic backend, or `tape`.
        size: of the function, as its family counts.
        tree: operations when everything is written out; counted, not done, for a form that is
            never written out.
        dag: different operations among them.
        operations: in the program that runs, after common subexpressions are shared. The array
            form and the tape count operations on whole arrays.
        lines, bytes: of that program's source.
        derive_seconds: to trace, derive and write the program.
        compile_seconds: for Python to compile it.
        call_seconds: for one derivative.
        error_ulps: the median over the points of the largest error of an entry, against the
            certified truth; None where that would take too long.
        worst_ulps: the largest error at any point.
        refusal: why there is no such derivative; None if there is one.
    """

    form: str
    size: int
    tree: int | None = None
    dag: int | None = None
    operations: int | None = None
    lines: int | None = None
    bytes: int | None = None
    derive_seconds: float | None = None
    compile_seconds: float | None = None
    call_seconds: float | None = None
    error_ulps: float | None = None
    worst_ulps: float | None = None
    refusal: str | None = None

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Size:
        """Return the row that `asdict` was called on."""
        floats = {k: number(content[k]) for k in (*TIMES, "error_ulps", "worst_ulps")}
        return cls(**{**content, **floats})


@dataclass(frozen=True)
class Swell(Displayed):
    """How the forms of a derivative grow.

    Attributes:
        family: the name of the family, or of the function.
        description: its formula.
        size: what the size counts.
        points: at how many points errors were measured.
        max_operations: the budget of the forms that are written out.
        rows: one for each form and size.
    """

    family: str
    description: str
    size: str
    points: int
    max_operations: int
    rows: tuple[Size, ...]

    @property
    def forms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.form for row in self.rows))

    def of(self, form: str) -> tuple[Size, ...]:
        """Return the rows of a form.

        Raises:
            InvalidInput: it was not measured.
        """
        rows = tuple(row for row in self.rows if row.form == form)
        if not rows:
            raise InvalidInput(f"no form {form!r} here; there are {', '.join(self.forms)}")
        return rows

    def series(self, form: str, quantity: str) -> tuple[list[int], list[float]]:
        """Return the sizes at which a quantity of a form is known, and its values.

        Raises:
            InvalidInput: there is no such quantity or form.
        """
        if quantity not in QUANTITIES:
            raise InvalidInput(f"unknown quantity {quantity!r}; choose among {QUANTITIES}")
        known = [(r.size, getattr(r, quantity)) for r in self.of(form)]
        pairs = [(size, float(value)) for size, value in known if value is not None]
        return [size for size, _ in pairs], [value for _, value in pairs]

    def growth(self, form: str, quantity: str = "tree") -> Growth | None:
        """Return how a quantity of a form grows over the sizes measured; None with too few."""
        return growth(*self.series(form, quantity))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, with the growth of each count fitted."""
        fits = {
            form: {
                count: None if fit is None else {**asdict(fit), "text": str(fit)}
                for count in COUNTS
                for fit in (self.growth(form, count),)
            }
            for form in self.forms
        }
        return {**asdict(self), "growth": fits}

    def to_json(self) -> str:
        """Return strict JSON; numbers that are not finite are the strings nan, inf, -inf."""
        return strict_json(self.to_dict())

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Swell:
        """Return what `to_dict` was called on."""
        rest = {key: value for key, value in content.items() if key != "growth"}
        return cls(**{**rest, "rows": tuple(Size.from_dict(row) for row in content["rows"])})

    @classmethod
    def from_json(cls, text: str) -> Swell:
        """Return what `to_json` was called on."""
        return cls.from_dict(json.loads(text))

    def _display(self) -> Display:
        counted = ("form", self.size, "tree", "dag", "operations", "lines", "bytes")
        columns = (*counted, "ulps", "derive", "compile", "call")
        fits = [(form, self.growth(form, count), count) for count in ("tree", "operations")
                for form in self.forms]  # fmt: skip
        remarks = tuple(f"{form}, {count}: {fit}" for form, fit, count in fits if fit is not None)
        if remarks:
            remarks = ("growth over the sizes measured, with 95 % confidence:", *remarks)
        return Display(
            (f"{self.family}: {self.description}",),
            columns,
            tuple(_cells(row) for row in self.rows),
            remarks,
        )


def measure_swell(
    what: str | Family | Function,
    *arguments: Any,
    sizes: Sequence[int] | None = None,
    forms: Sequence[str] | None = None,
    order: int = 1,
    points: int = 5,
    max_operations: int = 20_000,
    max_seconds: float = 30.0,
    advance: Callable[[], Any] = lambda: None,
) -> Swell:
    """Return the size, cost and error of each form of a derivative, over a family of functions.

    Args:
        what: the name of a family in `diffkit.problems.families.FAMILIES`, a `Family` of your own,
            or a single function of one value.
        arguments: of a single function, the point and then the data.
        sizes: of the functions of a family; by default its own.
        forms: out of those of the symbolic backend, `multiplied out` (for functions of one number)
            and `tape`; by default all but `multiplied out`.
        order: of the derivative of a single function of one number.
        points: at how many points to measure the error.
        max_operations: how large a form may become that is written out. One that would become
            larger is refused in its row, and larger sizes are not tried.
        max_seconds: how long deriving one may take; once one takes longer, larger sizes are not
            tried.
        advance: called after each row.

    Raises:
        InvalidInput: the family or a form is unknown, or arguments do not fit.
    """
    import sympy  # noqa: F401  # so that its import does not count as deriving

    chosen = tuple(FORMS if forms is None else forms)
    members, described = _members(what, arguments, sizes, order)
    references = {size: _References(member, points) for size, member in members.items()}
    rows: dict[tuple[int, str], Size] = {}
    for form in chosen:
        stopped = ""
        for size, member in members.items():
            budget = (max_operations, max_seconds)
            row = (
                Size(form, size, refusal=stopped)
                if stopped
                else _measured(form, size, member, references[size], budget)
            )
            rows[size, form] = row
            stopped = stopped or _reason_to_stop(row, max_seconds)
            advance()
    return Swell(
        *described, points, max_operations,
        tuple(rows[size, form] for form in chosen for size in members),
    )  # fmt: skip


def _members(
    what: str | Family | Function,
    arguments: tuple[Any, ...],
    sizes: Sequence[int] | None,
    order: int,
) -> tuple[dict[int, Member], tuple[str, str, str]]:
    """The functions by size; the name, the description and what the size counts."""
    if isinstance(what, str):
        what = family(what)
    if isinstance(what, Family):
        if arguments or order != 1:
            raise InvalidInput(f"the family {what.name} has points and an order of its own")
        chosen = what.sizes if sizes is None else tuple(sizes)
        if not chosen or any(isinstance(n, bool) or not isinstance(n, int) for n in chosen):
            raise InvalidInput(f"sizes={sizes!r} must be positive integers")
        if min(chosen) < 1:
            raise InvalidInput(f"sizes={sizes!r} must be positive integers")
        described = (what.name, what.description, what.size)
        return {n: what.member(n) for n in sorted(set(chosen))}, described
    if not callable(what) or not arguments or sizes is not None:
        raise InvalidInput(
            "pass the name of a family, a Family, or a function with the point to measure it at"
        )
    name = Target(what).name
    return {1: Member(what, arguments[0], arguments[1:], order)}, (name, "one function", "size")


# ---------------------------------------------------------------------- one row


def _measured(
    form: str, size: int, member: Member, references: _References, budget: tuple[int, float]
) -> Size:
    start = time.perf_counter()
    try:
        with np.errstate(all="ignore"):
            program = derived(form, member, *budget)
            derive_seconds = time.perf_counter() - start
            call_seconds = timed(lambda: program.call(*member.arguments), CALLING)
            errors = references.errors(program)
    except DiffkitError as refusal:
        if isinstance(refusal, InvalidInput):
            raise
        too_large = isinstance(refusal, ExpressionTooLarge)
        return Size(form, size, refusal=("too large: " if too_large else "") + one_line(refusal))
    except RecursionError:
        return Size(form, size, refusal="too large: nested deeper than Python recurses")
    compile_seconds = timed(lambda: compile(program.source, "<measured>", "exec"), CALLING)
    return Size(
        form,
        size,
        **({} if program.size is None else asdict(program.size)),
        derive_seconds=max(derive_seconds - call_seconds - compile_seconds, 0.0),
        compile_seconds=compile_seconds if program.source else None,
        call_seconds=call_seconds,
        error_ulps=median(errors) if errors else None,
        worst_ulps=max(errors) if errors else None,
    )


def _reason_to_stop(row: Size, seconds: float) -> str:
    if row.refusal is not None and row.refusal.startswith("too large"):
        return f"not tried: size {row.size} was too large"
    if (row.derive_seconds or 0.0) > seconds:
        return f"not tried: size {row.size} took {duration(row.derive_seconds or 0.0)} to derive"
    return ""


class _References:
    """The truth at some points near a member's own, computed when it is first asked for."""

    def __init__(self, member: Member, points: int) -> None:
        self._member = member
        self._points = points
        self._known: list[tuple[tuple[Any, ...], Truth]] | None = None

    def errors(self, program: Program) -> list[float]:
        """The largest error of an entry, in ulps, at each point."""
        if self._known is None:
            self._known = self._computed()
        found = []
        for arguments, truth in self._known:
            layout, leaves = flatten(program.call(*arguments), "derivative")
            error, *_ = worst_error(layout, leaves, truth)
            if error is not None:
                found.append(error)
        return found

    def _computed(self) -> list[tuple[tuple[Any, ...], Truth]]:
        member = self._member
        operator, target = operator_of(member), Target(member.f)
        layout, leaves = flatten(member.x)
        vector = layout.ravel(leaves)
        if work(operator, target, layout, member.arguments) > EXACT_WORK:
            return []
        generator = np.random.default_rng(0)
        known = []
        for i in range(self._points):
            shift = generator.uniform(-NEAR, NEAR, vector.shape) if i else 0.0
            near = layout.restore(layout.unravel((vector * (1 + shift)).astype(vector.dtype)))
            try:
                truth = operator.exactly(member.f, (near, *member.data), 0)
            except TruthUnavailable:
                continue
            known.append(((near, *member.data), truth))
        return known


def _cells(row: Size) -> tuple[str, ...]:
    if row.refusal is not None:
        return (row.form, str(row.size), row.refusal)
    counts = (_count(getattr(row, name)) for name in COUNTS)
    times = (getattr(row, name) for name in TIMES)
    shown = ("-" if t is None else duration(t) for t in times)
    return (row.form, str(row.size), *counts, short(row.error_ulps), *shown)


def _count(value: int | None) -> str:
    if value is None:
        return "-"
    return str(value) if value < 10**7 else f"{value:.2e}"
