"""Functions that join arrays, part them, or repeat their entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from diffkit.structure import is_traced
from diffkit.tracing.graph import SAME, Primitive, as_operand
from diffkit.tracing.primitives.indexing import padded_movement
from diffkit.tracing.primitives.rows import defines, movement, row
from diffkit.tracing.primitives.shapes import (
    fixed,
    object_array,
    scatter_positions,
    unsupported,
)

# ---------------------------------------------------------------------- joining


def _part_of(i: int, g: Any, y: Any, *arrays: Any, axis: int) -> Any:
    start = sum(np.shape(a)[axis] for a in arrays[:i])
    stop = start + np.shape(arrays[i])[axis]
    return g[(slice(None),) * axis + (slice(start, stop),)]


concatenate: Primitive = row(
    "concatenate",
    lambda *arrays, axis: np.concatenate(arrays, axis=axis),
    _part_of,
    sympy=SAME,
    exact=SAME,
    routes=True,
)

stack: Primitive = row(
    "stack",
    lambda *arrays, axis: np.stack(arrays, axis=axis),
    lambda i, g, y, *arrays, axis: g[(slice(None),) * axis + (i,)],
    sympy=lambda S, *arrays, axis: _stack_objects(arrays, axis),
    exact=lambda A, *arrays, axis: _stack_objects(arrays, axis),
)


def _stack_objects(arrays: Any, axis: int) -> Any:
    """Stack object arrays, and single objects that NumPy must not take for sequences."""
    return np.stack(
        [a if isinstance(a, np.ndarray) else object_array([a], ()) for a in arrays], axis
    )


def _operands(arrays: Any, dtype: Any = None) -> list[Any]:
    operands = [as_operand(a) for a in arrays]
    return operands if dtype is None else [_cast(a, dtype) for a in operands]


def _cast(a: Any, dtype: Any) -> Any:
    return a.astype(dtype) if is_traced(a) else np.asarray(a, dtype)


@defines(np.concatenate)
def _concatenate(
    arrays: Any, /, axis: int | None = 0, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    operands = _operands(arrays, dtype)
    if axis is None:
        operands, axis = [np.ravel(a) for a in operands], 0
    return concatenate(*operands, axis=normalize_axis_index(axis, np.ndim(operands[0])))


@defines(np.stack)
def _stack(arrays: Any, axis: int = 0, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    operands = _operands(arrays, dtype)
    return stack(*operands, axis=normalize_axis_index(axis, np.ndim(operands[0]) + 1))


@defines(np.vstack)
def _vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return np.concatenate([np.atleast_2d(a) for a in _operands(tup, dtype)], 0)


@defines(np.hstack)
def _hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    rows = [np.atleast_1d(a) for a in _operands(tup, dtype)]
    return np.concatenate(rows, 0 if np.ndim(rows[0]) == 1 else 1)


@defines(np.dstack)
def _dstack(tup: Any) -> Any:
    return np.concatenate([np.atleast_3d(a) for a in _operands(tup)], 2)


@defines(np.column_stack)
def _column_stack(tup: Any) -> Any:
    columns = [np.atleast_1d(a) for a in _operands(tup)]
    return np.concatenate([c[:, None] if np.ndim(c) == 1 else c for c in columns], 1)


@defines(np.append)
def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([as_operand(arr), as_operand(values)], axis)


@defines(np.block)
def _block(arrays: Any) -> Any:
    depth, ndim = _block_size(arrays)
    ndim = max(depth, ndim)

    def joined(part: Any, level: int) -> Any:
        if isinstance(part, list):
            return np.concatenate([joined(p, level + 1) for p in part], level - depth)
        part = as_operand(part)
        return np.reshape(part, (1,) * (ndim - np.ndim(part)) + np.shape(part))

    return joined(arrays, 0) if depth else np.copy(joined(arrays, 0))


def _block_size(part: Any) -> tuple[int, int]:
    """How deep the lists nest, and the most axes that an array in them has."""
    if not isinstance(part, list):
        return 0, np.ndim(part)
    sizes = [_block_size(p) for p in part]
    return 1 + max(depth for depth, _ in sizes), max(ndim for _, ndim in sizes)


# ---------------------------------------------------------------------- parting


@defines(np.array_split)
def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    ary = as_operand(ary)
    axis = normalize_axis_index(axis, np.ndim(ary))
    length = np.shape(ary)[axis]
    if np.ndim(indices_or_sections):
        ends = [int(i) for i in indices_or_sections]
    else:
        count = int(indices_or_sections)
        each, more = divmod(length, count)
        ends = [each * (i + 1) + min(i + 1, more) for i in range(count - 1)]
    bounds = zip([0, *ends], [*ends, length], strict=True)
    return [ary[(slice(None),) * axis + (slice(start, stop),)] for start, stop in bounds]


@defines(np.split)
def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    return _array_split(ary, indices_or_sections, axis)


@defines(np.hsplit)
def _hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return _array_split(ary, indices_or_sections, 0 if np.ndim(ary) == 1 else 1)


@defines(np.vsplit)
def _vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return _array_split(ary, indices_or_sections, 0)


@defines(np.dsplit)
def _dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return _array_split(ary, indices_or_sections, 2)


def _unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    x = as_operand(x)
    axis = normalize_axis_index(axis, np.ndim(x))
    return tuple(x[(slice(None),) * axis + (i,)] for i in range(np.shape(x)[axis]))


if hasattr(np, "unstack"):  # new in NumPy 2.1
    defines(np.unstack)(_unstack)

# ---------------------------------------------------------------------- repeating, leaving out

for _mover in (np.repeat, np.tile, np.delete):
    movement(_mover)

movement(
    np.roll,
    lambda g, y, a, *, shift, axis=None: np.roll(
        g, -shift if isinstance(shift, int) else np.negative(shift), axis
    ),
)

padded_movement(np.resize)


def _unpadded(g: Any, y: Any, a: Any, *, pad_width: Any, mode: Any, **options: Any) -> Any:
    """What lies within the margin, where that holds a constant."""
    shape = np.shape(a)
    if mode != "constant" or isinstance(pad_width, dict):
        static = {"pad_width": pad_width, "mode": mode, **options}
        return scatter_positions(g, np.pad, a, static)
    before = np.broadcast_to(pad_width, (len(shape), 2))[:, 0]
    return g[tuple(slice(int(b), int(b) + n) for b, n in zip(before, shape, strict=True))]


pad = padded_movement(np.pad, _unpadded)


@defines(np.insert)
def _insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    arr, values = as_operand(arr), as_operand(values)
    places = obj if isinstance(obj, slice) else fixed(obj)
    old = np.arange(np.size(arr)).reshape(np.shape(arr))
    new = np.size(arr) + np.arange(np.size(values)).reshape(np.shape(values))
    positions = np.insert(old, places, new, axis)
    return np.concatenate([np.ravel(arr), np.ravel(values).astype(arr.dtype)])[positions]


_MOVING_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


@defines(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    if mode not in _MOVING_MODES or options.get("reflect_type", "even") != "even":
        detail = f"{mode!r}, {options}" if options else f"{mode!r}"
        raise unsupported(f"np.pad with mode={detail}", "use one of " + ", ".join(_MOVING_MODES))
    array, constants = as_operand(array), options.pop("constant_values", 0)
    zero_padded = pad(array, pad_width=pad_width, mode=mode, **options)
    if not np.any(fixed(constants)):
        return zero_padded
    inside = np.pad(np.ones(np.shape(array), bool), pad_width)
    made = np.pad(np.zeros(np.shape(array), array.dtype), pad_width, constant_values=constants)
    return np.where(inside, zero_padded, made)


@defines(np.trim_zeros)
def _trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    filt = as_operand(filt)
    if np.ndim(filt) != 1:
        raise unsupported("np.trim_zeros of more than one axis", "slice the array")
    places = np.flatnonzero(fixed(np.not_equal(filt, 0)))
    if not places.size:
        return filt[:0]
    start = int(places[0]) if "f" in trim.lower() else 0
    stop = int(places[-1]) + 1 if "b" in trim.lower() else np.shape(filt)[0]
    return filt[start:stop]
