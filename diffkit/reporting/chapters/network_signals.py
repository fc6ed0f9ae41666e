"""Sections on what passes through deep networks at the start, of the chapter `networks`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from diffkit.reporting import network_studies as studies
from diffkit.reporting.network_panels import framed, lines, table
from diffkit.reporting.page import Picture, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gradients(found: Sequence[studies.Signal], depths: Sequence[int]) -> Section:
    """Return the section on vanishing and exploding gradients."""
    panels = tuple(
        framed(name, "layer, from the input", "norm of the gradient by W", lines(curves), "y")
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


def saturation(found: Sequence[studies.Signal]) -> Section:
    """Return the section on saturated units."""
    panels = tuple(
        framed(name, "layer, from the input", "share with |φ'| < 0.01",
                _ranged(lines(curves), (-0.03, 1.03)))
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
            "The share of units and samples whose slope is below a hundredth, at the start. A "
            "factor common to all weights changes no sign: for rectifiers the three normal starts "
            "are one curve.",
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


def _ranged(fill: Callable[[Axes], None], y_limits: tuple[float, float]) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        fill(ax)
        ax.set_ylim(y_limits)

    return draw
