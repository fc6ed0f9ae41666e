"""What stands for a NumPy function that was given a traced value, looked up and called."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from diffkit.errors import DiffkitError, UnsupportedOperation
from diffkit.structure import is_traced
from diffkit.tracing.graph import Primitive
from diffkit.tracing.primitives import FUNCTIONS, METHODS, special
from diffkit.tracing.primitives import shapes as rows
from diffkit.tracing.refusals import refuse, remember


def call_function(func: Any, arguments: Any, options: Any) -> Any:
    """The value of a NumPy function; with `out=`, written there."""
    function = FUNCTIONS.get(func)
    if function is None:
        refuse(_unknown(_function_name(func)), UnsupportedOperation)
    out = None
    if "out" in options:
        options = dict(options)
        out = options.pop("out")
    result = _called(function, partial(_function_name, func), arguments, options)
    return result if out is None else _stored(result, (out,))


def call_ufunc(ufunc: np.ufunc, method: str, inputs: Any, options: dict[str, Any]) -> Any:
    """The value of a ufunc, or of its method (`reduce`); with `out=`, written there."""
    called = method == "__call__"
    if called and not options and (function := FUNCTIONS.get(ufunc)) is not None:
        return _called(function, partial(_ufunc_name, ufunc), inputs, options)
    name = _ufunc_name(ufunc) if called else f"{_ufunc_name(ufunc)}.{method}"
    function = _of_ufunc(ufunc) if called else METHODS.get((ufunc, method))
    if function is None:
        refuse(_unknown(name), UnsupportedOperation)
    out = options.pop("out", None)
    if called:
        result = _elementwise(function, name, inputs, options, out)
    else:
        result = _called(function, lambda: name, inputs, options)
    return result if out is None else _stored(result, out)


def _of_ufunc(ufunc: np.ufunc) -> Any:
    return FUNCTIONS.get(ufunc) or special.adopted(ufunc)


def _elementwise(function: Any, name: str, inputs: Any, options: dict[str, Any], out: Any) -> Any:
    """The value of a ufunc with its options `dtype` and `where`."""
    for harmless in ("casting", "order", "subok"):
        options.pop(harmless, None)
    where, dtype = options.pop("where", True), options.pop("dtype", None)
    if options:
        refuse(f"{name} with {', '.join(options)}= is not supported here", UnsupportedOperation)
    if dtype is not None:
        inputs = tuple(rows.astype(i, dtype=np.dtype(dtype)) for i in inputs)
    result = _called(function, lambda: name, inputs, {})
    if where is True:
        return result
    if out is None:
        refuse(
            f"{name} with where= and no out= leaves entries undefined; use np.where",
            UnsupportedOperation,
        )
    return np.where(where, result, out[0])


def _function_name(function: Any) -> str:
    return f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)


def _ufunc_name(ufunc: np.ufunc) -> str:
    name = ufunc.__name__
    return f"np.{name}" if getattr(np, name, None) is ufunc else f"the ufunc {name}"


def _unknown(name: str) -> str:
    return (
        f"{name} is not in diffkit's table of primitives; write it in terms of supported NumPy "
        "functions, or use backend='finite'"
    )


def _called(function: Any, name: Callable[[], str], arguments: Any, options: Any) -> Any:
    """Call what stands for a NumPy function; an argument that it does not take is refused."""
    try:
        return function(*arguments, **options)
    except DiffkitError as error:
        remember(error)
        raise
    except TypeError as error:
        inside = error.__traceback__ and error.__traceback__.tb_next
        if inside and (inside.tb_next or inside.tb_frame.f_code is not Primitive.__call__.__code__):
            raise
        refuse(
            f"{name()} was called in a way that diffkit does not support: {error}",
            UnsupportedOperation,
        )


def _stored(result: Any, out: tuple[Any, ...]) -> Any:
    """Write a result to where `out=` (or an in-place operator) wants it."""
    if len(out) != 1 or not is_traced(out[0]):
        refuse(
            "a traced value was written into an ordinary array (out=, or `a += t` where a is "
            "not traced); write `a = a + t`, or make the array with np.zeros_like(x)"
        )
    out[0]._assign(result)
    return out[0]
