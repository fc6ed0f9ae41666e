"""When two steps, or two values, are the same for the purposes of a plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.backends.tape.plan import Step


def alike(a: Any, b: Any) -> bool:
    """Whether two values are of the same kind, shape and dtype."""
    if type(a) is not type(b) or not isinstance(a, (np.ndarray, np.generic)):
        return False
    if type(a) is np.float64:
        return True
    return bool(a.shape == b.shape and a.dtype == b.dtype)


def step_key(step: Step) -> Any:
    """Equal for steps that compute the same; None for a step that has no key."""
    if step.primitive is None:
        value = step.value
        if not step.constant or isinstance(value, np.ndarray):
            return None
        return number_key(value)
    try:
        static = step.static
        return step.primitive.name, step.inputs, frozen(static) if static else ()
    except TypeError:
        return None


def number_key(value: Any) -> Any:
    """The key of a constant number."""
    return type(value), float.hex(value) if isinstance(value, float) else repr(value)


def frozen(static: Any) -> Any:
    """Equal for equal keyword arguments, and hashable."""
    if isinstance(static, dict):
        return tuple((key, frozen(value)) for key, value in sorted(static.items()))
    if isinstance(static, (list, tuple)):
        return tuple(frozen(value) for value in static)
    if isinstance(static, slice):
        return "slice", static.start, static.stop, static.step
    if isinstance(static, np.ndarray):
        return static.shape, static.dtype.str, static.tobytes()
    hash(static)
    return type(static), static
