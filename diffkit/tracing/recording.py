"""`trace(f, x)`: run a plain NumPy function once and return the graph of what it computed."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.errors import DiffkitError, InvalidOutput, TracingError
from diffkit.structure import Layout, Leaves, concrete, is_traced, map_leaves
from diffkit.target import Function, Output, Point, Target, point_of
from diffkit.tracing.graph import Graph, Node, pack, same_value
from diffkit.tracing.locations import is_internal
from diffkit.tracing.outside import OutsideState, outside_state
from diffkit.tracing.tracer import Trace, Traced


@dataclass(frozen=True)
class DataLayout:
    """What a recording took from the data arguments besides their numbers.

    Numeric arrays and floating-point numbers are inputs of the graph, told apart by shape,
    dtype and order in memory alone. Everything else (integers, strings, None, functions) is
    fixed at recording.
    """

    description: tuple[Any, ...]

    @property
    def fixed(self) -> list[Any]:
        """The data that are not inputs of the graph."""
        return [part.value for part in self.description if isinstance(part, _Fixed)]


def describe_data(data: tuple[Any, ...]) -> tuple[DataLayout, Leaves]:
    """The layout of the data arguments, and their numeric leaves."""
    description: list[Any] = []
    leaves: Leaves = []

    def visit(value: Any) -> None:
        if is_data(value):
            leaves.append(value)
            kind = np.ndarray if is_traced(value) else type(value)
            shape, dtype = np.shape(concrete(value)), _dtype(value)
            description.append((kind, shape, dtype, memory_order(value)))
        else:
            description.append(_Fixed(value))

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            description.append(("dict", tuple(value), tuple(map(type, value))))
            for member in value.values():
                walk(member)
        elif isinstance(value, (list, tuple)):
            description.append((type(value), len(value)))
            for member in value:
                walk(member)
        else:
            visit(value)

    walk(data)
    return DataLayout(tuple(description)), leaves


def memory_order(value: Any) -> tuple[int, ...]:
    """The axes from the slowest to the fastest: whether `ravel` is a view depends on it."""
    value = concrete(value)
    if np.ndim(value) < 2:
        return ()
    return tuple(sorted(range(value.ndim), key=lambda axis: -abs(value.strides[axis])))


def is_data(value: Any) -> bool:
    """Whether a leaf of the data arguments enters the graph as an input."""
    if type(value) is np.ndarray:
        return value.dtype.kind in "biuf"
    if is_traced(value):
        return True
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "biuf"
    return isinstance(value, float)


def _dtype(value: Any) -> np.dtype[Any]:
    return np.asarray(concrete(value)).dtype


class _Fixed:
    """A datum compared by identity or, where it is a plain constant, by value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Fixed):
            return NotImplemented
        if self.value is other.value:
            return True
        plain = (bool, int, str, bytes, type(None))
        return (
            isinstance(self.value, plain)
            and type(self.value) is type(other.value)
            and bool(self.value == other.value)
        )

    def __hash__(self) -> int:
        return hash(type(self.value))


def trace(f: Function, *arguments: Any, wrt: int | tuple[int, ...] = 0) -> Graph:
    """Return the graph of what `f` computes at the given positional arguments.

    Raises:
        TracingError: a traced value left the graph, or `f` behaves differently when traced.
        UnsupportedOperation: `f` uses a NumPy function that is not in the table.
    """
    target = Target(f, wrt)
    return record(target, point_of(target, arguments))


def record(target: Target, point: Point) -> Graph:
    """Run `target` at `point` and return its graph."""
    nested = is_nested(point)
    return record_beside(target, point, None if nested else target.output(target.call_plain(point)))


def record_beside(target: Target, point: Point, plain: Output | None) -> Graph:
    """Run `target` at `point` and return its graph.

    Args:
        target: the function.
        point: where to run it.
        plain: what the plain function gives there; None where the point `is_nested`.
    """
    with np.errstate(all="ignore"):
        return Run(target, point, plain is None).graph(plain)


def is_nested(point: Point) -> bool:
    """Whether a point lies inside another trace, where the plain function cannot be asked."""
    return any(map(is_traced, point.leaves)) or any(map(holds_traced, point.data))


