"""Functions that select entries of an array, or write into some."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.lib.stride_tricks import sliding_window_view

from diffkit.structure import is_traced
from diffkit.tracing.graph import Primitive, as_operand
from diffkit.tracing.primitives.rows import defines, defines_method, movement, row
from diffkit.tracing.primitives.shapes import (
    add_at,
    fixed,
    object_array,
    scatter_positions,
    unsupported,
)

# ---------------------------------------------------------------------- movements with zeros


def padded_movement(function: Callable[..., Any]) -> Primitive:
    """A row for a function that moves the entries of its argument and makes up zeros."""
    signature = inspect.signature(function)
    first = next(iter(signature.parameters))

    def moved(a: Any, **static: Any) -> Any:
        return function(a, **static)

    def objects(zero: Any, a: Any, static: Any) -> Any:
        positions = function(np.arange(1, np.size(a) + 1).reshape(np.shape(a)), **static)
        return object_array([zero, *np.ravel(a)], (-1,))[positions]

    primitive = row(
        function.__name__,
        moved,
        (lambda g, y, a, **static: scatter_positions(g, moved, a, static),),
        sympy=lambda S, a, **static: objects(S.Integer(0), a, static),
        exact=lambda A, a, **static: objects(A.constant(0), a, static),
        movement=True,
    )

    @defines(function)
    def bound(*arguments: Any, **keywords: Any) -> Any:
        named = dict(signature.bind(*arguments, **keywords).arguments)
        return primitive(named.pop(first), **named)

    return primitive


for _maker_of_zeros in (np.diag, np.diagflat, np.tril, np.triu):
    padded_movement(_maker_of_zeros)
diagonal = movement(np.diagonal)
movement(sliding_window_view)


@defines(np.linalg.diagonal)
def _linalg_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    return diagonal(x, offset=offset, axis1=-2, axis2=-1)


# ---------------------------------------------------------------------- by indices


@defines(np.take)
def _take(a: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Any:
    a, chosen = as_operand(a), fixed(indices)
    if axis is None:
        a, axis = np.ravel(a), 0
    axis = normalize_axis_index(axis, np.ndim(a))
    chosen = _in_bounds(chosen, np.shape(a)[axis], mode)
    return a[(slice(None),) * axis + (chosen,)]


def _in_bounds(indices: Any, length: int, mode: str) -> Any:
    if mode == "wrap":
        return indices % length
    return np.clip(indices, 0, length - 1) if mode == "clip" else indices.astype(np.intp)


def _along_axis(arr: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """The index that `np.take_along_axis` reads and `np.put_along_axis` writes."""
    axis = normalize_axis_index(axis, np.ndim(arr))
    grid = list(np.ogrid[tuple(slice(n) for n in np.shape(arr))])
    grid[axis] = fixed(indices)
    return tuple(grid)


@defines(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    arr = as_operand(arr)
    if axis is None:
        arr, axis = np.ravel(arr), 0
    return arr[_along_axis(arr, indices, axis)]


@defines(np.choose)
def _choose(a: Any, choices: Any, mode: str = "raise") -> Any:
    operands = [as_operand(choice) for choice in choices]
    chosen, *spread = np.broadcast_arrays(fixed(a), *operands)
    chosen = _in_bounds(np.asarray(chosen), len(operands), mode)
    return np.stack(spread)[(chosen, *np.indices(chosen.shape, sparse=True))]


@defines(np.compress)
def _compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    return np.take(as_operand(a), np.flatnonzero(as_operand(condition)), axis=axis)


@defines(np.extract)
def _extract(condition: Any, arr: Any) -> Any:
    return np.ravel(as_operand(arr))[np.flatnonzero(as_operand(condition))]


@defines(np.unravel_index)
def _unravel_index(indices: Any, shape: Any, order: Any = "C") -> tuple[Any, ...]:
    return np.unravel_index(fixed(indices), shape, order)


@defines(np.ravel_multi_index)
def _ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: Any = "C") -> Any:
    return np.ravel_multi_index(tuple(fixed(i) for i in multi_index), dims, mode, order)


@defines(np.ix_)
def _ix(*args: Any) -> tuple[Any, ...]:
    return np.ix_(*(fixed(a) for a in args))


@defines(np.isin)
def _isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: Any = None,
) -> Any:
    pairs = np.equal(np.expand_dims(element, -1), np.ravel(as_operand(test_elements)))
    found = np.any(pairs, axis=-1)
    return np.logical_not(found) if invert else found


@defines(np.bincount)
def _bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    counts = np.bincount(fixed(x), minlength=minlength)
    if weights is None:
        return counts
    summands = as_operand(weights).astype(np.float64)
    return add_at(summands, index=(fixed(x),), shape=counts.shape)


# ---------------------------------------------------------------------- writing


def _require_traced(a: Any, name: str) -> None:
    if not is_traced(a):
        raise unsupported(
            f"np.{name} of a traced value into an ordinary array", "make it with np.zeros_like(x)"
        )


@defines(np.put_along_axis)
def _put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    _require_traced(arr, "put_along_axis")
    if axis is None:
        _put(arr, indices, values)
    else:
        arr[_along_axis(arr, indices, axis)] = values


@defines(np.put)
def _put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    _require_traced(a, "put")
    flat = _in_bounds(np.ravel(fixed(ind)), np.size(a), mode)
    if mode == "raise":
        flat = np.arange(np.size(a))[flat]
    if len(flat):
        a[np.unravel_index(flat, np.shape(a))] = np.resize(as_operand(v), flat.shape)


@defines(np.place)
def _place(arr: Any, mask: Any, vals: Any) -> None:
    _put(arr, np.flatnonzero(as_operand(mask)), vals)


@defines(np.putmask)
def _putmask(a: Any, mask: Any, values: Any) -> None:
    _require_traced(a, "putmask")
    a[...] = np.where(mask, np.resize(as_operand(values), np.shape(a)), a)


@defines(np.fill_diagonal)
def _fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    marked = np.zeros(np.shape(a), bool)
    np.fill_diagonal(marked, True, wrap)
    _put(a, np.flatnonzero(marked), val)


@defines_method(np.add, "at")
def _add_at(a: Any, indices: Any, b: Any) -> None:
    _require_traced(a, "add.at")
    a[...] = a + _summands(a, indices, b)


@defines_method(np.subtract, "at")
def _subtract_at(a: Any, indices: Any, b: Any) -> None:
    _require_traced(a, "subtract.at")
    a[...] = a - _summands(a, indices, b)


def _summands(a: Any, indices: Any, b: Any) -> Any:
    selected = add_at(as_operand(b), index=indices, shape=np.shape(a))
    return selected.astype(a.dtype)
