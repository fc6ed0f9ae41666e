"""The loop: batches, gradients from a backend, steps, records, and when to end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from diffkit.callers import warn_user
from diffkit.errors import DiffkitWarning, InvalidInput, NonFiniteDerivative
from diffkit.interface import Differentiator
from diffkit.nn.masks import Places, drawn, has_dropout, mask_places, without_dropout
from diffkit.nn.network import Network
from diffkit.operators import prepare
from diffkit.structure import Leaves, flatten
from diffkit.training.data import require_classes, require_usable
from diffkit.training.optimisers import SGD, Optimiser, Schedule
from diffkit.training.results import History, Trained

_FLOAT64: Final = np.dtype(np.float64)


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
        fresh_masks: draw the masks of a network's dropout layers anew for each step.
        progress: show a progress bar.
    """

    optimiser: Optimiser = field(default_factory=SGD)
    epochs: int = 100
    batch: int | None = None
    schedule: Schedule | None = None
    seed: int = 0
    patience: int | None = None
    tolerance: float = 0.0
    fresh_masks: bool = True
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
    for data in ((X, y), held_out):
        if data is not None:
            require_usable(*data)
    if isinstance(model, Network):
        require_classes(model, y)
    course = _Course(model, parameters, X, y, plan, backend)
    with _bar(plan) as advance:
        for epoch in range(plan.epochs):
            course.epoch(epoch)
            course.judge(held_out)
            advance(course.losses[-1] if course.losses else math.nan)
            if course.ended:
                break
    course.report()
    return Trained(course.layout.restore(course.best), course.history())


class _Course:
    """Training as it goes: parameters, state of the optimiser, records, the best so far.

    The parameters are one set of arrays, moved in place; each step is one call of the prepared
    gradient, whose program is recorded once for each size of batch.
    """

    def __init__(
        self,
        model: Network | Callable[..., Any],
        parameters: Any,
        X: Any,
        y: Any,
        plan: Plan,
        backend: str | Differentiator,
    ) -> None:
        self.X, self.y, self.plan = X, y, plan
        self.layout, leaves = flatten(parameters, "parameters")
        self.leaves: Leaves = [np.array(leaf) for leaf in leaves]
        self.masks = _Masks(model, parameters, X, plan)
        self.size = min(plan.batch or len(X), len(X))
        loss, self.watched_loss = _losses(model)
        masks = self.masks.of(self.size)
        self.prepared = prepare(
            loss, parameters, X[: self.size], y[: self.size], *masks, backend=backend
        )
        self.generator = np.random.default_rng(plan.seed)
        self.state = plan.optimiser.start(self.leaves)
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.watched: list[float] = []
        self.best = self._copied()
        self.lowest = math.inf
        self.since = 0
        self.ended = ""

    def epoch(self, number: int) -> None:
        """Use every sample once, and move the parameters."""
        factor = self.plan.schedule(number) if self.plan.schedule else 1.0
        step, value_and_gradient = self.plan.optimiser.step, self.prepared.value_and_gradient
        leaves, structure = self.leaves, self.layout.unflatten(self.leaves)
        scalars = any(leaf.scalar for leaf in self.layout.leaves)
        total = norms = 0.0
        for share, data in self._batches():
            if scalars:
                structure = self.layout.restore(leaves)
            try:
                value, gradient = value_and_gradient(structure, *data)
            except NonFiniteDerivative:
                value = math.nan
            if not math.isfinite(value):
                self.ended = "diverged"
                return
            slopes = leaves_of(gradient)
            total += share * float(value)
            norms += share * _norm(slopes)
            self.state = step(self.state, leaves, slopes, factor)
            del data, gradient, slopes  # whose memory, still in the cache, the next step takes
        self.losses.append(total)
        self.norms.append(norms)

    def judge(self, held_out: tuple[Any, Any] | None) -> None:
        """Keep the parameters if they are the best, and decide whether to go on."""
        if self.ended:
            return
        if held_out is not None:
            parameters = self.layout.restore(self.leaves)
            self.watched.append(float(self.watched_loss(parameters, *held_out)))
        if self.plan.patience is None:
            self.best = self._copied()
        else:
            watched = self.watched[-1] if held_out is not None else self.losses[-1]
            self.since += 1
            if watched < self.lowest:
                self.lowest, self.best, self.since = watched, self._copied(), 0
            if self.since >= self.plan.patience:
                self.ended = "patience"
        if self.norms[-1] == 0:
            self.ended = "stationary"
        elif self.norms[-1] <= self.plan.tolerance:
            self.ended = "tolerance"

    def _copied(self) -> Leaves:
        return [leaf.copy() for leaf in self.leaves]

    def _batches(self) -> Iterator[tuple[float, tuple[Any, ...]]]:
        """The data of each batch, in random order, and its share of the samples."""
        count = len(self.X)
        if self.size == count:
            yield 1.0, (self.X, self.y, *self.masks.of(count))
            return
        order = self.generator.permutation(count)
        for i in range(0, count, self.size):
            rows = order[i : i + self.size]
            data = (self.X.take(rows, 0), self.y.take(rows, 0), *self.masks.of(len(rows)))
            yield len(rows) / count, data

    def report(self) -> None:
        """Warn of a course that taught nothing."""
        if self.ended == "diverged":
            warn_user(
                f"training diverged in epoch {len(self.losses) + 1}: the loss or its gradient is "
                "not finite any more; the parameters of the epoch before are returned. Use a "
                "smaller learning rate, or scale the features",
                DiffkitWarning,
            )
        if self.ended == "stationary" and len(self.losses) == 1:
            warn_user(
                "the gradient is exactly 0 at the start, so that nothing can be learned: the "
                "start is a stationary point, as all-zero weights are, or the units have "
                "derivative 0, as thresholds do",
                DiffkitWarning,
            )

    def history(self) -> History:
        return History(
            tuple(self.losses), tuple(self.norms), tuple(self.watched), self.ended or "epochs"
        )


class _Masks:
    """The masks of dropout layers, drawn for each step from a generator of their own."""

    def __init__(
        self, model: Network | Callable[..., Any], parameters: Any, X: Any, plan: Plan
    ) -> None:
        self.fresh = plan.fresh_masks and isinstance(model, Network) and has_dropout(model)
        self.model, self.parameters, self.X = model, parameters, X
        self.generator = np.random.default_rng([plan.seed, 1])
        self.places: dict[int, Places] = {}

    def of(self, size: int) -> tuple[Any, ...]:
        """Return what a network's loss takes after the targets, for a batch of that size."""
        if not self.fresh:
            return ()
        if size not in self.places:
            assert isinstance(self.model, Network)
            self.places[size] = mask_places(self.model, self.parameters, self.X[:size])
        return None, drawn(self.places[size], self.generator)


def _losses(model: Network | Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What is differentiated, and what held-out data are judged by: with nothing dropped."""
    if not isinstance(model, Network):
        return model, model
    return model.loss, without_dropout(model).loss


def leaves_of(structure: Any) -> Leaves:
    """Return the arrays of a gradient in order, without checking what a backend made."""
    if isinstance(structure, dict):
        structure = structure.values()
    elif not isinstance(structure, (list, tuple)):
        return [structure]
    return [leaf for member in structure for leaf in leaves_of(member)]


def _norm(leaves: Leaves) -> float:
    """The Euclidean norm of all entries, summed in double precision."""
    squares = 0.0
    for leaf in leaves:
        wide = leaf if leaf.dtype is _FLOAT64 else np.asarray(leaf, float)
        squares += np.vdot(wide, wide)
    return math.sqrt(squares)


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
