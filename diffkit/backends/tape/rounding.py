"""What rounding alone may do to a derivative, measured on the recorded graph.

Monte Carlo arithmetic (Parker, "Monte Carlo arithmetic", 1997; the random perturbation of
Vignes' CESTAC): every value that is computed is changed at random by up to one eps of its
dtype, and the derivative recomputed. Entries that depend on cancelling terms scatter as much as
those terms are uncertain. The errors of adjoints are followed beside them, each on its own, so
that the result holds for whatever formula a correct program uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np

from diffkit.assembly import assembled, assembled_blocks, by_rows, derivative_name
from diffkit.backends.tape.underflow import in_range, scalable
from diffkit.backends.tape.walk import fitted, pull_back
from diffkit.interface import Estimate
from diffkit.structure import Array, Leaves, flatten
from diffkit.target import Output
from diffkit.tracing.graph import Graph, Node, Primitive

RUNS: Final = 8
MARGIN: Final = 8.0  # times the scatter of a sample of 8: exceeded once in a million


@dataclass(frozen=True)
class RoundingBudget:
    """How far a correct derivative may be from the exact one, in one dtype.

    Attributes:
        scatter: root mean square deviation of every entry: the leaves of a gradient, or the
            blocks of a Jacobian row by row.
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
    """Return how rounding scatters the derivative of a recorded function.

    Args:
        graph: recorded in the dtype in question, its indices fixed.
        amplification: eps of the derivative's own dtype over eps of the graph's.
    """
    generator = np.random.default_rng(0)
    samples = [_perturbed(graph, generator, amplification) for _ in range(RUNS)]
    carried = [_carried(graph, generator) for _ in range(RUNS)]
    longest = max((max(np.shape(node.value), default=1) for node in graph.nodes), default=1)
    return RoundingBudget(
        [
            np.hypot(_scatter(np.stack(values)), amplification * _scatter(np.stack(adjoints)))
            for values, adjoints in zip(
                zip(*samples, strict=True), zip(*carried, strict=True), strict=True
            )
        ],
        max(1.0, float(np.sqrt(longest)) / 4),
    )


def estimated(graph: Graph, derivative: Any) -> Estimate:
    """Return a derivative with how far rounding may have taken it.

    An entry is `noisy` where that is more than half the digits of the largest entry: terms cancel
    that are no better known, and no formula in this dtype can tell.

    Args:
        graph: recorded at the point, its indices fixed.
        derivative: the gradient or Jacobian there, in the user's structure.
    """
    output, x = graph.output_layout, graph.layout
    _, leaves = flatten(derivative, "derivative")
    eps = [float(np.finfo(leaf.dtype).eps) for leaf in leaves]
    errors = [
        np.where(lost > 0, np.inf, error)
        for lost, error in zip(
            _lost(graph), rounding_budget(graph).allowed(leaves, eps), strict=True
        )
    ]
    largest = max((float(np.max(np.abs(leaf), initial=0.0)) for leaf in leaves), default=0.0)
    noisy = [
        bool(lost)
        for error, unit in zip(errors, eps, strict=True)
        for lost in np.ravel(error > np.sqrt(unit) * largest)
    ]
    width = max(len(x.leaves), 1)
    blocks = [errors[i : i + width] for i in range(0, len(errors), width)]
    whole = assembled(blocks[0], x) if output.is_scalar else assembled_blocks(blocks, output, x)
    status = ("noisy" if lost else "converged" for lost in noisy)
    return Estimate(derivative, whole[0], 0, dict(zip(_names(graph), status, strict=True)))


def _lost(graph: Graph) -> Leaves:
    """Where an entry is made of numbers too small for their dtype."""
    values = [node.value for node in graph.nodes]
    return _by_units(graph, lambda unit: in_range(scalable(graph, values, unit)).lost)


def _names(graph: Graph) -> list[str]:
    """The name of every entry, block by block."""
    rows, columns = graph.output_layout, graph.layout
    if rows.is_scalar:
        return columns.entry_names()
    return [
        derivative_name(row.entry_name(i), column.entry_name(j))
        for row in rows.leaves
        for column in columns.leaves
        for i in range(row.size)
        for j in range(column.size)
    ]


