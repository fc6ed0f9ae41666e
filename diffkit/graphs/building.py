"""From a function to its graph: what the tracer recorded, with adjoints by the tape.

The adjoint along an edge is the derivative of the output by a number added there. So the
recording is run again with such a number added to every argument of every operation, and its
pullback by those is taken through the operators that everybody uses.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from diffkit.callers import warn_user
from diffkit.errors import InvalidInput, KinkWarning
from diffkit.expressions import Expression
from diffkit.graphs.definition import ComputationalGraph, Edge, Node, depths, in_order
from diffkit.graphs.layers import LOSS, Spans, marked
from diffkit.graphs.wording import formula, literal
from diffkit.operators import jvp, vjp
from diffkit.structure import Leaves
from diffkit.target import Function, Point, Target, point_of, warn_of_reservation
from diffkit.tracing.graph import Graph
from diffkit.tracing.graph import Node as Recorded
from diffkit.tracing.recording import is_data, record

Place = tuple[int, int]
"""An argument of an operation: the operation's index, and which argument it is."""


def computational_graph(
    f: Function,
    *arguments: Any,
    wrt: int | tuple[int, ...] = 0,
    cotangent: Any = None,
    tangent: Any = None,
) -> ComputationalGraph:
    """Return the graph of what `f` computes, with primal values, adjoints and tangents.

    Args:
        f: a plain NumPy function, or the `loss` or `predict` of a network, whose graph can be
            collapsed by layer.
        arguments: the positional arguments of `f`.
        wrt: the position or positions of the arguments that adjoints are for.
        cotangent: the adjoint of the output, in its structure; 1 for an output of one number.
        tangent: a direction, in the structure of `x`; tangents of all values are given along it.

    Raises:
        InvalidInput: the output is not one number and there is no cotangent, or a direction is
            not laid out like what it belongs to.
        TracingError: `f` does what cannot be recorded.

    Warns:
        KinkWarning: `f` bends or jumps at the point; equal shares of subgradients are shown.
    """
    warn_of_reservation(f)
    function, spans = marked(f)
    target = Target(function, wrt)
    point = point_of(target, arguments)
    graph = record(target, point)
    needed = _needed(graph)
    seed = _seed(graph, cotangent, target.name)
    with _kinks_of(target.name):
        contributions, adjoints = _adjoints(graph, needed, seed)
        tangents = {} if tangent is None else _tangents(graph, point, needed, tangent)
    names = _argument_names(f, graph, point, arguments, wrt)
    _name_operations(graph, needed, names)
    return _assembled(graph, needed, names, spans, contributions, adjoints, tangents, target.name)


def _assembled(
    graph: Graph,
    needed: list[Recorded],
    names: dict[int, str],
    spans: Spans | None,
    contributions: dict[Place, Any],
    adjoints: dict[int, Any],
    tangents: dict[int, Any],
    title: str,
) -> ComputationalGraph:
    outputs = {node.index for node in graph.outputs}
    groups = _groups(graph, needed, names, spans)
    nodes = tuple(
        Node(
            name=names[n.index],
            kind=_kind(graph, n),
            operation=n.primitive.name if n.primitive else "",
            formula=_formula(n, names),
            value=n.value,
            adjoint=adjoints.get(n.index),
            tangent=tangents.get(n.index),
            group=groups.get(n.index, ""),
            output=n.index in outputs,
        )
        for n in needed
        if n.index in names
    )
    edges = tuple(
        Edge(names[source.index], names[n.index], k, contributions.get((n.index, k)))
        for n in needed
        for k, source in enumerate(n.inputs)
        if source.index in names
    )
    used = {node.group for node in nodes}
    labels = () if spans is None else tuple(spans.labels.items())
    layers = tuple((name, label) for name, label in labels if name in used)
    return ComputationalGraph(title, in_order(nodes, edges), edges, layers)


