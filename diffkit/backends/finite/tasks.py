"""One call of an operator: which quotients it needs, and how their limits are taken."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from diffkit.backends.finite import pilots, single
from diffkit.backends.finite.complex_step import complex_step, confirm
from diffkit.backends.finite.extrapolation import limit
from diffkit.backends.finite.fixed import by_rule, fixed_limit, given
from diffkit.backends.finite.limit import Limit
from diffkit.backends.finite.lines import Axes, Direction, Entry, chosen, line
from diffkit.backends.finite.optimal import by_optimum, evaluations
from diffkit.backends.finite.quotients import LineQuotient, MixedQuotient, Quotient
from diffkit.backends.finite.ridders import ROWS, ridders
from diffkit.backends.finite.sampling import Sampler, Tally, quiet
from diffkit.backends.finite.sparsity import Compression, general_tangents, require_complete
from diffkit.backends.finite.stencils import LOWEST, Stencil, stencil, stencil_on
from diffkit.errors import DiffkitWarning, InvalidInput
from diffkit.structure import Array
from diffkit.target import Output, Point, Target

if TYPE_CHECKING:
    from diffkit.backends.finite.differentiator import FiniteDifference

EXTRAPOLATED = ("adaptive", "ridders")  # steps
DEEPEST_TABLE = 10  # columns; further ones would only amplify rounding
PACE = 16  # a table of first derivatives ends at about this fraction of where it should begin

Build = Callable[[str, Array], Quotient]
Names = Callable[[], Sequence[str]]
"""The names of lines, made where they are told."""


class Task:
    """The derivatives of one function at one point, by the options of one differentiator.

    Quotients are given as a function of the scheme and of the lines wanted, because at the edge
    of the domain of `f` another scheme than the one asked for is what converges. `doubt` asks
    for an error at a fixed step too.
    """

    def __init__(
        self,
        options: FiniteDifference,
        target: Target,
        point: Point,
        tally: Tally,
        *,
        doubt: bool = False,
    ) -> None:
        self.options = options
        self.doubt = doubt or options.sparsity is not None
        self.point = point
        self.sampler = Sampler(target, point, tally, options)
        self.output: Output = self.sampler.output
        self.dtype = self.sampler.dtype

    def along(self, directions: Sequence[Direction], derivative: int = 1) -> Limit:
        """Return the derivatives along lines."""
        return self._limit(self._builder(directions, derivative), len(directions))

    def columns(self) -> Limit:
        """Return the derivatives by each entry of `x`, along fewer lines if many are zero.

        Raises:
            InvalidInput: the sparsity pattern has another shape, or misses an entry.
        """
        sparsity, layout = self.options.sparsity, self.point.layout
        if sparsity is None:
            return self.along(Axes(self.point, self.dtype))
        sparsity.require_shape(self.output.layout, layout)
        compression = Compression(sparsity, self.point, self.dtype)
        found = compression.restored(self.along(compression.directions))
        if layout.size:
            self._check_pattern(found)
        return found

    def _check_pattern(self, found: Limit) -> None:
        """Compare with the derivative along a direction of general position."""
        tangents = general_tangents(self.point.layout, self.dtype)
        length, direction = line(self.point, tangents, self.dtype)
        along = self.along([direction])
        speeds = np.concatenate([np.ravel(t) for t in tangents])
        doubt = 4 * (abs(length) * along.error[0] + speeds @ found.error)
        doubt += np.sqrt(np.finfo(self.dtype).eps) * (speeds @ abs(found.value))
        names = self.output.layout.entry_names()
        require_complete(speeds @ found.value, length * along.value[0], doubt, names)

    def mixed(self, pairs: Sequence[tuple[Direction, Direction]]) -> Limit:
        """Return the second derivatives along pairs of lines."""
        same = np.array([_same(first, second) for first, second in pairs], bool)
        straight = [first for (first, _), twice in zip(pairs, same, strict=True) if twice]
        crossed = [pair for pair, twice in zip(pairs, same, strict=True) if not twice]

        def build(scheme: str, lines: Array) -> Quotient:
            formula = self._formula(scheme, 1)
            noise = None if floor is None else floor[lines]
            return MixedQuotient(self.sampler, [crossed[i] for i in lines], formula, noise)

        floor: Array | None = None
        found = self.along(straight, 2) if straight else None
        if not crossed:
            return found if found is not None else self._limit(build, 0)
        floor, kinked = self._first_look(crossed)
        others = self._limit(build, len(crossed))
        others = replace(others, status=np.where(kinked, "kink", others.status))
        if found is None:
            return others
        order = np.argsort(np.concatenate([np.flatnonzero(same), np.flatnonzero(~same)]))
        parts = ("value", "truncation", "roundoff", "status")
        joined = {
            name: np.concatenate([getattr(found, name), getattr(others, name)])[order]
            for name in parts
        }
        return Limit(**joined)

    def slopes(self, directions: Sequence[Direction], names: Names) -> Array:
        """Return the first derivatives, one row for each line, by the scheme asked for.

        Raises:
            NotAnalytic: the complex step was asked for, and does not hold.
        """
        if self.options.scheme != "complex":
            return self.checked(self.along(directions), names)
        if not directions:
            return np.zeros((0, self.sampler.center.size), self.dtype)
        self.sampler.require(len(directions))
        found = np.array(
            [complex_step(self.sampler, d, self.options.fixed_step) for d in directions]
        )
        with quiet():
            reference = self._adaptive(
                self._builder(directions, 1), np.arange(len(directions)), "central"
            )
        for i, (slope, direction, name) in enumerate(zip(found, directions, names(), strict=True)):
            confirm(slope, reference, i, self.sampler, direction, name)
        return found

    def _first_look(
        self, pairs: Sequence[tuple[Direction, Direction]]
    ) -> tuple[Array | None, Array | bool]:
        """What first derivatives along the lines tell of second ones along pairs of them.

        That is the noise in values of `f`, and where a line meets a kink. The unit step of each
        line is brought to the scale on which its derivative converged: a mixed derivative takes
        steps along two lines at once, and they may need very different ones. For steps that are
        not adaptive nothing is looked at.
        """
        if self.options.step != "adaptive":
            return None, False
        directions = list({id(line): line for pair in pairs for line in pair}.values())
        seen = self.along(directions)
        if seen.step is None or seen.floor is None:
            return None, False
        for direction, step in zip(directions, seen.step, strict=True):
            if np.isfinite(step):
                direction.unit = min(direction.unit, PACE * step)
        place = {id(line): i for i, line in enumerate(directions)}
        first, second = np.array([[place[id(a)], place[id(b)]] for a, b in pairs]).T
        kink = seen.status == "kink"
        return np.maximum(seen.floor[first], seen.floor[second]), kink[first] | kink[second]

    def checked(self, found: Limit, names: Names) -> Array:
        """Return the values of limits.

        Warns:
            DiffkitWarning: an entry is noisy, at a kink, or could not be resolved.
        """
        self._reserve(found, names)
        refusal = self.sampler.refusal
        if refusal is not None and not np.isfinite(found.value).all():
            raise refusal
        return found.value

    def _builder(self, directions: Sequence[Direction], derivative: int) -> Build:
        def build(scheme: str, lines: Array) -> Quotient:
            formula = self._formula(scheme, derivative)
            return LineQuotient(self.sampler, chosen(directions, lines), formula)

        return build

    def _limit(self, build: Build, count: int) -> Limit:
        with quiet():
            if self.options.step == "adaptive":
                found = self._adaptive(build, np.arange(count), self.options.scheme)
            elif self.options.step == "ridders":
                quotient = build(self.options.scheme, np.arange(count))
                self.sampler.require(ROWS * count * self._nodes(quotient))
                found = ridders(quotient)
            else:
                found = self._fixed(build(self.options.scheme, np.arange(count)))
        self.sampler.meter.close()
        return self._within_domain(found)

    def _fixed(self, quotient: Quotient) -> Limit:
        step = self.options.fixed_step
        self.sampler.require(self._fixed_cost(quotient))
        if step is not None:
            sample = given(quotient, step, relative=self.options.relative)
        elif self.options.step == "optimal":
            sample = by_optimum(quotient)
        else:
            sample = by_rule(quotient)
        return fixed_limit(quotient, sample, doubt=self.doubt)

    def _fixed_cost(self, quotient: Quotient) -> int:
        """How many evaluations the quotients take, at most."""
        each = (
            self._nodes(quotient)
            * (2 if self.doubt else 1)
            * (2 if self.options.step == "rule" else 1)
        )
        if self.options.step == "optimal":
            each += evaluations(quotient.formula)
        return each * len(quotient.unit)

    @staticmethod
    def _nodes(quotient: Quotient) -> int:
        """How many evaluations one quotient takes."""
        nodes = len(quotient.formula.nodes)
        return nodes if isinstance(quotient, LineQuotient) else nodes**2

    def _adaptive(self, build: Build, lines: Array, scheme: str) -> Limit:
        found = self._extrapolated(build, lines, scheme)
        for side in ("forward", "backward") if scheme == "central" else ():
            outside = np.isnan(found.value) & np.isfinite(self.sampler.center)
            if outside.any():
                open_ = np.flatnonzero(outside.any(axis=1))
                found = _at_the_edge(
                    found, self._extrapolated(build, lines[open_], side), open_, outside
                )
        return found

    def _extrapolated(self, build: Build, lines: Array, scheme: str) -> Limit:
        if not np.isfinite(self.sampler.center).any():
            shape = (len(lines), self.sampler.center.size)
            nothing = np.full(shape, np.nan)
            return Limit(nothing, nothing, nothing, np.full(shape, "domain"))
        order, lowest = self.options.order, LOWEST[scheme]
        columns = DEEPEST_TABLE if order is None else max(order // lowest - 1, 0)
        quotient = build(scheme, lines)
        if isinstance(quotient, LineQuotient):
            if single.suitable(quotient, columns) and (alone := single.limit(quotient, columns)):
                return alone
            if pilots.suitable(quotient, columns):
                return pilots.limits(quotient, columns)
        return limit(quotient, columns)

    def _within_domain(self, found: Limit) -> Limit:
        """A function that is not finite at `x` has no derivative there."""
        defined = np.isfinite(self.sampler.center)
        if defined.all():
            return found
        return Limit(
            np.where(defined, found.value, np.nan),
            np.where(defined, found.truncation, np.inf),
            np.where(defined, found.roundoff, np.inf),
            np.where(defined, found.status, "domain"),
            found.step,
            found.floor,
        )

    def _formula(self, scheme: str, derivative: int) -> Stencil:
        """The stencil that is asked for; the smallest, where it is extrapolated.

        Raises:
            InvalidInput: the nodes given are too few.
        """
        nodes, order = self.options.nodes, self.options.order
        if nodes is not None:
            if len(nodes) <= derivative:
                raise InvalidInput(
                    f"a derivative of order {derivative} needs at least {derivative + 1} nodes, "
                    f"and {len(nodes)} are given"
                )
            return stencil_on(nodes, derivative)
        if order is None or self.options.step in EXTRAPOLATED:
            order = LOWEST[scheme]
        return stencil(scheme, derivative, order)

    def _reserve(self, found: Limit, names: Names) -> None:
        """Warn of finite values that are not to be trusted.

        Not of one whose error is nothing beside the largest of the values: the second derivative
        by two variables that do not meet is zero, and has no digits to be lost.
        """
        value, error, status = found.value, found.error, found.status
        if (status == "converged").all():
            return
        sizes = abs(value[np.isfinite(value)])
        negligible = np.sqrt(np.finfo(self.dtype).eps) * sizes.max(initial=0)
        unknown = np.isin(status, ("unresolved", "noisy")) & ~(error <= negligible)
        doubtful = np.argwhere(np.isfinite(value) & ((status == "kink") | unknown))
        if not len(doubtful):
            return
        named = names()
        listed = [
            f"{named[i]} ({status[i, k]}, error about {error[i, k]:.1e})" for i, k in doubtful[:5]
        ]
        more = f" and {len(doubtful) - 5} more" if len(doubtful) > 5 else ""
        warnings.warn(
            f"finite differences of {self.sampler.target.name} are not reliable by "
            f"{', '.join(listed)}{more}; estimate() tells value, error and status",
            DiffkitWarning,
            stacklevel=2,
        )


def _same(first: Direction, second: Direction) -> bool:
    """Whether two lines change the same single entry."""
    if not (isinstance(first, Entry) and isinstance(second, Entry)):
        return False
    return (first.leaves, first.position) == (second.leaves, second.position)


def _at_the_edge(central: Limit, side: Limit, lines: Array, outside: Array) -> Limit:
    """The one-sided limits for the entries that have no other."""
    value, status = central.value.copy(), central.status.astype("U10")
    truncation, roundoff = central.truncation.copy(), central.roundoff.copy()
    chosen = outside[lines]
    edge = (side.status == "converged") | ~np.isfinite(side.value)
    value[lines] = np.where(chosen, side.value, value[lines])
    truncation[lines] = np.where(chosen, side.truncation, truncation[lines])
    roundoff[lines] = np.where(chosen, side.roundoff, roundoff[lines])
    status[lines] = np.where(chosen, np.where(edge, "domain", side.status), status[lines])
    return Limit(value, truncation, roundoff, status, central.step, central.floor)