def _scatter(samples: Array) -> Array:
    """Root mean square deviation over the runs; infinite where a run was not finite."""
    with np.errstate(all="ignore"):
        deviation = np.sqrt(np.mean((samples - samples.mean(axis=0)) ** 2, axis=0))
    return np.where(np.isfinite(deviation), deviation, np.inf)


def _perturbed(graph: Graph, generator: Any, amplification: float) -> Leaves:
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
        return _by_units(graph, lambda unit: pull_back(graph, values, unit))


def _by_units(graph: Graph, pull: Callable[[Leaves], Leaves]) -> Leaves:
    """The blocks of a derivative, or of its error, row by row."""
    blocks = by_rows(Output(graph.output_layout, []), graph.layout, pull)
    return [np.asarray(block, np.longdouble) for block in chain(*blocks)]


def _carried(graph: Graph, generator: Any) -> Leaves:
    """The rounding errors of adjoints, drawn at random, where they end up in the derivative."""
    with np.errstate(all="ignore"):
        return _by_units(graph, lambda unit: _Errors(graph, generator).pulled_back(unit))


class _Errors:
    """A reverse walk that follows the errors of adjoints beside the adjoints.

    Errors that reach a value on several ways do not cancel here, though they may in this walk: a
    correct program may leave out one of the ways, as one that takes the shift of a softmax for
    constant does.
    """

    def __init__(self, graph: Graph, generator: np.random.Generator) -> None:
        self.graph = graph
        self.generator = generator
        self.adjoints: dict[int, Any] = {}
        self.sizes: dict[int, Any] = {}  # of all that was added up
        self.errors: dict[int, Any] = {}

    def pulled_back(self, cotangents: Leaves) -> Leaves:
        """The errors of the adjoints of the inputs, given exact ones of the outputs."""
        for node, cotangent in zip(self.graph.outputs, cotangents, strict=True):
            if node.active:
                self._add(node.index, cotangent, np.zeros_like(cotangent))
                self.sizes[node.index] = np.zeros_like(cotangent)
        for node in reversed(self.graph.nodes):
            if node.primitive is not None and node.index in self.adjoints:
                self._pass_on(node, node.primitive)
        return [
            self._error(node.index) if node.index in self.adjoints else np.zeros_like(node.value)
            for node in self.graph.inputs
        ]

    def _pass_on(self, node: Node, primitive: Primitive) -> None:
        error, g = self._error(node.index), self.adjoints.pop(node.index)
        arguments = [source.value for source in node.inputs]
        about = (node.value, arguments, node.static)
        for position, (source, argument) in enumerate(zip(node.inputs, arguments, strict=True)):
            adjoint = primitive.pull(position, g, *about) if source.active else None
            if adjoint is not None:
                carried = fitted(primitive.pull(position, error, *about), argument)
                sign = self.generator.choice([-1, 1], np.shape(carried))
                self._add(source.index, _finite(fitted(adjoint, argument)), _finite(sign * carried))

    def _add(self, index: int, adjoint: Any, error: Any) -> None:
        for table, term in (
            (self.adjoints, adjoint),
            (self.sizes, np.abs(adjoint)),
            (self.errors, error),
        ):
            table[index] = table[index] + term if index in table else term

    def _error(self, index: int) -> Any:
        """The error of an adjoint, that of adding it up included."""
        size = self.sizes.pop(index)
        unit = np.finfo(size.dtype).eps
        noise = unit * self.generator.uniform(-1, 1, np.shape(size)) * size
        return (self.errors.pop(index) + noise).astype(size.dtype)


def _finite(adjoint: Any) -> Any:
    """An adjoint without what is infinite, where an infinite slope was not taken."""
    return np.where(np.isfinite(adjoint), adjoint, np.zeros_like(adjoint))


@dataclass(frozen=True)
class _Shake:
    """Moves a value at random by up to one eps of a given size, or the smallest number there is."""

    generator: np.random.Generator
    amplification: float

    def __call__(self, value: Any, size: Any) -> Any:
        if not _real(value):
            return value
        array = np.asarray(value)
        unit = float(np.finfo(array.dtype).eps) * self.amplification
        size = unit * size + float(np.finfo(array.dtype).smallest_subnormal) * (size != 0)
        noise = self.generator.uniform(-1, 1, array.shape) * size
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
