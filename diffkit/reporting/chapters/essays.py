"""Chapter `essays`: formulas as two introductory essays print them, and what they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.nn import ELU, GELU, GELU_ERF, SELU, elu, logic
from diffkit.operators import gradient
from diffkit.reporting.figures import COLOURS, sketch
from diffkit.reporting.misprints import (
    CORNERS,
    LOGITS,
    RIGHT_CLASS,
    Misprint,
    activation_misprints,
    backpropagation_step,
    gradient_without_square,
    layer_misprints,
    loss_misprints,
    neuron_misprints,
    printed_cross_entropy,
    printed_exclusive_or,
    printed_gelu,
    regression,
    right_cross_entropy,
)
from diffkit.reporting.page import Cell, Chapter, Picture, Section, Table, command

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME: Final = "essays"
COLUMNS: Final = ("what it is for", "as printed", "run, it gives", "what is meant")


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    return Chapter(
        NAME,
        "The essays under test",
        "Two introductory essays on neural networks are where the networks of this package come "
        "from. Several of their formulas are wrong as printed; running them shows it.",
        command(NAME, quick),
        (_neurons(), _activations(), _losses(), _layers()),
    )


def _table(name: str, found: Sequence[Misprint]) -> Table:
    rows = tuple((m.purpose, m.printed, m.found, m.meant) for m in found)
    return Table(name, "Each formula as printed, run as it stands.", COLUMNS, rows)


def _series(name: str, caption: str, columns: Sequence[str], *values: Any) -> Table:
    rows: list[tuple[Cell, ...]] = [
        tuple(_short(v) for v in row) for row in zip(*values, strict=True)
    ]
    return Table(name, caption, tuple(columns), tuple(rows))


def _short(value: Any) -> float:
    """Seven digits: what a figure shows, and the same on every machine."""
    return float(f"{float(value):.7g}")


# ---------------------------------------------------------------------- neurons


def _neurons() -> Section:
    axis = np.linspace(-0.5, 1.5, 80)  # no point lies on a line between the regions
    x1, x2 = np.meshgrid(axis, axis)
    points = np.stack([x1.ravel(), x2.ravel()], axis=1)
    right = logic.exclusive_or()(points).reshape(x1.shape)
    printed = printed_exclusive_or(x1, x2)
    panels = (
        ("printed for exclusive-or", _regions("printed for exclusive-or", axis, printed)),
        ("exclusive-or as shipped", _regions("exclusive-or as shipped", axis, right)),
    )
    step = slice(None, None, 8)
    table = _series(
        "essays-neurons",
        "The outputs over the plane.",
        ("x1", "x2", "printed", "shipped"),
        *(values[step, step].ravel() for values in (x1, x2, printed, right)),
    )
    return Section(
        "Neurons",
        (
            "A threshold unit answers a linear question with 1 or 0. What a composition of them "
            "computes is read off its truth table; the one printed for exclusive-or computes the "
            "opposite of it.",
        ),
        Picture(
            "essays-neurons",
            "Orange where the network answers 1. The corners that exclusive-or must answer with "
            "1 are marked by filled dots. As printed, the answer is 1 outside the strip; it "
            "should be 1 inside.",
            "Two maps of the unit square. In the first the corners 00 and 11 lie in the region "
            "answered by 1, in the second the corners 01 and 10 do.",
            panels,
        ),
        _table("essays-neurons-misprints", neuron_misprints()),
        table,
    )


def _regions(title: str, axis: Any, values: Any) -> str:
    def draw(ax: Axes) -> None:
        ax.set_title(title)
        ax.set_xlabel("x₁")
        ax.set_ylabel("x₂")
        ax.contourf(axis, axis, values, levels=[0.5, 1.5], colors=["#f6dfae"])
        for a, b in CORNERS:
            odd = a != b
            face = COLOURS["vermilion"] if odd else "white"
            ax.plot([a], [b], "o", markersize=9, color=face, markeredgecolor="black")
        ax.set_aspect("equal")
        ax.set_xticks([-0.5, 0, 0.5, 1, 1.5])
        ax.set_yticks([-0.5, 0, 0.5, 1, 1.5])

    return sketch(draw, (3.9, 3.7))


# ---------------------------------------------------------------------- activations


def _activations() -> Section:
    x = np.linspace(-5, 3, 161)
    curves = (("as printed", printed_gelu(x), "vermilion"), ("xΦ(x)", GELU_ERF(x), "black"),
              ("with 0.044715 x³", GELU(x), "sky"))  # fmt: skip
    near = np.linspace(-1, 1, 81)
    rectifiers = (("ELU, α = 1", ELU, "blue"), ("ELU, α = 0.5", elu(0.5), "vermilion"),
                  ("SELU", SELU, "green"))  # fmt: skip
    slopes = tuple(
        (label, np.where(near == 0, np.nan, phi.derivative(near)), colour)
        for label, phi, colour in rectifiers
    )
    panels = (
        ("the GELU", _curves("the GELU", "x", "φ(x)", x, curves)),
        ("slopes near 0", _curves("slopes near 0", "x", "φ'(x)", near, slopes)),
    )
    table = _series(
        "essays-activations",
        "The curves of the first panel.",
        ("x", "printed", "erf form", "tanh form"),
        x[::4],
        *(values[::4] for _, values, _ in curves),
    )
    return Section(
        "Activations",
        (
            "With a square in place of the cube, the argument of the tanh is positive on both "
            "sides of 0, and the curve follows x instead of vanishing where x is negative.",
        ),
        Picture(
            "essays-activations",
            "Left: the printed curve falls along x where the GELU is all but 0; its dashed "
            "approximation with 0.044715 x³ cannot be told from it. Right: the slope jumps at 0 "
            "unless α is 1.",
            "Left, three curves: two coincide and level out at 0 to the left, the printed one "
            "falls to -5. Right, three slopes of which only that of the ELU with α = 1 is "
            "continuous.",
            panels,
        ),
        _table("essays-activations-misprints", activation_misprints()),
        table,
    )


def _curves(
    title: str, x_label: str, y_label: str, x: Any, curves: Sequence[tuple[str, Any, str]]
) -> str:
    def draw(ax: Axes) -> None:
        ax.set_title(title)
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
        for i, (label, y, colour) in enumerate(curves):
            style: Any = ("-", "-", (0, (4, 2)))[i]
            heights = [_short(value) for value in y]
            ax.plot(x, heights, color=COLOURS[colour], label=label, linestyle=style, linewidth=1.6)
        ax.legend()

    return sketch(draw, (4.2, 3.7))


# ---------------------------------------------------------------------- losses


def _descent(slope: Callable[[Any], Any], steps: int) -> list[float]:
    """The loss along gradient descent at rate 0.1, by any formula for the gradient."""
    net, p, X, Y = regression()
    losses = []
    for _ in range(steps + 1):
        losses.append(float(net.loss(p, X, Y)))
        g = slope(p)["layer1"]
        p = {"layer1": {name: p["layer1"][name] - 0.1 * g[name] for name in ("W", "b")}}
    return losses


def _losses() -> Section:
    shifts = np.linspace(-20, 20, 41)
    printed = [float(printed_cross_entropy(LOGITS + c, RIGHT_CLASS)) for c in shifts]
    right = [float(right_cross_entropy(LOGITS + c, RIGHT_CLASS)) for c in shifts]
    net, _, X, Y = regression()
    steps = 40
    by_printed = _descent(lambda p: gradient_without_square(p, X, Y), steps)
    by_right = _descent(lambda p: gradient(net.loss, p, X, Y), steps)
    panels = (
        ("cross-entropy of shifted logits",
         _curves("cross-entropy of shifted logits", "a number added to all logits", "loss", shifts,
                 (("as printed", printed, "vermilion"), ("right", right, "blue")))),
        ("descent along each gradient",
         _curves("descent along each gradient", "steps", "mean squared error",
                 np.arange(steps + 1), (("as printed, without the square", by_printed,
                                         "vermilion"), ("right", by_right, "blue")))),
    )  # fmt: skip
    table = _series(
        "essays-losses",
        "The curves of both panels.",
        ("shift", "printed", "right", "step", "descent, printed", "descent, right"),
        shifts, printed, right, np.arange(steps + 1), by_printed, by_right,
    )  # fmt: skip
    return Section(
        "Losses",
        (
            "A softmax does not see a number that is added to all logits, so neither may its "
            "loss. With the wrong sign of a_max it falls by 2 for each unit. And a gradient of "
            "the mean squared error that does not see the targets leads away from them.",
        ),
        Picture(
            "essays-losses",
            "Left: the printed loss slopes where it should be level, and turns negative. Right: "
            "descending along the printed gradient, the error grows without end.",
            "Left, a level line and one that falls with slope -2. Right, one curve falls to 0 "
            "and the other rises.",
            panels,
        ),
        _table("essays-losses-misprints", loss_misprints()),
        table,
    )


# ---------------------------------------------------------------------- layers


def _layers() -> Section:
    step = backpropagation_step()
    table = _series(
        "essays-layers",
        "∂J/∂a_i of three inputs, right and as printed.",
        ("i", "right", *(f"printed, j = {j}" for j in (1, 2, 3))),
        (1, 2, 3),
        step.right,
        *step.printed,
    )

    def draw(ax: Axes) -> None:
        ax.set_title("adjoints of three inputs")
        ax.set_xlabel("input i")
        ax.set_ylabel("∂J/∂aᵢ")
        colours = ("blue", "vermilion", "orange", "purple")
        labels = ("right", *(f"as printed, j = {j}" for j in (1, 2, 3)))
        for k, (label, colour, values) in enumerate(
            zip(labels, colours, (step.right, *step.printed), strict=True)
        ):
            ax.set_axisbelow(True)
            ax.bar(np.arange(1, 4) + 0.2 * (k - 1.5), values, 0.2, color=COLOURS[colour],
                   label=label)  # fmt: skip
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_xticks([1, 2, 3])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)

    return Section(
        "Layers and backpropagation",
        (
            "An index that is wrong shows in the shapes, or in the numbers: with j where i is "
            "meant, the sum over the neurons above does not depend on i any more.",
        ),
        Picture(
            "essays-layers",
            "Blue, the adjoints by the right formula: different for each input. As printed, "
            "every input gets the same one, whichever j is read into it.",
            "Bars for three inputs. The right ones differ; those of the printed formula are the "
            "same for all three.",
            (("adjoints of three inputs", sketch(draw, (4.6, 3.7))),),
        ),
        _table("essays-layers-misprints", layer_misprints()),
        table,
    )
