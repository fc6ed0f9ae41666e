"""What a function finds outside its arguments, and whether that is still what it was.

Looked at are closure cells, globals, defaults, `functools.partial` and bound methods; the
attributes that the code names, of the objects, classes and modules found; the members of
lists, tuples, sets and dicts; the numbers of arrays; and all this again for every Python function
found on the way. What a function gets at by other ways (an attribute named by a text, a
file) counts as it was when the function was recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, Final

import numpy as np

from diffkit.interface import Prepared
from diffkit.structure import is_traced
from diffkit.target import Function
from diffkit.tracing.locations import is_internal

MISSING: Final = object()
_PLAIN: Final = (bool, int, float, complex, str, bytes, np.generic)
_LIBRARIES: Final = sys.stdlib_module_names | {"numpy", "diffkit"}
_ALWAYS_NAMED: Final = ("__call__", "__wrapped__", "pyfunc")


@dataclass(frozen=True)
class _Watch:
    """A place outside a function, and what was found there: `look(*place)`."""

    look: Callable[..., Any]
    place: tuple[Any, ...]
    found: Any


@dataclass(frozen=True)
class _Members:
    """What a list, tuple, set, dict or object array held."""

    entries: tuple[Any, ...]


@dataclass(frozen=True)
class _Numbers:
    """What an array held; compared bit by bit."""

    array: Any


def _same(a: Any, b: Any) -> bool:
    """Whether two findings are one object, or numbers, texts or members that are the same."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, _Members):
        return len(a.entries) == len(b.entries) and all(map(_same, a.entries, b.entries))
    if isinstance(a, _Numbers):
        return same_bytes(a.array, b.array)
    return isinstance(a, _PLAIN) and repr(a) == repr(b)  # tells 0.0 from -0.0


def same_bytes(a: Any, b: Any) -> bool:
    """Whether two arrays are equal in shape, dtype and every bit."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.nbytes <= 4096:  # sooner than to compare entries
        return bool(a.tobytes() == b.tobytes())
    return bool(np.array_equal(_bits(a), _bits(b)))


def _bits(array: Any) -> Any:
    size = array.dtype.itemsize
    return np.ascontiguousarray(array).reshape(-1).view(f"u{size}" if size in (2, 4, 8) else "u1")


@dataclass(frozen=True)
class OutsideState:
    """What a function refers to beyond its arguments, as it was when this was collected."""

    watches: tuple[_Watch, ...]

    def holds(self) -> bool:
        """Whether a look at every place finds what it found then."""
        for watch in self.watches:
            found = watch.look(*watch.place)
            if found is not watch.found and not _same(found, watch.found):
                return False
        return True


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

    watches: list[_Watch] = field(default_factory=list)
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
                    self._watch(_attribute, owner, name)
        return bool(self.waiting)

    def _watch(self, look: Callable[..., Any], *place: Any) -> None:
        found = look(*place)
        if found is not MISSING:
            self.watches.append(_Watch(look, place, found))
            self.visit(found)

    def _enter(self, value: Any) -> None:
        if value is None or isinstance(value, _PLAIN):
            return
        if isinstance(value, FunctionType):
            self._enter_function(value)
        elif is_traced(value):
            self._watch(_node_of, value)
        elif isinstance(value, (list, tuple, dict, set)):
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
        if _library(function):
            return
        self._watch(getattr, function, "__code__")
        self._watch(getattr, function, "__defaults__")
        self._watch(getattr, function, "__kwdefaults__")
        self.objects[id(function)] = function
        for cell in function.__closure__ or ():
            self._watch(_in_cell, cell)
        for name in _named(function.__code__):
            self.names[name] = None
            self._watch(_in_globals, function.__globals__, name)

    def _enter_members(self, container: Any) -> None:
        self.watches.append(_Watch(_members, (container,), _members(container)))
        self.waiting += _members(container).entries

    def _enter_array(self, array: Any) -> None:
        if array.dtype == object:
            self._enter_members(array)
        else:
            self.watches.append(_Watch(_Numbers, (array,), _Numbers(array.copy())))


def _in_cell(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return MISSING


def _node_of(traced: Any) -> Any:
    return MISSING if traced._recorder.closed else traced.node


def _in_globals(names: dict[str, Any], name: str) -> Any:
    return names.get(name, MISSING)


def _members(container: Any) -> _Members:
    if isinstance(container, dict):
        return _Members((*container, *container.values()))
    return _Members(tuple(container.flat if isinstance(container, np.ndarray) else container))


def _attribute(owner: Any, name: str) -> Any:
    """What `owner.name` would find, without running a property or `__getattr__`."""
    own = getattr(owner, "__dict__", {})
    if name in own:
        return own[name]
    for kind in (owner if isinstance(owner, type) else type(owner)).__mro__:
        if name not in vars(kind) or kind.__module__ == "builtins":
            continue
        value = vars(kind)[name]
        if isinstance(value, MemberDescriptorType) and not isinstance(owner, type):
            return getattr(owner, name, MISSING)
        return value
    return MISSING


def _has_attributes(value: Any) -> bool:
    """Whether an object is one whose attributes a user may change."""
    if isinstance(value, ModuleType):
        return not _is_library(value.__name__)
    if isinstance(value, type):
        return not _is_library(value.__module__)
    return hasattr(value, "__dict__") or not _is_library(type(value).__module__)


def _library(function: FunctionType) -> bool:
    return _is_library(function.__module__) and "diffkit" not in function.__module__


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES


def _named(code: CodeType) -> Iterator[str]:
    """The globals and attributes that a function's code names, inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant)
