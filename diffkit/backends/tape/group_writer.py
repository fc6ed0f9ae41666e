"""What a group of like steps does, as operations on arrays with a row per member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diffkit.backends.tape.plan import Step

if TYPE_CHECKING:
    from diffkit.backends.tape.batching import Batching


@dataclass(frozen=True)
class Operand:
    """An argument of all members of a group: one value for all, or an array with a row each."""

    position: int
    rows: bool


class Declined(Exception):
    """A group that is better computed one by one."""


class GroupWriter:
    """Writes what a group does for all its members at once."""

    def __init__(self, batching: Batching, first: Step, operands: list[Operand], n: int) -> None:
        self.batching = batching
        self.first = first
        self.operands = operands
        self.n = n

    def write(self) -> int:
        assert self.first.primitive is not None
        name = self.first.primitive.name
        if name == "matmul":
            return self._matmul()
        if self.first.primitive.elementwise:
            inputs = [
                self._aligned(operand, np.ndim(self.first.value)) for operand in self.operands
            ]
            return self._apply(name, *inputs, **self.first.static)
        (a,), static, n = (o.position for o in self.operands), self.first.static, self.n
        if name in ("reshape", "stack_scalars"):
            if static.get("order", "C") != "C":
                raise Declined
            return self._apply("reshape", a, shape=(n, *np.shape(self.first.value)))
        if name == "transpose":
            axes = static.get("axes") or tuple(range(np.ndim(self.first.value)))[::-1]
            return self._apply("transpose", a, axes=(0, *(k + 1 for k in axes)))
        if name == "broadcast_to":
            a = self._aligned(self.operands[0], np.ndim(self.first.value))
            return self._apply("broadcast_to", a, shape=(n, *np.shape(self.first.value)))
        if name in ("sum", "max", "min"):
            ndim = self._value(a).ndim
            axis = range(ndim - 1) if static["axis"] is None else static["axis"]
            moved = tuple(k + 1 for k in axis)
            return self._apply(name, a, axis=moved, keepdims=static["keepdims"])
        if name == "index":
            return self._apply("index", a, index=self._inside(static["index"]))
        if name == "add_at":
            index, shape = self._inside(static["index"]), (n, *static["shape"])
            return self._apply("add_at", a, index=index, shape=shape)
        return self._apply(name, a, **static)

    def _apply(self, name: str, *inputs: int, **static: Any) -> int:
        return self.batching.apply(self.first, name, *inputs, **static)

    def _value(self, position: int) -> Any:
        return self.batching.value(position)

    def _inside(self, index: Any) -> tuple[Any, ...]:
        return (slice(None), *(index if isinstance(index, tuple) else (index,)))

    def _aligned(self, operand: Operand, ndim: int) -> int:
        """An operand with axes of length 1, so that its rows broadcast as the members did."""
        shape = np.shape(self._value(operand.position))
        if not operand.rows or len(shape) == ndim + 1:
            return operand.position
        ones = (1,) * (ndim + 1 - len(shape))
        return self._apply("reshape", operand.position, shape=(shape[0], *ones, *shape[1:]))

    def _matmul(self) -> int:
        a, b = self.operands
        dims = tuple(self._value(o.position).ndim - o.rows for o in self.operands)
        if a.rows and not b.rows and dims == (1, 2):
            return self._apply("matmul", a.position, b.position)
        if a.rows and not b.rows and dims == (2, 2):
            n, m, k = self._value(a.position).shape
            flat = self._apply("reshape", a.position, shape=(n * m, k))
            product = self._apply("matmul", flat, b.position)
            return self._apply("reshape", product, shape=(n, m, self._value(product).shape[1]))
        if b.rows and not a.rows and dims == (2, 1):
            turned = self._apply("transpose", a.position, axes=(1, 0))
            return self._apply("matmul", b.position, turned)
        if dims == (1, 1):
            if a.rows and b.rows:
                product = self._apply("multiply", a.position, b.position)
                return self._apply("sum", product, axis=(1,), keepdims=False)
            rows, vector = (a, b) if a.rows else (b, a)
            return self._apply("matmul", rows.position, vector.position)
        raise Declined
