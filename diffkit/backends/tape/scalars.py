"""Operations on single numbers as Python expressions, which cost a tenth of NumPy's.

Sums, products and quotients of doubles are the same in Python; where NumPy gives an infinity or
a NaN, Python raises an ArithmeticError or a ValueError, upon which a program declines. The
functions of `math` agree with NumPy's to the last digit or so: they are not for what leads to a
guard. `math.cbrt` is left out: it is not exact where NumPy's is, and misses that the cube root of
27 ties with 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

SAME_IN_PYTHON: Final[dict[str, str]] = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "positive": "{0}",
    "conjugate": "{0}",
    "square": "{0} * {0}",
    "reciprocal": "1.0 / {0}",
    "absolute": "abs({0})",
    "fabs": "abs({0})",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "maximum": "({0} if {0} >= {1} or {0} != {0} else {1})",
    "minimum": "({0} if {0} <= {1} or {0} != {0} else {1})",
    "where": "({1} if {0} else {2})",
    "bitwise_or": "{0} | {1}",
    "bitwise_and": "{0} & {1}",
    "sqrt": "sqrt({0})",
    "sign": "(1.0 if {0} > 0 else -1.0 if {0} < 0 else 0.0 if {0} == 0 else {0})",
}


_COMPARISONS: Final = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
_BITS: Final = ("bitwise_or", "bitwise_and")
_CLOSED: Final = 3  # how closely a call or something in brackets binds
_BINDS: Final = {
    **dict.fromkeys((*_COMPARISONS, *_BITS, "positive", "conjugate"), 0),
    **dict.fromkeys(("add", "subtract", "negative"), 1),
    **dict.fromkeys(("multiply", "divide", "square", "reciprocal"), 2),
}
_NEEDED: Final = {
    **dict.fromkeys(_COMPARISONS, 1),
    **dict.fromkeys((*_BITS, "negative", "reciprocal"), _CLOSED),
}


def sech(x: float) -> float:
    """1 / cosh(x), which is 0 where cosh(x) is too large."""
    e = math.exp(-abs(x))
    return 2 * e / (1 + e * e)


def logistic(x: float) -> float:
    """1 / (1 + exp(-x))."""
    e = math.exp(-abs(x))
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


def logaddexp(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    if a == b:  # infinities too
        return a + math.log(2)
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def power_log(a: float, b: float) -> float:
    """a^b log a, for positive a."""
    return math.pow(a, b) * math.log(a)


FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "exp": math.exp,
    "expm1": math.expm1,
    "log": math.log,
    "log1p": math.log1p,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "arcsin": math.asin,
    "arccos": math.acos,
    "arctan": math.atan,
    "arctan2": math.atan2,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "arcsinh": math.asinh,
    "arccosh": math.acosh,
    "arctanh": math.atanh,
    "hypot": math.hypot,
    "copysign": math.copysign,
    "power": math.pow,
    "exp2": math.exp2,
    "fmod": math.fmod,
    "deg2rad": math.radians,
    "rad2deg": math.degrees,
    "logaddexp": logaddexp,
    "sech": sech,
    "logistic": logistic,
}

_OF_ANY_NUMBERS: Final = frozenset(
    ["add", "subtract", "multiply", "divide", "power", "where", *_COMPARISONS, *_BITS]
)
_NUMBERS: Final = (float, int, bool, np.float64, np.bool_)


def is_number(value: Any) -> bool:
    """Whether a value is a single number that a Python number can stand for."""
    return type(value) in _NUMBERS


def plain(value: Any) -> Any:
    """The Python number for a NumPy scalar; anything else as it is."""
    return value.item() if isinstance(value, (np.float64, np.bool_)) else value


def expression(
    name: str, static: Any, arguments: list[str], values: list[Any], result: Any, exact: bool
) -> tuple[str, Callable[..., float] | None] | None:
    """An expression for an operation on numbers, with the function that it calls if any.

    None where NumPy is needed: another dtype, keyword arguments, an operation not listed, or a
    function of `math` where the value must be NumPy's to the last bit.
    """
    if name == "astype" and type(result) is np.float64 and type(values[0]) in (bool, np.bool_):
        return f"(1.0 if {arguments[0]} else 0.0)", None
    if name == "power_log" and static["order"] == 1 and all(isinstance(v, float) for v in values):
        return f"power_log({', '.join(arguments)})", power_log
    if static or type(result) not in (np.float64, np.bool_) or not all(map(is_number, values)):
        return None
    if name not in _OF_ANY_NUMBERS and not all(isinstance(v, float) for v in values):
        return None
    if name in ("add", "multiply") and type(result) is np.bool_:  # a number to Python
        return None
    if name in SAME_IN_PYTHON:
        function = math.sqrt if name == "sqrt" else None
        return SAME_IN_PYTHON[name].format(*arguments), function
    if name in FUNCTIONS and not exact:
        return f"{name}({', '.join(arguments)})", FUNCTIONS[name]
    return None


def level_of(name: str) -> int:
    """How closely the expression for an operation binds its parts."""
    return _BINDS.get(name, _CLOSED)


def level_needed(name: str, k: int) -> int:
    """How closely an expression must bind to be the k-th argument of an operation unbracketed."""
    if name in ("add", "subtract", "multiply", "divide"):
        return _BINDS[name] + k
    return _NEEDED.get(name, 0)


def reads_once(name: str, k: int) -> bool:
    """Whether the expression for an operation has its k-th argument in it once."""
    return SAME_IN_PYTHON.get(name, f"{{{k}}}").count(f"{{{k}}}") == 1
