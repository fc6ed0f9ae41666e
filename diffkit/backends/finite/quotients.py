"""Difference quotients of `f` at a given step.

The points that `f` saw, not those that were meant, enter a quotient: where rounding moved a
node, the weights are those of the nodes where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from diffkit.backends.finite.sampling import Direction, Sampler
from diffkit.backends.finite.stencils import Stencil, weights
from diffkit.structure import Array


@dataclass(frozen=True)
class Sample:
    """A difference quotient at one step.

    Attributes:
        value: the quotient, for each entry of the output.
        noise: what rounding in `f` can have done to it.
        flat: whether `f` had one and the same value at all nodes and at the point.
        jump: the slope ahead minus the slope behind; None for other than first derivatives.
    """

    value: Array
    noise: Array
    flat: Array
    jump: Array | None = None


def missing(sampler: Sampler) -> Sample:
    """Return the sample of a quotient that is not defined at its step."""
    nothing = np.full_like(sampler.center, np.nan)
    return Sample(nothing, nothing, np.zeros(nothing.shape, bool))


class LineQuotient:
    """A derivative along one line, by a stencil."""

    def __init__(self, sampler: Sampler, direction: Direction, formula: Stencil) -> None:
        self.sampler = sampler
        self.direction = direction
        self.formula = formula
        self.eps = sampler.eps(direction.leaves)
        self.power, self.derivative = formula.power, formula.derivative
        self.unit, self.inner = direction.unit, direction.inner

    def exactly(self, step: Any, *, relative: bool) -> Sample | None:
        """The stencil as it is written, with the step as it is given (times `unit`)."""
        step = step * self.direction.unit if relative else step
        if self.direction.landed(step) == 0:
            return None
        return self._uniform(step, [self._sample(n * step) for n in self.formula.nodes])

    def __call__(self, step: Any) -> Sample | None:
        """The quotient by the nodes where rounding put them; None if it did not move them."""
        step = abs(self.direction.landed(step))
        steps = [self.direction.landed(n * step) for n in self.formula.nodes]
        if not np.isfinite(steps).all():
            return missing(self.sampler)
        if len({*steps, 0}) != len({*self.formula.nodes, 0}):
            return None
        values = [self._sample(t) for t in steps]
        if all(t == n * step for t, n in zip(steps, self.formula.nodes, strict=True)):
            return self._uniform(step, values)
        return self._scattered(steps, values)

    def _sample(self, step: Any) -> Array:
        if step == 0:
            return self.sampler.center
        return self.sampler.at(self.direction.moved(self.sampler.point.leaves, step))

    def _uniform(self, step: Any, values: list[Array]) -> Sample:
        formula = self.formula
        scale = formula.denominator * step**formula.derivative
        pairs = list(zip(formula.numerators, values, strict=True))
        value = sum(n * v for n, v in pairs) / scale
        noise = _rounding(self, pairs) / abs(scale)
        return self._assessed(value, noise, [n * step for n in formula.nodes], values)

    def _scattered(self, steps: list[Any], values: list[Array]) -> Sample:
        """The quotient by weights for the nodes as they are, and the point itself."""
        away = [(t, v) for t, v in zip(steps, values, strict=True) if t != 0]
        exact = weights([Fraction(0), *(_fraction(t) for t, _ in away)], self.formula.derivative)
        pairs = [
            (_rounded(w, self.sampler.dtype), v) for w, (_, v) in zip(exact[1:], away, strict=True)
        ]
        value = sum(w * (v - self.sampler.center) for w, v in pairs)
        noise = _rounding(self, pairs)
        return self._assessed(np.asarray(value), noise, steps, values)

    def _assessed(
        self, value: Array, noise: Array, steps: list[Any], values: list[Array]
    ) -> Sample:
        """The sample, with what one rounding of the argument inside `f` can have done.

        A function such as sin(3*x) has that rounding, although its nodes are exact.
        """
        jump = self._jump(steps, values)
        slope = abs(value) if jump is None else abs(value) + abs(jump) / 2
        noise = noise + self.eps * slope * self.direction.size / (2 * max(map(abs, steps)))
        return Sample(value, noise, _flat(self.sampler, values), jump)

    def _jump(self, steps: list[Any], values: list[Array]) -> Array | None:
        if self.formula.derivative != 1 or len(steps) != 2 or not self.formula.central:
            return None
        (behind, ahead), (before, after) = steps, values
        slope_ahead = (after - self.sampler.center) / ahead
        slope_behind = (before - self.sampler.center) / behind
        return np.asarray(slope_ahead - slope_behind)


class MixedQuotient:
    """A second derivative along two lines: one first-derivative stencil in each."""

    def __init__(
        self, sampler: Sampler, first: Direction, second: Direction, formula: Stencil
    ) -> None:
        self.sampler = sampler
        self.first, self.second = first, second
        self.formula = formula
        self.eps = sampler.eps(first.leaves + second.leaves)
        self.power, self.derivative = formula.power, 2
        self.unit = np.ones((), sampler.dtype)[()]
        inner = [d.inner / d.unit for d in (first, second) if d.inner > 0]
        self.inner = min(inner, default=np.zeros((), sampler.dtype)[()])

    def exactly(self, step: Any, *, relative: bool) -> Sample | None:
        """The product stencil with the given step (times each `unit`) in both directions."""
        a = step * self.first.unit if relative else step
        b = step * self.second.unit if relative else step
        if self.first.landed(a) == 0 or self.second.landed(b) == 0:
            return None
        return self._product(a, b)

    def _product(self, a: Any, b: Any) -> Sample:
        terms = [
            (m * n, self._sample(i * a, j * b))
            for i, m in zip(self.formula.nodes, self.formula.numerators, strict=True)
            for j, n in zip(self.formula.nodes, self.formula.numerators, strict=True)
        ]
        scale = self.formula.denominator**2 * a * b
        value = sum(n * v for n, v in terms) / scale
        noise = _rounding(self, terms) / abs(scale)
        return Sample(np.asarray(value), noise, _flat(self.sampler, [v for _, v in terms]))

    def __call__(self, step: Any) -> Sample | None:
        """The quotient by steps that really were made; None if rounding swallowed one."""
        a = self.first.landed(step * self.first.unit)
        b = self.second.landed(step * self.second.unit)
        if a == 0 or b == 0:
            return None
        return self._product(a, b)

    def _sample(self, a: Any, b: Any) -> Array:
        leaves = self.first.moved(self.sampler.point.leaves, a) if a else self.sampler.point.leaves
        leaves = self.second.moved(leaves, b) if b else leaves
        return self.sampler.at(leaves) if a or b else self.sampler.center


Quotient = LineQuotient | MixedQuotient


def _rounding(quotient: Quotient, terms: list[tuple[Any, Array]]) -> Array:
    """The rounding error of a weighted sum of values of `f`."""
    least = quotient.sampler.underflow
    return np.asarray(sum(quotient.eps * abs(w * v) + abs(w) * least for w, v in terms))


def _flat(sampler: Sampler, values: list[Array]) -> Array:
    return np.asarray(np.all([v == sampler.center for v in values], axis=0))


def _fraction(number: Any) -> Fraction:
    return Fraction(*number.as_integer_ratio())


def _rounded(number: Fraction, dtype: Any) -> Any:
    """The nearest number of the working precision (to an ulp or two in long double)."""
    high = np.asarray(float(number), dtype)[()]
    if high == 0 or not np.isfinite(high):
        return high
    return high + np.asarray(float(number - _fraction(high)), dtype)[()]
