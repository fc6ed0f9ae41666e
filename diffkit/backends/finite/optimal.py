"""The step that balances truncation and rounding, from an estimate of the next derivative.

Gill, Murray, Saunders and Wright, "Computing forward-difference intervals for numerical
optimization", SIAM J. Sci. Stat. Comput. 4 (1983). With values of `f` known to within e, the
stencil sum(w_i f(x + n_i h))/h^d of order p has an error of at most C h^p |F| + G e/h^d, where
F is the derivative of order d + p, C = |sum(w_i n_i^(d+p))|/(d+p)! and G = sum|w_i|. It is
least at h^(d+p) = d G e/(p C |F|): 2 sqrt(e/|f''|) for a forward difference,
(3e/|f'''|)^(1/3) for a central one, (48e/|f''''|)^(1/4) for a second derivative.
"""

from __future__ import annotations

import math

import numpy as np

from diffkit.backends.finite.fixed import Sampled, by_rule
from diffkit.backends.finite.probe import EVALUATIONS, LOOKS, noise_level
from diffkit.backends.finite.quotients import LineQuotient, Quotient, Sample
from diffkit.backends.finite.stencils import Stencil, stencil
from diffkit.structure import Array

TRIES = 4
TOO_NOISY = 0.1  # noise of F, relative to it, above which its step grows
TOO_LONG = 1e-3  # and below which it shrinks, lest F be an average over too much
CHANGE = 10.0  # by how much


def by_optimum(quotient: Quotient) -> Sampled:
    """Return the samples at multiples of the optimal step of each line.

    Where a line crosses two entries the step is that of the rule.
    """
    if not isinstance(quotient, LineQuotient):
        return by_rule(quotient)
    steps = optimal_steps(quotient)
    everywhere = np.ones(len(steps), bool)

    def sample(times: int) -> Sample:
        return quotient.sampled(times * steps, everywhere)

    return sample


def optimal_steps(quotient: LineQuotient) -> Array:
    """Return the optimal step of each line: the shortest that an entry of the output asks for."""
    formula = quotient.formula
    power = formula.derivative + formula.order
    noise = noise_level(quotient)
    bound = _next_derivative(quotient, power, noise)
    truncation, gain = _constants(formula)
    ratio = formula.derivative * gain * noise / (formula.order * truncation * bound)
    steps = np.where(np.isfinite(ratio), ratio, np.inf).min(axis=1) ** (1 / power)
    return np.asarray(np.minimum(steps, quotient.unit))


def evaluations(formula: Stencil) -> int:
    """Return how many evaluations of `f` finding the step may take for each line."""
    return TRIES * (formula.derivative + formula.order + 2) + LOOKS * EVALUATIONS


def _constants(formula: Stencil) -> tuple[float, float]:
    """C and G of a stencil."""
    power = formula.derivative + formula.order
    pairs = list(zip(formula.numerators, formula.nodes, strict=True))
    moment = float(abs(sum(w * n**power for w, n in pairs))) / formula.denominator
    return moment / math.factorial(power), sum(abs(w) for w, _ in pairs) / formula.denominator


def _next_derivative(quotient: LineQuotient, power: int, noise: Array) -> Array:
    """The size of F for each line and entry, by steps that leave it one to three digits."""
    sides = _sides(quotient.formula)
    formula = stencil(sides, power, 2 if sides == "central" else 1)
    higher = LineQuotient(quotient.sampler, quotient.lines.directions, formula)
    eps = quotient.eps.max(axis=1, initial=0.0).astype(quotient.sampler.dtype)
    steps = eps ** (1 / (power + 2)) * quotient.unit
    live = np.ones(len(steps), bool)
    size = np.full(quotient.eps.shape, np.nan, quotient.sampler.dtype)
    for _ in range(TRIES):
        found = higher.sampled(steps, live)
        seen = live[:, np.newaxis] & np.isfinite(found.value)
        doubt = np.maximum(found.noise, noise * found.gain)
        size = np.where(seen, np.maximum(abs(found.value), doubt), size)
        relative = (doubt / abs(found.value)).min(axis=1, initial=np.inf)
        longer, shorter = relative > TOO_NOISY, ~(relative >= TOO_LONG)
        live &= longer & (steps * CHANGE <= quotient.unit) | shorter
        if not live.any():
            break
        steps = np.where(longer, steps * CHANGE, steps / CHANGE)
    return size


def _sides(formula: Stencil) -> str:
    if min(formula.nodes) < 0 < max(formula.nodes):
        return "central"
    return "forward" if max(formula.nodes) > 0 else "backward"
