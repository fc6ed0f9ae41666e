"""Whether what a program computes is what the function, or the reverse walk, gives."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from diffkit.structure import Leaves, is_traced

ROUNDING: Final[dict[type, float]] = {np.float64: 2.0**-26, np.float32: 2.0**-11}
"""Up to which two ways to compute a value may differ: about the square root of epsilon."""


def is_value(found: Any, value: Any) -> bool:
    """Whether the number that a program found is the one that the function gave."""
    return bool(abs(found - value) <= ROUNDING[type(value)] * abs(value))


def agree(found: Leaves, expected: Leaves) -> bool:
    """Whether two gradients differ by no more than many roundings, in the largest entry."""
    if any(map(is_traced, expected)):
        return False
    pairs = list(zip(found, expected, strict=True))
    eps = max((float(np.finfo(np.asarray(b).dtype).eps) for _, b in pairs), default=0.0)
    size = max((float(np.max(np.abs(b), initial=0)) for _, b in pairs), default=0.0)
    apart = max((float(np.max(np.abs(a - b), initial=0)) for a, b in pairs), default=0.0)
    return bool(apart <= np.sqrt(eps) * size)
