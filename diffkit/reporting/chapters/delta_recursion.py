"""Chapter `delta-recursion`: the gradient of a network as formulas, held against the tape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.nn import (
    ACTIVATIONS,
    SOFTMAX_CROSS_ENTROPY,
    TANH,
    DeltaRecursion,
    Penalty,
    delta_recursion,
    fully_connected,
)
from diffkit.nn.matrix_terms import Formula
from diffkit.nn.slopes import slope_of
from diffkit.operators import gradient
from diffkit.reporting.figures import sketch
from diffkit.reporting.page import Cell, Chapter, Picture, Section, Table, command
from diffkit.structure import flatten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME: Final = "delta-recursion"
WIDTHS: Final = (4, 6, 5, 3)
BATCH: Final = 20
WITHOUT_SLOPE: Final = ("identity", "threshold")


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    return Chapter(
        NAME,
        "Backpropagation as formulas",
        "The gradient of a network, derived by matrix calculus and printed layer by layer. The "
        "formulas are data: evaluated as they stand, they give the gradient of the tape.",
        command(NAME, quick),
        (_network(), _activations()),
    )


def _network() -> Section:
    network = fully_connected(WIDTHS, SOFTMAX_CROSS_ENTROPY, TANH, penalty=Penalty(l2=0.01))
    recursion = delta_recursion(network)
    return Section(
        "A classifier, from the loss to the first layer",
        (
            "Samples are rows: A₀ holds one to a row, and 1 is a column of ones. Read from the "
            "loss down, each Δ is the one above it sent back through the weights, times the "
            "slopes of its own layer. That is the delta rule of Rumelhart, Hinton and Williams "
            "(1986), for a whole batch at once.",
            f"Here {'; '.join(recursion.legend)}; N is the number of samples. "
            "The same formulas as text, LaTeX or in a notebook: diffkit.nn.delta_recursion.",
        ),
        Picture(
            "delta-recursion-network",
            "Forward, back, and the gradient by each parameter. The circle is the product entry "
            "by entry. The symbol φ' stands for SymPy's derivative of the activation.",
            f"The formulas: {'; '.join(formula.text() for formula in recursion.formulas)}.",
            (("formulas", _typeset(recursion)),),
        ),
        _agreement(recursion),
        _formulas(recursion),
    )


def _typeset(recursion: DeltaRecursion) -> str:
    def lines(part: Sequence[Formula]) -> list[str]:
        return [_math(formula) for formula in part]

    slopes = [f"${line}$" for line in recursion.latex_lines()[len(recursion.formulas) :]]
    left = [*lines(recursion.forward), "", *lines(recursion.deltas)]
    right = [*lines(recursion.gradients), "", *slopes]
    height = 0.36 * max(len(left), len(right))
    return sketch(partial(_written, (left, right)), (5.6, height))


def _math(formula: Formula) -> str:
    """A formula on one line, without the negative spaces that Matplotlib makes too wide."""
    left = formula.left_latex()
    if formula.derivative:
        left = rf"\partial J / \partial {formula.symbol.latex()}"
    return f"${left} = {formula.right.latex()}$".replace(r"\!", "")


def _written(columns: Sequence[list[str]], ax: Axes) -> None:
    ax.set_axis_off()
    rows = max(map(len, columns))
    ax.set(xlim=(0, 1), ylim=(rows - 0.4, -0.6))
    for x, lines in zip((0.0, 0.55), columns, strict=True):
        for row, line in enumerate(lines):
            ax.text(x, row, line, fontsize=11, verticalalignment="center")


def _agreement(recursion: DeltaRecursion) -> Table:
    network = recursion.network
    generator = np.random.default_rng(0)
    parameters = network.initial(seed=1)
    X = generator.normal(size=(BATCH, WIDTHS[0]))
    y = generator.integers(0, WIDTHS[-1], BATCH)
    by_formulas = recursion.evaluate(parameters, X, y)
    by_tape = gradient(network.loss, parameters, X, y)
    layout, leaves = flatten(by_tape)
    found = layout.flatten(by_formulas)
    rows = tuple(
        (leaf.name, " × ".join(map(str, leaf.shape)), float(np.max(np.abs(b))), _furthest(a, b))
        for leaf, a, b in zip(layout.leaves, found, leaves, strict=True)
    )
    return Table(
        "delta-recursion-agreement",
        f"The formulas evaluated with NumPy against the tape, on {BATCH} samples.",
        ("parameter", "shape", "largest entry of the gradient", "largest difference"),
        rows,
    )


def _furthest(a: Any, b: Any) -> float:
    return float(np.max(np.abs(a - b)))


def _formulas(recursion: DeltaRecursion) -> Table:
    rows = tuple((formula.text(), formula.latex()) for formula in recursion.formulas)
    return Table(
        "delta-recursion-network", "Every formula.", ("formula", "LaTeX"), rows
    )  # fmt: skip


def _activations() -> Section:
    x = np.linspace(-4.0, 4.0, 801)
    rows: list[tuple[Cell, ...]] = []
    for name, phi in ACTIVATIONS.items():
        if name in WITHOUT_SLOPE:
            continue
        slope = slope_of(phi)
        apart = _furthest(slope.derivative(x), phi.derivative(x))
        shown = (str(e).replace("**", "^") for e in (slope.formula, slope.slope))
        rows.append((name, *shown, apart))
    table = Table(
        "delta-recursion-activations",
        "φ, SymPy's φ', and how far that lies at most from the derivative written by hand, on "
        "[-4, 4]. Heaviside's step is a half at 0.",
        ("activation", "φ(z)", "φ'(z)", "largest difference"),
        tuple(rows),
    )
    return Section(
        "The slopes of the activations",
        (
            "Every activation with its derivative as SymPy finds it. The forms that are easy to "
            "read are not those that keep all digits (1 - tanh² cancels where tanh is nearly 1); "
            "the backends and the closed forms of diffkit compute them otherwise.",
        ),
        None,
        table,
        table,
    )
