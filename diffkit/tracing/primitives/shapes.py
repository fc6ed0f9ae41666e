"""Rows that move, join and select entries: indexing, reshaping, casting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from diffkit.errors import UnsupportedOperation
from diffkit.structure import concrete
from diffkit.tracing.graph import SAME, Missing, Primitive, as_operand
from diffkit.tracing.locations import user_location
from diffkit.tracing.primitives.rows import defines, row


def unsupported(operation: str, way_out: str) -> UnsupportedOperation:
    """The refusal of a use of NumPy, with the user's line and what to do instead."""
    return UnsupportedOperation(f"{operation} cannot be followed; {way_out} [{user_location()}]")


def fixed(value: Any) -> Any:
    """A plain array, with a guard on it where it was traced.

    Raises:
        TracingError: a derivative flows through the value.
    """
    from diffkit.tracing.exits import settle

    return np.asarray(settle(as_operand(value)))


# ---------------------------------------------------------------------- indexing


def _add_at(values: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, np.asarray(values).dtype)
    if is_basic(index):
        out[index] = values
    else:
        np.add.at(out, index, values)
    return out


def _add_objects_at(zero: Any, values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    out = np.full(shape, zero, object)
    np.add.at(out, index, values)
    return out


def is_basic(index: Any) -> bool:
    """Whether an index selects each entry at most once, by integers and slices alone."""
    if type(index) is int or isinstance(index, slice):
        return True
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None
        or part is Ellipsis
        or isinstance(part, slice)
        or (isinstance(part, (int, np.integer)) and not isinstance(part, bool))
        for part in parts
    )


def _add_into(total: Any, g: Any, *, index: Any) -> None:
    if is_basic(index):
        total[index] += g
    else:
        np.add.at(total, index, g)


index: Primitive = row(
    "index",
    lambda a, *, index: a[index],
    (lambda g, y, a, *, index: add_at(g, index=index, shape=np.shape(a)),),
    sympy=SAME,
    exact=SAME,
    movement=True,
    adds=_add_into,
)

add_at: Primitive = row(
    "add_at",
    _add_at,
    (lambda g, y, values, *, index, shape: g[index],),
    sympy=lambda S, values, *, index, shape: _add_objects_at(S.Integer(0), values, index, shape),
    exact=lambda A, values, *, index, shape: _add_objects_at(A.constant(0), values, index, shape),
    routes=True,
)


def _index_update(a: Any, value: Any, *, index: Any) -> Any:
    out = np.array(a, order="K")
    # Of objects, NumPy would store an array without dimensions as such, not what it holds.
    out[index] = value[()] if isinstance(value, np.ndarray) else value
    return out


def last_written(a: Any, index: Any) -> Any:
    """1 for each entry of a[index] that an assignment leaves in place, 0 for one overwritten."""
    order = np.arange(np.empty(np.shape(a), np.int8)[index].size)
    order = order.reshape(np.empty(np.shape(a), np.int8)[index].shape)
    winner = np.zeros(np.shape(a), np.intp)
    winner[index] = order
    return winner[index] == order


def _assigned_adjoint(g: Any, index: Any) -> Any:
    taken = g[index]
    return taken if is_basic(index) else taken * last_written(g, index)


index_update: Primitive = row(
    "index_update",
    _index_update,
    (
        lambda g, y, a, value, *, index: index_update(g, 0.0, index=index),
        lambda g, y, a, value, *, index: _assigned_adjoint(g, index),
    ),
    sympy=lambda S, a, value, *, index: _index_update(a, value, index=index),
    exact=lambda A, a, value, *, index: _index_update(a, value, index=index),
    routes=True,
)

stack_scalars: Primitive = row(
    "stack_scalars",
    lambda *entries, shape: np.array(entries).reshape(shape),
    lambda i, g, y, *entries, shape: np.reshape(g, (-1,))[i],
    sympy=lambda S, *entries, shape: object_array(entries, shape),
    exact=lambda A, *entries, shape: object_array(entries, shape),
    routes=True,
)


def object_array(entries: Any, shape: tuple[int, ...]) -> Any:
    """An object array of the entries, none of which NumPy may take for a sequence."""
    out = np.empty(len(entries), object)
    for i, entry in enumerate(entries):
        out[i] = entry[()] if isinstance(entry, np.ndarray) else entry
    return out.reshape(shape)


