"""The limit of difference quotients, by extrapolation from steps of their own choice.

Many lines are followed in step, each with its own steps: a row of the table is one quotient
for every line that still needs one. What a table says from afar is then checked from close by.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.backends.finite.corners import corners, mixed_corners
from diffkit.backends.finite.divergence import diverging
from diffkit.backends.finite.limit import Limit, some
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
        self.table = Table(self.quotient.power, self.columns)  # of slopes, then of curvatures
        self.value = np.full(shape, np.nan, self.dtype)
        self.truncation = np.full(shape, np.inf, self.dtype)
        self.roundoff = np.full(shape, np.inf, self.dtype)
        self.error = np.full(shape, np.inf, self.dtype)
        self.lost = np.full(shape, np.nan, self.dtype)  # to rounding, at the first step
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

    def _believe(self, where: Array, value: Array, truncation: Any, roundoff: Array) -> None:
        """Take another value for the best of some entries, with the two parts of its error."""
        self.value = np.where(where, value, self.value)
        self.truncation = np.where(where, truncation, self.truncation)
        self.roundoff = np.where(where, roundoff, self.roundoff)
        self.error = self.truncation + self.roundoff

    def run(self) -> Limit:
        steps, meter = FIRST_STEP * self.quotient.unit, self.quotient.sampler.meter
        for _ in range(MAX_ROWS):
            if not some(self.live):
                break
            sample = self.quotient.sampled(steps, self.live)
            self.live &= sample.made
            if not some(self.live):
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
        value = sample.value if alive.all() else np.where(alive, sample.value, np.nan)
        noise = sample.noise + self.floor * sample.gain
        self.rows += alive[:, 0]
        self._note_first(value, noise, sample)
        self._extrapolate(sample, value, noise)
        if self.table.rows < FEWEST:
            return
        found, spread, roundoff, column, settled = self.table.best(len(value))
        if some(astray := abs(found - self.anchor) > self.slack):
            spread, settled = np.where(astray, np.inf, spread), settled & ~astray
        error = spread + roundoff
        bent = self._bent(sample, noise, settled)
        self.drowned = np.where(alive, sample.flat & self._agreeing(), self.drowned)
        open_ = ~(self.settled | self.kink | self.drowned) & alive
        better = open_ & ((error < self.error) | self._refuted(found, error))
        self._listen_for_echo(found, error, open_ & ~better)
        if some(better):
            self._believe(better, found, spread, roundoff)
            self.reached = np.where(better, sample.steps[:, np.newaxis], self.reached)
            self.top = np.where(better, row - column, self.top)
        self.age = np.where(better, 0, self.age + alive)
        self.suspect = np.where(alive, bent & open_, self.suspect)
        self.settled |= settled & open_ & ~bent
        self._confirm_kinks(row, noise)

    def _note_first(self, value: Array, noise: Array, sample: Sample) -> None:
        finite = np.isfinite(value)
        if sample.made.all():
            self.last, self.last_noise = value, noise
        else:
            made = sample.made[:, np.newaxis]
            self.last = np.where(made, value, self.last)
            self.last_noise = np.where(made, noise, self.last_noise)
        new = finite & ~self.seen
        if some(new):
            self.first_slope = np.where(new, abs(value), self.first_slope)
            self.first_noise = np.where(new, noise, self.first_noise)
            self.first_value_noise = np.where(
                new, sample.noise / sample.gain, self.first_value_noise
            )
            if sample.jump is not None:
                self.first_jump = np.where(new, abs(sample.jump), self.first_jump)
            self.lost = CLEAR * np.fmax(self.quotient.eps * self.first_slope, self.first_noise)
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
        if not some(open_):
            return
        echo = open_ & (self.age == 0) & (error < CLEAR * self.error)
        if some(echo):
            wider = np.maximum(self.error, abs(value - self.value)) - self.truncation
            self._believe(echo, self.value, self.truncation, wider)

    def _bent(self, sample: Sample, noise: Array, settled: Array) -> Array:
        """Whether the slope settled, but not the curvature, as it does on smooth functions.

        At a kink the slopes on both sides have different limits. Their difference, divided by
        the step, is a curvature that grows without limit instead of settling.
        """
        bent = settled
        if sample.jump is None:
            return np.zeros(settled.shape, bool)
        if some(settled):
            curvatures = slice(len(settled), None)
            spread, level = self.table.spread[:, curvatures], self.table.noise[:, curvatures]
            bent = settled & ~np.any(spread <= CLEAR * level, axis=0)
        if not some(bent):
            return bent
        first = np.nan_to_num(self.first_slope) + np.nan_to_num(self.first_jump)
        negligible = abs(sample.jump) <= np.maximum(CLEAR * noise, self.quotient.eps * first)
        return np.asarray(bent & ~negligible & np.isfinite(self.table.values[0, curvatures]))

    def _extrapolate(self, sample: Sample, value: Array, noise: Array) -> None:
        """Add a row to the table: slopes and, in lines after those, curvatures."""
        steps, jump = sample.steps, sample.jump
        if jump is None:
            self.table.add(steps, value, noise)
            return
        fresh = (self.rows <= 1) & np.isfinite(jump).any(axis=1)
        self.bend_unit = np.where(fresh, steps, self.bend_unit)
        scale = (self.bend_unit / steps)[:, np.newaxis]
        bend = np.where(np.isnan(self.last), np.nan, jump) * scale
        self.table.add(
            np.concatenate([steps, steps]),
            np.concatenate([value, bend]),
            np.concatenate([noise, 2 * noise * scale]),
        )

    def _confirm_kinks(self, row: int, noise: Array) -> None:
        """A corner seen from close by is a kink; so is a jump that lasts until rounding."""
        if not (some(self.corner) or some(self.suspect)):
            return
        found = (self.corner != 0) & np.isfinite(self.last) & ~self.kink
        jumps = [s.jump for s in self.samples[max(row - 2, 0) : row + 1] if s.jump is not None]
        jump = np.where(found, self.corner, jumps[-1] if jumps else 0)
        if len(jumps) == 3 and some(self.suspect):
            lasting = np.ptp(np.array(jumps), axis=0) < AGREEMENT * abs(jumps[-1])
            hidden = CLEAR**2 * noise > abs(jumps[-1])
            lasting &= self.suspect
            short = (self.samples[row].steps < self.smallest)[:, np.newaxis]
            found |= lasting & (hidden | short)
            self._believe(lasting, self.value, np.inf, self.roundoff)
        if some(found):
            self.kink |= found
            self.suspect &= ~found
            self._believe(found, self.last, abs(jump) / 2, noise)

    # ------------------------------------------------------------------ a look from close by

    def _examined(self, finished: Array, steps: Array) -> Array:
        """Probe lines that are about to finish, or find no end; those which must go on."""
        none = np.zeros(len(finished), bool)
        midway = self.live & (self.rows == PATIENCE + 1)
        if not isinstance(self.quotient, LineQuotient) or not some(finished | midway):
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
        if not some(due):
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
        if not some((floor != self.floor) | corner | astray):
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
        done = self.settled | self.kink | self.drowned
        if done.all():
            return np.ones(len(done), bool)
        value, noise = self.last, self.last_noise
        informed = self._agreeing() | (noise > AGREEMENT * abs(value))
        hopeless = informed & (noise > self.error) & ~self.suspect
        short = (steps < self.smallest)[:, np.newaxis]
        lost = ~np.isfinite(value) & ~np.isfinite(self.error) & short
        past = (self.age >= WORSE) & self._tolerable() & ~self.suspect
        done |= hopeless | lost | past
        return np.asarray(done.all(axis=1))

    def _agreeing(self) -> Array:
        return np.asarray(self.error <= AGREEMENT * abs(self.value))

    def _next(self, steps: Array) -> Array:
        waiting = ~(self.settled | self.kink)
        finite = (np.isfinite(self.last) & waiting).any(axis=1)
        agreeing = (self._agreeing() & waiting).any(axis=1)
        lost = ~agreeing & (self.rows > 2)
        if finite.all() and not some(lost):
            return steps / CONTRACTION
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
        if not some(flat):
            return
        constant = flat
        for times in WIDE:
            wide = self.quotient.sampled(
                times * self.quotient.unit, np.asarray(constant.any(axis=1))
            )
            constant &= wide.flat
        self._believe(constant, self.value, 0.0, np.zeros_like(self.roundoff))

    def _refine(self) -> None:
        """Lose less to rounding where the limit is known, by steps between the longest of use."""
        quotient = self.quotient
        if not isinstance(quotient, LineQuotient) or quotient.derivative > 1 or not self.columns:
            return
        noisy = (self.floor > 0) & self._agreeing() & ~self.suspect
        open_ = (self.settled | noisy) & ~self.kink & (self.error > 0)
        lines = open_.any(axis=1) & (self.rows >= FEWEST)
        if not some(lines):
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
        doubt = np.maximum(found.spread, apart - found.noise)
        self._believe(better, found.value, doubt, found.noise)
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
        if not quotient.formula.central or not some(chosen):
            return
        steps = np.where(chosen, steps, quotient.unit)
        if isinstance(quotient, LineQuotient):
            jump, made = corners(quotient, steps, chosen)
        else:
            jump, made = mixed_corners(quotient, steps, chosen)
        self.unseen |= chosen & ~made
        corner = (jump != 0) & (self._trustworthy() | self._agreeing())
        self.kink |= corner
        self._believe(corner, self.value, abs(jump) / 2, self.roundoff)

    def _limit(self) -> Limit:
        missing = ~np.isfinite(self.error)
        trusted = self._trustworthy() & ~self.unseen[:, np.newaxis] | self.kink
        value = np.where(missing & self.seen, self.last, self.value)
        useful = trusted | self._agreeing()
        if not useful.all():
            value = np.where(useful, value, diverging(self.samples, value))
        noisy = self.settled & (self.error > self._digits())
        if some(noisy):
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
        return np.asarray(self.error <= np.fmax(self._digits(), self.lost))

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
