"""Sorting and searching: an order is an outcome, not differentiated.

What a function takes from an order (the indices of `np.argsort`) is inactive and guarded, so
that sorting itself is a selection of entries.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from diffkit.structure import is_traced
from diffkit.tracing.graph import Missing, Primitive, as_operand
from diffkit.tracing.primitives.rows import defines, row
from diffkit.tracing.primitives.shapes import fixed, object_array, unsupported

_OUTCOME: Final = Missing("an order is piecewise constant: its derivative is zero")
_INDICES: Final = Missing("it gives indices, which enter an expression as fixed numbers")


def _outcome(name: str, function: Callable[..., Any]) -> Primitive:
    """A row whose value is integers that depend on the order of its arguments alone.

    So it may be computed from the ranks of arbitrary-precision numbers in their place.
    """

    def exact(A: Any, *arguments: Any, **static: Any) -> Any:
        integers = np.asarray(function(*_ranks(A, arguments), **static))
        return object_array([A.constant(int(i)) for i in integers.flat], integers.shape)

    return row(name, function, _OUTCOME, sympy=_INDICES, exact=exact)


def _ranks(A: Any, arrays: Any) -> list[Any]:
    """The place of each number among all of them, equal numbers sharing one."""
    entries = [A.constant(e) if isinstance(e, bool) else e for a in arrays for e in np.ravel(a)]

    def compare(i: int, j: int) -> int:
        return -1 if A.less(entries[i], entries[j]) else int(A.less(entries[j], entries[i]))

    order = sorted(range(len(entries)), key=functools.cmp_to_key(compare))
    ranks = np.zeros(len(entries))
    for before, after in itertools.pairwise(order):
        ranks[after] = ranks[before] + (compare(before, after) != 0)
    parts = np.split(ranks, np.cumsum([np.size(a) for a in arrays])[:-1])
    return [part.reshape(np.shape(a)) for part, a in zip(parts, arrays, strict=True)]


argsort = _outcome("argsort", lambda a, **options: np.argsort(a, **options))
argpartition = _outcome("argpartition", lambda a, **options: np.argpartition(a, **options))
lexsort = _outcome("lexsort", lambda *keys, axis: np.lexsort(keys, axis=axis))
searchsorted = _outcome("searchsorted", lambda a, v, **options: np.searchsorted(a, v, **options))
digitize = _outcome("digitize", lambda x, bins, *, right: np.digitize(x, bins, right=right))

# ---------------------------------------------------------------------- sorting


@defines(np.argsort)
def _argsort(
    a: Any, axis: int | None = -1, kind: Any = None, order: None = None, *, stable: Any = None
) -> Any:
    return argsort(a, axis=axis, kind=kind, stable=stable)


@defines(np.sort)
def _sort(
    a: Any, axis: int | None = -1, kind: Any = None, order: None = None, *, stable: Any = None
) -> Any:
    return np.take_along_axis(as_operand(a), argsort(a, axis=axis, kind="stable"), axis)


@defines(np.argpartition)
def _argpartition(
    a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: None = None
) -> Any:
    return argpartition(a, kth=kth, axis=axis, kind=kind)


@defines(np.partition)
def _partition(
    a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: None = None
) -> Any:
    chosen = argpartition(a, kth=kth, axis=axis, kind=kind)
    return np.take_along_axis(as_operand(a), chosen, axis)


@defines(np.lexsort)
def _lexsort(keys: Any, axis: int = -1) -> Any:
    return lexsort(*keys, axis=axis)


# ---------------------------------------------------------------------- searching


@defines(np.searchsorted)
def _searchsorted(a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Any:
    return searchsorted(a, v, side=side, sorter=sorter)


@defines(np.digitize)
def _digitize(x: Any, bins: Any, right: bool = False) -> Any:
    return digitize(x, bins, right=right)


def _part_of_unique(part: str) -> Primitive:
    def positions(a: Any, **options: Any) -> Any:
        unique: Any = np.unique
        return unique(a, **{f"return_{part}": True}, **options)[1]

    return _outcome(f"unique_{part}", positions)


_UNIQUE_PARTS: Final = {part: _part_of_unique(part) for part in ("index", "inverse", "counts")}


@defines(np.unique)
def _unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    **options: Any,
) -> Any:
    ar = as_operand(ar)
    options = {"axis": axis, "equal_nan": equal_nan, **options}
    first = fixed(_UNIQUE_PARTS["index"](ar, **options))  # its length depends on the values
    entries = np.ravel(ar) if axis is None else ar
    chosen = np.take(entries, first, axis=axis or 0)
    if np.shape(chosen) != np.shape(entries) and is_traced(ar) and ar.node.active:
        raise unsupported(
            "np.unique of entries that depend on x and of which some are equal",
            "the number of entries of the result jumps there: differentiate at another point",
        )
    wanted = {"index": return_index, "inverse": return_inverse, "counts": return_counts}
    if not any(wanted.values()):
        return chosen
    return (
        chosen,
        *(_UNIQUE_PARTS[part](ar, **options) for part, asked in wanted.items() if asked),
    )


@defines(np.array_equiv)
def _array_equiv(a1: Any, a2: Any) -> bool:
    a1, a2 = as_operand(a1), as_operand(a2)
    try:
        np.broadcast_shapes(np.shape(a1), np.shape(a2))
    except ValueError:
        return False
    return bool(np.all(np.equal(a1, a2)))
