"""The operators, attributes and methods of an array, by the NumPy functions that they mean."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

# What NumPy's own `array ** exponent` computes, to the bit, for these exponents.
SHORTCUTS: Final[dict[float, np.ufunc]] = {
    2: np.square,
    1: np.positive,
    0.5: np.sqrt,
    -1: np.reciprocal,
}


class ArrayMethods:
    """Gives a class that NumPy dispatches on the operators, attributes and methods of `ndarray`.

    The class itself has `shape`, `dtype` and `size`, and says what `self op= other` does, in
    `_update(ufunc, other)`.
    """

    __slots__ = ()

    # ------------------------------------------------------------------ operators

    def __neg__(self: Any) -> Any:
        return np.negative(self)

    def __pos__(self: Any) -> Any:
        return np.positive(self)

    def __abs__(self: Any) -> Any:
        return np.absolute(self)

    def __invert__(self: Any) -> Any:
        return np.invert(self)

    def __add__(self: Any, other: Any) -> Any:
        return np.add(self, other)

    def __radd__(self: Any, other: Any) -> Any:
        return np.add(other, self)

    def __iadd__(self: Any, other: Any) -> Any:
        return self._update(np.add, other)

    def __sub__(self: Any, other: Any) -> Any:
        return np.subtract(self, other)

    def __rsub__(self: Any, other: Any) -> Any:
        return np.subtract(other, self)

    def __isub__(self: Any, other: Any) -> Any:
        return self._update(np.subtract, other)

    def __mul__(self: Any, other: Any) -> Any:
        return np.multiply(self, other)

    def __rmul__(self: Any, other: Any) -> Any:
        return np.multiply(other, self)

    def __imul__(self: Any, other: Any) -> Any:
        return self._update(np.multiply, other)

    def __truediv__(self: Any, other: Any) -> Any:
        return np.divide(self, other)

    def __rtruediv__(self: Any, other: Any) -> Any:
        return np.divide(other, self)

    def __itruediv__(self: Any, other: Any) -> Any:
        return self._update(np.divide, other)

    def __floordiv__(self: Any, other: Any) -> Any:
        return np.floor_divide(self, other)

    def __rfloordiv__(self: Any, other: Any) -> Any:
        return np.floor_divide(other, self)

    def __ifloordiv__(self: Any, other: Any) -> Any:
        return self._update(np.floor_divide, other)

    def __mod__(self: Any, other: Any) -> Any:
        return np.remainder(self, other)

    def __rmod__(self: Any, other: Any) -> Any:
        return np.remainder(other, self)

    def __imod__(self: Any, other: Any) -> Any:
        return self._update(np.remainder, other)

    def __pow__(self: Any, other: Any) -> Any:
        if type(other) in (int, float) and self._is_array and self.dtype.kind == "f":
            shortcut = SHORTCUTS.get(other)
            if shortcut is not None:
                return shortcut(self)
        return np.power(self, other)

    def __rpow__(self: Any, other: Any) -> Any:
        return np.power(other, self)

    def __ipow__(self: Any, other: Any) -> Any:
        return self._update(np.power, other)

    def __matmul__(self: Any, other: Any) -> Any:
        return np.matmul(self, other)

    def __rmatmul__(self: Any, other: Any) -> Any:
        return np.matmul(other, self)

    def __imatmul__(self: Any, other: Any) -> Any:
        return self._update(np.matmul, other)

    def __and__(self: Any, other: Any) -> Any:
        return np.bitwise_and(self, other)

    def __rand__(self: Any, other: Any) -> Any:
        return np.bitwise_and(other, self)

    def __iand__(self: Any, other: Any) -> Any:
        return self._update(np.bitwise_and, other)

    def __or__(self: Any, other: Any) -> Any:
        return np.bitwise_or(self, other)

    def __ror__(self: Any, other: Any) -> Any:
        return np.bitwise_or(other, self)

    def __ior__(self: Any, other: Any) -> Any:
        return self._update(np.bitwise_or, other)

    def __xor__(self: Any, other: Any) -> Any:
        return np.bitwise_xor(self, other)

    def __rxor__(self: Any, other: Any) -> Any:
        return np.bitwise_xor(other, self)

    def __ixor__(self: Any, other: Any) -> Any:
        return self._update(np.bitwise_xor, other)

    def __lt__(self: Any, other: Any) -> Any:
        return np.less(self, other)

    def __le__(self: Any, other: Any) -> Any:
        return np.less_equal(self, other)

    def __gt__(self: Any, other: Any) -> Any:
        return np.greater(self, other)

    def __ge__(self: Any, other: Any) -> Any:
        return np.greater_equal(self, other)

    def __eq__(self: Any, other: Any) -> Any:
        return np.equal(self, other)

    def __ne__(self: Any, other: Any) -> Any:
        return np.not_equal(self, other)

    def __divmod__(self: Any, other: Any) -> Any:
        return np.floor_divide(self, other), np.remainder(self, other)

    def __rdivmod__(self: Any, other: Any) -> Any:
        return np.floor_divide(other, self), np.remainder(other, self)

    # ------------------------------------------------------------------ array attributes

    @property
    def ndim(self: Any) -> int:
        return len(self.shape)

    @property
    def itemsize(self: Any) -> int:
        return int(self.dtype.itemsize)

    @property
    def nbytes(self: Any) -> int:
        return int(self.size * self.itemsize)

    @property
    def T(self: Any) -> Any:  # noqa: N802
        return np.transpose(self)

    @property
    def mT(self: Any) -> Any:  # noqa: N802
        return np.swapaxes(self, -1, -2)

    @property
    def flat(self) -> Flat:
        return Flat(self)

    @property
    def real(self: Any) -> Any:
        return self

    @property
    def imag(self: Any) -> Any:
        return np.zeros_like(self)

    # ------------------------------------------------------------------ reductions

    def sum(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.sum(self, *arguments, **options)

    def prod(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.prod(self, *arguments, **options)

    def mean(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.mean(self, *arguments, **options)

    def var(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.var(self, *arguments, **options)

    def std(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.std(self, *arguments, **options)

    def max(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.max(self, *arguments, **options)

    def min(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.min(self, *arguments, **options)

    def ptp(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.ptp(self, *arguments, **options)

    def any(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.any(self, *arguments, **options)

    def all(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.all(self, *arguments, **options)

    def argmax(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.argmax(self, *arguments, **options)

    def argmin(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.argmin(self, *arguments, **options)

    def cumsum(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.cumsum(self, *arguments, **options)

    def cumprod(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.cumprod(self, *arguments, **options)

    # ------------------------------------------------------------------ shapes and selection

    def reshape(self: Any, *shape: Any, order: Any = "C") -> Any:
        return np.reshape(self, _one_tuple(shape), order=order)

    def transpose(self: Any, *axes: Any) -> Any:
        return np.transpose(self, _one_tuple(axes) if axes else None)

    def ravel(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.ravel(self, *arguments, **options)

    def squeeze(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.squeeze(self, *arguments, **options)

    def swapaxes(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.swapaxes(self, *arguments, **options)

    def repeat(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.repeat(self, *arguments, **options)

    def take(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.take(self, *arguments, **options)

    def diagonal(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.diagonal(self, *arguments, **options)

    def trace(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.trace(self, *arguments, **options)

    def argsort(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.argsort(self, *arguments, **options)

    def argpartition(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.argpartition(self, *arguments, **options)

    def searchsorted(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.searchsorted(self, *arguments, **options)

    def nonzero(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.nonzero(self, *arguments, **options)

    def dot(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.dot(self, *arguments, **options)

    def clip(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.clip(self, *arguments, **options)

    def round(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.round(self, *arguments, **options)

    def choose(self: Any, *arguments: Any, **options: Any) -> Any:
        return np.choose(self, *arguments, **options)

    def compress(self: Any, condition: Any, axis: Any = None) -> Any:
        return np.compress(condition, self, axis)

    def put(self: Any, indices: Any, values: Any, mode: Any = "raise") -> None:
        np.put(self, indices, values, mode)

    def flatten(self: Any, order: Any = "C") -> Any:
        return np.copy(np.ravel(self, order))

    def conj(self: Any) -> Any:
        return self

    def conjugate(self: Any) -> Any:
        return self


def _one_tuple(arguments: tuple[Any, ...]) -> Any:
    """`a.reshape(2, 3)` and `a.reshape((2, 3))` mean the same."""
    return arguments[0] if len(arguments) == 1 else arguments


class Flat:
    """The entries of an array one after the other, to be read and assigned."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    def __len__(self) -> int:
        return int(self.array.size)

    def __getitem__(self, index: Any) -> Any:
        return np.copy(np.reshape(self.array, -1))[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        chosen = np.arange(len(self))[index]
        self.array[np.unravel_index(chosen, self.array.shape)] = value
