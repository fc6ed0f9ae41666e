"""Times of several calls that compete with each other on a machine that is never quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

SLICE: Final = 2e-3  # seconds; short enough to take turns often, long beside the clock's tick


def interleaved(calls: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Return the median seconds of one call, by name.

    The calls take turns, so that what else the machine does falls on all of them alike.

    Args:
        calls: by name.
        seconds: to spend on each of them. A call that takes longer is timed once, by itself.
    """
    first = {name: seconds_of(call) for name, call in calls.items()}
    turns = {name: call for name, call in calls.items() if first[name] < seconds}
    repeats = {name: max(1, int(SLICE / first[name])) for name in turns}
    times: dict[str, list[float]] = {name: [first[name]] for name in calls}
    end = time.perf_counter() + seconds * len(turns)
    while time.perf_counter() < end:
        for name, call in turns.items():
            times[name].append(_mean(call, repeats[name]))
    return {name: median(observed) for name, observed in times.items()}


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the seconds of one call, which an earlier one has warmed up unless it is long."""
    cold = _mean(call, 1)
    return cold if cold > 1 else max(_mean(call, 1), 1e-7)


def _mean(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
