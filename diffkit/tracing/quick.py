"""The short ways from what is done with a traced array to its node in the graph.

Most operations of a function join traced values of one trace, numbers and plain arrays of double
precision. For those the nodes of the operands are found here at once, and the value is computed
by the very operator that the function wrote. Where anything else takes part, the general way
is taken, through NumPy's dispatch, which knows every case and every refusal.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import EllipsisType, NoneType
from typing import Any, Final

import numpy as np

from diffkit.tracing.array_methods import ArrayMethods
from diffkit.tracing.graph import Node, Primitive
from diffkit.tracing.primitives import FUNCTIONS, PRIMITIVES

Method = Callable[[Any, Any], Any]

FLOAT64: Final = np.dtype(np.float64)
_INDEX: Final = PRIMITIVES["index"]
_PARTS: Final = (int, NoneType, EllipsisType)
_REDUCTIONS: Final = {f: PRIMITIVES[f.__name__] for f in (np.sum, np.max, np.min)}
_MATMUL: Final = PRIMITIVES["matmul"]
_OF_NUMPY: Final = (np.float64, np.ndarray, np.bool)


def node_beside(traced: Any, other: Any) -> Node | None:
    """The node of another operand in the trace of `traced`, if it is of an everyday kind."""
    kind = type(other)
    trace = traced._recorder
    node: Node | None = None
    if kind is type(traced):
        node = other._node if other._parent is None else other.node
        if other._recorder is not trace:
            node = None
    elif kind is float or kind is int:
        node = trace.number(other)
    elif kind is np.float64 or (kind is np.ndarray and other.dtype is FLOAT64):
        node = trace.constant(other)
    return node


def operators(ufunc: np.ufunc, apply: Method) -> tuple[Method, Method]:
    """The methods `__op__` and `__rop__` of a traced array.

    Args:
        ufunc: what the operator means.
        apply: the operator itself. NumPy computes it far sooner on scalars than it calls the
            ufunc, and to the same bits.
    """
    primitive = PRIMITIVES[ufunc.__name__]

    def forward(self: Any, other: Any) -> Any:
        mine = self._node if self._parent is None else self.node
        theirs = node_beside(self, other)
        if theirs is not None:
            value = apply(mine.value, theirs.value)
            if type(value) in _OF_NUMPY or type(value) is type(self):
                return self._recorder.pair(primitive, mine, theirs, value)
        return ufunc(self, other)

    def reflected(self: Any, other: Any) -> Any:
        mine = self._node if self._parent is None else self.node
        theirs = node_beside(self, other)
        if theirs is not None:
            value = apply(theirs.value, mine.value)
            if type(value) in _OF_NUMPY or type(value) is type(self):
                return self._recorder.pair(primitive, theirs, mine, value)
        return ufunc(other, self)

    return forward, reflected


def operator_of_one(ufunc: np.ufunc, apply: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The method `__op__` of a traced array for an operator of one operand."""
    primitive = PRIMITIVES[ufunc.__name__]

    def method(self: Any) -> Any:
        mine = self._node if self._parent is None else self.node
        value = apply(mine.value)
        if type(value) in _OF_NUMPY or type(value) is type(self):
            return self._recorder.single(primitive, mine, {}, value)
        return ufunc(self)

    return method


class QuickOperators:
    """Gives a traced array its operators, ahead of those of `ArrayMethods`."""

    __slots__ = ()

    __neg__ = operator_of_one(np.negative, operator.neg)
    __pos__ = operator_of_one(np.positive, operator.pos)
    __abs__ = operator_of_one(np.absolute, operator.abs)
    __add__, __radd__ = operators(np.add, operator.add)
    __sub__, __rsub__ = operators(np.subtract, operator.sub)
    __mul__, __rmul__ = operators(np.multiply, operator.mul)
    __truediv__, __rtruediv__ = operators(np.divide, operator.truediv)
    __floordiv__, __rfloordiv__ = operators(np.floor_divide, operator.floordiv)
    __mod__, __rmod__ = operators(np.remainder, operator.mod)
    __matmul__, __rmatmul__ = operators(np.matmul, operator.matmul)
    _power, __rpow__ = operators(np.power, operator.pow)
    __lt__, _ = operators(np.less, operator.lt)
    __le__, _ = operators(np.less_equal, operator.le)
    __gt__, _ = operators(np.greater, operator.gt)
    __ge__, _ = operators(np.greater_equal, operator.ge)
    __eq__, _ = operators(np.equal, operator.eq)
    __ne__, _ = operators(np.not_equal, operator.ne)

    def __pow__(self: Any, other: Any) -> Any:
        if type(self._node.value) is np.float64:
            return self._power(other)
        return ArrayMethods.__pow__(self, other)  # some powers of arrays are other functions


def called(traced: Any, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
    """The value of a ufunc, or None where the general way is needed.

    Args:
        traced: the operand that NumPy asked.
        ufunc: it is called without options.
        inputs: its operands.
    """
    primitive = _MATMUL if ufunc is np.matmul else FUNCTIONS.get(ufunc)
    if type(primitive) is not Primitive or primitive.movement or len(inputs) > 2:
        return None
    mine = traced._node if traced._parent is None else traced.node
    trace, kind = traced._recorder, type(traced)
    if len(inputs) == 1:
        x = mine.value
        value = primitive(x) if type(x) is kind else primitive.function(x)
        return trace.single(primitive, mine, {}, value)
    left, right = inputs
    first = mine if left is traced else node_beside(traced, left)
    second = mine if right is traced else node_beside(traced, right)
    if first is None or second is None:
        return None
    a, b = first.value, second.value
    nested = type(a) is kind or type(b) is kind
    value = primitive(a, b) if nested else primitive.function(a, b)
    return trace.pair(primitive, first, second, value)


def reduced(traced: Any, function: Any, arguments: tuple[Any, ...], options: Any) -> Any:
    """A sum or an extremum along one axis or all, or None where the general way is needed."""
    primitive = _REDUCTIONS.get(function)
    if primitive is None or len(arguments) > 2 or arguments[0] is not traced:
        return None
    axis = arguments[1] if len(arguments) == 2 else options.get("axis")
    keepdims = options.get("keepdims", False)
    known = ("axis" in options) + ("keepdims" in options)
    mine = traced._node if traced._parent is None else traced.node
    x = mine.value
    if len(options) > known or type(keepdims) is not bool or type(x) is not np.ndarray:
        return None
    if axis is not None:
        if type(axis) is not int or not -x.ndim <= axis < x.ndim:
            return None
        axis = (axis % x.ndim,)
    static = {"axis": axis, "keepdims": keepdims}
    value = primitive.function(x, **static)
    return traced._recorder.single(primitive, mine, static, value)


def item(traced: Any, index: Any) -> Any:
    """An entry or a view by integers and slices, or None where the general way is needed."""
    parts = index if type(index) is tuple else (index,)
    for part in parts:
        if type(part) not in _PARTS and not (type(part) is slice and _is_plain(part)):
            return None
    mine = traced._node if traced._parent is None else traced.node
    if type(mine.value) is not np.ndarray:
        return None
    value = mine.value[index]
    static = {"index": index}
    result = traced._recorder.single(_INDEX, mine, static, value)
    if type(value) is np.ndarray:
        result.view_of(traced, mine, _INDEX, static)
    return result


def _is_plain(part: slice) -> bool:
    kinds = (type(part.start), type(part.stop), type(part.step))
    return all(kind in _PARTS for kind in kinds)
