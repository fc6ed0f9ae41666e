"""Refusals: errors of ours, remembered by the traces under way.

A function may swallow an error that was raised inside it, and return a number whose
derivative is then wrong. So every refusal is kept, and raised again when the function returns.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NoReturn

from diffkit.errors import DiffkitError, TracingError
from diffkit.tracing.locations import user_location

if TYPE_CHECKING:
    from diffkit.tracing.tracer import Trace


class _Running(threading.local):
    """The traces that run in this thread, outermost first."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []


_running = _Running()


def running() -> list[Trace]:
    """The traces that run in this thread, outermost first."""
    return _running.traces


def remember(error: DiffkitError) -> None:
    """Keep an error for the end of every trace under way, unless an earlier one is kept."""
    for trace in running():
        trace.refusal = trace.refusal or error


def refuse(message: str, kind: type[DiffkitError] = TracingError) -> NoReturn:
    """Raise an error that names the user's line, and remember it."""
    error = kind(f"{message} [{user_location()}]")
    remember(error)
    raise error
