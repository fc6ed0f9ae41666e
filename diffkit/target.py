"""What is differentiated, and where: the user's function, the point, and what came out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from diffkit.callers import warn_user
from diffkit.errors import DiffkitWarning, InvalidInput, InvalidOutput, TracingError
from diffkit.structure import Layout, Leaves, all_finite, concrete, flatten, is_traced, map_leaves

Function = Callable[..., Any]


class Output(NamedTuple):
    """What `f` returned, as leaves."""

    layout: Layout
    leaves: Leaves

    @property
    def value(self) -> Any:
        return self.layout.restore(self.leaves)


class Point(NamedTuple):
    """Where to differentiate: the leaves of `x`, and the data that go with it."""

    layout: Layout
    leaves: Leaves
    data: tuple[Any, ...]

    @property
    def x(self) -> Any:
        return self.layout.restore(self.leaves)


class Target(NamedTuple):
    """`f`, and which of its positional arguments are differentiated.

    Attributes:
        f: the user's function.
        wrt: the position, or the positions, of the differentiated arguments. With several,
            `x` is the tuple of them.
    """

    f: Function
    wrt: int | tuple[int, ...] = 0

    @property
    def name(self) -> str:
        """What to call `f` in messages: `loss`, `Network.loss`, `<lambda>`."""
        return _short(self._qualified_name)

    @property
    def _qualified_name(self) -> str:
        return getattr(self.f, "__qualname__", None) or type(self.f).__name__

    def split(self, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """Part the positional arguments into `x` and the data.

        Raises:
            InvalidInput: `wrt` is not the position, or distinct positions, of arguments.
        """
        if self.wrt == 0 and arguments:
            return arguments[0], arguments[1:]
        positions = self.wrt if isinstance(self.wrt, tuple) else (self.wrt,)
        valid = all(type(i) is int and 0 <= i < len(arguments) for i in positions)
        if not positions or not valid or len(set(positions)) < len(positions):
            raise InvalidInput(
                f"wrt={self.wrt!r} does not name distinct positional arguments of {self.name}, "
                f"which was given {len(arguments)}"
            )
        chosen = tuple(arguments[i] for i in positions)
        data = tuple(a for i, a in enumerate(arguments) if i not in positions)
        return (chosen[0] if isinstance(self.wrt, int) else chosen), data

    def call(self, x: Any, data: tuple[Any, ...]) -> Any:
        """Call `f` with `x` and the data back in their places."""
        if self.wrt == 0:
            return self.f(x, *data)
        chosen = {self.wrt: x} if isinstance(self.wrt, int) else dict(zip(self.wrt, x, strict=True))
        rest = iter(data)
        count = len(chosen) + len(data)
        return self.f(*(chosen[i] if i in chosen else next(rest) for i in range(count)))

    def evaluate(self, layout: Layout, leaves: Leaves, data: tuple[Any, ...]) -> Output:
        """Call `f` as a black box, on fresh copies of the leaves and read-only data."""
        return self.output(self.call_plain(Point(layout, leaves, data)))

    def call_plain(self, point: Point) -> Any:
        """What `f` itself returns for fresh copies of the leaves and read-only data."""
        return self.call_unwritten(point.layout.restore(point.leaves), point.data)

    def call_unwritten(self, x: Any, data: tuple[Any, ...]) -> Any:
        """What `f` itself returns for an `x` that it may write into and data that it may not.

        Raises:
            InvalidInput: it writes into the data.
        """
        if not data:
            return self.call(x, ())
        try:
            return self.call(x, tuple([map_leaves(_read_only, item) for item in data]))
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise InvalidInput(
                f"{self.name} writes into one of its data arguments; let it work on a copy"
            ) from error

    def output(self, result: Any) -> Output:
        """Part what `f` returned into leaves.

        Raises:
            InvalidOutput: it is None, complex, or not made of numbers.
        """
        if result is None:
            raise InvalidOutput(f"{self.name} returned None; does it lack a return statement?")
        layout, leaves = flatten(
            result, _value_of(self._qualified_name), promote_integers=True, error=InvalidOutput
        )
        return Output(layout, leaves)


def point_of(target: Target, arguments: tuple[Any, ...]) -> Point:
    """Check the positional arguments and part them into leaves and data.

    Raises:
        InvalidInput: `x` is complex, not a number, or not finite.
    """
    x, data = target.split(arguments)
    layout, leaves = flatten(x, "x")
    for leaf, array in zip(layout.leaves, leaves, strict=True):
        if not all_finite(array):
            where = leaf.entry_name(int(np.argmin(np.isfinite(concrete(array)))))
            raise InvalidInput(f"{where} is not finite; there is no derivative there")
    return Point(layout, leaves, data)


def reservation_of(f: Function) -> str | None:
    """Return what a function, or the owner of a method, says about its derivative; None if nothing.

    It says so in `__diffkit_reservation__`, as the threshold does.
    """
    owner = getattr(f, "__self__", None)
    own = getattr(f, "__diffkit_reservation__", None)
    return own or getattr(owner, "__diffkit_reservation__", None)


def warn_of_reservation(f: Function) -> None:
    """Say what a function has to say about its derivative.

    Warns:
        DiffkitWarning: it has a reservation.
    """
    if reservation := reservation_of(f):
        warn_user(reservation, DiffkitWarning)


def require_plain(point: Point, backend: str) -> None:
    """Refuse a traced point, for backends that cannot be nested inside a derivative.

    Raises:
        TracingError: a leaf of the point is a traced value.
    """
    if any(is_traced(leaf) for leaf in point.leaves):
        raise TracingError(
            f"the {backend} backend was called on a value that is being traced; inside a "
            "differentiated function use backend='tape'"
        )


def _short(qualified_name: str) -> str:
    return str(qualified_name).rsplit("<locals>.", 1)[-1]


@lru_cache(maxsize=1024)
def _value_of(qualified_name: str) -> str:
    """What to call the value of a function: `loss(x)`."""
    name = _short(qualified_name)
    return f"{name}(x)" if all(part.isidentifier() for part in name.split(".")) else "f(x)"


def with_x_first(target: Target) -> Function:
    """`f` as a function of `x` and the data, whatever `wrt` is."""

    def function(x: Any, *data: Any) -> Any:
        return target.call(x, data)

    function.__qualname__ = target.name
    return function


def _read_only(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view
