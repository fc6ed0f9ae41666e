"""One recorded course of a function: where it holds, and its derivatives, compiled.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.code import Code, compiled
from diffkit.backends.symbolic.display import arranged, derivative_trees, folded
from diffkit.backends.symbolic.rules import Derivatives
from diffkit.errors import UnsupportedOperation
from diffkit.structure import Leaves
from diffkit.target import Point, Target
from diffkit.tracing.graph import Graph, GuardFailed, Node
from diffkit.tracing.recording import OutsideState, describe_data, is_data, record
from diffkit.tracing.shared_expressions import Expression, require_budget
from diffkit.tracing.to_sympy import Condition, to_sympy

DIGITS_LOST: Final = 1e-6  # of double precision; longdouble then keeps nine digits or more
GRADIENT_GROWTH: Final = 4  # operations of a gradient for one of the function, about


@dataclass(frozen=True)
class Batch:
    """Samples that one course serves, each with the values of its bound symbols."""

    recorded: Recorded
    bound: list[list[Any]]


@dataclass(frozen=True)
class Derived:
    """A derivative: the entries of a matrix that are not zero, compiled.

    The last 2 × `ties` results of the code are pairs that must differ.
    """

    code: Code
    rows: list[int]
    columns: list[int]
    ties: int


class _OtherLayoutError(Exception):
    """The point or the data are laid out differently."""


class Recorded:
    """One recorded course of the function, with what has been derived from it.

    Args:
        target: the function.
        point: where to record it.
        state: what the function refers to outside its arguments.
        budget: how many operations a derivative may have.

    Raises:
        ExpressionTooLarge: the derivative would exceed the budget.
        UnsupportedOperation: SymPy has no counterpart of an operation.
    """

    def __init__(self, target: Target, point: Point, state: OutsideState, budget: int) -> None:
        self._target = target
        self._budget = budget
        self._state = state
        self._layout = point.layout
        self._data_layout, _ = describe_data(point.data)
        self._graph = record(target, point)
        require_budget(
            GRADIENT_GROWTH * predicted_operations(self._graph),
            budget,
            "written for every entry, it",
        )
        self._program = to_sympy(self._graph, _data_names(target, point.data), budget)
        self._derivatives = Derivatives(self._program.shared, self._program.conditions)
        self._tangents = [sp.Dummy(real=True) for _ in self._program.inputs]
        self._guards = self._graph.guards_by_node()
        self._checked = self._nodes_to_check()
        self._dtype = _working_dtype(self._graph)
        self._derived: dict[str, Derived] = {}

    # ------------------------------------------------------------------ where it holds

    def take(self, points: list[Point], state: OutsideState) -> tuple[Batch, list[Point]]:
        """The points where this course is taken, with their bound values; and the others."""
        bound: list[list[Any]] = []
        others: list[Point] = []
        if not state.same_as(self._state):
            return Batch(self, bound), points
        for point in points:
            try:
                bound.append(self._bound_values(point))
            except (GuardFailed, _OtherLayoutError):
                others.append(point)
        return Batch(self, bound), others

    def _bound_values(self, point: Point) -> list[Any]:
        layout, data = describe_data(point.data)
        if point.layout != self._layout or layout != self._data_layout:
            raise _OtherLayoutError
        nodes = [*self._graph.inputs, *self._graph.data]
        leaves = [*point.layout.cast(point.leaves), *data]
        values = {node.index: leaf for node, leaf in zip(nodes, leaves, strict=True)}
        with np.errstate(all="ignore"):
            for node in self._checked:
                if node.primitive is not None:
                    arguments = [values[i.index] for i in node.inputs]
                    values[node.index] = node.primitive(*arguments, **node.static)
                else:
                    values.setdefault(node.index, node.value)
                for guard in self._guards.get(node.index, ()):
                    if not guard.holds(values[node.index]):
                        raise GuardFailed(guard)
        return [_entry(values[node], place) for node, place in self._program.bound.values()]

    def _nodes_to_check(self) -> list[Node]:
        """What guards and bound symbols need, in order."""
        nodes = self._graph.nodes
        waiting = [guard.node.index for guard in self._graph.guards]
        waiting += [node for node, _ in self._program.bound.values()]
        needed: set[int] = set()
        while waiting:
            index = waiting.pop()
            if index not in needed:
                needed.add(index)
                waiting.extend(node.index for node in nodes[index].inputs)
        return [nodes[index] for index in sorted(needed)]

    # ------------------------------------------------------------------ derivatives

    def derived(self, what: str) -> Derived:
        """The derivative called `jacobian`, `hessian`, `hvp` or `derivative 3`, compiled."""
        if what not in self._derived:
            self._derived[what] = self._compiled(self._entries(what))
        return self._derived[what]

    def _entries(self, what: str) -> dict[tuple[int, int], Expression]:
        """The entries of a derivative that are not zero, by row and column."""
        outputs = [entry for leaf in self._program.outputs for entry in leaf]
        inputs = self._program.inputs
        if what == "jacobian":
            return self._jacobian(outputs)
        if what.startswith("derivative"):
            for _ in range(int(what.split()[1])):
                outputs = self._derivatives.along(outputs, {inputs[0]: sp.Integer(1)})
            return {(i, 0): entry for i, entry in enumerate(outputs) if not entry.is_zero}
        by_symbol = self._derivatives.gradient(outputs[0])
        gradient = [by_symbol.get(symbol, sp.Integer(0)) for symbol in inputs]
        if what == "hessian":
            return self._jacobian(gradient)
        directions = dict(zip(inputs, self._tangents, strict=True))
        product = self._derivatives.along(gradient, directions)
        return {(0, j): entry for j, entry in enumerate(product) if not entry.is_zero}

    def _jacobian(self, outputs: Sequence[Expression]) -> dict[tuple[int, int], Expression]:
        inputs = self._program.inputs
        entries: dict[tuple[int, int], Expression] = {}
        if len(outputs) <= len(inputs):
            columns = {symbol: j for j, symbol in enumerate(inputs)}
            for i, output in enumerate(outputs):
                for symbol, entry in self._derivatives.gradient(output).items():
                    entries[i, columns[symbol]] = entry
        else:
            for j, symbol in enumerate(inputs):
                for i, entry in enumerate(
                    self._derivatives.along(outputs, {symbol: sp.Integer(1)})
                ):
                    entries[i, j] = entry
        return {place: entry for place, entry in entries.items() if not entry.is_zero}

    def _compiled(self, entries: dict[tuple[int, int], Expression]) -> Derived:
        pairs = list(self._derivatives.ties)
        groups = {
            "x": self._program.inputs,
            "b": list(self._program.bound),
            "t": self._tangents,
        }
        results = [*entries.values(), *(side for pair in pairs for side in pair)]
        code = compiled(self._program.shared, groups, results)
        return Derived(code, [i for i, _ in entries], [j for _, j in entries], len(pairs))

    # ------------------------------------------------------------------ evaluation

    def evaluated(
        self,
        what: str,
        shape: tuple[int, int],
        leaves: Leaves,
        bound: list[list[Any]],
        tangents: Leaves | None,
    ) -> Any:
        """A derivative as a matrix, summed over the samples.

        Where an intermediate value leaves the range of the dtype, longdouble may still hold
        it: then its result counts. Where the formulas may lose digits, it counts as well, and
        how far double precision is from it tells how many are left (an estimate, not a bound).

        Raises:
            UnsupportedOperation: a formula just switches or jumps at the point, or the digits
                are lost.
        """
        derived = self.derived(what)
        columns = (
            bound[0]
            if len(bound) == 1
            else [np.array(values) for values in zip(*bound, strict=True)]
        )
        groups = leaves, columns, tangents or []
        delicate = self._program.delicate
        dtype = np.dtype(np.float64) if delicate else self._dtype
        matrix, overflowed = self._matrix(derived, shape, groups, len(bound), dtype)
        if not (delicate or overflowed or not np.all(np.isfinite(matrix))):
            return matrix
        wide = np.dtype(np.longdouble)
        wider, _ = self._matrix(derived, shape, groups, len(bound), wide)
        if delicate:
            self._require_digits(matrix, wider)
        with np.errstate(all="ignore"):
            return wider.astype(self._dtype)

    def _require_digits(self, narrow: Any, wide: Any) -> None:
        scale = np.max(np.abs(wide), initial=0)
        if not np.max(np.abs(narrow - wide), initial=0) <= DIGITS_LOST * scale:
            raise UnsupportedOperation(
                f"the symbolic formulas of the linear algebra in {self._target.name} lose too "
                "many digits at this point (they cannot choose a pivot); use backend='tape'"
            )

    def _matrix(
        self,
        derived: Derived,
        shape: tuple[int, int],
        groups: tuple[Leaves, Sequence[Any], Leaves],
        count: int,
        dtype: np.dtype[Any],
    ) -> tuple[Any, bool]:
        """The matrix computed in a dtype, and whether a value overflowed on the way."""
        overflows: list[str] = []
        leaves, columns, tangents = groups
        with np.errstate(all="ignore", over="call", call=lambda kind, _: overflows.append(kind)):
            results = derived.code(dtype, _flat(leaves, dtype), columns, _flat(tangents, dtype))
            end = len(results) - 2 * derived.ties
            self._refuse_ties(results[end:])
            sums = [np.sum(np.broadcast_to(np.asarray(r, dtype), (count,))) for r in results[:end]]
        matrix = np.zeros(shape, dtype)
        matrix[derived.rows, derived.columns] = sums
        return matrix, bool(overflows)

    def _refuse_ties(self, sides: Sequence[Any]) -> None:
        """Raise where a pair that must differ is equal."""
        pairs = zip(sides[::2], sides[1::2], self._derivatives.ties, strict=False)
        for left, right, (left_expression, right_expression) in pairs:
            if np.any(np.equal(left, right)):
                shared = self._program.shared
                shown = shared.expanded([left_expression, right_expression], self._budget)
                raise UnsupportedOperation(
                    f"{self._target.name} switches formula, or jumps, just where "
                    f"{shown[0]} equals {shown[1]}, as it does at this point; its formula there "
                    "says nothing about its derivative"
                )

    # ------------------------------------------------------------------ what can be looked at

    def function_entries(self) -> list[Expression]:
        """Every entry of the value, written out."""
        outputs = [entry for leaf in self._program.outputs for entry in leaf]
        return self._program.shared.expanded(outputs, self._budget)

    def derivative_entries(self) -> list[Expression]:
        """Every entry of the Jacobian, row by row, written out."""
        shared, inputs = self._program.shared, self._program.inputs
        trees = self.function_entries()
        direct = derivative_trees(trees, inputs, self._budget)
        if direct is not None:
            return direct
        entries = self._entries("jacobian")
        matrix = [
            entries.get((i, j), sp.Integer(0))
            for i in range(len(trees))
            for j in range(len(inputs))
        ]
        return [folded(entry) for entry in shared.expanded(matrix, self._budget)]

    def shown_function(self, entries: list[Expression]) -> Any:
        """Entries in the structure of the value."""
        return arranged(entries, self._graph.output_layout)

    def shown_derivative(self, entries: list[Expression]) -> Any:
        """Entries in the structure of the gradient or the Jacobian."""
        return arranged(entries, self._graph.output_layout, self._layout)

    def constants(self) -> dict[Any, Any]:
        """The values of the bound symbols at the recording."""
        nodes = self._graph.nodes
        return {
            symbol: np.asarray(nodes[node].value).reshape(-1)[place][()]
            for symbol, (node, place) in self._program.bound.items()
        }

    def conditions(self) -> list[Condition]:
        """The branches taken, in terms of the inputs, data and constants."""
        conditions = self._program.conditions
        expressions = [condition.expression for condition in conditions]
        expanded = self._program.shared.expanded(expressions, self._budget)
        return [
            Condition(expression, condition.expected, condition.location)
            for expression, condition in zip(expanded, conditions, strict=True)
        ]


def predicted_operations(graph: Graph) -> int:
    """About how many operations on single numbers the graph does on what depends on `x`."""
    total = 0
    for node in graph.nodes:
        primitive = node.primitive
        if primitive is None or primitive.movement or not node.active:
            continue
        sizes = [np.size(i.value) for i in node.inputs]
        if primitive.elementwise:
            total += int(np.size(node.value))
        elif primitive.name in ("matmul", "contraction"):
            inner = np.shape(node.inputs[0].value)[-1]
            total += 2 * int(inner) * int(np.size(node.value))
        else:
            total += int(max(sizes, default=0))
    return total


def _working_dtype(graph: Graph) -> np.dtype[Any]:
    """The widest floating dtype that the function computed in."""
    kinds = {np.asarray(node.value).dtype for node in graph.nodes if node.active}
    kinds |= {leaf.dtype for leaf in graph.layout.leaves}
    floating = [kind for kind in kinds if kind.kind == "f"]
    return np.result_type(*floating) if floating else np.dtype(np.float64)


def _flat(leaves: Leaves, dtype: np.dtype[Any]) -> list[Any]:
    return [entry for leaf in leaves for entry in np.asarray(leaf).astype(dtype).reshape(-1)]


def _entry(value: Any, place: int) -> Any:
    """One entry as a floating-point number; a Python number keeps bending to other dtypes."""
    if isinstance(value, float):
        return value
    entry = np.asarray(value).reshape(-1)[place]
    return entry if entry.dtype.kind == "f" else np.float64(entry)


def _data_names(target: Target, data: tuple[Any, ...]) -> list[str]:
    """A name for every numeric leaf of the data: the parameter's, with the keys after it."""
    names: list[str] = []

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, member in value.items():
                walk(member, f"{name}_{key}")
        elif isinstance(value, (list, tuple)):
            for i, member in enumerate(value):
                walk(member, f"{name}_{i}")
        elif is_data(value):
            names.append(name)

    for value, name in zip(data, _parameter_names(target, len(data)), strict=True):
        walk(value, name)
    return names


def _parameter_names(target: Target, count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(target.f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    chosen = (target.wrt,) if isinstance(target.wrt, int) else target.wrt
    names = [p.name for i, p in enumerate(parameters) if p.kind in positional and i not in chosen]
    return names[:count] + [f"data{i}" for i in range(len(names), count)]
