"""Difference quotients of `f` at given steps, along many lines at once.

The points that `f` saw, not those that were meant, enter a quotient: where rounding moved a
node, the weights are those of the nodes where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from diffkit.backends.finite.limit import some
from diffkit.backends.finite.lines import Axes, Bundle, Direction, Pairs, Places, chosen
from diffkit.backends.finite.sampling import Sampler
from diffkit.backends.finite.stencils import Stencil, weights
from diffkit.structure import Array


@dataclass(frozen=True)
class Sample:
    """Difference quotients, first axis the line, second the entry of the output.

    Attributes:
        value: the quotients; NaN for lines that were not sampled.
        noise: what rounding in `f` can have done to them.
        flat: whether `f` had one and the same value at all nodes and at the point.
        made: for each line whether its step was made: neither lost to rounding nor to the budget.
        gain: for each line by how much a unit error in each value of `f` is amplified.
        jump: the slope ahead minus the slope behind; None for other than first derivatives.
        steps: for each line the step as it was made.
    """

    value: Array
    noise: Array
    flat: Array
    made: Array
    gain: Array
    steps: Array
    jump: Array | None = None

    def chosen(self, lines: Array) -> Sample:
        """The quotients of some of the lines."""
        return Sample(
            self.value[lines],
            self.noise[lines],
            self.flat[lines],
            self.made[lines],
            self.gain[lines],
            self.steps[lines],
            None if self.jump is None else self.jump[lines],
        )


class LineQuotient:
    """Derivatives along lines, by one stencil.

    Attributes:
        unit, inner: the steps of the lines that count as one, and as the size of `x`.
        eps: the relative rounding error of `f`, for each line and entry of the output.
        floor: noise in its values beyond that which is known from elsewhere: none.
    """

    floor = 0.0

    def __init__(self, sampler: Sampler, directions: Sequence[Direction], formula: Stencil) -> None:
        self.sampler = sampler
        self.formula = formula
        self.lines = Bundle(directions, sampler.dtype)
        self.eps = _line_roundings(sampler, directions)
        self.power, self.derivative = formula.power, formula.derivative
        self.unit, self.inner = self.lines.unit, self.lines.inner
        self._nodes = np.array(formula.nodes, sampler.dtype)
        self._weight = sum(abs(n) for n in formula.numerators)
        self._tiny = np.finfo(sampler.dtype).tiny

    def along(self, lines: Array) -> LineQuotient:
        """The same quotient along some of the lines."""
        return LineQuotient(self.sampler, chosen(self.lines.directions, lines), self.formula)

    def exactly(self, step: Any, *, relative: bool) -> Sample | None:
        """The stencil as it is written, with the step as it is given (times `unit`)."""
        steps = np.full_like(self.unit, step) * (self.unit if relative else 1)
        if not np.all(self.lines.landed(steps)):
            return None
        offsets = steps[:, np.newaxis] * self._nodes
        values = self.values(offsets, np.ones(len(steps), bool))
        made = np.ones(len(steps), bool)
        return self._assessed(self._uniform(steps, values), steps, offsets, values, made)

    def sampled(self, steps: Array, live: Array) -> Sample:
        """The quotients of the live lines by the nodes where rounding put them."""
        steps = abs(self.lines.landed(steps * self.lines.outwards))
        meant = steps[:, np.newaxis] * self._nodes
        offsets = self.lines.landed(meant)
        shifted = offsets != meant
        exact = not some(shifted) and bool(((steps > self._tiny) & (steps < np.inf)).all())
        made = live.copy() if exact else live & ~_coincide(offsets, self._nodes)
        if not self.sampler.unlimited:
            made = self._afforded(made, np.asarray(np.isfinite(offsets).all(axis=1)))
        values = self.values(offsets, made)
        found = self._uniform(steps, values)
        if not exact and some(moved := made & shifted.any(axis=1)):
            found = self._scattered(found, moved, offsets, values)
        return self._assessed(found, steps, offsets, values, made)

    def values(self, offsets: Array, wanted: Array) -> Array:
        """`f` at nodes (line, node) of the wanted lines: line, node, entry; NaN elsewhere."""
        sampler = self.sampler
        away = (offsets != 0) & np.isfinite(offsets) & wanted[:, np.newaxis]
        lines = np.nonzero(away)[0]
        rows = sampler.at(Places(self.lines, sampler.point.leaves, lines, offsets[away]))
        if len(rows) == offsets.size:
            return rows.reshape(*offsets.shape, sampler.center.size)
        found = np.full((*offsets.shape, sampler.center.size), np.nan, sampler.dtype)
        found[offsets == 0] = sampler.center
        found[away] = rows
        return found

    def _afforded(self, made: Array, finite: Array) -> Array:
        """The lines, first ones first, that the budget has evaluations for."""
        count = sum(node != 0 for node in self.formula.nodes)
        return within_budget(self.sampler, made, np.where(finite, count, 0))

    def _uniform(self, steps: Array, values: Array) -> tuple[Array, Array, Array]:
        """Value, noise and gain by the stencil's own weights."""
        formula = self.formula
        power = steps if formula.derivative == 1 else steps**formula.derivative
        scale = (formula.denominator * power)[:, np.newaxis]
        terms = [(n, n * values[:, k]) for k, n in enumerate(formula.numerators)]
        noise = _rounding(self.sampler, self.eps, terms)
        size = abs(scale)
        gain = self._weight / size
        return reduce(add, [v for _, v in terms]) / scale, noise / size, gain

    def _scattered(
        self, found: tuple[Array, Array, Array], moved: Array, offsets: Array, values: Array
    ) -> tuple[Array, Array, Array]:
        """The same, with weights for the nodes as they are where rounding moved them."""
        value, noise, gain = (array.copy() for array in found)
        for i in np.flatnonzero(moved):
            away = np.flatnonzero(offsets[i])
            exact = _weights_at(offsets[i, away], self.formula.derivative, self.sampler.dtype)
            terms = [(w, w * values[i, k]) for w, k in zip(exact, away, strict=True)]
            changes = values[i, away] - self.sampler.center
            value[i] = sum(w * change for w, change in zip(exact, changes, strict=True))
            noise[i] = _rounding(self.sampler, self.eps[i], terms)
            gain[i] = sum(abs(w) for w in exact)
        return value, noise, gain

    def _assessed(
        self,
        found: tuple[Array, Array, Array],
        steps: Array,
        offsets: Array,
        values: Array,
        made: Array,
    ) -> Sample:
        """The sample, with what one rounding of the argument inside `f` can have done.

        A function such as sin(3*x) has that rounding, although its nodes are exact.
        """
        value, noise, gain = found
        jump = self._jump(offsets, values)
        slope = abs(value) if jump is None else abs(value) + abs(jump) / 2
        reach = self.lines.size / (2 * abs(offsets).max(axis=1))
        noise = noise + self.eps * slope * reach[:, np.newaxis]
        return Sample(value, noise, _flat(self.sampler, values), made, gain, steps, jump)

    def _jump(self, offsets: Array, values: Array) -> Array | None:
        if self.formula.derivative != 1 or self.formula.nodes != (-1, 1):
            return None
        slopes = (values - self.sampler.center) / offsets[:, :, np.newaxis]
        return np.asarray(slopes[:, 1] - slopes[:, 0])


