"""Sparse Jacobians: columns that share no row are found by one line together.

Curtis, Powell and Reid, "On the estimation of sparse Jacobian matrices", J. Inst. Maths
Applics 13 (1974).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.backends.finite.extrapolation import Limit
from diffkit.backends.finite.lines import Direction, line
from diffkit.errors import InvalidInput
from diffkit.structure import Array, Layout, Leaves
from diffkit.target import Point

GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Sparsity:
    """Which entries of a Jacobian may differ from zero.

    Attributes:
        rows: how many entries `f(x)` has.
        columns: how many `x` has.
        by_column: for each entry of `x` the entries of `f(x)` that depend on it.
    """

    rows: int
    columns: int
    by_column: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, pattern: Any) -> Sparsity:
        """Return the pattern of a matrix (an array, or sparse as SciPy has them).

        Raises:
            InvalidInput: it is not a matrix.
        """
        if isinstance(pattern, Sparsity):
            return pattern
        matrix = np.asarray(pattern.toarray() if hasattr(pattern, "toarray") else pattern)
        if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
            raise InvalidInput(
                "sparsity must be a matrix with a row for each entry of f(x) and a column for "
                f"each of x, true where one depends on the other, not of shape {matrix.shape}"
            )
        found = tuple(tuple(int(i) for i in np.flatnonzero(column)) for column in matrix.T)
        return cls(matrix.shape[0], matrix.shape[1], found)

    def colours(self) -> list[list[int]]:
        """Return groups of columns no two of which share a row, greedily, fullest first."""
        groups: list[list[int]] = []
        taken: list[set[int]] = []
        for column in sorted(range(self.columns), key=lambda j: -len(self.by_column[j])):
            rows = self.by_column[column]
            fit = next((g for g, used in enumerate(taken) if used.isdisjoint(rows)), len(groups))
            if fit == len(groups):
                groups.append([])
                taken.append(set())
            groups[fit].append(column)
            taken[fit].update(rows)
        return groups

    def require_shape(self, output: Layout, x: Layout) -> None:
        """Check the pattern against what is differentiated.

        Raises:
            InvalidInput: it has another shape.
        """
        if (self.rows, self.columns) != (output.size, x.size):
            raise InvalidInput(
                f"the sparsity pattern has shape {(self.rows, self.columns)}, and the Jacobian "
                f"has {(output.size, x.size)}"
            )


class Compression:
    """The lines along which a sparse Jacobian is sampled, and the way back."""

    def __init__(self, sparsity: Sparsity, point: Point, dtype: Any) -> None:
        self.sparsity = sparsity
        self._groups = sparsity.colours()
        wide = point.layout.ravel(point.leaves).astype(dtype)
        _, exponents = np.frexp(np.maximum(abs(wide), 1))
        self._speeds = np.ldexp(np.ones_like(wide), exponents - 1)
        self.lengths: list[Any] = []
        self.directions: list[Direction] = []
        for group in self._groups:
            length, direction = line(point, self._tangents(point.layout, group), dtype)
            self.lengths.append(length)
            self.directions.append(direction)

    def restored(self, found: Limit) -> Limit:
        """The limits along each entry of `x`, from those along the lines."""
        shape = (self.sparsity.columns, self.sparsity.rows)
        value, truncation, roundoff = (np.zeros(shape, found.value.dtype) for _ in range(3))
        status = np.full(shape, "converged", "U10")
        for i, (group, length) in enumerate(zip(self._groups, self.lengths, strict=True)):
            for j in group:
                rows, scale = list(self.sparsity.by_column[j]), length / self._speeds[j]
                value[j, rows] = found.value[i, rows] * scale
                truncation[j, rows] = found.truncation[i, rows] * scale
                roundoff[j, rows] = found.roundoff[i, rows] * scale
                status[j, rows] = found.status[i, rows]
        return Limit(value, truncation, roundoff, status)

    def _tangents(self, layout: Layout, group: list[int]) -> Leaves:
        speeds = np.zeros_like(self._speeds)
        speeds[group] = self._speeds[group]
        return _pieces(speeds, layout)


def general_tangents(layout: Layout, dtype: Any) -> Leaves:
    """Return a direction in which no two entries of `x` move alike."""
    golden = (GOLDEN * np.arange(1, layout.size + 1)) % 1
    speeds = (0.5 + golden).astype(dtype)
    return _pieces(speeds, layout)


def _pieces(vector: Array, layout: Layout) -> Leaves:
    """A vector cut into leaves of a layout's shapes."""
    ends = np.cumsum([leaf.size for leaf in layout.leaves])
    pieces = np.split(vector, ends[:-1])
    return [p.reshape(leaf.shape) for p, leaf in zip(pieces, layout.leaves, strict=True)]


def require_complete(matrix: Array, along: Array, doubt: Array, names: list[str]) -> None:
    """Check the product of a Jacobian with a direction against the derivative along it.

    Raises:
        InvalidInput: they differ: `f` depends on more than the pattern says.
    """
    wrong = ~(abs(matrix - along) <= doubt) & np.isfinite(along)
    if wrong.any():
        raise InvalidInput(
            f"{names[int(np.argmax(wrong))]} depends on entries of x that the sparsity pattern "
            "leaves out; complete the pattern, or leave it away"
        )
