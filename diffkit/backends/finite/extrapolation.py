"""The limit of difference quotients, by extrapolation from steps of their own choice.

Many lines are followed in step, each with its own steps: a row of the table is one quotient
for every line that still needs one. What a table says from afar is then checked from close by.
"""

from __future__ import annotations

import numpy as np

from diffkit.backends.finite.corners import corners, mixed_corners
from diffkit.backends.finite.divergence import diverging
from diffkit.backends.finite.limit import Limit
from diffkit.backends.finite.probe import CLEAR, NOISE, Probe, probe
from diffkit.backends.finite.quotients import LineQuotient, Quotient, Sample
from diffkit.backends.finite.refinement import BETWEEN, best_run, steps_of_use
from diffkit.backends.finite.table import Table
from diffkit.structure import Array

FIRST_STEP = 0.4
CONTRACTION = 1.9  # no power of a rational with a small denominator: a period is not met twice
SEARCH = 8.0  # contraction while nothing agrees
ESCAPE = 32.0  # contraction while some node lies outside the domain
MAX_ROWS = 48
FEWEST = 3  # rows before anything can agree
PATIENCE = 6  # rows without any agreement before the step goes to the size of x itself
WORSE = 4  # rows after a tolerable entry that, bringing nothing better, end the search
AGREEMENT = 0.1  # relative error below which an entry shows that the steps are small enough
WIDE = (1.0, 8.0, 1e3)  # the steps, in units, at which a constant function must not change
CLOSE = 8.0  # the step of a probe is eps**0.4 times so many times the last step that helped
COARSE = 1e-12  # for an eps above that it is eps**0.5 times that, or it would not be close
NOISY = 1e3  # times the rounding of f above which its noise is more than rounding


