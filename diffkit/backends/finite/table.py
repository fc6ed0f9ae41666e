"""Neville's table for many lines at once, with two doubts about every entry.

Neville's scheme for a polynomial in `h**power` (Richardson 1911; Ridders, "Accurate
computation of F'(x) and F'(x)F''(x)", Adv. Eng. Softw. 4, 1982), for any sequence of steps.
"""

from __future__ import annotations

import numpy as np

from diffkit.structure import Array

SIGNS = np.array([-1.0, 1.0]).reshape(2, 1, 1)  # values are extrapolated, doubts add up


def raised(both: Array, powers: Array, width: int) -> Array:
    """Return values and noise at step 0 of the polynomials through one row more.

    Args:
        both: values and noise of the polynomials through `width` successive rows each; their
            axes are row, line and entry.
        powers: the step of each row and line, to the power in which the polynomials are.
        width: how many rows there are now, less one, in each.
    """
    factor = 1 / (powers[:-width] / powers[width:] - 1)[..., np.newaxis]
    before, after = both[:, :-1], both[:, 1:]
    result: Array = after + (after + before * SIGNS[..., np.newaxis]) * factor
    return result


class Table:
    """The newest row, from few columns to many; every array has axes column, line, entry.

    Attributes:
        values: the entries of the row.
        noise: what rounding can have done to each.
        spread: how far each is from the entries that it should agree with.
    """

    def __init__(self, power: int, columns: int) -> None:
        self.power = power
        self.columns = columns
        self.values = self.noise = self.spread = self._above = np.zeros((0, 1, 1))
        self._steps: list[Array] = []
        self._signed = np.zeros((0, 2, 1, 1))

    @property
    def rows(self) -> int:
        return len(self._steps)

    def add(self, steps: Array, value: Array, noise: Array) -> None:
        """Append a row: a step for each line, value and noise for each line and entry."""
        depth = min(len(self._signed), self.columns)
        block = np.empty((depth + 1, 2, *value.shape), value.dtype)
        block[0, 0], block[0, 1] = value, noise
        if depth:
            older = np.array(self._steps[: -depth - 1 : -1])
            factors = 1 / ((older / steps) ** self.power - 1)
            for k, factor in enumerate(factors[:, :, np.newaxis]):
                new = np.add(block[k], self._signed[k], out=block[k + 1])
                new *= factor
                new += block[k]
        self._steps.append(steps)
        self._signed = block * SIGNS
        older_values, self._above, self.values = self._above, self.values, block[:, 0]
        self.noise = block[:, 1]
        self.spread = self._spread(older_values)

    def best(self, lines: int) -> tuple[Array, Array, Array, Array, Array]:
        """Value, spread, noise and column of each best entry; whether a spread is lost in noise.

        Args:
            lines: how many, the first ones, are asked for.
        """
        values, noises, spread = (a[:, :lines] for a in (self.values, self.noise, self.spread))
        error = spread + noises
        known = np.isfinite(error) & np.isfinite(values)
        choice = np.where(known, error, np.inf).argmin(axis=0)
        settled = ((spread <= noises) & known).any(axis=0)
        best = (choice, np.arange(lines)[:, np.newaxis], np.arange(values.shape[2]))
        noise = np.where(known[best], noises[best], np.inf)
        return values[best], spread[best], noise, choice, np.asarray(settled)

    def _spread(self, older: Array) -> Array:
        """The largest distance from each entry to those it should agree with.

        Those are its neighbours to the left, above, and above to the left. In the first and the
        last allowed column, where it is not the next one's accuracy that matters, they are the
        two above.
        """
        new, above = self.values, self._above
        spread = np.full(new.shape, np.inf)
        both = len(above)
        if both > 1:
            row, left = new[1:both], new[: both - 1]
            vertical = np.maximum(abs(row - above[1:]), abs(row - above[:-1]))
            np.maximum(vertical, abs(row - left), out=spread[1:both])
        for alone in {0, self.columns}:
            if len(new) > alone:
                spread[alone] = np.inf
            if len(older) > alone:
                near, far = abs(new[alone] - above[alone]), abs(new[alone] - older[alone])
                np.maximum(near, far, out=spread[alone])
        return spread
