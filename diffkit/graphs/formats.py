"""A graph in the languages of drawing programs: Graphviz DOT, Mermaid, and SVG."""

from __future__ import annotations

from html import escape
from typing import Final

from diffkit.graphs.definition import ComputationalGraph, Node
from diffkit.graphs.layout import (
    ADVANCE,
    FONT_SIZE,
    LABEL_SIZE,
    LEADING,
    PADDING,
    Box,
    Route,
    label,
    layout,
    lines,
)

FILLS: Final = {
    "input": "#d9edf9",
    "data": "#eeeeee",
    "constant": "#eeeeee",
    "operation": "#ffffff",
    "layer": "#fdf1d9",
}
STROKE: Final = "#333333"
FAINT: Final = "#999999"  # where no derivative flows
ADJOINT: Final = "#a33f00"


def dot(graph: ComputationalGraph) -> str:
    """Return the graph in Graphviz's language."""
    text = [f"digraph {_quoted(graph.name)} {{"]
    text += [
        '  node [shape=box, style="filled,rounded", fontname="monospace", fontsize=10];',
        '  edge [fontname="monospace", fontsize=8];',
    ]
    for node in graph.nodes:
        shown = _quoted("\n".join(lines(node)))
        thick = ", penwidth=2" if node.output else ""
        text.append(
            f'  {_quoted(node.name)} [label={shown}, fillcolor="{FILLS[node.kind]}"{thick}];'
        )
    for edge in graph.edges:
        style = "" if edge.adjoint is not None else f', color="{FAINT}", style=dashed'
        ends = f"{_quoted(edge.source)} -> {_quoted(edge.target)}"
        shown = f'label={_quoted(label(edge))}, fontcolor="{ADJOINT}"'
        text.append(f"  {ends} [{shown}{style}];")
    return "\n".join([*text, "}", ""])


def mermaid(graph: ComputationalGraph) -> str:
    """Return the graph in Mermaid's language."""
    numbers = {node.name: f"n{i}" for i, node in enumerate(graph.nodes)}
    text = ["flowchart TD"]
    text += [f"  {numbers[n.name]}{_mermaid_box(n)}:::{n.kind}" for n in graph.nodes]
    for edge in graph.edges:
        shown = label(edge)
        arrow = "-->" if edge.adjoint is not None else "-.->"
        carried = f'|"{_entities(shown)}"|' if shown else ""
        text.append(f"  {numbers[edge.source]} {arrow}{carried} {numbers[edge.target]}")
    text += [f"  classDef {kind} fill:{fill},stroke:{STROKE}" for kind, fill in FILLS.items()]
    return "\n".join([*text, ""])


def svg(graph: ComputationalGraph) -> str:
    """Return the graph as a drawing that needs no library and no font of its own."""
    plan = layout(graph)
    size = f'width="{plan.width:.0f}pt" height="{plan.height:.0f}pt"'
    view = f'viewBox="0 0 {plan.width:.1f} {plan.height:.1f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-family="monospace">'
    body = [f"<title>{escape(graph.name)}</title>", *map(_svg_route, plan.routes)]
    return "\n".join([head, *body, *map(_svg_box, plan.boxes), "</svg>", ""])


def _svg_route(route: Route) -> str:
    (x, y), start = route.points[-1], route.points[0]
    way = " ".join(f"{a:.1f},{b:.1f}" for a, b in [start, *route.points[1:-1], (x, y - 4)])
    flows = route.edge.adjoint is not None
    dashes = "" if flows else ' stroke-dasharray="3 2"'
    line = (
        f'<polyline points="{way}" fill="none" stroke="{STROKE if flows else FAINT}"{dashes}/>'
        f'<path d="M{x:.1f} {y:.1f} l-2.5 -5 h5 z" fill="{STROKE if flows else FAINT}"/>'
    )
    return line + _svg_label(route) if route.label else line


def _svg_label(route: Route) -> str:
    x, y = route.points[-1]
    width = len(route.label) * ADVANCE * LABEL_SIZE + 2
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y - 2.1 * LABEL_SIZE:.1f}" width="{width:.1f}" '
        f'height="{1.3 * LABEL_SIZE:.1f}" fill="white"/>'
        f'<text x="{x:.1f}" y="{y - 1.1 * LABEL_SIZE:.1f}" font-size="{LABEL_SIZE}" '
        f'text-anchor="middle" fill="{ADJOINT}">{escape(route.label)}</text>'
    )


def _svg_box(box: Box) -> str:
    stroke = 2 if box.node.output else 1
    frame = (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="4" fill="{FILLS[box.node.kind]}" stroke="{STROKE}" '
        f'stroke-width="{stroke}"/>'
    )
    middle = box.x + box.width / 2
    first = box.y + PADDING + FONT_SIZE
    rows = [
        f'<text x="{middle:.1f}" y="{first + i * FONT_SIZE * LEADING:.1f}" '
        f'font-size="{FONT_SIZE}" text-anchor="middle"'
        f"{_svg_emphasis(box, i)}>{escape(text)}</text>"
        for i, text in enumerate(box.lines)
    ]
    return "".join([frame, *rows])


def _svg_emphasis(box: Box, i: int) -> str:
    if i == 0:
        return ' font-weight="bold"'
    return f' fill="{ADJOINT}"' if i >= box.adjoint else ""


def _mermaid_box(node: Node) -> str:
    return f'["{_entities("<br>".join(lines(node)))}"]'


def _entities(text: str) -> str:
    """Text as Mermaid takes it between quotes; `<br>` breaks lines."""
    parts = (part.replace("#", "#35;").replace('"', "#quot;") for part in text.split("<br>"))
    return "<br>".join(part.replace("<", "#lt;").replace(">", "#gt;") for part in parts)


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + plain.replace("\n", "\\n") + '"'
