"""Gradients without preparation of functions that stand: the same one, called again and again.

Where all that such a function depends on can be watched (`determined`), its gradient is compiled
as that of a prepared function is, guards included. From then on, as long as what is outside is as
it was, the program is asked for the gradient; the function is only run plain, and must give the
value that the program found.

What is compiled is kept with the function itself, so that it goes when the function goes.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, NamedTuple

import numpy as np

from diffkit.backends.tape.agreement import ROUNDING, agree, is_value
from diffkit.backends.tape.entry import compiled
from diffkit.structure import map_leaves
from diffkit.target import Function, Point, Target
from diffkit.tracing.determined import is_determined, is_number_type
from diffkit.tracing.outside import OutsideState, outside_state
from diffkit.tracing.recording import is_data, record

MOST_PROGRAMS: Final = 8  # of one function
MOST_CHANGES: Final = 3  # of what is outside, after which one cannot rely on it
MOST_TRUST: Final = 32

LITTLE_TO_WATCH: Final = 1 << 16  # bytes of arrays outside, beside those that the function uses
MOST_TO_WATCH: Final = 1 << 21  # which it takes no longer to compare than to record them

_PLAIN: Final = (bool, int, float, str, bytes, type(None))
_KEPT_AS: Final = "__diffkit_standing__"

Program = Callable[[Any, tuple[Any, ...]], Any]


class _Known(NamedTuple):
    """Programs, and what was outside when they were made.

    The two are replaced as one: another thread may find that the outside has changed.
    """

    outside: OutsideState
    programs: tuple[Program, ...]


class Standing:
    """A function that stands, and its compiled gradients.

    Attributes:
        f: the function.
        bytes: what the programs take, by and large.
        is_given_up: whether programs do not pay.
    """

    def __init__(self, f: FunctionType) -> None:
        self.f = f
        self.bytes = 0
        self.is_given_up = False
        self._known: _Known | None = None
        self._changes = 0
        self._trust = MOST_TRUST // 2

    def __reduce__(self) -> Any:
        return type(self), (self.f,)

    def value_and_gradient(self, x: Any, data: tuple[Any, ...]) -> tuple[Any, Any] | None:
        """The value of the function and its gradient; None where no program applies.

        Args:
            x: where, as the user gave it.
            data: the other arguments.
        """
        known = self._known
        if known is None or not self._holds(known.outside):
            return None
        for program in known.programs:
            found = program(x, data)
            if found is not None:
                value = Target(self.f).call_unwritten(map_leaves(_own, x), data)
                if type(value) in ROUNDING and value != 0 and is_value(found[0], value):
                    self._trust = min(self._trust + 1, MOST_TRUST)
                    return value, found[1]
                break
        self._trust -= 1
        if self._trust <= 0:
            self.forget()
            self.is_given_up = True
        return None

    def _holds(self, outside: OutsideState) -> bool:
        """Whether what is outside is as it was when the programs were made."""
        if outside.holds():
            return True
        self.forget()
        self._changes += 1
        self.is_given_up = self._changes >= MOST_CHANGES
        return False

    def learn(self, target: Target, point: Point, gradient: Any, size: int) -> bool:
        """Compile the gradient for the course that the function takes at a point.

        Args:
            target: the function.
            point: where.
            gradient: there, by other means.
            size: how many bytes the program will take, by and large.

        Returns:
            Whether there is a program, and it gives that gradient there.
        """
        known = self._known
        if self.is_given_up or (known is not None and len(known.programs) == MOST_PROGRAMS):
            return False
        known = self._compiled(known, target, point, size)
        found = None if known is None else known.programs[-1](point.x, point.data)
        flat = point.layout.flatten
        if known is None or found is None or not agree(flat(found[1]), flat(gradient)):
            self.is_given_up = self._known is None
            return False
        self._known = known
        self.bytes += size
        return True

    def _compiled(
        self, known: _Known | None, target: Target, point: Point, size: int
    ) -> _Known | None:
        """What is known and one program more; None where there can be none."""
        if not _is_fixed((point.x, *point.data)):
            return None
        if not is_determined(self.f, min(LITTLE_TO_WATCH + size, MOST_TO_WATCH)):
            return None
        if known is None:
            known = _Known(outside_state(self.f), ())
            known.outside.quicken()
        try:
            graph = record(target, point)
        except Exception:  # which the function need not raise where it was asked for its gradient
            return None
        found = compiled(graph, point.data)
        if found is None or not known.outside.holds():
            return None
        return _Known(known.outside, (*known.programs, found.run))

    def forget(self) -> None:
        """Let go of the programs."""
        self._known, self.bytes = None, 0


def _is_fixed(value: Any) -> bool:
    """Whether arguments are numbers and texts alone, and their containers have no methods of
    anybody's own. Of keys only texts are told apart by being equal: True == 1 == 1.0.
    """
    kind = type(value)
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_fixed, value.values()))
    if kind in (list, tuple):
        return all(map(_is_fixed, value))
    return kind in _PLAIN or ((kind is np.ndarray or is_number_type(kind)) and is_data(value))


def _own(value: Any) -> Any:
    """A leaf as the function is given it, sharing no memory with the user's."""
    if type(value) is float:
        return np.float64(value)
    return value.copy(order="K") if isinstance(value, np.ndarray) else value


def standing_of(f: Function) -> Standing | None:
    """What is kept with a function; None if nothing, or nothing of its own."""
    if type(f) is not FunctionType:
        return None
    standing = f.__dict__.get(_KEPT_AS)
    return standing if standing is not None and standing.f is f else None


def stand(target: Target) -> Standing | None:
    """What is kept with a function, from now on if need be; None if it is none that can stand."""
    f = target.f
    if type(f) is not FunctionType or target.wrt != 0:
        return None
    standing = standing_of(f)
    if standing is None:
        standing = f.__dict__[_KEPT_AS] = Standing(f)
    return standing
