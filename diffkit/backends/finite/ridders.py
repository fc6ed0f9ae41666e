"""Ridders' table as it is commonly printed: fixed contraction, one stopping rule, no doubts.

Ridders, "Accurate computation of F'(x) and F'(x)F''(x)", Adv. Eng. Softw. 4 (1982), with the
constants of Press et al., "Numerical Recipes", section 5.7. It is here to be compared with: its
estimate is the least of many differences, and often far too small.
"""

from __future__ import annotations

import numpy as np

from diffkit.backends.finite.limit import Limit
from diffkit.backends.finite.quotients import Quotient
from diffkit.structure import Array

FIRST_STEP = 0.1  # times max(|x|, 1)
CONTRACTION = 1.4
ROWS = 10
SAFE = 2.0  # times the least error: a row that changes by more is the last


def ridders(quotient: Quotient) -> Limit:
    """Return the entries of least estimated error of one table for each line and output."""
    shape, formula = quotient.eps.shape, quotient.formula
    dtype = quotient.sampler.dtype
    value, error = np.full(shape, np.nan, dtype), np.full(shape, np.inf, dtype)
    running = np.ones(shape, bool)
    above: list[Array] = []
    for row in range(ROWS):
        sample = quotient.exactly(dtype.type(FIRST_STEP / CONTRACTION**row), relative=True)
        if sample is None:
            break
        newest = [sample.value]
        if row == 0:
            value = newest[0]
        factor = 1.0
        for old in above:
            factor *= CONTRACTION**formula.power
            newest.append((newest[-1] * factor - old) / (factor - 1))
            doubt = np.maximum(abs(newest[-1] - newest[-2]), abs(newest[-1] - old))
            better = running & (doubt <= error)
            error, value = np.where(better, doubt, error), np.where(better, newest[-1], value)
        if row:
            running &= ~(abs(newest[-1] - above[-1]) >= SAFE * error)
        above = newest
        if not running.any():
            break
    status = np.where(np.isfinite(error), "converged", "domain")
    return Limit(value, error, np.zeros(shape, dtype), status)
