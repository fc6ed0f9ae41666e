"""From a recorded graph to a program over arrays.

Elementwise primitives become scalar expressions by their SymPy counterparts; the others become
index operations here, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.array.indexing import index_rules
from diffkit.backends.symbolic.array.matrix_rules import matrix_rules
from diffkit.backends.symbolic.array.notation import ArrayProgram
from diffkit.backends.symbolic.array.operations import as_number, repeated
from diffkit.backends.symbolic.array.reductions import reduction_rules
from diffkit.errors import DiffkitError, ExpressionTooLarge, UnsupportedOperation
from diffkit.tracing.graph import Graph, Missing, Node
from diffkit.tracing.shared_expressions import Expression, Symbol
from diffkit.tracing.to_sympy import (
    Condition,
    as_expression,
    elementwise_expression,
    exact_number,
    nodes_needed,
)

LONGEST_LIMIT: Final = 500  # operations of a formula that is judged at single points


@dataclass
class Lowered:
    """What a graph computes, in array symbols.

    Attributes:
        program: the definitions.
        inputs: one symbol per leaf of `x`.
        outputs: one expression per leaf of the output.
        bound: for each symbol that stands for data or a constant, its node.
        integers: those of them that select entries, and stay integers.
        conditions: the branches taken.
    """

    program: ArrayProgram
    inputs: list[Symbol]
    outputs: list[Expression]
    bound: dict[Symbol, int]
    integers: set[Symbol]
    conditions: list[Condition] = field(default_factory=list)


def lowered(graph: Graph, budget: int, points: bool = False) -> Lowered:
    """Return the program of a graph over arrays, at one point or, batched, at many.

    Raises:
        UnsupportedOperation: a primitive on the way to the output has no counterpart.
        ExpressionTooLarge: it exceeds the budget.
    """
    return Lowering(graph, budget, points).run()


class Lowering:
    """One run of a graph over array symbols. The rules of primitives use its public methods."""

    def __init__(self, graph: Graph, budget: int, points: bool) -> None:
        self.graph = graph
        self.program = ArrayProgram(budget)
        self.bound: dict[Symbol, int] = {}
        self._integers: dict[int, Symbol] = {}
        self._entries: dict[int, Any] = {}
        self._data = {node.index for node in graph.data}
        self.inputs = [
            self.program.given(leaf.shape, depends=True, batched=points)
            for leaf in graph.layout.leaves
        ]
        for node, symbol in zip(graph.inputs, self.inputs, strict=True):
            self._entries[node.index] = symbol

    def run(self) -> Lowered:
        self._convert(self.graph.outputs)
        outputs = [
            repeated(self.program, self.number(self._entries[n.index]), np.shape(n.value))
            for n in self.graph.outputs
        ]
        conditions = list(self._conditions())
        integers = set(self._integers.values())
        return Lowered(self.program, self.inputs, outputs, self.bound, integers, conditions)

    def number(self, entry: Any) -> Expression:
        """An entry as a number or symbol; a condition counts as 1 where it holds."""
        if isinstance(entry, sp.Expr):
            return entry
        return self.program.define(as_number(entry))

    def array(self, node: Node) -> Expression:
        """The value of a node as a symbol of its full shape."""
        entry = self.number(self._entries[node.index])
        return repeated(self.program, entry, np.shape(node.value))

    def integers(self, node: Node) -> Symbol:
        """The value of a node that selects entries, which is free of `x`."""
        if node.index not in self._integers:
            symbol = self.program.given(np.shape(node.value))
            self._integers[node.index] = symbol
            self.bound[symbol] = node.index
        return self._integers[node.index]

    # ------------------------------------------------------------------ conversion

    def _convert(self, wanted: Sequence[Node]) -> None:
        for node in nodes_needed(wanted, self._entries, through_moves=False):
            if node.depends:
                self._entries[node.index] = self._computed(node)
            elif node.index not in self._integers:
                self._entries[node.index] = self._constant(node)

    def _conditions(self) -> Iterable[Condition]:
        """The branches that values of `x` decided; those without a counterpart are only guards."""
        for guard in self.graph.guards:
            node = guard.node
            if not node.depends or np.shape(guard.expected) or np.asarray(node.value).dtype != bool:
                continue
            try:
                self._convert([node])
            except UnsupportedOperation:
                continue
            entry = self._entries[node.index]
            yield Condition(entry, bool(guard.expected), guard.location)

    def _computed(self, node: Node) -> Any:
        primitive = node.primitive
        assert primitive is not None
        if primitive.elementwise:
            entries = [self._entries[i.index] for i in node.inputs]
            return self._scalar(as_expression(elementwise_expression(node, entries)), node)
        rule = _RULES.get(primitive.name)
        if rule is None and primitive.movement:
            rule = _RULES["moved"]
        if rule is None:
            shared = "" if isinstance(primitive.sympy, Missing) else "form='shared' or "
            raise UnsupportedOperation(
                f"{primitive.called} at {node.location} has no counterpart in index notation; "
                f"use {shared}backend='tape'"
            )
        try:
            result = rule(self, node)
        except DiffkitError:
            raise
        except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
            raise UnsupportedOperation(
                f"{primitive.called} at {node.location} cannot be expressed in index notation: "
                f"{error}; use backend='tape'"
            ) from error
        return self._as_kind_of(node, result)

    def _as_kind_of(self, node: Node, result: Any) -> Any:
        if isinstance(result, sp.Expr) and np.asarray(node.value).dtype == bool:
            return sp.Ne(result, 0)
        return result

    def _scalar(self, expression: Any, node: Node) -> Any:
        if not isinstance(expression, sp.Expr):
            return expression
        if expression.has(sp.Piecewise) and any(
            self.program.varies(equality) for equality in expression.atoms(sp.Eq, sp.Ne)
        ):
            expression = self._in_one_symbol(expression)
        return repeated(self.program, self.program.define(expression), np.shape(node.value))

    def _in_one_symbol(self, expression: Expression) -> Expression:
        """The same in terms of one array, if it depends on one alone: a limit can judge it."""
        try:
            tree = self.program.expanded_entry(expression, LONGEST_LIMIT)
        except ExpressionTooLarge:
            return expression
        return tree if len(self.program.dependent & tree.free_symbols) == 1 else expression

    def _constant(self, node: Node) -> Any:
        value = np.asarray(node.value)
        if node.primitive is None and node.index not in self._data and not value.shape:
            if value.dtype == bool:
                return sp.true if value else sp.false
            exact = exact_number(value[()])
            if exact is not None:
                return exact
        symbol = self.program.given(value.shape)
        self.bound[symbol] = node.index
        return sp.Ne(symbol, 0) if value.dtype == bool else symbol


Rule = Callable[[Lowering, Node], Any]
_RULES: Final[Mapping[str, Rule]] = {**index_rules(), **reduction_rules(), **matrix_rules()}