def scatter_positions(g: Any, moved: Any, array: Any, static: Any) -> Any:
    """Add each entry of `g` where `moved` took it from; entries that it made up are dropped."""
    shape = np.shape(array)
    size = int(np.prod(shape))
    positions = moved(np.arange(1, size + 1).reshape(shape), **static)
    sums = add_at(np.reshape(g, (-1,)), index=(np.ravel(positions),), shape=(size + 1,))
    return np.reshape(sums[1:], shape)


# ---------------------------------------------------------------------- casting


def _cast(a: Any, dtype: Any) -> Any:
    return a.astype(dtype) if isinstance(a, np.ndarray) else np.asarray(a).astype(dtype)[()]


astype: Primitive = row(
    "astype",
    lambda a, *, dtype: _cast(a, dtype),
    (lambda g, y, a, *, dtype: astype(g, dtype=a.dtype),),
    sympy=lambda S, a, *, dtype: a,
    exact=lambda A, a, *, dtype: a,
)

to_integer: Primitive = row(
    "to_integer",
    lambda a, *, dtype: _cast(a, dtype),
    Missing("piecewise constant: its derivative is zero"),
    sympy=Missing("a cast to integers has no symbolic counterpart"),
    exact=lambda A, a, *, dtype: np.frompyfunc(A.trunc, 1, 1)(a),
)

# ---------------------------------------------------------------------- reshaping

reshape: Primitive = row(
    "reshape",
    lambda a, *, shape, order="C": np.reshape(a, shape, order=order),
    (lambda g, y, a, *, shape, order="C": reshape(g, shape=np.shape(a), order=order),),
    sympy=SAME,
    exact=SAME,
    movement=True,
)


@defines(np.reshape)
def _reshape(
    a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None
) -> Any:
    return _reshaped(a, newshape if shape is None else shape, order)


def _reshaped(a: Any, shape: Any, order: str) -> Any:
    a = as_operand(a)
    if order in ("A", "K"):
        if np.ndim(a) > 1:
            raise unsupported(
                f"order={order!r}, which depends on the layout in memory,", "use 'C' or 'F'"
            )
        order = "C"
    return reshape(a, shape=shape, order=order)


@defines(np.ravel)
def _ravel(a: Any, order: str = "C") -> Any:
    """As NumPy: a view of an array that is contiguous, a copy of any other."""
    a = as_operand(a)
    flat = _reshaped(a, (-1,), order)
    if order == "C" and _is_in_order(a):
        return flat
    plain = concrete(a)
    if np.may_share_memory(np.ravel(plain, order), plain):  # type: ignore[call-overload]
        return flat
    return np.copy(flat)


def copied(a: Any, *, order: Any) -> Any:
    """A copy of a traced array, which for the graph is the same value unless laid out anew."""
    if order != "F" and _is_in_order(a):
        return a.twin()
    plain = np.asarray(concrete(a))
    copy = plain.copy(order)
    same = copy.flags.c_contiguous == plain.flags.c_contiguous
    same = same and copy.flags.f_contiguous == plain.flags.f_contiguous
    return a.twin() if same else laid_out(a, order=order)


def _is_in_order(a: Any) -> bool:
    """Whether it is known, without a look at the value, that an array lies in C order."""
    return bool(getattr(type(a), "is_in_order", False)) and a.is_in_order


laid_out: Primitive = row(
    "laid_out",
    lambda a, *, order: np.array(a, order=order),
    (lambda g, y, a, *, order: g,),
    sympy=SAME,
    exact=SAME,
    routes=True,
)


def unboxed(a: Any) -> Any:
    """A 0-d array as the scalar that NumPy's reductions return; any other array as it is."""
    return a[()] if np.ndim(a) == 0 else a


def skeleton(a: Any) -> Any:
    """An array of the same shape that takes no memory, to ask NumPy about shapes."""
    return np.broadcast_to(np.int8(0), np.shape(a))


@defines(np.expand_dims)
def _expand_dims(a: Any, axis: Any) -> Any:
    a = as_operand(a)
    return reshape(a, shape=np.expand_dims(skeleton(a), axis).shape)


@defines(np.squeeze)
def _squeeze(a: Any, axis: Any = None) -> Any:
    a = as_operand(a)
    return reshape(a, shape=np.squeeze(skeleton(a), axis).shape)


