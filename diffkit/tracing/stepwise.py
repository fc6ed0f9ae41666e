"""Linear algebra over SymPy expressions in which every step is defined as it is taken.

SymPy's own elimination nests each entry in those before it, and its tree grows exponentially.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import sympy as sp

from diffkit.errors import ExpressionTooLarge
from diffkit.tracing.shared_expressions import Expression, Shared

SHORT: Final = 4  # rows; of so few, determinants and adjugates are written out without division
LONGEST_WITHOUT_DIVISION: Final = 9  # seconds; each row more doubles them
SMALLEST_PIVOT: Final = 1e-8  # of the largest; below it a determinant is taken without division


class Stepwise:
    """SymPy's functions, with matrices that share their steps.

    Attributes:
        shared: where the steps are defined.
        values: what the entries were at the recording; the pivots are chosen by them.
        has_pivots: whether a matrix was eliminated.
    """

    def __init__(self, shared: Shared, values: Mapping[Expression, float]) -> None:
        self.shared = shared
        self.values = values
        self.has_pivots = False

    def __getattr__(self, name: str) -> Any:
        return getattr(sp, name)

    def Matrix(self, rows: int, columns: int, entries: Sequence[Expression]) -> Any:  # noqa: N802
        """A matrix as SymPy's, one of many rows with elimination step by step."""
        if rows <= SHORT:
            return sp.Matrix(rows, columns, entries)
        return _Matrix(self, rows, columns, entries)


class _Matrix:
    """A matrix whose determinant and systems are computed by elimination."""

    def __init__(
        self, steps: Stepwise, rows: int, columns: int, entries: Sequence[Expression]
    ) -> None:
        self.steps = steps
        self.shape = rows, columns
        self.rows = [list(entries[i * columns : (i + 1) * columns]) for i in range(rows)]

    def det(self, method: str) -> Expression:
        """The determinant: the product of the pivots, or `method` where one nearly vanishes."""
        rows, pivots, sign = self._eliminated([[] for _ in self.rows])
        if min(pivots[:-1]) <= SMALLEST_PIVOT * max(pivots):
            return self._without_division(method)
        product = sp.Integer(sign)
        for k, row in enumerate(rows):
            product = self.steps.shared.define(product * row[k])
        return product

    def _without_division(self, method: str) -> Expression:
        if len(self.rows) > LONGEST_WITHOUT_DIVISION:
            raise ExpressionTooLarge(
                f"the determinant of a nearly singular matrix of {len(self.rows)} rows has no "
                f"short formula (at most {LONGEST_WITHOUT_DIVISION} rows are written without "
                "division); use backend='tape'"
            )
        flat = [entry for row in self.rows for entry in row]
        return sp.Matrix(*self.shape, flat).det(method=method)

    def LUsolve(self, right: _Matrix) -> list[Expression]:  # noqa: N802
        """The solution, row by row."""
        define = self.steps.shared.define
        n, width = self.shape[0], right.shape[1]
        rows, _, _ = self._eliminated(right.rows)
        solution: list[list[Expression]] = [[] for _ in rows]
        for i in reversed(range(n)):
            for j in range(width):
                rest = rows[i][n + j]
                for k in range(i + 1, n):
                    rest = define(rest - define(rows[i][k] * solution[k][j]))
                solution[i].append(define(rest / rows[i][i]))
        return [entry for row in solution for entry in row]

    def _eliminated(
        self, right: Sequence[Sequence[Expression]]
    ) -> tuple[list[list[Expression]], list[float], int]:
        """The upper triangle beside the right-hand sides, the sizes of the pivots, and a sign."""
        self.steps.has_pivots = True
        define = self.steps.shared.define
        rows = [[*row, *beside] for row, beside in zip(self.rows, right, strict=True)]
        known = [[self._value(entry) for entry in row] for row in self.rows]
        numbers = np.array(known, np.float64)
        sign, pivots = 1, []
        for k in range(len(rows)):
            largest = k + int(np.argmax(np.abs(numbers[k:, k])))
            if largest != k:
                rows[k], rows[largest] = rows[largest], rows[k]
                numbers[[k, largest]] = numbers[[largest, k]]
                sign = -sign
            pivots.append(abs(float(numbers[k, k])))
            if not pivots[-1]:
                continue
            for i in range(k + 1, len(rows)):
                if rows[i][k].is_zero:
                    continue
                factor = define(rows[i][k] / rows[k][k])
                numbers[i] -= numbers[i, k] / numbers[k, k] * numbers[k]
                for j in range(k + 1, len(rows[i])):
                    rows[i][j] = define(rows[i][j] - define(factor * rows[k][j]))
        return rows, pivots, sign

    def _value(self, entry: Expression) -> float:
        return float(entry) if entry.is_number else self.steps.values[entry]
