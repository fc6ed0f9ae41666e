"""Values of `f` around a point, and the straight lines along which they are taken.

Results are in a working precision at least that of float64; what `f` sees has the dtype of
its own leaves.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from diffkit.errors import InvalidOutput, TracingError
from diffkit.structure import Array, Layout, Leaves, is_traced
from diffkit.target import Output, Point, Target

OUTSIDE_THE_DOMAIN = (ValueError, ArithmeticError)


@dataclass
class Tally:
    """How many times `f` was called."""

    evaluations: int = 0


class Sampler:
    """`f` around one point, as a vector of all entries of its output.

    A sample is NaN where `f` is not defined: that is also what an exception means that the
    standard library's mathematics raises outside a domain, if `f` is defined at the point
    itself. Its `refusal` keeps the first of them. `underflow` is the absolute rounding error
    that each entry of the output has, however small it is.
    """

    def __init__(self, target: Target, point: Point, tally: Tally) -> None:
        self.target = target
        self.point = point
        self.tally = tally
        self.refusal: Exception | None = None
        self.tally.evaluations += 1
        self.output: Output = target.evaluate(point.layout, point.leaves, point.data)
        if any(is_traced(leaf) for leaf in self.output.leaves):
            raise TracingError(
                f"{target.name} returned a value that is being traced: through finite differences "
                "its derivative would be lost; inside a differentiated function use backend='tape'"
            )
        self.dtype = np.result_type(
            np.float64,
            *(leaf.dtype for leaf in point.layout.leaves),
            *(leaf.dtype for leaf in self.output.layout.leaves),
        )
        self.center = self._ravel(self.output)
        self._output_eps = np.concatenate(
            [np.zeros(0), *(np.full(x.size, _eps(x.dtype)) for x in self.output.layout.leaves)]
        )
        self.underflow = np.concatenate(
            [np.zeros(0), *(np.full(x.size, _least(x.dtype)) for x in self.output.layout.leaves)]
        )

    def eps(self, leaves: tuple[int, ...]) -> Array:
        """The relative rounding error of each entry of the output, when those leaves move."""
        moved = max((_eps(self.point.layout.leaves[k].dtype) for k in leaves), default=0.0)
        return np.asarray(np.maximum(self._output_eps, moved))

    def at(self, leaves: Leaves) -> Array:
        """The output at other leaves, without a warning about what lies outside the domain.

        Raises:
            InvalidOutput: `f` returns another structure there than at the point.
        """
        if not all(np.isfinite(leaf).all() for leaf in leaves):
            return np.full_like(self.center, np.nan)
        self.tally.evaluations += 1
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                output = self.target.evaluate(self.point.layout, leaves, self.point.data)
        except OUTSIDE_THE_DOMAIN as error:
            self.refusal = self.refusal or error
            return np.full_like(self.center, np.nan)
        require_same_layout(self.target, self.output.layout, output.layout)
        return self._ravel(output)

    def _ravel(self, output: Output) -> Array:
        return output.layout.ravel(output.leaves).astype(self.dtype)


def require_same_layout(target: Target, expected: Layout, got: Layout) -> None:
    """Refuse a function whose output changes its structure from point to point."""
    shapes = [leaf.shape for leaf in got.leaves]
    if got.nesting != expected.nesting or shapes != [leaf.shape for leaf in expected.leaves]:
        raise InvalidOutput(
            f"{target.name} returned {expected.summary()} at x and {got.summary()} nearby; a "
            "function whose output changes its shape has no derivative"
        )


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
        """The step that was really made, after rounding."""


class Entry:
    """The line along one entry of one leaf: a step is a change of that number."""

    def __init__(self, point: Point, leaf: int, position: int, dtype: Any) -> None:
        self.leaves: tuple[int, ...] = (leaf,)
        self.position = position
        self.x = np.ravel(point.leaves[leaf])[position]
        self.dtype = dtype
        size = abs(self.x.astype(dtype))
        self.unit = np.maximum(size, 1)
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
        changed.reshape(-1)[self.position] = self._rounded(step)
        return [changed if i == k else leaf for i, leaf in enumerate(leaves)]

    def landed(self, step: Any) -> Any:
        return self._rounded(step).astype(self.dtype) - self.x.astype(self.dtype)

    def _rounded(self, step: Any) -> Any:
        with np.errstate(over="ignore"):
            return (self.x.astype(self.dtype) + step).astype(self.x.dtype)


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


def _least(dtype: Any) -> Any:
    return np.finfo(dtype).smallest_subnormal


def _eps(dtype: Any) -> float:
    return float(np.finfo(dtype).eps)


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


def entries(point: Point, dtype: Any) -> list[Direction]:
    """Return the line along each entry of `x`, in the order of its names."""
    return [
        Entry(point, k, i, dtype)
        for k, leaf in enumerate(point.layout.leaves)
        for i in range(leaf.size)
    ]