@defines(np.atleast_1d)
def _atleast_1d(*arrays: Any) -> Any:
    return _at_least(1, arrays)


@defines(np.atleast_2d)
def _atleast_2d(*arrays: Any) -> Any:
    return _at_least(2, arrays)


@defines(np.atleast_3d)
def _atleast_3d(*arrays: Any) -> Any:
    return _at_least(3, arrays)


def _at_least(ndim: int, arrays: Any) -> Any:
    """Each array with at least `ndim` axes, placed where np.atleast_1d (2d, 3d) has them."""
    grow = (np.atleast_1d, np.atleast_2d, np.atleast_3d)[ndim - 1]
    operands = [as_operand(a) for a in arrays]
    grown = tuple(
        a if np.ndim(a) >= ndim else reshape(a, shape=np.shape(grow(skeleton(a)))) for a in operands
    )
    return grown[0] if len(grown) == 1 else grown


transpose: Primitive = row(
    "transpose",
    lambda a, *, axes=None: np.transpose(a, axes),
    (
        lambda g, y, a, *, axes=None: transpose(
            g, axes=None if axes is None else tuple(int(i) for i in np.argsort(axes))
        ),
    ),
    sympy=SAME,
    exact=SAME,
    movement=True,
)


@defines(np.transpose)
def _transpose(a: Any, axes: Any = None) -> Any:
    a = as_operand(a)
    if axes is None:
        return transpose(a)
    return transpose(a, axes=normalize_axis_tuple(tuple(axes), np.ndim(a)))


def _axes_named(a: Any) -> Any:
    """An array whose shape is (0, 1, 2, ...): what moves its axes tells where each went."""
    return np.empty(range(np.ndim(a)))


@defines(np.swapaxes)
def _swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    a = as_operand(a)
    return transpose(a, axes=np.swapaxes(_axes_named(a), axis1, axis2).shape)


@defines(np.moveaxis)
def _moveaxis(a: Any, source: Any, destination: Any) -> Any:
    a = as_operand(a)
    return transpose(a, axes=np.moveaxis(_axes_named(a), source, destination).shape)


@defines(np.rollaxis)
def _rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    a = as_operand(a)
    return transpose(a, axes=np.rollaxis(_axes_named(a), axis, start).shape)


@defines(np.matrix_transpose, np.linalg.matrix_transpose)
def _matrix_transpose(x: Any, /) -> Any:
    return _swapaxes(x, -1, -2)


@defines(np.flip)
def _flip(m: Any, axis: Any = None) -> Any:
    m = as_operand(m)
    ndim = np.ndim(m)
    flipped = normalize_axis_tuple(range(ndim) if axis is None else axis, ndim)
    return m[tuple(slice(None, None, -1 if i in flipped else None) for i in range(ndim))]


@defines(np.flipud)
def _flipud(m: Any) -> Any:
    return _flip(m, 0)


@defines(np.fliplr)
def _fliplr(m: Any) -> Any:
    return _flip(m, 1)


@defines(np.rot90)
def _rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    m = as_operand(m)
    turns = k % 4
    if turns == 0:
        return m[...]
    if turns == 2:
        return _flip(m, tuple(axes))
    if turns == 1:
        return _swapaxes(_flip(m, axes[1]), *axes)
    return _flip(_swapaxes(m, *axes), axes[1])


broadcast_to: Primitive = row(
    "broadcast_to",
    lambda a, *, shape: np.broadcast_to(a, shape),
    (lambda g, y, a, *, shape: g,),
    sympy=SAME,
    exact=SAME,
    movement=True,
)


@defines(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    return broadcast_to(array, shape=shape)


@defines(np.broadcast_arrays)
def _broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    arrays = [as_operand(a) for a in args]
    shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
    return tuple(a if np.shape(a) == shape else np.broadcast_to(a, shape) for a in arrays)


@defines(np.meshgrid)
def _meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Any, ...]:
    count = len(xi)
    places = list(range(count))
    if indexing == "xy" and count > 1:
        places[:2] = [1, 0]
    grids = tuple(
        np.reshape(as_operand(x), tuple(-1 if k == place else 1 for k in range(count)))
        for x, place in zip(xi, places, strict=True)
    )
    if not sparse:
        grids = np.broadcast_arrays(*grids)
    return tuple(np.copy(grid) for grid in grids) if copy else grids
