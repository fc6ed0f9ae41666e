"""Which entries of a matrix may differ from zero, and groups of columns to be found together.

Columns of a Jacobian that share no row are found together, along one direction. Curtis, Powell
and Reid, "On the estimation of sparse Jacobian matrices", J. Inst. Maths Applics 13 (1974);
Gebremedhin, Manne and Pothen, "What color is your Jacobian?", SIAM Review 47 (2005).

A symmetric matrix shows each entry twice, so that columns may share a row if what is lost there
is seen elsewhere. Coleman and Moré, "Estimation of sparse Hessian matrices and graph coloring
problems", Mathematical Programming 28 (1984).
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

    @property
    def fullest_row(self) -> int:
        """How many entries the row has that has most."""
        return int(np.max(np.bincount(self.entries()[0]), initial=0))

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

    def symmetric_part(self) -> Sparsity:
        """Return the pattern of the entries that are there on both sides of the diagonal."""
        i, j = self.entries()
        both = np.isin(i * self.columns + j, j * self.columns + i)
        return Sparsity.of_entries(i[both], j[both], self.rows, self.columns)

    def star_colours(self) -> list[list[int]]:
        """Return groups of columns from whose sums a symmetric matrix of this pattern can be read.

        Joined entries of the diagonal are of different groups, and of four that are joined in a
        row at least three: then of any two groups the joined entries form stars, and what the
        hub's column hides the rim's columns show. Greedily, those joined to most first.
        """
        joined = [[i for i in rows if i != j] for j, rows in enumerate(self.by_column)]
        colouring = _StarColouring(joined)
        for v in sorted(range(self.columns), key=lambda v: -len(joined[v])):
            colouring.colour_next(v)
        groups: list[list[int]] = [[] for _ in range(max(colouring.colour, default=-1) + 1)]
        for v, colour in enumerate(colouring.colour):
            groups[colour].append(v)
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


class _StarColouring:
    """Colours for the vertices of a graph, such that no path of four vertices has but two.

    Attributes:
        colour: of each vertex; -1 if it has none yet.
    """

    def __init__(self, joined: list[list[int]]) -> None:
        count = len(joined)
        self.joined = joined
        self.colour = [-1] * count
        # Of each vertex, its neighbours by colour; and the colours of those neighbours that are
        # the hub of a star to whose rim it belongs.
        self._beside: list[dict[int, list[int]]] = [{} for _ in range(count)]
        self._hubs: list[set[int]] = [set() for _ in range(count)]

    def colour_next(self, v: int) -> None:
        forbidden = self._forbidden(v)
        colour = next(c for c in range(len(self.colour)) if c not in forbidden)
        self.colour[v] = colour
        for others in self._beside[v].values():
            if len(others) > 1:
                self._make_hub(v, others)
        for w in self.joined[v]:
            others = self._beside[w].setdefault(colour, [])
            others.append(v)
            if self.colour[w] >= 0 and len(others) > 1:
                self._make_hub(w, others if len(others) == 2 else [v])

    def _make_hub(self, hub: int, rim: list[int]) -> None:
        for v in rim:
            self._hubs[v].add(self.colour[hub])

    def _forbidden(self, v: int) -> set[int]:
        found: set[int] = set()
        for colour, others in self._beside[v].items():
            found.add(colour)
            for w in others:
                found |= self._hubs[w]  # v - w - hub - w'
                if len(others) > 1:
                    found.update(self._beside[w])  # w' - v - w - x
        return found
