"""The truth: derivatives of `f` itself in arbitrary precision, by no derivative rule.

The recorded graph of `f` is evaluated at x + t v in Taylor arithmetic with FLINT balls, on each
side of t = 0; the k-th coefficient times k! encloses the k-th derivative rigorously. Precision
rises until the radius is far below an ulp of the dtype asked for. High-precision differences
of the same graph with mpmath give a second opinion. Neither is believed unless the exact value
of `f` agrees with the value that `f` computes.

Numbers that `f` is given or holds (`x`, data, constants) count as they are in binary; casts to
a lower precision inside `f` count as the identity, which the result's note says.
"""

from __future__ import annotations

from diffkit.truth.operators import (
    Truth,
    derivative,
    gradient,
    hessian,
    jacobian,
    jvp,
    value,
)
from diffkit.truth.samples import Plan, SampledTruth, plan, sample

__all__ = [
    "Plan",
    "SampledTruth",
    "Truth",
    "derivative",
    "gradient",
    "hessian",
    "jacobian",
    "jvp",
    "plan",
    "sample",
    "value",
]
