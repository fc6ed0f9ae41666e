"""SymPy expressions of a derivative as people read them: written out, in the user's structure.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sympy as sp

from diffkit.structure import Layout
from diffkit.tracing.shared_expressions import Expression, Symbol, require_budget, tree_operations

LONGEST_FOLD: Final = 4  # branches; joining n of them may make 2^n
_BY_PROGRAM: Final = (sp.Piecewise, sp.floor, sp.ceiling, sp.Mod, sp.Abs, sp.sign)


def derivative_trees(
    trees: Sequence[Expression], inputs: Sequence[Symbol], limit: int
) -> list[Expression] | None:
    """The derivatives of trees by each input, as `sympy.diff` writes them.

    None where that would not be an answer: branches need their limits, steps their jumps, and
    of the absolute value of what may be complex (a logarithm) SymPy gives derivatives of its
    parts.

    Raises:
        ExpressionTooLarge: they would have more than `limit` operations.
    """
    if any(tree.has(*_BY_PROGRAM) for tree in trees):
        return None
    for tree in trees:
        _require_derivative_budget(tree, inputs, limit)
    derivatives = [sp.diff(tree, symbol) for tree in trees for symbol in inputs]
    if any(entry.has(sp.Derivative, sp.Subs, sp.re, sp.im) for entry in derivatives):
        return None
    return derivatives


def _require_derivative_budget(tree: Expression, inputs: Sequence[Symbol], limit: int) -> None:
    """Each occurrence of an input contributes a product about as large as the tree, at most."""
    varying = set(inputs)
    occurrences = sum(1 for part in sp.preorder_traversal(tree) if part in varying)
    predicted = occurrences * tree_operations(tree, {}) // 4
    require_budget(predicted, limit, "written out, it")


def folded(expression: Expression) -> Expression:
    """The branches of a short expression joined: one `Piecewise` of sums, not a sum of them."""
    if len(expression.atoms(sp.Piecewise)) > LONGEST_FOLD:
        return expression
    return sp.piecewise_fold(expression)


def arranged(entries: Sequence[Expression], rows: Layout, columns: Layout | None = None) -> Any:
    """Entries in the structure of `rows`, each in the structure of `columns` if it is given.

    A scalar row stands for its columns alone, as a gradient does.
    """
    if columns is None:
        return rows.unflatten(_cut(entries, [leaf.shape for leaf in rows.leaves]))
    members, width, top = [], columns.size, 0
    for row in rows.leaves:
        band = entries[top * width : (top + row.size) * width]
        top += row.size
        blocks, left = [], 0
        for column in columns.leaves:
            block = [
                band[i * width + left + j] for i in range(row.size) for j in range(column.size)
            ]
            left += column.size
            blocks.append(_array(block, row.shape + column.shape))
        members.append(columns.unflatten(blocks))
    return rows.unflatten(members)


def _cut(entries: Sequence[Expression], shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    arrays, start = [], 0
    for shape in shapes:
        size = 1
        for length in shape:
            size *= length
        arrays.append(_array(entries[start : start + size], shape))
        start += size
    return arrays


def _array(entries: Sequence[Expression], shape: tuple[int, ...]) -> Any:
    return sp.ImmutableDenseNDimArray(list(entries), shape) if shape else entries[0]


def latex(structure: Any) -> str:
    """The LaTeX source of expressions; those of a nested structure one per line, by name."""
    members = list(_named(structure, ""))
    if len(members) == 1 and not members[0][0]:
        return str(sp.latex(structure))
    lines = [rf"\text{{{_text(name)}}} &: {sp.latex(value)}" for name, value in members]
    return "\n".join([r"\begin{aligned}", " \\\\\n".join(lines), r"\end{aligned}"])


def _named(structure: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(structure, (dict, list, tuple)):
        items = structure.items() if isinstance(structure, dict) else enumerate(structure)
        for key, member in items:
            yield from _named(member, f"{name}.{key}" if name else str(key))
    else:
        yield name, structure


def _text(name: str) -> str:
    """A name as LaTeX text."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "_#$%&{}" else c) for c in name)