def _needed(graph: Graph) -> list[Recorded]:
    """The arguments, and all nodes that the outputs are computed from."""
    wanted = {node.index for node in (*graph.outputs, *graph.inputs)}
    for node in reversed(graph.nodes):
        if node.index in wanted:
            wanted.update(source.index for source in node.inputs)
    return [node for node in graph.nodes if node.index in wanted]


def _kind(graph: Graph, node: Recorded) -> str:
    if node.primitive is not None:
        return "operation"
    if any(node is one for one in graph.inputs):
        return "input"
    return "data" if any(node is one for one in graph.data) else "constant"


# ---------------------------------------------------------------------- adjoints and tangents


def _seed(graph: Graph, cotangent: Any, name: str) -> Leaves:
    layout = graph.output_layout
    if cotangent is not None:
        return layout.cast(layout.flatten(cotangent, "cotangent"))
    if not layout.is_scalar:
        raise InvalidInput(
            f"{name} returns {layout.summary()}, so that adjoints are of no single number; give "
            "cotangent=, the adjoint of its output"
        )
    return layout.cast([np.ones(())])


@contextmanager
def _kinks_of(name: str) -> Iterator[None]:
    """Say once, and of the user's function, that it bends at the point."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if any(issubclass(warning.category, KinkWarning) for warning in caught):
        warn_user(
            f"{name} bends at this point, so that it has no derivative there; the adjoints shown "
            "are those of the subgradient that shares ties equally",
            KinkWarning,
        )


def _adjoints(
    graph: Graph, needed: list[Recorded], seed: Leaves
) -> tuple[dict[Place, Any], dict[int, Any]]:
    """What each use of a value adds to its adjoint, and the adjoints themselves."""
    places = [
        (node.index, k) for node in needed for k, source in enumerate(node.inputs) if source.active
    ]
    by_index = {node.index: node for node in needed}
    # -0 rather than 0: adding it changes nothing, not even the sign of a zero.
    offsets = [_filled(by_index[index].inputs[k].value, -0.0) for index, k in places]
    numbers = {place: i for i, place in enumerate(places)}

    def shifted(offsets: Leaves) -> Leaves:
        def argument(node: Recorded, k: int, value: Any) -> Any:
            i = numbers.get((node.index, k))
            return value if i is None else value + offsets[i]

        values = _run(graph, needed, {}, argument)
        return [values[node.index] for node in graph.outputs]

    pulled = vjp(shifted, offsets, seed) if offsets else []
    contributions = dict(zip(places, pulled, strict=True))
    adjoints: dict[int, Any] = {}
    for node, w in zip(graph.outputs, seed, strict=True):
        if node.active:
            adjoints[node.index] = adjoints.get(node.index, 0) + w
    for (index, k), adjoint in contributions.items():
        source = by_index[index].inputs[k].index
        adjoints[source] = adjoints.get(source, 0) + adjoint
    unused = {n.index: _filled(n.value, 0.0) for n in needed if n.active}
    return contributions, unused | adjoints


def _tangents(graph: Graph, point: Point, needed: list[Recorded], tangent: Any) -> dict[int, Any]:
    """The derivative of every value along a direction."""
    active = [node for node in needed if node.active]
    leaves = point.layout.cast(point.leaves)
    direction = point.layout.cast(point.layout.flatten(tangent, "tangent"))

    def every(leaves: Leaves) -> Leaves:
        given = {node.index: leaf for node, leaf in zip(graph.inputs, leaves, strict=True)}
        values = _run(graph, needed, given, lambda node, k, value: value)
        return [values[node.index] for node in active]

    found = jvp(every, leaves, direction) if active else []
    return {node.index: value for node, value in zip(active, found, strict=True)}


def _run(
    graph: Graph,
    needed: list[Recorded],
    given: dict[int, Any],
    argument: Callable[[Recorded, int, Any], Any],
) -> dict[int, Any]:
    """The values of the nodes, with some given and every argument passed through a function."""
    values = {node.index: node.value for node in needed} | given
    for node in needed:
        if node.primitive is not None:
            taken = [argument(node, k, values[i.index]) for k, i in enumerate(node.inputs)]
            values[node.index] = node.primitive(*taken, **node.static)
    return values


def _filled(value: Any, number: float) -> Any:
    filled = np.full_like(value, number)
    return filled if isinstance(value, np.ndarray) else filled[()]


# ---------------------------------------------------------------------- names


def _argument_names(
    f: Function,
    graph: Graph,
    point: Point,
    arguments: tuple[Any, ...],
    wrt: int | tuple[int, ...],
) -> dict[int, str]:
    """What the arguments are called in the signature of `f`, and their leaves after that."""
    own = _signature(f, len(arguments))
    positions = wrt if isinstance(wrt, tuple) else (wrt,)
    found: list[tuple[Recorded, str]] = []
    names = [leaf.name for leaf in point.layout.leaves]
    container = point.layout.nesting.container
    whole = container is None or not issubclass(container, dict)  # which names its own leaves
    for node, name in zip(graph.inputs, names, strict=True):
        if isinstance(wrt, tuple):
            for i, position in enumerate(positions):
                if name == f"x[{i}]" or name.startswith((f"x[{i}].", f"x[{i}][")):
                    name = own[position] + name[len(f"x[{i}]") :]
                    break
        elif whole and (name == "x" or name.startswith("x[")):
            name = own[wrt] + name[1:]
        found.append((node, name))
    data = [(own[i], a) for i, a in enumerate(arguments) if i not in positions]
    leaves = [name for start, argument in data for name in _data_names(start, argument)]
    found += zip(graph.data, leaves, strict=True)
    taken: set[str] = set()
    result: dict[int, str] = {}
    for node, name in found:
        while name in taken:
            name += "'"
        taken.add(name)
        result[node.index] = name
    return result


def _signature(f: Function, count: int) -> list[str]:
    """Names for the positional arguments."""
    if isinstance(f, Expression):
        return list(f.variables) if len(f.variables) == 1 else ["x"]
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in positional][:count]
    return names + [f"argument{i}" for i in range(len(names) + 1, count + 1)]


def _data_names(name: str, value: Any) -> Iterator[str]:
    """The names of the numeric leaves of a data argument, in the order of recording."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _data_names(f"{name}.{key}", member)
    elif isinstance(value, (list, tuple)):
        for i, member in enumerate(value):
            yield from _data_names(f"{name}[{i}]", member)
    elif is_data(value):
        yield name


