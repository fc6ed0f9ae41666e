"""Functions that select entries of an array, or write into some."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.lib.stride_tricks import sliding_window_view

from diffkit.structure import concrete, is_traced
from diffkit.tracing.graph import Missing, Primitive, Rule, as_operand
from diffkit.tracing.primitives.gathering import entries, is_integers, positions
from diffkit.tracing.primitives.rows import defines, movement, row
from diffkit.tracing.primitives.shapes import (
    add_at,
    fixed,
    object_array,
    scatter_positions,
    unsupported,
)

# ---------------------------------------------------------------------- movements with zeros


def padded_movement(function: Callable[..., Any], pullback: Rule | None = None) -> Primitive:
    """A row for a function that moves the entries of its argument and makes up zeros.

    Its pullback, unless a faster one is given, follows the positions of the entries.
    """
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
        (pullback or (lambda g, y, a, **static: scatter_positions(g, moved, a, static)),),
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

FEW_PLACES: Final = 32  # of a window; many more are scattered at once


def _windows_added(
    g: Any, y: Any, a: Any, *, window_shape: Any, axis: Any = None, **rest: Any
) -> Any:
    """Every window's adjoint where the window was: one slice for each place within it."""
    shape = np.shape(a)
    lengths = np.shape(g)[len(shape) :]
    axes = range(len(shape)) if axis is None else np.atleast_1d(axis)
    moved = [normalize_axis_index(int(k), len(shape)) for k in axes]
    if math.prod(lengths) > FEW_PLACES or len(set(moved)) < len(moved):
        static = {"window_shape": window_shape, "axis": axis}
        return scatter_positions(g, sliding_window_view, a, static)
    total: Any = None
    for offsets in np.ndindex(*lengths):
        place = [slice(None)] * len(shape)
        for k, offset, length in zip(moved, offsets, lengths, strict=True):
            place[k] = slice(offset, offset + shape[k] - length + 1)
        part = add_at(g[(..., *offsets)], index=tuple(place), shape=shape)
        total = part if total is None else total + part
    return total


movement(sliding_window_view, _windows_added)


@defines(np.linalg.diagonal)
def _linalg_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    return diagonal(x, offset=offset, axis1=-2, axis2=-1)


# ---------------------------------------------------------------------- by indices


@defines(np.take)
def _take(a: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Any:
    a, chosen = as_operand(a), positions(indices)
    if axis is None:
        a, axis = np.ravel(a), 0
    axis = normalize_axis_index(axis, np.ndim(a))
    chosen = _in_bounds(chosen, np.shape(a)[axis], mode)
    return entries(a, (slice(None),) * axis + (chosen,))


def _in_bounds(indices: Any, length: int, mode: str) -> Any:
    if mode == "wrap":
        return indices % length
    if mode == "clip":
        return np.clip(indices, 0, length - 1)
    return indices if is_integers(indices) else indices.astype(np.intp)


def _along_axis(arr: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """The index that `np.take_along_axis` reads and `np.put_along_axis` writes."""
    axis = normalize_axis_index(axis, np.ndim(arr))
    grid = list(np.ogrid[tuple(slice(n) for n in np.shape(arr))])
    grid[axis] = positions(indices)
    return tuple(grid)


@defines(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    arr = as_operand(arr)
    if axis is None:
        arr, axis = np.ravel(arr), 0
    return entries(arr, _along_axis(arr, indices, axis))


@defines(np.choose)
def _choose(a: Any, choices: Any, mode: str = "raise") -> Any:
    operands = [as_operand(choice) for choice in choices]
    chosen, *spread = np.broadcast_arrays(positions(a), *operands)
    chosen = _in_bounds(chosen, len(operands), mode)
    if np.any(np.less(chosen, 0)):
        raise ValueError("invalid entry in choice array")
    return entries(np.stack(spread), (chosen, *np.indices(chosen.shape, sparse=True)))


@defines(np.compress)
def _compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    return np.take(as_operand(a), np.flatnonzero(as_operand(condition)), axis=axis)


@defines(np.extract)
def _extract(condition: Any, arr: Any) -> Any:
    return np.ravel(as_operand(arr))[np.flatnonzero(as_operand(condition))]


coordinate = row(
    "coordinate",
    lambda i, *, k, shape, order: np.unravel_index(i, shape, order)[k],
    Missing("it takes integers to integers"),
    sympy=Missing("an index enters an expression as a fixed number"),
    exact=lambda A, i, *, k, shape, order: A.remainder(
        A.floor_divide(i, A.constant(_stride(shape, order)[k])), A.constant(np.atleast_1d(shape)[k])
    ),
    elementwise=True,
)


def _stride(shape: Any, order: str) -> list[int]:
    lengths = [int(n) for n in np.atleast_1d(shape)]
    if order == "C":
        return [math.prod(lengths[k + 1 :]) for k in range(len(lengths))]
    return [math.prod(lengths[:k]) for k in range(len(lengths))]


@defines(np.unravel_index)
def _unravel_index(indices: Any, shape: Any, order: Any = "C") -> tuple[Any, ...]:
    if not is_integers(indices):
        return np.unravel_index(fixed(indices), shape, order)
    return tuple(coordinate(indices, k=k, shape=shape, order=order) for k in range(np.size(shape)))


@defines(np.ravel_multi_index)
def _ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: Any = "C") -> Any:
    return np.ravel_multi_index(tuple(fixed(i) for i in multi_index), dims, mode, order)


@defines(np.ix_)
def _ix(*args: Any) -> tuple[Any, ...]:
    shape = [1] * len(args)
    return tuple(
        np.reshape(a, (*shape[:k], -1, *shape[k + 1 :])) if is_integers(a) else b
        for k, (a, b) in enumerate(zip(args, np.ix_(*map(_plain, args)), strict=True))
    )


def _plain(a: Any) -> Any:
    """A sequence for NumPy to look at, with a guard on what is traced and no integers."""
    return concrete(a) if is_integers(a) else fixed(a)


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
