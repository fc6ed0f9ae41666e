"""Operations that have a quicker line of source than a call of their row's function."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.backends.tape.plan import Step
from diffkit.tracing.primitives.shapes import is_basic

if TYPE_CHECKING:
    from diffkit.backends.tape.emit import Emitter

Special = Callable[["Emitter", int, Step], str | None]

FEW_COLUMNS: Final = 6  # up to which the extreme of a row is found column by column
WORTH_A_SEARCH: Final = 256  # entries
MOST_ADDENDS: Final = 16_384  # beyond which a sum goes by pairs, as NumPy's
MANY_READS: Final = 4  # of single entries, from which a list of all entries is cheaper


def _sum(emitter: Emitter, position: int, step: Step) -> str | None:
    written = None
    if position not in emitter.exact:
        written = _by_product(emitter, position, step)
    return _reduced(emitter, np.add, position, step) if written is None else written


def _extremum(ufunc: np.ufunc, where: str) -> Special:
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
    if where is not None and not _contiguous(emitter, position):
        return None
    return f"v{a}.dot({ones}{'' if where is None else f', {where}'})"


def _sum_of_columns(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,), axis = step.inputs, step.static["axis"]
    value = emitter.value(a)
    before = value.ndim - 2
    if axis != (before,) or step.static["keepdims"] or not value.flags.c_contiguous:
        return None
    where = emitter.destination(position)
    if where is not None and not _contiguous(emitter, position):
        return None
    out = "" if where is None else f", {where}"
    ones = _ones(emitter, value.shape[before])
    if before:
        return f"{emitter.name('matmul', np.matmul)}({ones}, v{a}{out})"
    return f"{ones}.dot(v{a}{out})"


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


def _logistic(emitter: Emitter, position: int, step: Step) -> str | None:
    """1 / (1 + exp(-x)): what underflows is below the smallest normal number."""
    where = None if position in emitter.exact else emitter.destination(position)
    if where is None:
        return None
    (a,) = step.inputs
    for ufunc, arguments in (
        (np.negative, f"v{a}"),
        (np.exp, where),
        (np.add, f"1.0, {where}"),
    ):
        emitter.lines.append(f"{emitter.name(ufunc.__name__, ufunc)}({arguments}, {where})")
    return f"{emitter.name('divide', np.divide)}(1.0, {where}, {where})"


def _roll(emitter: Emitter, position: int, step: Step) -> str | None:
    """What is rolled along one axis, in two parts."""
    (a,), shift, axis = step.inputs, step.static["shift"], step.static.get("axis")
    if type(shift) is not int or type(axis) is not int or not np.size(step.value):
        return None
    where = emitter.destination(position)
    if where is None or position not in emitter.places:
        return None
    shift %= step.value.shape[axis]
    lead = (slice(None),) * (axis % step.value.ndim)
    source, rolled = emitter.places.get(a), emitter.places[position]
    for k, (to, start) in enumerate(
        ((slice(shift, None), slice(None, -shift or None)), (slice(shift), slice(-shift, None)))
        if shift
        else ((slice(None), slice(None)),)
    ):
        part = emitter.name(f"to{position}_{k}", rolled[(*lead, to)])
        index = (*lead, start)
        if source is None:
            taken = f"v{a}[{emitter.shown(f'k{position}_{k}', index)}]"
        else:
            taken = emitter.name(f"from{position}_{k}", source[index])
        emitter.lines.append(f"{part}[...] = {taken}")
    return where


def _sliding_windows(emitter: Emitter, position: int, step: Step) -> str | None:
    """The view made at once, where the array lies in order; NumPy's function takes far longer."""
    (a,) = step.inputs
    value = emitter.value(a)
    if not isinstance(value, np.ndarray) or not value.flags.c_contiguous or not value.size:
        return None
    assert step.primitive is not None
    view = step.primitive.function(value, **step.static)
    layout = (
        f"{view.shape}, {emitter.name(f't{value.dtype}', value.dtype)}, v{a}, 0, {view.strides}"
    )
    quick = f"{emitter.name('ndarray', np.ndarray)}({layout})"
    slow = emitter.name(f"p{position}", partial(step.primitive.function, **step.static))
    return f"{quick} if v{a}.flags.c_contiguous else {slow}(v{a})"


def _more_than(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,), count = step.inputs, step.static["count"]
    return f"{emitter.name('count_nonzero', np.count_nonzero)}(v{a}) > {count}"


def _reshape(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,), shape = step.inputs, np.shape(step.value)
    if isinstance(emitter.value(a), np.ndarray):
        return f"v{a}.reshape({shape})" if step.static.get("order", "C") == "C" else None
    if step.value.dtype != np.float64:
        return None
    return f"{emitter.name('array', np.array)}(v{a}, float).reshape({shape})"


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
    "sum": _sum,
    "max": _extremum(np.maximum, "argmax"),
    "min": _extremum(np.minimum, "argmin"),
    "matmul": _matmul,
    "sech": _sech,
    "logistic": _logistic,
    "roll": _roll,
    "more_than": _more_than,
    "sliding_window_view": _sliding_windows,
    "reshape": _reshape,
    "transpose": _transpose,
    "index": _index,
    "astype": _astype,
    "where": _where,
    "add_at": _add_at,
    "stack_scalars": _stack_scalars,
    "stack_rows": _stack_rows,
}
