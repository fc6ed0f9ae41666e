"""Whether all that a call of a function depends on can be watched.

What a plain function returns is determined by its arguments and by what it finds outside them.
Most of what it may find is watched (`outside`); what is not, such as the next number of a random
generator, shows only when the function is run. Here a function is looked through for anything of
that kind: its instructions, the names that they look up, and every function that is found there.
"""

from __future__ import annotations

import builtins
import dis
import math
import sys
from collections.abc import Container, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import numpy as np

from diffkit.tracing.outside import is_watched
from diffkit.tracing.primitives import FUNCTIONS, PRIMITIVES, special
from diffkit.tracing.watches import MISSING

MOST_FOUND: Final = 2000  # things outside; to look at more of them takes longer than to record

_MODULES: Final = ("numpy", "numpy.linalg", "numpy.fft", "math", "scipy.special")

_PLAIN: Final = (bool, int, float, complex, str, bytes)
_BOUNDS: Final = {int, np.int64, type(None)}
_NUMERIC: Final = "biufc"
_NUMBERS: Final = (np.number, np.bool_)

_BUILTINS: Final = (
    *(abs, all, any, bool, complex, dict, divmod, enumerate, filter, float, frozenset, int),
    *(isinstance, iter, len, list, map, max, min, next, pow, range, reversed, round, set, slice),
    *(sorted, str, sum, tuple, zip),
)

_OF_NUMPY: Final = (
    *("abs", "acos", "acosh", "arange", "array", "asarray", "ascontiguousarray", "asin"),
    *("asinh", "atan", "atan2", "atanh", "bool", "bool_", "broadcast_shapes", "concat"),
    *("diag_indices", "double", "e", "euler_gamma", "eye", "fft", "finfo", "float16", "float32"),
    *("float64", "floating", "full", "identity", "iinfo", "indices", "inf", "int16", "int32"),
    *("int64", "int8", "integer", "intp", "isscalar", "linalg", "longdouble", "nan", "ndarray"),
    *("newaxis", "number", "ones", "permute_dims", "pi", "pow", "single", "special", "tri"),
    *("tril_indices", "triu_indices", "zeros"),
)
"""What `np.name` may mean besides the functions that the tracer knows."""

_NOT_OF_ARRAYS: Final = (
    *("base", "byteswap", "ctypes", "data", "device", "dump", "dumps", "flags", "getfield"),
    *("setfield", "setflags", "to_device", "tobytes", "tofile", "view"),
)
"""Attributes of arrays by which one gets at more than numbers."""

_BY_TEXT: Final = ("format", "format_map")
"""Methods of texts that look up attributes of any name."""

_NOT_LOOKED_UP: Final = frozenset({*_NOT_OF_ARRAYS, *_BY_TEXT})

_STATEFUL: Final = (
    *("STORE_GLOBAL", "STORE_NAME", "STORE_ATTR", "DELETE_GLOBAL", "DELETE_NAME", "DELETE_ATTR"),
    *("IMPORT_NAME", "IMPORT_FROM", "IMPORT_STAR", "LOAD_BUILD_CLASS", "LOAD_LOCALS", "LOAD_NAME"),
    *("LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF", "LOAD_FROM_DICT_OR_GLOBALS"),
    *("LOAD_SUPER_ATTR", "GET_AWAITABLE", "GET_AITER", "GET_ANEXT"),
    # A handler may do otherwise where an error is raised that no guard tells of.
    *("PUSH_EXC_INFO", "BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL"),
    "MATCH_CLASS",  # which is told the names of attributes
)


def is_determined(f: FunctionType, most_bytes: float = math.inf) -> bool:
    """Whether what a function does is fixed by its arguments, numbers and texts, and by what is
    watched. False also where that is not known, and where it is too much to watch.

    Args:
        f: the function.
        most_bytes: how much the arrays outside may take.
    """
    try:
        _Look(most_bytes).through(f)
    except _NotKnown:
        return False
    return True


class _NotKnown(Exception):
    """Something may do what nobody watches."""


def _require(condition: bool) -> None:
    if not condition:
        raise _NotKnown


