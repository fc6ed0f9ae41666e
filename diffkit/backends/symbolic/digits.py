"""How many digits of a derivative must be left for it to be given out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from diffkit.callers import warn_user
from diffkit.errors import RoundingWarning, UnsupportedOperation
from diffkit.structure import Leaves

KEPT: Final = 0.575  # power of eps that an error may be of its entry
NUDGES: Final = 2
FLOOR: Final = 1000.0  # units in the last place of the largest entry that an error may be


class DigitsLostError(UnsupportedOperation):
    """Rounding takes the digits of a derivative at this point, as its formulas are computed."""


def allowance(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return how large an error may be, in units of the last place of 1.

    The first is for an entry of 1, the second for any entry beside one of 1: in double precision
    1e-9 and 1e-13 of it.
    """
    eps = float(np.finfo(dtype).eps)
    return 2 * eps**KEPT / eps, FLOOR


def digits_kept(sizes: Any, errors: Any, dtype: np.dtype[Any]) -> Any:
    """Return which entries keep their digits, among the entries of each row.

    Args:
        sizes: the absolute values, (rows, entries).
        errors: how far they may be off, in units of the last place of 1.
        dtype: what they were computed in.
    """
    kept, floor = allowance(dtype)
    sure = errors <= kept * sizes
    if sizes.shape[1] == 1:
        return sure
    largest = np.max(np.where(sure, sizes, 0), axis=1, keepdims=True, initial=0)
    return sure | (errors <= floor * largest)


def one_row(leaves: Leaves) -> Any:
    """Return all entries in one row."""
    return np.concatenate([np.zeros(0), *(np.ravel(leaf) for leaf in leaves)])


def distances(found: Leaves, better: Leaves, dtype: np.dtype[Any]) -> Any:
    """Return those between entries, in units of the last place of 1, (1, entries)."""
    with np.errstate(all="ignore"):
        apart = np.abs(one_row(found) - one_row(better))
    return apart[None] / (np.finfo(dtype).eps / 2)


def scatter(
    compute: Callable[[Leaves], Leaves], leaves: Leaves, result: Leaves, dtype: np.dtype[Any]
) -> Any:
    """Return how far a result moves when the point is rounded otherwise, as `distances` does.

    That is what a backward stable algorithm, such as those of LAPACK, may be off.
    """
    generator = np.random.default_rng(20)
    eps = np.finfo(dtype).eps
    largest = np.zeros((1, one_row(result).size))
    for _ in range(NUDGES):
        nudged = [
            (a * (1 + eps * generator.uniform(-1, 1, np.shape(a)))).astype(dtype)
            for a in map(np.asarray, leaves)
        ]
        largest = np.maximum(largest, distances(result, compute(nudged), dtype))
    return largest


def warn_of_lost_digits(name: str) -> None:
    """Say that a derivative has lost digits, at the line of the user's that asked for it."""
    warn_user(
        f"rounding takes the digits of the symbolic derivative of {name} at this point (terms "
        "cancel); it is returned as computed: use form='shared', and see prepared.estimate",
        RoundingWarning,
    )
