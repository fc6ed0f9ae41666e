"""Chapter `networks`: what goes wrong inside networks, and what their graphs look like."""

from __future__ import annotations

from typing import Final

from diffkit.nn import RELU, SIGMOID
from diffkit.reporting import network_studies as studies
from diffkit.reporting.chapters import network_graphs as graphs
from diffkit.reporting.chapters import network_signals as signals
from diffkit.reporting.chapters import network_training as training
from diffkit.reporting.page import Chapter, command

NAME: Final = "networks"


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    few = (SIGMOID, RELU)
    found = studies.signals(8, few) if quick else studies.signals(20)
    return Chapter(
        NAME,
        "Networks",
        "Why deep sigmoids stop learning, units die and losses have plateaus, measured on small "
        "networks; and the computational graphs that derivatives flow through.",
        command(NAME, quick),
        (
            graphs.functions(),
            graphs.in_full(),
            graphs.by_layers(),
            signals.gradients(found, (4, 8) if quick else (5, 10, 20)),
            signals.saturation(found),
            training.dead(*(((0.03, 1.0), 2) if quick else ((0.01, 0.03, 0.1, 0.3, 1.0), 5))),
            training.starts(40 if quick else 200),
            training.plateaus(13 if quick else 41),
            training.zigzag(60),
            training.approximation((2, 8, 32) if quick else (2, 4, 8, 16, 32, 64, 128)),
            training.spread(*(((2, 4, 8), 4, 40) if quick else ((2, 4, 8, 16, 32, 64), 20, 300))),
        ),
    )
