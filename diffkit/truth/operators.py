"""The operators, answered by a `Study`: which directions each needs, and how entries are named."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np

from diffkit.assembly import derivative_name
from diffkit.errors import InvalidInput, InvalidOutput, TruthUnavailable
from diffkit.measures import Enclosure, nearest
from diffkit.structure import Layout
from diffkit.target import Function, Point, Target, point_of
from diffkit.truth.numerical import BlackBox
from diffkit.truth.rays import Direction, Entry
from diffkit.truth.recorded import CannotBeRecorded
from diffkit.truth.study import Study

Positions = int | tuple[int, ...]


@dataclass(frozen=True)
class Truth:
    """A derivative (or value) that other results can be measured against.

    Attributes:
        value: each entry rounded to nearest in its dtype, in the structure of the operator's
            result; NaN at a kink.
        entries: the name of every entry, in the order of the raveled leaves of `value`.
        enclosures: for every entry where it certainly lies; None at a kink.
        certified: whether every enclosure is rigorous, and the function differentiable as far
            as could be seen. Never for a black box: there an enclosure is as wide as numerical
            methods disagree, times a margin, and holds only as far as those can be trusted.
        kinks: for every entry without a two-sided derivative the derivative from the left
            and from the right (infinite at a jump of the function or of a lower derivative).
        smooth: whether the function is differentiable, as far as could be seen: no entry has a
            kink, and the slope in a direction of general position is what they add up to.
        precision: the largest working precision, in bits.
        evaluations: how many times the graph was evaluated.
        note: reservations, empty where there are none.
    """

    value: Any
    entries: tuple[str, ...]
    enclosures: tuple[Enclosure | None, ...]
    certified: bool
    kinks: dict[str, tuple[float, float]] = field(default_factory=dict)
    precision: int = 0
    evaluations: int = 0
    note: str = ""
    smooth: bool = True


def value(f: Function, *arguments: Any, wrt: Positions = 0) -> Truth:
    """Return the value of `f` in exact arithmetic, in the structure of `f(x)`.

    Raises:
        TruthUnavailable: see `gradient`.
    """
    study = _any_study(f, arguments, wrt)
    layout = study.output_layout
    found = study.value(_entry_dtypes(layout))
    return _truth(study, layout.entry_names(), found, layout.restore, layout)


def derivative(f: Function, *arguments: Any, order: int = 1, wrt: Positions = 0) -> Truth:
    """Return the derivative of some order by a scalar `x`, in the structure of `f(x)`.

    Raises:
        InvalidInput: `x` is not a scalar, or `order` not a positive integer.
        TruthUnavailable: see `gradient`.
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise InvalidInput(f"order={order!r} must be a positive integer")
    study = _any_study(f, arguments, wrt)
    if not study.point.layout.is_scalar:
        raise InvalidInput(
            f"derivative takes a function of one number, and x is {study.point.layout.summary()}"
        )
    layout = study.output_layout
    found = study.entries([(Fraction(1), unit_direction(0))], order, _entry_dtypes(layout))
    return _truth(study, layout.entry_names(), found, layout.restore, layout)


def gradient(f: Function, *arguments: Any, wrt: Positions = 0) -> Truth:
    """Return the gradient of a scalar function, in the structure of `x`.

    Raises:
        InvalidOutput: `f` does not return one number.
        TruthUnavailable: `f` cannot be repeated in arbitrary precision, its exact value is far
            from what it computes, a branch cannot be decided, or an entry is not finite. If it
            cannot be recorded at all: numerical methods do not agree on it.
    """
    study = _any_study(f, arguments, wrt)
    require_scalar(study)
    layout = study.point.layout
    dtypes = _entry_dtypes(layout)
    found = [
        study.entries([(Fraction(1), unit_direction(i))], 1, [dtypes[i]])[0]
        for i in range(layout.size)
    ]
    study.examine_other_directions([[entry] for entry in found], dtypes[:1])
    return _truth(study, layout.entry_names(), found, layout.restore, layout)


