"""Chapter `networks`: what goes wrong inside networks, and what their graphs look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.nn import RELU, SIGMOID
from diffkit.reporting import network_studies as studies
from diffkit.reporting.chapters.network_graphs import functions, networks
from diffkit.reporting.figures import COLOURS, sketch
from diffkit.reporting.page import Cell, Chapter, Picture, Section, Table, command, scientific

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME: Final = "networks"
SMALL: Final = (3.4, 3.3)
PALETTE: Final = ("blue", "vermilion", "green", "purple", "orange")


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    few = (SIGMOID, RELU)
    found = studies.signals(8, few) if quick else studies.signals(20)
    depths = (4, 8) if quick else (5, 10, 20)
    return Chapter(
        NAME,
        "Networks",
        "Why deep sigmoids stop learning, units die and losses have plateaus, measured on small "
        "networks; and the computational graphs that derivatives flow through.",
        command(NAME, quick),
        (
            functions(),
            networks(),
            _gradients(found, depths),
            _saturation(found),
            _dead(*(((0.03, 1.0), 2) if quick else ((0.01, 0.03, 0.1, 0.3, 1.0), 5))),
            _starts(40 if quick else 200),
            _plateaus(13 if quick else 41),
            _zigzag(60),
            _approximation((2, 8, 32) if quick else (2, 4, 8, 16, 32, 64, 128)),
            _spread(*(((2, 4, 8), 4, 40) if quick else ((2, 4, 8, 16, 32, 64), 20, 300))),
        ),
    )


def rounded(value: Any) -> Cell:
    """Return a number to five digits: what a figure shows, and the same on every machine."""
    return value if isinstance(value, (str, int)) or value is None else float(f"{value:.5g}")


def table(name: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Return a table of rounded numbers."""
    cells = tuple(tuple(rounded(value) for value in row) for row in rows)
    return Table(name, caption, tuple(columns), cells)


def _heights(values: Any) -> Any:
    """Values as they are drawn, rounded likewise."""
    return np.array([float(f"{value:.5g}") for value in values])


def _framed(
    title: str, x_label: str, y_label: str, fill: Callable[[Axes], None], log: str = ""
) -> tuple[str, str]:
    """A panel with its title: a frame that a function fills, and a legend under it."""

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


def _lines(curves: Sequence[tuple[str, Any, Any]], marker: str = "") -> Callable[[Axes], None]:
    def fill(ax: Axes) -> None:
        for (label, x, y), colour in zip(curves, PALETTE, strict=False):
            ax.plot(
                x, _heights(y), marker=marker, color=COLOURS[colour], label=label, linewidth=1.3
            )

    return fill


# ---------------------------------------------------------------------- signals in depth


def _by_layer(found: Sequence[studies.Signal], quantity: str) -> list[tuple[str, list[Any]]]:
    """For each activation the curves over the layers, one for each start."""
    panels = []
    for phi in dict.fromkeys(s.activation for s in found):
        curves = []
        for start in studies.STARTS:
            own = [s for s in found if (s.activation, s.start) == (phi, start)]
            curves.append((start, [s.layer for s in own], [getattr(s, quantity) for s in own]))
        panels.append((phi, curves))
    return panels


def _signal_table(name: str, caption: str, found: Sequence[studies.Signal]) -> Table:
    columns = tuple(studies.Signal.__annotations__)
    return table(name, caption, columns, [astuple(signal) for signal in found])


