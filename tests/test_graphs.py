"""Computational graphs: the published traces, every network, and drawings that can be read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import diffkit as dk
from diffkit import ComputationalGraph, computational_graph, gradient, jvp
from diffkit.cli import main
from diffkit.errors import InvalidInput, KinkWarning, UnsupportedOperation
from diffkit.graphs import formats
from diffkit.graphs.layers import describe
from diffkit.graphs.layout import FONT_SIZE, LABEL_SIZE, Box, label, layout, lines, spread
from diffkit.graphs.wording import formula, quantity
from diffkit.nn import (
    MEAN_SQUARED_ERROR,
    TANH,
    BatchNorm,
    Convolution,
    Dense,
    Dropout,
    Embedding,
    Maxout,
    Network,
    Penalty,
    Residual,
    elastic,
    small_alexnet,
    small_resnet,
)
from diffkit.nn.zoo import NETWORKS, network
from diffkit.reporting.graph_drawing import drawn
from diffkit.structure import flatten

IMAGES = np.random.default_rng(0).normal(size=(2, 1, 16, 16))
LABELS = np.array([1, 2])


def survey(x1: Any, x2: Any) -> Any:
    return np.log(x1) + x1 * x2 - np.sin(x2)


def loss_graph(net: Network, *data: Any) -> ComputationalGraph:
    return computational_graph(net.loss, net.initial(1), *data)


def by_name(graph: ComputationalGraph, attribute: str) -> dict[str, Any]:
    return {node.name: getattr(node, attribute) for node in graph.nodes}


# ---------------------------------------------------------------------- published traces


def test_a_product_of_a_sum() -> None:
    """f = (x + y) z at (-2, 5, -4), as lecturers draw it."""
    graph = computational_graph(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0, wrt=(0, 1, 2))
    assert by_name(graph, "value") == {"x": -2, "y": 5, "z": -4, "v1": 3, "v2": -12}
    assert by_name(graph, "adjoint") == {"x": -4, "y": -4, "z": 3, "v1": -4, "v2": 1}
    assert by_name(graph, "formula") == {
        "x": "", "y": "", "z": "", "v1": "x + y", "v2": "v1 * z",
    }  # fmt: skip
    assert [(e.source, e.target, e.position, e.adjoint) for e in graph.edges] == [
        ("x", "v1", 0, -4), ("y", "v1", 1, -4), ("v1", "v2", 0, -4), ("z", "v2", 1, 3),
    ]  # fmt: skip
    assert [node.name for node in graph.nodes if node.output] == ["v2"]


def test_the_trace_of_the_survey() -> None:
    """Baydin et al., JMLR 18(153), 2018, Tables 2 and 3: primals, tangents and adjoints."""
    graph = computational_graph(survey, 2.0, 5.0, wrt=(0, 1), tangent=(1.0, 0.0))
    values, tangents, adjoints = (by_name(graph, a) for a in ("value", "tangent", "adjoint"))
    names = ("v1", "v2", "v3", "v4", "v5")
    assert by_name(graph, "formula")["v3"] == "sin(x2)"
    assert [f"{values[n]:.3f}" for n in names] == ["0.693", "10.000", "-0.959", "10.693", "11.652"]
    assert [tangents[n] for n in names] == [0.5, 5, 0, 5.5, 5.5]
    assert [adjoints[n] for n in names] == [1, 1, -1, 1, 1]
    assert adjoints["x1"] == 5.5
    assert adjoints["x2"] == pytest.approx(1.716, abs=5e-4)
    contributions = [e.adjoint for e in graph.out_of("x2")]
    assert contributions == [2, pytest.approx(-np.cos(5), rel=1e-15)]


def test_a_vector_valued_function_takes_the_adjoint_of_its_output() -> None:
    """Q = 3x³ + y² at x = (2, 3), y = (6, 5), after the tutorial of torch.autograd."""

    def Q(x: Any, y: Any) -> Any:  # noqa: N802
        return 3 * x**3 + y**2

    point = (np.array([2.0, 3.0]), np.array([6.0, 5.0]))
    graph = computational_graph(Q, *point, wrt=(0, 1), cotangent=np.ones(2))
    np.testing.assert_array_equal(graph["x"].adjoint, [36, 81])
    np.testing.assert_array_equal(graph["y"].adjoint, [12, 10])
    with pytest.raises(InvalidInput, match="cotangent"):
        computational_graph(Q, *point)


def test_adjoints_meet_where_a_value_is_used_twice() -> None:
    graph = computational_graph(lambda x: x * x + np.sin(x), 0.7)
    assert len(graph.out_of("x")) == 3
    assert sum(e.adjoint for e in graph.out_of("x")) == graph["x"].adjoint
    assert [e.position for e in graph.into("v1")] == [0, 1]


# ---------------------------------------------------------------------- what they hold


def test_adjoints_have_the_shapes_of_values_with_broadcasting_undone() -> None:
    def f(p: Any, X: Any) -> Any:
        return np.sum(np.tanh(X @ p["W"] + p["b"]) ** 2)

    p = {"W": np.ones((3, 2)), "b": np.array([0.1, 0.2])}
    graph = computational_graph(f, p, np.arange(12.0).reshape(4, 3))
    want = gradient(f, p, np.arange(12.0).reshape(4, 3))
    for name, array in want.items():
        np.testing.assert_allclose(graph[name].adjoint, array, rtol=1e-14)
    assert graph["X"].kind == "data"
    assert graph["X"].adjoint is None
    for node in graph.nodes:
        assert node.adjoint is None or np.shape(node.adjoint) == np.shape(node.value)


def test_what_carries_no_derivative_has_no_adjoint() -> None:
    graph = computational_graph(lambda x, a: x * np.cos(a) + np.sign(x), 2.0, 0.3)
    assert graph["v1"].formula == "cos(a)"
    assert graph["v1"].adjoint is None
    unused = computational_graph(lambda p: 2 * p["a"], {"a": 1.0, "b": 3.0})
    assert unused["b"].adjoint == 0


def test_comparisons_that_only_chose_the_course_are_left_out() -> None:
    def f(x: Any) -> Any:
        return x**2 if x > 0 else -x

    assert [n.formula for n in computational_graph(f, 3.0).nodes] == ["", "x ** 2"]


def test_constants_are_written_into_formulas() -> None:
    matrix = np.eye(2)
    graph = computational_graph(lambda x: np.sum((matrix @ x)[0] * 3 - (-2)), np.ones(2))
    assert [n.formula for n in graph.nodes] == [
        "", "[2\N{MULTIPLICATION SIGN}2] @ x", "v1[0]", "v2 * 3", "v3 - (-2)", "sum(v4)",
    ]  # fmt: skip
    constant = computational_graph(lambda x: 5.0, 1.0)
    assert [(n.kind, n.output) for n in constant.nodes] == [("input", False), ("constant", True)]


@pytest.mark.filterwarnings("ignore::diffkit.KinkWarning")  # arctan2 jumps there
def test_a_negative_zero_keeps_its_sign() -> None:
    with pytest.warns(KinkWarning, match="<lambda> bends at this point"):
        graph = computational_graph(lambda x: np.copysign(1.0, x) * x**2, -0.0)
    assert str(graph.nodes[-1].value) == "-0.0"
    assert computational_graph(lambda x: np.arctan2(x, -1.0), -0.0).nodes[-1].adjoint == 1
    assert computational_graph(lambda x: 1 + 0 * np.arctan2(x, -1.0), -0.0)["v1"].value < 0


def test_a_key_x_is_not_taken_for_the_whole_argument() -> None:
    graph = computational_graph(lambda p: 3 * p["x"] ** 2 + p["y"], {"x": 2.0, "y": 1.0})
    assert [n.name for n in graph.nodes if n.kind == "input"] == ["x", "y"]
    pair = computational_graph(lambda p: p[0] * p[1], [2.0, 3.0])
    assert [n.name for n in pair.nodes if n.kind == "input"] == ["p[0]", "p[1]"]


def test_names_of_arguments_never_clash() -> None:
    graph = computational_graph(lambda p, v1: p["v1"] * v1, {"v1": 2.0}, 3.0)
    assert [n.name for n in graph.nodes] == ["v1", "v1'", "v2"]
    nested = computational_graph(
        lambda a, b: a[0] * b["k"][1], (2.0, 1.0), {"k": [1.0, 5.0]}, wrt=(0, 1)
    )
    assert {"a[0]", "b.k[1]"} <= {n.name for n in nested.nodes}
    data = computational_graph(lambda x, d: x * d["k"][1], 2.0, {"k": [1.0, 5.0]})
    assert "d.k[1]" in {n.name for n in data.nodes}
    starred = computational_graph(lambda *both: both[0] * both[1], 2.0, 3.0)
    assert [n.name for n in starred.nodes] == ["argument1", "argument2", "v1"]


@given(
    st.floats(0.1, 3), st.floats(-3, 3), st.tuples(st.floats(-2, 2), st.floats(-2, 2))
)  # fmt: skip
def test_adjoints_and_tangents_are_those_of_the_operators(a: float, b: float, v: Any) -> None:
    f = dk.parse("exp(sin(x)*y) / (1 + x**2) + log(x) * y")
    point, direction = {"x": a, "y": b}, {"x": v[0], "y": v[1]}
    graph = computational_graph(f, point, tangent=direction)
    want = gradient(f, point)
    for name in "xy":
        assert graph[name].adjoint == pytest.approx(want[name], rel=1e-12, abs=1e-14)
    along = jvp(f, point, direction)
    assert graph.nodes[-1].tangent == pytest.approx(along, rel=1e-12, abs=1e-13)
    # What flows through any level of the graph is the same number: the derivative along v.
    total = sum(graph[name].adjoint * direction[name] for name in "xy")
    assert total == pytest.approx(along, rel=1e-9, abs=1e-12)


# ---------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_graph_and_layers(name: str) -> None:
    case = network(name)
    graph = computational_graph(case.loss, case.parameters, *case.data)
    layout_, leaves = flatten(gradient(case.loss, case.parameters, *case.data))
    for leaf, array in zip(layout_.leaves, leaves, strict=True):
        scale = np.abs(array).max()
        np.testing.assert_allclose(graph[leaf.name].adjoint, array, rtol=0, atol=1e-13 * scale)
    small = graph.collapsed()
    assert [n.name for n in small.nodes if n.output] == ["loss"]
    assert small["loss"].value == pytest.approx(case.loss(case.parameters, *case.data))
    names = [name for name, _ in case.network.named_layers]
    assert [n.name for n in small.nodes if n.name in names] == names
    inside = [member for n in small.nodes for member in n.members or (n.name,)]
    assert sorted(inside) == sorted(n.name for n in graph.nodes)


@pytest.mark.filterwarnings("ignore::diffkit.KinkWarning")  # a pool of zeros from a rectifier
def test_alexnet_is_a_chain_of_layers() -> None:
    graph = loss_graph(small_alexnet(), IMAGES, LABELS).collapsed()
    chain = ["X", *(f"layer{i}" for i in range(1, 11)), "loss"]
    assert [(e.source, e.target) for e in graph.edges if e.source != "y"] == list(pairwise(chain))
    assert (
        graph["layer1"].formula == "Convolution 1 → 4, 3\N{MULTIPLICATION SIGN}3, padding 1, relu"
    )
    assert graph["layer1"].value.shape == (2, 4, 16, 16)
    assert "layer1.W" in graph["layer1"].members


def test_resnet_shows_its_shortcuts() -> None:
    graph = loss_graph(small_resnet(), IMAGES, LABELS).collapsed()
    ends = {(e.source, e.target) for e in graph.edges}
    assert {("layer3", "layer4"), ("layer3", "layer4.layer1")} <= ends
    assert {("layer4", "layer5.shortcut"), ("layer5.shortcut", "layer5")} <= ends
    both = [e.adjoint for e in graph.into("layer4")]
    np.testing.assert_array_equal(both[0], both[1])  # a sum sends its adjoint both ways
    total = sum(e.adjoint for e in graph.out_of("layer3"))
    np.testing.assert_allclose(total, graph["layer3"].adjoint, rtol=1e-13)


def test_a_penalty_is_part_of_the_loss() -> None:
    net = Network((Dense(2, 1),), MEAN_SQUARED_ERROR, elastic(0.1, 0.5))
    graph = loss_graph(net, np.ones((3, 2)), np.zeros((3, 1))).collapsed()
    assert graph["loss"].formula == "mean squared error + L1 and L2 penalty"
    assert sum(e.source == "layer1" for e in graph.edges) == 2  # its outputs, and W


def test_predictions_have_layers_too() -> None:
    net = Network((Dense(2, 3, TANH), Dense(3, 1)), MEAN_SQUARED_ERROR)
    graph = computational_graph(
        net.predict, net.initial(1), np.ones((4, 2)), cotangent=np.ones((4, 1))
    )
    assert [n.name for n in graph.collapsed().nodes] == ["X", "layer1", "layer2"]


def test_a_function_without_layers_cannot_be_collapsed() -> None:
    graph = computational_graph(lambda x: x**2, 1.0)
    with pytest.raises(InvalidInput, match="no layers"):
        graph.collapsed()
    with pytest.raises(InvalidInput, match="no node"):
        graph["v7"]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Dense(2, 3), "Dense 2 → 3"),
        (Dense(2, 3, TANH, bias=False), "Dense 2 → 3, tanh, no bias"),
        (Maxout(2, 3), "Maxout 2 → 3"),
        (Convolution(1, 2, (3,), stride=2), "Convolution 1 → 2, 3, stride 2"),
        (Dropout(0.25), "Dropout rate 0.25"),
        (BatchNorm(4), "BatchNorm 4"),
        (Embedding(5, 2), "Embedding 5 → 2"),
        (Residual((Dense(2, 2),), TANH), "Residual tanh"),
    ],
)
def test_layers_are_described_in_a_few_words(layer: Any, words: str) -> None:
    assert describe(layer) == words


# ---------------------------------------------------------------------- other forms


def examples() -> list[ComputationalGraph]:
    elman, residual = network("elman"), network("residual")
    penalised = Network((Dense(2, 2, TANH), Dense(2, 1)), MEAN_SQUARED_ERROR, Penalty(l2=0.1))
    return [
        computational_graph(survey, 2.0, 5.0, wrt=(0, 1), tangent=(1.0, 0.0)),
        computational_graph(lambda x: x * x, 3.0),
        computational_graph(elman.loss, elman.parameters, *elman.data),
        computational_graph(residual.loss, residual.parameters, *residual.data),
        loss_graph(penalised, np.ones((3, 2)), np.zeros((3, 1))).collapsed(),
        loss_graph(small_resnet(), IMAGES, LABELS).collapsed(),
    ]


@pytest.mark.parametrize("graph", examples(), ids=lambda g: f"{len(g.nodes)} nodes")
def test_json_gives_the_graph_back(graph: ComputationalGraph) -> None:
    text = graph.to_json()
    again = ComputationalGraph.from_json(text)
    assert again.to_json() == text
    assert str(again) == str(graph)
    for one, other in zip(graph.nodes, again.nodes, strict=True):
        np.testing.assert_array_equal(one.value, other.value)
        assert np.asarray(one.value).dtype == np.asarray(other.value).dtype


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "name": "f"}'])
def test_a_text_that_is_no_graph_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        ComputationalGraph.from_json(text)


def test_values_that_are_not_finite_survive_strict_json() -> None:
    graph = computational_graph(lambda x: np.where(x > 0, x, np.inf - x * 0)[()] * 0 + x, 2.0)
    text = graph.to_json()
    json.loads(text, parse_constant=pytest.fail)
    assert ComputationalGraph.from_json(text).to_json() == text


def test_graphviz_and_mermaid_name_every_node_and_edge() -> None:
    graph = computational_graph(lambda x, y: np.minimum(x, y) * 'a"b'.count("a"), 1.0, 2.0)
    dot, mermaid = graph.to_dot(), graph.to_mermaid()
    assert dot.startswith('digraph "<lambda>" {')
    assert dot.count("->") == mermaid.count("-->") + mermaid.count("-.->") == len(graph.edges)
    assert 'label="v1 = minimum(x, y)\\n1\\nadjoint 1"' in dot
    assert '["v1 = minimum(x, y)<br>1<br>adjoint 1"]:::operation' in mermaid
    compared = computational_graph(
        lambda x: np.where(x < 3, x, 0.0), np.ones(2), cotangent=np.ones(2)
    )
    assert "x #lt; 3" in compared.to_mermaid()
    assert formats._quoted('a"\\') == '"a\\"\\\\"'


@pytest.mark.parametrize("graph", examples(), ids=lambda g: f"{len(g.nodes)} nodes")
def test_the_notebook_form_is_a_well_formed_drawing_and_a_table(graph: ComputationalGraph) -> None:
    root = ET.fromstring(graph.to_svg())
    rectangles = [e for e in root if e.tag.endswith("rect") and e.get("rx")]
    assert len(rectangles) == len(graph.nodes)
    html = graph._repr_html_()
    assert html.startswith("<svg")
    assert html.endswith("</table>")


# ---------------------------------------------------------------------- drawings


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two rectangles (left, top, right, bottom) share more than an edge."""
    slack = 1e-6
    return all(
        max(a[i], b[i]) + slack < min(a[i + 2], b[i + 2]) for i in (0, 1)
    )  # fmt: skip


