"""What a function finds outside its arguments, and whether that is still what it was.

Looked at are closure cells, globals, defaults, `functools.partial` and bound methods; the
attributes that the code names, of the objects, classes and modules found; the members of lists,
tuples, sets and dicts; the numbers of arrays; and all this again for every Python function found on
the way. What a function gets at by other ways (an attribute whose name is computed, a file) counts
as it was when the function was recorded. So do libraries: NumPy and the standard library, all but
the builtins; of diffkit itself the code and the defaults of its functions. The attributes of frozen
dataclasses are looked at: `object.__setattr__` and `vars` reach them. Where a function lets NumPy
raise errors of arithmetic, its course may hang on any number, and nothing holds.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import numpy as np

from diffkit.interface import Prepared
from diffkit.structure import is_traced
from diffkit.target import Function
from diffkit.tracing.locations import is_internal
from diffkit.tracing.watches import (
    MISSING,
    PLAIN,
    Numbers,
    Watch,
    attribute,
    in_cell,
    in_function,
    in_globals,
    in_record,
    members,
    quick_check,
)

_PACKAGE: Final = Path(__file__).parent.parent
_LIBRARIES: Final = sys.stdlib_module_names | {"numpy", "diffkit"}
_STANDARD: Final = str(Path(os.__file__).parent) + os.sep
_OTHERS: Final = tuple(str(folder) + os.sep for folder in (Path(np.__file__).parent, _PACKAGE))
_BY_TEXT: Final = frozenset({"getattr", "attrgetter", "vars", "__dict__", "globals"})
_ALWAYS_NAMED: Final = ("__call__", "__wrapped__", "pyfunc")
_ERROR_MODES: Final = frozenset({"errstate", "seterr", "seterrcall"})
_RAISING: Final = frozenset({"raise", "call"})
_QUIET: Final = frozenset({"ignore", "warn", "print", "log"})
WORTH_COMPILING: Final = 4  # checks, after which there will be more
MOST_CHECKED_QUICKLY: Final = 5000  # places; to compile a check of more takes long


class OutsideState:
    """What a function refers to beyond its arguments, as it was when this was collected."""

    def __init__(self, watches: tuple[Watch, ...]) -> None:
        self.watches = watches
        self._checks = 0
        self._quick: Callable[[], bool] | None = None

    def holds(self) -> bool:
        """Whether a look at every place finds what it found then."""
        if self._quick is not None:
            if self._quick():
                return True
        else:
            self._checks += 1
            if self._checks >= WORTH_COMPILING:
                self.quicken()
        return all(watch.holds() for watch in self.watches)

    def quicken(self) -> None:
        """Make every further look a quick one, because there will be many."""
        if self._quick is None and len(self.watches) <= MOST_CHECKED_QUICKLY:
            self._quick = quick_check(self.watches)


def outside_state(f: Function, *given: Any) -> OutsideState:
    """Collect what `f`, and the objects and functions it is given, find outside arguments."""
    walk = _Walk(waiting=[*given, f])
    walk.finish()
    return OutsideState(tuple(walk.watches))


@dataclass
class _Walk:
    """The collection under way.

    Attributes:
        watches: what has been found so far.
        waiting: what is still to be visited.
        objects: what may have attributes.
        names: what the code of the functions found names.
    """

    watches: list[Watch] = field(default_factory=list)
    waiting: list[Any] = field(default_factory=list)
    objects: dict[int, Any] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=lambda: dict.fromkeys(_ALWAYS_NAMED))
    seen: dict[int, Any] = field(default_factory=dict)
    looked_at: set[tuple[int, str]] = field(default_factory=set)

    def visit(self, value: Any) -> None:
        self.waiting.append(value)

    def finish(self) -> None:
        """Visit what is waiting, and look up every name in every object, until all is seen."""
        while self.waiting or self._look_up_names():
            value = self.waiting.pop()
            if id(value) not in self.seen:
                self.seen[id(value)] = value
                self._enter(value)

    def _look_up_names(self) -> bool:
        for key, owner in list(self.objects.items()):
            for name in list(self.names):
                if (key, name) not in self.looked_at:
                    self.looked_at.add((key, name))
                    self._watch(attribute, owner, name)
        return bool(self.waiting)

    def _watch(self, look: Callable[..., Any], *place: Any) -> None:
        found = look(*place)
        if found is not MISSING:
            self.watches.append(Watch(look, place, found))
            self.visit(found)

    def _enter(self, value: Any) -> None:
        if isinstance(value, np.void):
            self.watches.append(Watch(in_record, (value,), in_record(value)))
        elif value is None or isinstance(value, PLAIN):
            return
        elif isinstance(value, FunctionType):
            self._enter_function(value)
        elif is_traced(value):
            self._watch(_node_of, value)
        elif isinstance(value, (list, tuple, dict, set, frozenset, deque)):
            self._enter_members(value)
        elif isinstance(value, np.ndarray):
            self._enter_array(value)
        elif isinstance(value, Prepared):
            self.visit(value.target.f)
        elif isinstance(value, (MethodType, classmethod, staticmethod)):
            self.waiting += [value.__func__, getattr(value, "__self__", None)]
        elif isinstance(value, property):
            self.visit(value.fget)
        elif isinstance(value, partial):
            self.waiting += [value.func, value.args, value.keywords]
        elif _has_attributes(value):
            self.objects[id(value)] = value

    def _enter_function(self, function: FunctionType) -> None:
        if is_internal(function.__code__.co_filename):
            self.visit(vars(function).get("__wrapped__"))
            return
        if not is_watched(function):
            return
        ours = _is_of_library(function)
        for part in ("__code__", "__defaults__", "__kwdefaults__"):
            if ours:  # whose names may be patched, but not the code
                self.visit(getattr(function, part))
            else:
                self._watch(in_function, function, part)
        if _makes_errors(function.__code__):
            self.watches.append(Watch(_never, (), True))
        self.objects[id(function)] = function
        for cell in function.__closure__ or ():
            self._watch(in_cell, cell)
        for name in _named(function.__code__, texts=not ours):
            self.names[name] = None
            self._look_up_global(function, name)

    def _look_up_global(self, function: Any, name: str) -> None:
        names, builtins = function.__globals__, function.__builtins__
        if (id(names), name) not in self.looked_at:
            self.looked_at.add((id(names), name))
            self._watch(in_globals, names, name)
            if name not in names and name in builtins:  # a global may come before it
                self.watches.append(Watch(in_globals, (names, name), MISSING))
                self._watch(in_globals, builtins, name)

    def _enter_members(self, container: Any) -> None:
        held = members(container)
        if type(container) not in (tuple, frozenset):  # which hold the same for ever
            self.watches.append(Watch(members, (container,), held))
        self.waiting += held.entries

    def _enter_array(self, array: Any) -> None:
        if array.dtype == object:
            self._enter_members(array)
        else:
            self.watches.append(Watch(Numbers, (array,), Numbers(array.copy())))


def _node_of(traced: Any) -> Any:
    return MISSING if traced._recorder.closed else traced.node


def _has_attributes(value: Any) -> bool:
    """Whether an object is one whose attributes a user may change."""
    if isinstance(value, ModuleType):
        return not _is_library(value.__name__)
    if isinstance(value, type):
        return not _is_library(value.__module__)
    return hasattr(value, "__dict__") or not _is_library(type(value).__module__)


def _makes_errors(code: CodeType) -> bool:
    """Whether a function may let NumPy raise errors of arithmetic, on which its course may hang."""
    if _ERROR_MODES.isdisjoint(_named(code, texts=False)):
        return False
    modes = set(_all_texts(code))
    return not modes.isdisjoint(_RAISING) or modes.isdisjoint(_QUIET)


def _never() -> bool:
    return False


def is_watched(function: FunctionType) -> bool:
    """Whether what a function finds outside its arguments is looked at."""
    if is_internal(function.__code__.co_filename):
        return False
    return not _is_of_library(function) or "diffkit" in function.__module__


def _is_of_library(function: FunctionType) -> bool:
    """Whether a function was written in a library.

    One that wraps another has the name of the other's module; a user's module may be called as one
    of the standard library is.
    """
    modules = (function.__module__, function.__globals__.get("__name__"))
    return all(map(_is_library, modules)) and not _is_users_file(function.__code__.co_filename)


@lru_cache(maxsize=4096)
def _is_users_file(filename: str) -> bool:
    """Whether a file is none of the libraries."""
    standard = filename.startswith(_STANDARD) and "site-packages" not in filename
    return os.path.isabs(filename) and not standard and not filename.startswith(_OTHERS)


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES


def _named(code: CodeType, texts: bool) -> Iterator[str]:
    """The globals and attributes that a function's code names, inner functions included.

    Args:
        code: of the function.
        texts: whether a text counts as a name where the code has a way to look one up.
    """
    yield from code.co_names
    if texts and not _BY_TEXT.isdisjoint(code.co_names):
        yield from filter(str.isidentifier, _texts(code.co_consts))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant, texts)


def _all_texts(code: CodeType) -> Iterator[str]:
    """The texts in a function's code, inner functions included."""
    yield from _texts(code.co_consts)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_texts(constant)


def _texts(constants: Iterable[Any]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple):
            yield from _texts(constant)
