"""Training: gradient descent on a loss, with any backend as the source of the gradients.

The same seed gives the same trajectory: exactly with one backend, and to rounding with every
other that differentiates exactly.
"""

from __future__ import annotations

from diffkit.training.data import accuracy, require_usable
from diffkit.training.loop import Plan, train
from diffkit.training.optimisers import SGD, Adam, Optimiser, Schedule, cosine, steps_down
from diffkit.training.results import History, Trained
from diffkit.training.studies import final_losses

__all__ = [
    "SGD",
    "Adam",
    "History",
    "Optimiser",
    "Plan",
    "Schedule",
    "Trained",
    "accuracy",
    "cosine",
    "final_losses",
    "require_usable",
    "steps_down",
    "train",
]
