"""How large derivatives are: SymPy expressions, and straight-line programs as they are compiled."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from diffkit.errors import InvalidInput

# Calls that compute nothing.
_MOVEMENT: Final = frozenset(
    {
        *("reshape", "transpose", "ravel", "broadcast_to", "expand_dims", "squeeze", "swapaxes"),
        *("astype", "asarray", "float64", "copy", "zeros", "empty", "item", "tolist"),
    }
)
_NAMESPACES: Final = frozenset({"numpy", "np", "mpmath"})


@dataclass(frozen=True)
class ExpressionSize:
    """How large SymPy expressions are, counted in three ways.

    Attributes:
        tree: operations when written out (`sympy.count_ops`).
        dag: different subexpressions that are not single symbols or numbers.
        compiled: operations after common subexpressions are shared.
    """

    tree: int
    dag: int
    compiled: int


def expression_size(expressions: Any) -> ExpressionSize:
    """Return the size of one SymPy expression, or of several that share subexpressions."""
    import sympy

    several = list(expressions) if isinstance(expressions, Iterable) else [expressions]
    several = [sympy.sympify(e) for e in several]
    definitions, reduced = sympy.cse(several)
    shared = [*(e for _, e in definitions), *reduced]
    return ExpressionSize(
        tree=sum(int(sympy.count_ops(e)) for e in several),
        dag=_count_nodes(several),
        compiled=sum(int(sympy.count_ops(e)) for e in shared),
    )


def _count_nodes(expressions: list[Any]) -> int:
    """How many different subexpressions have arguments of their own."""
    seen: set[Any] = set()
    pending = [e for e in expressions if e.args]
    while pending:
        expression = pending.pop()
        if expression not in seen:
            seen.add(expression)
            pending.extend(a for a in expression.args if a.args)
    return len(seen)


# ---------------------------------------------------------------------- programs


@dataclass(frozen=True)
class ProgramSize:
    """How large a straight-line Python program is.

    An operation is an arithmetic operator, a comparison or a call of a function, on numbers or on
    whole arrays; moving entries about (indexing, reshaping) is none.

    Attributes:
        tree: operations of the results if every name were replaced by what it stands for.
        dag: different subexpressions among them.
        operations: those in the program as it stands.
        lines: lines of the body.
        bytes: length of the source in UTF-8.
    """

    tree: int
    dag: int
    operations: int
    lines: int
    bytes: int


def program_size(source: str) -> ProgramSize:
    """Return the size of the program in a source, which may be cut into several functions.

    Each name is assigned before it is used, and means the same in all functions; what they hand
    on to each other goes through a dict `kept`. Branches (checks, which leave the program) do
    not count. Trees are counted on the names, never unfolded.

    Raises:
        InvalidInput: there is no function.
    """
    functions = [s for s in ast.parse(source).body if isinstance(s, ast.FunctionDef)]
    if not functions:
        raise InvalidInput("there is no function in this source to measure")
    reader = _Reader({function.name for function in functions})
    body = [statement for function in functions for statement in function.body]
    tree = sum(reader.read(statement) for statement in body)
    lines = sum((f.body[-1].end_lineno or 0) - f.body[0].lineno + 1 for f in functions)
    return ProgramSize(
        tree, len(reader.operations), reader.executed, lines, len(source.encode("utf-8"))
    )


@dataclass(frozen=True)
class _Value:
    """What an expression stands for: its operations written out, and a number for its kind."""

    tree: int
    key: int


class _Reader:
    """Reads statements in order, and keeps what each name stands for.

    Args:
        own: the names of the program's own functions, whose calls are no operations.

    Attributes:
        operations: the keys of the different operations met.
        executed: how many operations the statements hold.
    """

    def __init__(self, own: set[str]) -> None:
        self.operations: set[int] = set()
        self._own = own
        self.executed = 0
        self._names: dict[str, _Value] = {}
        self._keys: dict[tuple[Any, ...], int] = {}

    def read(self, statement: ast.stmt) -> int:
        """Take in one statement; return the operations written out that it returns."""
        if isinstance(statement, ast.Return) and statement.value is not None:
            return self._value(statement.value).tree
        if isinstance(statement, ast.Assign):
            value = self._value(statement.value)
            for target in statement.targets:
                self._assign(target, value)
        elif isinstance(statement, ast.AugAssign):
            parts = [self._value(statement.target), self._value(statement.value)]
            self._assign(statement.target, self._operation(type(statement.op).__name__, parts))
        elif isinstance(statement, ast.Expr):
            self._value(statement.value)
        return 0

    def _assign(self, target: ast.expr, value: _Value) -> None:
        """Give the value to a name; to a part of an array, beside what is there already."""
        if isinstance(target, ast.Name):
            self._names[target.id] = value
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            if target.value.id == "kept":
                return
            before = self._value(target.value)
            key = self._key("with part", before.key, value.key, ast.unparse(target.slice))
            self._names[target.value.id] = _Value(before.tree + value.tree, key)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self._assign(part, value)

    def _value(self, expression: ast.expr) -> _Value:
        """What an expression stands for; its parts come first, at any depth of nesting."""
        values: dict[int, _Value] = {}
        for node in reversed(list(ast.walk(expression))):
            if isinstance(node, ast.expr):
                parts = [values[id(part)] for part in _parts(node) if id(part) in values]
                values[id(node)] = self._node(node, parts)
        return values[id(expression)]

    def _node(self, node: ast.expr, parts: list[_Value]) -> _Value:
        if isinstance(node, ast.Name):
            return self._names.get(node.id, _Value(0, self._key("name", node.id)))
        if isinstance(node, ast.Constant):
            return _Value(0, self._key("constant", repr(node.value)))
        if _is_kept(node):
            name = ast.literal_eval(node.slice)  # type: ignore[attr-defined]
            return self._names.get(name, _Value(0, self._key("name", name)))
        label = _operation(node)
        if label is not None and label not in self._own:
            return self._operation(label, parts)
        described = getattr(node, "attr", "")
        key = self._key(type(node).__name__, described, *(part.key for part in parts))
        return _Value(sum(part.tree for part in parts), key)

    def _operation(self, label: str, parts: list[_Value]) -> _Value:
        key = self._key("operation", label, *(part.key for part in parts))
        self.operations.add(key)
        self.executed += 1
        return _Value(1 + sum(part.tree for part in parts), key)

    def _key(self, *description: Any) -> int:
        return self._keys.setdefault(description, len(self._keys))


def _is_kept(node: ast.expr) -> bool:
    """Whether it is what another function of the program kept, such as kept['v1']."""
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return False
    return node.value.id == "kept" and isinstance(node.slice, ast.Constant)


def _operation(node: ast.expr) -> str | None:
    """The name of the operation at the root of an expression; None if there is none."""
    if isinstance(node, ast.BinOp):
        return type(node.op).__name__
    if isinstance(node, ast.UnaryOp):
        return None if isinstance(node.operand, ast.Constant) else type(node.op).__name__
    if isinstance(node, ast.Compare):
        return "".join(type(op).__name__ for op in node.ops)
    if isinstance(node, ast.Call):
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
        return None if name in _MOVEMENT else name
    return None


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """The expressions inside one, without the function of a call unless it is a value's method."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.keyword):
            yield part.value
        elif isinstance(node, ast.Call) and part is node.func:
            if isinstance(part, ast.Attribute) and not _is_namespace(part.value):
                yield part.value
        elif isinstance(part, ast.expr):
            yield part


def _is_namespace(node: ast.expr) -> bool:
    return ast.unparse(node).split(".")[0] in _NAMESPACES