class MixedQuotient:
    """Second derivatives along pairs of lines: one first-derivative stencil in each.

    Attributes:
        floor: the noise in values of `f`, for each pair and entry, beyond their rounding.
    """

    def __init__(
        self,
        sampler: Sampler,
        pairs: Sequence[tuple[Direction, Direction]],
        formula: Stencil,
        floor: Array | None = None,
    ) -> None:
        self.sampler = sampler
        self.formula = formula
        self.first = Bundle([first for first, _ in pairs], sampler.dtype)
        self.second = Bundle([second for _, second in pairs], sampler.dtype)
        self.eps = _roundings(sampler, [(*a.leaves, *b.leaves) for a, b in pairs])
        self.power, self.derivative = formula.power, 2
        self.unit = np.ones(len(pairs), sampler.dtype)
        shape = (len(pairs), sampler.center.size)
        self.floor = np.zeros(shape, sampler.dtype) if floor is None else floor
        reach = np.array([self.first.inner / self.first.unit, self.second.inner / self.second.unit])
        inner = np.where(reach > 0, reach, np.inf).min(axis=0)
        self.inner = np.where(np.isfinite(inner), inner, 0)
        self._product = [
            (i, j, m * n)
            for i, m in zip(formula.nodes, formula.numerators, strict=True)
            for j, n in zip(formula.nodes, formula.numerators, strict=True)
        ]

    def exactly(self, step: Any, *, relative: bool) -> Sample | None:
        """The product stencil with the given step (times each `unit`) in both directions."""
        a = np.full_like(self.unit, step) * (self.first.unit if relative else 1)
        b = np.full_like(self.unit, step) * (self.second.unit if relative else 1)
        if not (np.all(self.first.landed(a)) and np.all(self.second.landed(b))):
            return None
        return self._sample(np.full_like(a, step), a, b, np.ones(len(a), bool))

    def sampled(self, steps: Array, live: Array) -> Sample:
        """The quotients of the live pairs by steps that really were made."""
        a, b = self.landed(steps)
        count = sum(bool(i or j) for i, j, _ in self._product)
        made = live & (a != 0) & (b != 0)
        return self._sample(
            steps, a, b, within_budget(self.sampler, made, np.where(made, count, 0))
        )

    def values(self, nodes: Array, a: Array, b: Array, wanted: Array) -> Array:
        """`f` at nodes in units of `a` and `b`: pair of lines, node, entry; NaN if not wanted."""
        sampler = self.sampler
        found = np.full((len(a), len(nodes), sampler.center.size), np.nan, sampler.dtype)
        i, j = nodes.T
        center = (i == 0) & (j == 0)
        found[:, center] = np.where(wanted[:, np.newaxis, np.newaxis], sampler.center, np.nan)
        away = wanted[:, np.newaxis] & ~center
        pairs, terms = np.nonzero(away)
        steps = (i[terms] * a[pairs], j[terms] * b[pairs])
        bundles, leaves = (self.first, self.second), sampler.point.leaves
        found[away] = sampler.at(Pairs(bundles, leaves, pairs, steps))
        return found

    def landed(self, steps: Array) -> tuple[Array, Array]:
        """The steps along the first and along the second lines that really are made."""
        first = self.first.landed(steps * self.first.unit)
        return first, self.second.landed(steps * self.second.unit)

    def _sample(self, steps: Array, a: Array, b: Array, made: Array) -> Sample:
        sampler = self.sampler
        nodes = np.array([(i, j) for i, j, _ in self._product], sampler.dtype)
        values = self.values(nodes, a, b, made)
        scale = (self.formula.denominator**2 * a * b)[:, np.newaxis]
        weighted = [(n, n * values[:, k]) for k, (_, _, n) in enumerate(self._product)]
        noise = _rounding(sampler, self.eps, weighted) / abs(scale)
        gain = sum(abs(n) for n, _ in weighted) / abs(scale)
        value = np.asarray(sum(v for _, v in weighted) / scale)
        return Sample(value, noise, _flat(sampler, values), made, gain, steps)


