"""The limit of a difference quotient, by extrapolation from steps of its own choice.

Neville's scheme for a polynomial in `h**power` (Richardson 1911; Ridders, "Accurate
computation of F'(x) and F'(x)F''(x)", Adv. Eng. Softw. 4, 1982), for any sequence of steps.
Two doubts are carried with every entry of the table: how far it is from the three entries it
should agree with, and what rounding in `f` can have done to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from diffkit.backends.finite.quotients import Quotient, Sample
from diffkit.structure import Array

FIRST_STEP = 0.5
CONTRACTION = 1.7  # no power of a rational with a small denominator: a period is not met twice
SEARCH = 8.0  # contraction while nothing agrees
ESCAPE = 32.0  # contraction while some node lies outside the domain
MAX_ROWS = 48
PATIENCE = 6  # rows without any agreement before the step goes to the size of x itself
WORSE = 4  # rows after a tolerable entry that, bringing nothing better, end the search
AGREEMENT = 0.1  # relative error below which an entry shows that the steps are small enough
CLEAR = 64.0  # how far above its noise a quantity must be to be believed
DIVERGENCE = 4  # successive growths by one power of 1/h that are taken for an infinite slope
WIDE = 8.0  # the step, in units, at which a constant function must be constant too


@dataclass(frozen=True)
class Limit:
    """What extrapolation found, for each entry of the output.

    Attributes:
        value: the derivative; infinite where the quotient grows like a power of 1/h.
        error: the estimate of its absolute error.
        status: `converged`, `kink` or `unresolved`, or `domain` where no quotient was finite.
        step: the step at which the last entry found its best; None where none was of the
            method's own choice.
    """

    value: Array
    error: Array
    status: Array
    step: Any = None


class Table:
    """Neville's table: the newest row, from few columns to many, with both doubts.

    Attributes:
        values: the entries of the newest row, first axis the column.
        noise: what rounding can have done to each.
        spread: how far each is from the entries that it should agree with.
    """

    def __init__(self, power: int, columns: int) -> None:
        self.power = power
        self.columns = columns
        self.steps: list[Any] = []
        self.values: list[Array] = []
        self.noise: list[Array] = []
        self.spread: list[Array] = []
        self._older: list[Array] = []

    def add(self, step: Any, value: Array, noise: Array) -> None:
        """Append a row."""
        values, noises = [value], [noise]
        self.steps.append(step)
        for j in range(min(len(self.values), self.columns)):
            ratio = (self.steps[-2 - j] / step) ** self.power
            values.append(values[j] + (values[j] - self.values[j]) / (ratio - 1))
            noises.append((ratio * noises[j] + self.noise[j]) / (ratio - 1))
        spread = [self._spread(values, j) for j in range(len(values))]
        self._older = self.values
        self.values, self.noise, self.spread = values, noises, spread

    def best(self) -> tuple[Array, Array, Array]:
        """Value, error and whether the spread is lost in noise, of the newest row's best entry."""
        values, noise = np.array(self.values), np.array(self.noise)
        spread = np.array(self.spread)
        error = spread + noise
        error = np.where(np.isfinite(error) & np.isfinite(values), error, np.inf)
        choice = np.argmin(error, axis=0)[np.newaxis]
        settled = np.any((spread <= noise) & np.isfinite(error), axis=0)
        picked = [np.take_along_axis(a, choice, 0)[0] for a in (values, error)]
        return picked[0], picked[1], settled

    def _spread(self, new: list[Array], j: int) -> Array:
        """The largest distance from entry `j` of a new row to those it should agree with.

        Those are its neighbours to the left, above, and above to the left. In the first and the
        last allowed column, where it is not the next one's accuracy that matters, they are the
        two above.
        """
        above = self.values
        alone = j in (0, self.columns)
        if len(above) <= j or (alone and len(self._older) <= j):
            return np.full_like(new[j], np.inf)
        others = [above[j], self._older[j]] if alone else [above[j], above[j - 1], new[j - 1]]
        return np.asarray(np.max([abs(new[j] - other) for other in others], axis=0))


