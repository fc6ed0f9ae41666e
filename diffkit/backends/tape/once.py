"""The short ways to one gradient of a function that returns one number of double precision.

Nothing of the recording is kept. Where anything is out of the ordinary the general way is taken,
which knows every case, every warning and every refusal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from diffkit.assembly import assembled
from diffkit.backends.tape.kinks import KINKS, some_tie
from diffkit.backends.tape.ties import may_tie
from diffkit.backends.tape.walk import all_adjoints
from diffkit.structure import all_finite, concrete, is_traced
from diffkit.target import Function, Point, Target
from diffkit.tracing.graph import Node, Primitive
from diffkit.tracing.primitives import PRIMITIVES
from diffkit.tracing.recording import Run
from diffkit.tracing.tracer import Trace, Traced

_FLOAT64: Final = np.dtype(np.float64)


@dataclass(frozen=True)
class Tried:
    """What the plain function gave, for the general way to go on from."""

    plain: Any


def gradient_at_once(f: Function, x: Any) -> tuple[Any, Any] | Tried | None:
    """The value of a function of one number or array of double precision, and its gradient."""
    kind = type(x)
    if kind is float or kind is np.float64:
        return _of_bare_leaf(f, np.float64(x), np.float64(x)) if math.isfinite(x) else None
    if kind is np.ndarray and x.dtype is _FLOAT64 and all_finite(x):
        return _of_bare_leaf(f, x.copy(order="K"), x.copy(order="K"))
    return _of_traced_leaf(f, x) if kind is Traced and x.dtype is _FLOAT64 else None


def _of_bare_leaf(f: Function, x: Any, copy: Any) -> tuple[Any, Any] | Tried:
    plain = f(copy)
    if not _is_usual(plain):
        return Tried(plain)
    with np.errstate(all="ignore"):  # once for all: it costs as much as several operations
        with Trace(kept=False) as trace:
            traced = trace.input(x)
            try:
                result = f(traced)
            except Exception:  # which the general way will explain
                return Tried(plain)
        if type(result) is not Traced or result.recorder is not trace:
            return Tried(plain)
        adjoints = _adjoints(trace, result.node, plain)
        if adjoints is None:
            return Tried(plain)
    gradient = adjoints[0]
    if gradient is None:
        gradient = np.zeros_like(x)[()]
    elif type(x) is np.ndarray:
        gradient = gradient.copy(order="K")
    return (plain, gradient) if all_finite(gradient) else Tried(plain)


def _of_traced_leaf(f: Function, x: Traced) -> tuple[Any, Any] | None:
    """The same inside another trace, where the plain function cannot be asked."""
    with np.errstate(all="ignore"):
        with Trace(kept=False) as trace:
            traced = trace.input(x)
            try:
                result = f(traced)
            except Exception:  # which the general way will explain
                return None
        if type(result) is not Traced or result.recorder is not trace:
            return None
        plain = concrete(result)
        if not _is_usual(plain):
            return None
        adjoints = _adjoints(trace, result.node, plain)
        gradient = None if adjoints is None else adjoints[0]
        if not is_traced(gradient) or not _is_finite(gradient, x):
            return None
        return result.node.value, gradient


def _is_finite(gradient: Any, x: Traced) -> bool:
    """Whether a traced gradient is finite, which is a guard of every recording that is kept."""
    outer: Any = x
    while is_traced(outer):
        if outer.recorder.kept:
            return bool(np.all(np.isfinite(gradient)))
        outer = outer.value
    return all_finite(gradient)


def number_and_gradient(target: Target, point: Point, plain: Any) -> tuple[Any, Any] | None:
    """The value of a function and its gradient; None where there is anything to look into.

    Args:
        target: the function.
        point: where; not inside another trace.
        plain: what the plain function gave there.
    """
    if not _is_usual(plain):
        return None
    with np.errstate(all="ignore"):
        run = Run(target, point, False, kept=False)
        adjoints = None if run.number is None else _adjoints(run.trace, run.number, plain)
        if adjoints is None:
            return None
    leaves = [
        np.zeros(leaf.shape) if (adjoint := adjoints[node.index]) is None else adjoint
        for node, leaf in zip(run.inputs, point.layout.leaves, strict=True)
    ]
    gradient, bad = assembled(leaves, point.layout)
    return None if bad else (plain, gradient)


def _is_usual(plain: Any) -> bool:
    """Whether a value is a finite double other than zero, whose sign would need a look."""
    return type(plain) is np.float64 and math.isfinite(plain) and plain != 0


def _adjoints(trace: Trace, output: Node, plain: Any) -> list[Any] | None:
    """The adjoints of a recording that ended in a number; None where there is more to it."""
    value = concrete(output.value)
    if trace.refusal is not None or type(value) is not np.float64 or value != plain:
        return None
    nodes = trace.nodes
    values = [node.value for node in nodes]
    if _has_ties(nodes, values):
        return None
    return all_adjoints(nodes, values, [output], [np.float64(1)])


@cache
def _kinked() -> frozenset[Primitive]:
    return frozenset(PRIMITIVES[name] for name in KINKS if name in PRIMITIVES)


def _has_ties(nodes: Sequence[Node], values: list[Any]) -> bool:
    """Whether an outcome hangs on an equality."""
    kinked = _kinked()
    for node in nodes:
        primitive = node.primitive
        if primitive in kinked and primitive is not None and may_tie(node):
            arguments = [concrete(values[source.index]) for source in node.inputs]
            y = concrete(values[node.index])
            if some_tie(primitive.name, y, arguments, node.static):
                return True
    return False