def holds_traced(value: Any) -> bool:
    """Whether anything in a structure is traced."""
    if type(value) is np.ndarray:
        return False
    if isinstance(value, dict):
        return any(map(holds_traced, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(holds_traced, value))
    return is_traced(value)


class Run:
    """One run of a function on traced values; NumPy's warnings must be off.

    Attributes:
        trace: the recording, ended.
        inputs: the nodes of the leaves of x.
        data: the nodes of the numeric leaves of the data.
    """

    def __init__(self, target: Target, point: Point, nested: bool) -> None:
        """Run `target` at `point`.

        Args:
            target: the function.
            point: where to run it.
            nested: whether that `is_nested`.
        """
        self.target, self.point, self.nested = target, point, nested
        self.data: list[Node] = []
        self._number: Node | None = None
        with Trace() as self.trace:
            x = [self.trace.input(leaf) for leaf in point.layout.cast(point.leaves)]
            self.inputs = [leaf.node for leaf in x]
            data = tuple([map_leaves(self._entered, item) for item in point.data])
            result = self._called(point.layout.unflatten(x), data)
            if type(result) is Traced and result.recorder is self.trace:
                self._number, self._output = result.node, None
            else:
                output = self._output = target.output(_joined(result))
                self._outputs = [self._node(leaf) for leaf in output.leaves]

    def _entered(self, value: Any) -> Any:
        """A member of the data, traced if it is made of numbers."""
        if not is_data(value):
            return value
        traced = self.trace.data(value)
        self.data.append(traced.node)
        return traced

    def _called(self, x: Any, data: tuple[Any, ...]) -> Any:
        trace, target = self.trace, self.target
        try:
            result = target.call(x, data)
        except Exception as error:
            if trace.refusal is not None:
                raise trace.refusal from (None if trace.refusal is error else error)
            if isinstance(error, DiffkitError) or (self.nested and not _about_tracing(error)):
                raise
            raise TracingError(
                f"{target.name} works on plain arrays and fails on traced ones, at "
                f"{_user_line(error)}: {type(error).__name__}: {error}; {_way_out(error)}, or "
                "backend='finite'"
            ) from error
        if trace.refusal is not None:
            raise trace.refusal
        return result

    def _node(self, leaf: Any) -> Node:
        if is_traced(leaf) and leaf.recorder is self.trace:
            node: Node = leaf.node
            return node
        return self.trace.constant(leaf)

    def graph(self, plain: Output | None) -> Graph:
        """The graph of what was computed, whose value is compared with that of the plain function.

        That catches what no tracer sees: `isinstance(x, np.ndarray)`, `np.isscalar(x)`, writes
        through `np.asarray(x)`, random numbers.
        """
        if self._number is not None:
            layout = self.target.output(Traced(self.trace, self._number)).layout
            graph = self.graph_to([self._number], layout)
        else:
            assert self._output is not None
            graph = self.graph_to(self._outputs, self._output.layout)
        if plain is not None:
            _compare(self.target, graph, plain)
        return graph

    def graph_to(self, outputs: list[Node], layout: Layout) -> Graph:
        """The graph with the given outputs."""
        trace = self.trace
        return Graph(
            trace.nodes, self.inputs, self.data, self.point.layout, outputs, layout, trace.guards
        )


def _about_tracing(error: Exception) -> bool:
    return isinstance(error, (TypeError, ValueError)) and (
        "Traced" in str(error) or "dtype('O')" in str(error) or "array element" in str(error)
    )


def _way_out(error: Exception) -> str:
    if f"{os.sep}scipy{os.sep}" in _user_line(error):
        return (
            "functions that SciPy writes in Python do not follow traced values, its ufuncs do: "
            "for logsumexp(x) use np.logaddexp.reduce(x)"
        )
    return "use np.stack or np.zeros_like(x) to build arrays from traced values"


def _user_line(error: Exception) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not is_internal(frame.filename)
    ]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def _joined(result: Any) -> Any:
    """What the traced function returned, object arrays of traced scalars joined."""

    def joined(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype == object:
            return pack(value)
        return value

    return None if result is None else map_leaves(joined, result)


def _compare(target: Target, graph: Graph, plain: Output) -> None:
    """Check that the traced function computed what the plain one does, to rounding."""
    layout = graph.output_layout
    if layout.nesting != plain.layout.nesting or any(
        a.shape != b.shape for a, b in zip(layout.leaves, plain.layout.leaves, strict=True)
    ):
        raise InvalidOutput(
            f"{target.name} returns {plain.layout.summary()}, but {layout.summary()} when "
            "traced; it must not ask for the type of its argument, or be random"
        )
    for node, expected in zip(graph.outputs, plain.leaves, strict=True):
        if not _close(concrete(node.value), expected, graph):
            raise TracingError(
                f"{target.name} gives {expected} on plain arrays and {concrete(node.value)} when "
                "traced; it asks for the type of its argument (isinstance, np.isscalar), writes "
                "through np.asarray(x), or is random or keeps state between calls"
            )


def _close(traced: Any, expected: Any, graph: Graph) -> bool:
    """Equal to rounding: the same operations, perhaps summed in another order."""
    if same_value(traced, expected):
        return True
    actual, expected = np.asarray(traced, np.longdouble), np.asarray(expected, np.longdouble)
    if not np.array_equal(np.isfinite(actual), np.isfinite(expected)):
        return False
    eps = float(np.finfo(graph.output_layout.leaves[0].dtype).eps)
    scale = max((float(np.max(np.abs(v), initial=0.0)) for v in _finite_values(graph)), default=0.0)
    finite = np.isfinite(expected)
    error = np.abs(actual[finite] - expected[finite])
    budget = np.sqrt(eps) * np.abs(expected[finite]) + 64 * eps * scale
    return bool(np.all(error <= budget))


def _finite_values(graph: Graph) -> Iterator[Any]:
    for node in graph.nodes:
        value = np.asarray(concrete(node.value))
        if value.dtype.kind == "f":
            yield value[np.isfinite(value)]


__all__ = [
    "DataLayout",
    "OutsideState",
    "Traced",
    "describe_data",
    "outside_state",
    "record",
    "trace",
]
