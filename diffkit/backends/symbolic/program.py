"""One recorded course of a function: where it holds, and its derivatives, compiled.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.code import Code, compiled
from diffkit.backends.symbolic.display import arranged, folded
from diffkit.backends.symbolic.expanded import (
    SMALL,
    WAY_OUT,
    eliminated,
    keeps_digits,
    matrix_of,
    simplified,
)
from diffkit.backends.symbolic.languages import Listing, source
from diffkit.backends.symbolic.naming import data_names
from diffkit.backends.symbolic.rules import Derivatives
from diffkit.backends.symbolic.sizes import predicted_operations, working_dtype
from diffkit.errors import ExpressionTooLarge, UnsupportedOperation
from diffkit.structure import Leaves
from diffkit.target import Point, Target
from diffkit.tracing.graph import GuardFailed, Node
from diffkit.tracing.outside import outside_state
from diffkit.tracing.recording import describe_data, record
from diffkit.tracing.shared_expressions import (
    Expression,
    Shared,
    Symbol,
    require_budget,
    tree_operations,
)
from diffkit.tracing.to_sympy import Condition, to_sympy

if TYPE_CHECKING:
    from diffkit.backends.symbolic.differentiator import Symbolic

Pair = tuple[Expression, Expression]
Result = TypeVar("Result")
Entries = dict[tuple[int, int], Expression]  # those that are not zero, by row and column

DIGITS_LOST: Final = 1e-6  # of double precision; longdouble then keeps nine digits or more
GRADIENT_GROWTH: Final = 4  # operations of a gradient for one of the function, about


@dataclass(frozen=True)
class Batch:
    """Samples that one course serves, each with the values of its bound symbols."""

    recorded: Recorded
    bound: list[list[Any]]


@dataclass(frozen=True)
class Derived:
    """A derivative as a program.

    Attributes:
        definitions: what the entries share, each after those that it refers to.
        entries: the entries that are not zero, by row and column.
        ties: pairs that must differ where the derivative is to be believed.
        shared: what the ties are in terms of.
        code: the entries and then the pairs, compiled.
    """

    definitions: dict[Symbol, Expression]
    entries: Entries
    ties: list[Pair]
    shared: Shared
    code: Code


class _OtherLayoutError(Exception):
    """The point or the data are laid out differently."""


class Recorded:
    """One recorded course of the function, with what has been derived from it.

    Several threads may use it at once: what is derived is derived under a lock, and never
    changes.

    Args:
        target: the function.
        point: where to record it.
        options: the form of the derivatives and their budget.

    Attributes:
        form: `expanded` or `shared`.

    Raises:
        ExpressionTooLarge: the derivative would exceed the budget.
        UnsupportedOperation: SymPy has no counterpart of an operation.
    """

    def __init__(self, target: Target, point: Point, options: Symbolic) -> None:
        self._target = target
        self._options = options
        self._budget = options.max_operations
        self._layout = point.layout
        self._data_layout, _ = describe_data(point.data)
        self._graph = record(target, point)
        # What the function itself changes outside is not among what its derivatives depend on.
        self._outside = outside_state(target.f, *self._data_layout.fixed)
        require_budget(
            GRADIENT_GROWTH * predicted_operations(self._graph),
            self._budget,
            "written for every entry, it",
        )
        self._data_names = data_names(target, point.data)
        self._deriving = threading.RLock()
        self._convert()
        self._tangents = [sp.Dummy(real=True) for _ in self._program.inputs]
        self._guards = self._graph.guards_by_node()
        self._checked = self._nodes_to_check()
        self._dtype = working_dtype(self._graph)
        self._derived: dict[str, Derived] = {}
        self._closed: dict[str, Entries] = {}
        self.form = options.form or self._fitting_form()

    def _convert(self) -> None:
        self._program = to_sympy(self._graph, self._data_names, self._budget)
        self._derivatives = Derivatives(self._program.shared, self._program.conditions)
        self._is_torn = False

    def _fitting_form(self) -> str:
        """Written out where that is short and costs no digits, else shared."""
        shared = self._program.shared
        if self._program.delicate or not keeps_digits(shared.reachable(self._outputs)):
            return "shared"
        try:
            trees = shared.expanded(self._outputs, SMALL)
        except ExpressionTooLarge:
            return "shared"
        size = sum(tree_operations(tree, {}) for tree in trees)
        return "expanded" if size <= SMALL else "shared"

    # ------------------------------------------------------------------ where it holds

    def take(self, points: list[Point]) -> tuple[Batch, list[Point]]:
        """The points where this course is taken, with their bound values; and the others."""
        bound: list[list[Any]] = []
        others: list[Point] = []
        if not self._outside.holds():
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
        known = self._derived.get(what)
        if known is not None:
            return known
        with self._deriving:
            if what not in self._derived:
                self._derived[what] = self._whole(lambda: self._compiled(what))
            return self._derived[what]

    def _whole(self, derive: Callable[[], Result]) -> Result:
        """What is derived; if that is broken off half-way, the next one starts afresh."""
        if self._is_torn:
            self._convert()
        self._is_torn = True
        result = derive()
        self._is_torn = False
        return result

    def _compiled(self, what: str) -> Derived:
        shared = self._program.shared
        written = self.form == "expanded"
        entries = self._written(what) if written else self._entries(what)
        ties = list(self._derivatives.ties)
        sides = [side for pair in ties for side in pair]
        if written:
            sides = shared.expanded(sides, self._budget, WAY_OUT)
            definitions, results = eliminated([*entries.values(), *sides])
        else:
            results = [*entries.values(), *sides]
            definitions = shared.reachable(results)
        code = compiled(definitions, self.groups, results)
        return Derived(definitions, dict(zip(entries, results, strict=False)), ties, shared, code)

    @property
    def groups(self) -> dict[str, list[Symbol]]:
        """The symbols that a program reads: entries of `x`, bound symbols, tangents."""
        return {"x": self._program.inputs, "b": list(self._program.bound), "t": self._tangents}

    @property
    def _outputs(self) -> list[Expression]:
        return [entry for leaf in self._program.outputs for entry in leaf]

    def _written(self, what: str) -> Entries:
        """The entries as closed expressions in the inputs, data and constants."""
        if what not in self._closed:
            self._closed[what] = self._closed_entries(what)
        return self._closed[what]

    def _closed_entries(self, what: str) -> Entries:
        shared, inputs = self._program.shared, self._program.inputs
        trees = shared.expanded(self._outputs, self._budget, WAY_OUT)
        rows = matrix_of(what, trees, inputs, self._tangents, self._budget)
        if rows is None:
            entries = self._entries(what)
            written = shared.expanded(list(entries.values()), self._budget, WAY_OUT)
            places, values = list(entries), [folded(entry) for entry in written]
        else:
            places = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
            values = [entry for row in rows for entry in row]
        values = simplified(values, self._options.simplify, self._options.max_seconds)
        return {
            place: value for place, value in zip(places, values, strict=True) if not value.is_zero
        }

    def _entries(self, what: str) -> Entries:
        """The entries in terms of what is shared."""
        outputs, inputs = self._outputs, self._program.inputs
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

    def _jacobian(self, outputs: Sequence[Expression]) -> Entries:
        inputs = self._program.inputs
        entries: Entries = {}
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
            end = len(derived.entries)
            self._refuse_ties(results[end:], derived)
            sums = [np.sum(np.broadcast_to(np.asarray(r, dtype), (count,))) for r in results[:end]]
        matrix = np.zeros(shape, dtype)
        for place, entry in zip(derived.entries, sums, strict=True):
            matrix[place] = entry
        return matrix, bool(overflows)

    def _refuse_ties(self, sides: Sequence[Any], derived: Derived) -> None:
        """Raise where a pair that must differ is equal."""
        for left, right, tie in zip(sides[::2], sides[1::2], derived.ties, strict=True):
            if np.any(np.equal(left, right)):
                with self._deriving:
                    written = derived.shared.expanded(tie, self._budget)
                raise UnsupportedOperation(
                    f"{self._target.name} switches formula, or jumps, just where "
                    f"{written[0]} equals {written[1]}, as it does at this point; its formula "
                    "there says nothing about its derivative"
                )

    # ------------------------------------------------------------------ what can be looked at

    def function_entries(self) -> list[Expression]:
        """Every entry of the value, written out, in the simplified form."""
        with self._deriving:
            trees = self._program.shared.expanded(self._outputs, self._budget, WAY_OUT)
        return simplified(trees, self._options.simplify, self._options.max_seconds)

    def derivative_entries(self) -> list[Expression]:
        """Every entry of the Jacobian, row by row, written out, in the simplified form."""
        with self._deriving:
            entries = self._whole(lambda: self._written("jacobian"))
            rows, columns = len(self._outputs), len(self._program.inputs)
        zero = sp.Integer(0)
        return [entries.get((i, j), zero) for i in range(rows) for j in range(columns)]

    def source(self, language: str) -> str:
        """The program of the Jacobian in a language."""
        derived = self.derived("jacobian")
        shape = self._graph.output_layout.size, self._layout.size
        listing = Listing(derived.definitions, derived.entries, self.groups, shape)
        return source(listing, language)

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
        with self._deriving:
            expanded = self._program.shared.expanded(expressions, self._budget, WAY_OUT)
        return [
            Condition(expression, condition.expected, condition.location)
            for expression, condition in zip(expanded, conditions, strict=True)
        ]


def _flat(leaves: Leaves, dtype: np.dtype[Any]) -> list[Any]:
    return [entry for leaf in leaves for entry in np.asarray(leaf).astype(dtype).reshape(-1)]


def _entry(value: Any, place: int) -> Any:
    """One entry as a floating-point number; a Python number keeps bending to other dtypes."""
    if isinstance(value, float):
        return value
    entry = np.asarray(value).reshape(-1)[place]
    return entry if entry.dtype.kind == "f" else np.float64(entry)
