"""A recorded graph as SymPy expressions, one per entry, with everything shared kept shared.

The graph is run over object arrays of SymPy expressions. Each new value gets a symbol of its
own and is kept as its *definition*, a small expression in earlier symbols; so the program grows
with the number of operations and never unfolds to a tree. What does not depend on `x` (data,
captured arrays, constants such as 0.1) is a symbol bound to its original value, for SymPy's own
floating-point numbers would not keep it. Only short exact numbers (2, 0.5) enter as numbers.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import sympy as sp

from diffkit.errors import DiffkitError, ExpressionTooLarge, UnsupportedOperation
from diffkit.structure import Layout
from diffkit.tracing.graph import Graph, Location, Missing, Node, Same

Expression = Any  # a SymPy expression
Symbol = Any  # a SymPy symbol

LONGEST_NUMERATOR: Final = 2**20
LONGEST_DENOMINATOR: Final = 2**10
LONGEST_PRODUCT: Final = 4
_STEPS: Final = (sp.floor, sp.ceiling, sp.sign, sp.Heaviside)


class Shared:
    """Definitions that are shared: a straight-line program over scalars.

    Attributes:
        definitions: what each symbol stands for, each after the symbols that it refers to.
        budget: how many operations the definitions may hold together.
        operations: how many they hold.
        varying: the symbols that change with `x`; a symbol defined by steps alone does not.
    """

    def __init__(self, budget: int, inputs: Iterable[Symbol]) -> None:
        self.definitions: dict[Symbol, Expression] = {}
        self.budget = budget
        self.operations = 0
        self.varying: set[Symbol] = set(inputs)
        self._known: dict[Expression, Symbol] = {}

    def define(self, expression: Expression) -> Expression:
        """Return the symbol that stands for an expression; a number or a symbol is its own.

        Raises:
            ExpressionTooLarge: the program exceeds its budget.
        """
        if not expression.args:
            return expression
        if expression.is_Mul and len(expression.args) > LONGEST_PRODUCT:
            half = len(expression.args) // 2
            parts = expression.args[:half], expression.args[half:]
            expression = sp.Mul(*(self.define(sp.Mul(*part)) for part in parts))
        symbol = self._known.get(expression)
        if symbol is None:
            symbol = self._known[expression] = sp.Dummy(real=True)
            self.definitions[symbol] = expression
            self._count(expression)
            if self._varies(expression):
                self.varying.add(symbol)
        return symbol

    def known(self, expression: Expression) -> Symbol | None:
        """The symbol that stands for this very expression, if there is one."""
        return self._known.get(expression)

    def varies(self, expression: Expression) -> bool:
        """Whether an expression changes with `x`, other than by jumps."""
        return not self.varying.isdisjoint(expression.free_symbols)

    def reachable(self, expressions: Iterable[Expression]) -> dict[Symbol, Expression]:
        """The definitions that the expressions need, in order."""
        needed: set[Symbol] = set()
        waiting = list(expressions)
        while waiting:
            for symbol in waiting.pop().free_symbols:
                if symbol in self.definitions and symbol not in needed:
                    needed.add(symbol)
                    waiting.append(self.definitions[symbol])
        return {s: e for s, e in self.definitions.items() if s in needed}

    def expanded(self, expressions: Sequence[Expression], limit: int) -> list[Expression]:
        """The expressions as trees in the inputs and bound symbols alone.

        Raises:
            ExpressionTooLarge: a tree would have more than `limit` operations.
        """
        sizes: dict[Symbol, int] = {}
        trees: dict[Symbol, Expression] = {}
        for symbol, definition in self.reachable(expressions).items():
            sizes[symbol] = tree_operations(definition, sizes)
            require_budget(sizes[symbol], limit, "written out, one of its subexpressions")
            trees[symbol] = definition.xreplace(trees)
        for expression in expressions:
            require_budget(tree_operations(expression, sizes), limit, "written out, it")
        return [expression.xreplace(trees) for expression in expressions]

    def _varies(self, expression: Expression) -> bool:
        if self.varying.isdisjoint(expression.free_symbols):
            return False
        between_jumps = expression.replace(lambda e: isinstance(e, _STEPS), lambda e: sp.Integer(0))
        return self.varies(between_jumps)

    def _count(self, expression: Expression) -> None:
        self.operations += tree_operations(expression, {})
        require_budget(self.operations, self.budget, "the program of the derivative")


def tree_operations(expression: Expression, sizes: Mapping[Symbol, int]) -> int:
    """How many operations a tree has whose symbols stand for trees of the given sizes."""
    return sum(
        max(1, len(part.args) - 1) if part.args else sizes.get(part, 0)
        for part in sp.preorder_traversal(expression)
    )


def require_budget(operations: int, budget: int, what: str) -> None:
    """Refuse what is too large.

    Raises:
        ExpressionTooLarge: there are more operations than the budget allows.
    """
    if operations > budget:
        raise ExpressionTooLarge(
            f"the symbolic derivative is too large: {what} has at least {operations} operations, "
            f"and the budget is {budget}; use backend='tape', or raise "
            "Symbolic(max_operations=...)"
        )


@dataclass(frozen=True)
class Condition:
    """A branch that the function took: `expression` was `expected` at `location`."""

    expression: Expression
    expected: bool
    location: Location | None

    def __str__(self) -> str:
        return str(self.expression if self.expected else sp.Not(self.expression))


@dataclass
class ScalarProgram:
    """What a graph computes, entry by entry.

    Attributes:
        shared: the definitions.
        inputs: one symbol per entry of `x`.
        outputs: for each leaf of the output, one expression per entry.
        bound: for each symbol that stands for data or a constant, the node and the position
            in it where its value is found.
        conditions: the branches taken, in terms of symbols that `shared` defines.
    """

    shared: Shared
    inputs: list[Symbol]
    outputs: list[list[Expression]]
    bound: dict[Symbol, tuple[int, int]]
    conditions: list[Condition] = field(default_factory=list)


def to_sympy(graph: Graph, data_names: Sequence[str], budget: int) -> ScalarProgram:
    """Return the program of a graph over scalars.

    Args:
        graph: as recorded on plain values.
        data_names: a name for each of `graph.data`.
        budget: how many operations it may hold.

    Raises:
        UnsupportedOperation: a primitive on the way to the output has no SymPy counterpart.
        ExpressionTooLarge: it exceeds the budget.
    """
    return _Conversion(graph, data_names, budget).run()


class Names:
    """Readable names for symbols, each given once."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def symbol(self, wanted: str, index: Iterable[int] = ()) -> Symbol:
        """A real symbol such as `W_0_1` for the entry [0, 1] of W."""
        base = re.sub(r"\W+", "_", wanted).strip("_") or "x"
        name = "_".join([base, *map(str, index)])
        while name in self._used:
            name += "_"
        self._used.add(name)
        return sp.Symbol(name, real=True)


