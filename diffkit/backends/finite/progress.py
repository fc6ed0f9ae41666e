"""A progress bar for what takes longer than two seconds, where a terminal is attached."""

from __future__ import annotations

import sys
import time
from typing import Any

PATIENCE = 2.0  # seconds
INTERVAL = 0.1  # seconds between updates


class Meter:
    """Counts lines that are done, and evaluations, and shows them once that takes long."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start = time.monotonic()
        self._shown = 0.0
        self._bar: Any = None
        self._done = self._total = self._before = self._all = self._evaluations = 0

    def within(self, before: int, total: int) -> None:
        """Take the lines that are counted from now on for those after some, of more in total."""
        self._before, self._all = before, total

    def lines(self, done: int, total: int) -> None:
        """Take note of how many of the lines are finished."""
        self._done, self._total = self._before + done, self._all or total
        self.tick(0)

    def tick(self, evaluations: int) -> None:
        """Count evaluations, and show the bar if it is time."""
        self._evaluations += evaluations
        now = time.monotonic()
        if now - self._start < PATIENCE or now - self._shown < INTERVAL or not self._visible():
            return
        self._shown = now
        if self._bar is None:
            self._bar = _bar()
        self._bar.update(
            self._bar.task_ids[0],
            description=f"finite differences of {self.name}, {self._evaluations} evaluations",
            completed=self._done,
            total=self._total or None,
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _visible(self) -> bool:
        return sys.stderr is not None and sys.stderr.isatty()


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import Progress

    progress = Progress(console=Console(stderr=True), transient=True)
    progress.add_task("finite differences", total=None)
    progress.start()
    return progress
