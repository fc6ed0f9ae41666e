"""`Traced`: an array that records what NumPy does with it, and the `Trace` it records into.

Concrete values flow while recording, so a function may look at them: each outcome that it
takes from a value (`if x > 0`) becomes a guard. What would take a value out of the graph, and
so lose its derivative without a word, raises `TracingError`. Traces nest: the value of an
inner traced array may be a traced array of an outer trace.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, NoReturn

import numpy as np

from diffkit.errors import DiffkitError, TracingError, UnsupportedOperation
from diffkit.structure import concrete, is_traced, map_leaves
from diffkit.tracing.array_methods import ArrayMethods
from diffkit.tracing.graph import Guard, Node, Primitive, pack, user_location
from diffkit.tracing.primitives import FUNCTIONS, METHODS
from diffkit.tracing.primitives import shapes as rows

_running = threading.local()


class Trace:
    """One recording under way; a context manager around the run of the function.

    Attributes:
        level: how many traces it is nested in.
        nodes: what has been recorded so far, in order.
        guards: the outcomes the function depended on so far.
        refusal: the first error of ours raised while recording. Should the function swallow
            it, it is raised again at the end.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.guards: list[Guard] = []
        self.refusal: DiffkitError | None = None
        self.closed = False
        self.level = 0
        self._constants: dict[int, tuple[Any, Node]] = {}

    def __enter__(self) -> Trace:
        stack = _stack()
        self.level = len(stack)
        stack.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed = True
        _stack().remove(self)

    def add(
        self,
        primitive: Primitive | None,
        inputs: tuple[Node, ...],
        static: dict[str, Any],
        value: Any,
        *,
        active: bool,
        depends: bool,
    ) -> Node:
        location = user_location() if primitive else None
        node = Node(primitive, inputs, static, value, len(self.nodes), active, depends, location)
        self.nodes.append(node)
        return node

    def input(self, value: Any) -> Traced:
        """A new input: a leaf of `x`."""
        return Traced(self, self.add(None, (), {}, _snapshot(value), active=True, depends=True))

    def data(self, value: Any) -> Traced:
        """A new data input, which is not differentiated."""
        return Traced(self, self.add(None, (), {}, _snapshot(value), active=False, depends=False))

    def constant(self, value: Any) -> Node:
        """The node of a captured value, copied, so that it counts as it is now."""
        if not isinstance(value, np.ndarray):
            return self.add(None, (), {}, _snapshot(value), active=False, depends=False)
        known = self._constants.get(id(value))
        if known is not None and known[0] is value and _same_bytes(value, known[1].value):
            return known[1]
        node = self.add(None, (), {}, value.copy(), active=False, depends=False)
        self._constants[id(value)] = (value, node)
        return node

    def record(self, primitive: Primitive, operands: tuple[Any, ...], static: Any) -> Traced:
        """Apply a primitive to operands of which at least one is traced here."""
        if self.closed:
            _refuse(
                "a traced value was used after the function it belongs to had returned; it must "
                "not be kept in outside state (a global, a list, an attribute)"
            )
        if static:
            static = {name: _settled(value) for name, value in static.items()}
        inputs = tuple(
            operand.node
            if is_traced(operand) and operand.recorder is self
            else self.constant(operand)
            for operand in operands
        )
        value = primitive(*(node.value for node in inputs), **static)
        if np.iscomplexobj(concrete(value)):
            _refuse(
                f"np.{primitive.name} gave complex numbers, which cannot be differentiated "
                "through; compute real and imaginary parts separately",
                UnsupportedOperation,
            )
        depends = any(node.depends for node in inputs)
        active = (
            primitive.differentiable
            and any(node.active for node in inputs)
            and np.asarray(concrete(value)).dtype.kind == "f"
        )
        node = self.add(primitive, inputs, static, value, active=active, depends=depends)
        traced = Traced(self, node)
        if primitive.movement:
            traced.link_to(operands[0], primitive, static)
        return traced


def _stack() -> list[Trace]:
    if not hasattr(_running, "traces"):
        _running.traces = []
    traces: list[Trace] = _running.traces
    return traces


def _refuse(message: str, kind: type[DiffkitError] = TracingError) -> NoReturn:
    """Raise an error of ours that names the user's line, and remember it."""
    error = kind(f"{message} [{user_location()}]")
    for trace in _stack():
        trace.refusal = trace.refusal or error
    raise error


def _snapshot(value: Any) -> Any:
    """The value as it is now, whatever is written into the original later."""
    if is_traced(value):
        return Traced(value.recorder, value.node)
    return value.copy() if isinstance(value, np.ndarray) else value


def _same_bytes(array: Any, copy: Any) -> bool:
    if array.shape != copy.shape or array.dtype != copy.dtype:
        return False
    a, b = np.ascontiguousarray(array), np.ascontiguousarray(copy)
    return bool(np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)))


