"""What is asked of the array form."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """Which derivative is wanted.

    Attributes:
        kind: `gradient`, `vjp`, `jvp`, `hvp` or `derivative`.
        batched: whether for many directions at once.
        guarded: whether adjoints of what was not chosen are told apart.
        order: of `derivative`.
    """

    kind: str
    batched: bool = False
    guarded: bool = False
    order: int = 1
