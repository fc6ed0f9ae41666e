"""Panels and tables of the sections on networks: curves with a legend, numbers in five digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.reporting.figures import COLOURS, sketch
from diffkit.reporting.page import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL: Final = (3.4, 3.3)
PALETTE: Final = ("blue", "vermilion", "green", "purple", "orange")
STROKES: Final = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # seen where curves coincide


def rounded(value: Any) -> Cell:
    """Return a number to five digits: what a figure shows, and the same on every machine."""
    return value if isinstance(value, (str, int)) or value is None else float(f"{value:.5g}")


def table(name: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Return a table of rounded numbers."""
    cells = tuple(tuple(rounded(value) for value in row) for row in rows)
    return Table(name, caption, tuple(columns), cells)


def heights(values: Any) -> Any:
    """Return values as they are drawn, rounded likewise."""
    return np.array([float(f"{value:.5g}") for value in values])


def framed(
    title: str, x_label: str, y_label: str, fill: Callable[[Axes], None], log: str = ""
) -> tuple[str, str]:
    """Return a panel with its title: a frame that a function fills, and a legend under it.

    Args:
        title: of the panel.
        x_label, y_label: of the axes.
        fill: draws into them.
        log: the names of the axes that are logarithmic, "x", "y" or "xy".
    """

    def draw(ax: Axes) -> None:
        ax.set_title(title)
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
        if "x" in log:
            ax.set_xscale("log")
        if "y" in log:
            ax.set_yscale("log")
        fill(ax)
        handles, labels = ax.get_legend_handles_labels()
        if labels:
            ax.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)

    return title, sketch(draw, SMALL)


def lines(curves: Sequence[tuple[str, Any, Any]], marker: str = "") -> Callable[[Axes], None]:
    """Return what draws the curves, each a label, places and values."""

    def fill(ax: Axes) -> None:
        strokes = zip(curves, PALETTE, STROKES, strict=False)
        for (label, x, y), colour, stroke in strokes:
            ax.plot(
                x, heights(y), marker=marker, color=COLOURS[colour], label=label,
                linewidth=1.4, linestyle=stroke,
            )  # fmt: skip

    return fill