def _gradients(found: Sequence[studies.Signal], depths: Sequence[int]) -> Section:
    panels = tuple(
        _framed(name, "layer, from the input", "norm of the gradient by W", _lines(curves), "y")
        for name, curves in _by_layer(found, "gradient")
    )
    factors = studies.decays(depths)
    rows = [(phi, start, *values) for (phi, start), values in factors.items()]
    sigmoid = factors["sigmoid", "Xavier"][-1]
    return Section(
        "Gradients that vanish, and explode",
        (
            "On the way back each layer multiplies the adjoint by its weights and by φ'. The "
            "slope of the sigmoid is at most 1/4: from Xavier's start the norm of the gradient "
            f"is multiplied by {sigmoid:.2f} for each layer towards the input, so that the "
            "first layers learn nothing. Small weights make all gradients vanish, large ones "
            "make those of rectifiers explode; Xavier's and He's rules keep the balance.",
        ),
        Picture(
            "networks-gradients",
            f"Hidden layers of {studies.WIDTH} units at the start. A curve that is level lets "
            "all layers learn alike; where it falls towards the input (left) gradients vanish. A "
            "weight's gradient is a signal times an adjoint: from small or large weights both "
            "change, and the whole curve is low or high.",
            "A panel for each activation, gradient norm against layer on a logarithmic axis. "
            "Those of the sigmoid fall steeply towards the input from every start; the others "
            "are level from Xavier's and He's starts.",
            panels,
        ),
        table(
            "networks-decays",
            "The factor by which the norm of the gradient changes per layer towards the input, "
            "for networks of several depths.",
            ("activation", "start", *(f"{depth} layers" for depth in depths)),
            rows,
        ),
        _signal_table("networks-signals", "Every layer of every network.", found),
    )


def _saturation(found: Sequence[studies.Signal]) -> Section:
    panels = tuple(
        _framed(name, "layer, from the input", "share with |φ'| < 0.01",
                _ranged(_lines(curves), (-0.03, 1.03)))
        for name, curves in _by_layer(found, "saturated")
    )  # fmt: skip
    last = max(s.layer for s in found)
    rows = [
        (s.activation, s.start, s.saturated, s.dead, s.deviation) for s in found if s.layer == last
    ]
    return Section(
        "Saturated units",
        (
            "Where a unit's argument is large, its slope is all but 0 and nothing passes it. The "
            "tanh saturates from large weights; a rectifier's slope is 0 for about half of its "
            "arguments, whatever the weights, and where that is so for every sample, the unit is "
            "dead.",
        ),
        Picture(
            "networks-saturation",
            "The share of units and samples whose slope is below a hundredth, at the start.",
            "Panels of shares by layer, one for each activation. That of the tanh is high from "
            "large weights alone; that of the ReLU is near a half everywhere; leaky ReLU is at 0.",
            panels,
        ),
        table(
            "networks-saturation",
            f"The last hidden layer, number {last}.",
            ("activation", "start", "saturated", "dead units", "deviation of outputs"),
            rows,
        ),
        _signal_table("networks-saturation-layers", "Every layer of every network.", found),
    )


def _ranged(fill: Callable[[Axes], None], y_limits: tuple[float, float]) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        fill(ax)
        ax.set_ylim(y_limits)

    return draw


# ---------------------------------------------------------------------- training


def _dead(rates: Sequence[float], seeds: int) -> Section:
    shares = studies.dead_units(rates, seeds)
    curves = [(name, rates, values) for name, values in shares.items()]
    rows = [(rate, *(values[i] for values in shares.values())) for i, rate in enumerate(rates)]
    caption = f"The mean share of dead units after 60 steps, over {seeds} starts."
    data = table("networks-dead", caption, ("learning rate", *shares), rows)
    return Section(
        "Dead rectifiers",
        (
            "Where a ReLU's argument is negative for every sample, its slope is 0 for all of "
            "them, and no step moves it again. With inputs that are all positive many units "
            f"start like that ({100 * shares['relu'][0]:.0f} % are dead at the smallest rate), "
            "and one large step pushes others there: at rate "
            f"{rates[-1]:g} it is {100 * shares['relu'][-1]:.0f} %. The leaky ReLU and the ELU "
            "keep a slope, and none of theirs dies.",
        ),
        Picture(
            "networks-dead",
            f"A layer of {studies.WIDTH} units on flowers measured in centimetres, all positive.",
            "The share of dead units against the learning rate. The ReLU's climbs to nearly all, "
            "the others stay at 0.",
            (_framed("dead units after training", "learning rate", "share of dead units",
                     _lines(curves, "o"), "x"),),
        ),
        data,
        data,
    )  # fmt: skip


