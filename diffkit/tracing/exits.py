"""The ways in which a value leaves the graph: each carries no derivative, or is refused."""

from __future__ import annotations

import operator
import sys
from typing import Any, Final, NoReturn

import numpy as np

from diffkit.structure import is_traced, map_leaves
from diffkit.tracing.graph import pack, watch
from diffkit.tracing.locations import is_internal, user_location
from diffkit.tracing.primitives import shapes as rows
from diffkit.tracing.refusals import refuse

_TO_FLOAT: Final = (
    "float() or a function of the math module takes a traced value out of the graph; use the "
    "NumPy function instead (np.sin for math.sin), and to fill an array, make it with "
    "np.zeros_like(x) or np.stack; np.asarray(x, float) needs no dtype: np.asarray(x)"
)
_LISTED: Final = (
    "np.mean, np.var or np.std of a list or object array of traced values takes them out of the "
    "graph; join them first, with np.stack: np.mean(np.stack([a, b]))"
)


def _in_a_numpy_mean() -> bool:
    """Whether the code that asks for a float is the loop of NumPy's mean, var or std."""
    code = sys._getframe(2).f_code
    return is_internal(code.co_filename) and code.co_name in ("_mean", "_var", "_std")


_UNCHANGING: Final = (bool, int, float, str, np.dtype)


def settle(value: Any) -> Any:
    """Take a value out of the graph as a plain one, with a guard on it at every level.

    Raises:
        TracingError: a derivative flows through the value.
    """
    if not is_traced(value):
        return value
    plain, kept = value, False
    while is_traced(plain):
        kept = kept or plain.recorder.kept
        if plain.is_active:
            refuse(
                "a traced value would leave the graph here, which would lose its derivative; "
                "use NumPy functions on it instead (np.sin, not math.sin), or a data argument"
            )
        plain = plain.value
    if kept:
        watch(value, user_location())
    return plain


def settled(static: Any) -> Any:
    """A static argument with every traced value in it settled, and arrays copied."""
    kind = type(static)
    if static is None or kind in _UNCHANGING:
        return static
    if kind is tuple and all(type(member) is int for member in static):
        return static
    if is_traced(static):
        return settle(static)
    if isinstance(static, (tuple, list, dict)):
        return map_leaves(settled, static)
    if isinstance(static, slice):
        return slice(*map(_bound, (static.start, static.stop, static.step)))
    if isinstance(static, np.ndarray):
        return settle(pack(static)) if static.dtype == object else static.copy()
    return static


def _bound(value: Any) -> Any:
    """A bound of a slice, which NumPy takes from an array without axes too."""
    value = settled(value)
    return operator.index(value) if isinstance(value, np.ndarray) else value


class Exits:
    """Gives a traced array the conversions by which Python takes numbers out of one."""

    __slots__ = ()

    def __bool__(self: Any) -> bool:
        truth = self if self.dtype.kind == "b" else np.not_equal(self, 0)
        return bool(settle(truth))

    def __index__(self: Any) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(settle(self))

    def __int__(self: Any) -> int:
        whole = self if self.dtype.kind in "iub" else rows.to_integer(self, dtype=np.int64)
        return int(settle(whole))

    def __float__(self: Any) -> float:
        if self.size != 1:
            raise TypeError("only length-1 arrays can be converted to Python scalars")
        if self.is_active:
            refuse(_LISTED if _in_a_numpy_mean() else _TO_FLOAT)
        return float(settle(self))

    def __complex__(self: Any) -> complex:
        refuse("complex() takes a traced value out of the graph; work with real parts")

    def __hash__(self: Any) -> int:
        if self.is_active:
            refuse(
                "a traced value was hashed (used as a dict key, in a set, or by lru_cache); "
                "its derivative would be lost"
            )
        return hash(settle(self))

    def __reduce_ex__(self: Any, protocol: Any) -> NoReturn:
        refuse("a traced value cannot be pickled or sent to another process")

    def __copy__(self: Any) -> Any:
        return self.copy()

    def __deepcopy__(self: Any, memo: Any) -> Any:
        return self.copy()

    def __round__(self: Any, digits: int | None = None) -> Any:
        return int(np.round(self)) if digits is None else np.round(self, digits)

    def __floor__(self: Any) -> int:
        return int(np.floor(self))

    def __ceil__(self: Any) -> int:
        return int(np.ceil(self))

    def __trunc__(self: Any) -> int:
        return int(np.trunc(self))

    def item(self: Any, *index: Any) -> Any:
        if index:
            return self.reshape(-1)[index[0]] if len(index) == 1 else self[index]
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.reshape(-1)[0]

    def tolist(self: Any) -> Any:
        return [entry.tolist() for entry in self] if self.ndim else self.item()
