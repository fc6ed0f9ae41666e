"""The short ways from what is done with a traced array to its node in the graph.

Most operations of a function join traced values of one trace, numbers and plain arrays of double
precision. For those the nodes of the operands are found here at once, and the value is computed
by the very operator that the function wrote. Where anything else takes part, the general way
is taken, through NumPy's dispatch, which knows every case and every refusal.

While the trace follows a script, the places of the operands take the place of their nodes, and if
the script has the operation next, nothing is computed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import EllipsisType, NoneType
from typing import Any, Final, TypeVar

import numpy as np

from diffkit.tracing.array_methods import SHORTCUTS, ArrayMethods
from diffkit.tracing.foretold import ELSEWHERE
from diffkit.tracing.graph import Node, Primitive
from diffkit.tracing.primitives import FUNCTIONS, PRIMITIVES
from diffkit.tracing.scripts import INDEX, REDUCTIONS

T = TypeVar("T")
Method = Callable[[Any, Any], Any]

FLOAT64: Final = np.dtype(np.float64)
_PARTS: Final = (int, NoneType, EllipsisType)
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


# ---------------------------------------------------------------------- while following a script


def foretold(kind: type[T], trace: Any, place: int) -> T:
    """What a script has at a place, as a traced array."""
    traced: Any = _new(kind)
    traced._recorder, traced._place, traced._parent = trace, place, None
    return traced  # type: ignore[no-any-return]


_new: Final = object.__new__


def current_place(traced: Any) -> int:
    """The place of a traced array, or a negative number if it is a view that was written to."""
    parent = traced._parent
    if parent is None:
        return traced._place  # type: ignore[no-any-return]
    if parent._recorder is not traced._recorder or current_place(parent) != traced._parent_place:
        return ELSEWHERE
    return traced._place  # type: ignore[no-any-return]


def place_beside(trace: Any, traced: type[Any], other: Any) -> int:
    """The place of another operand, if it is of an everyday kind, else a negative number.

    A number or an array that the script has not next makes the trace leave it.

    Args:
        trace: follows a script.
        traced: the type of traced arrays.
        other: the operand.
    """
    kind = type(other)
    if kind is traced:
        if other._recorder is not trace:
            return ELSEWHERE
        return other._place if other._parent is None else current_place(other)
    place: int = ELSEWHERE
    if kind is float or kind is int:
        place = trace.place_of_number(other)
    elif kind is np.float64 or (kind is np.ndarray and other.dtype is FLOAT64):
        place = trace.place_of_constant(other)
    else:
        return place
    if place < 0:
        trace.leave_script()
    return place


def next_step(trace: Any, traced: type[Any], key: Any) -> Any:
    """The value of the next step of a script if it has this key; else the script is left."""
    place = trace.count
    keys = trace.keys
    if keys is None or keys[place] != key:
        trace.leave_script()
        return None
    trace.count = place + 1
    result: Any = _new(traced)
    result._recorder, result._place, result._parent = trace, place, None
    return result


# ---------------------------------------------------------------------- operators


def operators(ufunc: np.ufunc, apply: Method) -> tuple[Method, Method]:
    """The methods `__op__` and `__rop__` of a traced array.

    Args:
        ufunc: what the operator means.
        apply: the operator itself. NumPy computes it far sooner on scalars than it calls the
            ufunc, and to the same bits.
    """
    primitive = PRIMITIVES[ufunc.__name__]

    def forward(self: Any, other: Any) -> Any:
        trace = self._recorder
        if trace.keys is not None:
            left = self._place if self._parent is None else current_place(self)
            right = place_beside(trace, type(self), other)
            if left >= 0 and right >= 0:
                result = next_step(trace, type(self), (primitive, left, right))
                if result is not None:
                    return result
            elif trace.keys is not None:
                return ufunc(self, other)
        mine = self._node if self._parent is None else self.node
        theirs = node_beside(self, other)
        if theirs is not None:
            value = apply(mine.value, theirs.value)
            if type(value) in _OF_NUMPY or type(value) is type(self):
                return trace.pair(primitive, mine, theirs, value)
        return ufunc(self, other)

    def reflected(self: Any, other: Any) -> Any:
        trace = self._recorder
        if trace.keys is not None:
            right = self._place if self._parent is None else current_place(self)
            left = place_beside(trace, type(self), other)
            if left >= 0 and right >= 0:
                result = next_step(trace, type(self), (primitive, left, right))
                if result is not None:
                    return result
            elif trace.keys is not None:
                return ufunc(other, self)
        mine = self._node if self._parent is None else self.node
        theirs = node_beside(self, other)
        if theirs is not None:
            value = apply(theirs.value, mine.value)
            if type(value) in _OF_NUMPY or type(value) is type(self):
                return trace.pair(primitive, theirs, mine, value)
        return ufunc(other, self)

    return forward, reflected


def operator_of_one(ufunc: np.ufunc, apply: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The method `__op__` of a traced array for an operator of one operand."""
    primitive = PRIMITIVES[ufunc.__name__]

    def method(self: Any) -> Any:
        trace = self._recorder
        if trace.keys is not None:
            place = current_place(self)
            if place < 0:
                return ufunc(self)
            result = next_step(trace, type(self), (primitive, place))
            if result is not None:
                return result
        mine = self._node if self._parent is None else self.node
        value = apply(mine.value)
        if type(value) in _OF_NUMPY or type(value) is type(self):
            return trace.single(primitive, mine, {}, value)
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
        trace = self._recorder
        following = trace.keys is not None
        kind = trace.steps[self._place].kind if following else type(self._node.value)
        if kind is np.float64:
            return self._power(other)
        if following and kind is np.ndarray and self.dtype is FLOAT64:
            primitive = _POWERS.get(other) if type(other) in _NUMBERS else None
            if primitive is not None:
                result = next_step(trace, type(self), (primitive, current_place(self)))
                if result is not None:
                    return result
        return ArrayMethods.__pow__(self, other)  # some powers of arrays are other functions


