"""What is found of a derivative: its value, its error in two parts, and a status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffkit.structure import Array


def some(flags: Array) -> bool:
    """Whether any is set; a fraction of the cost of `flags.any()` where they are few."""
    return bool(np.count_nonzero(flags))


@dataclass(frozen=True)
class Limit:
    """What extrapolation found, first axis the line, second the entry of the output.

    Attributes:
        value: the derivative; infinite where the quotient grows like a power of 1/h.
        truncation: how far it may be off because steps are not zero.
        roundoff: how far it may be off because values of `f` are rounded, or noisy.
        status: `converged`, `noisy`, `kink` or `unresolved`, or `domain` where no quotient was
            finite.
        step: for each line the step at which its last entry found its best; None where it was
            not of the method's own choice.
        floor: the noise in values of `f` beyond their rounding, where it was looked for.
    """

    value: Array
    truncation: Array
    roundoff: Array
    status: Array
    step: Array | None = None
    floor: Array | None = None

    @property
    def error(self) -> Array:
        """The estimate of the absolute error."""
        return np.asarray(self.truncation + self.roundoff)

    def chosen(self, lines: Array) -> Limit:
        """What was found along some of the lines."""
        return Limit(**{name: getattr(self, name)[lines] for name in _FIELDS if self._has(name)})

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None


_FIELDS = ("value", "truncation", "roundoff", "status", "step", "floor")


def joined(parts: Sequence[tuple[Array, Limit]]) -> Limit:
    """Return what was found along all lines, from parts with the numbers of their lines."""
    order = np.argsort(np.concatenate([lines for lines, _ in parts]))
    found = [limit for _, limit in parts]
    names = [name for name in _FIELDS if all(limit._has(name) for limit in found)]
    return Limit(**{n: np.concatenate([getattr(f, n) for f in found])[order] for n in names})
