"""What a function computed: primitives, the nodes that applied them, and the guards.

A `Primitive` is one row of the table in `tracing.primitives`: a NumPy computation, its
pullback, its SymPy counterpart and its arbitrary-precision counterpart. A `Graph` is the list
of nodes in the order in which the function computed them; it can be evaluated again at
another point of the same layout for as long as its guards hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from diffkit.errors import UnsupportedOperation
from diffkit.structure import Layout, Leaves, concrete, is_traced
from diffkit.tracing.locations import Location, Place, located
from diffkit.tracing.refusals import refuse

Rule = Callable[..., Any]


@dataclass(frozen=True)
class Missing:
    """Why a row has nothing in a column."""

    reason: str


@dataclass(frozen=True)
class Same:
    """The NumPy function itself works on object arrays of the other kind of number."""


SAME: Final = Same()
Column = Rule | str | Same | Missing


@dataclass(frozen=True, eq=False)
class Primitive:
    """One row of the table.

    Attributes:
        name: unique in the table; the NumPy name where there is one.
        function: the value, `function(*arguments, **static)`, in plain NumPy.
        pullbacks: for each argument a rule `rule(g, y, *arguments, **static)` that returns its
            adjoint from `g`, the adjoint of the value `y`; None for an argument that has none.
            One rule in place of the tuple serves any number of arguments and takes the
            argument's position first. Rules are written in traceable NumPy, so derivatives
            nest; they ignore broadcasting, which the walker undoes.
        sympy: the counterpart on SymPy expressions, `rule(S, *arguments, **static)` with `S`
            the sympy module; a string names the function of `S`.
        exact: the counterpart on arbitrary-precision numbers, `rule(A, *arguments, **static)`
            with `A` the arithmetic; a string names the method of `A`.
        elementwise: whether it maps numbers to a number, broadcasting its arguments. The
            `sympy` and `exact` columns of such a row work on single numbers, those of the
            others on object arrays.
        movement: whether every entry of the value is an entry of the first argument, moved,
            or a constant; such a value may be a view.
        routes: whether the adjoint of an argument is made of entries of `g` alone, each kept,
            shared or dropped (movement, sums, choices): no local derivative can be infinite.
        adds: the pullback of a function of one argument in place, `adds(total, g, **static)`:
            it adds the adjoint to a plain array, where most entries of the adjoint are zero.
        differentiable: whether a derivative can flow through it at all.
    """

    name: str
    function: Rule
    pullbacks: Sequence[Rule | None] | Rule | Missing
    sympy: Column
    exact: Column
    elementwise: bool = False
    movement: bool = False
    routes: bool = False
    adds: Rule | None = None
    differentiable: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "differentiable", not isinstance(self.pullbacks, Missing))

    @property
    def called(self) -> str:
        """Its name as messages have it: `np.sin`, `scipy.special.erf`."""
        return self.name if self.name.startswith("scipy.") else f"np.{self.name}"

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *arguments: Any, **static: Any) -> Any:
        """Apply the primitive, recording it where an argument is traced."""
        trace = None
        for argument in arguments:
            if is_traced(argument):
                recorder = argument.recorder
                if trace is None or recorder.level > trace.level:
                    trace = recorder
            elif isinstance(argument, _REPACKED):
                arguments = tuple([as_operand(a) for a in arguments])
                trace = top_trace(arguments)
                break
        if trace is None:
            return self.function(*arguments, **static)
        return trace.record(self, arguments, static)

    def pull(self, position: int, g: Any, y: Any, arguments: Sequence[Any], static: Any) -> Any:
        """The adjoint of one argument, or None where none flows."""
        if isinstance(self.pullbacks, Missing):
            return None
        if callable(self.pullbacks):
            return self.pullbacks(position, g, y, *arguments, **static)
        rule = self.pullbacks[position]
        return None if rule is None else rule(g, y, *arguments, **static)


def top_trace(operands: Sequence[Any]) -> Any:
    """The innermost trace among the operands, or None if none is traced."""
    top = None
    for operand in operands:
        if is_traced(operand):
            recorder = operand.recorder
            if top is None or recorder.level > top.level:
                top = recorder
    return top


_REPACKED: Final = (list, tuple, np.ndarray)


def as_operand(value: Any) -> Any:
    """Re-pack what NumPy made of traced scalars (an object array, a list) as one traced array."""
    if isinstance(value, (list, tuple)):
        value = np.array(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return pack(value)
    return value


PACK_LIMIT: Final = 10_000


def pack(array: np.ndarray[Any, np.dtype[Any]]) -> Any:
    """Join an object array of traced scalars and numbers to one traced array.

    Raises:
        UnsupportedOperation: it holds something else, or more than `PACK_LIMIT` entries.
    """
    from diffkit.tracing.primitives.shapes import stack_scalars

    entries = list(array.flat)
    if any(not is_traced(e) and not isinstance(e, (int, float, np.number)) for e in entries):
        refuse(
            "an object array was used; only arrays of numbers can be differentiated through",
            UnsupportedOperation,
        )
    if len(entries) > PACK_LIMIT:
        refuse(
            f"an array of {len(entries)} separate traced scalars was built (the limit is "
            f"{PACK_LIMIT}); fill np.zeros_like(x) or use np.stack instead",
            UnsupportedOperation,
        )
    return stack_scalars(*entries, shape=array.shape)


class Node:
    """One value of the graph.

    Attributes:
        primitive: what computed it; None for an input, data or a constant.
        inputs: the nodes of its arguments.
        static: the keyword arguments, which are not differentiated.
        value: the value when it was recorded (see `Graph.forget_values`).
        active: whether a derivative by `x` can flow through it.
        depends: whether its value depends on `x` at all (a comparison does, inactively).
        place: the instruction of the user's code; None where nobody will ask for it.
        index: its place in `Graph.nodes`.
    """

    __slots__ = ("active", "depends", "index", "inputs", "place", "primitive", "static", "value")

    index: int

    def __init__(
        self,
        primitive: Primitive | None,
        inputs: tuple[Node, ...],
        static: Mapping[str, Any],
        value: Any,
        active: bool,
        depends: bool,
        place: Place | None = None,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.static = static
        self.value = value
        self.active = active
        self.depends = depends
        self.place = place

    def with_primitive(self, primitive: Primitive) -> Node:
        """The same node, computed by another primitive."""
        node = Node(
            primitive,
            self.inputs,
            self.static,
            self.value,
            self.active,
            self.depends,
            self.place,
        )
        node.index = self.index
        return node

    @property
    def location(self) -> Location | None:
        """The line of the user's code."""
        return None if self.place is None else located(self.place)

    def __repr__(self) -> str:
        name = self.primitive.name if self.primitive else "value"
        arguments = ", ".join(f"%{node.index}" for node in self.inputs)
        return f"%{self.index} = {name}({arguments})"