_POWERS: Final = {power: PRIMITIVES[ufunc.__name__] for power, ufunc in SHORTCUTS.items()}
_NUMBERS: Final = (int, float)


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
    trace, kind = traced._recorder, type(traced)
    if trace.keys is not None:
        result = _foretold_call(traced, primitive, inputs)
        if result is not None or trace.keys is not None:
            return result
    mine = traced._node if traced._parent is None else traced.node
    if len(inputs) == 1:
        x = mine.value
        value = primitive(x) if type(x) is kind else primitive.function(x)
        return trace.single(primitive, mine, {}, value)
    a, b = inputs
    left = mine if a is traced else node_beside(traced, a)
    right = mine if b is traced else node_beside(traced, b)
    if left is None or right is None:
        return None
    a, b = left.value, right.value
    nested = type(a) is kind or type(b) is kind
    value = primitive(a, b) if nested else primitive.function(a, b)
    return trace.pair(primitive, left, right, value)


def _foretold_call(traced: Any, primitive: Primitive, inputs: tuple[Any, ...]) -> Any:
    """What a script has for a ufunc; None if nothing, or if the general way must find out."""
    trace, kind, place = traced._recorder, type(traced), current_place(traced)
    if place < 0:
        return None
    if len(inputs) == 1:
        return next_step(trace, kind, (primitive, place))
    a, b = inputs
    first = place if a is traced else place_beside(trace, kind, a)
    second = place if b is traced else place_beside(trace, kind, b)
    if first < 0 or second < 0:
        return None
    return next_step(trace, kind, (primitive, first, second))


def reduced(traced: Any, function: Any, arguments: tuple[Any, ...], options: Any) -> Any:
    """A sum or an extremum along one axis or all, or None where the general way is needed."""
    primitive = REDUCTIONS.get(function)
    if primitive is None or len(arguments) > 2 or arguments[0] is not traced:
        return None
    axis = arguments[1] if len(arguments) == 2 else options.get("axis")
    keepdims = options.get("keepdims", False)
    known = ("axis" in options) + ("keepdims" in options)
    if len(options) > known or type(keepdims) is not bool:
        return None
    trace = traced._recorder
    following = trace.keys is not None
    kind = trace.steps[traced._place].kind if following else type(traced.node.value)
    if kind is not np.ndarray:
        return None
    ndim = len(traced.shape)
    if axis is not None:
        if type(axis) is not int or not -ndim <= axis < ndim:
            return None
        axis = (axis % ndim,)
    if following:
        place = current_place(traced)
        if place < 0:
            return None
        result = next_step(trace, type(traced), (primitive, place, axis, keepdims))
        if result is not None:
            return result
    mine, static = traced.node, {"axis": axis, "keepdims": keepdims}
    return trace.single(primitive, mine, static, primitive.function(mine.value, **static))


def item(traced: Any, index: Any) -> Any:
    """An entry or a view by integers and slices, or None where the general way is needed."""
    for part in index if type(index) is tuple else (index,):
        if type(part) not in _PARTS and not (type(part) is slice and _is_plain(part)):
            return None
    trace = traced._recorder
    if trace.keys is not None:
        place = current_place(traced)
        if place < 0:
            return None
        result = _foretold_item(traced, place, index)
        if result is not None:
            return result
    mine = traced._node if traced._parent is None else traced.node
    if type(mine.value) is not np.ndarray:
        return None
    value = mine.value[index]
    static = {"index": index}
    result = trace.single(INDEX, mine, static, value)
    if type(value) is np.ndarray:
        result.view_of(traced, mine, INDEX, static)
    return result


def _foretold_item(traced: Any, place: int, index: Any) -> Any:
    trace = traced._recorder
    result = next_step(trace, type(traced), (INDEX, place, index))
    if result is not None:
        step = trace.steps[result._place]
        if step.kind is np.ndarray:
            result.foretold_view_of(traced, place, INDEX, step.static)
    return result


def _is_plain(part: slice) -> bool:
    start, stop, step = type(part.start), type(part.stop), type(part.step)
    return start in _PARTS and stop in _PARTS and step in _PARTS
