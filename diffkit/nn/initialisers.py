"""Where training starts: random weights, by rules that keep signals from dying or exploding.

An initialiser is called with a generator, the shape, and how many numbers flow into and out
of each unit (fan in, fan out).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput

Fans = tuple[int, int]
Initialiser = Callable[[np.random.Generator, tuple[int, ...], Fans], Any]


def glorot(generator: np.random.Generator, shape: tuple[int, ...], fans: Fans) -> Any:
    """Return weights uniform in ±sqrt(6 / (fan in + fan out)); `xavier` is another name of it.

    Source: Glorot and Bengio, AISTATS 2010, equation 16.
    """
    limit = (6 / sum(fans)) ** 0.5
    return generator.uniform(-limit, limit, shape)


def he(generator: np.random.Generator, shape: tuple[int, ...], fans: Fans) -> Any:
    """Return weights from N(0, 2 / fan in), made for rectifiers.

    Source: He, Zhang, Ren and Sun, ICCV 2015, equation 10.
    """
    return generator.normal(0, (2 / fans[0]) ** 0.5, shape)


def lecun(generator: np.random.Generator, shape: tuple[int, ...], fans: Fans) -> Any:
    """Return weights from N(0, 1 / fan in), which SELU wants.

    Source: Klambauer et al., NeurIPS 2017.
    """
    return generator.normal(0, (1 / fans[0]) ** 0.5, shape)


def normal(deviation: float) -> Initialiser:
    """Return the initialiser that draws from N(0, σ²) with σ = deviation.

    Raises:
        InvalidInput: the deviation is not positive and finite.
    """
    if not 0 < deviation < np.inf:
        raise InvalidInput(f"deviation={deviation!r} must be positive and finite")
    return lambda generator, shape, fans: generator.normal(0, deviation, shape)


def constant(value: float) -> Initialiser:
    """Return the initialiser that makes all weights equal.

    All units of a layer then stay equal for ever: their gradients are the same.
    """
    return lambda generator, shape, fans: np.full(shape, value)


xavier = glorot
zeros = constant(0.0)
ones = constant(1.0)
