"""Rows that select, add or write entries by integers that are themselves values of the graph.

Labels, word numbers, the rows of a batch, an order: as an index, an integer array decides which
entries are meant and not how many, so it is an operand, and a recording holds for any integers.
(How many entries a mask selects shapes what follows: that is an outcome, and guarded.)
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np

from diffkit.structure import concrete, is_traced
from diffkit.tracing.graph import Missing, Primitive
from diffkit.tracing.primitives import shapes
from diffkit.tracing.primitives.rows import row


class _Operand:
    """Stands in an index for integers that are an operand; they follow in order."""

    def __repr__(self) -> str:
        return "operand"


OPERAND: Final = _Operand()
BY_VALUE: Final = Missing("its integers are fixed by their values there (`fixed_indices`)")


def is_integers(value: Any) -> bool:
    """Whether a value is traced and made of integers."""
    return is_traced(value) and value.dtype.kind in "iu"


def taken_apart(index: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """An index with `OPERAND` in place of traced integers, and these."""
    if type(index) is not tuple:
        return ((OPERAND,), [index]) if is_integers(index) else ((index,), [])
    operands = [part for part in index if is_integers(part)]
    if not operands:
        return index, operands
    return tuple(OPERAND if is_integers(part) else part for part in index), operands


def put_together(index: tuple[Any, ...], integers: Any) -> tuple[Any, ...]:
    """The index with the integers in their places."""
    following = iter(integers)
    return tuple(next(following) if part is OPERAND else part for part in index)


# ---------------------------------------------------------------------- rows


def _gather(a: Any, *integers: Any, index: Any) -> Any:
    return a[put_together(index, integers)]


def _gather_adjoint(k: int, g: Any, y: Any, a: Any, *integers: Any, index: Any) -> Any:
    return scatter(g, *integers, index=index, shape=np.shape(a)) if k == 0 else None


gather: Primitive = row(
    "gather", _gather, _gather_adjoint, sympy=BY_VALUE, exact=BY_VALUE, routes=True
)


def _scatter(values: Any, *integers: Any, index: Any, shape: tuple[int, ...]) -> Any:
    place, values = put_together(index, integers), np.asarray(values)
    positions = None if values.dtype != np.float64 else _positions(place, shape)
    if positions is not None:
        inner = prod(shape[len(place) :])
        whole = positions.shape + shape[len(place) :]
        spread = values if values.shape == whole else np.broadcast_to(values, whole)
        if inner != 1:
            positions = positions[..., None] * inner + np.arange(inner)
        return np.bincount(positions.ravel(), spread.ravel(), prod(shape)).reshape(shape)
    return shapes.add_at.function(values, index=place, shape=shape)


def _positions(place: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    """Where integer arrays along the leading axes point to in C order; None for other indices.

    Counting by position is several times faster than `np.add.at`, and adds in the same order.
    """
    if shapes.is_basic(place) or any(np.asarray(part).dtype.kind not in "iu" for part in place):
        return None
    parts, lengths = [np.asarray(part, np.intp) for part in place], shape[: len(place)]
    try:
        return np.ravel_multi_index(parts, lengths)
    except ValueError:  # some count from the end
        parts = [np.where(p < 0, p + n, p) for p, n in zip(parts, lengths, strict=True)]
        return np.ravel_multi_index(parts, lengths)


def _scatter_adjoint(
    k: int, g: Any, y: Any, values: Any, *integers: Any, index: Any, shape: Any
) -> Any:
    return gather(g, *integers, index=index) if k == 0 else None


scatter: Primitive = row(
    "scatter", _scatter, _scatter_adjoint, sympy=BY_VALUE, exact=BY_VALUE, routes=True
)


def _written(a: Any, value: Any, *integers: Any, index: Any) -> Any:
    return shapes.index_update.function(a, value, index=put_together(index, integers))


def _written_adjoint(k: int, g: Any, y: Any, a: Any, value: Any, *integers: Any, index: Any) -> Any:
    if k == 0:
        return written(g, 0.0, *integers, index=index)
    if k > 1:
        return None
    taken = gather(g, *integers, index=index)
    if not any(map(np.ndim, integers)) and shapes.is_basic(put_together(index, [0] * len(index))):
        return taken
    return taken * left_in_place(*integers, index=index, shape=np.shape(a), dtype=g.dtype)


written: Primitive = row(
    "written", _written, _written_adjoint, sympy=BY_VALUE, exact=BY_VALUE, routes=True
)

left_in_place: Primitive = row(
    "left_in_place",  # 1 for each entry that an assignment leaves, 0 for one overwritten after
    lambda *integers, index, shape, dtype: shapes.last_written(
        np.empty(shape, np.int8), put_together(index, integers)
    ).astype(dtype),
    Missing("it depends on integers alone"),
    sympy=BY_VALUE,
    exact=BY_VALUE,
)

# ---------------------------------------------------------------------- reading and writing


def entries(a: Any, index: Any) -> Any:
    """`a[index]`, where `a` or integers in the index are traced."""
    parts, integers = taken_apart(index)
    if not integers:
        return shapes.index(a, index=index)
    result = gather(a, *integers, index=parts)
    if is_traced(a) and not any(map(np.ndim, integers)):
        result.link_to(a, _ROW, {"index": index})
    return result


class _Row:
    """What a view was taken by, where a number in its index is traced: `table[k]`."""

    def __call__(self, parent: Any, *, index: Any) -> Any:
        return entries(parent, index)

    def function(self, positions: Any, *, index: Any) -> Any:
        """The same of a plain array, for a write through the view: then the number is fixed."""
        from diffkit.tracing.exits import settled

        return positions[settled(index)]


_ROW: Final = _Row()


def updated(a: Any, value: Any, index: Any) -> Any:
    """`a` after `a[index] = value`."""
    parts, integers = taken_apart(index)
    if integers:
        return written(a, value, *integers, index=parts)
    if _is_masked_fill(a, value, index):
        mask = np.reshape(index, index.shape + (1,) * (np.ndim(a) - np.ndim(index)))
        return np.where(mask, _cast(value, a.dtype), a)
    return shapes.index_update(a, value, index=index)


def _is_masked_fill(a: Any, value: Any, index: Any) -> bool:
    """Whether one number is written where a traced mask holds: a choice, however many there are."""
    return (
        is_traced(index)
        and index.dtype.kind == "b"
        and np.ndim(index) > 0
        and index.shape == np.shape(a)[: np.ndim(index)]
        and np.shape(value) == ()
        and a.dtype.kind == "f"
        and bool(concrete(a).flags.c_contiguous)
        and (isinstance(value, (bool, int, float)) or value.dtype.kind in "biuf")
    )


def _cast(value: Any, dtype: Any) -> Any:
    if is_traced(value):
        return value if value.dtype == dtype else shapes.astype(value, dtype=dtype)
    return dtype.type(value)


def added(values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of a shape with values added at an index."""
    parts, integers = taken_apart(index)
    if not integers:
        return shapes.add_at(values, index=index, shape=shape)
    return scatter(values, *integers, index=parts, shape=shape)


def positions(value: Any) -> Any:
    """Indices to select by: traced integers as they are, anything else as a plain array."""
    return value if is_integers(value) else shapes.fixed(value)
