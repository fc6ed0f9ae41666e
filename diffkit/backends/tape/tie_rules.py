"""Rewriting rules for adjoints that are shared where outcomes tie: there the plan does not hold.

A plan carries, for every outcome that may tie, the condition that it does not. So the reverse
sweep need not share an adjoint among those that tie; what the user wrote is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from diffkit.backends.tape.keys import alike
from diffkit.backends.tape.plan import Step
from diffkit.tracing.graph import Missing, Primitive

if TYPE_CHECKING:
    from diffkit.backends.tape.rules import Rule
    from diffkit.backends.tape.simplify import Simplifier

_NOT_RECORDED: Final = Missing("made while a gradient is compiled")

MORE_THAN: Final = Primitive(
    "more_than",
    lambda outcomes, *, count: bool(np.count_nonzero(outcomes) > count),
    _NOT_RECORDED,
    _NOT_RECORDED,
    _NOT_RECORDED,
)
"""Whether more than `count` outcomes are true."""


def _is_adjoint(step: Step) -> bool:
    return step.origin is not None and step.origin.adjoint


def _untied(s: Simplifier, step: Step) -> int | None:
    """The adjoint of the larger of two, shared where they tie: there the plan does not hold."""
    wins, shared, nothing = step.inputs
    halved = s.made_by(shared, "where")
    larger = _unless_nan(s, wins)
    if (
        not s.free
        or not _is_adjoint(step)
        or larger is None
        or halved is None
        or not s.is_zero(nothing)
    ):
        return None
    if larger.inputs[0] == larger.inputs[1]:  # always tied, which no guard tells
        return None
    half, g = s.made_by(halved.inputs[1], "divide"), halved.inputs[2]
    if half is None or half.inputs[0] != g or s.number(half.inputs[1]) != 2.0:
        return None
    if _unless_nan(s, halved.inputs[0]) is None or not alike(s.value(g), step.value):
        return None
    greater = s.apply(step, "greater", *larger.inputs)
    factor = s.apply(step, "astype", greater, dtype=np.asarray(step.value).dtype)
    return s.apply(step, "multiply", g, factor)


def _unless_nan(s: Simplifier, i: int) -> Step | None:
    """The comparison `a >= b` (or `<=`) of an outcome `(a >= b) | (a != a)`."""
    either = s.made_by(i, "bitwise_or")
    if either is None:
        return None
    for k in (0, 1):
        for name in ("greater_equal", "less_equal"):
            comparison = s.made_by(either.inputs[k], name)
            if comparison is not None:
                if name == "less_equal":
                    comparison = comparison._replace(inputs=comparison.inputs[::-1])
                return comparison
    return None


def _untied_extreme(s: Simplifier, step: Step) -> int | None:
    """The adjoint of the extreme entry of a lane, shared among those that are equal to it."""
    wins, shared, nothing = step.inputs
    negative = s.made_by(shared, "negative")
    quotient = s.made_by(shared if negative is None else negative.inputs[0], "divide")
    either = s.made_by(wins, "bitwise_or")
    if not s.free or not _is_adjoint(step) or not s.is_zero(nothing) or quotient is None:
        return None
    g, count = quotient.inputs
    counted = s.made_by(s.behind(count, "reshape"), "sum")
    cast = None if counted is None else s.made_by(counted.inputs[0], "astype")
    if either is None or cast is None or cast.inputs[0] != wins:
        return None
    equal = _equal_to_extreme(s, either.inputs[0])
    if equal is None or alike(s.value(g), s.value(count)) is False:
        return None
    s.finite.add(equal)
    factor = s.apply(step, "astype", either.inputs[0], dtype=np.asarray(step.value).dtype)
    if negative is not None:
        g = s.apply(step, "negative", g)
    return s.apply(step, "multiply", factor, g)


def _equal_to_extreme(s: Simplifier, i: int) -> int | None:
    """The largest or smallest entries of lanes, where a value tells which entries these are."""
    equal = s.made_by(i, "equal")
    for a, b in () if equal is None else (equal.inputs, equal.inputs[::-1]):
        extreme = s.behind(s.behind(b, "broadcast_to"), "reshape")
        for name in ("max", "min"):
            found = s.made_by(extreme, name)
            if found is not None and found.inputs[0] == a:
                return extreme
    return None


def tie_of_extreme(s: Simplifier, step: Step) -> int | None:
    """Whether some lane has its extreme twice: whether more entries are extreme than lanes.

    Unless an extreme is NaN, each lane has one at least.
    """
    outcome = s.behind(s.behind(step.inputs[0], "broadcast_to"), "reshape")
    greater = s.made_by(outcome, "greater")
    if greater is None or s.number(greater.inputs[1]) != 1.0:
        return None
    count = s.made_by(greater.inputs[0], "sum")
    extreme = None if count is None else _equal_to_extreme(s, count.inputs[0])
    if count is None or extreme is None or np.size(count.value) != np.size(s.value(extreme)):
        return None
    s.finite.add(extreme)
    return s.as_it_is(
        step._replace(
            primitive=MORE_THAN,
            inputs=(count.inputs[0],),
            static={"count": np.size(count.value)},
        )
    )


TIE_RULES: Final[tuple[Rule, ...]] = (_untied, _untied_extreme)
