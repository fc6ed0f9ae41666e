"""Sections on what training finds, and where it is stuck, of the chapter `networks`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diffkit.reporting import network_studies as studies
from diffkit.reporting.figures import COLOURS
from diffkit.reporting.network_panels import framed, heights, lines, table
from diffkit.reporting.page import Picture, Section, scientific

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def dead(rates: Sequence[float], seeds: int) -> Section:
    """Return the section on rectifiers that die."""
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
            (framed("dead units after training", "learning rate", "share of dead units",
                     lines(curves, "o"), "x"),),
        ),
        data,
        data,
    )  # fmt: skip


def starts(epochs: int) -> Section:
    """Return the section on equal starts."""
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
            (framed("learning exclusive-or", "steps of Adam", "log loss", lines(curves), "y"),),
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


def plateaus(points: int) -> Section:
    """Return the section on level losses."""
    axis = np.linspace(-12, 12, points)
    found = studies.surfaces(axis)

    def filled(values: Any) -> Callable[[Axes], None]:
        def fill(ax: Axes) -> None:
            shades = ax.contourf(axis, axis, np.round(values, 6), levels=12, cmap="Blues")
            ax.figure.colorbar(shades, ax=ax)
            ax.grid(visible=False)

        return fill

    panels = tuple(
        framed(name, "weight w", "bias b", filled(values)) for name, values in found.items()
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


def zigzag(steps: int) -> Section:
    """Return the section on inputs that are all positive."""
    found = studies.paths(steps)
    shares = {name: path.share for name, path in found.items()}

    def walked(points: Any, colour: str) -> Callable[[Axes], None]:
        def fill(ax: Axes) -> None:
            x, y = np.round(points, 5).T
            ax.plot(x, y, marker="o", color=COLOURS[colour])
            ax.plot([1], [-1], "*", markersize=12, color="black")

        return fill

    panels = tuple(
        framed(name, "w₁", "w₂", walked(path.points, colour))
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


def approximation(widths: Sequence[int]) -> Section:
    """Return the section on error against width."""
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
            (framed("error by width", "hidden units", "largest error", lines(curves, "o"),
                     "xy"),),
        ),
        data,
        data,
    )  # fmt: skip


def spread(sizes: Sequence[int], seeds: int, epochs: int) -> Section:
    """Return the section on final losses over seeds."""
    found = studies.loss_spread(sizes, seeds, epochs)

    def dots(ax: Axes) -> None:
        for place, losses in enumerate(found.values()):
            ax.plot([place] * len(losses), heights(losses), "o", color=COLOURS["blue"], alpha=0.5)
            ax.plot([place - 0.3, place + 0.3], heights([np.median(losses)] * 2), color="black")
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
            (framed("final losses", "hidden units", "mean squared error", dots, "y"),),
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
