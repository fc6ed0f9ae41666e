"""What simple mistake explains a wrong gradient, if one does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffkit.structure import Array

SIMILAR = 1e-6  # relative error up to which a mistake explains what is seen


def diagnose(
    given: Array, reference: Array, allowed: Array, wrong: Array, lengths: Sequence[int] = ()
) -> str:
    """Return the mistake that turns `reference` into `given`, or an empty string.

    Args:
        given: what somebody computed.
        reference: what it should be, of the same shape.
        allowed: the rounding error of each entry.
        wrong: which entries are wrong, raveled.
        lengths: sizes of the problem that may have been forgotten as a factor.
    """
    flat, right, slack = np.ravel(given), np.ravel(reference), np.ravel(allowed)
    if not np.all(np.isfinite(flat)):
        return "entries are not finite"
    if not np.all(np.isfinite(right)):
        return ""

    def explains(candidate: Any) -> bool:
        near = np.abs(flat - np.ravel(candidate))
        scale = SIMILAR * np.abs(flat) + 4 * slack + 1e-9 * np.max(np.abs(flat), initial=0)
        return bool(np.all(near <= scale))

    if not flat.any():
        return "the gradient given is zero"
    if explains(right):  # too close for a factor or an order to be told from none
        return _few(flat, wrong)
    if explains(-right):
        return "the sign is flipped"
    factor = _factor(flat, right)
    if factor and flat.size > 1 and explains(factor * right):
        return _named(factor, lengths)
    if flat.size == 1 and factor:
        return _named(factor, lengths, only_simple=True)
    if np.ndim(given) == 2 and given.shape[0] == given.shape[1] and explains(reference.T):
        return "it is transposed"
    if np.ndim(given) == 2 and explains(reference.reshape(given.shape[::-1]).T):
        return "it is transposed before it is reshaped"
    order = np.sort(flat), np.sort(right)
    close = SIMILAR * np.abs(order[1]) + 4 * np.min(slack)
    if wrong.sum() > 1 and np.all(np.abs(order[0] - order[1]) <= close):
        return "the right numbers stand in another order"
    return _few(flat, wrong)


def _few(flat: Array, wrong: Array) -> str:
    count, total = int(wrong.sum()), flat.size
    if total > 1 and not flat[wrong].any():
        return f"{'an entry is' if count == 1 else f'{count} entries are'} zero and should not be"
    if total > 2 and count == 1:
        return "one entry is wrong and the others are right"
    return ""


def _factor(given: Array, reference: Array) -> float:
    """The number that comes closest to `given / reference`."""
    square = float(reference @ reference)
    return float(given @ reference) / square if square else 0.0


def _named(factor: float, lengths: Sequence[int], *, only_simple: bool = False) -> str:
    """A factor in words: 2, 1/2, or a length of the data."""
    for n in sorted({2, *lengths}):
        for sign, word in ((1, ""), (-1, " and the sign is flipped")):
            if abs(factor * sign - n) <= SIMILAR * n:
                return f"it is {n} times what it should be{word}"
            if abs(factor * sign * n - 1) <= SIMILAR:
                return f"it is 1/{n} of what it should be{word}"
    return "" if only_simple else f"it is {factor:.6g} times what it should be"
