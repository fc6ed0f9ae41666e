"""Who takes part: this package by backend, hand-written NumPy, and the peers that are installed.

A peer is imported when it takes part, never before, and needs no installation to be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from diffkit import operators
from diffkit.bench.timing import seconds_of
from diffkit.bench.workloads import Workload
from diffkit.structure import flatten

FUNCTION: Final = "the function alone"
HAND: Final = "NumPy by hand"
EVALUATIONS: Final = 25  # that a finite difference takes per entry, about
LONGEST: Final = 5.0  # seconds for one gradient

Call = Callable[[], Any]


@dataclass(frozen=True)
class Contestant:
    """Somebody who differentiates a workload.

    Attributes:
        name: in the table.
        enter: gives the call to be timed, whose result holds value and gradient; None where
            the workload is not for it.
        gradient: the gradient in that result, in arrays that NumPy reads.
        module: what has to be importable; None for diffkit itself.
    """

    name: str
    enter: Callable[[Workload], Call | None]
    gradient: Callable[[Any], Any] = lambda result: result[1]
    module: str | None = None

    @property
    def installed(self) -> bool:
        return self.module is None or find_spec(self.module) is not None


def _by_hand(workload: Workload) -> Call | None:
    hand = workload.hand
    return None if hand is None else lambda: hand(workload.x, *workload.data)


def _prepared(backend: str) -> Callable[[Workload], Call]:
    def enter(workload: Workload) -> Call:
        x, data = workload.x, workload.data
        prepared = operators.prepare(workload.f, x, *data, backend=backend)
        return lambda: prepared.value_and_gradient(x, *data)

    return enter


def _differences(workload: Workload) -> Call | None:
    """Finite differences, where a gradient of them takes seconds and not minutes."""
    layout, _ = flatten(workload.x, "x")
    expected = layout.size * EVALUATIONS * seconds_of(workload.value)
    return _prepared("finite")(workload) if expected < LONGEST else None


def _unprepared(workload: Workload) -> Call:
    x, data = workload.x, workload.data
    return lambda: operators.value_and_gradient(workload.f, x, *data)


def _autograd(workload: Workload) -> Call:
    import autograd
    import autograd.numpy

    found = autograd.value_and_grad(lambda x: workload.function(autograd.numpy, x, *workload.data))
    return lambda: found(workload.x)


def _jax(workload: Workload) -> Call:
    """Compiled, NumPy in and NumPy out."""
    import jax

    jax.config.update("jax_enable_x64", True)
    found = jax.jit(jax.value_and_grad(lambda x: workload.function(jax.numpy, x, *workload.data)))

    def call() -> Any:
        value, gradient = found(workload.x)
        return float(value), jax.tree_util.tree_map(np.asarray, gradient)

    return call


def _torch(workload: Workload) -> Call:
    import torch

    torch.set_num_threads(1)
    names = SimpleNamespace(
        **{
            name: getattr(torch, name)
            for name in ("exp", "log", "tanh", "sin", "cos", "sum", "mean")
        },
        **{"maximum": torch.maximum, "zeros_like": torch.zeros_like, "max": torch.amax},
    )
    nested = isinstance(workload.x, list)
    parameters = workload.x if nested else [workload.x]
    leaves = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in parameters]
    data = [torch.tensor(part) for part in workload.data]

    def call() -> Any:
        value = workload.function(names, leaves if nested else leaves[0], *data)
        gradient = torch.autograd.grad(value, leaves)
        return value, gradient if nested else gradient[0]

    return call


def _from_torch(result: Any) -> Any:
    gradient = result[1]
    if isinstance(gradient, tuple):
        return [part.numpy() for part in gradient]
    return gradient.numpy()


PEERS: Final = (
    Contestant("autograd", _autograd, module="autograd"),
    Contestant("PyTorch (eager)", _torch, _from_torch, module="torch"),
    Contestant("JAX (jit)", _jax, module="jax"),
)
CONTESTANTS: Final = (
    Contestant(HAND, _by_hand),
    Contestant("diffkit tape, prepared", _prepared("tape")),
    Contestant("diffkit tape, unprepared", _unprepared),
    Contestant("diffkit symbolic, prepared", _prepared("symbolic")),
    Contestant("diffkit finite, prepared", _differences),
    *PEERS,
)