def exact_number(value: Any) -> Expression | None:
    """The SymPy number equal to a short exact number, None for any other."""
    if isinstance(value, (int, np.integer)):
        return sp.Integer(int(value))
    if not np.isfinite(value) or (value == 0 and np.signbit(value)):
        return None
    numerator, denominator = value.as_integer_ratio()
    if abs(numerator) > LONGEST_NUMERATOR or denominator > LONGEST_DENOMINATOR:
        return None
    return sp.Rational(int(numerator), int(denominator))


class _Conversion:
    """One run of a graph over SymPy expressions."""

    def __init__(self, graph: Graph, data_names: Sequence[str], budget: int) -> None:
        self.graph = graph
        self.names = Names()
        self.bound: dict[Symbol, tuple[int, int]] = {}
        self.entries: dict[int, Any] = {}
        self._constants: dict[tuple[Any, Any], Symbol] = {}
        for node, leaf in zip(graph.inputs, graph.layout.leaves, strict=True):
            self.entries[node.index] = self._symbols(leaf.name, leaf.shape)
        inputs = [s for node in graph.inputs for s in self.entries[node.index].flat]
        self.shared = Shared(budget, inputs)
        self.inputs = inputs
        self._data = {n.index: name for n, name in zip(graph.data, data_names, strict=True)}

    def run(self) -> ScalarProgram:
        self._convert(self.graph.outputs)
        outputs = [list(self.entries[node.index].flat) for node in self.graph.outputs]
        program = ScalarProgram(self.shared, self.inputs, outputs, self.bound)
        program.conditions.extend(self._conditions())
        return program

    def _conditions(self) -> Iterable[Condition]:
        for guard in self.graph.guards:
            node = guard.node
            if not node.depends or np.shape(guard.expected) or not _is_boolean(node.value):
                continue
            try:
                self._convert([node])
            except UnsupportedOperation:
                continue  # checked by its value at each call all the same
            condition = self.entries[node.index][()]
            yield Condition(condition, bool(guard.expected), guard.location)

    def _convert(self, wanted: Sequence[Node]) -> None:
        for node in _needed(wanted, self.entries):
            if node.depends:
                self.entries[node.index] = self._computed(node)
            else:
                self.entries[node.index] = self._constant(node)

    # ------------------------------------------------------------------ what depends on x

    def _computed(self, node: Node) -> Any:
        arguments = [self.entries[i.index] for i in node.inputs]
        result = self._applied(node, arguments)
        if result.shape != np.shape(node.value):
            result = np.broadcast_to(result, np.shape(node.value))
        return _mapped(self._defined, result)

    def _defined(self, entry: Any) -> Expression:
        expression = _as_expression(entry)
        if expression.is_Boolean or expression.is_Relational:
            return expression
        if self._is_decided_by_equality(expression):
            expression = self._in_one_input(expression)
        return self.shared.define(expression)

    def _is_decided_by_equality(self, expression: Expression) -> bool:
        return expression.has(sp.Piecewise) and any(
            self.shared.varies(equality) for equality in expression.atoms(sp.Eq, sp.Ne)
        )

    def _in_one_input(self, expression: Expression) -> Expression:
        """The same in terms of one entry of `x`, if it depends on one alone.

        What holds at a single point only can then be judged by a limit.
        """
        try:
            (tree,) = self.shared.expanded([expression], limit=500)
        except ExpressionTooLarge:
            return expression
        return tree if len(self.shared.varying & tree.free_symbols) == 1 else expression

    def _applied(self, node: Node, arguments: list[Any]) -> Any:
        primitive = node.primitive
        assert primitive is not None
        rule = primitive.sympy
        if isinstance(rule, Missing):
            raise UnsupportedOperation(
                f"np.{primitive.name} at {node.location} has no symbolic counterpart: "
                f"{rule.reason}; use backend='tape'"
            )
        try:
            if isinstance(rule, Same):
                return _object_array(primitive.function(*arguments, **node.static))
            if isinstance(rule, str):
                named = getattr(sp, rule)
                if not primitive.elementwise:
                    return _object_array(named(*arguments, **node.static))
                return _entrywise(named, arguments, {})
            if primitive.elementwise:
                return _entrywise(lambda *a, **k: rule(sp, *a, **k), arguments, node.static)
            return _object_array(rule(sp, *arguments, **node.static))
        except DiffkitError:
            raise
        except (ArithmeticError, AttributeError, NotImplementedError, TypeError, ValueError) as e:
            raise UnsupportedOperation(
                f"np.{primitive.name} at {node.location} cannot be expressed in SymPy: {e}; "
                "use backend='tape'"
            ) from e

    # ------------------------------------------------------------------ what does not

    def _constant(self, node: Node) -> Any:
        if node.index in self._data:
            symbols = self._symbols(self._data[node.index], np.shape(node.value))
            return self._bound(node, symbols)
        if node.primitive is None:
            return self._literal(node)
        if node.primitive.movement:
            return _object_array(node.primitive.function(
                self.entries[node.inputs[0].index], **node.static
            ))
        return self._bound(node, self._symbols(f"d_{node.index}", np.shape(node.value)))

    def _bound(self, node: Node, symbols: Any) -> Any:
        """Symbols whose values are the entries of a node; of booleans, whether they are true."""
        for position, symbol in enumerate(symbols.flat):
            self.bound[symbol] = (node.index, position)
        if _is_boolean(node.value):
            return _mapped(lambda symbol: sp.Ne(symbol, 0), symbols)
        return symbols

    def _literal(self, node: Node) -> Any:
        array = np.asarray(node.value)
        result = np.empty(array.shape, object)
        for position, value in enumerate(array.flat):
            result.flat[position] = self._number(node, position, value)
        return result

    def _number(self, node: Node, position: int, value: Any) -> Expression:
        if isinstance(value, (bool, np.bool_)):
            return sp.true if value else sp.false
        exact = exact_number(value)
        if exact is not None:
            return exact
        key = (value.dtype.str + str(type(node.value) is float), value.tobytes())
        if key not in self._constants:
            symbol = self.names.symbol("c", (len(self._constants),))
            self._constants[key] = symbol
            self.bound[symbol] = (node.index, position)
        return self._constants[key]

    def _symbols(self, name: str, shape: tuple[int, ...]) -> Any:
        result = np.empty(shape, object)
        for index in np.ndindex(shape):
            result[index] = self.names.symbol(name, index)
        return result


