"""Formulas as small programs over plain NumPy.

A program is a straight line of steps. Each step applies one NumPy function to *operands*:
constants, or the numbers of earlier slots (the variables come first, in order). A `Choose` step
holds a program for each of its two branches and runs the one that its condition picks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.structure import concrete, is_traced

EXACT_INTEGERS = 2**53
"""Up to here a float64 holds every integer."""


Number = int | float | bool


@dataclass(frozen=True)
class Constant:
    """A number of the formula: a Python int or float, or a truth value."""

    value: Number


Operand = Constant | int


@dataclass(frozen=True)
class Scope:
    """What a run knows of its input: the floating dtype that constants take."""

    dtype: np.dtype[Any]

    def number(self, value: Any) -> Any:
        """`value`, as a NumPy scalar if it is a bare constant."""
        return self.dtype.type(value) if type(value) in (int, float) else value


@dataclass(frozen=True)
class Apply:
    """One application of a function that accepts NumPy and traced values."""

    function: Callable[..., Any]
    operands: tuple[Operand, ...]

    def run(self, slots: list[Any], scope: Scope) -> Any:
        return self.function(*(_fetch(operand, slots) for operand in self.operands))


@dataclass(frozen=True)
class Choose:
    """One of two programs: by control flow for a single condition, entry by entry for an array.

    Control flow keeps the branch not taken, which may be outside its domain, out of the value
    and of the derivative. Without `flow`, both branches are always evaluated, as by np.where.
    """

    condition: Operand
    then: Block
    otherwise: Block
    flow: bool = True

    def run(self, slots: list[Any], scope: Scope) -> Any:
        condition = _fetch(self.condition, slots)
        if self.flow and getattr(condition, "ndim", 0) == 0:
            (value,) = (self.then if condition else self.otherwise).run(slots, scope)
            return scope.number(value)
        (then,), (otherwise,) = self.then.run(slots, scope), self.otherwise.run(slots, scope)
        return np.where(condition, scope.number(then), scope.number(otherwise))


@dataclass(frozen=True)
class Block:
    """Steps in order, and which operands are the results."""

    steps: tuple[Apply | Choose, ...]
    results: tuple[Operand, ...]

    def run(self, slots: list[Any], scope: Scope) -> list[Any]:
        """Return the results; `slots` is as before afterwards."""
        start = len(slots)
        for step in self.steps:
            slots.append(step.run(slots, scope))
        values = [_fetch(operand, slots) for operand in self.results]
        del slots[start:]
        return values


def _fetch(operand: Operand, slots: Sequence[Any]) -> Any:
    return operand.value if isinstance(operand, Constant) else slots[operand]


class Builder:
    """Collects the steps of a block. Operations on constants alone are carried out at once."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.steps: list[Apply | Choose] = []

    def apply(self, function: Callable[..., Any], *operands: Operand) -> Operand:
        """Return the operand that stands for `function(*operands)`.

        Raises:
            ArithmeticError: all operands are constants, and the result is not a finite number.
        """
        constants = [o.value for o in operands if isinstance(o, Constant)]
        if len(constants) == len(operands):
            return Constant(folded(function, constants))
        return self._append(Apply(function, operands))

    def choose(
        self, condition: Operand, then: Block, otherwise: Block, flow: bool = True
    ) -> Operand:
        """Return the operand that stands for the branch that `condition` picks."""
        return self._append(Choose(condition, then, otherwise, flow))

    def branch(self) -> Builder:
        """Return a builder for a block that may use every slot known so far."""
        return Builder(self.slots)

    def block(self, *results: Operand) -> Block:
        return Block(tuple(self.steps), results)

    def _append(self, step: Apply | Choose) -> int:
        self.steps.append(step)
        self.slots += 1
        return self.slots - 1


def folded(function: Callable[..., Any], values: Sequence[Number]) -> Number:
    """Return `function` of constants, in float64; an integer where integers give one exactly.

    Raises:
        ArithmeticError: the result is infinite or not a number.
    """
    with np.errstate(all="ignore"):
        result = function(*(np.float64(value) for value in values))
    if isinstance(result, np.bool_):
        return bool(result)
    number = float(result)
    if not np.isfinite(number):
        raise ArithmeticError("this constant is not a finite real number")
    if all(isinstance(value, int) for value in values):
        return integral(number)
    return number


def integral(number: float) -> int | float:
    """`number` as an int where that is exact, else as it is."""
    return int(number) if number.is_integer() and abs(number) <= EXACT_INTEGERS else number