def jacobian(f: Function, *arguments: Any, wrt: Positions = 0) -> Truth:
    """Return the Jacobian: each leaf has the shape of the output, then the shape of `x`.

    Raises:
        TruthUnavailable: see `gradient`.
    """
    study = _any_study(f, arguments, wrt)
    rows, columns = study.output_layout, study.point.layout
    dtypes = _entry_dtypes(columns)
    by_column = [
        study.entries([(Fraction(1), unit_direction(j))], 1, [dtypes[j]] * rows.size)
        for j in range(columns.size)
    ]
    study.examine_other_directions(by_column, dtypes[:1] * rows.size)
    return _pairs(study, rows, columns, lambda i, j: by_column[j][i])


def hessian(f: Function, *arguments: Any, wrt: Positions = 0) -> Truth:
    """Return the Hessian of a scalar function: the structure of `x` nested twice.

    H_ij = (f''(e_i + e_j) - f''(e_i) - f''(e_j)) / 2 with f''(v) the second derivative along v.

    Raises:
        InvalidOutput: `f` does not return one number.
        TruthUnavailable: see `gradient`.
    """
    study = _any_study(f, arguments, wrt)
    require_scalar(study)
    layout = study.point.layout
    dtypes = _entry_dtypes(layout)
    half = Fraction(1, 2)
    found: dict[tuple[int, int], Entry] = {}
    for i in range(layout.size):
        found[i, i] = study.entries([(Fraction(1), unit_direction(i))], 2, [dtypes[i]])[0]
    for i, j in combinations(range(layout.size), 2):
        both = tuple(sorted((*unit_direction(i), *unit_direction(j))))
        terms = [(half, both), (-half, unit_direction(i)), (-half, unit_direction(j))]
        found[i, j] = found[j, i] = study.entries(terms, 2, [dtypes[j]])[0]
    return _pairs(study, layout, layout, lambda i, j: found[i, j], order=2)


def jvp(f: Function, x: Any, tangent: Any, *data: Any, wrt: Positions = 0) -> Truth:
    """Return the derivative along a tangent (in the structure of `x`), shaped like `f(x)`.

    Raises:
        InvalidInput: the tangent has another structure than `x`, is zero or not finite.
        TruthUnavailable: see `gradient`.
    """
    study = _any_study(f, (x, *data), wrt)
    layout = study.point.layout
    speeds = [v for leaf in layout.flatten(tangent, "tangent") for v in np.ravel(leaf)]
    if not np.all(np.isfinite(speeds)) or not np.any(speeds):
        raise InvalidInput("the tangent must be finite, and not zero")
    exact = [Fraction(*v.as_integer_ratio()) for v in speeds]
    direction = tuple((i, speed) for i, speed in enumerate(exact) if speed)
    rows = study.output_layout
    found = study.entries([(Fraction(1), direction)], 1, _entry_dtypes(rows))
    return _truth(study, rows.entry_names(), found, rows.restore, rows)


def study_of(f: Function, arguments: tuple[Any, ...], wrt: Positions) -> Study:
    """Return the study of a function that can be recorded.

    Raises:
        InvalidInput: `f` is not callable, or the point is not made of finite real numbers.
        TruthUnavailable: see `gradient`.
    """
    return Study(*_question(f, arguments, wrt))


def _any_study(f: Function, arguments: tuple[Any, ...], wrt: Positions) -> Study | BlackBox:
    """The study of a function, as a black box where it cannot be recorded."""
    target, point = _question(f, arguments, wrt)
    try:
        return Study(target, point)
    except CannotBeRecorded as why:
        return BlackBox(target, point, why)


def _question(f: Function, arguments: tuple[Any, ...], wrt: Positions) -> tuple[Target, Point]:
    if not callable(f):
        raise InvalidInput(f"the function is of type {type(f).__name__}, not callable")
    if not arguments:
        raise InvalidInput("no point to differentiate at: pass x after the function")
    target = Target(f, wrt)
    return target, point_of(target, arguments)


def require_scalar(study: Study | BlackBox) -> None:
    if not study.output_layout.is_scalar:
        raise InvalidOutput(
            f"{study.target.name} must return one number here, and returned "
            f"{study.output_layout.summary()}; use jacobian"
        )


