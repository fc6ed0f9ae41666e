"""Operations on single numbers as lines of Python, each as long as is legible.

What one other operation of the same line of the user's code reads, and nothing else, is written
where it is read. So the source is shorter, and takes half the time: a number that is not given a
name is gone before the next one needs its memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from diffkit.backends.tape.plan import Plan, Step
from diffkit.backends.tape.scalars import expression, level_needed, level_of, reads_once

LONGEST: Final = 72  # characters of an expression that becomes part of another one


class Written(NamedTuple):
    """An operation on numbers as an expression.

    Attributes:
        text: the expression; empty if it is to be written where it is read.
        called: the name of a function that it calls, and the function.
    """

    text: str
    called: tuple[str, Callable[..., float]] | None


class NumberLines:
    """Writes the operations of a plan on numbers, in order."""

    def __init__(self, plan: Plan, exact: set[int]) -> None:
        """Prepare to write.

        Args:
            plan: every number in it that is a double may be one of Python's.
            exact: the positions that lead to a guard.
        """
        self._plan, self._exact = plan, exact
        self._uses = plan.uses()
        self._reader = {i: position for position, step in plan.enumerated() for i in step.inputs}
        self._waiting: dict[int, tuple[str, int]] = {}  # an expression, and how closely it binds

    def write(self, position: int, step: Step) -> Written | None:
        """An operation as an expression; None if Python has none for it."""
        assert step.primitive is not None
        name = step.primitive.name
        operands = [self._operand(name, k, i) for k, i in enumerate(step.inputs)]
        found = self._expression(position, step, operands)
        if found is None:
            return None
        text, function = found
        called = None
        if function is not None:
            called = f"m_{function.__name__}", function
            text = f"{called[0]}({text.partition('(')[2]}"
        if len(text) <= LONGEST and self._is_read_in_place(position, step):
            self._waiting[position] = text, level_of(name)
            text = ""
        return Written(text, called)

    def _operand(self, name: str, k: int, i: int) -> str:
        """The k-th argument of an operation: its name, its value, or what waits for it."""
        number = self._number(i)
        if number is not None:
            return f"({number})" if math.copysign(1, number) < 0 else f"{number}"
        if i not in self._waiting:
            return f"v{i}"
        text, level = self._waiting.pop(i)
        return text if level >= level_needed(name, k) else f"({text})"

    def _number(self, i: int) -> float | None:
        """A constant that may be written out."""
        step = self._plan.steps[i]
        if step.primitive is not None or type(step.value) not in (int, float, np.float64):
            return None
        return float(step.value) if step.constant and math.isfinite(step.value) else None

    def _expression(
        self, position: int, step: Step, operands: list[str]
    ) -> tuple[str, Callable[..., float] | None] | None:
        assert step.primitive is not None
        numbers = [self._number(i) for i in step.inputs]
        values = [
            self._plan.steps[i].value if number is None else number
            for i, number in zip(step.inputs, numbers, strict=True)
        ]
        exact = position in self._exact
        return expression(step.primitive.name, step.static, operands, values, step.value, exact)

    def _is_read_in_place(self, position: int, step: Step) -> bool:
        """Whether what a step makes is read once, by an expression for the same line of code."""
        if self._uses.get(position) != 1:
            return False
        place = self._reader[position]
        reader = self._plan.steps[place]
        if reader.primitive is None or reader.origin != step.origin:
            return False
        k = reader.inputs.index(position)
        if not reads_once(reader.primitive.name, k):
            return False
        return self._expression(place, reader, [""] * len(reader.inputs)) is not None
