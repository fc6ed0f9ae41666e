"""Places outside a function, what was found there, and a quick check that it still is.

The quick check is one generated function that compares identities, at some twenty nanoseconds
each. Where it sees a difference the careful one decides: another object may be the same number.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from keyword import iskeyword
from operator import is_
from types import CellType, FunctionType, MemberDescriptorType
from typing import Any, Final

import numpy as np

MISSING: Final = object()
_PASSIVE: Final = (FunctionType, property, MemberDescriptorType)  # a class gives them as they are
_PLAIN_LOOKUP: Final[Any] = object.__getattribute__
PLAIN: Final = (bool, int, float, complex, str, bytes, np.generic)
FEW_BYTES: Final = 4096  # up to which it is quicker to compare copies than entries


@dataclass(frozen=True, eq=False)
class Watch:
    """A place outside a function, and what was found there: `look(*place)`."""

    look: Callable[..., Any]
    place: tuple[Any, ...]
    found: Any

    def holds(self) -> bool:
        """Whether a look finds the same object, or one that is the same number."""
        return _same(self.look(*self.place), self.found)


@dataclass(frozen=True)
class Members:
    """What a list, set, dict or object array held."""

    entries: tuple[Any, ...]


@dataclass(frozen=True)
class Numbers:
    """What an array held; compared bit by bit."""

    array: Any


def _same(a: Any, b: Any) -> bool:
    """Whether two findings are one object, or numbers, texts or members that are the same."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Members):
        return len(a.entries) == len(b.entries) and all(map(_same, a.entries, b.entries))
    if isinstance(a, Numbers):
        return same_bytes(a.array, b.array)
    if type(a) is int:  # of which a large one has no repr
        return bool(a == b)
    return isinstance(a, PLAIN) and repr(a) == repr(b)  # tells 0.0 from -0.0


