"""Functions that make arrays like a traced one, or ask about its shape and type.

An array made here is a traced constant, so that traced values can be written into it:
`out = np.zeros_like(x); out[i] = ...`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diffkit.structure import concrete, is_traced
from diffkit.tracing.primitives.rows import defines
from diffkit.tracing.primitives.shapes import laid_out
from diffkit.tracing.refusals import refuse


def _made(fill: float, a: Any, dtype: Any, order: Any, shape: Any) -> Any:
    plain = a.stand_in if hasattr(type(a), "stand_in") else np.asarray(concrete(a))
    return a.lift(np.full_like(plain, fill, dtype=dtype, order=order, shape=shape))


def _define_like(function: Any, fill: float, floating: float) -> None:
    """Define a function such as np.zeros_like, that fills arrays of any kind, or of floats."""

    @defines(function)
    def like(
        a: Any,
        dtype: Any = None,
        order: str = "K",
        subok: bool = True,
        shape: Any = None,
        *,
        device: Any = None,
    ) -> Any:
        kind = np.dtype(a.dtype if dtype is None else dtype).kind
        return _made(floating if kind == "f" else fill, a, dtype, order, shape)


_define_like(np.zeros_like, 0, 0)
_define_like(np.ones_like, 1, 1)
# An entry that the function forgets to fill must not pass for a number.
_define_like(np.empty_like, 0, np.nan)


@defines(np.full_like)
def _full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    if not is_traced(a):
        plain = np.asarray(a)
        a = fill_value.lift(plain)
    made = _made(0, a, dtype, order, shape)
    made[...] = fill_value
    return made


@defines(np.copy)
def _copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return a.copy(order) if isinstance(concrete(a), np.ndarray) else laid_out(a, order=order)


if hasattr(np, "astype"):  # new in NumPy 2.1

    @defines(np.astype)
    def _astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
        return x.astype(dtype, copy=copy)


@defines(np.copyto)
def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not is_traced(dst):
        refuse(
            "np.copyto was to write a traced value into an ordinary array; make the array with "
            "np.zeros_like(x)"
        )
    dst[...] = src if where is True else np.where(where, src, dst)


@defines(np.shape)
def _shape(a: Any) -> tuple[int, ...]:
    return a.shape if is_traced(a) else np.shape(a)


@defines(np.ndim)
def _ndim(a: Any) -> int:
    return len(_shape(a))


@defines(np.size)
def _size(a: Any, axis: int | None = None) -> int:
    return math.prod(_shape(a)) if axis is None else _shape(a)[axis]


def _plain(a: Any) -> Any:
    """A stand-in for the value with its shape and type, for questions about these alone."""
    return concrete(a) if is_traced(a) else a


@defines(np.result_type)
def _result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    return np.result_type(*map(_kind_of_number, arrays_and_dtypes))


def _kind_of_number(a: Any) -> Any:
    """A stand-in for an argument of np.result_type; a Python number counts for less than arrays."""
    if not is_traced(a):
        return a
    return a.dtype if a.shape else concrete(a)


@defines(np.can_cast)
def _can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    return np.can_cast(from_.dtype if is_traced(from_) else from_, to, casting)


@defines(np.iscomplexobj)
def _iscomplexobj(x: Any) -> bool:
    return False


@defines(np.isrealobj)
def _isrealobj(x: Any) -> bool:
    return True


@defines(np.iscomplex)
def _iscomplex(x: Any) -> Any:
    return np.zeros(np.shape(_plain(x)), bool)[()]


@defines(np.isreal)
def _isreal(x: Any) -> Any:
    return np.ones(np.shape(_plain(x)), bool)[()]


@defines(np.array_repr, np.array_str, np.array2string)
def _text(a: Any, *arguments: Any, **options: Any) -> str:
    return repr(a)


@defines(np.may_share_memory, np.shares_memory)
def _share_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    return np.may_share_memory(_plain(a), _plain(b))


@defines(np.diag_indices_from)
def _diag_indices_from(arr: Any) -> Any:
    return np.diag_indices_from(np.empty(np.shape(arr)))


@defines(np.tril_indices_from)
def _tril_indices_from(arr: Any, k: int = 0) -> Any:
    return np.tril_indices_from(np.empty(np.shape(arr)), k)


@defines(np.triu_indices_from)
def _triu_indices_from(arr: Any, k: int = 0) -> Any:
    return np.triu_indices_from(np.empty(np.shape(arr)), k)


@defines(np.einsum_path)
def _einsum_path(*operands: Any, **options: Any) -> Any:
    return np.einsum_path(*(_plain(operand) for operand in operands), **options)
