"""Difference quotients at a step fixed beforehand: by the user, by a rule, or by the optimum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffkit.backends.finite.limit import Limit
from diffkit.backends.finite.quotients import Quotient, Sample
from diffkit.errors import InvalidInput
from diffkit.structure import Array

SIGNIFICANCE = 1e-2  # relative error above which a quotient at a fixed step is not vouched for

Sampled = Callable[[int], Sample]


def given(quotient: Quotient, step: float, *, relative: bool) -> Sampled:
    """Return the samples at multiples of a step, by exactly the arithmetic of the stencil.

    Raises:
        InvalidInput: (by the samples) `x + step` rounds to `x`.
    """

    def sample(times: int) -> Sample:
        exact = quotient.sampler.dtype.type(times * step)
        found = quotient.exactly(exact, relative=relative)
        if found is None:
            raise InvalidInput(
                f"step={step!r} is too small: x + step rounds to x; take a larger step, "
                "relative=True, or step='adaptive'"
            )
        return found

    return sample


def by_rule(quotient: Quotient) -> Sampled:
    """Return the samples at multiples of the step that balances truncation and rounding.

    It is eps**(1/(derivative + order)) times max(|x|, 1), made representable. Where a node of
    that lies outside the domain of `f`, |x| itself is the scale.
    """
    formula = quotient.formula
    eps = quotient.eps.max(axis=1, initial=0.0).astype(quotient.sampler.dtype)
    step = eps ** (1 / (quotient.derivative + formula.order))

    def sample(times: int) -> Sample:
        everywhere = np.ones(len(step), bool)
        found = quotient.sampled(times * step * quotient.unit, everywhere)
        outside = ~np.isfinite(found.value)
        smaller = (quotient.inner > 0) & (quotient.inner < quotient.unit)
        again = outside.any(axis=1) & smaller
        if not again.any():
            return found
        inner = quotient.sampled(times * step * quotient.inner, again)
        chosen = outside & again[:, np.newaxis]
        return Sample(
            np.where(chosen, inner.value, found.value),
            np.where(chosen, inner.noise, found.noise),
            np.where(chosen, inner.flat, found.flat),
            found.made,
            found.gain,
            np.where(again, inner.steps, found.steps),
        )

    return sample


def fixed_limit(quotient: Quotient, sample: Sampled, *, doubt: bool) -> Limit:
    """Return the quotients at one step.

    Args:
        quotient: what is evaluated.
        sample: its sample at a multiple of the step.
        doubt: estimate the error too, from a second quotient at twice the step: truncation is
            their difference, divided as the order of the stencil says; to it comes what
            rounding can have done. Without it, both are NaN.
    """
    near = sample(1)
    finite = np.isfinite(near.value)
    if not doubt:
        nothing = np.full(near.value.shape, np.nan)
        return Limit(near.value, nothing, nothing, np.where(finite, "converged", "domain"))
    return _doubted(quotient, near, sample(2))


def _doubted(quotient: Quotient, near: Sample, far: Sample) -> Limit:
    truncation = abs(far.value - near.value) / (2**quotient.formula.order - 1)
    doubtful = truncation + near.noise > np.maximum(SIGNIFICANCE * abs(near.value), 2 * near.noise)
    status = np.where(doubtful, "unresolved", "converged")
    status = np.where(_kinked(near, far), "kink", status)
    finite = np.isfinite(near.value) & np.isfinite(far.value)
    return Limit(
        near.value,
        np.where(finite, truncation, np.inf),
        np.where(finite, near.noise, np.inf),
        np.where(finite, status, "domain"),
    )


def _kinked(near: Sample, far: Sample) -> Array:
    """Whether the slopes on the two sides differ by more than a curvature explains."""
    if near.jump is None or far.jump is None:
        return np.zeros(near.value.shape, bool)
    jump = abs(2 * near.jump - far.jump)
    return (jump > abs(near.jump) / 2) & (jump > 8 * (2 * near.noise + far.noise))
