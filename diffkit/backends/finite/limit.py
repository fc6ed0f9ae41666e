"""What is found of a derivative: its value, its error in two parts, and a status."""

from __future__ import annotations

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
