"""One call of an operator: which quotients it needs, and how their limits are taken."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffkit.backends.finite.complex_step import complex_step, confirm
from diffkit.backends.finite.extrapolation import Limit, limit
from diffkit.backends.finite.fixed import fixed_limit
from diffkit.backends.finite.quotients import LineQuotient, MixedQuotient, Quotient
from diffkit.backends.finite.sampling import Direction, Entry, Sampler, Tally
from diffkit.backends.finite.stencils import stencil
from diffkit.errors import DiffkitWarning
from diffkit.structure import Array
from diffkit.target import Output, Point, Target

if TYPE_CHECKING:
    from diffkit.backends.finite.differentiator import FiniteDifference

DEEPEST_TABLE = 12  # columns; further ones would only amplify rounding
PACE = 16  # a table of first derivatives ends at about this fraction of where it should begin

Build = Callable[[str], Quotient]


class Task:
    """The derivatives of one function at one point, by the options of one differentiator.

    A quotient is given as a function of the scheme, because at the edge of the domain of `f`
    another scheme than the one asked for is what converges.
    """

    def __init__(
        self, options: FiniteDifference, target: Target, point: Point, tally: Tally
    ) -> None:
        self.options = options
        self.point = point
        self.sampler = Sampler(target, point, tally)
        self.output: Output = self.sampler.output
        self.dtype = self.sampler.dtype

    def along(self, direction: Direction, derivative: int = 1) -> Build:
        """The quotient for a derivative along one line."""

        def build(scheme: str) -> Quotient:
            formula = stencil(scheme, derivative, self._order(scheme))
            return LineQuotient(self.sampler, direction, formula)

        return build

    def mixed(self, first: Direction, second: Direction) -> Build:
        """The quotient for a second derivative along two lines."""
        if _same(first, second):
            return self.along(first, 2)

        def build(scheme: str) -> Quotient:
            formula = stencil(scheme, 1, self._order(scheme))
            return MixedQuotient(self.sampler, first, second, formula)

        return build

    def slopes(self, directions: Sequence[Direction], names: Sequence[str]) -> list[Array]:
        """Return the first derivative along each line, by the scheme asked for.

        Raises:
            NotAnalytic: the complex step was asked for, and does not hold.
        """
        builds = [self.along(direction) for direction in directions]
        if self.options.scheme != "complex":
            return self.values(builds, names)
        found = []
        for direction, build, name in zip(directions, builds, names, strict=True):
            slope = complex_step(self.sampler, direction, self.options.fixed_step)
            with np.errstate(all="ignore"):
                reference = self._adaptive(build, "central")
            confirm(slope, reference, self.sampler, direction, name)
            found.append(slope)
        return found

    def pace(self, directions: Sequence[Direction]) -> None:
        """Bring each line's unit step to the scale on which its first derivative converged.

        A mixed derivative takes steps along two lines at once, and they may need very different
        ones. At steps that are not adaptive there is nothing to do.
        """
        if self.options.step != "adaptive":
            return
        for direction in directions:
            step = self.limit(self.along(direction)).step
            if step is not None:
                direction.unit = min(direction.unit, PACE * step)

    def values(self, builds: Sequence[Build], names: Sequence[str]) -> list[Array]:
        """Return the limit of each quotient, or its value at the fixed step.

        Warns:
            DiffkitWarning: an entry is at a kink or could not be resolved.
        """
        limits = [self.limit(build) for build in builds]
        self._reserve(limits, names)
        values = [found.value for found in limits]
        refusal = self.sampler.refusal
        if refusal is not None and not all(np.isfinite(value).all() for value in values):
            raise refusal
        return values

    def limit(self, build: Build, *, doubt: bool = False) -> Limit:
        """Return the limit of a quotient; at a fixed step its error only if `doubt` asks."""
        with np.errstate(all="ignore"):
            if self.options.step == "adaptive":
                found = self._adaptive(build, self.options.scheme)
            else:
                found = fixed_limit(
                    build(self.options.scheme),
                    self.options.fixed_step,
                    relative=self.options.relative,
                    doubt=doubt,
                )
        return self._within_domain(found)

    def _adaptive(self, build: Build, scheme: str) -> Limit:
        found = self._extrapolated(build, scheme)
        for side in ("forward", "backward") if scheme == "central" else ():
            outside = np.isnan(found.value) & np.isfinite(self.sampler.center)
            if outside.any():
                found = _at_the_edge(found, self._extrapolated(build, side), outside)
        return found

    def _extrapolated(self, build: Build, scheme: str) -> Limit:
        size = self.sampler.center.size
        if not np.isfinite(self.sampler.center).any():
            return Limit(np.full(size, np.nan), np.full(size, np.inf), np.full(size, "domain"))
        order, lowest = self.options.order, 2 if scheme == "central" else 1
        columns = DEEPEST_TABLE if order is None else max(order // lowest - 1, 0)
        return limit(build(scheme), size, columns)

    def _within_domain(self, found: Limit) -> Limit:
        """A function that is not finite at `x` has no derivative there."""
        defined = np.isfinite(self.sampler.center)
        return Limit(
            np.where(defined, found.value, np.nan),
            np.where(defined, found.error, np.inf),
            np.where(defined, found.status, "domain"),
            found.step,
        )

    def _order(self, scheme: str) -> int:
        lowest = 2 if scheme == "central" else 1
        if self.options.order is None or self.options.step == "adaptive":
            return lowest
        return self.options.order

    def _reserve(self, limits: Sequence[Limit], names: Sequence[str]) -> None:
        """Warn of finite values that are not to be trusted.

        Not of one whose error is nothing beside the largest of the values: the second derivative
        by two variables that do not meet is zero, and has no digits to be lost.
        """
        sizes = [abs(v[np.isfinite(v)]).max(initial=0) for v in (found.value for found in limits)]
        negligible = np.sqrt(np.finfo(self.dtype).eps) * max(sizes, default=0)
        doubtful = [
            f"{name} ({status}, error about {error:.1e})"
            for name, found in zip(names, limits, strict=True)
            for value, error, status in zip(found.value, found.error, found.status, strict=True)
            if np.isfinite(value)
            and (status == "kink" or (status == "unresolved" and not error <= negligible))
        ]
        if doubtful:
            more = f" and {len(doubtful) - 5} more" if len(doubtful) > 5 else ""
            warnings.warn(
                f"finite differences of {self.sampler.target.name} are not reliable by "
                f"{', '.join(doubtful[:5])}{more}; estimate() tells value, error and status",
                DiffkitWarning,
                stacklevel=2,
            )


def _same(first: Direction, second: Direction) -> bool:
    """Whether two lines change the same single entry."""
    if not (isinstance(first, Entry) and isinstance(second, Entry)):
        return False
    return (first.leaves, first.position) == (second.leaves, second.position)


def _at_the_edge(central: Limit, side: Limit, outside: Array) -> Limit:
    """The one-sided limit for the entries that have no other."""
    edge = (side.status == "converged") | ~np.isfinite(side.value)
    return Limit(
        np.where(outside, side.value, central.value),
        np.where(outside, side.error, central.error),
        np.where(outside, np.where(edge, "domain", side.status), central.status),
        central.step,
    )