def unit_direction(position: int) -> Direction:
    return ((position, Fraction(1)),)


def _entry_dtypes(layout: Layout) -> list[Any]:
    return [leaf.dtype for leaf in layout.leaves for _ in range(leaf.size)]


def _pairs(
    study: Study | BlackBox,
    rows: Layout,
    columns: Layout,
    entry: Callable[[int, int], Entry],
    order: int = 1,
) -> Truth:
    """A result whose leaves have the shape of a leaf of `rows`, then of one of `columns`."""
    row_names, column_names = rows.entry_names(), columns.entry_names()
    names: list[str] = []
    found: list[Entry] = []
    blocks: list[tuple[Any, Any]] = []
    for row_leaf, row_range in _ranges(rows):
        for column_leaf, column_range in _ranges(columns):
            blocks.append((row_leaf, column_leaf))
            for i in row_range:
                names += [
                    derivative_name(row_names[i], column_names[j], order) for j in column_range
                ]
                found += [entry(i, j) for j in column_range]

    def build(leaves: list[Any]) -> Any:
        arrays = iter(leaves)
        members = []
        for row_leaf in rows.leaves:
            parts = []
            for column_leaf in columns.leaves:
                array = next(arrays).reshape(row_leaf.shape + column_leaf.shape)
                parts.append(array[()] if row_leaf.scalar and column_leaf.scalar else array)
            members.append(columns.unflatten(parts))
        return rows.unflatten(members)

    sizes = [(a.size * b.size, b.dtype) for a, b in blocks]
    return _assembled(study, names, found, build, sizes)


def _ranges(layout: Layout) -> list[tuple[Any, range]]:
    ranges, start = [], 0
    for leaf in layout.leaves:
        ranges.append((leaf, range(start, start + leaf.size)))
        start += leaf.size
    return ranges


def _truth(
    study: Study | BlackBox,
    names: list[str],
    found: list[Entry],
    build: Callable[[list[Any]], Any],
    layout: Layout,
) -> Truth:
    """A result whose leaves are those of `layout`."""
    leaves = layout.leaves

    def shaped(arrays: list[Any]) -> Any:
        return build([a.reshape(leaf.shape) for a, leaf in zip(arrays, leaves, strict=True)])

    return _assembled(study, names, found, shaped, [(leaf.size, leaf.dtype) for leaf in leaves])


def _assembled(
    study: Study | BlackBox,
    names: list[str],
    found: list[Entry],
    build: Callable[[list[Any]], Any],
    sizes: list[tuple[int, Any]],
) -> Truth:
    """Round every entry to its dtype and put the structure together.

    Raises:
        TruthUnavailable: an entry is not finite.
    """
    bad = [name for name, sides in zip(names, found, strict=True) if sides.unresolved]
    if bad:
        raise TruthUnavailable(
            f"{study.target.name} has no finite derivative that {study.precision} bits can "
            f"enclose, at {', '.join(bad[:5])}"
        )
    arrays, start = [], 0
    for size, dtype in sizes:
        part = found[start : start + size]
        start += size
        array = np.full(size, np.nan, dtype)
        for i, sides in enumerate(part):
            if sides.two_sided is not None:
                array[i] = nearest(sides.two_sided.midpoint, dtype)
        arrays.append(array)
    kinks = {
        name: (rounded(sides.left), rounded(sides.right))
        for name, sides in zip(names, found, strict=True)
        if sides.two_sided is None
    }
    return Truth(
        value=build(arrays),
        entries=tuple(names),
        enclosures=tuple(sides.two_sided for sides in found),
        certified=study.certified,
        kinks=kinks,
        precision=study.precision,
        evaluations=study.evaluations,
        note="; ".join(study.notes),
        smooth=study.smooth and not kinks,
    )


def rounded(side: Enclosure | float | None) -> float:
    if isinstance(side, Enclosure):
        return float(nearest(side.midpoint, np.float64))
    return math.nan if side is None else side
