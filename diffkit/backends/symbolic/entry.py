"""The fast way into a derivative: one generated function from arguments to results.

It declines, by returning None, wherever something is not as it was recorded or a number is not
finite; the general way then finds out why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from diffkit.backends.symbolic.course import Course
from diffkit.backends.symbolic.orders import is_tied
from diffkit.structure import Layout
from diffkit.tracing.generated import Lines
from diffkit.tracing.graph import Node


class Body(Protocol):
    """What a form computes from the leaves of `x` and the values of bound nodes.

    Attributes:
        number: what turns a double into the number that is computed with.
        bound: the nodes whose values are read.
        names: what the lines refer to.
    """

    @property
    def number(self) -> str: ...

    @property
    def bound(self) -> Sequence[int]: ...

    @property
    def names(self) -> dict[str, Any]: ...

    def write(self, lines: Lines, x: Sequence[str], bound: Sequence[str]) -> Results:
        """Add the lines that compute, given the names of what is read."""
        ...


@dataclass(frozen=True)
class Results:
    """Names of what the lines have computed.

    Attributes:
        value: of the leaves of the value of the function; None where `f` is to be asked.
        derivative: of the leaves of the derivative.
        watched: names of what must be finite, and whether each is an array.
    """

    value: list[str] | None
    derivative: list[str]
    watched: list[tuple[str, bool]]


@dataclass(frozen=True)
class Entry:
    """A compiled way from the arguments to a derivative.

    Attributes:
        run: from `x` and the data to the pair (value or None, derivative), or None.
        source: what was compiled.
        course: what it is valid for.
    """

    run: Callable[[Any, tuple[Any, ...]], Any]
    source: str
    course: Course


def compiled_entry(course: Course, body: Body, like: Layout) -> Entry | None:
    """Compile the way to a derivative in the structure of `like`.

    None where values would have to be converted: the general way does that.
    """
    graph = course.graph
    if any(leaf.dtype != course.dtype for leaf in (*graph.layout.leaves, *like.leaves)):
        return None
    lines = Lines()
    lines.names.update(body.names)
    names = {node.index: f"x{i}" for i, node in enumerate(graph.inputs)}
    leaves = zip(graph.layout.leaves, (n.value for n in graph.inputs), names.values(), strict=True)
    lines.take_apart("x", graph.layout.nesting, iter(list(leaves)), body.number)
    data = {node.index: f"d{i}" for i, node in enumerate(graph.data)}
    lines.take_data("data", course.point.data, iter(data.values()))
    names |= data
    guarded = [guard.node.index for guard in graph.guards]
    dependent = _dependent(course)
    for node in course.needed([*guarded, *body.bound]):
        _write_node(lines, course, node, names, dependent)
    inputs = [names[node.index] for node in graph.inputs]
    results = body.write(lines, inputs, [names[index] for index in body.bound])
    arrays = [bool(leaf.shape) for leaf in graph.layout.leaves]
    lines.require_finite([*zip(inputs, arrays, strict=True), *results.watched])
    value = "None"
    if results.value is not None:
        value = lines.put_together(graph.output_layout.nesting, iter(results.value))
    derivative = lines.put_together(like.nesting, iter(results.derivative))
    run, source = lines.built(f"({value}, {derivative})")
    return Entry(run, source, course)


def _write_node(
    lines: Lines, course: Course, node: Node, names: dict[int, str], dependent: set[int]
) -> None:
    """A line that computes a node as it was recorded, and its guards."""
    if node.index not in names:
        names[node.index] = name = f"n{node.index}"
        arguments = [names[i.index] for i in node.inputs]
        if node.primitive is None or node.index not in dependent:
            lines.names[name] = node.value
        else:
            function, static = node.primitive.function, node.static
            call = lines.constant(partial(function, **static) if static else function)
            lines.add(f"{name} = {call}({', '.join(arguments)})")
    if node in course.orderings:
        compared = ", ".join(names[i.index] for i in node.inputs)
        lines.require(f"not {lines.constant(partial(is_tied, node))}({compared})")
    for guard in course.guards.get(node.index, ()):
        expected = np.asarray(guard.expected)
        if expected.shape == () and expected.dtype == bool:
            lines.require(names[node.index] if expected else f"not {names[node.index]}")
        else:
            kept = lines.constant(guard.expected)
            lines.require(f"same_value({names[node.index]}, {kept})")


def _dependent(course: Course) -> set[int]:
    """The nodes whose values depend on `x` or on data."""
    found = {node.index for node in (*course.graph.inputs, *course.graph.data)}
    for node in course.graph.nodes:
        if not found.isdisjoint(i.index for i in node.inputs):
            found.add(node.index)
    return found
