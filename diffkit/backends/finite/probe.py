"""A look at `f` from close by: how much noise its values have, and the slope right here.

The noise of a function shows in a table of differences of values at equal, small steps: what
is smooth falls out of the high differences, and noise does not (Hamming 1971; Moré and Wild,
"Estimating computational noise", SIAM J. Sci. Comput. 33, 2011). The same five values tell
whether the slope seen from afar is the slope here, or whether the graph turns a corner here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffkit.backends.finite.limit import some
from diffkit.backends.finite.quotients import LineQuotient, within_budget
from diffkit.structure import Array

SAFETY = 3.0  # times the standard deviation seen
CLEAR = 64.0  # how far above its noise a quantity must be to be believed
LASTING = 0.1  # relative change between two steps of what does not depend on the step
EVALUATIONS = 4
LOOKS = 3  # how often the level of noise is looked for
NOISE = 1.5  # times the usual noise above which more than rounding is at work
WIDEN = 64.0  # by how much the steps grow where no change at all is seen
CLOSER = 8.0  # by how much they shrink to tell noise and corners from steps that are too long
WIDER = 3  # how often the steps may grow
SEVERAL = 3  # lines that together tell the noise of each


@dataclass(frozen=True)
class Probe:
    """What five values in a row say, for each line and entry of the output.

    Attributes:
        noise: the level of noise in single values, no less than along most lines.
        usual: the level that rounding of the value and of the argument explains.
        slope: the difference quotient over the whole width.
        slack: how far the derivative may be from it.
        corner: the slope ahead minus the slope behind where that is lasting, else zero.
        jump: the step of `f` itself where that is lasting, else zero.
        blind: whether all values were equal, so that nothing is known of the noise.
        width: the distance from the first value to the last.
        seen: whether all values were finite.
        made: for each line whether it was looked at.
    """

    noise: Array
    usual: Array
    slope: Array
    slack: Array
    corner: Array
    jump: Array
    blind: Array
    width: Array
    seen: Array
    made: Array


def probe(
    quotient: LineQuotient,
    steps: Array,
    chosen: Array,
    expected: Array,
    doubt: Array,
    longest: Array,
) -> Probe:
    """Return what is seen along the chosen lines from close by.

    What looks like noise, a corner or a jump must look the same from closer still. Where `f` is
    rounded so coarsely that it does not change at all, the steps grow.

    Args:
        quotient: whose lines and sides are used.
        steps: for each line the distance between two of the values.
        chosen: the lines to look at.
        expected: the slope believed so far, for each line and entry.
        doubt: how far that may be off.
        longest: for each line the longest step that is still close.
    """
    seen = _look(quotient, steps, chosen)
    for _ in range(WIDER):
        hidden = seen.blind & (abs(expected) * steps[:, np.newaxis] > CLEAR * seen.usual)
        again = chosen & hidden.any(axis=1) & (steps * WIDEN < longest)
        if not some(again):
            break
        steps = np.where(again, steps * WIDEN, steps)
        seen = _where(again, _look(quotient, steps, again), seen)
    strange = (seen.noise > seen.usual * NOISE) | (seen.corner != 0)
    strange |= abs(seen.slope - expected) > seen.slack + doubt
    doubtful = chosen & (strange & seen.seen).any(axis=1)
    if some(doubtful):
        closer = _look(quotient, steps / CLOSER, doubtful)
        seen = _where(doubtful & closer.made, _confirmed(seen, closer), seen)
    hidden = seen.blind & (abs(expected) * steps[:, np.newaxis] > CLEAR * seen.usual)
    unseen = np.where(hidden, 4 * abs(expected) * steps[:, np.newaxis], 0)
    return replace(seen, noise=np.maximum(seen.noise, unseen), blind=hidden)


def noise_level(quotient: LineQuotient) -> Array:
    """Return the level of noise in single values, for each line and entry of the output."""
    eps = quotient.eps.max(axis=1, initial=0.0)
    steps = np.maximum(eps**0.4 * quotient.unit, 1024 * eps * quotient.lines.size)
    everywhere = np.ones(len(steps), bool)
    noise = _look(quotient, steps, everywhere).noise
    for times in range(1, LOOKS):
        closer = _look(quotient, steps / CLOSER**times, everywhere)
        lucky = closer.blind | (closer.noise < noise / CLOSER**5)
        noise = np.where(lucky, noise, closer.noise)
    return np.asarray(np.maximum(noise, quotient.eps * abs(quotient.sampler.center)))


def _confirmed(seen: Probe, closer: Probe) -> Probe:
    """What is seen at both distances. Noise stays; what is due to the steps shrinks with them."""

    def lasting(far: Array, near: Array) -> Array:
        return np.where(abs(far - near) <= LASTING * abs(far), far, 0)

    corner, jump = lasting(seen.corner, closer.corner), lasting(seen.jump, closer.jump)
    lucky = closer.blind | (closer.noise < seen.noise / CLOSER**5)  # no power of the step
    noise = np.where(lucky, seen.noise, closer.noise)
    better = closer.seen & ~lucky & (closer.noise < seen.noise / CLOSER)
    slack = np.where(better, closer.slack, np.maximum(seen.slack, 8 * noise / seen.width))
    apart = abs(seen.slope - closer.slope)
    scattered = ~better & ~closer.blind & (apart > slack + closer.slack)
    noise = np.where(scattered, np.maximum(noise, apart * closer.width), noise)
    slack = np.where(scattered, slack + CLOSER * apart, slack)
    change = abs(seen.slope) * seen.width
    stepped = closer.blind & closer.seen & (change > CLEAR * seen.usual)  # rounded more coarsely
    noise = np.where(stepped, np.maximum(noise, change / 2), noise)
    slack = np.where(stepped, np.inf, slack)
    return replace(
        seen,
        noise=np.where(jump != 0, np.maximum(noise, abs(jump)), noise),
        corner=corner,
        jump=jump,
        slope=np.where(better, closer.slope, seen.slope),
        slack=np.where(jump != 0, np.inf, slack),
    )


def _look(quotient: LineQuotient, steps: Array, chosen: Array) -> Probe:
    """What five values in a row say, along the chosen lines."""
    nodes = _nodes(quotient)
    steps = abs(quotient.lines.landed(steps))
    offsets = quotient.lines.landed(steps[:, np.newaxis] * nodes)
    made = within_budget(quotient.sampler, chosen, np.full(len(steps), EVALUATIONS))
    y = np.moveaxis(quotient.values(offsets, made), 1, 0)
    width = abs(offsets[:, 4] - offsets[:, 0])[:, np.newaxis]
    slope = (y[4] - y[0]) / (offsets[:, 4] - offsets[:, 0])[:, np.newaxis]
    largest = abs(y).max(axis=0)
    argument = abs(slope) * quotient.lines.size[:, np.newaxis] / 2
    usual = quotient.eps * (largest + argument) + quotient.sampler.underflow
    fourth = abs(y[0] - 4 * y[1] + 6 * y[2] - 4 * y[3] + y[4]) / np.sqrt(70)
    central = bool(nodes[0] < 0)
    third = _third(y, central=central)
    corner = _corner(y, np.maximum(third, usual)) & central
    noise = _common(SAFETY * np.where(corner, third, np.maximum(third, fourth)))
    bend = 0.0 if central else abs(y[4] - 2 * y[2] + y[0])
    slack = (8 * np.maximum(noise, usual) + 4 * bend) / width
    near, far = y[3] - y[1], y[4] - y[0]
    jumping = (abs(far - near) <= LASTING * abs(near)) & central & (abs(near) > CLEAR * usual)
    return Probe(
        noise,
        usual,
        slope,
        slack,
        corner=np.where(corner, (y[3] - 2 * y[2] + y[1]) / steps[:, np.newaxis], 0),
        jump=np.where(jumping, near, 0),
        blind=np.all(y == y[0], axis=0),
        width=np.broadcast_to(width, slope.shape),
        seen=np.asarray(np.isfinite(y).all(axis=0)),
        made=made,
    )


def _common(noise: Array) -> Array:
    """The noise along each line, or that along most: a few values may by chance show little."""
    known = noise[np.isfinite(noise).all(axis=1)]
    if len(known) < SEVERAL:
        return noise
    return np.asarray(np.maximum(noise, np.median(known, axis=0)))


def _where(lines: Array, new: Probe, old: Probe) -> Probe:
    """What was seen later along some lines, and what was seen before along the others."""
    chosen = lines[:, np.newaxis]
    names = ("noise", "usual", "slope", "slack", "corner", "jump", "blind", "width", "seen")
    merged = {n: np.where(chosen, getattr(new, n), getattr(old, n)) for n in names}
    return replace(old, **merged)


def _nodes(quotient: LineQuotient) -> Array:
    """Five nodes in a row, on the sides that the stencil of the quotient uses."""
    used = quotient.formula.nodes
    if min(used) < 0 < max(used):
        return np.arange(-2.0, 3.0)
    return np.arange(5.0) * (1 if max(used) > 0 else -1)


def _third(y: Array, *, central: bool) -> Array:
    """The size of third differences, in units of the deviation of one value."""
    if central:
        return np.asarray(abs(y[4] - 2 * y[3] + 2 * y[1] - y[0]) / np.sqrt(10))
    both = abs(y[3:] - 3 * y[2:-1] + 3 * y[1:-2] - y[:-3])
    return np.asarray(both.max(axis=0) / np.sqrt(20))


def _corner(y: Array, noise: Array) -> Array:
    """Whether the even part grows in proportion to the step, as only a corner's does."""
    near, far = y[3] - 2 * y[2] + y[1], y[4] - 2 * y[2] + y[0]
    lasting = abs(far - 2 * near) <= LASTING * abs(near)
    return np.asarray(lasting & (abs(near) > CLEAR * noise))
