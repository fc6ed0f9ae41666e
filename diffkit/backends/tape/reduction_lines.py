"""Sums and extremes in quicker lines of source than a call of their row's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.backends.tape.plan import Step

if TYPE_CHECKING:
    from diffkit.backends.tape.emit import Emitter

FEW_COLUMNS: Final = 6  # up to which the extreme of a row is found column by column
WORTH_A_SEARCH: Final = 256  # entries
MOST_ADDENDS: Final = 16_384  # beyond which a sum goes by pairs, as NumPy's


def sum_line(emitter: Emitter, position: int, step: Step) -> str | None:
    written = None
    if position not in emitter.exact:
        written = _by_product(emitter, position, step)
    return _reduced(emitter, np.add, position, step) if written is None else written


def extremum_line(ufunc: np.ufunc, where: str) -> Callable[[Emitter, int, Step], str | None]:
    def write(emitter: Emitter, position: int, step: Step) -> str | None:
        written = _by_columns(emitter, ufunc, position, step)
        if written is None:
            written = _by_position(emitter, where, position, step)
        return _reduced(emitter, ufunc, position, step) if written is None else written

    return write


def _reduced(emitter: Emitter, ufunc: np.ufunc, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    if not isinstance(emitter.value(a), np.ndarray):
        return None
    axis, keep = step.static["axis"], step.static["keepdims"]
    if axis is not None and len(axis) == 1:
        (axis,) = axis
    name = emitter.name(f"{ufunc.__name__}_reduce", ufunc.reduce)
    return f"{name}(v{a}, {axis}, None, {emitter.destination(position)}, {keep})"


def _rows(emitter: Emitter, position: int, step: Step) -> tuple[Any, Any] | None:
    """The lanes of a reduction along the last axis as rows of a matrix, and what it gives, flat.

    None unless both always lie at the same place, in order.
    """
    (a,) = step.inputs
    place, last = emitter.places.get(a), np.ndim(emitter.value(a)) - 1
    if last < 1 or step.static["axis"] != (last,) or place is None or not place.flags.c_contiguous:
        return None
    emitter.destination(position)
    total = emitter.places.get(position)
    if total is None or not total.flags.c_contiguous or not place.size:
        return None
    return place.reshape(-1, place.shape[-1]), total.reshape(-1)


def _by_columns(emitter: Emitter, ufunc: np.ufunc, position: int, step: Step) -> str | None:
    """The extreme of short rows, column by column."""
    found = _rows(emitter, position, step)
    if found is None or not 2 <= found[0].shape[1] <= FEW_COLUMNS < found[0].shape[0]:
        return None
    (a,), (rows, flat) = step.inputs, found
    total = emitter.name(f"f{position}", flat)
    called = emitter.name(ufunc.__name__, ufunc)
    columns = [emitter.name(f"v{a}_{k}", rows[:, k]) for k in range(rows.shape[1])]
    first = columns[0]
    for column in columns[1:]:
        emitter.lines.append(f"{called}({first}, {column}, out={total})")
        first = total
    return emitter.destination(position)


def _by_position(emitter: Emitter, method: str, position: int, step: Step) -> str | None:
    """The extreme of longer rows, by where it is: to find that takes a third of the time."""
    found = _rows(emitter, position, step)
    if found is None or found[0].shape[1] <= FEW_COLUMNS or found[0].size < WORTH_A_SEARCH:
        return None
    rows, flat = found
    names = [
        emitter.name(f"{kind}{position}", value)
        for kind, value in (
            ("rows", rows),
            ("all", rows.reshape(-1)),
            ("starts", np.arange(rows.shape[0]) * rows.shape[1]),
            ("at", np.empty(rows.shape[0], np.intp)),
            ("f", flat),
        )
    ]
    table, entries, starts, at, total = names
    emitter.lines.append(f"{table}.{method}(1, {at})")
    emitter.lines.append(f"{emitter.name('add', np.add)}({at}, {starts}, {at})")
    emitter.lines.append(f"{entries}.take({at}, None, {total}, 'clip')")
    return emitter.destination(position)


def _by_product(emitter: Emitter, position: int, step: Step) -> str | None:
    """A sum as a product with ones, which takes a fifth of the time."""
    (a,) = step.inputs
    value = emitter.value(a)
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or not value.size:
        return None
    if not isinstance(step.value, np.ndarray):
        return _total(emitter, a)
    return _sum_of_rows(emitter, position, step) or _sum_of_columns(emitter, position, step)


def _total(emitter: Emitter, a: int) -> str | None:
    place, size = emitter.places.get(a), np.size(emitter.value(a))
    if place is None or not place.flags.c_contiguous or size > MOST_ADDENDS:
        return None
    flat = f"v{a}" if place.ndim == 1 else emitter.name(f"v{a}_", place.reshape(-1))
    return f"{flat}.dot({_ones(emitter, size)})"


def _sum_of_rows(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,), found = step.inputs, _rows(emitter, position, step)
    value = emitter.value(a)
    if value.ndim < 2 or not 2 <= value.shape[-1] <= MOST_ADDENDS:
        return None
    ones = _ones(emitter, value.shape[-1])
    if found is not None:
        rows, total = (
            emitter.name(f"{kind}{position}", part)
            for kind, part in zip(("rows", "f"), found, strict=True)
        )
        emitter.lines.append(f"{rows}.dot({ones}, {total})")
        return emitter.destination(position)
    if value.ndim != 2 or step.static["axis"] != (1,) or step.static["keepdims"]:
        return None
    where = emitter.destination(position)
    if where is not None and not is_contiguous(emitter, position):
        return None
    return f"v{a}.dot({ones}{'' if where is None else f', {where}'})"


def _sum_of_columns(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,), axis = step.inputs, step.static["axis"]
    value = emitter.value(a)
    before = value.ndim - 2
    if axis != (before,) or step.static["keepdims"] or not value.flags.c_contiguous:
        return None
    where = emitter.destination(position)
    if where is not None and not is_contiguous(emitter, position):
        return None
    out = "" if where is None else f", {where}"
    ones = _ones(emitter, value.shape[before])
    if before:
        return f"{emitter.name('matmul', np.matmul)}({ones}, v{a}{out})"
    return f"{ones}.dot(v{a}{out})"


def is_contiguous(emitter: Emitter, position: int) -> bool:
    place = emitter.places.get(position)
    return place is None or bool(place.flags.c_contiguous)


def _ones(emitter: Emitter, size: int) -> str:
    return emitter.name(f"ones{size}", np.ones(size))
