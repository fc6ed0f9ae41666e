"""One workload: every contestant checked, then timed against the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends.finite import FiniteDifference
from diffkit.bench.contestants import CONTESTANTS, FUNCTION, HAND
from diffkit.bench.timing import interleaved
from diffkit.bench.workloads import Workload
from diffkit.errors import DiffkitError
from diffkit.structure import flatten

ROUNDING: Final = 1e-9
"""Relative slack beside the difference's own estimate: the gradient has rounding of its own."""


@dataclass(frozen=True)
class Row:
    """What one contestant took.

    Attributes:
        contestant: who.
        seconds: the median of one call; None if it was not timed.
        remark: why it was not timed; otherwise empty.
    """

    contestant: str
    seconds: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Measurement:
    """The times of one workload, fastest first.

    Attributes:
        workload: its name.
        base: the contestant that the ratios refer to: hand-written NumPy where there is any,
            the function alone elsewhere.
        rows: of the contestants.
    """

    workload: str
    base: str
    rows: tuple[Row, ...]

    def ratio(self, row: Row) -> float | None:
        """Return the row's time over the base's; None if it was not timed."""
        base = next(r.seconds for r in self.rows if r.contestant == self.base)
        return None if row.seconds is None or base is None else row.seconds / base

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, the ratios included."""
        rows = [{**asdict(row), "ratio": self.ratio(row)} for row in self.rows]
        return {"workload": self.workload, "base": self.base, "rows": rows}


def measure(workload: Workload, seconds: float) -> Measurement:
    """Return the times of everybody who gets the workload's gradient right.

    Args:
        workload: one of `WORKLOADS`.
        seconds: to spend on timing, per contestant.
    """
    calls: dict[str, Callable[[], Any]] = {FUNCTION: workload.value}
    refused: list[Row] = []
    holds = _directional_check(workload)
    for contestant in CONTESTANTS:
        if not contestant.installed:
            continue
        try:
            call = contestant.enter(workload)
            remark = "" if call is None else holds(contestant.gradient(call()))
        except DiffkitError as refusal:
            refused.append(Row(contestant.name, remark=" ".join(str(refusal).split())))
            continue
        if remark:
            refused.append(Row(contestant.name, remark=remark))
        elif call is not None:
            calls[contestant.name] = call
    times = interleaved(calls, seconds)
    timed = sorted((Row(name, t) for name, t in times.items()), key=lambda row: row.seconds or 0.0)
    base = HAND if HAND in calls else FUNCTION
    return Measurement(workload.name, base, (*timed, *refused))


def _directional_check(workload: Workload) -> Callable[[Any], str]:
    """A test of a gradient, which says what is wrong with it, or nothing.

    It holds the gradient against a difference of the plain function along a random direction,
    which shares nothing with any contestant.
    """
    layout, leaves = flatten(workload.x, "x")
    point = layout.ravel(leaves)
    rng = np.random.default_rng(0)
    direction = rng.normal(size=point.size)
    direction /= np.linalg.norm(direction)

    def along(t: float) -> Any:
        moved = layout.restore(layout.unravel(point + t * direction))
        return workload.f(moved, *workload.data)

    slope = FiniteDifference().prepare(along, 0.0).estimate(0.0)

    def holds(gradient: Any) -> str:
        _, given = flatten(gradient, "gradient")
        found = float(np.concatenate([np.ravel(leaf) for leaf in given]) @ direction)
        scale = float(np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in given])))
        if abs(found - slope.value) <= slope.error + ROUNDING * scale:
            return ""
        return f"wrong: {found:.10g} along a direction where the slope is {slope.value:.10g}"

    return holds