def _needed(wanted: Sequence[Node], known: Mapping[int, Any]) -> list[Node]:
    """The nodes to convert, in order; below a value free of `x`, only moves are followed."""
    found: dict[int, Node] = {}
    waiting = list(wanted)
    while waiting:
        node = waiting.pop()
        if node.index in found or node.index in known:
            continue
        found[node.index] = node
        moved = node.primitive is not None and node.primitive.movement
        if node.depends or moved:
            waiting.extend(node.inputs)
    return [found[index] for index in sorted(found)]


def _is_boolean(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "b"


def _object_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.astype(object, copy=False)
    result = np.empty((), object)
    result[()] = value
    return result


def _mapped(function: Any, array: Any) -> Any:
    result = np.empty(array.shape, object)
    for position, entry in enumerate(array.flat):
        result.flat[position] = function(entry)
    return result


def _entrywise(rule: Any, arguments: Sequence[Any], static: Mapping[str, Any]) -> Any:
    arrays = np.broadcast_arrays(*arguments)
    result = np.empty(arrays[0].shape, object)
    for position, entries in enumerate(zip(*(a.flat for a in arrays), strict=True)):
        result.flat[position] = rule(*entries, **static)
    return result


def _as_expression(entry: Any) -> Expression:
    """What a rule returned, as SymPy's; numbers that it put in are exact."""
    if isinstance(entry, sp.Basic):
        return entry
    if isinstance(entry, (bool, np.bool_)):
        return sp.true if entry else sp.false
    number = exact_number(entry) if isinstance(entry, (int, float, np.number)) else None
    if number is None:
        raise UnsupportedOperation(f"a rule returned {entry!r}, which is not an exact expression")
    return number


def entries_by_leaf(layout: Layout, flat: Sequence[Any]) -> list[Any]:
    """Cut a flat sequence of entries into one object array per leaf."""
    arrays, start = [], 0
    for leaf in layout.leaves:
        array = np.empty(leaf.size, object)
        array[:] = flat[start : start + leaf.size]
        arrays.append(array.reshape(leaf.shape))
        start += leaf.size
    return arrays
