"""What a row of the table of ties says: where an operation is tied, and what it is beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.tracing.primitives.lanes import kept_shape

Values = Sequence[Any]
Static = Mapping[str, Any]


@dataclass(frozen=True)
class Sided:
    """What an operation is on one side of a tie.

    Attributes:
        value: its value there in the limit; None where that is the value at the point.
        slopes: for each argument the factors from tangent to change of the value, laid out like
            the reduced array where the operation reduces; None for an outcome, which is constant.
    """

    value: Any = None
    slopes: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Kink:
    """A row: how one operation behaves at a tie.

    Attributes:
        tied: `tied(y, *arguments, **static)`, an array: true where the outcome hangs on equality.
            In traceable NumPy, since a compiled program asks too.
        side: `side(tied, y, arguments, tangents, static)`, the operation beside the tie.
        reduces: whether slopes belong to entries of lanes that the operation reduces; then alone
            does `tied` look at `y`.
        some: `some(y, *arguments, **static)`, whether anything is tied, where that is found faster.
    """

    tied: Callable[..., Any]
    side: Callable[[Any, Any, Values, Values, Static], Sided]
    reduces: bool = False
    some: Callable[..., bool] | None = None


def leaning(a: Any, b: Any = 0.0) -> Any:
    """The sign of `a - b`, 0 where they differ by rounding alone."""
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    small = 1e-9 * (np.abs(a) + np.abs(b))
    return np.where(np.abs(a - b) <= small, 0.0, np.sign(a - b))


def equal(y: Any, a: Any, b: Any, **static: Any) -> Any:
    return np.equal(a, b)


def spread_cotangent(kink: Kink, g: Any, arguments: Values, static: Static) -> Any:
    """A cotangent laid out beside the slopes."""
    if not kink.reduces:
        return g
    return np.reshape(g, kept_shape(np.shape(arguments[0]), static["axis"]))
