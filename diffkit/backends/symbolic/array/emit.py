"""Programs over arrays as straight-line NumPy, with generated names only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import singledispatchmethod
from typing import Any, Final

import sympy as sp

from diffkit.backends.symbolic.array.contractions import product_source
from diffkit.backends.symbolic.array.extremes import Extreme, Shares
from diffkit.backends.symbolic.array.notation import ArrayProgram, Operation, Shape
from diffkit.backends.symbolic.array.operations import (
    Broadcast,
    Gather,
    Joined,
    Lookup,
    Packed,
    Part,
    Placed,
    Positions,
    Reshape,
    RunningSum,
    Scatter,
    Spread,
    Sum,
    Transpose,
)
from diffkit.backends.symbolic.array.products import (
    Cofactors,
    Determinant,
    DeterminantSign,
    Factor,
    Inverse,
    Product,
    Solution,
)
from diffkit.backends.symbolic.array.runtime import NAMES, Places
from diffkit.backends.symbolic.code import NumPyCode, number_in
from diffkit.tracing.shared_expressions import Expression, Symbol, tree_operations

DEEPEST: Final = 12  # expressions inside one another on a line
FEW: Final = 100  # numbers; of so few the calls cost more than the computing
BATCH: Final = "0"  # the index of the batch; those of the operations are letters
VIEWS: Final = (Reshape, Transpose, Broadcast, Part)


class Emitter:
    """Writes what some results need as lines of source, and the names that these refer to.

    Attributes:
        names: what the source refers to.
        lines: the assignments, in order.
        operations: how many operations on arrays they do.
    """

    def __init__(self, program: ArrayProgram, read: Mapping[Symbol, str]) -> None:
        self.program = program
        self.names: dict[str, Any] = dict(NAMES)
        self.lines: list[str] = []
        self.operations = 0
        self._source: dict[Symbol, str] = dict(read)
        self._depth: Counter[Symbol] = Counter()
        self._given_away: set[Symbol] = set()
        self._printer = _ArrayCode(self)

    def write(self, results: Sequence[Expression]) -> None:
        """Add the lines that define every symbol in the results."""
        needed = self.program.reachable(results)
        uses = Counter(s for d in needed.values() for s in _occurrences(d))
        uses.update(s for result in results for s in (*result.free_symbols,) * 2)
        for symbol, definition in needed.items():
            source = self._definition(symbol, definition)
            depth = 1 + max((self._depth[s] for s in definition.free_symbols), default=0)
            if uses[symbol] == 1 and depth < DEEPEST and not isinstance(definition, Operation):
                self._source[symbol], self._depth[symbol] = f"({source})", depth
            else:
                name = f"v{len(self.lines)}"
                self.lines.append(f"{name} = {source}")
                self._source[symbol] = name

    def source(self, expression: Expression) -> str:
        """Source of a number or symbol, as an operand that methods can be called on."""
        if expression.is_Symbol:
            return self._source[expression]
        return f"numpy.asarray({self._printer.code(expression)}, dtype)"

    def result(self, expression: Expression, shape: Shape, each: bool = False) -> str:
        """Source of a result as an array of its own, of the full shape.

        Args:
            expression: the result.
            shape: its shape, without the batch.
            each: whether one is wanted for each member of the batch.
        """
        full = f"({'m, ' * each}{''.join(f'{n}, ' for n in shape)})"
        if expression.is_number:
            return f"numpy.full({full}, {self._printer.code(expression)}, dtype)"
        source, program = self._source[expression], self.program
        if program.shapes[expression] != shape or each > (expression in program.batched):
            return f"broadcast_to({self.aligned(expression, len(shape))}, {full}).copy()"
        root = self._root(expression)
        owned = root in program.definitions and root not in self._given_away
        self._given_away.add(root)
        return source if owned or not (shape or each) else f"{source}.copy()"

    def _root(self, symbol: Symbol) -> Symbol:
        """The symbol whose memory a value may share."""
        definition = self.program.definitions.get(symbol)
        while isinstance(definition, VIEWS) and definition.operands[0].is_Symbol:
            symbol = definition.operands[0]
            definition = self.program.definitions.get(symbol)
        return symbol

    def scalar(self, expression: Expression) -> str:
        """Source of a scalar expression, such as a side of a tie."""
        return self._printer.scalar(expression, self.program.shape(expression))

    def constant(self, value: Any) -> str:
        """A name for a value."""
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def numbers(self, dtype: Any) -> dict[str, Any]:
        """The numbers that the source refers to, in a dtype."""
        return self._printer.numbers_in(dtype)

    def aligned(self, symbol: Symbol, ndim: int) -> str:
        """Source of a symbol among others of `ndim` axes, the batch before them all."""
        source, missing = self._source[symbol], ndim - len(self.program.shapes[symbol])
        if symbol not in self.program.batched or missing <= 0:
            return source
        return f"{source}[:{', None' * missing}]"

    def _definition(self, symbol: Symbol, definition: Any) -> str:
        if isinstance(definition, Operation):
            self.operations += 1
            return str(self._operation(definition, symbol))
        self.operations += tree_operations(definition, {})
        return self._printer.scalar(definition, self.program.shapes[symbol])

    # ------------------------------------------------------------------ operations

    def _lead(self, symbol: Expression) -> str:
        return "m, " if symbol in self.program.batched else ""

    def _ndim(self, expression: Expression) -> int:
        return len(self.program.shape(expression))

    def _back(self, axes: Sequence[int], operand: Expression) -> tuple[int, ...]:
        """Axes counted from the last."""
        return tuple(axis - self._ndim(operand) for axis in axes)

    def _shape(self, symbol: Symbol, shape: Shape) -> str:
        return f"({self._lead(symbol)}{''.join(f'{n}, ' for n in shape)})"

    def _places(self, positions: Positions) -> str:
        shape = positions.places.shape
        return self.constant(Places(shape, positions.places.reshape(-1)))

    def _broadcast(self, a: Expression, to: Shape) -> str:
        if a.is_number:
            return f"numpy.full({to}, {self._printer.code(a)}, dtype)"
        return f"broadcast_to({self.aligned(a, len(to))}, {self._shape(a, to)})"

    @singledispatchmethod
    def _operation(self, operation: Any, symbol: Symbol) -> str:
        raise NotImplementedError(type(operation).__name__)

    @_operation.register
    def _(self, operation: Reshape, symbol: Symbol) -> str:
        (a,) = operation.operands
        return f"{self.source(a)}.reshape({self._shape(a, operation.to)})"

    @_operation.register
    def _(self, operation: Broadcast, symbol: Symbol) -> str:
        return self._broadcast(operation.operands[0], operation.to)

    @_operation.register
    def _(self, operation: Transpose, symbol: Symbol) -> str:
        (a,) = operation.operands
        if a in self.program.batched:
            return f"{self.source(a)}.transpose({(0, *(i + 1 for i in operation.axes))})"
        if operation.axes == tuple(range(len(operation.axes)))[::-1]:
            return f"{self.source(a)}.T"
        return f"{self.source(a)}.transpose({operation.axes})"

    @_operation.register
    def _(self, operation: Sum, symbol: Symbol) -> str:
        (a,) = operation.operands
        if len(operation.axes) == self._ndim(a) and a not in self.program.batched:
            return f"add_reduce({self.source(a)}, None, None, None, True)"
        axes = self._back(operation.axes, a)
        where = axes[0] if len(axes) == 1 else axes
        return f"add_reduce({self.source(a)}, {where}, None, None, True)"

    @_operation.register
    def _(self, operation: Gather, symbol: Symbol) -> str:
        (a,) = operation.operands
        return f"gather({self.source(a)}, {self._ndim(a)}, {self._places(operation.positions)})"

    @_operation.register
    def _(self, operation: Scatter, symbol: Symbol) -> str:
        (a,) = operation.operands
        places = self._places(operation.positions)
        return f"scatter({self.source(a)}, {self._ndim(a)}, {places}, {operation.to})"

    @_operation.register
    def _(self, operation: Lookup, symbol: Symbol) -> str:
        a, *integers = (self.source(operand) for operand in operation.operands)
        index, ndim = self.constant(operation.index.parts), self._ndim(operation.operands[0])
        return f"lookup({a}, {ndim}, {index}, ({''.join(f'{i}, ' for i in integers)}))"

    @_operation.register
    def _(self, operation: Spread, symbol: Symbol) -> str:
        a, *integers = (self.source(operand) for operand in operation.operands)
        index, ndim = self.constant(operation.index.parts), self._ndim(operation.operands[0])
        given = "".join(f"{i}, " for i in integers)
        return f"spread({a}, {ndim}, {index}, ({given}), {operation.to})"

    @_operation.register
    def _(self, operation: Part, symbol: Symbol) -> str:
        (a,) = operation.operands
        parts = operation.section.parts
        if a in self.program.batched:
            parts = (slice(None), *parts)
        return f"{self.source(a)}[{', '.join(map(_index, parts)) or '()'}]"

    @_operation.register
    def _(self, operation: Placed, symbol: Symbol) -> str:
        (a,) = operation.operands
        whole = operation.section.shape(operation.to)
        value = self.source(a) if a.is_number else self.aligned(a, len(whole))
        parts = operation.section.parts
        if a in self.program.batched:
            parts = (slice(None), *parts)
        section, lead = self.constant(parts), "(m,)" if a in self.program.batched else "()"
        return f"placed({value}, {section}, {lead}, {operation.to})"

    @_operation.register
    def _(self, operation: Joined, symbol: Symbol) -> str:
        parts = "".join(f"{self.source(a)}, " for a in operation.operands)
        (axis,) = self._back((operation.axis,), operation.operands[0])
        ndim = self._ndim(operation.operands[0])
        if symbol in self.program.batched:
            return f"joined(({parts}), {axis}, {ndim})"
        return f"numpy.concatenate(({parts}), {axis})"

    @_operation.register
    def _(self, operation: Packed, symbol: Symbol) -> str:
        parts = "".join(f"{self.source(a)}, " for a in operation.operands)
        return f"packed(({parts}), dtype)"

    @_operation.register
    def _(self, operation: RunningSum, symbol: Symbol) -> str:
        (a,) = operation.operands
        (axis,) = self._back((operation.axis,), a)
        return f"running_sum({self.source(a)}, {axis}, {operation.reverse})"

    @_operation.register
    def _(self, operation: Extreme, symbol: Symbol) -> str:
        (a,) = operation.operands
        name = "maximum_reduce" if operation.largest else "minimum_reduce"
        return f"{name}({self.source(a)}, {self._back(operation.axes, a)}, None, None, True)"

    @_operation.register
    def _(self, operation: Shares, symbol: Symbol) -> str:
        a, extreme = operation.operands
        return f"shares({self.source(a)}, {self.source(extreme)}, {self._back(operation.axes, a)})"

    @_operation.register
    def _(self, operation: Product, symbol: Symbol) -> str:
        a, b = operation.operands
        left, right, target = operation.indices
        shapes = [self.program.shape(o) for o in operation.operands]
        lengths = {x: str(n) for x, n in operation.lengths(shapes).items()}
        if symbol in self.program.batched:
            lengths[BATCH], target = "m", BATCH + target
        if a in self.program.batched:
            left = BATCH + left
        if b in self.program.batched:
            right = BATCH + right
        return product_source(self.source(a), left, self.source(b), right, target, lengths)

    @_operation.register
    def _(self, operation: Inverse, symbol: Symbol) -> str:
        return f"inverse({self.source(operation.operands[0])})"

    @_operation.register
    def _(self, operation: Solution, symbol: Symbol) -> str:
        a, b = (self.source(operand) for operand in operation.operands)
        return f"solution({a}, {b})"

    @_operation.register
    def _(self, operation: Determinant, symbol: Symbol) -> str:
        return f"determinant({self.source(operation.operands[0])}, {operation.logarithm})"

    @_operation.register
    def _(self, operation: DeterminantSign, symbol: Symbol) -> str:
        return f"determinant_sign({self.source(operation.operands[0])})"

    @_operation.register
    def _(self, operation: Cofactors, symbol: Symbol) -> str:
        return f"cofactors({self.source(operation.operands[0])})"

    @_operation.register
    def _(self, operation: Factor, symbol: Symbol) -> str:
        return f"factor({self.source(operation.operands[0])})"


def _occurrences(definition: Any) -> list[Symbol]:
    """The symbols of a definition, each as often as it occurs."""
    if isinstance(definition, Operation):
        return [s for s in definition.operands if s.is_Symbol] * 2
    return [s for s in sp.preorder_traversal(definition) if s.is_Symbol]


def _index(part: Any) -> str:
    if isinstance(part, slice):
        ends = ("" if end is None else str(int(end)) for end in (part.start, part.stop))
        step = "" if part.step is None else f":{int(part.step)}"
        return ":".join(ends) + step
    if part is Ellipsis:
        return "..."
    return "None" if part is None else str(int(part))


class _ArrayCode(NumPyCode):
    """Scalar expressions over array symbols."""

    def __init__(self, emitter: Emitter) -> None:
        super().__init__({})
        self._emitter = emitter
        self._ndim, self._few = 0, True

    def scalar(self, expression: Expression, shape: Shape) -> str:
        """The source of an expression whose value has the given shape."""
        self._ndim, self._few = len(shape), math.prod(shape) <= FEW
        return self.code(expression)

    def numbers_in(self, dtype: Any) -> dict[str, Any]:
        """What the names of the numbers stand for in a dtype."""
        return {f"c{i}": number_in(n, dtype) for i, n in enumerate(self.numbers)}

    def _bound(self, number: Expression) -> str:
        self.numbers.setdefault(number)
        return f"c{list(self.numbers).index(number)}"

    def _print_Symbol(self, expr: Expression) -> str:  # noqa: N802
        return self._emitter.aligned(expr, self._ndim)

    _print_Dummy = _print_Symbol  # noqa: N815

    def _print_sech(self, expr: Expression) -> str:
        """Of few numbers by fewer calls, of many by the exponential, which is the faster one."""
        argument = self._print(expr.args[0])
        return f"(1/numpy.cosh({argument}))" if self._few else f"sech({argument})"


Program = Callable[..., Any]


def program_source(parameters: str, lines: Sequence[str], returned: str) -> str:
    """The source of a function `program`."""
    body = "".join(f"    {line}\n" for line in lines)
    return f"def program({parameters}):\n{body}    return {returned}\n"


def built(source: str, names: Mapping[str, Any]) -> Program:
    """The function that the source defines."""
    namespace = dict(names)
    exec(compile(source, "<diffkit symbolic>", "exec"), namespace)
    program: Program = namespace["program"]
    return program
