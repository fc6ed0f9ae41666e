"""The loop: batches, gradients from a backend, steps, records, and when to end."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffkit.errors import DiffkitWarning, InvalidInput, NonFiniteDerivative
from diffkit.interface import Differentiator, Prepared
from diffkit.nn.network import Network
from diffkit.operators import prepare
from diffkit.structure import Layout, Leaves, flatten
from diffkit.training.data import require_classes, require_usable
from diffkit.training.optimisers import SGD, Optimiser, Schedule


@dataclass(frozen=True)
class History:
    """What happened, epoch by epoch.

    Attributes:
        loss: the mean of the losses of the batches as they were when they were used.
        gradient_norm: the mean of the Euclidean norms of their gradients.
        held_out: the loss on the held-out data after each epoch, if there are any.
        ended: why training ended: `epochs`, `patience`, `tolerance`, `stationary`, `diverged`.
    """

    loss: tuple[float, ...] = ()
    gradient_norm: tuple[float, ...] = ()
    held_out: tuple[float, ...] = ()
    ended: str = "epochs"

    @property
    def epochs(self) -> int:
        return len(self.loss)


@dataclass(frozen=True, eq=False)
class Trained:
    """What training found: the parameters, and how it came to them."""

    parameters: Any
    history: History


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        optimiser: `SGD(rate, momentum)`, `Adam(rate)` or one of your own.
        epochs: how often every sample is used, at most.
        batch: samples per step; None takes all of them (gradient descent proper).
        schedule: of the learning rate; constant by default.
        seed: of the order in which samples are used.
        patience: end when the loss (held out, if there is such data) has not fallen for so
            many epochs, and return the parameters of the best.
        tolerance: end when the mean norm of the gradient in an epoch is at most this.
        progress: show a progress bar.
    """

    optimiser: Optimiser = field(default_factory=SGD)
    epochs: int = 100
    batch: int | None = None
    schedule: Schedule | None = None
    seed: int = 0
    patience: int | None = None
    tolerance: float = 0.0
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "patience"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
                raise InvalidInput(f"{name}={value!r} must be a positive integer")
        if not self.tolerance >= 0:
            raise InvalidInput(f"tolerance={self.tolerance!r} must not be negative")


def train(
    model: Network | Callable[..., Any],
    parameters: Any,
    X: Any,
    y: Any,
    plan: Plan | None = None,
    *,
    held_out: tuple[Any, Any] | None = None,
    backend: str | Differentiator = "tape",
) -> Trained:
    """Return parameters at which the loss is lower, and the history of getting there.

    Args:
        model: a network, or a loss called as loss(parameters, X, y).
        parameters: where to start, as from `network.initial`.
        X: features, one sample per row.
        y: targets, one per sample.
        plan: how; by default 100 steps of gradient descent at rate 0.1.
        held_out: (X, y) that are not learned from, to watch.
        backend: where the gradients come from.

    Raises:
        DatasetError: there are no samples, not as many targets as samples, an entry is not
            finite, or a classifier is to learn a single class.
        InvalidInput: parameters or data do not fit the network.

    Warns:
        DiffkitWarning: training diverged, or the gradient is exactly 0 at the start.
    """
    plan = plan or Plan()
    loss = model.loss if isinstance(model, Network) else model
    for data in ((X, y), held_out):
        if data is not None:
            require_usable(*data)
    if isinstance(model, Network):
        require_classes(model, y)
    layout, leaves = flatten(parameters, "parameters")
    size = min(plan.batch or len(X), len(X))
    prepared = prepare(loss, parameters, X[:size], y[:size], backend=backend)
    course = _Course(plan, layout, prepared, loss)
    with _bar(plan) as advance:
        for epoch in range(plan.epochs):
            leaves = course.epoch(epoch, leaves, X, y, size)
            course.judge(leaves, held_out)
            advance(course.losses[-1] if course.losses else math.nan)
            if course.ended:
                break
    course.report()
    return Trained(layout.restore(course.best), course.history())


