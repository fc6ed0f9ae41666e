"""The textbook form: one closed expression per entry of a derivative, by `sympy.diff`.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Final

import sympy as sp

from diffkit.errors import ExpressionTooLarge
from diffkit.tracing.shared_expressions import (
    Expression,
    Symbol,
    require_budget,
    tree_operations,
)

SMALL: Final = 64  # operations of a function whose derivative may well be written out
WAY_OUT: Final = "use form='shared', form='array' or backend='tape'"
_BY_PROGRAM: Final = (sp.Piecewise, sp.floor, sp.ceiling, sp.Mod, sp.Abs, sp.sign)
_SIMPLIFIERS: Final = {"together": "together", "factor": "factor", "full": "simplify"}
_CHILD: Final = """
import pickle, sys
path, name, limit, data = pickle.load(sys.stdin.buffer)
sys.path[:] = path
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
except (ImportError, ValueError, OSError):
    pass  # there is no such limit on this system
import sympy
function = getattr(sympy, name)
entries = [function(entry) for entry in pickle.loads(data)]
sys.stdout.buffer.write(pickle.dumps(entries))
"""


def keeps_digits(definitions: Mapping[Symbol, Expression]) -> bool:
    """Whether what is computed by these steps has written-out derivatives as good as itself.

    A polynomial does, if SymPy cannot take its sums apart: it flattens sums of sums, and
    multiplies them out by numbers, 3 (x - c) to 3 x - 3 c, where the difference loses digits
    unless the number is a power of two. The derivatives of others may cancel (1 - tanh(x)²), and
    so may singular points of theirs (sqrt(x)² becomes x).
    """
    sums: set[Symbol] = set()
    inside = False
    for symbol, definition in definitions.items():
        taken = sums & definition.free_symbols
        if not definition.is_polynomial() or (definition.is_Add and taken):
            return False
        inside |= bool(taken) or any(part.has(sp.Add) for part in definition.args)
        if definition.is_Add or (taken and len(definition.free_symbols) == 1):
            sums.add(symbol)
    return not inside or all(map(_scales_exactly, definitions.values()))


def _scales_exactly(definition: Expression) -> bool:
    """Whether its numbers, and those of its derivatives, are powers of two."""
    numbers = definition.atoms(sp.Rational) - {0}
    powers = definition.atoms(sp.Pow)
    return all(abs(n.p * n.q).bit_count() == 1 for n in numbers) and all(
        power.exp == 2 for power in powers
    )


def matrix_of(
    what: str,
    trees: Sequence[Expression],
    inputs: Sequence[Symbol],
    tangents: Sequence[Symbol],
    limit: int,
) -> list[list[Expression]] | None:
    """The rows of `jacobian`, `hessian`, `hvp` or `derivative 3` of trees, by `sympy.diff`.

    None where that would not be an answer: branches need their limits, steps their jumps, and
    of the absolute value of what may be complex (a logarithm) SymPy gives derivatives of its
    parts.

    Raises:
        ExpressionTooLarge: they would have more than `limit` operations.
    """
    if any(tree.has(*_BY_PROGRAM) for tree in trees):
        return None
    rows: list[list[Expression]] = [list(trees)]
    for step, symbols in enumerate(_steps(what, inputs)):
        if what == "hvp" and step == 1:
            rows = [[sp.Add(*map(sp.Mul, rows[0], tangents))]]
        trees = [tree for row in rows for tree in row]
        predicted = sum(_predicted(tree, set(symbols)) for tree in trees)
        require_budget(predicted, limit, "written out, it", WAY_OUT)
        rows = [[sp.diff(tree, symbol) for symbol in symbols] for tree in trees]
    if any(entry.has(sp.Derivative, sp.Subs, sp.re, sp.im) for row in rows for entry in row):
        return None
    return rows


def _steps(what: str, inputs: Sequence[Symbol]) -> Iterator[Sequence[Symbol]]:
    """The symbols to differentiate by, once for each order."""
    if what.startswith("derivative"):
        return repeat(inputs[:1], int(what.split()[1]))
    return repeat(inputs, 1 if what == "jacobian" else 2)


def _predicted(tree: Expression, symbols: set[Symbol]) -> int:
    """About how many operations the derivatives of a tree by the symbols have, at most.

    Each occurrence of a symbol contributes a product about as large as its term.
    """
    return sum(
        sum(1 for part in sp.preorder_traversal(term) if part in symbols)
        * tree_operations(term, {})
        // 4
        for term in sp.Add.make_args(tree)
    )


def eliminated(
    trees: Sequence[Expression],
) -> tuple[dict[Symbol, Expression], list[Expression]]:
    """Common subexpressions of trees as definitions, and the trees in terms of them."""
    names = (sp.Dummy(real=True) for _ in repeat(None))
    definitions, results = sp.cse(trees, symbols=names, order="none")
    return dict(definitions), list(results)


def simplified(
    entries: Sequence[Expression], how: str, seconds: float, limit: int
) -> list[Expression]:
    """The entries brought together, factored or fully simplified by SymPy.

    SymPy's simplification has no budget of its own, so it runs in a process that can be ended,
    and that may not have more than `limit` bytes where the system can see to it.

    Raises:
        ExpressionTooLarge: it takes longer than the seconds allowed, or fails for its size.
    """
    if how == "none" or not any(entry.args for entry in entries):
        return list(entries)
    request = pickle.dumps((sys.path, _SIMPLIFIERS[how], limit, pickle.dumps(list(entries))))
    command = [sys.executable, "-c", _CHILD]
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ExpressionTooLarge(
            f"simplify={how!r} took longer than {seconds} seconds; use a milder one, or raise "
            "Symbolic(max_seconds=...)"
        ) from None
    if b"MemoryError" in done.stderr:
        raise ExpressionTooLarge(
            f"simplify={how!r} took more than {limit} bytes of memory; use a milder one, or raise "
            "Symbolic(max_bytes=...)"
        )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ExpressionTooLarge(f"simplify={how!r} failed in SymPy: {last}; use simplify='none'")
    result: list[Expression] = pickle.loads(done.stdout)
    return result
