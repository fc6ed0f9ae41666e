"""SymPy expression to expression: its tree is walked into NumPy calls, without code generation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import islice, pairwise
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.expressions.program import Block, Builder, Constant, Expression, Operand, integral

PRINTED_NODES = 500
"""An expression of more nodes is named by its kind alone."""

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "ceiling": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "tan": np.tan,
    "tanh": np.tanh,
}
_RECIPROCALS: dict[str, Callable[..., Any]] = {
    "cot": np.tan,
    "coth": np.tanh,
    "csc": np.sin,
    "csch": np.sinh,
    "sec": np.cos,
    "sech": np.cosh,
}
_REPEATED: dict[str, Callable[..., Any]] = {"Max": np.maximum, "Min": np.minimum}
_RELATIONS: dict[str, Callable[..., Any]] = {
    "Equality": operator.eq,
    "GreaterThan": operator.ge,
    "LessThan": operator.le,
    "StrictGreaterThan": operator.gt,
    "StrictLessThan": operator.lt,
    "Unequality": operator.ne,
}


def from_sympy(expression: Any, symbols: Any = None) -> Expression:
    """Return the function that a SymPy expression describes.

    A matrix, or a tuple of expressions, becomes an array. Equal subexpressions are evaluated
    once. Fractions are divided in float64, a `Piecewise` picks its branch as `if` does.

    Args:
        expression: a SymPy expression, matrix or tuple, or a number.
        symbols: one symbol, or several in order, as SymPy symbols or by name; by default the
            free symbols in alphabetical order. With one, the result is a function of a number
            (or array, entry by entry), with several, of a dict by name.

    Raises:
        InvalidInput: it is not a SymPy expression, or the symbols do not fit it.
        UnsupportedOperation: it holds a function that NumPy does not have.
    """
    import sympy

    if isinstance(expression, str):
        raise InvalidInput("from_sympy takes a SymPy expression; for a text use dk.parse")
    if isinstance(expression, (list, tuple)):
        expression = sympy.Tuple(*expression)
    elif isinstance(expression, (int, float)):
        expression = sympy.sympify(expression)
    if not isinstance(expression, (sympy.Basic, sympy.MatrixBase)):
        raise InvalidInput(f"{type(expression).__name__} is not a SymPy expression")
    shape, parts = _parts(expression)
    chosen = _symbols(_free_symbols(parts), symbols)
    builder = Builder(max(1, len(chosen)))
    walker = _Walker(builder, {symbol: i for i, symbol in enumerate(chosen)})
    try:
        results = [walker.number(part) for part in parts]
    except RecursionError as error:
        raise UnsupportedOperation("the SymPy expression is nested too deeply") from error
    text = _text(*parts) if shape is None else f"[{_text(*parts)}]"
    names = tuple(symbol.name for symbol in chosen)
    return Expression(text, names, builder.block(*results), shape)


def _symbols(free: list[Any], symbols: Any) -> list[Any]:
    """The variables in order, as symbols of the expression where it has them."""
    import sympy

    for one, other in pairwise(free):
        if str(one) == str(other):
            raise InvalidInput(f"two different symbols are named {one}; rename one of them")
    if symbols is None:
        return free
    if isinstance(symbols, (str, sympy.Symbol)):
        symbols = [symbols]
    by_name = {str(symbol): symbol for symbol in free}
    chosen = []
    for symbol in symbols:
        if not isinstance(symbol, (str, sympy.Symbol)):
            raise InvalidInput(f"{symbol!r} is neither a SymPy symbol nor a name")
        known = by_name.get(str(symbol), sympy.Symbol(str(symbol)))
        if isinstance(symbol, sympy.Symbol) and str(symbol) in by_name and symbol != known:
            raise InvalidInput(f"the symbol {symbol} has other assumptions in the expression")
        chosen.append(known)
    names = [str(symbol) for symbol in chosen]
    if len(set(names)) < len(names):
        raise InvalidInput("a symbol is given twice")
    if missing := [name for name in by_name if name not in names]:
        raise InvalidInput(f"the expression also depends on {', '.join(missing)}")
    return chosen


def _parts(expression: Any) -> tuple[tuple[int, ...] | None, Sequence[Any]]:
    import sympy

    if isinstance(expression, sympy.MatrixBase):
        return tuple(expression.shape), list(expression)
    if isinstance(expression, sympy.Tuple):
        return (len(expression),), list(expression)
    return None, [expression]


class _Walker:
    """Emits the steps of SymPy expressions, each distinct subexpression once."""

    def __init__(self, builder: Builder, known: dict[Any, Operand]) -> None:
        self.builder = builder
        self.known = known

    def number(self, node: Any) -> Operand:
        if node not in self.known:
            self.known[node] = self._emit(node)
        return self.known[node]

    def _emit(self, node: Any) -> Operand:
        name = type(node).__name__
        if node.is_Number or node.is_NumberSymbol:
            return self._constant(node)
        if node.is_Add:
            return self._sum(node.args)
        if node.is_Mul:
            return self._product(node)
        if node.is_Pow:
            return self._power(node)
        if name in _FUNCTIONS:
            return self._apply(node, _FUNCTIONS[name], *map(self.number, node.args))
        if name in _RECIPROCALS:
            inner = self._apply(node, _RECIPROCALS[name], self.number(node.args[0]))
            return self._apply(node, operator.truediv, Constant(1), inner)
        if name in _REPEATED:
            return self._reduce(node, _REPEATED[name], map(self.number, node.args))
        if name == "Piecewise":
            return self._piecewise(node, node.args)
        raise UnsupportedOperation(
            f"the SymPy expression holds {name} ({_text(node)}), which NumPy has no function "
            "for; rewrite it in elementary functions"
        )

    def _apply(self, node: Any, function: Callable[..., Any], *operands: Operand) -> Operand:
        try:
            return self.builder.apply(function, *operands)
        except ArithmeticError as error:
            raise UnsupportedOperation(f"{_text(node)}: {error}") from None

    def _reduce(
        self, node: Any, function: Callable[..., Any], operands: Iterable[Operand]
    ) -> Operand:
        return reduce(lambda left, right: self._apply(node, function, left, right), operands)

    def _constant(self, node: Any) -> Constant:
        if node.is_finite is not True:
            raise UnsupportedOperation(f"the SymPy expression holds {node}, which is not finite")
        try:
            number = node.p / node.q if node.is_Rational else float(node)
        except OverflowError:
            number = float("inf")
        if np.isinf(number) or (number == 0) != bool(node.is_zero):
            raise UnsupportedOperation(f"the number {_text(node)} does not fit float64")
        return Constant(integral(number) if node.is_Integer else number)

    def _sum(self, terms: Sequence[Any]) -> Operand:
        total = self.number(terms[0])
        for term in terms[1:]:
            coefficient, _ = term.as_coeff_Mul()
            if coefficient.is_negative:
                total = self._apply(term, operator.sub, total, self.number(-term))
            else:
                total = self._apply(term, operator.add, total, self.number(term))
        return total

    def _product(self, node: Any) -> Operand:
        """Factors with a negative exponent divide, so that x/y is one division."""
        from sympy import Integer

        above, below = [], []
        negative = False
        for factor in node.args:
            if factor.is_Rational:
                negative = factor.p < 0
                above += [Integer(abs(factor.p))] if abs(factor.p) != 1 else []
                below += [Integer(factor.q)] if factor.q != 1 else []
            elif factor.is_Pow and factor.exp.is_Rational and factor.exp.is_negative:
                below.append(factor.base**-factor.exp)
            else:
                above.append(factor)
        value = self._factors(node, above)
        if below:
            value = self._apply(node, operator.truediv, value, self._factors(node, below))
        return self._apply(node, operator.neg, value) if negative else value

    def _factors(self, node: Any, factors: Sequence[Any]) -> Operand:
        if not factors:
            return Constant(1)
        return self._reduce(node, operator.mul, [self.number(factor) for factor in factors])

    def _power(self, node: Any) -> Operand:
        base, exponent = node.args
        if exponent.is_Rational and exponent.p < 0:
            positive = self.number(base**-exponent)
            return self._apply(node, operator.truediv, Constant(1), positive)
        if exponent.is_Rational and (exponent.p, exponent.q) == (1, 2):
            return self._apply(node, np.sqrt, self.number(base))
        return self._apply(node, operator.pow, self.number(base), self.number(exponent))

    # ------------------------------------------------------------------ branches

    def _piecewise(self, node: Any, pairs: Sequence[Any]) -> Operand:
        value, condition = pairs[0].args
        if condition == True:  # noqa: E712 - SymPy's `true` is equal to True, not identical
            return self.number(value)
        if len(pairs) == 1:
            raise UnsupportedOperation(
                f"{_text(node)} has no value where none of its conditions holds; end it "
                "with a pair (value, True)"
            )
        decision = self.condition(condition)
        then, otherwise = self._branch(), self._branch()
        return self.builder.choose(
            decision,
            then.builder.block(then.number(value)),
            otherwise.builder.block(otherwise._piecewise(node, pairs[1:])),
        )

    def _branch(self) -> _Walker:
        return _Walker(self.builder.branch(), dict(self.known))

    def condition(self, node: Any) -> Operand:
        name = type(node).__name__
        if name in ("BooleanTrue", "BooleanFalse"):
            return Constant(bool(node))
        if name in _RELATIONS:
            return self._apply(node, _RELATIONS[name], *map(self.number, node.args))
        if name == "ITE":
            decision = self.condition(node.args[0])
            blocks = []
            for argument in node.args[1:]:
                branch = self._branch()
                blocks.append(branch.builder.block(branch.condition(argument)))
            return self.builder.choose(decision, blocks[0], blocks[1])
        if name == "Not":
            return self._settle(node.args, Constant(False), Constant(True))
        if name == "And":
            return self._settle(node.args, None, Constant(False))
        if name == "Or":
            return self._settle(node.args, Constant(True), None)
        raise UnsupportedOperation(f"the condition {_text(node)} has no counterpart here")

    def _settle(self, nodes: Sequence[Any], yes: Constant | None, no: Constant | None) -> Operand:
        """The first condition decides: `yes` or `no`, or (None) whatever the others say."""
        first = self.condition(nodes[0])
        if len(nodes) == 1 and (yes is None or no is None):
            return first

        def outcome(settled: Constant | None) -> Block:
            if settled is not None:
                return Block((), (settled,))
            rest = self._branch()
            return rest.builder.block(rest._settle(nodes[1:], yes, no))

        return self.builder.choose(first, outcome(yes), outcome(no))


def _text(*nodes: Any) -> str:
    """The printed expression, unless it is large: a small graph can print as a vast tree."""
    counted = islice((node for root in nodes for node in _preorder(root)), PRINTED_NODES + 1)
    if sum(1 for _ in counted) > PRINTED_NODES:
        return f"a SymPy {type(nodes[0]).__name__} of more than {PRINTED_NODES} nodes"
    return ", ".join(str(node) for node in nodes)


def _preorder(node: Any) -> Iterator[Any]:
    stack = [node]
    while stack:
        stack.extend(reversed((node := stack.pop()).args))
        yield node


def _free_symbols(nodes: Iterable[Any]) -> list[Any]:
    """The free symbols by name, each distinct subexpression visited once."""
    found, seen, stack = set(), set(), list(nodes)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.is_Symbol or getattr(node, "bound_symbols", ()):
            found |= node.free_symbols
        else:
            stack.extend(node.args)
    return sorted(found, key=str)
