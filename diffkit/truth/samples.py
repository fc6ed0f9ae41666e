"""Truth for many parameters: some entries of a gradient, some directions, at a known cost.

A full gradient takes one evaluation of the graph in Taylor arithmetic for every parameter. A
wrong entry among a million is unlikely to be among a few that are drawn, but it changes the
slope along a random direction, which one evaluation tells.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.measures import Enclosure, ulp, ulps
from diffkit.structure import Layout
from diffkit.target import Function
from diffkit.truth.operators import (
    Positions,
    require_scalar,
    rounded,
    study_of,
    unit_direction,
)
from diffkit.truth.rays import Direction
from diffkit.truth.rays import Entry as Sides
from diffkit.truth.study import Study

OPINIONS = 2  # evaluations by differences that confirm the first direction


@dataclass(frozen=True)
class Plan:
    """What a sampled truth costs.

    Attributes:
        entries: the names of the entries of `x` that are drawn.
        directions: how many random directions there are.
        evaluations: of the graph in Taylor arithmetic, where 128 bits decide everything.
        operations: that each of them takes.
        seconds: that all of them take, as one value of the graph lets expect.
    """

    entries: tuple[str, ...]
    directions: int
    evaluations: int
    operations: int
    seconds: float


@dataclass(frozen=True)
class SampledTruth:
    """Some entries of a gradient, and its products with random directions.

    Attributes:
        entries: the names of the entries, and `direction 1`, `direction 2`, ...
        enclosures: where each certainly lies; None at a kink.
        tangents: the directions, each in the structure of `x`.
        certified: whether every enclosure is rigorous.
        kinks: for each without a two-sided derivative those from the left and the right.
        evaluations: how many times the graph was evaluated.
        note: reservations, empty where there are none.
    """

    entries: tuple[str, ...]
    enclosures: tuple[Enclosure | None, ...]
    tangents: tuple[Any, ...]
    certified: bool
    kinks: dict[str, tuple[float, float]] = field(default_factory=dict)
    evaluations: int = 0
    note: str = ""
    layout: Layout | None = field(default=None, repr=False)

    def errors(self, gradient: Any) -> dict[str, float]:
        """Return the errors of a gradient, in ulps.

        Of an entry, in ulps of its dtype; of a product with a direction, in ulps of the largest
        of the terms that are added up, times the square root of their number. Kinks are left out.

        Args:
            gradient: in the structure of `x`.

        Raises:
            InvalidInput: it has another structure.
        """
        assert self.layout is not None
        leaves = self.layout.flatten(gradient, "gradient")
        vector = np.concatenate([np.ravel(leaf).astype(np.longdouble) for leaf in leaves])
        place = {name: i for i, name in enumerate(self.layout.entry_names())}
        tangents = iter(self.tangents)
        errors = {}
        for name, enclosure in zip(self.entries, self.enclosures, strict=True):
            tangent = None if name in place else next(tangents)
            if enclosure is None:
                continue
            if tangent is None:
                dtype = _dtypes(self.layout)[place[name]]
                errors[name] = ulps(dtype.type(vector[place[name]]), enclosure, dtype)
            else:
                errors[name] = _product_error(self.layout, vector, tangent, enclosure)
        return errors


def plan(
    f: Function,
    *arguments: Any,
    entries: int | Sequence[str] = 8,
    directions: int = 2,
    seed: int = 0,
    wrt: Positions = 0,
) -> Plan:
    """Return what `sample` with the same arguments costs.

    Raises:
        InvalidInput: `entries` or `directions` is out of range, or names no entry of `x`.
        TruthUnavailable: as `gradient`.
    """
    start = time.perf_counter()
    study = study_of(f, arguments, wrt)
    once = time.perf_counter() - start
    require_scalar(study)
    chosen = _chosen(study.point.layout, entries, seed)
    _require_count(directions)
    names = study.point.layout.entry_names()
    evaluations = study.evaluations + len(chosen) + directions + (OPINIONS if directions else 0)
    return Plan(
        tuple(names[i] for i in chosen),
        directions,
        evaluations,
        study.graph.operations,
        once * evaluations,
    )


def sample(
    f: Function,
    *arguments: Any,
    entries: int | Sequence[str] = 8,
    directions: int = 2,
    seed: int = 0,
    wrt: Positions = 0,
) -> SampledTruth:
    """Return some entries of the gradient of a scalar function, and slopes along directions.

    Args:
        f: the function.
        arguments: the point, then data.
        entries: the names of entries, or how many are drawn at random.
        directions: how many random directions; every entry of `x` moves along each.
        seed: of the draw.
        wrt: which arguments are differentiated.

    Raises:
        InvalidInput: `entries` or `directions` is out of range, or names no entry of `x`.
        InvalidOutput, TruthUnavailable: as `gradient`.
    """
    study = study_of(f, arguments, wrt)
    require_scalar(study)
    layout = study.point.layout
    chosen = _chosen(layout, entries, seed)
    _require_count(directions)
    dtypes, names = _dtypes(layout), layout.entry_names()
    found = {
        names[i]: study.entries([(Fraction(1), unit_direction(i))], 1, [dtypes[i]])[0]
        for i in chosen
    }
    drawn = _directions(layout.size, directions, seed)
    for k, direction in enumerate(drawn):
        found[f"direction {k + 1}"] = _along(study, direction, dtypes[0], first=k == 0)
    return SampledTruth(
        entries=tuple(found),
        enclosures=tuple(sides.two_sided for sides in found.values()),
        tangents=tuple(_structured(layout, direction) for direction in drawn),
        certified=study.certified,
        kinks={
            name: (rounded(sides.left), rounded(sides.right))
            for name, sides in found.items()
            if sides.two_sided is None
        },
        evaluations=study.evaluations,
        note="; ".join(study.notes),
        layout=layout,
    )


def _along(study: Study, direction: Direction, dtype: Any, *, first: bool) -> Sides:
    found = study.entries([(Fraction(1), direction)], 1, [dtype])
    if first:
        study.confirm(direction, [dtype], found)
    return found[0]


def _chosen(layout: Layout, entries: int | Sequence[str], seed: int) -> list[int]:
    names = layout.entry_names()
    if isinstance(entries, int) and not isinstance(entries, bool) and entries >= 0:
        draw = np.random.default_rng(seed).permutation(layout.size)[:entries]
        return sorted(int(i) for i in draw)
    if isinstance(entries, (int, str)) or not all(name in names for name in entries):
        raise InvalidInput(
            f"entries={entries!r} must be a number of entries of x, or a list of their names, "
            f"such as {names[:3]}"
        )
    return [names.index(name) for name in entries]


def _require_count(directions: int) -> None:
    if isinstance(directions, bool) or not isinstance(directions, int) or directions < 0:
        raise InvalidInput(f"directions={directions!r} must be zero or a positive integer")


def _directions(size: int, count: int, seed: int) -> list[Direction]:
    """Speeds between 1/2 and 3/2, of random signs, with few bits."""
    generator = np.random.default_rng([seed, 1])
    found = []
    for _ in range(count if size else 0):
        speeds = generator.integers(1 << 10, 3 << 10, size) * generator.choice([-1, 1], size)
        found.append(tuple((i, Fraction(int(s), 1 << 11)) for i, s in enumerate(speeds)))
    return found


def _structured(layout: Layout, direction: Direction) -> Any:
    return layout.restore(layout.unravel(np.array([float(speed) for _, speed in direction])))


def _dtypes(layout: Layout) -> list[Any]:
    return [leaf.dtype for leaf in layout.leaves for _ in range(leaf.size)]


def _product_error(layout: Layout, vector: Any, tangent: Any, slope: Enclosure) -> float:
    """The error of a product of a gradient with a direction, in ulps of its largest term."""
    speeds = layout.ravel(layout.flatten(tangent, "tangent")).astype(np.longdouble)
    terms = vector * speeds
    if not np.isfinite(terms).all():
        return float("inf")
    total = sum((_exact(g) * _exact(v) for g, v in zip(vector, speeds, strict=True)), Fraction(0))
    largest = max(float(abs(terms).max()), float(abs(slope.midpoint)))
    unit = ulp(Fraction(largest), np.result_type(*_dtypes(layout)))
    return float(abs(total - slope.midpoint) / unit) / float(np.sqrt(len(terms)))


def _exact(number: Any) -> Fraction:
    return Fraction(*number.as_integer_ratio())
