"""The straight lines along which `f` is sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from diffkit.structure import Array, Leaves
from diffkit.target import Point


class Direction(Protocol):
    """A straight line through the point, with a parameter that is 0 there.

    Attributes:
        leaves: the leaves that move.
        tangents: the derivative of every leaf of `x` by the parameter.
        unit: the step that moves an entry by its own size, or by 1 if that is more.
        inner: the step that moves some entry by exactly its own size; 0 if all are zero.
        size: the step that moves every entry by at least its own size.
    """

    leaves: tuple[int, ...]
    unit: Any
    inner: Any
    size: Any

    @property
    def tangents(self) -> Leaves: ...

    def moved(self, leaves: Leaves, step: Any) -> Leaves: ...

    def landed(self, step: Any) -> Any:
        """The steps that were really made, after rounding."""


class Entry:
    """The line along one entry of one leaf: a step is a change of that number."""

    def __init__(self, point: Point, leaf: int, position: int, dtype: Any) -> None:
        self.leaves: tuple[int, ...] = (leaf,)
        self.position = position
        self.x = np.ravel(point.leaves[leaf])[position]
        self.dtype = dtype
        self._own = self.x.dtype
        self._wide = self.x.astype(dtype)
        size = abs(self._wide)
        self.unit = max(size, dtype.type(1))
        self.inner = self.size = size
        self._shapes = [x.shape for x in point.layout.leaves]

    @property
    def tangents(self) -> Leaves:
        tangents = [np.zeros(shape, self.dtype) for shape in self._shapes]
        tangents[self.leaves[0]].reshape(-1)[self.position] = 1
        return tangents

    def moved(self, leaves: Leaves, step: Any) -> Leaves:
        (k,) = self.leaves
        changed = np.array(leaves[k], order="C")
        changed.reshape(-1)[self.position] = self._wide + step
        return [*leaves[:k], changed, *leaves[k + 1 :]]

    def landed(self, step: Any) -> Any:
        target = self._wide + step
        if self._own != self.dtype:
            target = target.astype(self._own).astype(self.dtype)
        return target - self._wide


class Ray:
    """The line along a tangent with at least two entries that are not zero."""

    def __init__(self, point: Point, tangents: Leaves, dtype: Any) -> None:
        self._tangents = tangents
        self.leaves = tuple(k for k, t in enumerate(tangents) if np.any(t))
        speeds = abs(np.concatenate([np.ravel(t) for t in tangents]))
        sizes = abs(np.concatenate([np.ravel(x).astype(dtype) for x in point.leaves]))
        sizes, speeds = sizes[speeds > 0], speeds[speeds > 0]
        reach = sizes / speeds
        self.unit = np.min(np.maximum(sizes, 1) / speeds)
        self.inner = np.min(reach[sizes > 0]) if np.any(sizes) else reach[0]
        self.size = reach.max()

    @property
    def tangents(self) -> Leaves:
        return self._tangents

    def moved(self, leaves: Leaves, step: Any) -> Leaves:
        with np.errstate(over="ignore"):
            return [
                (leaf + step * tangent).astype(leaf.dtype)
                for leaf, tangent in zip(leaves, self._tangents, strict=True)
            ]

    def landed(self, step: Any) -> Any:
        return step


class Axes(Sequence[Direction]):
    """The lines along some entries of `x`, all of them as arrays; each is made when asked for.

    Attributes:
        leaf, position: for each line which leaf it moves, and where.
        numbers: what it moves, in the working precision.
        exact: whether the leaves are of that precision.
    """

    def __init__(self, point: Point, dtype: Any) -> None:
        sizes = [leaf.size for leaf in point.layout.leaves]
        parts = [np.ravel(leaf).astype(dtype) for leaf in point.leaves]
        self.leaf = np.repeat(np.arange(len(sizes)), sizes)
        self.position = np.arange(len(self.leaf)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.numbers = np.concatenate([np.zeros(0, dtype), *parts])
        self.exact = all(leaf.dtype == dtype for leaf in point.layout.leaves)
        self._point = point
        self._made: dict[int, Direction] = {}
        self._lines = np.arange(len(self.leaf))

    def chosen(self, lines: Array) -> Axes:
        """Some of these lines, in their order."""
        if len(lines) == len(self):
            return self
        some = copy(self)
        for name in ("leaf", "position", "numbers", "_lines"):
            setattr(some, name, getattr(self, name)[lines])
        return some

    def tangents(self, speeds: Array) -> Leaves:
        """The direction in which every one of these entries moves at its own speed."""
        leaves = [np.zeros(leaf.size, self.numbers.dtype) for leaf in self._point.layout.leaves]
        for k, moving in enumerate(leaves):
            here = self.leaf == k
            moving[self.position[here]] = speeds[here]
        shapes = [leaf.shape for leaf in self._point.layout.leaves]
        return [moving.reshape(shape) for moving, shape in zip(leaves, shapes, strict=True)]

    def __len__(self) -> int:
        return len(self.leaf)

    def __getitem__(self, i: Any) -> Any:
        line = int(self._lines[i])
        if line not in self._made:
            leaf, position = int(self.leaf[i]), int(self.position[i])
            self._made[line] = Entry(self._point, leaf, position, self.numbers.dtype)
        return self._made[line]


def chosen(directions: Sequence[Direction], lines: Array) -> Sequence[Direction]:
    """Return some of the lines, in their order."""
    if isinstance(directions, Axes):
        return directions.chosen(lines)
    return [directions[i] for i in lines]


class Bundle:
    """Several lines, as arrays over them.

    Attributes:
        unit, inner, size: those of the lines, one number each.
    """

    def __init__(self, directions: Sequence[Direction], dtype: Any) -> None:
        self.directions = directions
        if isinstance(directions, Axes):
            self.inner = self.size = abs(directions.numbers)
            self.unit = np.maximum(self.size, 1)
            return
        self.unit = np.array([d.unit for d in directions], dtype)
        self.inner = np.array([d.inner for d in directions], dtype)
        self.size = np.array([d.size for d in directions], dtype)

    def landed(self, steps: Array) -> Array:
        """The steps, first axis the line, that were really made."""
        simple = self._simple
        if simple is not None:
            column = simple if steps.ndim == 1 else simple[:, np.newaxis]
            landed: Array = (column + steps) - column
            return landed
        found = [d.landed(step) for d, step in zip(self.directions, steps, strict=True)]
        return np.array(found, dtype=steps.dtype).reshape(steps.shape)

    def numbers(self, lines: Array, steps: Array) -> Array | None:
        """What moves, after the steps along some lines; None where that is not one number."""
        return None if self._simple is None else self._simple[lines] + steps

    @cached_property
    def outwards(self) -> Array:
        """For each line the sign of a step away from 0: what is exact there is so inwards."""
        ones = np.ones_like(self.unit)
        return np.asarray(ones if self._simple is None else np.copysign(ones, self._simple))

    @cached_property
    def places(self) -> Array:
        """For each line that moves one number: which leaf holds it, and where."""
        if isinstance(self.directions, Axes):
            return np.stack([self.directions.leaf, self.directions.position])
        found = [(d.leaves[0], d.position) for d in self.directions if isinstance(d, Entry)]
        return np.array(found, int).reshape(-1, 2).T

    @cached_property
    def _simple(self) -> Array | None:
        """The numbers that move, where each line moves one in the working precision."""
        if isinstance(self.directions, Axes):
            return self.directions.numbers if self.directions.exact else None
        plain = all(isinstance(d, Entry) and d.x.dtype == d.dtype for d in self.directions)
        if not plain:
            return None
        return np.array([d.x for d in self.directions if isinstance(d, Entry)])


class Places:
    """Points some steps along lines, made when they are asked for.

    Attributes:
        finite: whether each lies within the range of its dtype.
    """

    def __init__(self, bundle: Bundle, leaves: Leaves, lines: Array, steps: Array) -> None:
        self._bundle = bundle
        self._leaves = leaves
        self._lines = lines
        self._steps = steps
        self._numbers = bundle.numbers(lines, steps)
        self.finite = self._finite()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, i: Any) -> Leaves:
        direction: Direction = self._bundle.directions[self._lines[i]]
        return direction.moved(self._leaves, self._steps[i])

    def each(self, chosen: Array) -> Iterator[Leaves]:
        """The chosen places, one after the other."""
        if self._numbers is None:
            yield from (self[i] for i in chosen)
            return
        leaves = self._leaves
        which, position = self._bundle.places[:, self._lines[chosen]].tolist()
        for k, at, number in zip(which, position, self._numbers[chosen], strict=True):
            changed = number
            if leaves[k].ndim:
                changed = np.array(leaves[k], order="C")
                changed.reshape(-1)[at] = number
            yield [changed] if len(leaves) == 1 else [*leaves[:k], changed, *leaves[k + 1 :]]

    @cached_property
    def _moved(self) -> Array:
        """For each place that differs in one number: which leaf holds it, and where."""
        return self._bundle.places[:, self._lines]

    def stacked(self, chosen: Array) -> Leaves:
        """The leaves of the chosen places, each with one more leading axis."""
        count = len(chosen)
        if self._numbers is None:
            places = [self[i] for i in chosen]
            return [np.stack([p[k] for p in places]) for k in range(len(self._leaves))]
        first, last = int(chosen[0]), int(chosen[-1])
        whole = last - first == count - 1  # then a view costs less than a copy
        part: Any = slice(first, last + 1) if whole else chosen
        (which, position), numbers = self._moved[:, part], self._numbers[part]
        stacked = []
        row = np.arange(count)
        for k, leaf in enumerate(self._leaves):
            block = np.empty((count, *leaf.shape), leaf.dtype)
            block[:] = leaf
            here = slice(None) if len(self._leaves) == 1 else which == k
            block.reshape(-1)[row[here] * leaf.size + position[here]] = numbers[here]
            stacked.append(block)
        return stacked

    def _finite(self) -> Array:
        if self._numbers is not None:
            finite: Array = np.isfinite(self._numbers)
            return finite
        found = [all(np.isfinite(leaf).all() for leaf in self[i]) for i in range(len(self))]
        return np.array(found, bool)


class Pairs(Places):
    """Points some steps along one line, and then some along another."""

    def __init__(
        self,
        bundles: tuple[Bundle, Bundle],
        leaves: Leaves,
        lines: Array,
        steps: tuple[Array, Array],
    ) -> None:
        self._first, self._second = bundles
        self._leaves = leaves
        self._lines = lines
        self._both = np.stack(steps, axis=1)
        self._steps = steps[0]
        self._numbers = None
        self.finite = self._finite()

    def __getitem__(self, i: Any) -> Leaves:
        pair, (a, b) = self._lines[i], self._both[i]
        leaves = self._first.directions[pair].moved(self._leaves, a) if a else self._leaves
        if b:
            leaves = self._second.directions[pair].moved(leaves, b)
        return leaves


def line(point: Point, tangents: Leaves, dtype: Any) -> tuple[Any, Direction]:
    """Return the length of a tangent in the maximum norm, and the line along it.

    A derivative along the line, times the length, is the derivative along the tangent.
    """
    high = [np.asarray(t).astype(dtype) for t in tangents]
    length = max(np.max(abs(t), initial=0) for t in high)
    moving = [(k, i) for k, t in enumerate(high) for i in np.flatnonzero(t)]
    if len(moving) > 1:
        return length, Ray(point, [t / length for t in high], dtype)
    k, i = moving[0]
    return high[k].reshape(-1)[i], Entry(point, k, int(i), dtype)