@dataclass(frozen=True)
class Guard:
    """A value that the course of the function depended on, and what it was."""

    node: Node
    expected: Any
    location: Location | None

    def holds(self, value: Any) -> bool:
        return same_value(concrete(value), self.expected)


def same_value(a: Any, b: Any) -> bool:
    """Whether two plain values are the same: in shape, every entry (NaN as NaN) and every sign."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype == b.dtype == np.float64:
        if not a.shape:
            a, b = a.item(), b.item()
            same = a == b or (a != a and b != b)
            return same and math.copysign(1, a) == math.copysign(1, b)
        if (a.view(np.int64) == b.view(np.int64)).all():
            return True
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    return bool(
        np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))
    )


def watch(value: Any, location: Location | None) -> None:
    """Add a guard on a traced value to the recording it belongs to, at every level."""
    while is_traced(value):
        node = value.node
        if value.recorder.kept:
            value.recorder.guards.append(Guard(node, concrete(node.value), location))
        value = node.value


class GuardFailed(Exception):
    """A recorded program does not hold at this point; it must be recorded again."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(f"the outcome at {guard.location} differs")
        self.guard = guard


def _again(node: Node, arguments: list[Any]) -> Any:
    """A node computed elsewhere, where the function may handle that it has no value."""
    assert node.primitive is not None
    try:
        return node.primitive(*arguments, **node.static)
    except np.linalg.LinAlgError:
        raise GuardFailed(Guard(node, concrete(node.value), node.location)) from None


@dataclass
class Graph:
    """A recorded computation.

    Attributes:
        nodes: every node, each after its inputs.
        inputs: the nodes of the leaves of `x`, in the order of `layout`.
        data: the nodes of the numeric leaves of the data arguments.
        layout: the layout of `x`.
        outputs: the nodes of the leaves of what the function returned.
        output_layout: their layout.
        guards: the outcomes on which the course of the function depended, in order.
    """

    nodes: list[Node]
    inputs: list[Node]
    data: list[Node]
    layout: Layout
    outputs: list[Node]
    output_layout: Layout
    guards: list[Guard] = field(default_factory=list)

    @property
    def operations(self) -> int:
        """How many operations the outputs take; what only guards need is not counted."""
        needed = {node.index for node in self.outputs}
        count = 0
        for node in reversed(self.nodes):
            if node.index in needed and node.primitive is not None:
                count += 1
                needed.update(source.index for source in node.inputs)
        return count

    def evaluate(self, leaves: Leaves, data: Leaves) -> list[Any]:
        """The value of every node at another point, by index.

        Raises:
            GuardFailed: an outcome that the recording depended on differs there.
        """
        values: list[Any] = [node.value for node in self.nodes]
        for node, value in zip(self.inputs, leaves, strict=True):
            values[node.index] = value
        for node, value in zip(self.data, data, strict=True):
            values[node.index] = value
        guards = self.guards_by_node()
        with np.errstate(all="ignore"):  # what is not finite shows in the result
            for node in self.nodes:
                if node.primitive is not None:
                    arguments = [values[i.index] for i in node.inputs]
                    values[node.index] = _again(node, arguments)
                for guard in guards.get(node.index, ()):
                    if not guard.holds(values[node.index]):
                        raise GuardFailed(guard)
                    # Evaluated inside another recording, that one depends on the outcome too.
                    watch(values[node.index], guard.location)
        return values

    def forget_values(self) -> None:
        """Let go of the memory of all that `evaluate` computes or is given anew.

        What stands for an array has its shape and dtype, and no memory.
        """
        given = {node.index for node in (*self.inputs, *self.data)}
        for node in self.nodes:
            value = node.value
            renewed = node.primitive is not None or node.index in given
            if renewed and isinstance(value, np.ndarray):
                node.value = np.broadcast_to(np.zeros((), value.dtype), value.shape)

    def guards_by_node(self) -> dict[int, list[Guard]]:
        """The guards on each node, by its index."""
        table: dict[int, list[Guard]] = {}
        for guard in self.guards:
            table.setdefault(guard.node.index, []).append(guard)
        return table


def scalar_operations(graph: Graph) -> int:
    """Return about how many operations on single numbers a graph takes."""
    total = 0
    for node in graph.nodes:
        if node.primitive is None:
            continue
        size = float(np.size(node.value))
        sizes = [float(np.size(source.value)) for source in node.inputs]
        if not node.primitive.elementwise and len(sizes) == 2:
            total += int(max(*sizes, np.sqrt(sizes[0] * sizes[1] * size)))
        else:
            total += int(max([size, *sizes]))
    return total
