"""Source of a product of two arrays by their indices, as a product of matrices where it is one."""

from __future__ import annotations

from collections.abc import Mapping


def product_source(
    a: str, left: str, b: str, right: str, target: str, lengths: Mapping[str, str]
) -> str:
    """Return NumPy source for A *_(left, right, target) B.

    Args:
        a: source of A, which is evaluated once; its indices are `left`.
        b: source of B, with the indices `right`.
        target: the indices of the value.
        lengths: source of the length of each index.
    """
    a, left = _without_lone(a, left, right + target)
    b, right = _without_lone(b, right, left + target)
    summed = "".join(x for x in left if x in right and x not in target)
    if not summed:
        return f"{_aligned(a, left, target)} * {_aligned(b, right, target)}"
    stack = "".join(x for x in target if x in left and x in right)
    rows = "".join(x for x in target if x in left and x not in right)
    columns = "".join(x for x in target if x in right and x not in left)
    if target != stack + rows + columns and target == stack + columns + rows:
        a, left, rows, b, right, columns = b, right, columns, a, left, rows
    first = _grouped(a, left, stack, (rows, summed), lengths)
    second = _grouped(b, right, stack, (summed, columns), lengths)
    result = f"matmul({first}, {second})"
    if len(rows) != 1 or len(columns) != 1:
        flat = not stack and (not rows or len(rows) == 1) and (not columns or len(columns) == 1)
        if not flat:
            result = f"{result}.reshape({_tuple(stack + rows + columns, lengths)})"
    return _turned(result, stack + rows + columns, target)


def _without_lone(a: str, letters: str, others: str) -> tuple[str, str]:
    """Sum over the indices that occur nowhere else."""
    lone = tuple(i for i, letter in enumerate(letters) if letter not in others)
    if not lone:
        return a, letters
    kept = "".join(letter for letter in letters if letter in others)
    return f"add_reduce({a}, {lone})", kept


def _grouped(
    a: str, letters: str, stack: str, groups: tuple[str, str], lengths: Mapping[str, str]
) -> str:
    """`a` as a stack of matrices whose rows and columns are groups of indices."""
    order = stack + groups[0] + groups[1]
    a = _turned(a, letters, order)
    if all(len(group) == 1 for group in groups):
        return a
    if not stack and "" in groups and all(len(group) <= 1 for group in groups):
        return a
    sizes = [lengths[x] for x in stack]
    sizes += ["*".join(lengths[x] for x in group) or "1" for group in groups if stack or group]
    return f"{a}.reshape({', '.join(sizes)})"


def _turned(a: str, letters: str, order: str) -> str:
    if letters == order:
        return a
    if len(order) == 2:
        return f"{_parenthesised(a)}.T"
    return f"{_parenthesised(a)}.transpose({', '.join(str(letters.index(x)) for x in order)})"


def _aligned(a: str, letters: str, target: str) -> str:
    """`a` with the axes of the target, of length 1 where it lacks an index."""
    a = _turned(a, letters, "".join(x for x in target if x in letters))
    if len(letters) == len(target):
        return a
    index = ", ".join(":" if x in letters else "None" for x in target)
    return f"{_parenthesised(a)}[{index}]"


def _parenthesised(a: str) -> str:
    return a if a.isidentifier() or a.endswith(")") else f"({a})"


def _tuple(letters: str, lengths: Mapping[str, str]) -> str:
    return ", ".join(lengths[x] for x in letters) or "()"
