"""Graph -> arbitrary precision: a recorded computation, repeated in another arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.arithmetic import Arithmetic, PrecisionNeeded
from diffkit.errors import TruthUnavailable
from diffkit.structure import Leaves
from diffkit.tracing.graph import Graph, Guard, GuardFailed, Missing, Node, Same

Array = npt.NDArray[Any]
Values = dict[int, Array]


class Interpreter:
    """A graph made ready to run in one arithmetic.

    Values are object arrays, also those of scalars, so that NumPy never looks into a number.

    Args:
        graph: what to repeat.
        arithmetic: the kind of number to repeat it in.
    """

    def __init__(self, graph: Graph, arithmetic: Arithmetic) -> None:
        self.graph = graph
        self.arithmetic = arithmetic
        needed = _needed(graph)
        self._given = [node for node in needed if node.primitive is None]
        self._steps = _steps(needed, arithmetic)
        self._reached: dict[tuple[int, ...], frozenset[int]] = {}

    def base(self, leaves: Leaves) -> Values:
        """Return every value for the given leaves of `x`; guards are not looked at."""
        A = self.arithmetic
        values = {node.index: exact_array(A, node.value) for node in self._given}
        for node, leaf in zip(self.graph.inputs, leaves, strict=True):
            values[node.index] = exact_array(A, leaf)
        return self._run(values, None)

    def moved(self, base: Values, inputs: dict[int, Array]) -> Values:
        """Return every value with some leaves of `x` replaced, the guards checked.

        Args:
            base: what `base` returned in an arithmetic that shares its numbers.
            inputs: arrays by the position of the leaf.

        Raises:
            GuardFailed: a recorded outcome does not hold there.
        """
        reached = self._reach(tuple(sorted(inputs)))
        values = dict(base)
        for position, array in inputs.items():
            values[self.graph.inputs[position].index] = array
        self._run(values, reached)
        self.check_guards(values)
        return values

    def outputs(self, values: Values) -> list[Array]:
        """The leaves of the function's value."""
        return [values[node.index] for node in self.graph.outputs]

    def check_guards(self, values: Values) -> None:
        """Check the recorded outcomes.

        Raises:
            GuardFailed: one of them does not hold.
        """
        for guard in self.graph.guards:
            if not self._holds(guard, values[guard.node.index]):
                raise GuardFailed(guard)

    def _holds(self, guard: Guard, array: Array) -> bool:
        expected = np.asarray(guard.expected)
        if array.shape != expected.shape:
            return False
        A = self.arithmetic
        if expected.dtype.kind == "b":
            return all(
                A.truth(a) == bool(b) for a, b in zip(array.flat, expected.flat, strict=True)
            )
        if not guard.node.depends and expected.dtype.kind == "f":
            return True  # data that left the graph counts as the rounded value that was seen
        return all(
            A.equal(a, A.constant(b)) for a, b in zip(array.flat, expected.flat, strict=True)
        )

    def _run(self, values: Values, reached: frozenset[int] | None) -> Values:
        for node, operation, inputs in self._steps:
            if reached is None or node.index in reached:
                try:
                    values[node.index] = _boxed(operation(*(values[i] for i in inputs)))
                except PrecisionNeeded as error:
                    raise PrecisionNeeded(f"{error} [{node.location}]") from error
        return values

    def _reach(self, positions: tuple[int, ...]) -> frozenset[int]:
        """The nodes that depend on some leaves of `x`."""
        if positions not in self._reached:
            found = {self.graph.inputs[position].index for position in positions}
            for node, _, inputs in self._steps:
                if not found.isdisjoint(inputs):
                    found.add(node.index)
            self._reached[positions] = frozenset(found)
        return self._reached[positions]


def exact_array(arithmetic: Arithmetic, value: Any) -> Array:
    """Return a plain array as an object array of the same numbers, exactly; booleans stay."""
    array = np.asarray(value)
    result = np.empty(array.shape, object)
    convert = bool if array.dtype.kind == "b" else arithmetic.constant
    flat = result.reshape(-1)
    for i, entry in enumerate(array.reshape(-1)):
        flat[i] = convert(entry)
    return result


def repeat_locally(node: Node, arithmetic: Arithmetic) -> Array:
    """Return what a node's operation gives, exactly, for the rounded arguments it was given."""
    operation, _ = _operation(node, arithmetic)
    return _boxed(operation(*(exact_array(arithmetic, i.value) for i in node.inputs)))


def _needed(graph: Graph) -> list[Node]:
    """The nodes that outputs and guards depend on, in order."""
    pending = [*graph.outputs, *graph.inputs, *(guard.node for guard in graph.guards)]
    found: set[int] = set()
    while pending:
        node = pending.pop()
        if node.index not in found:
            found.add(node.index)
            pending.extend(node.inputs)
    return [node for node in graph.nodes if node.index in found]


Step = tuple[Node, Callable[..., Any], tuple[int, ...]]


def _steps(nodes: list[Node], A: Arithmetic) -> list[Step]:
    """What to do for each node that computes something, in order.

    A node that repeats an earlier one takes over its numbers, so that they are known to tie.
    """
    first: dict[Any, int] = {}
    alias: dict[int, int] = {}
    steps: list[Step] = []
    for node in nodes:
        if node.primitive is None:
            continue
        operation, inputs = _operation(node, A)
        inputs = tuple(alias.get(i, i) for i in inputs)
        if not node.static:
            same = first.setdefault((node.primitive.name, inputs), node.index)
            if same != node.index:
                alias[node.index] = same
                operation, inputs = _itself, (same,)
        steps.append((node, operation, inputs))
    return steps


def _itself(array: Array) -> Array:
    return array


def _operation(node: Node, A: Arithmetic) -> tuple[Callable[..., Any], tuple[int, ...]]:
    """A node's operation on object arrays, and where its arguments are.

    Raises:
        TruthUnavailable: the primitive has no arbitrary-precision counterpart.
    """
    primitive = node.primitive
    assert primitive is not None
    static, column = node.static, primitive.exact
    indices = tuple(i.index for i in node.inputs)
    if isinstance(column, Missing):
        if not node.depends:
            value = exact_array(A, node.value)
            return (lambda *_: value), indices
        raise TruthUnavailable(
            f"{primitive.called} at {node.location} cannot be repeated in arbitrary precision: "
            f"{column.reason}"
        )
    if isinstance(column, Same):
        function = primitive.function
        return (lambda *arguments: function(*arguments, **static)), indices
    if isinstance(column, str):
        method = getattr(A, column)
    else:
        rule = column

        def method(*arguments: Any, **keywords: Any) -> Any:
            return rule(A, *arguments, **keywords)

    if not primitive.elementwise:
        return (lambda *arguments: method(*arguments, **static)), indices
    return _on_each_entry(method, static, len(indices), A), indices


def _on_each_entry(
    method: Callable[..., Any], static: Any, count: int, A: Arithmetic
) -> Callable[..., Any]:
    def entry(*numbers: Any) -> Any:
        try:
            return method(*numbers, **static)
        except ZeroDivisionError:
            return A.infinite(0)

    on_each: Callable[..., Any] = np.frompyfunc(entry, count, 1)
    return on_each


def _boxed(value: Any) -> Array:
    """The value as an object array; a bare number as one without dimensions."""
    if isinstance(value, np.ndarray):
        return value.astype(object, copy=False)
    box = np.empty((), object)
    box[()] = value
    return box
