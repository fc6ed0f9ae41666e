"""Scalar programs as straight-line Python over the math module, for one point in double precision.

A call of a NumPy function on one number costs ten times that of `math`. Where NumPy has an infinity
or a NaN, `math` has an error, and the entry declines. Python's products overflow without one, so
every value whose square overflows makes the entry decline as well.

This module imports SymPy; import it inside functions.
"""

# SymPy looks printing methods up by the names of its classes.
# ruff: noqa: N802

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np

from diffkit.backends.symbolic.code import NumPyCode, impulse, number_in
from diffkit.backends.symbolic.digits import allowance
from diffkit.backends.symbolic.entry import Results
from diffkit.backends.symbolic.special import Special
from diffkit.structure import Leaf
from diffkit.tracing.generated import Lines
from diffkit.tracing.shared_expressions import Expression, Symbol

_MATH: Final = {
    "numpy.arccos": "acos",
    "numpy.arccosh": "acosh",
    "numpy.arcsin": "asin",
    "numpy.arcsinh": "asinh",
    "numpy.arctan": "atan",
    "numpy.arctan2": "atan2",
    "numpy.arctanh": "atanh",
    "numpy.ceil": "ceil",
    "numpy.cos": "cos",
    "numpy.cosh": "cosh",
    "numpy.exp": "exp",
    "numpy.floor": "floor",
    "numpy.sin": "sin",
    "numpy.sinh": "sinh",
    "numpy.sqrt": "sqrt",
    "numpy.tan": "tan",
    "numpy.tanh": "tanh",
}


def _maximum(a: float, b: float) -> float:
    return a if a >= b or a != a else b


def _minimum(a: float, b: float) -> float:
    return a if a <= b or a != a else b


def _sign(a: float) -> float:
    return 0.0 if a == 0 else math.copysign(1, a)


def _heaviside(a: float, middle: float) -> float:
    return middle if a == 0 else float(a > 0)


NAMES: Final[dict[str, Any]] = {
    **{name: getattr(math, name) for name in _MATH.values()},
    **{name: getattr(math, name) for name in ("expm1", "hypot", "log", "log1p", "pow", "nan")},
    "maximum": _maximum,
    "minimum": _minimum,
    "sign": _sign,
    "heaviside": _heaviside,
    "impulse": impulse,
    "special": Special(),
    "numpy": np,
    "float64": np.float64,
    "array": np.array,
}


class MathCode(NumPyCode):
    """SymPy's printer for Python's own numbers."""

    def _module_format(self, fqn: str, register: bool = True) -> str:
        return _MATH.get(fqn) or str(super()._module_format(fqn, register))

    def _bound(self, number: Expression) -> str:
        self.numbers.setdefault(number)
        return f"k{list(self.numbers).index(number)}"

    def _print_Pow(self, expr: Expression, rational: bool = False) -> str:
        if expr.is_number:
            return self._bound(expr)
        base, exponent = expr.args
        if not exponent.is_Integer:
            printed = str(super()._print_Pow(expr, rational=rational))
            printed = printed.replace("numpy.hypot", "hypot")
            if "**" not in printed:
                return printed
            return f"pow({self._print(base)}, {self._print(exponent)})"
        printed, n = f"({self._print(base)})", abs(int(exponent))
        if base.is_Symbol and n == 2:
            power = f"{self._print(base)}*{self._print(base)}"
        else:
            power = f"{printed}**{n}" if n > 1 else printed  # has an error where it overflows
        return f"(1/({power}))" if exponent < 0 else f"({power})"

    def _print_log(self, expr: Expression) -> str:
        return str(super()._print_log(expr)).replace("numpy.log", "log", 1)

    def _print_Add(self, expr: Expression, order: Any = None) -> str:
        return str(super()._print_Add(expr, order=order)).replace("numpy.expm1", "expm1", 1)

    def _print_sech(self, expr: Expression) -> str:
        return f"(1/cosh({self._print(expr.args[0])}))"

    def _print_Abs(self, expr: Expression) -> str:
        return f"abs({self._print(expr.args[0])})"

    def _print_sign(self, expr: Expression) -> str:
        return f"sign({self._print(expr.args[0])})"

    def _print_Heaviside(self, expr: Expression) -> str:
        return f"heaviside({self._print(expr.args[0])}, 0.5)"

    def _print_Piecewise(self, expr: Expression) -> str:
        code = "nan"
        for value, condition in reversed(expr.args):
            chosen = self._print(value)
            if condition != True:  # noqa: E712
                chosen = f"({chosen} if {self._print(condition)} else {code})"
            code = chosen
        return code

    def _print_ITE(self, expr: Expression) -> str:
        condition, chosen, other = map(self._print, expr.args)
        return f"({chosen} if {condition} else {other})"

    def _print_Relational(self, expr: Expression) -> str:
        return f"({self._print(expr.lhs)} {expr.rel_op} {self._print(expr.rhs)})"

    def _print_Max(self, expr: Expression) -> str:
        return self._nested("maximum", expr)

    def _print_Min(self, expr: Expression) -> str:
        return self._nested("minimum", expr)

    def _print_And(self, expr: Expression) -> str:
        return f"({' and '.join(map(self._print, expr.args))})"

    def _print_Or(self, expr: Expression) -> str:
        return f"({' or '.join(map(self._print, expr.args))})"

    def _print_Not(self, expr: Expression) -> str:
        return f"(not {self._print(expr.args[0])})"


