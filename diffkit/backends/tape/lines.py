"""Operations that have a quicker line of source than a call of their row's function."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.backends.tape.plan import Step
from diffkit.tracing.primitives.shapes import is_basic

if TYPE_CHECKING:
    from diffkit.backends.tape.emit import Emitter

Special = Callable[["Emitter", int, Step], str | None]

FEW_COLUMNS: Final = 6  # up to which a row is reduced column by column
MOST_ADDENDS: Final = 16_384  # beyond which a sum goes by pairs, as NumPy's
MANY_READS: Final = 4  # of single entries, from which a list of all entries is cheaper


def _reduction(ufunc: np.ufunc) -> Special:
    def write(emitter: Emitter, position: int, step: Step) -> str | None:
        (a,) = step.inputs
        if not isinstance(emitter.value(a), np.ndarray):
            return None
        axis, keep = step.static["axis"], step.static["keepdims"]
        quick = _by_product if ufunc is np.add else None
        if position not in emitter.exact:
            written = _by_columns(emitter, ufunc, position, step)
            if written is None and quick is not None:
                written = quick(emitter, position, step)
            if written is not None:
                return written
        if axis is not None and len(axis) == 1:
            (axis,) = axis
        name = emitter.name(f"{ufunc.__name__}_reduce", ufunc.reduce)
        return f"{name}(v{a}, {axis}, None, {emitter.destination(position)}, {keep})"

    return write


def _by_columns(emitter: Emitter, ufunc: np.ufunc, position: int, step: Step) -> str | None:
    """The reduction of short rows, column by column: the same numbers in the same order."""
    (a,) = step.inputs
    shape, place = np.shape(emitter.value(a)), emitter.places.get(a)
    fits = len(shape) == 2 and 2 <= shape[1] <= FEW_COLUMNS < shape[0]
    if place is None or not fits or step.static["axis"] != (1,):
        return None
    written = emitter.destination(position)
    if position not in emitter.places:
        return None
    total = emitter.name(f"{written}_", emitter.places[position].reshape(-1))
    called = emitter.name(ufunc.__name__, ufunc)
    columns = [emitter.name(f"v{a}_{k}", place[:, k]) for k in range(shape[1])]
    first = columns[0]
    for column in columns[1:]:
        emitter.lines.append(f"{called}({first}, {column}, out={total})")
        first = total
    return str(written)


def _by_product(emitter: Emitter, position: int, step: Step) -> str | None:
    """A sum as a product with ones, which takes a fifth of the time."""
    (a,) = step.inputs
    value, axis = emitter.value(a), step.static["axis"]
    if value.dtype != np.float64 or not value.flags.c_contiguous or not value.size:
        return None
    place = emitter.places.get(a)
    if not isinstance(step.value, np.ndarray):
        if place is None or not place.flags.c_contiguous or value.size > MOST_ADDENDS:
            return None
        flat = f"v{a}" if place.ndim == 1 else emitter.name(f"v{a}_", place.reshape(-1))
        return f"{flat}.dot({_ones(emitter, value.size)})"
    if value.ndim != 2 or axis != (0,) or step.static["keepdims"]:
        return None
    where = emitter.destination(position)
    out = "" if where is None or not _contiguous(emitter, position) else f", {where}"
    if where is not None and not out:
        return None
    return f"{_ones(emitter, value.shape[0])}.dot(v{a}{out})"


def _contiguous(emitter: Emitter, position: int) -> bool:
    place = emitter.places.get(position)
    return place is None or bool(place.flags.c_contiguous)


def _ones(emitter: Emitter, size: int) -> str:
    return emitter.name(f"ones{size}", np.ones(size))


def _matmul(emitter: Emitter, position: int, step: Step) -> str | None:
    """A product by the method of arrays, which has half the overhead."""
    a, b = (emitter.value(i) for i in step.inputs)
    if position in emitter.exact or not all(1 <= np.ndim(v) <= 2 for v in (a, b)):
        return None
    if a.dtype != b.dtype or a.dtype not in (np.float64, np.float32):
        return None
    where = emitter.destination(position)
    names = [f"v{i}" for i in step.inputs]
    if where is not None and (position not in emitter.places or not _contiguous(emitter, position)):
        return f"{emitter.name('matmul', np.matmul)}({', '.join([*names, where])})"
    return f"{names[0]}.dot({', '.join(names[1:] + ([] if where is None else [where]))})"


def _sech(emitter: Emitter, position: int, step: Step) -> str | None:
    where = emitter.destination(position)
    if where is None:
        return None
    emitter.lines.append(f"{emitter.name('cosh', np.cosh)}(v{step.inputs[0]}, {where})")
    return f"{emitter.name('divide', np.divide)}(1.0, {where}, {where})"


def _reshape(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    if not isinstance(emitter.value(a), np.ndarray) or step.static.get("order", "C") != "C":
        return None
    return f"v{a}.reshape({np.shape(step.value)})"


def _transpose(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    if not isinstance(emitter.value(a), np.ndarray):
        return None
    axes = step.static.get("axes")
    turned = axes is None or tuple(axes) == tuple(range(np.ndim(step.value)))[::-1]
    return f"v{a}.T" if turned else f"v{a}.transpose({tuple(axes)})"


def _index(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    index = step.static["index"]
    if not isinstance(emitter.value(a), np.ndarray):
        return f"{emitter.as_numpy(a)}[{emitter.shown(f'k{position}', index)}]"
    numbers = _entry(index)
    if numbers is None or not emitter.doubles or np.ndim(emitter.value(a)) != len(numbers):
        return f"v{a}[{emitter.shown(f'k{position}', index)}]"
    if type(step.value) is not np.float64 or not numbers:
        return f"v{a}[{emitter.shown(f'k{position}', index)}]"
    if emitter.reads(a) < MANY_READS or emitter.reads(a) * 8 < np.size(emitter.value(a)):
        return f"v{a}.item{numbers}" if len(numbers) > 1 else f"v{a}.item({numbers[0]})"
    return emitter.listed(a) + "".join(f"[{i}]" for i in numbers)


def _entry(index: Any) -> tuple[int, ...] | None:
    """The place of a single entry; None for an index that selects several."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(i, bool) or not isinstance(i, (int, np.integer)) for i in parts):
        return None
    return tuple(operator.index(i) for i in parts)


