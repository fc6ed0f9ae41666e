"""`Traced`: an array that records what NumPy does with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diffkit.structure import concrete, is_traced
from diffkit.tracing.array_methods import ArrayMethods
from diffkit.tracing.dispatch import call_function, call_ufunc
from diffkit.tracing.exits import Exits, settle, settled
from diffkit.tracing.graph import Node, Primitive
from diffkit.tracing.primitives import gathering
from diffkit.tracing.primitives import shapes as rows
from diffkit.tracing.quick import QuickOperators, called, current_place, foretold, item, reduced
from diffkit.tracing.refusals import refuse

if TYPE_CHECKING:
    from diffkit.tracing.tracer import Trace


class Traced(Exits, QuickOperators, ArrayMethods):
    """An array under recording: behaves like the `ndarray` or NumPy scalar that it stands for.

    `value` is its value one level further out, `node` its node in `recorder`. A view knows what
    it is a view of: it reads what has been written there since, and writes through to it.
    """

    __diffkit_traced__: ClassVar[bool] = True
    __slots__ = (
        *("_link", "_node", "_parent", "_parent_node", "_recorder"),
        *("_parent_place", "_place"),
    )

    _parent_node: Node  # these two of a view alone
    _link: tuple[Primitive, dict[str, Any]]
    _place: int  # these two where a trace follows a script, in place of the nodes
    _parent_place: int

    def __init__(self, trace: Trace, node: Node) -> None:
        self._recorder = trace
        self._node = node
        self._parent: Traced | None = None

    # ------------------------------------------------------------------ views and writes

    def link_to(self, parent: Traced, primitive: Primitive, static: dict[str, Any]) -> None:
        """Make this array a view of `parent`, if NumPy's own result is one."""
        here, there = concrete(self.value), concrete(parent.value)
        if (
            isinstance(here, np.ndarray)
            and isinstance(there, np.ndarray)
            and np.may_share_memory(here, there)
        ):
            if self._recorder.keys is not None and (place := current_place(parent)) >= 0:
                self.foretold_view_of(parent, place, primitive, static)
            else:
                self.view_of(parent, parent.node, primitive, static)

    def view_of(
        self, parent: Traced, node: Node, primitive: Primitive, static: dict[str, Any]
    ) -> None:
        """Make this array a view of `parent`, whose node was `node` when the view was taken."""
        self._parent, self._parent_node, self._link = parent, node, (primitive, static)

    def foretold_view_of(
        self, parent: Traced, place: int, primitive: Primitive, static: dict[str, Any]
    ) -> None:
        """The same while a script is followed, where the parent had a place and no node."""
        self._parent, self._parent_place, self._link = parent, place, (primitive, static)

    @property
    def recorder(self) -> Trace:
        """The trace of the present value."""
        if self._parent is not None:
            self._look_at_parent()
        return self._recorder

    @property
    def node(self) -> Node:
        """The node of the present value."""
        if self._parent is not None:
            self._look_at_parent()
        return self._node

    def _look_at_parent(self) -> None:
        """Read again, in a view, what has been written to the array that it is a view of."""
        assert self._parent is not None
        following = self._recorder.keys is not None
        if following and current_place(self) >= 0:
            return
        latest = None if following else self._parent.node
        if following or latest is not self._parent_node:
            primitive, static = self._link
            self._become(primitive(self._parent, **static))
            if self._recorder.keys is not None:
                self._parent_place = current_place(self._parent)
            else:
                self._parent_node = self._parent.node

    def _become(self, other: Traced) -> None:
        self._recorder = other._recorder
        if other._recorder.keys is None:
            self._node = other._node
        else:
            self._place = other._place
            with suppress(AttributeError):
                del self._node

    @property
    def value(self) -> Any:
        trace = self.recorder
        return self._node.value if trace.keys is None else trace.value_at(self._place)

    def is_at(self, place: int) -> bool:
        """Whether this is what the script has at a place, and no view."""
        return self._parent is None and self._place == place

    def _write(self, index: Any, value: Any) -> None:
        """`self[index] = value`, seen by every view of the same array."""
        if self._parent is None:
            self._become(gathering.updated(self, value, index))
            return
        primitive, static = self._link
        parent = self._parent
        if not self._is_writeable:
            raise ValueError("assignment destination is read-only")
        positions = np.arange(parent.size).reshape(parent.shape)
        index = settled(index)
        chosen = primitive.function(positions, **static)[index]
        parent._write(np.unravel_index(chosen, parent.shape), value)

    def _update(self, operation: Callable[[Any, Any], Any], other: Any) -> Traced:
        """`self op= other`: in place for an array, a new value for a scalar."""
        result = operation(self, other)
        if not self._is_array:
            return result  # type: ignore[no-any-return]
        kept = result.shape == self.shape != () and result.dtype == self.dtype
        if self._parent is None and kept:
            self._become(result)
        else:  # a 0-d result is a scalar, and this is an array
            self._assign(result)
        return self

    def _assign(self, result: Any) -> None:
        """Overwrite the whole array, in its own shape and dtype."""
        if (
            np.shape(result) != self.shape
            and np.broadcast_shapes(np.shape(result), self.shape) != self.shape
        ):
            raise ValueError(
                f"non-broadcastable output operand with shape {self.shape} doesn't match the "
                f"broadcast shape {np.shape(result)}"
            )
        kind = result.dtype if is_traced(result) else np.result_type(result)
        if not np.can_cast(kind, self.dtype, "same_kind"):
            raise TypeError(
                f"cannot cast from {kind} to {self.dtype} with casting rule 'same_kind'"
            )
        self._write(Ellipsis, result)

    def __setitem__(self, index: Any, value: Any) -> None:
        if not self._is_array:
            raise TypeError("a NumPy scalar does not support item assignment")
        self._write(index, value)

    @property
    def _is_array(self) -> bool:
        if self._recorder.keys is not None:
            return self._recorder.steps[self._place].kind is np.ndarray
        return isinstance(concrete(self._node.value), np.ndarray)

    @property
    def shape(self) -> tuple[int, ...]:
        if self._recorder.keys is not None:
            return self._recorder.steps[self._place].shape
        value = self._node.value
        return value.shape if hasattr(value, "shape") else np.shape(value)

    @property
    def dtype(self) -> np.dtype[Any]:
        if self._recorder.keys is not None:
            return self._recorder.steps[self._place].dtype
        value = self._node.value
        return value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def is_in_order(self) -> bool:
        """Whether the value is an array that lies in C order in memory."""
        if self._recorder.keys is not None:
            return self._recorder.steps[self._place].is_in_order
        value = concrete(self._node.value)
        return isinstance(value, np.ndarray) and value.flags.c_contiguous

    @property
    def stand_in(self) -> Any:
        """The value, or an array laid out like it whose numbers mean nothing."""
        if self.is_in_order:
            return np.empty(self.shape, self.dtype)
        return np.asarray(concrete(self.value))

    @property
    def _is_writeable(self) -> bool:
        if self._recorder.keys is not None:
            return self._recorder.steps[self._place].is_writeable
        return bool(concrete(self.value).flags.writeable)

    @property
    def is_active(self) -> bool:
        """Whether a derivative by `x` can flow through the value."""
        if self._recorder.keys is not None and (place := current_place(self)) >= 0:
            return self._recorder.steps[place].active
        return self.node.active

    # ------------------------------------------------------------------ NumPy's dispatch

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if not options and method == "__call__":
            result = called(self, ufunc, inputs)
            if result is not None:
                return result
        return call_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = reduced(self, func, args, kwargs)
        if result is not None:
            return result
        return call_function(func, args, kwargs)

    @property
    def __array__(self) -> Any:
        """Conversion to a plain array: only for values that carry no derivative.

        Absent otherwise, so that np.array([t1, t2]) makes an object array of the traced
        scalars, which the next operation re-packs.
        """
        if self.is_active:
            raise AttributeError("__array__")
        return partial(_as_array, self)

    def __getattr__(self, name: str) -> Any:
        if name == "_node":  # not known while a script is followed
            self._node = self._recorder.node_at(self._place)
            return self._node
        if name == "_parent_node":
            self._parent_node = self._recorder.node_at(self._parent_place)
            return self._parent_node
        # NumPy's loops over object arrays call the method named like the ufunc.
        ufunc = None if name.startswith("_") else getattr(np, name, None)
        if isinstance(ufunc, np.ufunc):
            return partial(ufunc, self)
        if not name.startswith("_") and hasattr(np.ndarray, name):
            refuse(
                f"the array attribute .{name} cannot be followed by the tracer; use a NumPy "
                "function that returns a new array"
            )
        raise AttributeError(f"a traced array has no attribute {name!r}")

    # ------------------------------------------------------------------ container protocol

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        result = item(self, index)
        return gathering.entries(self, index) if result is None else result

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self == value))

    def __repr__(self) -> str:
        return f"Traced({concrete(self.value)!r})"

    def __format__(self, spec: str) -> str:
        return f"Traced({format(concrete(self.value), spec)})"

    # ------------------------------------------------------------------ copies and in-place methods

    def copy(self, order: Any = "C") -> Any:
        return rows.copied(self, order=order)

    def astype(
        self,
        dtype: Any,
        order: Any = "K",
        casting: Any = "unsafe",
        subok: bool = True,
        copy: bool = True,
    ) -> Any:
        kind = np.dtype(dtype)
        if not copy and kind == self.dtype:
            return self
        if kind.kind == "f":
            return rows.astype(self, dtype=kind)
        if kind.kind not in "iub":
            refuse(f".astype({kind}) takes a traced value out of the real numbers")
        return rows.to_integer(self, dtype=kind)

    def fill(self, value: Any) -> None:
        self[...] = value

    def twin(self) -> Traced:
        """Another array of the same value, to be written into by itself."""
        trace = self.recorder
        if trace.keys is not None and (place := current_place(self)) >= 0:
            return foretold(Traced, trace, place)
        return Traced(trace, self.node)

    def lift(self, array: Any) -> Traced:
        """A constant as a traced array beside this one, so that it can be written into."""
        trace = self.recorder
        if trace.keys is not None and (place := trace.place_of_constant(array)) >= 0:
            return foretold(Traced, trace, place)
        return Traced(trace, trace.constant(array))

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        self._assign(np.sort(self, axis=axis, kind=kind))


def _as_array(traced: Traced, dtype: Any = None, copy: Any = None) -> Any:
    return np.array(settle(traced), dtype=dtype)
