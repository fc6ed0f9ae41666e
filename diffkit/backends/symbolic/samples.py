"""The mean loss of a network over a batch, sample by sample."""

from __future__ import annotations

import sys

import numpy as np

from diffkit.target import Point, Target


def is_network_loss(target: Target) -> bool:
    """Whether `target` is the bound method `loss` of a `Network`, by its parameters.

    Such a loss is a mean over the batch.
    """
    networks = sys.modules.get("diffkit.nn.network")  # no network exists before it is imported
    if networks is None or target.wrt != 0:
        return False
    return getattr(target.f, "__func__", None) is networks.Network.loss


def rows(point: Point) -> list[Point]:
    """One point per sample of the data (features, targets)."""
    if len(point.data) != 2:
        return [point]
    X, y = point.data
    if np.ndim(X) != 2 or np.shape(y)[:1] != np.shape(X)[:1] or len(X) < 2:
        return [point]
    samples = ((X[i : i + 1], y[i : i + 1]) for i in range(len(X)))
    return [Point(point.layout, point.leaves, sample) for sample in samples]


def is_mean(target: Target, point: Point) -> bool:
    """Whether the loss over the batch is the mean over its samples, as it should be."""
    samples = rows(point)
    if len(samples) < 2:
        return False
    values = [target.call(sample.x, sample.data) for sample in samples]
    whole = np.asarray(target.call(point.x, point.data))
    return bool(np.isclose(np.mean(values), whole, rtol=np.sqrt(np.finfo(whole.dtype).eps)))