def rectangle(box: Box) -> tuple[float, ...]:
    return box.x, box.y, box.x + box.width, box.y + box.height


def crosses(start: Any, end: Any, box: tuple[float, ...]) -> bool:
    """Whether a segment enters a rectangle (clipping by Liang and Barsky)."""
    low, high = 0.0, 1.0
    for axis in (0, 1):
        step = end[axis] - start[axis]
        first, last = box[axis] + 1e-6 - start[axis], box[axis + 2] - 1e-6 - start[axis]
        if step == 0:
            if first > 0 or last < 0:
                return False
            continue
        near, far = sorted((first / step, last / step))
        low, high = max(low, near), min(high, far)
    return low < high


@pytest.mark.parametrize("graph", examples(), ids=lambda g: f"{len(g.nodes)} nodes")
def test_boxes_are_apart_and_no_edge_passes_through_one(graph: ComputationalGraph) -> None:
    plan = layout(graph)
    boxes = [rectangle(box) for box in plan.boxes]
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    for route in plan.routes:
        for start, end in pairwise(route.points):
            assert not any(crosses(start, end, box) for box in boxes)
    for left, top, right, bottom in boxes:
        assert 0 < left < right < plan.width
        assert 0 < top < bottom < plan.height


@pytest.mark.parametrize("graph", examples(), ids=lambda g: f"{len(g.nodes)} nodes")
def test_labels_cover_neither_each_other_nor_a_box(graph: ComputationalGraph) -> None:
    plan = layout(graph)
    labels = []
    for route in plan.routes:
        x, y = route.points[-1]
        half = len(route.label) * 0.61 * LABEL_SIZE / 2
        labels.append((x - half, y - 2.1 * LABEL_SIZE, x + half, y - 0.8 * LABEL_SIZE))
    boxes = [rectangle(box) for box in plan.boxes]
    assert not any(overlap(a, b) for i, a in enumerate(labels) for b in (*labels[:i], *boxes))


