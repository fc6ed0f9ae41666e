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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import sympy as sp

from diffkit.errors import DiffkitError, ExpressionTooLarge, UnsupportedOperation
from diffkit.tracing.graph import Graph, Missing, Node, Rule, Same
from diffkit.tracing.locations import Location
from diffkit.tracing.shared_expressions import Expression, Shared, Symbol
from diffkit.tracing.stepwise import Stepwise

LONGEST_NUMERATOR: Final = 2**20
LONGEST_DENOMINATOR: Final = 2**10


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
        delicate: whether it solves systems or takes determinants, by formulas that cannot
            choose a pivot and so may lose digits.
    """

    shared: Shared
    inputs: list[Symbol]
    outputs: list[list[Expression]]
    bound: dict[Symbol, tuple[int, int]]
    conditions: list[Condition] = field(default_factory=list)
    delicate: bool = False


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
        self.delicate = False
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
        program.delicate = self.delicate
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
        for node in nodes_needed(wanted, self.entries):
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
        large = node.primitive is not None and not node.primitive.elementwise
        return _mapped(lambda entry: self._defined(entry, large), result)

    def _defined(self, entry: Any, large: bool) -> Expression:
        expression = as_expression(entry)
        if not isinstance(expression, sp.Expr):
            return expression
        if large and _is_deep(expression):
            self.delicate = True
            return self.shared.define_parts(expression)
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
        return tree if len(self.shared.dependent & tree.free_symbols) == 1 else expression

    def _applied(self, node: Node, arguments: list[Any]) -> Any:
        primitive = node.primitive
        assert primitive is not None
        if primitive.elementwise:
            return _entrywise(lambda *entries: elementwise_expression(node, entries), arguments)
        with _translated(node):
            rule = _counterpart(node)
            if isinstance(rule, Same):
                return _object_array(primitive.function(*arguments, **node.static))
            if isinstance(rule, str):
                return _object_array(getattr(sp, rule)(*arguments, **node.static))
            steps = Stepwise(self.shared, _values(node, arguments))
            result = _object_array(rule(steps, *arguments, **node.static))
            self.delicate |= steps.has_pivots
            return result

    # ------------------------------------------------------------------ what does not

    def _constant(self, node: Node) -> Any:
        if node.index in self._data:
            symbols = self._symbols(self._data[node.index], np.shape(node.value))
            return self._bound(node, symbols)
        if node.primitive is None:
            return self._literal(node)
        if node.primitive.movement:
            return _object_array(
                node.primitive.function(self.entries[node.inputs[0].index], **node.static)
            )
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


def _counterpart(node: Node) -> Rule | str | Same:
    """The SymPy column of the primitive that computed a node.

    Raises:
        UnsupportedOperation: it is empty.
    """
    assert node.primitive is not None
    rule = node.primitive.sympy
    if isinstance(rule, Missing):
        raise UnsupportedOperation(
            f"{node.primitive.called} at {node.location} has no symbolic counterpart: "
            f"{rule.reason}; use backend='tape'"
        )
    return rule


@contextmanager
def _translated(node: Node) -> Iterator[None]:
    """SymPy's own errors as refusals that name the operation and its line."""
    try:
        yield
    except DiffkitError:
        raise
    except (ArithmeticError, AttributeError, NotImplementedError, TypeError, ValueError) as error:
        name = node.primitive.name if node.primitive else "value"
        raise UnsupportedOperation(
            f"np.{name} at {node.location} cannot be expressed in SymPy: {error}; "
            "use backend='tape'"
        ) from error


def elementwise_expression(node: Node, entries: Sequence[Any]) -> Any:
    """What an elementwise primitive computes from one expression for each argument.

    Raises:
        UnsupportedOperation: it has no SymPy counterpart.
    """
    with _translated(node):
        rule = _counterpart(node)
        if isinstance(rule, str):
            return getattr(sp, rule)(*entries)
        if isinstance(rule, Same):
            assert node.primitive is not None
            return node.primitive.function(*entries, **node.static)
        return rule(sp, *entries, **node.static)


def nodes_needed(
    wanted: Sequence[Node], known: Mapping[int, Any], *, through_moves: bool = True
) -> list[Node]:
    """The nodes to convert, in order; below a value free of `x`, moves are followed or none."""
    found: dict[int, Node] = {}
    waiting = list(wanted)
    while waiting:
        node = waiting.pop()
        if node.index in found or node.index in known:
            continue
        found[node.index] = node
        moved = node.primitive is not None and node.primitive.movement
        if node.depends or (moved and through_moves):
            waiting.extend(node.inputs)
    return [found[index] for index in sorted(found)]


def _values(node: Node, arguments: Sequence[Any]) -> dict[Expression, float]:
    """What each symbol in the arguments of a node was at the recording."""
    return {
        entry: float(value)
        for given, part in zip(node.inputs, arguments, strict=True)
        for entry, value in zip(part.flat, np.asarray(given.value).flat, strict=True)
        if isinstance(entry, sp.Symbol)
    }


def _is_deep(expression: Expression) -> bool:
    """Whether it is more than a sum of products."""
    return any(inner.args for part in expression.args for inner in part.args)


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


def _entrywise(rule: Any, arguments: Sequence[Any]) -> Any:
    arrays = np.broadcast_arrays(*arguments)
    result = np.empty(arrays[0].shape, object)
    for position, entries in enumerate(zip(*(a.flat for a in arrays), strict=True)):
        result.flat[position] = rule(*entries)
    return result


def as_expression(entry: Any) -> Expression:
    """What a rule returned, as SymPy's; numbers that it put in are exact."""
    if isinstance(entry, np.ndarray) and not entry.ndim:
        entry = entry[()]
    if isinstance(entry, sp.Basic):
        return entry
    if isinstance(entry, (bool, np.bool_)):
        return sp.true if entry else sp.false
    number = exact_number(entry) if isinstance(entry, (int, float, np.number)) else None
    if number is None:
        raise UnsupportedOperation(f"a rule returned {entry!r}, which is not an exact expression")
    return number
