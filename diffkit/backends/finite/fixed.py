"""Difference quotients at a step fixed beforehand: by the user, or by the classical rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.backends.finite.extrapolation import Limit
from diffkit.backends.finite.quotients import Quotient, Sample, missing
from diffkit.errors import InvalidInput
from diffkit.structure import Array

SIGNIFICANCE = 1e-2  # relative error above which a quotient at a fixed step is not vouched for


def fixed_limit(quotient: Quotient, step: float | None, *, relative: bool, doubt: bool) -> Limit:
    """Return the quotient at one step, by exactly the arithmetic of its stencil.

    Args:
        quotient: what to evaluate.
        step: the step as it is used; None for the one that balances truncation and rounding,
            eps**(1/(derivative + order)) times max(|x|, 1), made representable. Where a node
            of that lies outside the domain of `f`, |x| itself is the scale.
        relative: the given step is in units of max(|x|, 1).
        doubt: estimate the error too, from a second quotient at twice the step: truncation is
            their difference, divided as the order of the stencil says; to it comes what
            rounding can have done. Without it, the error is NaN.

    Raises:
        InvalidInput: `x + step` rounds to `x`.
    """

    def sample(times: int) -> Sample:
        if step is None:
            return _by_rule(quotient, times)
        return _given(quotient, times * step, relative)

    near = sample(1)
    finite = np.isfinite(near.value)
    if not doubt:
        nothing = np.full(near.value.shape, np.nan)
        return Limit(near.value, nothing, np.where(finite, "converged", "domain"))
    return _doubted(quotient, near, sample(2))


def _doubted(quotient: Quotient, near: Sample, far: Sample) -> Limit:
    truncation = abs(far.value - near.value) / (2**quotient.formula.order - 1)
    error = truncation + near.noise
    doubtful = error > np.maximum(SIGNIFICANCE * abs(near.value), 2 * near.noise)
    status = np.where(doubtful, "unresolved", "converged")
    status = np.where(_kinked(near, far), "kink", status)
    finite = np.isfinite(near.value) & np.isfinite(far.value)
    return Limit(near.value, np.where(finite, error, np.inf), np.where(finite, status, "domain"))


def _kinked(near: Sample, far: Sample) -> Array:
    """Whether the slopes on the two sides differ by more than a curvature explains."""
    if near.jump is None or far.jump is None:
        return np.zeros(near.value.shape, bool)
    jump = abs(2 * near.jump - far.jump)
    return (jump > abs(near.jump) / 2) & (jump > 8 * (2 * near.noise + far.noise))


def _given(quotient: Quotient, step: float, relative: bool) -> Sample:
    sample = quotient.exactly(quotient.sampler.dtype.type(step), relative=relative)
    if sample is None:
        raise InvalidInput(
            f"step={step!r} is too small: x + step rounds to x; take a larger step, "
            "relative=True, or step='adaptive'"
        )
    return sample


def _by_rule(quotient: Quotient, times: int) -> Sample:
    formula = quotient.formula
    eps = quotient.eps.max(initial=0.0)
    step = times * quotient.sampler.dtype.type(eps) ** (1 / (quotient.derivative + formula.order))
    sample = _sampled(quotient, step * quotient.unit)
    outside = ~np.isfinite(sample.value)
    if not outside.any() or not 0 < quotient.inner < quotient.unit:
        return sample
    inner = _sampled(quotient, step * quotient.inner)
    return Sample(
        np.where(outside, inner.value, sample.value),
        np.where(outside, inner.noise, sample.noise),
        np.where(outside, inner.flat, sample.flat),
    )


def _sampled(quotient: Quotient, step: Any) -> Sample:
    sample = quotient(step)
    return missing(quotient.sampler) if sample is None else sample
