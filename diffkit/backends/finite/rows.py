"""What the rows of an extrapolation say so far: the best of each entry, and what is doubtful."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.backends.finite.limit import some
from diffkit.backends.finite.probe import CLEAR
from diffkit.backends.finite.quotients import Quotient, Sample
from diffkit.backends.finite.table import Table
from diffkit.structure import Array

FEWEST = 3  # rows before anything can agree
AGREEMENT = 0.1  # relative error below which an entry shows that the steps are small enough


class Rows:
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
        self.start = np.zeros(self.shape, int)  # the row where each entry begins
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

    # ------------------------------------------------------------------ one row

    def _take(self, row: int) -> None:
        sample = self.samples[row]
        alive = sample.made[:, np.newaxis] & (row >= self.start)
        value = sample.value if alive.all() else np.where(alive, sample.value, np.nan)
        noise = sample.noise + self.floor * sample.gain
        self.rows += alive.any(axis=1)
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

    # ------------------------------------------------------------------ how good it is

    def _agreeing(self) -> Array:
        return np.asarray(self.error <= AGREEMENT * abs(self.value))

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