def _starts(epochs: int) -> Section:
    found = studies.exclusive_or_losses(epochs)
    steps = list(range(1, epochs + 1))
    curves = [(name, steps, losses) for name, losses in found.items()]
    ends = {name: losses[-1] for name, losses in found.items()}
    return Section(
        "The same start for all units",
        (
            "Units that start alike get the same gradient and stay alike for ever: a layer of "
            f"them is one unit, and one cannot learn exclusive-or: it ends at {ends['all 1']:.2f}. "
            f"From all 0 not even that moves from ln 2 = {ends['all 0']:.2f}, the loss of a coin. "
            "Random weights break the symmetry, and the function is learned.",
        ),
        Picture(
            "networks-starts",
            "The log loss of a 2-4-1 tanh network on exclusive-or.",
            "Loss against steps. From equal weights it stays above 0.4; from random ones it "
            "falls to nearly 0.",
            (_framed("learning exclusive-or", "steps of Adam", "log loss", _lines(curves), "y"),),
        ),
        table(
            "networks-starts-end",
            f"The loss after {epochs} steps.",
            ("start", "loss"),
            list(ends.items()),
        ),
        table(
            "networks-starts",
            "The loss after each step.",
            ("step", *found),
            [(k, *(losses[k - 1] for losses in found.values())) for k in steps],
        ),
    )


