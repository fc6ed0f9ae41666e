"""Many lines at the price of few: what a few of them show suffices for nearly all.

A whole ladder of steps finds what a line needs, and most lines of one function need the same.
So some lines, the pilots, are followed in full. They tell which few steps would have been enough:
where the first terms that are left out are lost in rounding. The other lines take those steps
alone, and where their own terms do not fall like those of the pilots they are followed in full
too. In the end the slopes found must give the slope along directions in which all move at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffkit.backends.finite.extrapolation import CONTRACTION, FIRST_STEP, limit
from diffkit.backends.finite.limit import Limit, joined
from diffkit.backends.finite.lines import Axes, line
from diffkit.backends.finite.quotients import LineQuotient, Sample
from diffkit.backends.finite.refinement import best_run
from diffkit.backends.finite.sparsity import GOLDEN
from diffkit.backends.finite.table import raised
from diffkit.structure import Array

MANY = 256  # lines from which on pilots pay
PILOTS = 12
ENOUGH = 0.75  # part of the pilots for which a plan must hold
NEARLY_ALL = 0.9  # part of them for which its terms left out must be lost in rounding
DEEPEST = 15  # steps at which pilots look at most
AT_ONCE = 5  # of them in one batch
WIDEST = 3  # columns of the table
LOSS = 32.0  # how far the estimate may exceed that of the whole ladder: of digits it is one
LATELY = 3  # windows over which they are compared with those that are left out
SAFETY = 8.0  # times the terms left out that pilots show
HIDDEN = 8.0  # times the rounding error that terms left out may be
UNLIKE = 8.0  # times the pilots' ratio of terms that a line may have
TRIES = 3  # how often a line is looked at, each time a step closer
TOGETHER = 3.0  # times the root of the sum of squares that errors may sum up to
TURNS = 3  # of an iteration that converges at once
DIRECTIONS = 2  # in which all slopes are checked together


@dataclass(frozen=True)
class Outlook:
    """The polynomials through a few successive steps; each array has axes window, line, entry.

    Attributes:
        value, noise: at step 0, and what rounding can have done to it.
        ratio: of the last term to the first, per power of the step; NaN where all are noise.
        omitted: the terms left out, as that ratio has them: to a factor.
    """

    value: Array
    noise: Array
    ratio: Array
    omitted: Array

    def at_least(self, usual: Array, unit: Array) -> Outlook:
        """The same for lines whose terms may have vanished by chance.

        Args:
            usual: by how much a unit step changes `f` beyond the terms kept, along most lines.
            unit: that step of each line.
        """
        return replace(self, omitted=np.maximum(self.omitted, usual / unit[:, np.newaxis]))


@dataclass(frozen=True)
class Plan:
    """The steps that would have been enough for the pilots, and how to judge others by them.

    Attributes:
        step: the longest one, in units of each line.
        rows: how many.
        factor: times `Outlook.omitted`, the truncation error.
        steepest: the largest `Outlook.ratio` for which that was seen.
        usual: by how much a unit step changes each entry of `f` beyond the terms kept.
        floor: the noise in values of `f`, for each entry, beyond their rounding.
        reached: the step at which the whole ladder ends, in units of each line.
    """

    step: float
    rows: int
    factor: float
    steepest: float
    usual: Array
    floor: Array
    reached: float


def suitable(quotient: LineQuotient, columns: int) -> bool:
    """Return whether lines are many, single entries of `x`, and of central first derivatives."""
    central = quotient.formula.nodes == (-1, 1) and quotient.derivative == 1
    many = len(quotient.unit) >= MANY and isinstance(quotient.lines.directions, Axes)
    return many and central and columns > 0 and 0 not in quotient.eps.shape


def limits(quotient: LineQuotient, columns: int) -> Limit:
    """Return the limits of `suitable` quotients, most of them by the plan of a few.

    Args:
        quotient: of all lines.
        columns: how many a table may have at most.
    """
    count = len(quotient.unit)
    pilots = np.unique((GOLDEN * np.arange(PILOTS) % 1 * count).astype(int))
    others = np.setdiff1d(np.arange(count), pilots)
    leading, meter = quotient.along(pilots), quotient.sampler.meter
    meter.within(0, count)
    known = limit(leading, columns)
    parts: list[tuple[Array, Limit]] = []
    left = others
    meter.within(len(pilots), count)
    if (plan := _plan(leading, known, min(columns, WIDEST))) is not None:
        parts, left = _carried_out(plan, quotient, others)
        if parts and not _confirmed(
            plan, quotient.along(np.setdiff1d(others, left)), joined(parts)
        ):
            parts, left = [], others
    if len(left):
        meter.within(count - len(left), count)
        parts.append((left, limit(quotient.along(left), columns)))
    meter.within(0, 0)
    return joined([(pilots, known), *parts])


# ------------------------------------------------------------------ what the pilots show


def _plan(quotient: LineQuotient, known: Limit, widest: int) -> Plan | None:
    """The fewest steps that would have been enough for most pilots, or None."""
    good = (known.status == "converged").all(axis=1)
    if np.mean(good) < ENOUGH or known.floor is None or known.step is None:
        return None
    moving = np.where(known.error[good] > 0, known.floor[good], np.nan)
    floor = np.nan_to_num(np.nanpercentile(moving, 75, axis=0))
    reached = float(np.median(known.step[good] / quotient.unit[good]))
    samples = _ladder(quotient, known, floor)
    unit, value, error = quotient.unit[good], known.value[good], known.error[good]
    for width in range(1, min(widest, len(samples) - 1) + 1):
        seen = _outlook(samples, floor, quotient.power, width, good)
        usual = np.nanmedian(seen.omitted * unit[:, np.newaxis], axis=1, keepdims=True)
        seen = seen.at_least(np.nan_to_num(usual), unit)
        factor = _factor(seen, value, error)
        truncation = factor[:, np.newaxis, np.newaxis] * seen.omitted
        lost = (~(truncation > HIDDEN * seen.noise)).all(axis=2).mean(axis=1) >= NEARLY_ALL
        loss = np.nanmedian((truncation + seen.noise) / error, axis=(1, 2))
        row = int(np.where(lost, loss, np.inf).argmin())
        if lost[row] and loss[row] <= LOSS:
            step, steepest = FIRST_STEP / CONTRACTION**row, float(np.nanmax(seen.ratio[row]))
            bound = np.nan_to_num(usual[row, 0])
            return Plan(step, width + 1, float(factor[row]), steepest, bound, floor, reached)
    return None


def _ladder(quotient: LineQuotient, known: Limit, floor: Array) -> list[Sample]:
    """Samples of the pilots at one step after the other, until rounding hides the last terms."""
    samples: list[Sample] = []
    while len(samples) < DEEPEST:
        samples += _rows(quotient, FIRST_STEP / CONTRACTION ** len(samples), AT_ONCE)
        far, near = samples[-2:]
        powers = np.array([far.steps, near.steps]) ** quotient.power
        noises = [s.noise + floor * s.gain for s in (far, near)]
        (value,), (noise,) = raised(np.array([[far.value, near.value], noises]), powers, 1)
        hidden = abs(value - known.value) <= noise / 2
        if np.mean(hidden.all(axis=1)) >= ENOUGH:
            break
    return samples


def _rows(quotient: LineQuotient, step: float, count: int) -> list[Sample]:
    """Samples at successive steps from one on, in units of each line; evaluated together."""
    lines = len(quotient.unit)
    each = quotient.along(np.tile(np.arange(lines), count))
    powers = np.repeat(np.arange(count), lines)
    found = each.sampled(step / CONTRACTION**powers * each.unit, np.ones(len(powers), bool))
    return [found.chosen(powers == row) for row in range(count)]


def _outlook(
    samples: Sequence[Sample], floor: Array, power: int, width: int, lines: Array
) -> Outlook:
    """The polynomials through every `width` + 1 successive samples.

    The slopes on both sides, less one another, are a curvature times the step. Its terms are
    those of the even powers, and tell of a slope where its own terms vanish by chance.
    """
    steps = np.array([s.steps[lines] for s in samples])
    column = steps[:, :, np.newaxis]
    noise = np.array([(s.noise + floor * s.gain)[lines] for s in samples])
    slopes = np.array([s.value[lines] for s in samples])
    bends = np.array([s.jump[lines] for s in samples if s.jump is not None])
    odd, odd_last = _ends(np.array([slopes, noise]), steps**power, width)
    even, even_last = _ends(np.array([bends, 2 * noise]) / column, steps**power, width)
    short = column[width:]
    first = [abs(odd[0]), abs(even[0]) * short]
    last = [np.maximum(odd_last, odd[1]), np.maximum(even_last, even[1]) * short]
    fall = np.ones_like(short)  # from one power of the step to the next
    for _ in range(TURNS):
        fall = ((last[0] + last[1] / fall) / (first[0] + first[1] / fall)) ** (0.5 / width)
    ratio = np.where(first[0] + first[1] > odd[1], fall**2, np.nan)
    return Outlook(odd[0], odd[1], ratio, (last[0] + last[1] / fall) * ratio)


def _ends(both: Array, powers: Array, width: int) -> tuple[Array, Array]:
    """Values and noise at step 0 of polynomials, and what their last terms are at short steps."""
    for reach in range(1, width + 1):
        before, both = both, raised(both, powers, reach)
    return both, abs(both[0] - before[0, 1:])


def _factor(seen: Outlook, value: Array, error: Array) -> Array:
    """What the terms left out must be multiplied by, for each window.

    It shows where they are more than rounding: here, or at somewhat longer steps. Otherwise that
    they are not says how large it may be at most.
    """
    off = abs(seen.value - value)
    shown = np.where(off > seen.noise + error, off / seen.omitted, np.nan)
    most = np.nan_to_num(np.nanmax(shown, axis=(1, 2)))
    lately = np.array([most[max(k - LATELY, 0) : k + 1].max() for k in range(len(most))])
    allowed = np.nanmin((off + seen.noise) / seen.omitted, axis=(1, 2))
    return np.where(lately > 0, SAFETY * lately, allowed)


# ------------------------------------------------------------------ the other lines


def _carried_out(
    plan: Plan, quotient: LineQuotient, lines: Array
) -> tuple[list[tuple[Array, Limit]], Array]:
    """The limits by the steps of a plan, or by somewhat shorter ones; and the lines without."""
    parts: list[tuple[Array, Limit]] = []
    count, whole, quotient = len(lines), quotient, quotient.along(lines)
    samples: list[Sample] = []
    for row in range(plan.rows - 1 + TRIES):
        step = plan.step / CONTRACTION**row * quotient.unit
        samples.append(quotient.sampled(step, np.ones(len(lines), bool)))
        if len(samples) < plan.rows:
            continue
        found, good = _judged(plan, quotient, samples, row + 1 - plan.rows)
        if good.any():
            parts.append((lines[good], found.chosen(good)))
        lines = lines[~good]
        whole.sampler.meter.lines(count - len(lines), count)
        if not len(lines):
            break
        quotient, samples = whole.along(lines), [s.chosen(~good) for s in samples[1:]]
    return parts, lines


def _judged(
    plan: Plan, quotient: LineQuotient, samples: Sequence[Sample], closer: int
) -> tuple[Limit, Array]:
    """The limits by samples at steps of a plan or closer ones, and the lines they are good for."""
    everywhere = np.ones(len(quotient.unit), bool)
    seen = _outlook(samples, plan.floor, quotient.power, plan.rows - 1, everywhere)
    usual = plan.usual / CONTRACTION ** (closer * plan.rows * quotient.power)
    seen = seen.at_least(usual, quotient.unit)
    value, noise = seen.value[0], seen.noise[0]
    flat = np.logical_and.reduce([s.flat for s in samples])
    truncation = np.where(flat, 0, plan.factor * seen.omitted[0])
    alike = (seen.ratio[0] <= UNLIKE * plan.steepest) & (truncation <= HIDDEN * noise)
    good = np.logical_and.reduce([s.made for s in samples]) & (alike | flat).all(axis=1)
    found = Limit(
        value,
        truncation,
        noise + quotient.eps / 2 * abs(value),
        np.full(value.shape, "converged"),
        plan.reached * quotient.unit,
        np.broadcast_to(plan.floor, value.shape),
    )
    return found, good


def _confirmed(plan: Plan, quotient: LineQuotient, found: Limit) -> bool:
    """Whether slopes along single entries give those along directions in which all move."""
    sampler, axes = quotient.sampler, quotient.lines.directions
    assert isinstance(axes, Axes)
    signs = np.random.default_rng(len(axes)).choice([-1.0, 1.0], (DIRECTIONS, len(axes)))
    speeds = signs * quotient.unit
    lines = [line(sampler.point, axes.tangents(own), sampler.dtype) for own in speeds]
    lengths = np.array([[length] for length, _ in lines])
    across = LineQuotient(sampler, [along for _, along in lines], quotient.formula)
    slope, error = _few_rows(plan, across)
    if not np.isfinite(error).all():
        seen = limit(across, WIDEST)
        slope, error = seen.value, np.where(seen.status == "converged", seen.error, np.nan)
    apart = abs(lengths * slope - speeds @ found.value)
    doubt = abs(lengths) * error + TOGETHER * np.sqrt(speeds**2 @ found.error**2)
    return bool((apart <= doubt).all())


def _few_rows(plan: Plan, quotient: LineQuotient) -> tuple[Array, Array]:
    """Slopes by a few steps about those of a plan; the error is infinite where they differ."""
    samples = _rows(quotient, plan.step, plan.rows + TRIES)
    floor = np.broadcast_to(plan.floor, samples[0].value.shape)
    used = [s.made for s in samples]
    best = best_run(samples, used, floor, quotient.power, WIDEST)
    return best.value, best.spread + best.noise
