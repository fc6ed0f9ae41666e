"""Sections on computational graphs, of the chapter `networks`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from diffkit.errors import KinkWarning
from diffkit.graphs import ComputationalGraph, computational_graph
from diffkit.graphs.wording import quantity
from diffkit.nn import small_alexnet, small_resnet
from diffkit.nn.network import Network
from diffkit.nn.zoo import network
from diffkit.reporting.graph_drawing import drawn
from diffkit.reporting.page import Cell, Picture, Section, Table


def functions() -> Section:
    """Return the section on graphs of formulas, with their published traces."""
    graphs = {
        "f = (x + y) z": computational_graph(
            lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0, wrt=(0, 1, 2)
        ),
        "f = ln x₁ + x₁x₂ - sin x₂": computational_graph(
            survey, 2.0, 5.0, wrt=(0, 1), tangent=(1.0, 0.0)
        ),
        "Q = 3x³ + y²": computational_graph(
            lambda x, y: 3 * x**3 + y**2, np.array([2.0, 3.0]), np.array([6.0, 5.0]),
            wrt=(0, 1), cotangent=np.ones(2),
        ),
    }  # fmt: skip
    return Section(
        "Computational graphs",
        (
            "A function is recorded as a graph of elementary operations. Values go down it; "
            "adjoints, the derivatives of the output by each value, go up. Along an edge goes "
            "what one use of a value adds to its adjoint, and where several edges leave a value, "
            "their adjoints are summed.",
            "The second graph is the published trace of Baydin et al. (JMLR 18(153), 2018, "
            "Tables 2 and 3), with the tangents for the direction (1, 0); the third is that of "
            "the tutorial of torch.autograd, its output's adjoint (1, 1).",
        ),
        Picture(
            "networks-graphs",
            "Blue: arguments. Below a node's name its value, its tangent where there is one, and "
            "its adjoint. Beside an edge, the adjoint that it carries upwards.",
            "Three graphs drawn from top to bottom, arguments first, with values and adjoints "
            "written into the boxes.",
            _panels(graphs),
        ),
        _trace("networks-graphs-trace", graphs),
        _uses("networks-graphs", graphs),
    )


def in_full() -> Section:
    """Return the section on the graph of a network, operation by operation."""
    case = network("mazur")
    return _of_networks(
        "A network in full",
        "In full even a network of two layers is a long graph: the 2-2-2 network of M. Mazur's "
        "example (2015), with the numbers that he prints. The sigmoid is written as "
        "exp(-log(1 + exp(-z))), which does not overflow.",
        "networks-two-layers",
        "A graph drawn from top to bottom: a two-layer network operation by operation, with the "
        "weights entering from the left.",
        {"a two-layer network": computational_graph(case.loss, case.parameters, *case.data)},
    )


def by_layers() -> Section:
    """Return the section on graphs of deeper networks, layer by layer."""
    images, labels = _images()
    return _of_networks(
        "Networks by layers",
        "Collapsed, each layer is one box, its parameters within it: a chain for networks after "
        "AlexNet, with shortcuts around blocks after ResNet. A shortcut carries the adjoint past "
        "the block unchanged, which is why such networks can be deep.",
        "networks-layers",
        "Two graphs drawn from top to bottom: a chain of eleven layers, convolutions and pools "
        "first, and a network in which two edges pass by blocks of layers.",
        {
            "AlexNet in small": _by_layer(small_alexnet(1, 16, 4), images, labels),
            "ResNet in small": _by_layer(small_resnet(1, 4), images, labels),
        },
    )


def _of_networks(
    title: str, text: str, name: str, alt: str, graphs: dict[str, ComputationalGraph]
) -> Section:
    caption = (
        "Dashed: data, to which no derivative flows. Of larger arrays the norm is shown. The "
        "adjoints are those of the first step of training."
    )
    return Section(
        title,
        (text,),
        Picture(name, caption, alt, _panels(graphs)),
        _trace(f"{name}-trace", graphs),
        _uses(name, graphs),
    )


def survey(x1: Any, x2: Any) -> Any:
    """Return ln x1 + x1 x2 - sin x2."""
    return np.log(x1) + x1 * x2 - np.sin(x2)


def _images() -> tuple[Any, Any]:
    """Four images of stripes, upright and lying, thick and thin."""
    thin, thick = np.tile([1.0, -1.0], 8), np.tile([1.0, 1.0, -1.0, -1.0], 4)
    rows = [np.tile(v, (16, 1)) for v in (thin, thick)]
    return np.array([*rows, *(image.T for image in rows)])[:, None], np.eye(4)


def _by_layer(net: Network, X: Any, y: Any) -> ComputationalGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KinkWarning)  # pools of zeros that a rectifier put out
        return computational_graph(net.loss, net.initial(1), X, y).collapsed()


def _panels(graphs: dict[str, ComputationalGraph]) -> tuple[tuple[str, str], ...]:
    return tuple((name, drawn(graph).decode()) for name, graph in graphs.items())


def _trace(name: str, graphs: dict[str, ComputationalGraph]) -> Table:
    """Every node; the graph is named and tangents are shown where there are several, and some."""
    columns = ["graph", "node", "formula", "value", "tangent", "adjoint"]
    if len(graphs) == 1:
        columns.remove("graph")
    if all(node.tangent is None for graph in graphs.values() for node in graph.nodes):
        columns.remove("tangent")
    rows = []
    for title, graph in graphs.items():
        for node in graph.nodes:
            told = {"graph": title, "node": node.name, "formula": node.formula}
            told |= {
                part: quantity(getattr(node, part)) for part in ("value", "tangent", "adjoint")
            }
            rows.append(tuple(told[column] for column in columns))
    return Table(name, "Every node, arguments first.", tuple(columns), tuple(rows))


def _uses(name: str, graphs: dict[str, ComputationalGraph]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (title, edge.source, edge.target, edge.position, quantity(edge.adjoint))
        for title, graph in graphs.items()
        for edge in graph.edges
    ]
    columns = ("graph", "from", "to", "argument", "adjoint carried")
    return Table(name, "Every edge, with the adjoint that it carries.", columns, tuple(rows))