def _plateaus(points: int) -> Section:
    axis = np.linspace(-12, 12, points)
    found = studies.surfaces(axis)

    def filled(values: Any) -> Callable[[Axes], None]:
        def fill(ax: Axes) -> None:
            shades = ax.contourf(axis, axis, np.round(values, 6), levels=12, cmap="Blues")
            ax.figure.colorbar(shades, ax=ax)
            ax.grid(visible=False)

        return fill

    panels = tuple(
        _framed(name, "weight w", "bias b", filled(values)) for name, values in found.items()
    )
    slopes = {name: _steepness(values, axis) for name, values in found.items()}
    return Section(
        "Plateaus",
        (
            "A logistic neuron that is wrong and sure of it is far out on its sigmoid. There the "
            "squared loss is level, and its gradient says nothing; the log loss keeps its slope, "
            "because its own derivative undoes that of the sigmoid.",
        ),
        Picture(
            "networks-plateaus",
            "The loss of σ(wx + b) on twenty samples. Away from the valley the squared loss is "
            "one colour, a plateau; the log loss goes on rising.",
            "Two maps of the loss over weight and bias. The first is level over most of its "
            "area, the second rises evenly away from its minimum.",
            panels,
        ),
        table(
            "networks-plateaus-slopes",
            "The slope across the map along w, at b = 0: its absolute value.",
            ("w", *slopes),
            list(zip(axis[:: max(1, points // 8)],
                     *(s[:: max(1, points // 8)] for s in slopes.values()), strict=True)),
        ),
        table(
            "networks-plateaus",
            "The loss on the grid.",
            ("b", "w", *found),
            [
                (axis[i], axis[j], *(values[i, j] for values in found.values()))
                for i in range(points)
                for j in range(points)
            ],
        ),
    )  # fmt: skip


def _steepness(values: Any, axis: Any) -> Any:
    return np.abs(np.gradient(values[len(axis) // 2], axis))


def _zigzag(steps: int) -> Section:
    found = studies.paths(steps)
    shares = {name: path.share for name, path in found.items()}

    def walked(points: Any, colour: str) -> Callable[[Axes], None]:
        def fill(ax: Axes) -> None:
            x, y = np.round(points, 5).T
            ax.plot(x, y, marker="o", color=COLOURS[colour])
            ax.plot([1], [-1], "*", markersize=12, color="black")

        return fill

    panels = tuple(
        _framed(name, "w₁", "w₂", walked(path.points, colour))
        for (name, path), colour in zip(found.items(), ("vermilion", "blue"), strict=True)
    )
    return Section(
        "The zigzag of positive inputs",
        (
            "The gradient by a neuron's weights is one number times its inputs. If these are all "
            "positive, every sample pushes all weights up or all down, and a goal that lies up "
            "for one and down for the other is reached in a zigzag. A sigmoid puts out positive "
            "numbers only: that is an argument for tanh, and for centred data.",
        ),
        Picture(
            "networks-zigzag",
            "Two weights of a linear neuron, sample by sample, on the way to the star at (1, -1).",
            "Two paths from the origin to the point (1, -1). The first swings to and fro, the "
            "second is nearly straight.",
            panels,
        ),
        table(
            "networks-zigzag-shares",
            "The share of samples that push both weights the same way.",
            ("inputs", "share"),
            list(shares.items()),
        ),
        table(
            "networks-zigzag",
            "The weights after each step.",
            ("step", "w1, positive", "w2, positive", "w1, centred", "w2, centred"),
            [(k, *(v for p in found.values() for v in p.points[k])) for k in range(steps + 1)],
        ),
    )


def _approximation(widths: Sequence[int]) -> Section:
    found = studies.approximation(widths)
    curves = [(name, widths, errors) for name, errors in found.items()]
    rows = [(width, *(errors[i] for errors in found.values())) for i, width in enumerate(widths)]
    caption = "The largest error on [-1, 1] of the best output layer over random hidden units."
    data = table("networks-approximation", caption, ("hidden units", *found), rows)
    return Section(
        "Universal approximation",
        (
            "With enough hidden units a network follows any continuous function (Cybenko 1989), "
            "with every activation but a polynomial one (Leshno et al. 1993): units with x² add "
            "up to a parabola, however many there are. Its error here stays at "
            f"{scientific(found['x²'][-1])}.",
        ),
        Picture(
            "networks-approximation",
            "|sin 3x| by one hidden layer. The polynomial activation is stuck from the first "
            "width on.",
            "Error against width. Three curves fall, that of the square stays level.",
            (_framed("error by width", "hidden units", "largest error", _lines(curves, "o"),
                     "xy"),),
        ),
        data,
        data,
    )  # fmt: skip


def _spread(sizes: Sequence[int], seeds: int, epochs: int) -> Section:
    found = studies.loss_spread(sizes, seeds, epochs)

    def dots(ax: Axes) -> None:
        for place, losses in enumerate(found.values()):
            ax.plot([place] * len(losses), _heights(losses), "o", color=COLOURS["blue"], alpha=0.5)
            ax.plot([place - 0.3, place + 0.3], _heights([np.median(losses)] * 2), color="black")
        ax.set_xticks(range(len(found)), [str(size) for size in found])

    rows = [
        (size, losses[0], float(np.median(losses)), losses[-1], losses[-1] / losses[0])
        for size, losses in found.items()
    ]
    return Section(
        "Where training ends, by size",
        (
            "A small network ends in a different minimum from every start. The larger it is, the "
            "closer together they lie, and the nearer to the best: most minima of a large "
            "network are good ones (after Choromanska et al., AISTATS 2015, figure 3).",
        ),
        Picture(
            "networks-spread",
            f"The error on points held out after {epochs} steps, from {seeds} starts for each "
            "size. The line is the median.",
            "Columns of dots, one for each size. They move down and draw together as the size "
            "grows.",
            (_framed("final losses", "hidden units", "mean squared error", dots, "y"),),
        ),
        table(
            "networks-spread-summary",
            "The best, the median and the worst of the starts.",
            ("hidden units", "best", "median", "worst", "worst / best"),
            rows,
        ),
        table(
            "networks-spread",
            "The final loss of every start, in ascending order.",
            ("hidden units", *(f"start {k}" for k in range(1, seeds + 1))),
            [(size, *losses) for size, losses in found.items()],
        ),
    )
