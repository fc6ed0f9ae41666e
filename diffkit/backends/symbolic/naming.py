"""Names of data in expressions: the parameter's, with the keys after it."""

from __future__ import annotations

import inspect
from typing import Any

from diffkit.target import Target
from diffkit.tracing.recording import is_data


def data_names(target: Target, data: tuple[Any, ...]) -> list[str]:
    """Return a name for every numeric leaf of the data."""
    names: list[str] = []

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, member in value.items():
                walk(member, f"{name}_{key}")
        elif isinstance(value, (list, tuple)):
            for i, member in enumerate(value):
                walk(member, f"{name}_{i}")
        elif is_data(value):
            names.append(name)

    for value, name in zip(data, _parameter_names(target, len(data)), strict=True):
        walk(value, name)
    return names


def _parameter_names(target: Target, count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(target.f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    chosen = (target.wrt,) if isinstance(target.wrt, int) else target.wrt
    names = [p.name for i, p in enumerate(parameters) if p.kind in positional and i not in chosen]
    return names[:count] + [f"data{i}" for i in range(len(names), count)]
