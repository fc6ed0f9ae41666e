"""Text to expression, by Python's grammar and a whitelist. Nothing is ever evaluated as code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from diffkit.errors import ParseError
from diffkit.expressions.functions import CONSTANTS, FUNCTIONS, WHERE
from diffkit.expressions.program import Block, Builder, Constant, Expression, Operand, integral
from diffkit.expressions.scan import parse_error, scan, unusable

_ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISON: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_NONZERO_DIGITS = re.compile(r"[0.]*[1-9]")


def parse(text: str, variables: Sequence[str] | str | None = None) -> Expression:
    """Return the function that `text` describes.

    Numbers, `+ - * / % **`, brackets, `pi`, `e`, `tau`, the functions in
    `diffkit.expressions.functions`, comparisons and `a if x > 0 else b` are understood; every
    other name is a variable. One variable makes a function of a number (or of an array, entry
    by entry), several a function of a dict by name.

    Args:
        text: the formula, at most 10,000 characters.
        variables: the names of the variables, in order (or one text with commas between); by
            default those that occur, in order of appearance.

    Raises:
        ParseError: the text is not such a formula; the message points at the place.
    """
    if not isinstance(text, str):
        raise ParseError(f"the expression must be a text, not {type(text).__name__}")
    tokens = scan(text)
    names = _declared(variables)
    if names is None:
        names = tuple(dict.fromkeys(token.text for token in tokens))
    for token in tokens:
        if token.text not in names:
            known = f"the variables are {', '.join(names)}" if names else "no variable is allowed"
            raise parse_error(text, token.start, f"unknown name {token.text!r}; {known}")
    try:
        translator = _Translator(text, {name: i for i, name in enumerate(names)})
        block = translator.translate()
    except (RecursionError, MemoryError) as error:
        raise ParseError("the expression is nested too deeply") from error
    return Expression(" ".join(text.split()), names, block)


def _declared(variables: Sequence[str] | str | None) -> tuple[str, ...] | None:
    if variables is None:
        return None
    if isinstance(variables, str):
        variables = variables.replace(",", " ").split()
    for name in variables:
        if not isinstance(name, str):
            raise ParseError(f"a variable's name must be a text, not {type(name).__name__}")
        if reason := unusable(name):
            raise ParseError(reason)
    if len(set(variables)) < len(variables):
        raise ParseError("a variable is named twice")
    return tuple(variables)


class _Translator:
    """Walks Python's syntax tree of a scanned text and emits the steps of a program."""

    def __init__(self, text: str, slots: dict[str, int]) -> None:
        self.text = text
        self.slots = slots

    def translate(self) -> Block:
        builder = Builder(max(1, len(self.slots)))
        return builder.block(self._number(self._tree(), builder))

    def _tree(self) -> ast.expr:
        # A bracket around everything lets lines break anywhere and costs one column.
        source = "(" + re.sub(r"[\t\r\n]", " ", self.text) + ")"
        try:
            return ast.parse(source, mode="eval").body
        except SyntaxError as error:
            position = min(max((error.offset or 1) - 2, 0), len(self.text) - 1)
            raise parse_error(self.text, position, error.msg) from None

    def _error(self, node: ast.expr, message: str) -> ParseError:
        return parse_error(self.text, max(node.col_offset - 1, 0), message)

    def _apply(
        self, node: ast.expr, builder: Builder, function: Callable[..., Any], *operands: Operand
    ) -> Operand:
        try:
            return builder.apply(function, *operands)
        except ArithmeticError as error:
            raise self._error(node, str(error)) from None

    # ------------------------------------------------------------------ numbers

    def _number(self, node: ast.expr, builder: Builder) -> Operand:
        match node:
            case ast.Constant():
                return self._literal(node)
            case ast.Name():
                name = node.id
                return Constant(CONSTANTS[name]) if name in CONSTANTS else self.slots[name]
            case ast.BinOp():
                return self._chain(node, builder)
            case ast.UnaryOp(op=ast.USub()):
                return self._apply(node, builder, operator.neg, self._number(node.operand, builder))
            case ast.UnaryOp(op=ast.UAdd()):
                return self._number(node.operand, builder)
            case ast.IfExp():
                return self._conditional(node, builder)
            case ast.Call():
                return self._call(node, builder)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp():
                raise self._error(
                    node, "a condition stands where a number is due; write (1 if x > 0 else 0)"
                )
        raise self._error(node, f"{type(node).__name__} is not part of an expression")

    def _literal(self, node: ast.Constant) -> Constant:
        value = node.value
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self._error(node, f"{type(value).__name__} is not a number")
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if number == float("inf"):
            raise self._error(node, "this number is too large for float64")
        if number == 0 and _NONZERO_DIGITS.match(self.text, node.col_offset - 1):
            raise self._error(node, "this number is too small for float64")
        return Constant(integral(number) if isinstance(value, int) else number)

    def _chain(self, node: ast.BinOp, builder: Builder) -> Operand:
        """Operators that associate to the left, without recursion along the chain."""
        links = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp):
            links.append(left)
            left = left.left
        value = self._number(left, builder)
        for link in reversed(links):
            function = _ARITHMETIC.get(type(link.op))
            if function is None:
                raise self._error(link, f"{type(link.op).__name__} is not part of an expression")
            value = self._apply(link, builder, function, value, self._number(link.right, builder))
        return value

    def _conditional(self, node: ast.IfExp, builder: Builder) -> Operand:
        condition = self._condition(node.test, builder)
        then, otherwise = builder.branch(), builder.branch()
        return builder.choose(
            condition,
            then.block(self._number(node.body, then)),
            otherwise.block(self._number(node.orelse, otherwise)),
        )

    def _call(self, node: ast.Call, builder: Builder) -> Operand:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self._error(node, "only a known function with plain arguments can be called")
        name = node.func.id
        arity = 3 if name == WHERE else FUNCTIONS[name].arity
        if len(node.args) != arity:
            words = f"{arity} argument{'s' if arity > 1 else ''}"
            raise self._error(node, f"{name} takes {words}, not {len(node.args)}")
        if name == WHERE:
            condition = self._condition(node.args[0], builder)
            then, otherwise = (self._number(argument, builder) for argument in node.args[1:])
            return builder.choose(
                condition, Block((), (then,)), Block((), (otherwise,)), flow=False
            )
        arguments = [self._number(argument, builder) for argument in node.args]
        return self._apply(node, builder, FUNCTIONS[name].call, *arguments)

    # ------------------------------------------------------------------ conditions

    def _condition(self, node: ast.expr, builder: Builder) -> Operand:
        match node:
            case ast.Compare():
                left = self._number(node.left, builder)
                return self._comparisons(node, left, 0, builder)
            case ast.BoolOp():
                return self._sequence(node.values, isinstance(node.op, ast.And), builder)
            case ast.UnaryOp(op=ast.Not()):
                operand = self._condition(node.operand, builder)
                no, yes = Block((), (Constant(False),)), Block((), (Constant(True),))
                return builder.choose(operand, no, yes)
        raise self._error(node, "a condition is due here, such as x > 0")

    def _comparisons(
        self, node: ast.Compare, left: Operand, index: int, builder: Builder
    ) -> Operand:
        """`a < b < c` as Python reads it: `a < b and b < c`, with `b` evaluated once."""
        right = self._number(node.comparators[index], builder)
        function = _COMPARISON.get(type(node.ops[index]))
        if function is None:
            raise self._error(node, f"{type(node.ops[index]).__name__} is not a comparison here")
        first = self._apply(node, builder, function, left, right)
        if index + 1 == len(node.ops):
            return first
        rest = builder.branch()
        block = rest.block(self._comparisons(node, right, index + 1, rest))
        return builder.choose(first, block, Block((), (Constant(False),)))

    def _sequence(self, nodes: list[ast.expr], every: bool, builder: Builder) -> Operand:
        """`and` (every) or `or` (any), each condition evaluated only where those before allow."""
        first = self._condition(nodes[0], builder)
        if len(nodes) == 1:
            return first
        rest = builder.branch()
        block = rest.block(self._sequence(nodes[1:], every, rest))
        settled = Block((), (Constant(not every),))
        return builder.choose(first, *((block, settled) if every else (settled, block)))
