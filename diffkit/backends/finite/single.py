"""The limit for a function of one number, in plain arithmetic where nothing is unusual.

Arrays of one element cost a hundred times what their one number does. What `Search` does with
arrays is done here with numbers, step by step the same: the two give the same result to the last
bit. Whatever is unusual (a value that is not finite or does not change, a kink, noise, a step that
rounding moves, a slope that differs from close by) is left to `Search`, which is given the values
found so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diffkit.backends.finite.extrapolation import (
    CLOSE,
    CONTRACTION,
    FIRST_STEP,
    MAX_ROWS,
    PATIENCE,
    SEARCH,
    WORSE,
)
from diffkit.backends.finite.limit import Limit
from diffkit.backends.finite.probe import CLEAR, LASTING, NOISE, SAFETY
from diffkit.backends.finite.quotients import LineQuotient
from diffkit.backends.finite.refinement import BETWEEN
from diffkit.backends.finite.rows import AGREEMENT, FEWEST

Row = list[tuple[float, float]]
"""Entries of a table from few columns to many: each a value and its noise."""


class Unusual(Exception):
    """Something happened that plain arithmetic is not meant for."""


@dataclass(frozen=True)
class Pair:
    """A central quotient: its step and value, its noise, and the slope ahead less that behind."""

    step: float
    value: float
    noise: float
    jump: float


def suitable(quotient: LineQuotient, columns: int) -> bool:
    """Return whether `f` is of one number and its first derivative central and extrapolated."""
    plain = quotient.sampler.plain and len(quotient.unit) == 1
    return plain and columns > 0 and quotient.formula.nodes == (-1, 1) and quotient.derivative == 1


def limit(quotient: LineQuotient, columns: int) -> Limit | None:
    """Return the limit of a `suitable` quotient, or None where something is out of the ordinary."""
    try:
        return Line(quotient, columns).run()
    except (Unusual, ZeroDivisionError):
        return None


class Line:
    """One extrapolation: what `Search` holds of one line and one entry."""

    def __init__(self, quotient: LineQuotient, columns: int) -> None:
        sampler = quotient.sampler
        self.number = sampler.number
        self.x, self.center = float(sampler.point.leaves[0]), float(sampler.center[0])
        self.eps, self.underflow = float(quotient.eps[0, 0]), float(sampler.underflow[0])
        self.unit, self.inner = float(quotient.unit[0]), float(quotient.inner[0])
        self.size, self.tiny = float(quotient.lines.size[0]), float(np.finfo(float).tiny)
        self.columns = columns
        self.pairs: list[Pair] = []
        self.slopes: list[Row] = []
        self.bends: list[Row] = []
        self.value = math.nan
        self.truncation = self.roundoff = self.error = self.reached = self.probed = math.inf
        self.settled = False
        self.age = self.top = 0

    def run(self) -> Limit:
        if not math.isfinite(self.center):
            raise Unusual
        step = FIRST_STEP * self.unit
        while len(self.pairs) < MAX_ROWS:
            pair = self._pair(step)
            self._take(pair)
            if len(self.pairs) >= FEWEST:
                finished = self._finished(pair)
                self._look_closer(finished, step)
                if finished:
                    break
            step = self._next(step)
        self._refine()
        return self._limit()

    def _pair(self, step: float) -> Pair:
        x, center = self.x, self.center
        step = abs((x + math.copysign(step, x)) - x)
        exact = (x + step) - x == step == x - (x - step)
        if not (exact and self.tiny < step < math.inf):
            raise Unusual
        behind, ahead = self.number(x - step), self.number(x + step)
        if not math.isfinite(ahead - behind) or behind == center == ahead:
            raise Unusual
        scale = 2 * step
        value = (ahead - behind) / scale
        jump = (ahead - center) / step - (behind - center) / -step
        noise = (self.eps * (abs(behind) + abs(ahead)) + 2 * self.underflow) / scale
        noise += self.eps * (abs(value) + abs(jump) / 2) * (self.size / scale)
        return Pair(step, value, noise, jump)

    # ------------------------------------------------------------------ one row

    def _take(self, pair: Pair) -> None:
        self.pairs.append(pair)
        scale = self.pairs[0].step / pair.step
        self._extend(self.slopes, pair.value, pair.noise)
        self._extend(self.bends, pair.jump * scale, 2 * pair.noise * scale)
        if len(self.pairs) < FEWEST:
            return
        spreads = self._spreads(self.slopes)
        errors = [s + n for s, (_, n) in zip(spreads, self.slopes[-1], strict=True)]
        column = min(range(len(errors)), key=errors.__getitem__)
        value, noise = self.slopes[-1][column]
        error = errors[column]
        if not math.isfinite(value) or math.isnan(sum(errors)):
            raise Unusual
        settled = _settled(spreads, self.slopes[-1], 1.0)
        if settled and not self._straight(pair):
            raise Unusual
        contradicted = abs(value - self.value) > CLEAR * (error + self.error)
        better = error < self.error or (contradicted and not self._tolerable())
        if better:
            self.value, self.truncation, self.roundoff = value, spreads[column], noise
            self.error = self.truncation + self.roundoff
            self.reached, self.top = pair.step, len(self.pairs) - 1 - column
        elif self.age == 0 and error < CLEAR * self.error:  # an echo of the best
            wider = max(self.error, abs(value - self.value))
            self.roundoff = wider - self.truncation
            self.error = self.truncation + self.roundoff
        self.age = 0 if better else self.age + 1
        self.settled = settled

    def _extend(self, table: list[Row], value: float, noise: float) -> None:
        """Append the next row of Neville's scheme to a table."""
        row, step = [(value, noise)], self.pairs[-1].step
        if table:
            for k, (old, old_noise) in enumerate(table[-1][: self.columns]):
                ratio = self.pairs[-2 - k].step / step
                factor = 1 / (ratio * ratio - 1)
                value, noise = (value - old) * factor + value, (noise + old_noise) * factor + noise
                row.append((value, noise))
        table.append(row)

    def _spreads(self, table: list[Row]) -> list[float]:
        """As `Table` has them."""
        older, above, new = ([v for v, _ in row] for row in table[-3:])
        spreads = [math.inf] * len(new)
        for k in range(1, len(above)):
            near = max(abs(new[k] - above[k]), abs(new[k] - above[k - 1]))
            spreads[k] = max(near, abs(new[k] - new[k - 1]))
        for k in {0, self.columns}:
            if len(new) > k:
                spreads[k] = math.inf
            if len(older) > k:
                spreads[k] = max(abs(new[k] - above[k]), abs(new[k] - older[k]))
        return spreads

    def _straight(self, pair: Pair) -> bool:
        """Whether the curvature settled too, or is nothing beside the first slopes."""
        if _settled(self._spreads(self.bends), self.bends[-1], CLEAR):
            return True
        first = abs(self.pairs[0].value) + abs(self.pairs[0].jump)
        return abs(pair.jump) <= max(CLEAR * pair.noise, self.eps * first)

    # ------------------------------------------------------------------ where to go next

    def _agreeing(self) -> bool:
        return self.error <= AGREEMENT * abs(self.value)

    def _digits(self) -> float:
        return math.sqrt(self.eps) * abs(self.value)

    def _tolerable(self) -> bool:
        first = self.pairs[0]
        lost = CLEAR * max(self.eps * abs(first.value), first.noise)
        digits = self._digits()
        return self.error <= (lost if math.isnan(digits) else max(digits, lost))

    def _finished(self, pair: Pair) -> bool:
        if self.settled:
            return True
        informed = self._agreeing() or pair.noise > AGREEMENT * abs(pair.value)
        hopeless = informed and pair.noise > self.error
        return hopeless or (self.age >= WORSE and self._tolerable())

    def _next(self, step: float) -> float:
        rows = len(self.pairs)
        if rows < FEWEST or self._agreeing():
            return step / CONTRACTION
        own, proposed = self.inner / 2, step / SEARCH
        passing = proposed < own < step / CONTRACTION
        stuck = rows > PATIENCE and 0 < own < proposed
        return own if passing or stuck else proposed

    # ------------------------------------------------------------------ a look from close by

    def _look_closer(self, finished: bool, step: float) -> None:
        """As `probe` looks; nothing must be strange."""
        midway = len(self.pairs) == PATIENCE + 1
        if not (finished or midway):
            return
        last = self.reached if math.isfinite(self.reached) else step
        near = float((np.array([self.eps]) ** np.array([0.4]))[0]) * CLOSE * last
        near = max(near, 1024 * self.eps * self.size)
        close = near * 8 < last
        due = finished and self.probed > 1e-3 * last and math.isfinite(self.error)
        if not (close and (due or (midway and self._agreeing()))):
            return
        self.probed = near
        step = abs((self.x + near) - self.x)
        offsets = [(self.x + step * node) - self.x for node in (-2.0, -1.0, 0.0, 1.0, 2.0)]
        y = [self.number(self.x + t) if t else self.center for t in offsets]
        if not self._usual(y, offsets[4] - offsets[0]):
            raise Unusual

    def _usual(self, y: list[float], width: float) -> bool:
        """Whether five values in a row show no noise, no corner and the slope believed so far."""
        if not math.isfinite(sum(y)) or width <= 0 or y.count(y[0]) == 5:
            return False
        slope = (y[4] - y[0]) / width
        usual = self.eps * (max(map(abs, y)) + abs(slope) * self.size / 2) + self.underflow
        third = abs(y[4] - 2 * y[3] + 2 * y[1] - y[0]) / math.sqrt(10)
        fourth = abs(y[0] - 4 * y[1] + 6 * y[2] - 4 * y[3] + y[4]) / math.sqrt(70)
        near, far = y[3] - 2 * y[2] + y[1], y[4] - 2 * y[2] + y[0]
        bent = abs(far - 2 * near) <= LASTING * abs(near) and abs(near) > CLEAR * max(third, usual)
        noise = SAFETY * max(third, fourth)
        slack = 8 * max(noise, usual) / width
        expected, doubt = (self.value, self.error) if math.isfinite(self.error) else (0.0, math.inf)
        return not bent and noise <= usual * NOISE and abs(slope - expected) <= slack + doubt

    # ------------------------------------------------------------------ the end

    def _refine(self) -> None:
        if not self.settled or not self.error > 0:
            return
        longest = self.pairs[self.top].step
        following = self.pairs[min(self.top + 1, len(self.pairs) - 1)].step
        for part in BETWEEN if following < longest else ():
            step = longest * float((np.array([following / longest]) ** part)[0])
            self.pairs.append(self._pair(step))
        value, spread, noise = self._best_run()
        apart = abs(value - self.value)
        if noise < self.roundoff and apart <= self.error + noise:
            self.value, self.truncation = value, max(spread, apart - noise)
            self.roundoff = noise
            self.error = self.truncation + self.roundoff

    def _best_run(self) -> tuple[float, float, float]:
        """As `best_run` has it."""
        pairs = sorted(self.pairs, key=lambda pair: -pair.step)
        powers = [pair.step * pair.step for pair in pairs]
        runs = [(pair.value, pair.noise) for pair in pairs]
        best = (runs[0][0], math.inf, math.inf)
        for width in range(1, min(self.columns, len(pairs) - 1) + 1):
            before = runs
            runs = []
            for k in range(len(before) - 1):
                (old, old_noise), (new, new_noise) = before[k], before[k + 1]
                factor = 1 / (powers[k] / powers[k + width] - 1)
                value, noise = (
                    new + (new - old) * factor,
                    new_noise + (new_noise + old_noise) * factor,
                )
                spread = max(abs(value - old), abs(value - new))
                if spread <= noise < best[2]:
                    best = (value, spread, noise)
                runs.append((value, noise))
        return best

    def _limit(self) -> Limit:
        trusted = self.settled or self._tolerable()
        if not math.isfinite(self.error) or not (trusted or self._agreeing()):
            raise Unusual
        final = self.eps / 2 * abs(self.value) * (self.roundoff > 0)
        parts = (self.value, self.truncation, self.roundoff + final)
        value, truncation, roundoff = (np.array([[part]]) for part in parts)
        status = np.array([["converged" if trusted else "unresolved"]])
        step, floor = np.array([self.reached]), np.zeros((1, 1))
        return Limit(value, truncation, roundoff, status, step, floor)


def _settled(spreads: list[float], row: Row, times: float) -> bool:
    """Whether a spread is lost in so many times its noise."""
    return any(s <= times * n for s, (_, n) in zip(spreads, row, strict=True))
