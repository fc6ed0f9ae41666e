"""Computational graphs drawn by Matplotlib, where `diffkit.graphs.layout` puts everything."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from diffkit.graphs import ComputationalGraph
from diffkit.graphs.formats import ADJOINT, FAINT, FILLS, STROKE
from diffkit.graphs.layout import FONT_SIZE, LABEL_SIZE, LEADING, PADDING, Box, Route, layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS: Final = 72.0  # in an inch
FONT: Final = "DejaVu Sans Mono"


def draw(graph: ComputationalGraph) -> Figure:
    """Return a figure of the graph, as large as its text needs.

    Save it with `figure.savefig("graph.png", dpi=150)`, or as .svg or .pdf.

    Raises:
        UnsupportedOperation: there are more boxes than a reader could take in.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plan = layout(graph)
    figure = Figure(figsize=(plan.width / POINTS, plan.height / POINTS))
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_xlim(0, plan.width)
    ax.set_ylim(plan.height, 0)
    for route in plan.routes:
        _draw_route(ax, route)
    for box in plan.boxes:
        _draw_box(ax, box)
    return figure


def drawn(graph: ComputationalGraph, kind: str = "svg") -> bytes:
    """Return the drawing as a file of that kind: the same bytes for the same graph."""
    import matplotlib as mpl

    style: dict[Any, Any] = {**mpl.rcParamsDefault, "svg.hashsalt": "diffkit"}
    style.pop("backend")
    with mpl.rc_context(style):
        file = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        draw(graph).savefig(file, format=kind, dpi=150, metadata=metadata)
    return file.getvalue()


def _draw_route(ax: Axes, route: Route) -> None:
    flows = route.edge.adjoint is not None
    colour, style = (STROKE, "-") if flows else (FAINT, (0, (3, 2)))
    x, y = route.points[-1]
    way = [*route.points[:-1], (x, y - 4)]
    ax.plot([p[0] for p in way], [p[1] for p in way], color=colour, linestyle=style, linewidth=0.9)
    ax.fill([x, x - 2.5, x + 2.5], [y, y - 5, y - 5], color=colour, linewidth=0)
    if route.label:
        ax.text(
            x, y - 1.5 * LABEL_SIZE, route.label, size=LABEL_SIZE, family=FONT, color=ADJOINT,
            ha="center", va="center", zorder=4,
            bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip


def _draw_box(ax: Axes, box: Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    frame = FancyBboxPatch(
        (box.x + 4, box.y + 4), box.width - 8, box.height - 8,
        boxstyle="round,pad=4,rounding_size=4", facecolor=FILLS[box.node.kind],
        edgecolor=STROKE, linewidth=1.8 if box.node.output else 0.9, zorder=3,
    )  # fmt: skip
    ax.add_patch(frame)
    for i, text in enumerate(box.lines):
        ax.text(
            box.x + box.width / 2, box.y + PADDING + (i + 0.5) * FONT_SIZE * LEADING, text,
            size=FONT_SIZE, family=FONT, ha="center", va="center", zorder=5,
            weight="bold" if i == 0 else "normal",
            color=ADJOINT if i >= box.adjoint else "black",
        )  # fmt: skip
