"""How long a call takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any


def timed(call: Callable[[], Any], budget: float = 0.1, calls: int | None = None) -> float:
    """Return the seconds that one call takes: the least of several calls.

    What else the machine does can only add to a time, so the least is the best estimate. A
    call is repeated for as long as another one as fast as the fastest should fit the budget; it
    is made once at least.

    Args:
        call: a function of no arguments; what it does on its first call counts as well.
        budget: seconds to spend altogether.
        calls: the most calls to make; by default as many as fit.
    """
    best, spent, made = math.inf, 0.0, 0
    while not made or (spent + best < budget and made != calls):
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        best, spent, made = min(best, seconds), spent + seconds + 1e-7, made + 1
    return best