class Search:
    """One extrapolation: the rows so far, and the best that each output entry has seen."""

    def __init__(self, quotient: Quotient, size: int, columns: int) -> None:
        self.quotient = quotient
        self.dtype = quotient.sampler.dtype
        self.smallest = np.finfo(self.dtype).eps * quotient.unit
        self.table = Table(quotient.power, columns)
        self.curvature = Table(2, columns)
        self.samples: list[Sample] = []
        self.value = np.full(size, np.nan, self.dtype)
        self.error = np.full(size, np.inf, self.dtype)
        self.settled = np.zeros(size, bool)
        self.suspect = np.zeros(size, bool)
        self.kink = np.zeros(size, bool)
        self.age = np.zeros(size, int)
        self.reached: Any = None
        self.drowned = np.zeros(size, bool)  # steps so short that rounding hides all change
        self.bend_unit = quotient.unit

    def run(self) -> Limit:
        step = FIRST_STEP * self.quotient.unit
        for row in range(MAX_ROWS):
            sample = self.quotient(step)
            if sample is None:
                break
            self._take(step, sample)
            if self._finished(step):
                break
            step = self._next(step, row)
        self._recognise_constants()
        return self._limit()

    def _take(self, step: Any, sample: Sample) -> None:
        self.samples.append(sample)
        self.table.add(step, sample.value, sample.noise)
        value, error, settled = self.table.best()
        bent = self._bent(step, sample, settled)
        self.drowned = sample.flat & self._agreeing()
        open_ = ~(self.settled | self.kink | self.drowned)
        better = open_ & ((error < self.error) | self._refuted(value, error))
        self._listen_for_echo(value, error, open_ & ~better)
        self.value = np.where(better, value, self.value)
        self.error = np.where(better, error, self.error)
        self.age = np.where(better, 0, self.age + 1)
        if better.any():
            self.reached = step
        self.suspect = bent & open_
        self.settled |= settled & open_ & ~bent
        self._confirm_kinks(step, sample)

    def _refuted(self, value: Array, error: Array) -> Array:
        """Where an agreement at long steps, not a close one, is contradicted by shorter ones."""
        contradicted = abs(value - self.value) > CLEAR * (error + self.error)
        return np.asarray(contradicted & ~self._tolerable())

    def _listen_for_echo(self, value: Array, error: Array, open_: Array) -> None:
        """Widen the error of the best entry to its distance from the next row's best.

        The smallest of many spreads is small by chance where `f` has more noise than it shows.
        """
        echo = open_ & (self.age == 0) & (error < CLEAR * self.error)
        self.error = np.where(echo, np.maximum(self.error, abs(value - self.value)), self.error)

    def _bent(self, step: Any, sample: Sample, settled: Array) -> Array:
        """Whether the slope settled, but not the curvature, as it does on smooth functions.

        At a kink the slopes on both sides have different limits. Their difference, divided by
        the step, is a curvature that grows without limit instead of settling.
        """
        if sample.jump is None:
            return np.zeros(settled.shape, bool)
        if not self.curvature.steps and np.isfinite(sample.jump).any():
            self.bend_unit = step
        scale = self.bend_unit / step
        self.curvature.add(step, sample.jump * scale, 2 * sample.noise * scale)
        if not settled.any():
            return settled
        curvature, noise = np.array(self.curvature.spread), np.array(self.curvature.noise)
        smooth = np.any(curvature <= CLEAR * noise, axis=0)
        negligible = abs(sample.jump) <= np.maximum(
            CLEAR * sample.noise, self.quotient.eps * (self._first_slope() + self._first_jump())
        )
        bent = ~smooth & ~negligible & np.isfinite(self.curvature.values[0])
        return np.asarray(settled & bent)

    def _first_slope(self) -> Array:
        """The size of the first quotient that was finite."""
        return _first_finite([sample.value for sample in self.samples])

    def _first_jump(self) -> Array:
        """The size of the first jump of the slope that was finite."""
        return _first_finite([s.jump for s in self.samples if s.jump is not None])

    def _confirm_kinks(self, step: Any, sample: Sample) -> None:
        """A jump that lasts until rounding begins to hide it is a kink."""
        jumps = [s.jump for s in self.samples[-3:] if s.jump is not None]
        if len(jumps) < 3:
            return
        lasting = abs(np.ptp(np.array(jumps), axis=0)) < AGREEMENT * abs(jumps[-1])
        hidden = CLEAR**2 * sample.noise > abs(jumps[-1])
        lasting &= self.suspect
        confirmed = lasting & (hidden | (step < self.smallest))
        self.kink |= confirmed
        self.suspect &= ~confirmed
        self.error[lasting] = np.inf
        self.value[confirmed] = sample.value[confirmed]
        self.error[confirmed] = abs(jumps[-1][confirmed]) / 2

    def _finished(self, step: Any) -> bool:
        value, noise = self.samples[-1].value, self.samples[-1].noise
        informed = self._agreeing() | (noise > AGREEMENT * abs(value))
        hopeless = informed & (noise > self.error) & ~self.suspect
        lost = ~np.isfinite(value) & ~np.isfinite(self.error) & bool(step < self.smallest)
        past = (self.age >= WORSE) & self._tolerable() & ~self.suspect
        return bool(np.all(self.settled | self.kink | hopeless | lost | past | self.drowned))

    def _agreeing(self) -> Array:
        return np.asarray(self.error <= AGREEMENT * abs(self.value))

    def _recognise_constants(self) -> None:
        """No error where `f` never changed, not even far away."""
        if len(self.samples) < 3:
            return
        flat = np.all([sample.flat for sample in self.samples], axis=0)
        if not flat.any():
            return
        wide = self.quotient(WIDE * self.quotient.unit)
        if wide is not None:
            self.error[flat & (wide.flat | ~np.isfinite(wide.value))] = 0

    def _next(self, step: Any, row: int) -> Any:
        waiting = ~(self.settled | self.kink)
        finite = np.isfinite(self.samples[-1].value)[waiting]
        agreeing = self._agreeing()[waiting]
        if not finite.any():
            proposed = step / ESCAPE
        elif row >= 2 and not agreeing.any():
            proposed = step / SEARCH
        else:
            return step / CONTRACTION
        own_size = FIRST_STEP * self.quotient.inner
        if proposed < own_size < step / CONTRACTION:
            return own_size
        if row >= PATIENCE and not agreeing.any() and 0 < own_size < proposed:
            return own_size
        return proposed

    def _limit(self) -> Limit:
        missing = ~np.isfinite(self.error)
        seen = np.any([np.isfinite(s.value) for s in self.samples] or [missing], axis=0)
        trusted = self._trustworthy() | self.kink
        value = self.value
        if self.samples:
            value = np.where(missing & seen, self.samples[-1].value, value)
            useful = trusted | self._agreeing()
            value = np.where(useful, value, self._diverging(value))
        status = np.where(trusted, "converged", "unresolved")
        status = np.where(self.kink, "kink", status)
        error = np.where(np.isinf(value), np.inf, self.error)
        return Limit(value, error, np.where(seen | ~missing, status, "domain"), self.reached)

    def _trustworthy(self) -> Array:
        """Whether the error is what rounding explains, or tolerable."""
        return np.asarray(self.settled | self._tolerable()) & ~self.suspect

    def _tolerable(self) -> Array:
        """Whether the error leaves a fair part of the digits, or is lost beside the first slopes.

        The fair part is a half of those of the dtype for a first derivative, a third for a second.
        A derivative that is zero has no digits: there an error counts for nothing that rounding
        in `f` alone causes at the first, longest step.
        """
        eps = self.quotient.eps
        digits = eps ** (1 / (1 + self.quotient.derivative)) * abs(self.value)
        first_noise = _first_finite([sample.noise for sample in self.samples])
        lost = CLEAR * np.fmax(eps * self._first_slope(), first_noise)
        return np.asarray(self.error <= np.fmax(digits, lost))

    def _diverging(self, value: Array) -> Array:
        """Infinity where quotients grew steadily like one power of 1/h, else the value."""
        quotients = np.array([s.value for s in self.samples])
        noise = np.array([s.noise for s in self.samples])
        ratios = np.array([math.log(a / b) for a, b in pairwise(self.table.steps)])
        growth = np.log(quotients[1:] / quotients[:-1]) / ratios[:, np.newaxis]
        growth[abs(quotients[1:]) <= CLEAR * noise[1:]] = np.nan
        for end in range(len(growth), DIVERGENCE - 1, -1):
            window = growth[end - DIVERGENCE : end]
            steady = (np.ptp(window, axis=0) < AGREEMENT) & (window.min(axis=0) > 0.25)
            value = np.where(steady, np.copysign(np.inf, quotients[end]), value)
        return value


def limit(quotient: Quotient, size: int, columns: int) -> Limit:
    """Return the limit of a quotient as its step shrinks, for each entry of the output."""
    return Search(quotient, size, columns).run()


def _first_finite(rows: list[Array]) -> Array:
    """The absolute value of each entry in the first row where it is finite; else zero."""
    first = np.zeros_like(rows[0])
    for row in reversed(rows):
        first = np.where(np.isfinite(row), abs(row), first)
    return first
