"""`cross_check`: the gradients of all backends against one of them, parameter by parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends import BACKENDS
from diffkit.backends.tape.rounding import rounding_budget
from diffkit.display import Display, Displayed, short, to_json
from diffkit.errors import DiffkitError
from diffkit.operators import gradient, prepare
from diffkit.structure import Leaves, flatten
from diffkit.target import Function
from diffkit.tracing import trace
from diffkit.tracing.fixed_indices import fixed_indices

ESTIMATE_MARGIN: Final = 3.0  # an error estimate is no bound
TELLING: Final = 1e-3  # a tolerance above this part of the gradient settles nothing


@dataclass(frozen=True)
class Agreement:
    """How far one backend's gradient by one parameter is from the reference.

    Attributes:
        parameter: the name of the array of parameters.
        backend: whose gradient.
        difference: the largest of an entry.
        relative: that, over the largest entry of the reference.
        ulps: that, in units in the last place of the largest entry of the reference.
        allowed: what rounding, and the backend's own error estimate, explain of it.
        verdict: `agree`, `disagree`, or `unresolved` where too much is allowed to tell.
    """

    parameter: str
    backend: str
    difference: float
    relative: float
    ulps: float
    allowed: float
    verdict: str


@dataclass(frozen=True)
class CrossCheck(Displayed):
    """The gradients of a loss by several backends, against one of them.

    Attributes:
        name: what was checked.
        reference: the backend the others are held against.
        parameters: how many numbers the gradient has.
        rows: one for each array of parameters and backend.
        refusals: why a backend gave no gradient.
    """

    name: str
    reference: str
    parameters: int
    rows: tuple[Agreement, ...]
    refusals: dict[str, str]

    @property
    def verdict(self) -> str:
        """`disagree` if anything does; else `agree` if everything does."""
        verdicts = {row.verdict for row in self.rows}
        if "disagree" in verdicts:
            return "disagree"
        return "agree" if verdicts == {"agree"} and not self.refusals else "unresolved"

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, **asdict(self)}

    def to_json(self) -> str:
        return to_json(self.to_dict())

    def _display(self) -> Display:
        rows = tuple(
            (
                row.parameter,
                row.backend,
                row.verdict,
                short(row.difference),
                short(row.relative),
                short(row.ulps),
                short(row.allowed),
            )
            for row in self.rows
        )
        return Display(
            (f"{self.name}: {self.parameters} parameters, against {self.reference}",),
            ("parameter", "backend", "verdict", "difference", "relative", "ulps", "allowed"),
            rows,
            (
                *(f"{backend} refuses: {why}" for backend, why in self.refusals.items()),
                f"verdict: {self.verdict}",
            ),
            left=3,
        )


def cross_check(
    loss: Function,
    parameters: Any,
    *data: Any,
    name: str = "loss",
    reference: str = "symbolic",
    backends: Sequence[str] = tuple(BACKENDS),
) -> CrossCheck:
    """Return how the gradients of `loss` by `backends` agree with that by `reference`.

    Entry by entry, a difference is explained by what rounding may do to both gradients
    (measured by `rounding_budget` on the recorded loss) and by the error estimate of the
    backend, if it has one.

    Raises:
        DiffkitError: the reference backend refuses.
    """
    layout, expected = flatten(gradient(loss, parameters, *data, backend=reference))
    budget = rounding_budget(fixed_indices(trace(loss, parameters, *data)))
    eps = [float(np.finfo(leaf.dtype).eps) for leaf in layout.leaves]
    rounding = [2 * np.asarray(leaf, float) for leaf in budget.allowed(expected, eps)]
    rows: list[Agreement] = []
    refusals: dict[str, str] = {}
    for backend in backends:
        if backend == reference:
            continue
        try:
            got, error = _gradient(loss, (parameters, *data), backend)
        except DiffkitError as refusal:
            refusals[backend] = " ".join(str(refusal).split())
            continue
        for k, leaf in enumerate(layout.leaves):
            allowed = rounding[k] + (ESTIMATE_MARGIN * error[k] if error else 0)
            rows.append(_agreement(leaf.name, backend, got[k], expected[k], allowed))
    rows.sort(key=lambda row: [leaf.name for leaf in layout.leaves].index(row.parameter))
    return CrossCheck(name, reference, layout.size, tuple(rows), refusals)


def _gradient(
    loss: Function, arguments: tuple[Any, ...], backend: str
) -> tuple[Leaves, Leaves | None]:
    """The gradient and, where the backend has one, its estimated error, as leaves."""
    estimate = prepare(loss, *arguments, backend=backend).estimate(*arguments)
    error = None if estimate.error is None else flatten(estimate.error)[1]
    return flatten(estimate.value)[1], error


def _agreement(parameter: str, backend: str, got: Any, expected: Any, allowed: Any) -> Agreement:
    difference = np.abs(got - expected)
    largest = float(np.max(np.abs(expected), initial=0.0))
    worst = float(np.max(difference, initial=0.0))
    tolerance = float(np.max(allowed, initial=0.0))
    if not np.all(difference <= allowed):
        verdict = "disagree"
    else:
        verdict = "unresolved" if tolerance > TELLING * largest > 0 else "agree"
    return Agreement(
        parameter,
        backend,
        worst,
        worst / largest if largest else (0.0 if worst == 0 else float("inf")),
        worst / float(np.spacing(np.asarray(largest, expected.dtype))),
        tolerance,
        verdict,
    )
