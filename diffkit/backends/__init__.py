"""The four backends, by name. A third party's own `Differentiator` needs no entry here."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from diffkit.errors import InvalidInput
from diffkit.interface import Differentiator

BACKENDS: dict[str, tuple[str, str]] = {
    "analytic": ("diffkit.backends.analytic", "Analytic"),
    "finite": ("diffkit.backends.finite", "FiniteDifference"),
    "symbolic": ("diffkit.backends.symbolic", "Symbolic"),
    "tape": ("diffkit.backends.tape", "Tape"),
}


def resolve(backend: str | Differentiator) -> Differentiator:
    """Return the differentiator meant by `backend`: a name stands for its defaults.

    Raises:
        InvalidInput: no backend has that name.
    """
    if isinstance(backend, Differentiator):
        return backend
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise InvalidInput(
            f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}, or pass a "
            "Differentiator such as dk.Tape()"
        )
    return _with_defaults(*BACKENDS[backend])


@lru_cache
def _with_defaults(module: str, name: str) -> Differentiator:
    differentiator = getattr(import_module(module), name)()
    assert isinstance(differentiator, Differentiator)
    return differentiator
