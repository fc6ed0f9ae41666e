"""How the parts of a graph are written: formulas in Python's notation, values in few digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

MOST_ENTRIES: Final = 4  # of a vector or a matrix that is written out
MOST_ROWS: Final = 2  # of such a matrix
INFIX: Final = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "power": "**",
    "matmul": "@",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}
TOLD: Final = ("axis", "axes", "shape", "keepdims")  # static arguments worth their room


def quantity(value: Any, most: int = MOST_ENTRIES) -> str:
    """Return a value in few digits: numbers themselves, of larger arrays shape and norm.

    Args:
        value: a number or an array; None gives an empty text.
        most: entries that an array of one or two axes may have to be written out.
    """
    if value is None:
        return ""
    array = np.asarray(value)
    if array.ndim == 0:
        return _digits(array[()])
    if _is_small(array, most):
        return _written_out(array)
    if array.dtype.kind != "f":
        return f"{size(array)} {array.dtype}"
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(array.astype(float).ravel()))
    return f"{size(array)}, norm {_digits(norm)}"


def _is_small(array: Any, most: int) -> bool:
    flat = array.ndim == 1 or (array.ndim == 2 and len(array) <= MOST_ROWS)
    return flat and 0 < array.size <= most


def _written_out(array: Any) -> str:
    if np.ndim(array) == 0:
        return _digits(array)
    return f"[{', '.join(_written_out(part) for part in array)}]"


def size(array: Any) -> str:
    """Return the shape of an array, such as 3×4."""
    return by(np.shape(array)) or "scalar"


def by(sizes: Sequence[int]) -> str:
    """Return sizes with signs of multiplication between them."""
    return "\N{MULTIPLICATION SIGN}".join(str(n) for n in sizes)


def formula(operation: str, arguments: Sequence[str], static: Mapping[str, Any]) -> str:
    """Return an operation on named arguments in Python's notation.

    Args:
        operation: the name of a primitive.
        arguments: names of nodes, or constants as `literal` writes them.
        static: its keyword arguments.
    """
    if operation in INFIX and len(arguments) == 2:
        return f"{_operand(arguments[0])} {INFIX[operation]} {_operand(arguments[1])}"
    if operation == "negative":
        return f"-{arguments[0]}"
    if operation == "index":
        return f"{arguments[0]}[{_index(static['index'])}]"
    if operation == "transpose" and static.get("axes") is None:
        return f"{arguments[0]}.T"
    told = [f"{key}={_plain(static[key])}" for key in TOLD if static.get(key) not in (None, False)]
    return f"{operation}({', '.join([*arguments, *told])})"


def literal(value: Any) -> str:
    """Return a constant: the number, or the shape of an array."""
    array = np.asarray(value)
    return _digits(array[()]) if array.ndim == 0 else f"[{size(array)}]"


def _operand(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _digits(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _plain(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 1:
        return str(value[0])
    return str(value).replace(" ", "")


def _index(index: Any) -> str:
    parts = index if isinstance(index, tuple) else (index,)
    return ", ".join(_index_part(part) for part in parts)


def _index_part(part: Any) -> str:
    if isinstance(part, slice):
        ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
        return ":".join(ends) + ("" if part.step is None else f":{part.step}")
    if part is Ellipsis:
        return "..."
    return literal(part) if isinstance(part, np.ndarray) else str(part)
