"""Drawing: one way to draw a panel of curves, legible in print and without colour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow.
COLOURS: Final = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
}
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")

_STYLE: Final[dict[str, Any]] = {
    "svg.hashsalt": "diffkit",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
}

_STAR: Final[dict[str, Any]] = {
    "marker": "*",
    "linestyle": "none",
    "markersize": 12,
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
    "zorder": 5,
}


@dataclass(frozen=True)
class Curve:
    """One curve of a panel.

    Attributes:
        label: in the legend; empty for none.
        x, y: the points; a NaN interrupts the curve.
        colour: a name of `COLOURS`; by default the next one.
        measured: drawn with markers; otherwise a dashed line, for what theory predicts.
        marker: the shape of the markers; by default the next one.
        every: draw every n-th marker only.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str | None = None
    measured: bool = True
    marker: str | None = None
    every: int = 1


@dataclass(frozen=True)
class Mark:
    """A single point to look at."""

    label: str
    x: float
    y: float
    colour: str


@dataclass(frozen=True)
class Panel:
    """One pair of axes, logarithmic in y.

    Attributes:
        title: what is special about this panel.
        x_label, y_label: quantities, with their units.
        curves: in the order of the legend.
        marks: points to look at.
        log_x: whether x is logarithmic; otherwise it counts whole numbers.
        x_limits, y_limits: the ranges drawn; None leaves them to the curves.
    """

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    log_x: bool = True
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = field(default=None)


def drawing(panel: Panel) -> str:
    """Return a panel as SVG: the same bytes for the same panel."""
    return _written(panel, "svg").decode()


def bitmap(panel: Panel) -> bytes:
    """Return the same picture as PNG."""
    return _written(panel, "png")


def _written(panel: Panel, kind: str) -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {**mpl.rcParamsDefault, **_STYLE}
    style.pop("backend")
    with mpl.rc_context(style):
        figure = Figure(figsize=(4.8, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        _draw(panel, figure.subplots())
        file = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=150, metadata=metadata)
    return file.getvalue()


def _draw(panel: Panel, ax: Axes) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    ax.set_title(panel.title)
    ax.set_xlabel(panel.x_label)
    ax.set_ylabel(panel.y_label)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(numticks=9))
    if panel.log_x:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=9))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.minorticks_off()
    _draw_curves(panel, ax)
    for mark in panel.marks:
        ax.plot([mark.x], [mark.y], color=COLOURS[mark.colour], label=mark.label, **_STAR)
    if panel.x_limits:
        ax.set_xlim(panel.x_limits)
    if panel.y_limits:
        ax.set_ylim(panel.y_limits)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.16),
        ncols=2 if len(labels) > 1 else 1, columnspacing=1.2, handlelength=2.4,
    )  # fmt: skip


def _draw_curves(panel: Panel, ax: Axes) -> None:
    colours, markers = cycle(COLOURS), cycle(MARKERS)
    for curve in panel.curves:
        name = curve.colour or next(colours)
        style: dict[str, Any] = {"color": COLOURS[name], "label": curve.label or None}
        if curve.measured:
            style |= {"marker": curve.marker or next(markers), "markevery": curve.every}
        else:
            style |= {"linestyle": (0, (5, 2)), "linewidth": 1.6, "zorder": 4}
        ax.plot(curve.x, curve.y, **style)