class _Course:
    """Training as it goes: the state of the optimiser, the records, the best so far."""

    def __init__(
        self, plan: Plan, layout: Layout, prepared: Prepared, loss: Callable[..., Any]
    ) -> None:
        self.plan, self.layout, self.prepared, self.loss = plan, layout, prepared, loss
        self.generator = np.random.default_rng(plan.seed)
        self.state: Any = None
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.watched: list[float] = []
        self.best: Leaves = []
        self.lowest = math.inf
        self.since = 0
        self.ended = ""

    def epoch(self, number: int, leaves: Leaves, X: Any, y: Any, size: int) -> Leaves:
        """Use every sample once, and return the parameters after it."""
        factor = self.plan.schedule(number) if self.plan.schedule else 1.0
        optimiser = self.plan.optimiser
        if self.state is None:
            self.state, self.best = optimiser.start(leaves), leaves
        total = norms = 0.0
        for rows in self._batches(len(X), size):
            try:
                value, gradient = self._differentiated(leaves, X, y, rows)
            except NonFiniteDerivative:
                value = math.nan
            if not math.isfinite(value):
                self.ended = "diverged"
                return leaves
            share = 1.0 if rows is None else len(rows) / len(X)
            total += share * value
            norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=float))) for g in gradient))
            norms += share * norm
            self.state, moves = optimiser.step(self.state, gradient, factor)
            leaves = [
                (leaf + move).astype(leaf.dtype) for leaf, move in zip(leaves, moves, strict=True)
            ]
        self.losses.append(total)
        self.norms.append(norms)
        return leaves

    def judge(self, leaves: Leaves, held_out: tuple[Any, Any] | None) -> None:
        """Keep the parameters if they are the best, and decide whether to go on."""
        if self.ended:
            return
        if held_out is not None:
            self.watched.append(float(self.loss(self.layout.restore(leaves), *held_out)))
        if self.plan.patience is None:
            self.best = leaves
        else:
            watched = self.watched[-1] if held_out is not None else self.losses[-1]
            self.since += 1
            if watched < self.lowest:
                self.lowest, self.best, self.since = watched, leaves, 0
            if self.since >= self.plan.patience:
                self.ended = "patience"
        if self.norms[-1] == 0:
            self.ended = "stationary"
        elif self.norms[-1] <= self.plan.tolerance:
            self.ended = "tolerance"

    def report(self) -> None:
        """Warn of a course that taught nothing."""
        if self.ended == "diverged":
            warnings.warn(
                f"training diverged in epoch {len(self.losses) + 1}: the loss or its gradient is "
                "not finite any more; the parameters of the epoch before are returned. Use a "
                "smaller learning rate, or scale the features",
                DiffkitWarning,
                stacklevel=3,
            )
        if self.ended == "stationary" and len(self.losses) == 1:
            warnings.warn(
                "the gradient is exactly 0 at the start, so that nothing can be learned: the "
                "start is a stationary point, as all-zero weights are, or the units have "
                "derivative 0, as thresholds do",
                DiffkitWarning,
                stacklevel=3,
            )

    def history(self) -> History:
        return History(
            tuple(self.losses), tuple(self.norms), tuple(self.watched), self.ended or "epochs"
        )

    def _batches(self, count: int, size: int) -> Iterator[Any]:
        """The rows of each batch, in random order; None for all rows as they are."""
        if size == count:
            yield None
            return
        order = self.generator.permutation(count)
        yield from (order[i : i + size] for i in range(0, count, size))

    def _differentiated(self, leaves: Leaves, X: Any, y: Any, rows: Any) -> tuple[float, Leaves]:
        data = (X, y) if rows is None else (X[rows], y[rows])
        parameters = self.layout.restore(leaves)
        value, gradient = self.prepared.value_and_gradient(parameters, *data)
        return float(value), self.layout.flatten(gradient)


@contextmanager
def _bar(plan: Plan) -> Iterator[Callable[[float], None]]:
    """Give a function to call after each epoch, with the loss."""
    if not plan.progress:
        yield lambda loss: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("training", total=plan.epochs)
        yield lambda loss: bar.update(task, advance=1, description=f"loss {loss:.4g}")
