"""Sections on computational graphs, of the chapter `networks`."""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np

from diffkit.errors import KinkWarning
from diffkit.graphs import ComputationalGraph, computational_graph
from diffkit.graphs.wording import quantity
from diffkit.nn import small_alexnet, small_resnet
from diffkit.nn.network import Network
from diffkit.nn.zoo import network
from diffkit.reporting.graph_drawing import drawn
from diffkit.reporting.page import Cell, Picture, Section, Table

COLUMNS: Final = ("graph", "node", "formula", "value", "tangent", "adjoint")


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


def networks() -> Section:
    """Return the section on graphs of networks, in full and layer by layer."""
    case = network("mazur")
    images, labels = _images()
    graphs = {
        "a two-layer network": computational_graph(case.loss, case.parameters, *case.data),
        "AlexNet in small": _by_layer(small_alexnet(1, 16, 4), images, labels),
        "ResNet in small": _by_layer(small_resnet(1, 4), images, labels),
    }
    return Section(
        "Graphs of networks",
        (
            "In full even a network of two layers is a long graph (the 2-2-2 network of M. "
            "Mazur's example, 2015). Collapsed, each layer is one box, its parameters within it: "
            "a chain for networks after AlexNet, with shortcuts around blocks after ResNet. A "
            "shortcut carries the adjoint past the block unchanged, which is why such networks "
            "can be deep.",
        ),
        Picture(
            "networks-layers",
            "Dashed: data, to which no derivative flows. The norms of adjoints are for the first "
            "step of training.",
            "Three graphs drawn from top to bottom: a two-layer network operation by operation, "
            "a chain of eleven layers, and a network with shortcuts.",
            _panels(graphs),
        ),
        _trace("networks-layers-trace", {k: g for k, g in graphs.items() if "small" in k}),
        _uses("networks-layers", graphs),
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
    rows: list[tuple[Cell, ...]] = [
        (title, node.name, node.formula, *map(quantity, (node.value, node.tangent, node.adjoint)))
        for title, graph in graphs.items()
        for node in graph.nodes
    ]
    return Table(name, "Every node, arguments first.", COLUMNS, tuple(rows))


def _uses(name: str, graphs: dict[str, ComputationalGraph]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (title, edge.source, edge.target, edge.position, quantity(edge.adjoint))
        for title, graph in graphs.items()
        for edge in graph.edges
    ]
    columns = ("graph", "from", "to", "argument", "adjoint carried")
    return Table(name, "Every edge, with the adjoint that it carries.", columns, tuple(rows))