def test_edges_run_downwards_and_join_their_boxes() -> None:
    graph = examples()[2]
    plan = layout(graph)
    boxes = {box.node.name: box for box in plan.boxes}
    for route in plan.routes:
        source, target = boxes[route.edge.source], boxes[route.edge.target]
        (x0, y0), (x1, y1) = route.points[0], route.points[-1]
        assert y0 == pytest.approx(source.y + source.height)
        assert y1 == pytest.approx(target.y)
        assert source.x < x0 < source.x + source.width
        assert target.x < x1 < target.x + target.width
        assert all(b[1] > a[1] for a, b in pairwise(route.points))


def test_the_text_fits_its_boxes_as_matplotlib_draws_it() -> None:
    graph = examples()[3].collapsed()
    figure = dk.draw(graph)
    ax = figure.axes[0]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    to_data = ax.transData.inverted()
    boxes = {line: box for box in layout(graph).boxes for line in box.lines}
    checked = 0
    for text in ax.texts:
        if text.get_fontsize() != FONT_SIZE:
            continue
        (x0, _), (x1, _) = to_data.transform(text.get_window_extent(renderer))
        candidates = [b for b in layout(graph).boxes if text.get_text() in b.lines]
        assert any(b.x < x0 and x1 < b.x + b.width for b in candidates)
        checked += 1
    assert checked >= len(boxes)


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_drawings_are_the_same_bytes_each_time(kind: str) -> None:
    graph = examples()[0]
    assert drawn(graph, kind) == drawn(graph, kind)


