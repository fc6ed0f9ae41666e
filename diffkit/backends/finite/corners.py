"""Whether a higher derivative differs on the two sides of the point.

A central difference of an even function is blind to that: the second derivative of x*|x| at 0
is -2 on one side and 2 on the other, and every central difference of it is 0.
"""

from __future__ import annotations

import math

import numpy as np

from diffkit.backends.finite.probe import LASTING
from diffkit.backends.finite.quotients import LineQuotient, MixedQuotient, within_budget
from diffkit.structure import Array

CLOSER = 4.0  # between the two steps at which the sides are compared
QUADRANTS = np.array([(i, j) for i in (-1.0, 0.0, 1.0) for j in (-1.0, 0.0, 1.0)])
INSIDE = 8.0  # how much closer quadrants are looked at: what is smooth is nearly level there
CLEAR = 8.0  # how far above its noise a difference of the sides must be


def corners(quotient: LineQuotient, steps: Array, chosen: Array) -> tuple[Array, Array]:
    """Return how much the derivative ahead exceeds that behind, and which lines were looked at.

    The difference of the one-sided quotients of a smooth function shrinks with the step. Where
    it does not shrink it is returned, for each line and entry of the output; infinity where that
    is so of a lower derivative already, and elsewhere zero.

    Args:
        quotient: of a central stencil for a derivative of order two or more.
        steps: for each line a step at which its quotient is good.
        chosen: the lines to look at.
    """
    count = 4 * quotient.derivative
    made = within_budget(quotient.sampler, chosen, np.full(len(steps), count))
    far, _ = _differences(quotient, steps, made)
    near, noise = _differences(quotient, steps / CLOSER, made)
    lasting = (abs(near) >= (1 - LASTING) * abs(far)) & (abs(near) > CLEAR * noise)
    jump = np.where(lasting[-1], near[-1], 0)
    return np.where(lasting[:-1].any(axis=0), np.inf, jump), made


def mixed_corners(quotient: MixedQuotient, steps: Array, chosen: Array) -> tuple[Array, Array]:
    """Return how far the mixed derivatives of the four quadrants are apart, and where it was seen.

    The arguments are those of `corners`; so is what a smooth function gives. Along both lines
    y |x| is smooth at 0, and a central difference of its mixed derivative is 0, not -1 or 1.
    """
    counts = np.full(len(steps), 2 * (len(QUADRANTS) - 1))
    made = within_budget(quotient.sampler, chosen, counts)
    far, _ = _apart(quotient, steps / INSIDE, made)
    near, noise = _apart(quotient, steps / (INSIDE * CLOSER), made)
    lasting = (near >= (1 - LASTING) * far) & (near > CLEAR * noise)
    return np.where(lasting, near, 0), made


def _apart(quotient: MixedQuotient, steps: Array, made: Array) -> tuple[Array, Array]:
    """The range of the quotients of the four quadrants, and what rounding makes of it."""
    a, b = quotient.landed(steps)
    y = np.moveaxis(quotient.values(QUADRANTS, a, b, made), 1, 0)
    at = {(int(i), int(j)): values for (i, j), values in zip(QUADRANTS, y, strict=True)}
    area = (a * b)[:, np.newaxis]
    quotients = [
        (at[i, j] - at[i, 0] - at[0, j] + at[0, 0]) / (i * j * area)
        for i in (-1, 1)
        for j in (-1, 1)
    ]
    level = quotient.eps * abs(y).max(axis=0) + quotient.floor
    return np.ptp(np.array(quotients), axis=0), 8 * level / abs(area)


def _differences(quotient: LineQuotient, steps: Array, made: Array) -> tuple[Array, Array]:
    """Quotients ahead minus those behind, of each order up to the derivative's; their noise."""
    d = quotient.derivative
    steps = abs(quotient.lines.landed(steps))
    offsets = quotient.lines.landed(steps[:, np.newaxis] * np.arange(-d, d + 1))
    y = np.moveaxis(quotient.values(offsets, made), 1, 0)
    found, noise = [], []
    for order in range(1, d + 1):
        terms = _weights(order, d)[:, np.newaxis, np.newaxis] * y
        scale = steps[:, np.newaxis] ** order
        found.append(terms.sum(axis=0) / scale)
        noise.append(quotient.eps * abs(terms).sum(axis=0) / scale)
    return np.array(found), np.array(noise)


def _weights(order: int, reach: int) -> Array:
    """Those of the forward difference of an order less those of the backward difference."""
    forward = [(-1) ** (order - k) * math.comb(order, k) for k in range(order + 1)]
    weights = np.zeros(2 * reach + 1)
    weights[reach : reach + order + 1] += forward
    weights[reach - order : reach + 1] -= forward
    return weights