@dataclass
class ScalarBody:
    """A scalar program as the body of an entry.

    Attributes:
        definitions: what the results share.
        inputs: the symbols of the entries of `x`.
        leaves: the leaves of `x`.
        places: for each bound symbol, its node and position.
        results: the leaves of the derivative, each with an expression for every entry.
        outputs: entries of the value, which must be finite.
        ties: sides of pairs that must differ.
        errors: entries of the derivative with how far rounding may have taken them.
        watched: the symbols among `definitions` whose squares must be finite.
    """

    definitions: Mapping[Symbol, Expression]
    inputs: Sequence[Symbol]
    leaves: Sequence[Leaf]
    places: Mapping[Symbol, tuple[int, int]]
    results: Sequence[tuple[Leaf, Sequence[Expression]]]
    outputs: Sequence[Expression]
    ties: Sequence[Expression]
    errors: Sequence[tuple[Expression, Expression]]
    watched: set[Symbol]
    number: str = "float"
    names: dict[str, Any] = field(default_factory=lambda: dict(NAMES))

    @property
    def bound(self) -> list[int]:
        """The nodes whose values are read."""
        return list(dict.fromkeys(node for node, _ in self.places.values()))

    def write(self, lines: Lines, x: Sequence[str], bound: Sequence[str]) -> Results:
        """Add the lines that compute."""
        names = self._take_inputs(lines, x)
        inputs = list(names.values())
        names |= self._take_bound(lines, bound)
        names |= {symbol: f"v{i}" for i, symbol in enumerate(self.definitions)}
        printer = MathCode(names)
        for symbol, definition in self.definitions.items():
            lines.add(f"{names[symbol]} = {printer.code(definition)}")
        sides = [printer.code(side) for side in self.ties]
        for left, right in zip(sides[::2], sides[1::2], strict=True):
            lines.require(f"{left} != {right}")
        self._require_digits(lines, printer)
        numbers = [
            *inputs,
            *(names[symbol] for symbol in self.definitions if symbol in self.watched),
        ]
        if numbers:
            lines.require(f"isfinite({' + '.join(f'{n}*{n}' for n in numbers)})")
        watched = [(printer.code(output), False) for output in self.outputs]
        derivative = []
        for i, (leaf, entries) in enumerate(self.results):
            lines.add(f"g{i} = {self._leaf(leaf, [printer.code(entry) for entry in entries])}")
            derivative.append(f"g{i}")
            watched.append((f"g{i}", bool(leaf.shape)))
        lines.names |= {
            f"k{i}": number_in(n, np.dtype(np.float64)) for i, n in enumerate(printer.numbers)
        }
        return Results(None, derivative, watched)

    def _require_digits(self, lines: Lines, printer: MathCode) -> None:
        """A line that fails where rounding may have taken too many digits of an entry."""
        unsure = [(printer.code(v), printer.code(e)) for v, e in self.errors if e != 0]
        if not unsure:
            return
        kept, floor = allowance(np.dtype(np.float64))
        tests = [f"{error} <= {kept!r}*abs({value})" for value, error in unsure]
        if len(self.errors) > 1:
            sizes = ", ".join(f"abs({printer.code(value)})" for value, _ in self.errors)
            lines.add(f"largest = {floor!r}*max({sizes})")
            tests = [
                f"({test} or {error} <= largest)"
                for test, (_, error) in zip(tests, unsure, strict=True)
            ]
        lines.require(" and ".join(tests))

    def _take_inputs(self, lines: Lines, x: Sequence[str]) -> dict[Symbol, str]:
        names: dict[Symbol, str] = {}
        symbols = iter(self.inputs)
        for name, leaf in zip(x, self.leaves, strict=True):
            parts = [f"{name}_{j}" for j in range(leaf.size)] if leaf.shape else [name]
            if leaf.shape and parts:
                lines.add(f"({', '.join(parts)}, ) = {name}.ravel().tolist()")
            names.update(zip(islice(symbols, leaf.size), parts, strict=True))
        return names

    def _take_bound(self, lines: Lines, bound: Sequence[str]) -> dict[Symbol, str]:
        listed: dict[int, str] = {}
        names: dict[Symbol, str] = {}
        for i, (node, source) in enumerate(zip(self.bound, bound, strict=True)):
            listed[node] = f"l{i}"
            if source in lines.names:  # it is the same at each call
                lines.names[f"l{i}"] = np.ravel(lines.names[source]).astype(float).tolist()
            else:
                lines.add(f"l{i} = numpy.ravel({source}).astype(float64).tolist()")
        for i, (symbol, (node, place)) in enumerate(self.places.items()):
            names[symbol] = f"b{i}"
            kept = lines.names.get(listed[node])
            if kept is not None:
                lines.names[f"b{i}"] = kept[place]
            else:
                lines.add(f"b{i} = {listed[node]}[{place}]")
        return names

    @staticmethod
    def _leaf(leaf: Leaf, entries: Sequence[str]) -> str:
        if not leaf.shape:
            return f"float64({entries[0]})" if leaf.scalar else f"array({entries[0]}, float64)"
        flat = f"array(({''.join(f'{e}, ' for e in entries)}), float64)"
        return flat if len(leaf.shape) == 1 else f"{flat}.reshape({leaf.shape})"