def settle(value: Any) -> Any:
    """Take a value out of the graph as a plain one, with a guard on it at every level.

    Raises:
        TracingError: a derivative flows through the value.
    """
    while is_traced(value):
        node = value.node
        if node.active:
            _refuse(
                "a traced value would leave the graph here, which would lose its derivative; "
                "use NumPy functions on it instead (np.sin, not math.sin), or a data argument"
            )
        value.recorder.guards.append(Guard(node, concrete(node.value), user_location()))
        value = node.value
    return value


def _settled(static: Any) -> Any:
    """A static argument with every traced value in it settled, and arrays copied."""
    if is_traced(static):
        return settle(static)
    if isinstance(static, (tuple, list, dict)):
        return map_leaves(_settled, static)
    if isinstance(static, slice):
        return slice(*(_settled(part) for part in (static.start, static.stop, static.step)))
    if isinstance(static, np.ndarray):
        return settle(pack(static)) if static.dtype == object else static.copy()
    return static


class Traced(ArrayMethods):
    """An array under recording: behaves like the `ndarray` or NumPy scalar that it stands for.

    `value` is its value one level further out, `node` its node in `recorder`. A view knows what
    it is a view of: it reads what has been written there since, and writes through to it.
    """

    __diffkit_traced__: ClassVar[bool] = True
    __slots__ = ("_link", "_node", "_parent", "_parent_node", "recorder")

    def __init__(self, trace: Trace, node: Node) -> None:
        self.recorder = trace
        self._node = node
        self._parent: Traced | None = None
        self._parent_node: Node | None = None
        self._link: tuple[Primitive, dict[str, Any]] | None = None

    # ------------------------------------------------------------------ views and writes

    def link_to(self, parent: Traced, primitive: Primitive, static: dict[str, Any]) -> None:
        """Make this array a view of `parent`, if NumPy's own result is one."""
        here, there = concrete(self._node.value), concrete(parent.value)
        if (
            isinstance(here, np.ndarray)
            and isinstance(there, np.ndarray)
            and np.may_share_memory(here, there)
        ):
            self._parent, self._link = parent, (primitive, static)
            self._parent_node = parent.node

    @property
    def node(self) -> Node:
        """The node of the present value; a view looks at its parent first."""
        if self._parent is not None and self._link is not None:
            latest = self._parent.node
            if latest is not self._parent_node:
                primitive, static = self._link
                fresh = primitive(self._parent, **static)
                self.recorder, self._node = fresh.recorder, fresh._node
                self._parent_node = latest
        return self._node

    @property
    def value(self) -> Any:
        return self.node.value

    def _write(self, index: Any, value: Any) -> None:
        """`self[index] = value`, seen by every view of the same array."""
        if self._parent is None or self._link is None:
            updated = rows.index_update(self, value, index=index)
            self.recorder, self._node = updated.recorder, updated._node
            return
        primitive, static = self._link
        parent = self._parent
        if not concrete(self.value).flags.writeable:
            raise ValueError("assignment destination is read-only")
        positions = np.arange(parent.size).reshape(parent.shape)
        index = _settled(index)
        chosen = primitive.function(positions, **static)[index]
        parent._write(np.unravel_index(chosen, parent.shape), value)

    def _update(self, ufunc: np.ufunc, other: Any) -> Traced:
        """`self op= other`: in place for an array, a new value for a scalar."""
        result = ufunc(self, other)
        if not self._is_array:
            return result  # type: ignore[no-any-return]
        if self._parent is None and result.shape == self.shape and result.dtype == self.dtype:
            self.recorder, self._node = result.recorder, result.node
        else:
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
        called = method == "__call__"
        function = FUNCTIONS.get(ufunc) if called else METHODS.get((ufunc, method))
        if function is None:
            suffix = "" if called else f".{method}"
            _refuse(_unknown(f"np.{ufunc.__name__}{suffix}"), UnsupportedOperation)
        out = options.pop("out", None)
        if called:
            where = options.pop("where", True)
            for harmless in ("casting", "order", "subok"):
                options.pop(harmless, None)
            dtype = options.pop("dtype", None)
            if options:
                _refuse(
                    f"np.{ufunc.__name__} with {', '.join(options)}= is not supported here",
                    UnsupportedOperation,
                )
            if dtype is not None:
                inputs = tuple(rows.astype(i, dtype=np.dtype(dtype)) for i in inputs)
            result = _called(function, f"np.{ufunc.__name__}", inputs, {})
            if where is not True:
                if out is None:
                    _refuse(
                        f"np.{ufunc.__name__} with where= and no out= leaves entries undefined; "
                        "use np.where",
                        UnsupportedOperation,
                    )
                result = np.where(where, result, out[0])
        else:
            name = f"np.{ufunc.__name__}.{method}"
            result = _called(function, name, inputs, options)
        return result if out is None else _stored(result, out)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = f"{func.__module__}.{func.__name__}".replace("numpy", "np", 1)
        function = FUNCTIONS.get(func)
        if function is None:
            _refuse(_unknown(name), UnsupportedOperation)
        kwargs = dict(kwargs)
        out = kwargs.pop("out", None)
        result = _called(function, name, args, kwargs)
        return result if out is None else _stored(result, (out,))

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
            _refuse(
                f"the array attribute .{name} cannot be followed by the tracer; use a NumPy "
                "function that returns a new array"
            )
        raise AttributeError(f"a traced array has no attribute {name!r}")

    # ------------------------------------------------------------------ leaving the graph

    def __bool__(self) -> bool:
        truth = self if self.dtype.kind == "b" else np.not_equal(self, 0)
        return bool(settle(truth))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(settle(self))

    def __int__(self) -> int:
        whole = self if self.dtype.kind in "iub" else rows.to_integer(self, dtype=np.int64)
        return int(settle(whole))

    def __float__(self) -> float:
        if self.size != 1:
            raise TypeError("only length-1 arrays can be converted to Python scalars")
        if self.node.active:
            _refuse(
                "float() or a function of the math module takes a traced value out of the graph; "
                "use the NumPy function instead (np.sin for math.sin), and to fill an array, "
                "make it with np.zeros_like(x) or np.stack"
            )
        return float(settle(self))

    def __complex__(self) -> complex:
        _refuse("complex() takes a traced value out of the graph; work with real parts")

    def __hash__(self) -> int:
        if self.node.active:
            _refuse(
                "a traced value was hashed (used as a dict key, in a set, or by lru_cache); "
                "its derivative would be lost"
            )
        return hash(settle(self))

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        _refuse("a traced value cannot be pickled or sent to another process")

    def __copy__(self) -> Traced:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Traced:
        return self.copy()

    def __round__(self, digits: int | None = None) -> Any:
        return int(np.round(self)) if digits is None else np.round(self, digits)

    def __floor__(self) -> int:
        return int(np.floor(self))

    def __ceil__(self) -> int:
        return int(np.ceil(self))

    def __trunc__(self) -> int:
        return int(np.trunc(self))

    def item(self, *index: Any) -> Any:
        if index:
            return self.reshape(-1)[index[0]] if len(index) == 1 else self[index]
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.reshape(-1)[0]

    def tolist(self) -> Any:
        return [entry.tolist() for entry in self] if self.ndim else self.item()

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
        return rows.index(self, index=index)

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self == value))

    def __repr__(self) -> str:
        return f"Traced({concrete(self._node.value)!r})"

    def __format__(self, spec: str) -> str:
        return f"Traced({format(concrete(self._node.value), spec)})"

    # ------------------------------------------------------------------ array attributes

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(concrete(self._node.value))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.asarray(concrete(self._node.value)).dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.size(concrete(self._node.value)))

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def T(self) -> Any:  # noqa: N802
        return np.transpose(self)

    @property
    def mT(self) -> Any:  # noqa: N802
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> Traced:
        return self

    @property
    def imag(self) -> Any:
        return np.zeros_like(self)

    # ------------------------------------------------------------------ copies and in-place methods

    def copy(self, order: Any = "C") -> Traced:
        return Traced(self.recorder, self.node)

    def astype(self, dtype: Any, *arguments: Any, **options: Any) -> Any:
        kind = np.dtype(dtype)
        if kind.kind == "f":
            return rows.astype(self, dtype=kind)
        if kind.kind in "iub":
            return rows.to_integer(self, dtype=kind)
        _refuse(f".astype({kind}) takes a traced value out of the real numbers")

    def fill(self, value: Any) -> None:
        self[...] = value

    def lift(self, array: Any) -> Traced:
        """A constant as a traced array beside this one, so that it can be written into."""
        return Traced(self.recorder, self.recorder.constant(array))

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        self._assign(np.sort(self, axis=axis, kind=kind))


def _as_array(traced: Traced, dtype: Any = None, copy: Any = None) -> Any:
    return np.array(settle(traced), dtype=dtype)


def _unknown(name: str) -> str:
    return (
        f"{name} is not in diffkit's table of primitives; write it in terms of supported NumPy "
        "functions, or use backend='finite'"
    )


def _called(function: Any, name: str, arguments: Any, options: Any) -> Any:
    """Call what stands for a NumPy function; an argument that it does not take is refused."""
    try:
        return function(*arguments, **options)
    except TypeError as error:
        inside = error.__traceback__ and error.__traceback__.tb_next
        if inside and (inside.tb_next or inside.tb_frame.f_code is not Primitive.__call__.__code__):
            raise
        _refuse(
            f"{name} was called in a way that diffkit does not support: {error}",
            UnsupportedOperation,
        )


def _stored(result: Any, out: tuple[Any, ...]) -> Any:
    """Write a result to where `out=` (or an in-place operator) wants it."""
    if len(out) != 1 or not is_traced(out[0]):
        _refuse(
            "a traced value was written into an ordinary array (out=, or `a += t` where a is "
            "not traced); write `a = a + t`, or make the array with np.zeros_like(x)"
        )
    out[0]._assign(result)
    return out[0]