def entry_place(index: Any, shape: tuple[int, ...]) -> int | None:
    """The place of a single entry in an array laid out flat."""
    numbers = _entry(index)
    if numbers is None or len(numbers) != len(shape):
        return None
    wrapped = [i + n if i < 0 else i for i, n in zip(numbers, shape, strict=True)]
    return int(np.ravel_multi_index(wrapped, shape)) if shape else None


def _astype(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    if not isinstance(emitter.value(a), np.ndarray):
        return None
    where = emitter.destination(position)
    if where is not None:
        emitter.lines.append(f"{where}[...] = v{a}")
        return where
    return f"v{a}.astype({emitter.shown(f'k{position}', step.static['dtype'])})"


def _any(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    value = emitter.value(a)
    if not isinstance(value, np.ndarray) or value.dtype != bool or np.ndim(step.value):
        return None
    return f"{emitter.name('count_nonzero', np.count_nonzero)}(v{a}) > 0"


def _where(emitter: Emitter, position: int, step: Step) -> str | None:
    called = emitter.name("where", np.where)
    result = f"{called}({', '.join(f'v{i}' for i in step.inputs)})"
    return result if isinstance(step.value, np.ndarray) else f"{result}[()]"


def _add_at(emitter: Emitter, position: int, step: Step) -> str | None:
    """Zeros with some entries set."""
    (member,), index = step.inputs, step.static["index"]
    if not is_basic(index) or not isinstance(step.value, np.ndarray):
        return None
    emitter.make_host(position)
    if emitter.lives.homes.get(member, (None,))[0] != position:
        place = emitter.shown(f"i{position}", index)
        emitter.lines.append(f"{_made(emitter, position)}[{place}] = v{member}")
    return _made(emitter, position)


def _made(emitter: Emitter, position: int) -> str:
    """The name of an array that has been allocated to be written part by part."""
    if position not in emitter.places:
        return f"v{position}"
    return emitter.name(f"w{position}", emitter.places[position])


def _stack_scalars(emitter: Emitter, position: int, step: Step) -> str | None:
    if step.value.dtype != np.float64:
        return None
    entries = f"({', '.join(f'v{i}' for i in step.inputs)},)"
    where = emitter.destination(position)
    if where is None:
        return f"{emitter.name('array', np.array)}({entries}, float).reshape({step.value.shape})"
    if position not in emitter.places or not emitter.places[position].flags.c_contiguous:
        return None
    flat = emitter.name(f"w{position}", emitter.places[position].reshape(-1))
    emitter.lines.append(f"{flat}[:] = {entries}")
    return where


def _stack_rows(emitter: Emitter, position: int, step: Step) -> str | None:
    """An array of which most parts were written where they belong when they were computed."""
    emitter.make_host(position)
    made = _made(emitter, position)
    if not isinstance(emitter.value(step.inputs[0]), np.ndarray):
        emitter.lines.append(f"{made}[:] = ({', '.join(f'v{i}' for i in step.inputs)},)")
        return made
    for row, member in enumerate(step.inputs):
        if emitter.lives.homes.get(member) != (position, row):
            emitter.lines.append(f"{made}[{row}] = v{member}")
    return made


SPECIAL: Final[dict[str, Special]] = {
    "any": _any,
    "sum": _reduction(np.add),
    "max": _reduction(np.maximum),
    "min": _reduction(np.minimum),
    "matmul": _matmul,
    "sech": _sech,
    "reshape": _reshape,
    "transpose": _transpose,
    "index": _index,
    "astype": _astype,
    "where": _where,
    "add_at": _add_at,
    "stack_scalars": _stack_scalars,
    "stack_rows": _stack_rows,
}