def test_a_graph_that_nobody_could_read_is_not_drawn() -> None:
    def f(x: Any) -> Any:
        for _ in range(200):
            x = np.sin(x)
        return x

    graph = computational_graph(f, 1.0)
    with pytest.raises(UnsupportedOperation, match=r"collapsed.*to_dot"):
        graph.to_svg()
    assert graph._repr_html_().startswith("<div>")
    assert graph.to_dot().count("->") == 200


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.1, 9), st.floats(0, 20)), min_size=1))
def test_places_keep_their_gaps_and_give_way_only_where_they_must(items: Any) -> None:
    wanted, weights, gaps = zip(*items, strict=True)
    found = spread(wanted, weights, gaps[1:])
    for (a, b), gap in zip(pairwise(found), gaps[1:], strict=True):
        assert b - a >= gap - 1e-9
    if all(b - a >= gap for (a, b), gap in zip(pairwise(wanted), gaps[1:], strict=True)):
        assert found == pytest.approx(list(wanted))
    balance = sum(w * (x - d) for x, d, w in zip(found, wanted, weights, strict=True))
    assert balance == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------------- words


def test_a_small_matrix_is_written_row_by_row_and_its_adjoint_in_colour() -> None:
    W = np.array([[1.0, 2.0], [3.0, 4.0]])
    graph = computational_graph(lambda W, x: np.sum(W @ x), W, np.array([1.0, -1.0]))
    box = next(box for box in layout(graph).boxes if box.node.name == "W")
    assert box.lines == ("W", "[[1, 2],", "[3, 4]]", "adjoint [[1, -1],", "[1, -1]]")
    assert box.adjoint == 3
    assert graph.to_svg().count('fill="#a33f00">[1, -1]]') == 1
    (edge,) = graph.out_of("W")
    assert label(edge) == "norm 2"


