"""What a computational graph is: values at nodes, adjoints at nodes and edges, as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from diffkit.display import Display, Displayed, to_json
from diffkit.errors import InvalidInput
from diffkit.graphs.wording import quantity

FORMAT: Final = 1  # of the JSON


@dataclass(frozen=True, eq=False)
class Node:
    """One value of the computation, or a layer that stands for several.

    Attributes:
        name: unique in the graph: that of an argument, or v1, v2, ...
        kind: `input` (differentiated), `data`, `constant`, `operation` or `layer`.
        operation: the primitive, or the layer's type; empty for what is not computed.
        formula: what computes it from its sources, in Python's notation; for a layer what it is.
        value: its primal value; that of the last operation, for a layer.
        adjoint: the derivative of the output by it, in the shape of the value; None where no
            derivative flows.
        tangent: its derivative along the direction that was given; None without one.
        group: the layer that it is part of; empty for none.
        members: the names of the nodes that a layer stands for.
        output: whether it is (a leaf of) what the function returns.
    """

    name: str
    kind: str
    operation: str
    formula: str
    value: Any
    adjoint: Any = None
    tangent: Any = None
    group: str = ""
    members: tuple[str, ...] = ()
    output: bool = False


@dataclass(frozen=True, eq=False)
class Edge:
    """One use of a value as an argument.

    Attributes:
        source, target: names of nodes.
        position: which argument of the target it is.
        adjoint: what this use adds to the adjoint of the source; None where nothing flows.
    """

    source: str
    target: str
    position: int
    adjoint: Any = None


@dataclass(frozen=True, eq=False)
class ComputationalGraph(Displayed):
    """The graph of a function at a point, each node after its sources.

    Attributes:
        name: of the function.
        nodes: arguments first, then operations by their depth.
        edges: by target, in the order of its arguments.
        layers: what each group is, by its name, from input to output; empty without layers.
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    layers: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, name: str) -> Node:
        """Return the node of that name.

        Raises:
            InvalidInput: there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise InvalidInput(f"the graph of {self.name} has no node {name!r}")

    def into(self, name: str) -> tuple[Edge, ...]:
        """Return the edges that end at a node, in the order of its arguments."""
        return tuple(edge for edge in self.edges if edge.target == name)

    def out_of(self, name: str) -> tuple[Edge, ...]:
        """Return the edges that begin at a node."""
        return tuple(edge for edge in self.edges if edge.source == name)

    def collapsed(self) -> ComputationalGraph:
        """Return the graph with every layer as one node, its parameters within it.

        Raises:
            InvalidInput: it has no layers, being that of no network, or is collapsed already.
        """
        if not any(node.group for node in self.nodes):
            raise InvalidInput(
                f"the graph of {self.name} has no layers to collapse; those of a network's loss "
                "and predict have"
            )
        return _collapsed(self)

    # ------------------------------------------------------------------ other forms

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists and numbers; arrays as dtype, shape and entries."""
        return {
            "format": FORMAT,
            "name": self.name,
            "nodes": [_node_to_dict(node) for node in self.nodes],
            "edges": [{**vars(edge), "adjoint": _pack(edge.adjoint)} for edge in self.edges],
            "layers": [list(layer) for layer in self.layers],
        }

    def to_json(self) -> str:
        """Return strict JSON."""
        return to_json(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> ComputationalGraph:
        """Return the graph that `to_json` wrote.

        Raises:
            InvalidInput: the text is not such a graph.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise InvalidInput(f"a graph of format {content['format']!r}, not {FORMAT}")
            return cls(
                content["name"],
                tuple(_node_from_dict(node) for node in content["nodes"]),
                tuple(Edge(**{**e, "adjoint": _unpack(e["adjoint"])}) for e in content["edges"]),
                tuple((name, text) for name, text in content["layers"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"this is not a graph as JSON: {error}") from error

    def to_dot(self) -> str:
        """Return the source of the graph for Graphviz."""
        from diffkit.graphs.formats import dot

        return dot(self)

    def to_mermaid(self) -> str:
        """Return the source of the graph for Mermaid."""
        from diffkit.graphs.formats import mermaid

        return mermaid(self)

    def to_svg(self) -> str:
        """Return the graph drawn, as notebooks show it; `dk.draw` does so by Matplotlib."""
        from diffkit.graphs.formats import svg

        return svg(self)

    def _repr_html_(self) -> str:
        from diffkit.graphs.layout import MOST_BOXES

        drawing = self.to_svg() if len(self.nodes) <= MOST_BOXES else ""
        return f"{drawing}{super()._repr_html_()}"

    def _display(self) -> Display:
        with_tangents = any(node.tangent is not None for node in self.nodes)
        rows = tuple(_row(node, with_tangents) for node in self.nodes)
        tangent = ("tangent",) if with_tangents else ()
        columns = ("node", "formula", "value", *tangent, "adjoint")
        operations = sum(node.kind not in ("input", "data", "constant") for node in self.nodes)
        kind = "layers" if any(node.kind == "layer" for node in self.nodes) else "operations"
        return Display((f"{self.name}: {operations} {kind}",), columns, rows, left=2)


def _row(node: Node, with_tangents: bool) -> tuple[str, ...]:
    tangent = (quantity(node.tangent),) if with_tangents else ()
    mark = " (output)" if node.output else ""
    return (node.name + mark, node.formula, quantity(node.value), *tangent, quantity(node.adjoint))


# ---------------------------------------------------------------------- layers as single nodes


def _collapsed(graph: ComputationalGraph) -> ComputationalGraph:
    home = {node.name: node.group or node.name for node in graph.nodes}
    leaving = {edge.source for edge in graph.edges if home[edge.source] != home[edge.target]}
    groups: dict[str, list[Node]] = {}
    for node in graph.nodes:
        groups.setdefault(home[node.name], []).append(node)
    labels, edges = dict(graph.layers), _joined(graph.edges, home)
    nodes = [
        _layer(name, labels[name], inside, leaving) if name in labels else inside[0]
        for name, inside in groups.items()
    ]
    return replace(graph, nodes=in_order(nodes, edges), edges=edges)


def _layer(name: str, label: str, inside: list[Node], leaving: set[str]) -> Node:
    """One node for a layer: its value is the last one that leaves it."""
    computed = [node for node in inside if node.kind == "operation"]
    last = [node for node in computed if node.name in leaving or node.output][-1]
    return replace(
        last,
        name=name,
        kind="layer",
        operation="loss" if last.output and name == "loss" else label.split(" ")[0],
        formula=label,
        group="",
        members=tuple(node.name for node in inside),
        output=any(node.output for node in inside),
    )


def _joined(edges: Sequence[Edge], home: dict[str, str]) -> tuple[Edge, ...]:
    """The edges between groups, one for each value that passes, its contributions summed."""
    passing: dict[tuple[str, str], Edge] = {}
    for edge in edges:
        source, target = home[edge.source], home[edge.target]
        if source == target:
            continue
        known = passing.get((edge.source, target))
        if known is None:
            position = sum(e.target == target for e in passing.values())
            passing[edge.source, target] = Edge(source, target, position, edge.adjoint)
        elif edge.adjoint is not None:
            adjoint = edge.adjoint if known.adjoint is None else known.adjoint + edge.adjoint
            passing[edge.source, target] = replace(known, adjoint=adjoint)
    return tuple(passing.values())


def in_order(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[Node, ...]:
    """Return the nodes by depth, which is the longest way from an argument."""
    levels = depths([node.name for node in nodes], edges)
    return tuple(sorted(nodes, key=lambda node: (levels[node.name], node.kind == "constant")))


def depths(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Return for each node the number of edges on the longest way to it."""
    sources: dict[str, list[str]] = {name: [] for name in names}
    for edge in edges:
        sources[edge.target].append(edge.source)
    levels: dict[str, int] = {}
    waiting = list(reversed(names))
    while waiting:
        name = waiting[-1]
        missing = [source for source in sources[name] if source not in levels]
        if missing:
            waiting += missing
            continue
        levels[name] = 1 + max((levels[source] for source in sources[name]), default=-1)
        waiting.pop()
    return levels


# ---------------------------------------------------------------------- JSON


def _node_to_dict(node: Node) -> dict[str, Any]:
    packed = {key: _pack(getattr(node, key)) for key in ("value", "adjoint", "tangent")}
    return {**vars(node), **packed, "members": list(node.members)}


def _node_from_dict(content: dict[str, Any]) -> Node:
    arrays = {key: _unpack(content[key]) for key in ("value", "adjoint", "tangent")}
    return Node(**{**content, **arrays, "members": tuple(content["members"])})


def _pack(value: Any) -> Any:
    if value is None:
        return None
    array = np.asarray(value)
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape) if isinstance(value, np.ndarray) else None,
        "entries": array.ravel().tolist(),
    }


def _unpack(content: Any) -> Any:
    if content is None:
        return None
    entries = [float(e) if isinstance(e, str) else e for e in content["entries"]]
    array = np.array(entries, content["dtype"])
    return array[0] if content["shape"] is None else array.reshape(content["shape"])
