"""Infinite slopes: quotients that grow like a power of 1/h."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffkit.backends.finite.quotients import Sample
from diffkit.structure import Array

GROWTHS = 4  # successive ones by one power of 1/h that are taken for an infinite slope
LEAST = 0.25  # such a power
STEADY = 0.1  # how far the powers may differ
CLEAR = 64.0  # how far above its noise a quotient must be


def diverging(samples: Sequence[Sample], value: Array) -> Array:
    """Return infinity where quotients grew steadily like one power of 1/h, else the value."""
    if len(samples) <= GROWTHS:
        return value
    quotients = np.array([s.value for s in samples])
    noise = np.array([s.noise for s in samples])
    steps = np.array([s.steps for s in samples])
    ratios = np.log(steps[:-1] / steps[1:])
    growth = np.log(quotients[1:] / quotients[:-1]) / ratios[:, :, np.newaxis]
    growth[abs(quotients[1:]) <= CLEAR * noise[1:]] = np.nan
    for end in range(len(growth), GROWTHS - 1, -1):
        window = growth[end - GROWTHS : end]
        steady = (np.ptp(window, axis=0) < STEADY) & (window.min(axis=0) > LEAST)
        value = np.where(steady, np.copysign(np.inf, quotients[end]), value)
    return value
