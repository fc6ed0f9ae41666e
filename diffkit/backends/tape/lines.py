"""Operations that have a quicker line of source than a call of their row's function."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.backends.tape.plan import Step
from diffkit.backends.tape.reduction_lines import extremum_line, is_contiguous, sum_line
from diffkit.tracing.primitives.shapes import is_basic

if TYPE_CHECKING:
    from diffkit.backends.tape.emit import Emitter

Special = Callable[["Emitter", int, Step], str | None]

MANY_READS: Final = 4  # of single entries, from which a list of all entries is cheaper


def _matmul(emitter: Emitter, position: int, step: Step) -> str | None:
    """A product by the method of arrays, which has half the overhead."""
    a, b = (emitter.value(i) for i in step.inputs)
    if position in emitter.exact or not all(1 <= np.ndim(v) <= 2 for v in (a, b)):
        return None
    if a.dtype != b.dtype or a.dtype not in (np.float64, np.float32):
        return None
    where = emitter.destination(position)
    names = [f"v{i}" for i in step.inputs]
    if where is not None and (
        position not in emitter.places or not is_contiguous(emitter, position)
    ):
        return f"{emitter.name('matmul', np.matmul)}({', '.join([*names, where])})"
    return f"{names[0]}.dot({', '.join(names[1:] + ([] if where is None else [where]))})"


def _sech(emitter: Emitter, position: int, step: Step) -> str | None:
    where = emitter.destination(position)
    if where is None:
        return None
    emitter.lines.append(f"{emitter.name('cosh', np.cosh)}(v{step.inputs[0]}, {where})")
    return f"{emitter.name('divide', np.divide)}({_one(emitter)}, {where}, {where})"


def _one(emitter: Emitter) -> str:
    return emitter.name("one", np.array(1.0))


def _logistic(emitter: Emitter, position: int, step: Step) -> str | None:
    """1 / (1 + exp(-x)): what underflows is below the smallest normal number."""
    where = None if position in emitter.exact else emitter.destination(position)
    if where is None:
        return None
    (a,) = step.inputs
    for ufunc, arguments in (
        (np.negative, f"v{a}"),
        (np.exp, where),
        (np.add, f"{_one(emitter)}, {where}"),
    ):
        emitter.lines.append(f"{emitter.name(ufunc.__name__, ufunc)}({arguments}, {where})")
    return f"{emitter.name('divide', np.divide)}({_one(emitter)}, {where}, {where})"


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
        source, place = f"v{a}", emitter.places.get(a)
        if place is not None and place.dtype == bool:  # NumPy turns bytes into numbers far sooner
            source = emitter.name(f"bytes{a}", place.view(np.int8))
        emitter.lines.append(f"{where}[...] = {source}")
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


def _scatter(emitter: Emitter, position: int, step: Step) -> str | None:
    """What an order has put in its place goes back there: every place is written once."""
    if len(step.inputs) != 2 or len(step.static["index"]) != 1 or np.ndim(step.value) != 1:
        return None
    values, order = step.inputs
    made = emitter.plan.steps[order].primitive
    shapes = {np.shape(emitter.value(i)) for i in (position, values, order)}
    if made is None or made.name != "argsort" or len(shapes) > 1:
        return None
    where = emitter.destination(position)
    if where is None:
        where = f"v{position}"
        dtype = emitter.name(f"t{step.value.dtype}", step.value.dtype)
        empty = emitter.name("empty", np.empty)
        emitter.lines.append(f"{where} = {empty}({step.value.shape}, {dtype})")
    emitter.lines.append(f"{where}[v{order}] = v{values}")
    return where


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
    "sum": sum_line,
    "max": extremum_line(np.maximum, "argmax"),
    "min": extremum_line(np.minimum, "argmin"),
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
    "scatter": _scatter,
    "stack_scalars": _stack_scalars,
    "stack_rows": _stack_rows,
}
