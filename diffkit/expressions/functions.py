"""The functions and constants that formulas may use: the only names with a meaning in them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.nn.activations import relu, sigmoid, softplus


@dataclass(frozen=True)
class Function:
    """A function of a formula, over NumPy and traced values."""

    call: Callable[..., Any]
    arity: int = 1


FUNCTIONS: dict[str, Function] = {
    "abs": Function(np.abs),
    "acos": Function(np.arccos),
    "acosh": Function(np.arccosh),
    "arccos": Function(np.arccos),
    "arccosh": Function(np.arccosh),
    "arcsin": Function(np.arcsin),
    "arcsinh": Function(np.arcsinh),
    "arctan": Function(np.arctan),
    "arctan2": Function(np.arctan2, 2),
    "arctanh": Function(np.arctanh),
    "asin": Function(np.arcsin),
    "asinh": Function(np.arcsinh),
    "atan": Function(np.arctan),
    "atan2": Function(np.arctan2, 2),
    "atanh": Function(np.arctanh),
    "cbrt": Function(np.cbrt),
    "ceil": Function(np.ceil),
    "cos": Function(np.cos),
    "cosh": Function(np.cosh),
    "exp": Function(np.exp),
    "expm1": Function(np.expm1),
    "floor": Function(np.floor),
    "hypot": Function(np.hypot, 2),
    "ln": Function(np.log),
    "log": Function(np.log),
    "log10": Function(np.log10),
    "log1p": Function(np.log1p),
    "log2": Function(np.log2),
    "max": Function(np.maximum, 2),
    "maximum": Function(np.maximum, 2),
    "min": Function(np.minimum, 2),
    "minimum": Function(np.minimum, 2),
    "pow": Function(operator.pow, 2),
    "relu": Function(relu),
    "sigmoid": Function(sigmoid),
    "sign": Function(np.sign),
    "sin": Function(np.sin),
    "sinh": Function(np.sinh),
    "softplus": Function(softplus),
    "sqrt": Function(np.sqrt),
    "tan": Function(np.tan),
    "tanh": Function(np.tanh),
}

WHERE = "where"
"""`where(condition, a, b)` is the one function that takes a condition."""

FUNCTION_NAMES = frozenset({*FUNCTIONS, WHERE})

CONSTANTS: dict[str, float] = {"e": math.e, "pi": math.pi, "tau": math.tau}
