"""SymPy expressions of a derivative as people read them: written out, in the user's structure.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sympy as sp

from diffkit.structure import Layout
from diffkit.tracing.shared_expressions import Expression

LONGEST_FOLD: Final = 4  # branches; joining n of them may make 2^n


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