Quotient = LineQuotient | MixedQuotient


def within_budget(sampler: Sampler, wanted: Array, counts: Array) -> Array:
    """Return the wanted lines, first ones first, that the budget has evaluations for."""
    if sampler.unlimited or sampler.affordable(int(counts[wanted].sum())):
        return wanted
    total = np.cumsum(np.where(wanted, counts, 0))
    return np.asarray(wanted & np.array([sampler.affordable(int(n)) for n in total]))


def _line_roundings(sampler: Sampler, directions: Sequence[Direction]) -> Array:
    if not isinstance(directions, Axes):
        return _roundings(sampler, [d.leaves for d in directions])
    by_leaf = _roundings(sampler, [(k,) for k in range(len(sampler.point.leaves))])
    return np.asarray(by_leaf[directions.leaf])


def _roundings(sampler: Sampler, leaves: Sequence[tuple[int, ...]]) -> Array:
    known = {moved: sampler.eps(moved) for moved in set(leaves)}
    rows = [known[moved] for moved in leaves]
    return np.array(rows).reshape(len(rows), sampler.center.size)


def _rounding(sampler: Sampler, eps: Array, terms: list[tuple[Any, Array]]) -> Array:
    """The rounding error of a weighted sum of values of `f`."""
    sizes = reduce(add, [abs(term) for _, term in terms])
    return np.asarray(eps * sizes + sum([abs(w) for w, _ in terms]) * sampler.underflow)


def _flat(sampler: Sampler, values: Array) -> Array:
    return np.asarray((values == sampler.center).all(axis=1))


def _coincide(offsets: Array, nodes: Array) -> Array:
    """Whether rounding put two nodes of a line on one point, or one on the point itself."""
    lost = (offsets == 0) & (nodes != 0)
    same = offsets[:, 1:] == offsets[:, :-1]  # nodes are in order, and rounding keeps it
    return np.asarray(lost.any(axis=1) | same.any(axis=1))


def _weights_at(offsets: Array, derivative: int, dtype: Any) -> list[Any]:
    """The weights for nodes as they are and the point itself, without the point's."""
    if derivative == 1 and len(offsets) == 2:
        a, b = offsets
        return [-(b / a) / (a - b), -(a / b) / (b - a)]
    nodes = [Fraction(0), *(_fraction(t) for t in offsets)]
    return [_rounded(w, dtype) for w in weights(nodes, derivative)[1:]]


def _fraction(number: Any) -> Fraction:
    return Fraction(*number.as_integer_ratio())


def _rounded(number: Fraction, dtype: Any) -> Any:
    """The nearest number of the working precision (to an ulp or two in long double)."""
    high = np.asarray(float(number), dtype)[()]
    if high == 0 or not np.isfinite(high):
        return high
    return high + np.asarray(float(number - _fraction(high)), dtype)[()]
