"""What compiled programs over arrays call, besides NumPy itself.

Arrays may have any number of leading axes before those of the operation, which counts its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from diffkit.backends.symbolic.code import impulse
from diffkit.backends.symbolic.special import Special
from diffkit.errors import UnsupportedOperation
from diffkit.tracing.primitives.gathering import put_together


def sech(x: Any) -> Any:
    """1 / cosh, which does not overflow."""
    e = np.abs(x)
    if not isinstance(e, np.ndarray):
        e = np.exp(-e)
        return 2 * e / (1 + e * e)
    np.negative(e, e)
    np.exp(e, e)
    below = e * e
    below += 1
    e += e
    e /= below
    return e


@dataclass(frozen=True)
class Places:
    """Positions of entries, with what is needed to add entries there."""

    shape: tuple[int, ...]
    flat: Any

    @cached_property
    def made_up(self) -> Any:
        """Which of the entries are zeros that were made up; None if none is."""
        missing = self.flat < 0
        return missing if missing.any() else None

    @cached_property
    def sorted(self) -> tuple[Any, Any, Any]:
        """An order of the entries by position, where each position begins, and the positions."""
        order = np.argsort(self.flat, kind="stable")
        order = order[self.flat[order] >= 0]
        chosen, starts = np.unique(self.flat[order], return_index=True)
        return order, starts, chosen

    @cached_property
    def distinct(self) -> bool:
        order, starts, _ = self.sorted
        return len(order) == len(starts)


def gather(a: Any, ndim: int, places: Places) -> Any:
    """Entries of the last `ndim` axes by position, and zeros."""
    lead = a.shape[: a.ndim - ndim]
    if a.size:
        taken = a.reshape(*lead, -1)[..., places.flat]
    else:
        taken = np.zeros((*lead, places.flat.size), a.dtype)
    if places.made_up is not None:
        taken[..., places.made_up] = 0
    return taken.reshape(lead + places.shape)


def scatter(a: Any, ndim: int, places: Places, shape: tuple[int, ...]) -> Any:
    """Zeros with the entries of the last `ndim` axes added by position."""
    lead = a.shape[: a.ndim - ndim]
    out = np.zeros((*lead, int(np.prod(shape))), a.dtype)
    order, starts, chosen = places.sorted
    if len(order):
        ordered = a.reshape(*lead, -1)[..., order]
        if not places.distinct:
            ordered = np.add.reduceat(ordered, starts, axis=-1)
        out[..., chosen] = ordered
    return out.reshape(lead + shape)


def lookup(a: Any, ndim: int, index: tuple[Any, ...], integers: Sequence[Any]) -> Any:
    """Entries of the last `ndim` axes at integers."""
    place = put_together(index, integers)
    if a.ndim > ndim:
        return np.array([part[place] for part in a])
    found = a[place]
    return found.copy() if isinstance(found, np.ndarray) else found  # it may have been a view


def spread(
    a: Any, ndim: int, index: tuple[Any, ...], integers: Sequence[Any], shape: tuple[int, ...]
) -> Any:
    """Zeros with the last `ndim` axes added at integers."""
    place = put_together(index, integers)
    batched = a.ndim > ndim
    out = np.zeros((len(a), *shape) if batched else shape, a.dtype)
    for part, values in zip(out, a, strict=True) if batched else [(out, a)]:
        np.add.at(part, place, values)
    return out


def placed(a: Any, section: Any, lead: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Zeros with `a` as one part."""
    out = np.zeros(lead + shape, np.asarray(a).dtype)
    out[section] = a
    return out


def joined(arrays: Sequence[Any], axis: int, ndim: int) -> Any:
    """Arrays one after the other along an axis, counted from the last."""
    lead = np.broadcast_shapes(*(a.shape[: a.ndim - ndim] for a in arrays))
    full = [a if a.ndim == len(lead) + ndim else _led(a, lead) for a in arrays]
    return np.concatenate(full, axis)


def packed(numbers: Sequence[Any], dtype: Any) -> Any:
    """Numbers, or arrays of leading axes, along a new last axis."""
    shapes = [np.shape(n) for n in numbers]
    if not any(shapes):
        return np.array(numbers, dtype)
    return np.stack(np.broadcast_arrays(*numbers), -1)


def _led(a: Any, lead: tuple[int, ...]) -> Any:
    return np.broadcast_to(a, lead + a.shape)


def running_sum(a: Any, axis: int, reverse: bool) -> Any:
    """The sums up to each entry, or from it on."""
    if not reverse:
        return np.cumsum(a, axis)
    return np.flip(np.cumsum(np.flip(a, axis), axis), axis)


def shares(a: Any, extreme: Any, axes: tuple[int, ...]) -> Any:
    """1 over how many entries are extreme for those that are, 0 for the others."""
    mine = np.equal(a, extreme)
    count = np.add.reduce(mine, axes, np.result_type(a, np.float16), keepdims=True)
    return np.divide(mine, count, dtype=count.dtype)


def inverse(a: Any) -> Any:
    """The inverse of each matrix.

    Raises:
        UnsupportedOperation: one is singular.
    """
    with _regular():
        return np.linalg.inv(a)


def solution(a: Any, b: Any) -> Any:
    """The solution of each system.

    Raises:
        UnsupportedOperation: the matrix of one is singular.
    """
    with _regular():
        return np.linalg.solve(a, b)


@contextmanager
def _regular() -> Iterator[None]:
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise UnsupportedOperation(
            "the derivative in index notation needs the inverse of a matrix that is singular at "
            "this point; use form='shared' or backend='tape'"
        ) from error


def determinant(a: Any, logarithm: bool) -> Any:
    """The determinant of each matrix, or the logarithm of its absolute value."""
    value = np.linalg.slogdet(a)[1] if logarithm else np.linalg.det(a)
    return np.expand_dims(value, (-2, -1))


def determinant_sign(a: Any) -> Any:
    """The sign of each determinant."""
    return np.expand_dims(np.linalg.slogdet(a)[0], (-2, -1))


def cofactors(a: Any) -> Any:
    """The cofactors of each matrix, singular or not, by its singular values."""
    u, s, vt = np.linalg.svd(a)
    sign = np.round(np.linalg.det(u) * np.linalg.det(vt)).astype(a.dtype)
    n = s.shape[-1]
    others = np.where(np.eye(n, dtype=bool), 1, s[..., None, :]).prod(-1)
    return sign[..., None, None] * np.matmul(u * others[..., None, :], vt)


def factor(a: Any) -> Any:
    """The Cholesky factor of each matrix."""
    return np.linalg.cholesky(a)


NAMES: dict[str, Any] = {
    function.__name__: function
    for function in (
        sech,
        gather,
        scatter,
        lookup,
        spread,
        placed,
        joined,
        packed,
        running_sum,
        shares,
        inverse,
        solution,
        cofactors,
        determinant,
        determinant_sign,
        factor,
    )
} | {
    "numpy": np,
    "impulse": impulse,
    "special": Special(),
    "matmul": np.matmul,
    "add_reduce": np.add.reduce,
    "maximum_reduce": np.maximum.reduce,
    "minimum_reduce": np.minimum.reduce,
    "broadcast_to": np.broadcast_to,
}