class Search:
    """Extrapolations along many lines: the rows so far, and the best that each entry has seen."""

    def __init__(self, quotient: Quotient, columns: int) -> None:
        self.quotient = quotient
        self.columns = columns
        self.dtype = quotient.sampler.dtype
        self.shape = quotient.eps.shape
        self.smallest = np.finfo(self.dtype).eps * quotient.unit
        self.fair = quotient.eps ** (1 / (1 + quotient.derivative))  # of the digits
        lines = self.shape[0]
        self.live = np.ones(lines, bool)
        self.samples: list[Sample] = []
        self.start = np.zeros(lines, int)
        self.floor = np.zeros(self.shape, self.dtype) + quotient.floor
        self.anchor = np.full(self.shape, np.nan, self.dtype)
        self.slack = np.zeros(self.shape, self.dtype)
        self.corner = np.zeros(self.shape, self.dtype)
        self.probed = np.full(lines, np.inf, self.dtype)
        self.unseen = np.zeros(lines, bool)
        self._forget()

    def _forget(self) -> None:
        """Begin anew with the rows, keeping what probes have seen."""
        shape, lines = self.shape, self.shape[0]
        self.table = Table(self.quotient.power, self.columns)
        self.curvature = Table(2, self.columns)
        self.value = np.full(shape, np.nan, self.dtype)
        self.truncation = np.full(shape, np.inf, self.dtype)
        self.roundoff = np.full(shape, np.inf, self.dtype)
        self.settled = np.zeros(shape, bool)
        self.suspect = np.zeros(shape, bool)
        self.kink = np.zeros(shape, bool)
        self.drowned = np.zeros(shape, bool)  # steps so short that rounding hides all change
        self.flat = np.ones(shape, bool)
        self.seen = np.zeros(shape, bool)
        self.age = np.zeros(shape, int)
        self.top = np.zeros(shape, int)  # the row where what is extrapolated to the best begins
        self.last = np.full(shape, np.nan, self.dtype)
        self.last_noise = np.full(shape, np.nan, self.dtype)
        self.first_slope = np.full(shape, np.nan, self.dtype)
        self.first_noise = np.full(shape, np.nan, self.dtype)
        self.first_value_noise = np.full(shape, np.nan, self.dtype)
        self.first_jump = np.full(shape, np.nan, self.dtype)
        self.reached = np.full(shape, np.inf, self.dtype)
        self.bend_unit = self.quotient.unit
        self.rows = np.zeros(lines, int)

    @property
    def error(self) -> Array:
        return np.asarray(self.truncation + self.roundoff)

    def run(self) -> Limit:
        steps, meter = FIRST_STEP * self.quotient.unit, self.quotient.sampler.meter
        for _ in range(MAX_ROWS):
            sample = self.quotient.sampled(steps, self.live)
            self.live &= sample.made
            if not self.live.any():
                break
            self.samples.append(sample)
            self._take(len(self.samples) - 1)
            if len(self.samples) < FEWEST:
                steps = np.where(self.live, self._next(steps), steps)
                continue
            finished = self.live & self._finished(steps)
            again = self._examined(finished, steps)
            self.live &= ~finished | again
            meter.lines(int(np.count_nonzero(~self.live)), len(self.live))
            steps = np.where(self.live, self._next(steps), steps)
        self._recognise_constants()
        self._refine()
        self._compare_sides()
        return self._limit()

    # ------------------------------------------------------------------ one row

    def _take(self, row: int) -> None:
        sample = self.samples[row]
        alive = (sample.made & (row >= self.start))[:, np.newaxis]
        value = np.where(alive, sample.value, np.nan)
        noise = sample.noise + self.floor * sample.gain
        self.rows += alive[:, 0]
        self._note_first(value, noise, sample)
        self.table.add(sample.steps, value, noise)
        if self.table.rows < FEWEST:
            self._add_curvature(sample, noise)
            return
        found, spread, roundoff, column, settled = self.table.best()
        if np.any(astray := abs(found - self.anchor) > self.slack):
            spread, settled = np.where(astray, np.inf, spread), settled & ~astray
        error = spread + roundoff
        bent = self._bent(sample, noise, settled)
        self.drowned = np.where(alive, sample.flat & self._agreeing(), self.drowned)
        open_ = ~(self.settled | self.kink | self.drowned) & alive
        better = open_ & ((error < self.error) | self._refuted(found, error))
        self._listen_for_echo(found, error, open_ & ~better)
        self.value = np.where(better, found, self.value)
        self.truncation = np.where(better, spread, self.truncation)
        self.roundoff = np.where(better, roundoff, self.roundoff)
        self.age = np.where(better, 0, self.age + alive)
        self.reached = np.where(better, sample.steps[:, np.newaxis], self.reached)
        self.top = np.where(better, row - column, self.top)
        self.suspect = np.where(alive, bent & open_, self.suspect)
        self.settled |= settled & open_ & ~bent
        self._confirm_kinks(row, noise)

    def _note_first(self, value: Array, noise: Array, sample: Sample) -> None:
        finite = np.isfinite(value)
        self.last = np.where(sample.made[:, np.newaxis], value, self.last)
        self.last_noise = np.where(sample.made[:, np.newaxis], noise, self.last_noise)
        new = finite & ~self.seen
        if new.any():
            self.first_slope = np.where(new, abs(value), self.first_slope)
            self.first_noise = np.where(new, noise, self.first_noise)
            self.first_value_noise = np.where(
                new, sample.noise / sample.gain, self.first_value_noise
            )
            if sample.jump is not None:
                self.first_jump = np.where(new, abs(sample.jump), self.first_jump)
        self.seen |= finite
        self.flat &= sample.flat | ~finite

    def _refuted(self, value: Array, error: Array) -> Array:
        """Where an agreement at long steps, not a close one, is contradicted by shorter ones."""
        contradicted = abs(value - self.value) > CLEAR * (error + self.error)
        return np.asarray(contradicted & ~self._tolerable())

    def _listen_for_echo(self, value: Array, error: Array, open_: Array) -> None:
        """Widen the error of the best entry to its distance from the next row's best.

        The smallest of many spreads is small by chance where `f` has more noise than it shows.
        """
        echo = open_ & (self.age == 0) & (error < CLEAR * self.error)
        if echo.any():
            wider = np.maximum(self.error, abs(value - self.value)) - self.truncation
            self.roundoff = np.where(echo, wider, self.roundoff)

    def _bent(self, sample: Sample, noise: Array, settled: Array) -> Array:
        """Whether the slope settled, but not the curvature, as it does on smooth functions.

        At a kink the slopes on both sides have different limits. Their difference, divided by
        the step, is a curvature that grows without limit instead of settling.
        """
        if sample.jump is None:
            return np.zeros(settled.shape, bool)
        self._add_curvature(sample, noise)
        if not settled.any():
            return settled
        smooth = np.any(self.curvature.spread <= CLEAR * self.curvature.noise, axis=0)
        first = np.nan_to_num(self.first_slope) + np.nan_to_num(self.first_jump)
        negligible = abs(sample.jump) <= np.maximum(CLEAR * noise, self.quotient.eps * first)
        bent = ~smooth & ~negligible & np.isfinite(self.curvature.values[0])
        return np.asarray(settled & bent)

    def _add_curvature(self, sample: Sample, noise: Array) -> None:
        if sample.jump is None:
            return
        fresh = (self.rows <= 1) & np.isfinite(sample.jump).any(axis=1)
        self.bend_unit = np.where(fresh, sample.steps, self.bend_unit)
        scale = (self.bend_unit / sample.steps)[:, np.newaxis]
        jump = np.where(np.isnan(self.last), np.nan, sample.jump)
        self.curvature.add(sample.steps, jump * scale, 2 * noise * scale)

    def _confirm_kinks(self, row: int, noise: Array) -> None:
        """A corner seen from close by is a kink; so is a jump that lasts until rounding."""
        found = (self.corner != 0) & np.isfinite(self.last) & ~self.kink
        jumps = [s.jump for s in self.samples[max(row - 2, 0) : row + 1] if s.jump is not None]
        jump = np.where(found, self.corner, jumps[-1] if jumps else 0)
        if len(jumps) == 3 and self.suspect.any():
            lasting = np.ptp(np.array(jumps), axis=0) < AGREEMENT * abs(jumps[-1])
            hidden = CLEAR**2 * noise > abs(jumps[-1])
            lasting &= self.suspect
            short = (self.samples[row].steps < self.smallest)[:, np.newaxis]
            found |= lasting & (hidden | short)
            self.truncation = np.where(lasting, np.inf, self.truncation)
        if found.any():
            self.kink |= found
            self.suspect &= ~found
            self.value = np.where(found, self.last, self.value)
            self.truncation = np.where(found, abs(jump) / 2, self.truncation)
            self.roundoff = np.where(found, noise, self.roundoff)

    # ------------------------------------------------------------------ a look from close by

    def _examined(self, finished: Array, steps: Array) -> Array:
        """Probe lines that are about to finish, or find no end; those which must go on."""
        none = np.zeros(len(finished), bool)
        midway = self.live & (self.rows == PATIENCE + 1)
        if not isinstance(self.quotient, LineQuotient) or not (finished | midway).any():
            return none
        eps = np.max(self.quotient.eps, axis=1, initial=0.0)
        last = self.reached.min(axis=1)
        last = np.where(np.isfinite(last), last, steps)
        near = eps ** np.where(eps > COARSE, 0.5, 0.4) * CLOSE * last
        near = np.maximum(near, 1024 * eps * self.quotient.lines.size)
        close = near * 8 < last
        due = finished & close & (self.probed > 1e-3 * last)
        due &= np.isfinite(self.error).any(axis=1)
        lasting = (self._agreeing() | self.suspect).any(axis=1)
        due |= midway & close & lasting
        if not due.any():
            return none
        believed = np.where(np.isfinite(self.error), self.value, 0)
        doubt = np.where(np.isfinite(self.error), self.error, np.inf)
        seen = probe(self.quotient, near, due, believed, doubt, last / 8)
        self.probed = np.where(due, near, self.probed)
        self.unseen |= due & ~seen.made
        return self._learned(seen, due & seen.made)

    def _learned(self, seen: Probe, looked: Array) -> Array:
        """Take over what a probe shows; the lines that have to go on because of it."""
        known = looked[:, np.newaxis] & seen.seen
        first = self.quotient.derivative == 1
        corner = known & (seen.corner != 0) & first & ~self.kink
        believed = np.isfinite(self.error) & (self._agreeing() | self._trustworthy()) & ~self.kink
        believed &= known & ~corner
        slack = seen.slack + self.error
        astray = believed & (abs(seen.slope - self.value) > slack) & first & ~seen.blind
        noisy = believed & ~astray & (seen.noise > NOISE * seen.usual)
        floor = np.where(believed, np.where(noisy, seen.noise, 0), self.floor)
        if not ((floor != self.floor) | corner | astray).any():
            return np.zeros(len(looked), bool)
        self.floor = floor
        self.corner = np.where(corner, seen.corner, self.corner)
        self.anchor = np.where(astray, seen.slope, self.anchor)
        self.slack = np.where(astray, seen.slack, self.slack)
        lost = astray.any(axis=1)
        self.start = np.where(lost, len(self.samples), self.start)
        self._forget()
        for row in range(len(self.samples)):
            self._take(row)
        return looked & ~self._finished(self.samples[-1].steps)

    # ------------------------------------------------------------------ where to go next

    def _finished(self, steps: Array) -> Array:
        """The lines for which another row would bring nothing."""
        value, noise = self.last, self.last_noise
        informed = self._agreeing() | (noise > AGREEMENT * abs(value))
        hopeless = informed & (noise > self.error) & ~self.suspect
        short = (steps < self.smallest)[:, np.newaxis]
        lost = ~np.isfinite(value) & ~np.isfinite(self.error) & short
        past = (self.age >= WORSE) & self._tolerable() & ~self.suspect
        done = self.settled | self.kink | hopeless | lost | past | self.drowned
        return np.asarray(done.all(axis=1))

    def _agreeing(self) -> Array:
        return np.asarray(self.error <= AGREEMENT * abs(self.value))

    def _next(self, steps: Array) -> Array:
        waiting = ~(self.settled | self.kink)
        finite = (np.isfinite(self.last) & waiting).any(axis=1)
        agreeing = (self._agreeing() & waiting).any(axis=1)
        lost = ~agreeing & (self.rows > 2)
        proposed = np.where(
            finite, np.where(lost, steps / SEARCH, steps / CONTRACTION), steps / ESCAPE
        )
        own_size = self.quotient.inner / 2
        passing = (proposed < own_size) & (own_size < steps / CONTRACTION)
        stuck = (self.rows > PATIENCE) & ~agreeing & (own_size > 0) & (own_size < proposed)
        return np.where((passing | stuck) & (lost | ~finite), own_size, proposed)

    # ------------------------------------------------------------------ the end

    def _recognise_constants(self) -> None:
        """No error where `f` never changed, not even far away."""
        flat = self.flat & self.seen & (self.rows >= 3)[:, np.newaxis]
        if not flat.any():
            return
        constant = flat
        for times in WIDE:
            wide = self.quotient.sampled(
                times * self.quotient.unit, np.asarray(constant.any(axis=1))
            )
            constant &= wide.flat
        self.truncation = np.where(constant, 0, self.truncation)
        self.roundoff = np.where(constant, 0, self.roundoff)

    def _refine(self) -> None:
        """Lose less to rounding where the limit is known, by steps between the longest of use."""
        quotient = self.quotient
        if not isinstance(quotient, LineQuotient) or quotient.derivative > 1 or not self.columns:
            return
        noisy = (self.floor > 0) & self._agreeing() & ~self.suspect
        open_ = (self.settled | noisy) & ~self.kink & (self.error > 0)
        lines = open_.any(axis=1) & (self.rows >= FEWEST)
        if not lines.any():
            return
        longest, following = steps_of_use(self.samples, self.top, np.where(open_, self.error, -1))
        for part in BETWEEN:
            self.samples.append(quotient.sampled(longest * (following / longest) ** part, lines))
        floor = self._common_floor()
        used = [s.made & (row >= self.start) for row, s in enumerate(self.samples)]
        found = best_run(self.samples, used, floor, quotient.power, self.columns)
        better = (found.noise < self.roundoff) | (floor > self.floor) | ~self.settled
        apart = abs(found.value - self.value)
        better &= open_ & np.isfinite(found.noise) & (apart <= self.error + found.noise)
        self.value = np.where(better, found.value, self.value)
        doubt = np.maximum(found.spread, apart - found.noise)
        self.truncation = np.where(better, doubt, self.truncation)
        self.roundoff = np.where(better, found.noise, self.roundoff)
        self.settled |= better

    def _common_floor(self) -> Array:
        """The noise seen along each line, and at least half of what is usual along all.

        It is the noise of one function, and a few values may by chance show little of it.
        """
        if len(self.floor) < FEWEST:
            return self.floor
        return np.maximum(self.floor, np.median(self.floor, axis=0) / 2)

    def _compare_sides(self) -> None:
        """A central difference of a higher derivative does not see that its sides differ."""
        quotient = self.quotient
        if quotient.derivative == 1:
            return
        steps = self.reached.min(axis=1)
        chosen = np.isfinite(steps) & np.isfinite(self.error).any(axis=1) & ~self.unseen
        if not quotient.formula.central or not chosen.any():
            return
        steps = np.where(chosen, steps, quotient.unit)
        if isinstance(quotient, LineQuotient):
            jump, made = corners(quotient, steps, chosen)
        else:
            jump, made = mixed_corners(quotient, steps, chosen)
        self.unseen |= chosen & ~made
        corner = (jump != 0) & (self._trustworthy() | self._agreeing())
        self.kink |= corner
        self.truncation = np.where(corner, abs(jump) / 2, self.truncation)

    def _limit(self) -> Limit:
        missing = ~np.isfinite(self.error)
        trusted = self._trustworthy() & ~self.unseen[:, np.newaxis] | self.kink
        value = np.where(missing & self.seen, self.last, self.value)
        useful = trusted | self._agreeing()
        if not useful.all():
            value = np.where(useful, value, diverging(self.samples, value))
        noisy = self.settled & (self.error > self._digits())
        noisy &= self.floor > NOISY * np.nan_to_num(self.first_value_noise)
        status = np.where(trusted, np.where(noisy, "noisy", "converged"), "unresolved")
        status = np.where(self.kink, "kink", status)
        status = np.where(self.seen | ~missing, status, "domain")
        infinite = np.isinf(value)
        final = self.quotient.eps / 2 * abs(value) * (self.roundoff > 0)
        scatter = np.where(noisy, self.truncation / 2, 0)  # of the spread, noise causes its part
        truncation = np.where(infinite, np.inf, self.truncation - scatter)
        roundoff = np.where(infinite, np.inf, self.roundoff + final + scatter)
        return Limit(value, truncation, roundoff, status, self.reached.min(axis=1), self.floor)

    def _trustworthy(self) -> Array:
        """Whether the error is what rounding explains, or tolerable."""
        return np.asarray(self.settled | self._tolerable()) & ~self.suspect

    def _tolerable(self) -> Array:
        """Whether the error leaves a fair part of the digits, or is lost beside the first slopes.

        The fair part is a half of those of the dtype for a first derivative, a third for a second.
        A derivative that is zero has no digits: there an error counts for nothing that rounding
        in `f` alone causes at the first, longest step.
        """
        lost = CLEAR * np.fmax(self.quotient.eps * self.first_slope, self.first_noise)
        return np.asarray(self.error <= np.fmax(self._digits(), lost))

    def _digits(self) -> Array:
        """The error that leaves a fair part of the digits."""
        return np.asarray(self.fair * abs(self.value))


def limit(quotient: Quotient, columns: int) -> Limit:
    """Return the limits of quotients as their steps shrink, for each entry of the output."""
    shape = quotient.eps.shape
    if 0 in shape:
        nothing = np.zeros(shape, quotient.sampler.dtype)
        return Limit(nothing, nothing, nothing, np.full(shape, "converged"), quotient.unit)
    return Search(quotient, columns).run()
