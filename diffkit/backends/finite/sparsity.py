"""Sparse Jacobians: columns that share no row are found by one line together.

Curtis, Powell and Reid, "On the estimation of sparse Jacobian matrices", J. Inst. Maths
Applics 13 (1974).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.backends.finite.limit import Limit
from diffkit.backends.finite.lines import Direction, line
from diffkit.errors import InvalidInput
from diffkit.sparsity import Sparsity
from diffkit.structure import Array, Layout, Leaves
from diffkit.target import Point

GOLDEN = 0.6180339887498949


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