def same_bytes(a: Any, b: Any) -> bool:
    """Whether two arrays are equal in shape, dtype and every bit."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.nbytes <= FEW_BYTES:
        return bool(a.tobytes() == b.tobytes())
    return bool(np.array_equal(_bits(a), _bits(b)))


def _bits(array: Any) -> Any:
    size = array.dtype.itemsize
    return np.ascontiguousarray(array).reshape(-1).view(f"u{size}" if size in (2, 4, 8) else "u1")


# ---------------------------------------------------------------------- ways to look


def in_function(function: FunctionType, name: str) -> Any:
    return getattr(function, name)


def in_cell(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return MISSING


def in_globals(names: dict[str, Any], name: str) -> Any:
    return names.get(name, MISSING)


def in_record(record: Any) -> Numbers:
    """What the fields of one entry of a structured array hold, into which one may write."""
    return Numbers(np.asarray(record).copy())


def members(container: Any) -> Members:
    if isinstance(container, dict):
        return Members((*container, *container.values()))
    return Members(tuple(container.flat if isinstance(container, np.ndarray) else container))


def attribute(owner: Any, name: str) -> Any:
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


# ---------------------------------------------------------------------- the quick check


def quick_check(watches: Iterable[Watch]) -> Callable[[], bool]:
    """A function that tells quickly if all is as it was; where it says no, that is not sure."""
    return _Writer().check(watches)


class _Writer:
    """Writes the conditions of a quick check. The names in it are all made up here."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.name_by_id: dict[int, str] = {}
        self.dicts: dict[str, str] = {}

    def check(self, watches: Iterable[Watch]) -> Callable[[], bool]:
        conditions = list(dict.fromkeys(c for w in watches for c in self._conditions(w)))
        own = [f"        {name} = {owner}.__dict__" for owner, name in self.dicts.items()]
        lines = [
            "def holds():",
            "    try:",
            *own,
            f"        return {' and '.join(conditions) or 'True'}",
            "    except (LookupError, AttributeError, ValueError, RuntimeError):",
            "        return False",
        ]
        exec(compile("\n".join(lines), "<what is outside>", "exec"), self.names)
        holds: Callable[[], bool] = self.names["holds"]
        return holds

    def _name(self, value: Any) -> str:
        name = self.name_by_id.get(id(value))
        if name is None:
            name = self.name_by_id[id(value)] = f"c{len(self.name_by_id)}"
            self.names[name] = value
        return name

    def _conditions(self, watch: Watch) -> list[str]:
        """What must be true for a watch to hold. None are needed if it cannot fail."""
        written: list[str] = []
        if watch.look is in_cell:
            written = self._is(f"{self._name(watch.place[0])}.cell_contents", watch.found)
        elif watch.look is in_function:
            function, name = watch.place
            written = self._is(f"{self._name(function)}.{name}", watch.found)
        elif watch.look is in_globals and type(watch.place[0]) is dict:
            names, name = map(self._name, watch.place)
            missing = [f"{name} not in {names}"]
            written = (
                missing if watch.found is MISSING else self._is(f"{names}[{name}]", watch.found)
            )
        elif watch.look is attribute:
            owner, name = watch.place
            written = self._attribute(owner, name, watch.found)
        elif watch.look is members:
            written = self._members(watch.place[0], watch.found.entries)
        elif watch.look is Numbers:
            written = self._numbers(watch.place[0], watch.found.array)
        return written or [f"{self._name(watch)}.holds()"]

    def _is(self, expression: str, found: Any) -> list[str]:
        return [f"{expression} is {self._name(found)}"]

    def _attribute(self, owner: Any, name: str, found: Any) -> list[str]:
        """In the object's own dict; or in its class, and not in its own dict."""
        if isinstance(owner, type):
            return self._of_class(owner, name, found)
        own, kind = getattr(owner, "__dict__", None), type(owner)
        if own is not None and type(own) is not dict:
            return []
        if own is not None and name in own:
            return self._is(f"{self._own(owner)}[{self._name(name)}]", found)
        slot = getattr(kind, name, None)
        if isinstance(slot, MemberDescriptorType) and kind.__getattribute__ is _PLAIN_LOOKUP:
            at_class = self._of_class(kind, name, slot)
            at_class += self._is(f"{self._name(owner)}.{name}", found) if at_class else []
        else:
            at_class = self._of_class(kind, name, found)
        if not at_class:
            return []
        shadowed = [f"{self._name(name)} not in {self._own(owner)}"] if own is not None else []
        return [*self._is(f"{self._name(owner)}.__class__", kind), *shadowed, *at_class]

    def _own(self, owner: Any) -> str:
        return self.dicts.setdefault(self._name(owner), f"d{len(self.dicts)}")

    def _of_class(self, kind: Any, name: str, found: Any) -> list[str]:
        """By way of the class, where that runs no code of the user's and finds the same."""
        if isinstance(found, staticmethod):
            found = found.__func__
        passive = isinstance(found, _PASSIVE) or not hasattr(found, "__get__")
        plain = type(kind) in (type, ABCMeta) and name.isascii() and name.isidentifier()
        if not passive or not plain or iskeyword(name) or getattr(kind, name, MISSING) is not found:
            return []
        return self._is(f"{self._name(kind)}.{name}", found)

    def _members(self, container: Any, found: tuple[Any, ...]) -> list[str]:
        """By what was found, not by what is there by now."""
        name, same = self._name(container), f"all(map({self._name(is_)}, "
        length = len(found)
        if type(container) is dict:
            length //= 2
            keys, values = self._name(found[:length]), self._name(found[length:])
            each = [f"{same}{name}, {keys}))", f"{same}{name}.values(), {values}))"]
        elif type(container) in (list, set):
            each = [f"{same}{name}, {self._name(found)}))"]
        else:
            return []
        return [f"len({name}) == {length}", *each]

    def _numbers(self, array: Any, found: Any) -> list[str]:
        if type(array) is not np.ndarray or found.nbytes > FEW_BYTES:
            return []
        name = self._name(array)
        parts = {"tobytes()": found.tobytes(), "shape": found.shape, "dtype": found.dtype}
        return [f"{name}.{part} == {self._name(value)}" for part, value in parts.items()]