def test_what_a_layer_is_takes_two_lines_where_it_is_long() -> None:
    graph = loss_graph(small_resnet(1, 4), IMAGES, LABELS).collapsed()
    told = [lines(graph[name])[1:-2] for name in ("layer1", "layer2")]
    assert told == [("Convolution 1 → 4,", "3×3, padding 1, no bias"), ("BatchNorm 4",)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (2.0, "2"), (np.float64(1 / 3), "0.3333"), (np.ones(2), "[1, 1]"),
        (np.full((3, 4), 0.5), "3\N{MULTIPLICATION SIGN}4, norm 1.732"),
        (np.arange(9), "9 int64"), (True, "True"), (np.full(5, 1e200), "5, norm inf"),
        (np.array([[1.5, 2.0], [0.0, -1.0]]), "[[1.5, 2], [0, -1]]"),
        (np.ones((4, 1)), "4\N{MULTIPLICATION SIGN}1, norm 2"),
    ],
)  # fmt: skip
def test_values_are_told_in_few_digits(value: Any, text: str) -> None:
    assert quantity(value) == text


@pytest.mark.parametrize(
    ("operation", "arguments", "static", "text"),
    [
        ("add", ("a", "b"), {}, "a + b"),
        ("negative", ("a",), {}, "-a"),
        ("index", ("a",), {"index": (0, slice(1, None), slice(None, None, 2))}, "a[0, 1:, ::2]"),
        ("index", ("a",), {"index": (Ellipsis, None, np.arange(3))}, "a[..., None, [3]]"),
        ("transpose", ("a",), {"axes": None}, "a.T"),
        ("transpose", ("a",), {"axes": (1, 0, 2)}, "transpose(a, axes=(1,0,2))"),
        ("sum", ("a",), {"axis": (0,), "keepdims": False}, "sum(a, axis=0)"),
        ("reshape", ("a",), {"shape": (2, 3), "order": "C"}, "reshape(a, shape=(2,3))"),
    ],
)
def test_formulas_are_written_as_in_python(
    operation: str, arguments: Any, static: Any, text: str
) -> None:
    assert formula(operation, arguments, static) == text


