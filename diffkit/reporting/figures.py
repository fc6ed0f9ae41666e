"""Drawing: one way to draw a panel of curves, legible in print and without colour."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
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
        joined: whether a line joins the markers.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str | None = None
    measured: bool = True
    marker: str | None = None
    every: int = 1
    joined: bool = True


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
        columns: of the legend.
    """

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    log_x: bool = True
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    columns: int = 2


SIZE: Final = (4.8, 4.4)  # in inches
_WATCHER: Final[ContextVar[Callable[[], Any]]] = ContextVar("watcher", default=lambda: None)


def drawing(panel: Panel) -> str:
    """Return a panel as SVG: the same bytes for the same panel."""
    return sketch(partial(_draw, panel))


def bitmap(panel: Panel) -> bytes:
    """Return the same picture as PNG."""
    return _written(partial(_draw, panel), SIZE, "png")


def sketch(draw: Callable[[Axes], None], size: tuple[float, float] = SIZE) -> str:
    """Return as SVG, in the style of all figures, what a function draws on a pair of axes."""
    return _written(draw, size, "svg").decode()


def _written(draw: Callable[[Axes], None], size: tuple[float, float], kind: str) -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {**mpl.rcParamsDefault, **_STYLE}
    style.pop("backend")
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        file = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=150, metadata=metadata)
    _WATCHER.get()()
    return file.getvalue()


@contextmanager
def watched(drawn: Callable[[], Any]) -> Iterator[None]:
    """Call a function after each figure that is drawn inside the context."""
    token = _WATCHER.set(drawn)
    try:
        yield
    finally:
        _WATCHER.reset(token)


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
    _number_short_axis(ax)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.16),
        ncols=min(panel.columns, len(labels)) or 1, columnspacing=1.2, handlelength=2.4,
    )  # fmt: skip


def _number_short_axis(ax: Axes) -> None:
    """Where the y axis spans less than two decades, number it at 1, 2 and 5 of each."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = ax.get_ylim()
    if high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_curves(panel: Panel, ax: Axes) -> None:
    colours, markers = cycle(COLOURS), cycle(MARKERS)
    for curve in panel.curves:
        name = curve.colour or next(colours)
        style: dict[str, Any] = {"color": COLOURS[name], "label": curve.label or None}
        if curve.measured:
            style |= {"marker": curve.marker or next(markers), "markevery": curve.every}
            style |= {} if curve.joined else {"linestyle": "none"}
        else:
            style |= {"linestyle": (0, (5, 2)), "linewidth": 1.6}
            style |= {"zorder": 4 if curve.label else 1.5}  # a fit goes below what it fits
        ax.plot(curve.x, curve.y, **style)
