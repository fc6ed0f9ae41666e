"""What rounding alone may do to a gradient, measured on the recorded graph.

Monte Carlo arithmetic (Parker, "Monte Carlo arithmetic", 1997; the random perturbation of
Vignes' CESTAC): every value that is computed is changed at random by up to one eps of its
dtype, and the gradient recomputed; adjoints are computed on other scales. Entries that depend on
cancelling terms scatter as much as those terms are uncertain, whatever formula a correct program
uses for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.walk import pull_back
from diffkit.structure import Array, Leaves
from diffkit.tracing.graph import Graph, Node

RUNS: Final = 8
MARGIN: Final = 8.0  # times the scatter of a sample of 8: exceeded once in a million


@dataclass(frozen=True)
class RoundingBudget:
    """How far a correct gradient may be from the exact one, in one dtype.

    Attributes:
        scatter: root mean square deviation of every entry, as leaves.
        growth: what summing along the longest axis in the least careful order adds.
    """

    scatter: Leaves
    growth: float

    def allowed(self, reference: Leaves, eps: Sequence[float]) -> Leaves:
        """The largest error of each entry, from the scatter and the entry's own last digits."""
        return [
            MARGIN * (self.growth * scatter + unit * np.abs(leaf))
            for scatter, leaf, unit in zip(self.scatter, reference, eps, strict=True)
        ]


def rounding_budget(graph: Graph, amplification: float = 1.0) -> RoundingBudget:
    """Return how rounding scatters the gradient of a scalar function's graph.

    Args:
        graph: recorded in the dtype in question.
        amplification: eps of the gradient's own dtype over eps of the graph's.
    """
    generator = np.random.default_rng(0)
    samples = [_perturbed_gradient(graph, generator, amplification) for _ in range(RUNS)]
    rescaled = [_rescaled_gradient(graph, generator) for _ in range(RUNS)]
    longest = max((max(np.shape(node.value), default=1) for node in graph.nodes), default=1)
    return RoundingBudget(
        [
            np.hypot(_scatter(np.stack(values)), amplification * _scatter(np.stack(adjoints)))
            for values, adjoints in zip(
                zip(*samples, strict=True), zip(*rescaled, strict=True), strict=True
            )
        ],
        max(1.0, float(np.sqrt(longest)) / 4),
    )


def _scatter(samples: Array) -> Array:
    """Root mean square deviation over the runs; infinite where a run was not finite."""
    with np.errstate(all="ignore"):
        deviation = np.sqrt(np.mean((samples - samples.mean(axis=0)) ** 2, axis=0))
    return np.where(np.isfinite(deviation), deviation, np.inf)


def _perturbed_gradient(graph: Graph, generator: Any, amplification: float) -> Leaves:
    values: list[Any] = [node.value for node in graph.nodes]
    uses = Counter(source.index for node in graph.nodes for source in node.inputs)
    shake = _Shake(generator, amplification)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.primitive is None:
                value, exact = node.value, _whole(node.value)
            else:
                arguments = [values[i.index] for i in node.inputs]
                value = node.primitive.function(*arguments, **node.static)
                exact = _unrounded(value, arguments)
                _charge_arguments(node, value, values, uses, shake)
            values[node.index] = shake(value, np.where(exact, 0.0, np.abs(value)))
        one = np.ones((), graph.output_layout.leaves[0].dtype)
        return [np.asarray(leaf, np.longdouble) for leaf in pull_back(graph, values, [one])]


def _rescaled_gradient(graph: Graph, generator: Any) -> Leaves:
    """The gradient by an adjoint that is not 1, divided by it: other digits are rounded away.

    That shows what rounding does to adjoints, which may cancel where no value does.
    """
    (output,) = graph.output_layout.leaves
    scale = np.asarray(generator.uniform(1, 2), output.dtype)
    values: list[Any] = [node.value for node in graph.nodes]
    with np.errstate(all="ignore"):
        adjoints = pull_back(graph, values, [scale])
        return [np.asarray(leaf, np.longdouble) / scale.astype(np.longdouble) for leaf in adjoints]


@dataclass(frozen=True)
class _Shake:
    """Moves a value at random by up to one eps of a given size."""

    generator: np.random.Generator
    amplification: float

    def __call__(self, value: Any, size: Any) -> Any:
        if not _real(value):
            return value
        array = np.asarray(value)
        unit = float(np.finfo(array.dtype).eps) * self.amplification
        noise = unit * self.generator.uniform(-1, 1, array.shape) * size
        moved = (array + noise).astype(array.dtype)
        return moved if isinstance(value, np.ndarray) else moved[()]


def _real(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "f"


def _whole(value: Any) -> Any:
    """Where a constant or a datum is a whole number: an exponent, a count, a label."""
    return np.asarray(value) == np.round(value) if _real(value) else True


def _unrounded(value: Any, arguments: Sequence[Any]) -> Any:
    """Where a value is, up to sign, one of the arguments: selected or moved, not computed."""
    if not _real(value):
        return True
    known = [np.abs(np.asarray(a, float)).ravel() for a in arguments if _real(a)]
    if not known:
        return False
    return np.isin(np.abs(np.asarray(value, float)), np.concatenate(known))


def _charge_arguments(
    node: Node, value: Any, values: list[Any], uses: Counter[int], shake: _Shake
) -> None:
    """Charge to an argument what is lost of it in a saturated result.

    A gradient written in terms of the result (s (1 - s) for a sigmoid, whose result comes from
    1 + v; 1 - y² for y = tanh x) knows the argument no better than the result does.
    """
    name = node.primitive.name if node.primitive else ""
    if name == "tanh" and uses[node.inputs[0].index] == 1:
        (source,) = node.inputs
        values[source.index] = _with_slope_shaken(values[source.index], value, shake)
    if name in ("add", "subtract"):
        for source, other in (node.inputs, node.inputs[::-1]):
            if not source.active or other.active or np.any(np.abs(values[other.index]) != 1):
                continue
            v = values[source.index]
            if np.shape(v) == np.shape(value):
                lost = np.where(np.abs(v) < np.abs(value), np.abs(value), 0.0)
                values[source.index] = shake(v, lost)


def _with_slope_shaken(x: Any, y: Any, shake: _Shake) -> Any:
    """The argument of tanh, moved so that its slope 1 / cosh² x changes by one eps of 1."""
    e = np.exp(-2 * np.abs(x))
    slope = np.abs(shake(4 * e / (1 + e) ** 2, np.ones_like(e)))
    slope = np.clip(slope, np.finfo(np.asarray(x).dtype).tiny, 1)
    moved = np.where(np.abs(y) > 0.5, np.copysign(np.arccosh(1 / np.sqrt(slope)), x), x)
    return moved.astype(np.asarray(x).dtype) if isinstance(x, np.ndarray) else moved[()]