# ---------------------------------------------------------------------- the command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["graph", *arguments])


def test_the_command_prints_each_form() -> None:
    where = ("(x + y) * z", "--at", "x=1,y=2,z=3")
    text = run(*where)
    assert text.exit_code == 0
    assert "v2 (output)  v1 * z       9        1" in text.output
    assert run(*where, "--format", "dot").output.startswith("digraph")
    assert run(*where, "--format", "mermaid").output.startswith("flowchart")
    assert ET.fromstring(run(*where, "--format", "svg").output) is not None
    assert json.loads(run(*where, "--format", "json").output)["format"] == 1
    assert "Dense 4 → 16, tanh" in run("--network", "iris-mlp").output


def test_the_command_writes_files(tmp_path: Any) -> None:
    file = tmp_path / "graph.png"
    assert run("sin(x)", "--at", "1", "--format", "png", "--out", str(file)).exit_code == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    bad = run("sin(x)", "--at", "1", "--out", str(tmp_path / "no" / "graph.txt"))
    assert bad.exit_code == 1
    assert "cannot be written" in bad.output


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("x", "--network", "mazur"), ("--network", "mazur", "--at", "1"),
        ("x", "--at", "1", "--format", "png"), ("x",), ("x", "--at", "1", "--format", "gif"),
    ],
)  # fmt: skip
def test_the_command_says_what_it_needs(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
