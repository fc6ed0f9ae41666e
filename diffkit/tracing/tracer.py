"""`Traced`: an array that records what NumPy does with it, and the `Trace` it records into.

Concrete values flow while recording, so a function may look at them: each outcome that it
takes from a value (`if x > 0`) becomes a guard. What would take a value out of the graph, and
so lose its derivative without a word, raises `TracingError`. Traces nest: the value of an
inner traced array may be a traced array of an outer trace.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np

from diffkit.errors import DiffkitError, UnsupportedOperation
from diffkit.structure import concrete, is_traced
from diffkit.tracing.array_methods import ArrayMethods
from diffkit.tracing.dispatch import call_function, call_ufunc
from diffkit.tracing.exits import Exits, settle, settled
from diffkit.tracing.graph import Guard, Node, Primitive
from diffkit.tracing.locations import user_place
from diffkit.tracing.primitives import gathering
from diffkit.tracing.primitives import shapes as rows
from diffkit.tracing.primitives.complex_pairs import COMPLEX
from diffkit.tracing.quick import QuickOperators, called, item, reduced
from diffkit.tracing.refusals import refuse, running
from diffkit.tracing.watches import same_bytes


class Trace:
    """One recording under way; a context manager around the run of the function.

    Attributes:
        kept: whether the recording outlives the call: then the user's lines are noted, and the
            outcomes that the function depended on.
        located: whether the user's lines are noted.
        level: grows from outer to inner traces, in whichever thread they run.
        nodes: what has been recorded so far, in order.
        guards: the outcomes the function depended on so far.
        refusal: the first error of ours raised while recording. Should the function swallow
            it, it is raised again at the end.
    """

    _levels: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, kept: bool = True) -> None:
        self.kept = self.located = kept
        self.nodes: list[Node] = []
        self.guards: list[Guard] = []
        self.refusal: DiffkitError | None = None
        self.closed = False
        self.level = next(Trace._levels)
        self._constants: dict[int, tuple[Any, Node]] = {}
        self._numbers: dict[int | float, Node] = {}

    def __enter__(self) -> Trace:
        running().append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed = True
        running().remove(self)

    def input(self, value: Any) -> Traced:
        """A new input: a leaf of `x`."""
        return Traced(self, self._given(value, True))

    def data(self, value: Any) -> Traced:
        """A new data input, which is not differentiated."""
        return Traced(self, self._given(value, False))

    def _given(self, value: Any, active: bool) -> Node:
        return self._add(Node(None, (), {}, _snapshot(value), active, active))

    def _add(self, node: Node) -> Node:
        nodes = self.nodes
        node.index = index = len(nodes)
        nodes.append(node)
        if nodes[index] is not node:  # a thread that the function started was quicker
            node.index = max(i for i, other in enumerate(nodes) if other is node)
        return node

    def number(self, value: int | float) -> Node:
        """The node of a Python number."""
        node = self._numbers.get(value)
        if node is None or type(node.value) is not type(value) or not value:  # 0.0 == -0.0 == 0
            node = self._numbers[value] = self._given(value, False)
        return node

    def constant(self, value: Any) -> Node:
        """The node of a captured value, copied, so that it counts as it is now."""
        if type(value) is not np.ndarray:
            return self._given(value, False)
        known = self._constants.get(id(value))
        if known is not None and known[0] is value and same_bytes(value, known[1].value):
            return known[1]
        node = self._given(value, False)
        self._constants[id(value)] = (value, node)
        return node

    def record(self, primitive: Primitive, operands: tuple[Any, ...], static: Any) -> Any:
        """Apply a primitive to operands of which at least one is traced here."""
        if static:
            static = {name: settled(value) for name, value in static.items()}
        inputs, values, nested = [], [], False
        for operand in operands:
            mine = type(operand) is Traced and operand.recorder is self
            source = operand._node if mine else self.constant(operand)
            inputs.append(source)
            values.append(source.value)
            nested = nested or type(source.value) is Traced
        value = (primitive if nested else primitive.function)(*values, **static)
        if _kind(value) == "c":  # a complex constant took part
            return COMPLEX.record(primitive, operands, static)
        flows = any(source.active for source in inputs)
        depends = flows or any(source.depends for source in inputs)
        traced = self._append(primitive, tuple(inputs), static, value, flows, depends)
        if primitive.movement:
            traced.link_to(operands[0], primitive, static)
        return traced

    def single(self, primitive: Primitive, a: Node, static: Any, value: Any) -> Traced:
        """The traced value of a primitive of one argument, computed already."""
        return self._append(primitive, (a,), static, value, a.active, a.depends)

    def pair(self, primitive: Primitive, a: Node, b: Node, value: Any) -> Traced:
        """The traced value of a primitive of two arguments, computed already."""
        return self._append(
            primitive, (a, b), {}, value, a.active or b.active, a.depends or b.depends
        )

    def _append(
        self,
        primitive: Primitive,
        inputs: tuple[Node, ...],
        static: Any,
        value: Any,
        flows: bool,
        depends: bool,
    ) -> Traced:
        if self.closed:
            refuse(
                "a traced value was used after the function it belongs to had returned; it must "
                "not be kept in outside state (a global, a list, an attribute)"
            )
        if flows:
            floating = type(value) is np.float64 or _kind(value) == "f"
            flows = floating and primitive.differentiable
        node = Node(primitive, inputs, static, value, flows, depends)
        if self.located:
            node.place = user_place()
        return Traced(self, self._add(node))


def _kind(value: Any) -> str:
    """The kind of number that a value is made of, as NumPy names it: `f` for floating."""
    dtype: np.dtype[Any] = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    return dtype.kind


def _snapshot(value: Any) -> Any:
    """The value as it is now, whatever is written into the original later."""
    if type(value) is np.ndarray:
        return value.copy(order="K")
    if type(value) is Traced:
        return Traced(value.recorder, value.node)
    if isinstance(value, (np.ma.MaskedArray, np.matrix)):
        refuse(
            f"a {type(value).__name__} takes part in the computation, whose rules are not those "
            "of arrays; use a plain array (for a mask, np.where)",
            UnsupportedOperation,
        )
    return value.copy(order="K") if isinstance(value, np.ndarray) else value


class Traced(Exits, QuickOperators, ArrayMethods):
    """An array under recording: behaves like the `ndarray` or NumPy scalar that it stands for.

    `value` is its value one level further out, `node` its node in `recorder`. A view knows what
    it is a view of: it reads what has been written there since, and writes through to it.
    """

    __diffkit_traced__: ClassVar[bool] = True
    __slots__ = ("_link", "_node", "_parent", "_parent_node", "_recorder")

    _parent_node: Node  # these two of a view alone
    _link: tuple[Primitive, dict[str, Any]]

    def __init__(self, trace: Trace, node: Node) -> None:
        self._recorder = trace
        self._node = node
        self._parent: Traced | None = None

    # ------------------------------------------------------------------ views and writes

    def link_to(self, parent: Traced, primitive: Primitive, static: dict[str, Any]) -> None:
        """Make this array a view of `parent`, if NumPy's own result is one."""
        here, there = concrete(self._node.value), concrete(parent.value)
        if (
            isinstance(here, np.ndarray)
            and isinstance(there, np.ndarray)
            and np.may_share_memory(here, there)
        ):
            self.view_of(parent, parent.node, primitive, static)

    def view_of(
        self, parent: Traced, node: Node, primitive: Primitive, static: dict[str, Any]
    ) -> None:
        """Make this array a view of `parent`, whose node was `node` when the view was taken."""
        self._parent, self._parent_node, self._link = parent, node, (primitive, static)

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
        latest = self._parent.node
        if latest is not self._parent_node:
            primitive, static = self._link
            self._become(primitive(self._parent, **static))
            self._parent_node = latest

    def _become(self, other: Traced) -> None:
        self._recorder, self._node = other._recorder, other._node

    @property
    def value(self) -> Any:
        return self.node.value

    def _write(self, index: Any, value: Any) -> None:
        """`self[index] = value`, seen by every view of the same array."""
        if self._parent is None:
            self._become(gathering.updated(self, value, index))
            return
        primitive, static = self._link
        parent = self._parent
        if not concrete(self.value).flags.writeable:
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
        kind = np.result_type(concrete(result) if is_traced(result) else result)
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
        return isinstance(concrete(self._node.value), np.ndarray)

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
        if self.node.active:
            raise AttributeError("__array__")
        return partial(_as_array, self)

    def __getattr__(self, name: str) -> Any:
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
        return f"Traced({concrete(self._node.value)!r})"

    def __format__(self, spec: str) -> str:
        return f"Traced({format(concrete(self._node.value), spec)})"

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

    def lift(self, array: Any) -> Traced:
        """A constant as a traced array beside this one, so that it can be written into."""
        return Traced(self.recorder, self.recorder.constant(array))

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        self._assign(np.sort(self, axis=axis, kind=kind))


def _as_array(traced: Traced, dtype: Any = None, copy: Any = None) -> Any:
    return np.array(settle(traced), dtype=dtype)
