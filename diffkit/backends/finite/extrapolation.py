"""The limit of difference quotients, by extrapolation from steps of their own choice.

Many lines are followed in step, each with its own steps: a row of the table is one quotient
for every line that still needs one. What a table says from afar is then checked from close by.
"""

from __future__ import annotations

import numpy as np

from diffkit.backends.finite.corners import corners, mixed_corners
from diffkit.backends.finite.divergence import diverging
from diffkit.backends.finite.limit import Limit, some
from diffkit.backends.finite.probe import NOISE, Probe, probe
from diffkit.backends.finite.quotients import LineQuotient, Quotient
from diffkit.backends.finite.refinement import BETWEEN, best_run, steps_of_use
from diffkit.backends.finite.rows import AGREEMENT, FEWEST, Rows
from diffkit.structure import Array

FIRST_STEP = 0.4
CONTRACTION = 1.9  # no power of a rational with a small denominator: a period is not met twice
SEARCH = 8.0  # contraction while nothing agrees
ESCAPE = 32.0  # contraction while some node lies outside the domain
MAX_ROWS = 48
PATIENCE = 6  # rows without any agreement before the step goes to the size of x itself
WORSE = 4  # rows after a tolerable entry that, bringing nothing better, end the search
WIDE = (1.0, 8.0, 1e3)  # the steps, in units, at which a constant function must not change
CLOSE = 8.0  # the step of a probe is eps**0.4 times so many times the last step that helped
COARSE = 1e-12  # for an eps above that it is eps**0.5 times that, or it would not be close
NOISY = 1e3  # times the rounding of f above which its noise is more than rounding


class Search(Rows):
    """Extrapolations along many lines, each by steps of its own until it has nothing to gain."""

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
        self.start = np.where(astray, len(self.samples), self.start)
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
        between = lines & (following < longest)
        for part in BETWEEN:
            steps = longest * (following / longest) ** part
            self.samples.append(quotient.sampled(steps, between))
        floor = self._common_floor()
        start = self.start.max(axis=1)
        used = [s.made & (row >= start) for row, s in enumerate(self.samples)]
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


def limit(quotient: Quotient, columns: int) -> Limit:
    """Return the limits of quotients as their steps shrink, for each entry of the output."""
    shape = quotient.eps.shape
    if 0 in shape:
        nothing = np.zeros(shape, quotient.sampler.dtype)
        return Limit(nothing, nothing, nothing, np.full(shape, "converged"), quotient.unit)
    return Search(quotient, columns).run()
