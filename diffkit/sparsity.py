"""Which entries of a matrix may differ from zero, and groups of columns that share no row.

Columns of a Jacobian that share no row are found together, along one direction. Curtis, Powell
and Reid, "On the estimation of sparse Jacobian matrices", J. Inst. Maths Applics 13 (1974);
Gebremedhin, Manne and Pothen, "What color is your Jacobian?", SIAM Review 47 (2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.structure import Layout


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
        i, j = np.nonzero(matrix)
        return cls.of_entries(i, j, *matrix.shape)

    @classmethod
    def of_entries(cls, i: Any, j: Any, rows: int, columns: int) -> Sparsity:
        """Return the pattern of the entries (i, j) of a matrix of the given size."""
        order = np.lexsort((i, j))
        ends = np.searchsorted(np.asarray(j)[order], np.arange(1, columns))
        parts = np.split(np.asarray(i)[order], ends) if columns else []
        return cls(rows, columns, tuple(tuple(part.tolist()) for part in parts))

    def entries(self) -> tuple[Any, Any]:
        """Return the rows and the columns of the entries, column by column."""
        i = np.array([row for rows in self.by_column for row in rows], np.intp)
        return i, np.repeat(np.arange(self.columns), [len(rows) for rows in self.by_column])

    def transposed(self) -> Sparsity:
        """Return the pattern with rows and columns exchanged."""
        i, j = self.entries()
        return Sparsity.of_entries(j, i, self.columns, self.rows)

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