class _Look:
    """A look through one function and everything it can get at."""

    def __init__(self, most_bytes: float) -> None:
        self._bytes_left = most_bytes
        self._seen: dict[int, Any] = {}
        self._waiting: list[Any] = []

    def through(self, f: FunctionType) -> None:
        self._waiting.append(f)
        while self._waiting:
            value = self._waiting.pop()
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                self._enter(value)
                _require(len(self._seen) + len(self._waiting) <= MOST_FOUND)

    def _enter(self, value: Any) -> None:
        kind = type(value)
        if value is None or value is Ellipsis or kind is range or kind in _PLAIN:
            return
        if kind is np.ndarray:
            _require(value.dtype.kind in _NUMERIC)
            self._bytes_left -= value.nbytes
            _require(self._bytes_left >= 0)
        elif kind is slice:
            _require({type(value.start), type(value.stop), type(value.step)} <= _BOUNDS)
        elif kind in (list, tuple, set, frozenset):
            self._waiting += value
        elif kind is dict:
            self._waiting += [*value, *value.values()]
        elif kind is FunctionType and id(value) not in _functions():
            self._enter_function(value)
        elif kind is ModuleType:
            _require(any(value is sys.modules.get(name) for name in _MODULES))
        elif kind is np.ufunc:
            _require(id(value) in _functions() or special.adopted(value) is not None)
        elif issubclass(kind, np.dtype):
            _require(value.kind in _NUMERIC)
        elif not is_number_type(kind):
            _require(is_number_type(value) or id(value) in _functions())

    def _enter_function(self, function: Any) -> None:
        _require(is_watched(function) and type(function.__globals__) is dict)
        _require(function.__builtins__ is vars(builtins))
        _require(all(name.startswith("__") for name in vars(function)))
        self._waiting += [function.__defaults__, function.__kwdefaults__]
        try:
            self._waiting += [cell.cell_contents for cell in function.__closure__ or ()]
        except ValueError as error:  # a cell is still empty
            raise _NotKnown from error
        self._enter_code(function.__code__, function.__globals__, frozenset())

    def _enter_code(self, code: CodeType, names: dict[str, Any], own: frozenset[str]) -> None:
        """Look through instructions.

        Args:
            code: they belong to it.
            names: the globals.
            own: the variables of the functions around it that begin anew at each call.
        """
        # Where a comprehension is run in its place, its variable may be called as one from outside.
        own = own | (frozenset(code.co_cellvars) - frozenset(code.co_freevars))
        for instruction in dis.get_instructions(code):
            operation, name = instruction.opname, instruction.argval
            _require(operation not in _STATEFUL)
            if operation == "LOAD_GLOBAL":
                found = names.get(name, getattr(builtins, name, MISSING))
                _require(found is not MISSING)
                self._waiting.append(found)
            elif operation in ("LOAD_ATTR", "LOAD_METHOD"):
                _require(name in _attributes())
            elif operation in ("STORE_DEREF", "DELETE_DEREF"):
                _require(name in own)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._enter_code(constant, names, own)


def is_number_type(value: Any) -> bool:
    """Whether something is one of NumPy's own types of immutable numbers."""
    return type(value) is type and value.__module__ == "numpy" and issubclass(value, _NUMBERS)


@cache
def _attributes() -> frozenset[str]:
    """The attributes, of whatever a function can get at, that do nothing unseen."""
    held = (np.ndarray, np.ufunc, list, dict, tuple, set, str, int, float, slice, range)
    return frozenset(
        [
            *(name for kind in held for name in _public(kind) if name not in _NOT_LOOKED_UP),
            *(name for name, _ in _known_of_numpy()),
            *(name for name in _public(math)),
            *(name for name in PRIMITIVES),
            *special.SPECIAL,
            *_OF_NUMPY,
        ]
    )


@cache
def _functions() -> dict[int, Any]:
    """The functions and types that do nothing unseen, by what identifies them."""
    known = [
        *_BUILTINS,
        *FUNCTIONS,
        *(value for _, value in _known_of_numpy()),
        *(getattr(math, name) for name in _public(math)),
        *(getattr(np, name) for name in _OF_NUMPY if callable(getattr(np, name, None))),
    ]
    return {id(value): value for value in known}


def _known_of_numpy() -> Iterator[tuple[str, Any]]:
    """The functions of NumPy that the tracer has something for, by all their names."""
    for module in (np, np.linalg, np.fft):
        for name, value in vars(module).items():
            if isinstance(value, np.ufunc) or _in(value, FUNCTIONS):
                yield name, value


def _in(value: Any, known: Container[Any]) -> bool:
    try:
        return value in known
    except TypeError:  # which cannot be hashed
        return False


def _public(owner: Any) -> list[str]:
    return [name for name in dir(owner) if not name.startswith("_")]