def _name_operations(graph: Graph, needed: list[Recorded], names: dict[int, str]) -> None:
    """Add v1, v2, ... for the operations by depth; constants are written out where used."""
    constants = {n.index for n in needed if n.primitive is None and n.index not in names}
    outputs = {node.index for node in graph.outputs}
    edges = [
        Edge(str(source.index), str(node.index), k)
        for node in needed
        for k, source in enumerate(node.inputs)
    ]
    levels = depths([str(node.index) for node in needed], edges)
    order = sorted(needed, key=lambda node: (levels[str(node.index)], node.index))
    taken = set(names.values())
    number = 0
    for node in order:
        if node.index in names or (node.index in constants and node.index not in outputs):
            continue
        number += 1
        while f"v{number}" in taken:
            number += 1
        names[node.index] = f"v{number}"


def _formula(node: Recorded, names: dict[int, str]) -> str:
    if node.primitive is None:
        return ""
    arguments = [names.get(i.index) or literal(i.value) for i in node.inputs]
    return formula(node.primitive.name, arguments, node.static)


def _groups(
    graph: Graph, needed: Sequence[Recorded], names: dict[int, str], spans: Spans | None
) -> dict[int, str]:
    """The layer of each operation, and of each parameter by its name."""
    if spans is None:
        return {}
    inputs = {node.index for node in graph.inputs}
    groups = {}
    for node in needed:
        if node.index in inputs:
            groups[node.index] = names[node.index].rpartition(".")[0]
        elif node.primitive is not None:
            groups[node.index] = spans.group(node.index) or LOSS
    return groups