@dataclass(frozen=True, repr=False)
class Expression:
    """A formula as a callable over plain NumPy, immutable and picklable.

    With at most one variable it takes a number or an array (entry by entry); with several, a
    dict of those by name. Integers are taken as float64. It returns what NumPy returns: NaN and
    infinity outside the domain, with NumPy's warning.

    Attributes:
        text: the formula.
        variables: the names of its variables, in order.
        shape: None for a formula of one value; for an array of formulas, that array's shape.
    """

    text: str
    variables: tuple[str, ...]
    block: Block
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        # What differentiates a function calls it by these names in messages.
        object.__setattr__(self, "__name__", self._name)
        object.__setattr__(self, "__qualname__", self._name)

    @property
    def alone(self) -> Callable[..., Any] | None:
        """The NumPy function that the formula applies to its variable, if it does no more."""
        steps = self.block.steps
        if self.shape is not None or len(self.variables) != 1 or len(steps) != 1:
            return None
        (step,) = steps
        single = isinstance(step, Apply) and step.operands == (0,) and self.block.results == (1,)
        return step.function if single and isinstance(step, Apply) else None

    def __repr__(self) -> str:
        return f"<Expression {self.text!r} of {', '.join(self.variables) or 'no variable'}>"

    def __call__(self, x: Any) -> Any:
        """Return the value at `x`, a number or array, or a dict of those by name.

        Raises:
            InvalidInput: `x` is not made of numbers, or lacks a variable.
        """
        values = self._values(x)
        scope = Scope(_floating(values))
        outputs = self.block.run(list(values), scope)
        like = values[0] if len(values) == 1 else None
        full = [_filled(output, like, scope) for output in outputs]
        if self.shape is None:
            return full[0]
        if not full:
            return np.zeros(self.shape, scope.dtype)
        stacked = np.stack(full)
        return np.reshape(stacked, self.shape + tuple(stacked.shape[1:]))

    def along(self, name: str) -> Callable[[Any, Mapping[str, Any]], Any]:
        """Return the function of the variable `name`, with a dict of the others as data.

        Raises:
            InvalidInput: there is no such variable.
        """
        if name not in self.variables:
            raise InvalidInput(f"{self.text} has no variable {name!r}{self._known()}")

        def partial(value: Any, others: Mapping[str, Any]) -> Any:
            return self(value if len(self.variables) == 1 else {**others, name: value})

        partial.__qualname__ = partial.__name__ = self._name
        return partial

    @property
    def _name(self) -> str:
        return self.text if len(self.text) <= 60 else self.text[:57] + "..."

    def _known(self) -> str:
        return f"; its variables are {', '.join(self.variables)}" if self.variables else ""

    def _values(self, x: Any) -> tuple[Any, ...]:
        if len(self.variables) <= 1:
            return (_number(x, self.variables[0] if self.variables else "x"),)
        if not isinstance(x, Mapping):
            raise InvalidInput(
                f"{self.text} has {len(self.variables)} variables; pass a dict of their values, "
                f"such as {{{', '.join(f'{name!r}: ...' for name in self.variables)}}}"
            )
        for name in self.variables:
            if name not in x:
                raise InvalidInput(f"no value for the variable {name!r} of {self.text}")
        for name in x:
            if name not in self.variables:
                raise InvalidInput(f"{self.text} has no variable {name!r}{self._known()}")
        return tuple(_number(x[name], name) for name in self.variables)


def _number(value: Any, name: str) -> Any:
    """`value` as NumPy (or as traced) floating or complex number or array."""
    if is_traced(value):
        return value
    if isinstance(value, (bool, int, float, complex, np.generic, np.ndarray)):
        try:
            array = np.asarray(value)
        except OverflowError as error:
            raise InvalidInput(f"{name} is an integer too large for a float") from error
        if array.dtype.kind in "biu":
            array = array.astype(np.float64)
        if array.dtype.kind in "fc":
            return array if isinstance(value, np.ndarray) else array[()]
    raise InvalidInput(
        f"{name} must be a real number or an array of them, not {type(value).__name__}"
        + (f" of dtype {value.dtype}" if isinstance(value, (np.generic, np.ndarray)) else "")
    )


def _floating(values: Sequence[Any]) -> np.dtype[Any]:
    return np.result_type(*(value.dtype for value in values))


def _filled(output: Any, like: Any, scope: Scope) -> Any:
    """A bare constant in the shape of the one variable; a single number as a scalar."""
    if type(output) not in (int, float):
        return output[()] if type(output) is np.ndarray and output.ndim == 0 else output
    if np.ndim(concrete(like) if like is not None else output) == 0:
        return scope.number(output)
    return np.full(like.shape, output, scope.dtype)
