"""Whether the exact value of a graph is what the function computes, to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.arithmetic import FlintSeries, PrecisionNeeded
from diffkit.errors import TruthUnavailable
from diffkit.tracing.graph import Graph, Missing, Node
from diffkit.tracing.to_mpmath import repeat_locally

Array = npt.NDArray[Any]


def require_same_value(name: str, graph: Graph, outputs: Sequence[Array]) -> None:
    """Check the exact value against the computed one.

    Rounding may move the value by about an ulp of the largest number on the way per operation.
    An ill-conditioned function may amplify it further: then each operation must do what it did
    for the rounded arguments that it was given.

    Raises:
        TruthUnavailable: they differ by more.
    """
    if all(
        _near(exact, np.asarray(node.value), _scale(graph), 8 * (1 + graph.operations))
        for exact, node in zip(outputs, graph.outputs, strict=True)
    ):
        return
    for node in graph.nodes:
        if node.primitive is not None and not _repeats(node):
            raise TruthUnavailable(
                f"{node.primitive.called} at {node.location}, in {name}, does not give in "
                "arbitrary precision what it gives in floating point (it overflowed, is "
                "ill-conditioned, or the value was changed outside the graph)"
            )


def _repeats(node: Node) -> bool:
    """Whether the operation gives, for the arguments recorded, the value recorded."""
    assert node.primitive is not None
    recorded = np.asarray(node.value)
    if isinstance(node.primitive.exact, Missing):
        return True  # the recorded value is used as it is
    arguments = [np.asarray(i.value) for i in node.inputs]
    arithmetic = FlintSeries(1, 0, 256, final=True)
    try:
        with arithmetic:
            exact = repeat_locally(node, arithmetic)
    except PrecisionNeeded:
        return True  # rounding to an integer, at a tie
    if node.primitive.elementwise or node.primitive.movement:
        return _near(exact, recorded, 0.0, 64)
    largest = [float(np.max(np.abs(a), initial=1.0)) for a in arguments if a.dtype.kind == "f"]
    terms = max((a.size for a in arguments), default=1)
    return _near(exact, recorded, float(np.prod(largest)), 64 * terms)


def _near(exact: Array, computed: Array, scale: float, ulps: int) -> bool:
    """Within so many units of round-off, relative to the entry or to the scale."""
    if computed.dtype.kind != "f":
        whole = np.array([_rounded(x) for x in exact.flat], np.longdouble)
        return bool(np.array_equal(whole, computed.reshape(-1).astype(np.longdouble)))
    info = np.finfo(computed.dtype)
    numbers = np.array([_rounded(x) for x in exact.flat], np.longdouble)
    plain = computed.reshape(-1).astype(np.longdouble)
    infinite = ~np.isfinite(plain)
    if np.any(np.isfinite(numbers[infinite]) & (np.abs(numbers[infinite]) <= float(info.max))):
        return False
    numbers, plain = numbers[~infinite], plain[~infinite]
    size = np.maximum(np.abs(plain), np.longdouble(scale))
    budget = ulps * (np.longdouble(info.eps) * size + np.longdouble(info.smallest_subnormal))
    with np.errstate(invalid="ignore"):
        return bool(np.all(np.abs(numbers - plain) <= budget))


def _rounded(x: Any) -> Any:
    """The midpoint of a ball, to longdouble's precision; NaN where there is none."""
    if isinstance(x, (bool, int, np.bool_, np.integer)):
        return np.longdouble(x)
    if not x.is_finite():
        return np.longdouble(float(x.mid())) if not x.is_nan() else np.longdouble(np.nan)
    high = float(x.mid())
    return (
        np.longdouble(high) + np.longdouble(float((x - high).mid())) if np.isfinite(high) else high
    )


def _scale(graph: Graph) -> float:
    """The largest finite number that the computation went through."""
    largest = 0.0
    for node in graph.nodes:
        value = np.asarray(node.value)
        if value.dtype.kind == "f":
            finite = value[np.isfinite(value)]
            largest = max(largest, float(np.max(np.abs(finite), initial=0.0)))
    return largest
