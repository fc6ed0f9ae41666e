"""Adjoints that are too small for a double though the derivative they lead to is not.

The derivative of 1 / (1 + exp(-x)) at -400 is 2e-174, and on the way to it stands the adjoint
-1 / (1 + exp(400))**2 = -4e-348, which is 0 in doubles. A pullback is linear in its cotangents:
with these taken 2**k times as large it gives 2**k times the derivative, and what was too small is
not. So where the processor reports that something underflowed the walk is repeated with larger
cotangents, and each entry taken from the largest with which it stays finite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.walk import pull_back
from diffkit.callers import warn_user
from diffkit.errors import UnderflowWarning
from diffkit.structure import Leaves, is_traced
from diffkit.tracing.graph import Graph

Scaled = Callable[[float], Leaves]  # a derivative times a factor, by cotangents times that

PARTS: Final = (0.996, 0.88, 0.6, 0.3)  # of the largest exponent: what is tried, in turn
TINY: Final = 2.0**-340  # a double so small that something of it may have underflowed on the way
SAME: Final = 1e-9  # relative, to which two of them agree, beyond what is too small anyway


@dataclass(frozen=True)
class InRange:
    """A derivative, each entry by the scale that suits it.

    Attributes:
        leaves: the derivative.
        lost: for each entry whether no scale keeps all that leads to it in range.
    """

    leaves: Leaves
    lost: Leaves


class Underflow:
    """Whether anything underflowed of late, for NumPy to call where it does.

    Attributes:
        any: whether anything did since this was last made false.
    """

    def __init__(self) -> None:
        self.any = False

    def __call__(self, kind: str, flags: int) -> None:
        self.any = True


def any_tiny(*leaves: Any) -> bool:
    """Whether an entry is so small that something of it may have underflowed on the way."""
    return any(bool(np.count_nonzero(_is_tiny(leaf))) for leaf in leaves)


def _is_tiny(leaf: Any) -> Any:
    double = leaf.dtype == np.float64
    return np.abs(leaf) < (TINY if double else 2.0 ** (np.finfo(leaf.dtype).minexp // 3))


def pulled_in_range(graph: Graph, values: list[Any], cotangents: Leaves) -> Leaves:
    """`pull_back`, with what underflows on the way.

    Warns:
        UnderflowWarning: some of it is lost.
    """
    return kept_in_range(scalable(graph, values, cotangents))


def kept_in_range(apply: Scaled) -> Leaves:
    """A derivative with what underflows on the way to it.

    Warns:
        UnderflowWarning: some of it is lost.
    """
    found = in_range(apply)
    if any(map(np.any, found.lost)):
        warn_user(
            "a derivative passes through numbers that are too small for their dtype, and none "
            "that is a multiple of it stays in range; entries may lack digits, or be zero: "
            "rewrite the function (np.logaddexp, a difference of logarithms), or scale it",
            UnderflowWarning,
        )
    return found.leaves


def scalable(graph: Graph, values: list[Any], cotangents: Leaves) -> Scaled:
    """`pull_back` as a function of a factor of the cotangents."""

    def apply(factor: float) -> Leaves:
        scaled = cotangents if factor == 1.0 else [factor * c for c in cotangents]
        return pull_back(graph, values, scaled)

    return apply


def in_range(apply: Scaled) -> InRange:
    """The derivative that is found with factor 1, or by larger ones if something underflows.

    What underflows is mostly small in truth, which a single repetition shows.
    """
    leaves, underflows = _tried(apply, 1.0)
    plain = InRange(leaves, [np.zeros(np.shape(leaf), bool) for leaf in leaves])
    if not underflows or any(map(is_traced, leaves)) or not any_tiny(*leaves):
        return plain
    if not all(np.all(np.isfinite(leaf)) for leaf in leaves):
        return plain
    return _by_entry(apply, [np.asarray(leaf) for leaf in leaves])


def _by_entry(apply: Scaled, plain: Leaves) -> InRange:
    """Each entry by the largest factor with which it is finite, until that changes nothing.

    What an entry lacks there it lacks more of with a factor that is a little smaller.
    """
    best = [np.full(leaf.shape, np.nan, leaf.dtype) for leaf in plain]
    lost = [_is_tiny(leaf) for leaf in plain]
    for part in PARTS:
        exponent = int(part * min(int(np.finfo(leaf.dtype).maxexp) for leaf in plain))
        found, underflows = _scaled(apply, plain, exponent)
        checked = _scaled(apply, plain, exponent - 4)[0] if underflows else found
        new = [np.isnan(a) & np.isfinite(b) for a, b in zip(best, found, strict=True)]
        best = [np.where(n, b, a) for n, a, b in zip(new, best, found, strict=True)]
        lost = [
            np.where(n, ~_alike(a, b), o)
            for n, o, a, b in zip(new, lost, found, checked, strict=True)
        ]
        if not any(np.any(np.isnan(leaf)) for leaf in best):
            break
    best = [np.where(np.isnan(a), b, a)[()] for a, b in zip(best, plain, strict=True)]
    return InRange(best, lost)


def _scaled(apply: Scaled, like: Leaves, exponent: int) -> tuple[Leaves, bool]:
    """The derivative by one factor, not finite where that is too large."""
    found, underflows = _tried(apply, 2.0**exponent)
    with np.errstate(all="ignore"):
        back = [leaf.dtype.type(2.0**-exponent) for leaf in like]
        return [np.asarray(leaf) * b for leaf, b in zip(found, back, strict=True)], underflows


def _tried(apply: Scaled, factor: float) -> tuple[Leaves, bool]:
    noted = Underflow()
    with np.errstate(all="ignore", under="call", call=noted):
        return apply(factor), noted.any


def _alike(a: Any, b: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return np.abs(a - b) <= SAME * np.abs(a) + np.finfo(a.dtype).smallest_normal
