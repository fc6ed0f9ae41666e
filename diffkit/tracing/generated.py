"""Lines of generated functions: arguments taken apart, recordings checked, results put together.

A generated function takes `x` and the tuple of the data. Wherever something is not as it was when
the function was recorded it returns None, and a general way is taken, which knows every refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from typing import Any, Final

import numpy as np

from diffkit.structure import Leaf
from diffkit.tracing.graph import same_value
from diffkit.tracing.recording import is_data, memory_order

PLAIN_VDOT: Final = getattr(np.vdot, "__wrapped__", np.vdot)
"""Of plain arrays alone: to look for others takes a third of the time of a small product."""


class Lines:
    """Collects the lines of a generated function and the names they refer to."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {
            "ndarray": np.ndarray,
            "float64": np.float64,
            "isfinite": math.isfinite,
            "vdot": PLAIN_VDOT,
            "add_reduce": np.add.reduce,
            "asarray": np.asarray,
            "memory_order": memory_order,
            "same_value": same_value,
        }
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)

    def constant(self, value: Any) -> str:
        """A name for a value."""
        name = f"c_{len(self.names)}"
        self.names[name] = value
        return name

    def literal(self, value: Any) -> str:
        """How the source writes a value: as it is where that can be, else by a name."""
        if type(value) in (int, str):
            return repr(value)
        if isinstance(value, type) and value.__module__ == "builtins":
            return value.__name__
        return self.constant(value)

    def require(self, condition: str) -> None:
        """Decline where a condition does not hold."""
        self.lines.append(f"if not ({condition}): return None")

    # ------------------------------------------------------------------ arguments

    def take_apart(
        self, name: str, nesting: Any, leaves: Iterator[tuple[Leaf, Any, str]], number: str
    ) -> None:
        """Check the structure of `x` and bind its leaves.

        Args:
            name: what holds the structure.
            nesting: the structure.
            leaves: each with an example and the name to bind it to.
            number: what turns a double into the number that is computed with.
        """
        if nesting.container is None:
            self._take_leaf(name, *next(leaves), number)
            return
        container = self.literal(nesting.container)
        self.require(f"type({name}) is {container} and len({name}) == {len(nesting.members)}")
        is_dict = issubclass(nesting.container, dict)
        if is_dict:
            self._require_keys(name, list(nesting.keys))
        for k, member in enumerate(nesting.members):
            part = f"{name}_{k}"
            key = self.literal(nesting.keys[k]) if is_dict else str(k)
            self.add(f"{part} = {name}[{key}]")
            self.take_apart(part, member, leaves, number)

    def _require_keys(self, name: str, keys: list[Any]) -> None:
        self.require(f"list({name}) == {self.constant(keys)}")
        if any(type(key) is not str for key in keys):  # 1 and True are equal
            self.require(f"[type(key) for key in {name}] == {self.constant(list(map(type, keys)))}")

    def _take_leaf(self, name: str, leaf: Leaf, example: Any, target: str, number: str) -> None:
        if not leaf.scalar:
            self.require(self._laid_out_like(name, example))
            self.add(f"{target} = {name}")
        elif leaf.dtype == np.float64:
            self.require(f"type({name}) is float or type({name}) is float64")
            self.add(f"{target} = {number}({name})")
        else:
            self.require(f"type({name}) is {self.constant(leaf.dtype.type)}")
            self.add(f"{target} = {name}")

    def _laid_out_like(self, name: str, array: Any) -> str:
        """A condition: an array of the same type, shape, dtype and order of axes in memory."""
        dtype = self.constant(array.dtype)
        condition = (
            f"type({name}) is ndarray and {name}.shape == {array.shape} and {name}.dtype is {dtype}"
        )
        order = memory_order(array)
        if not order:
            return condition
        same = f"memory_order({name}) == {order}"
        if order == tuple(range(array.ndim)):
            same = f"({name}.flags.c_contiguous or {same})"
        return f"{condition} and {same}"

    def take_data(self, name: str, data: Any, targets: Iterator[str]) -> None:
        """Check the data arguments and bind their numeric leaves."""
        if isinstance(data, (dict, list, tuple)):
            container = self.literal(type(data))
            self.require(f"type({name}) is {container} and len({name}) == {len(data)}")
            members: Iterable[Any] = enumerate(data)
            if isinstance(data, dict):
                members = data.items()
                self._require_keys(name, list(data))
            for k, (key, member) in enumerate(members):
                self.add(f"{name}_{k} = {name}[{self.literal(key)}]")
                self.take_data(f"{name}_{k}", member, targets)
        elif is_data(data):
            like = f"type({name}) is {self.literal(type(data))}"
            self.require(self._laid_out_like(name, data) if isinstance(data, np.ndarray) else like)
            self.add(f"{next(targets)} = {name}")
        else:
            fixed = self.constant(data)
            same = f"{name} is {fixed}"
            if isinstance(data, (int, str, bytes)):
                same += f" or (type({name}) is type({fixed}) and {name} == {fixed})"
            self.require(same)

    # ------------------------------------------------------------------ results

    def require_finite(self, values: Iterable[tuple[str, bool]]) -> None:
        """Decline where a number is not finite, given the names and which of them are arrays.

        A sum of squares is not finite if a term is not; the rare sum that overflows declines.
        """
        terms = [f"vdot({name}, {name})" if array else name for name, array in values]
        if terms:
            self.require(f"isfinite({' + '.join(terms)})")

    def put_together(self, nesting: Any, results: Iterator[str]) -> str:
        """An expression for leaves in their structure."""
        if nesting.container is None:
            return next(results)
        members = [self.put_together(member, results) for member in nesting.members]
        if issubclass(nesting.container, dict):
            keys = [self.literal(key) for key in nesting.keys]
            return "{" + ", ".join(f"{k}: {m}" for k, m in zip(keys, members, strict=True)) + "}"
        if hasattr(nesting.container, "_fields"):
            return f"{self.literal(nesting.container)}({', '.join(members)})"
        if issubclass(nesting.container, tuple):
            return "(" + "".join(f"{m}, " for m in members) + ")"
        return f"[{', '.join(members)}]"

    def built(self, returned: str) -> tuple[Callable[[Any, Any], Any], str]:
        """The function, computing without NumPy's warnings, and its source."""
        body = "".join(f"    {line}\n" for line in self.lines)
        source = f"def program(x, data):\n{body}    return {returned}\n"
        exec(compile(source, "<diffkit program>", "exec"), self.names)
        return _quiet(self.names["program"]), source


def _quiet(program: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The program without NumPy's warnings; it declines where a value overflows on the way.

    What overflowed may vanish again, as in 1 / inf, and leave a number that is wrong.
    """
    silent = Context()
    silent.run(np.seterr, all="ignore", over="raise")
    fresh = silent.copy  # several threads may run it at once; np.errstate costs twenty times this

    def run(x: Any, data: Any) -> Any:
        try:
            return fresh().run(program, x, data)
        except (ArithmeticError, ValueError):
            return None

    return run
