"""Rewriting rules for adjoints that are shared where outcomes tie: there the plan does not hold.

A plan carries, for every outcome that may tie, the condition that it does not. So the reverse
sweep need not share an adjoint among those that tie; what the user wrote is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from diffkit.backends.tape.keys import alike
from diffkit.backends.tape.plan import Step, compiled_only
from diffkit.backends.tape.sum_rules import axes_of, is_beside

if TYPE_CHECKING:
    from diffkit.backends.tape.rules import Rule
    from diffkit.backends.tape.simplify import Simplifier

TURNS: Final = frozenset(("negative", "broadcast_to", "reshape"))

MORE_THAN: Final = compiled_only(
    "more_than", lambda outcomes, *, count: bool(np.count_nonzero(outcomes) > count)
)
"""Whether more than `count` outcomes are true."""


def _untied(s: Simplifier, step: Step) -> int | None:
    """The adjoint of the larger of two, shared where they tie: there the plan does not hold."""
    wins, shared, nothing = step.inputs
    halved = s.made_by(shared, "where")
    larger = _unless_nan(s, wins)
    if (
        not s.free
        or not step.is_adjoint
        or larger is None
        or halved is None
        or not s.is_zero(nothing)
    ):
        return None
    if _tied_for_good(s, *larger.inputs):
        return None
    g = halved.inputs[2]
    if not _is_half(s, halved.inputs[1], g) or _unless_nan(s, halved.inputs[0]) is None:
        return None
    number = s.number(g) is not None and np.result_type(s.value(g), step.value) == step.value.dtype
    if not number and not alike(s.value(g), step.value):
        return None
    greater = s.apply(step, "greater", *larger.inputs)
    if not np.ndim(step.value):
        return s.add(step.on((greater, g, nothing)))
    factor = s.apply(step, "astype", greater, dtype=np.asarray(step.value).dtype)
    return s.apply(step, "multiply", g, factor)


def _is_half(s: Simplifier, i: int, whole: int) -> bool:
    """Whether a value is half of another one."""
    half, numbers = s.made_by(i, "divide"), (s.number(i), s.number(whole))
    if half is None:
        return None not in numbers and 2.0 * numbers[0] == numbers[1]  # type: ignore[operator]
    return half.inputs[0] == whole and s.number(half.inputs[1]) == 2.0


def _tied_for_good(s: Simplifier, a: int, b: int) -> bool:
    """Whether a value is compared with itself or with its own extreme, which no guard tells."""
    a, b = _unturned(s, a), _unturned(s, b)
    extremes = (s.made_by(i, name) for i in (a, b) for name in ("max", "min"))
    sources = [_unturned(s, extreme.inputs[0]) for extreme in extremes if extreme is not None]
    return a == b or a in sources or b in sources


def _unturned(s: Simplifier, i: int) -> int:
    """What a value is, but for its sign and how it is laid out."""
    step = s.steps[i]
    while step.primitive is not None and step.primitive.name in TURNS:
        i = step.inputs[0]
        step = s.steps[i]
    return i


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
    if not s.free or not step.is_adjoint or not s.is_zero(nothing) or quotient is None:
        return None
    g, count = quotient.inputs
    counted = s.made_by(s.behind(count, "reshape"), "sum")
    cast = None if counted is None else s.made_by(counted.inputs[0], "astype")
    if either is None or counted is None or cast is None or cast.inputs[0] != wins:
        return None
    if not (either.is_adjoint and counted.is_adjoint):  # a mask of the user's own
        return None
    extreme = _equal_to_extreme(s, either.inputs[0])
    if extreme is None or not alike(s.value(g), s.value(count)):
        return None
    s.finite.add(extreme)
    factor = s.apply(step, "astype", either.inputs[0], dtype=np.asarray(step.value).dtype)
    if negative is not None:
        g = s.apply(step, "negative", g)
    return s.apply(step, "multiply", factor, g)


def _equal_to_extreme(s: Simplifier, i: int, axes: tuple[int, ...] | None = None) -> int | None:
    """The largest or smallest entries of lanes, where a value tells which entries these are.

    Args:
        s: writes the plan.
        i: the value.
        axes: those along which the lanes must lie, if that matters.
    """
    equal = s.made_by(i, "equal")
    for a, b in () if equal is None else (equal.inputs, equal.inputs[::-1]):
        laid_out = s.behind(b, "broadcast_to")
        extreme = s.behind(laid_out, "reshape")
        for name in ("max", "min"):
            found = s.made_by(extreme, name)
            if found is None or found.inputs[0] != a or not is_beside(s, laid_out, found):
                continue
            if np.shape(s.value(a)) != np.shape(s.value(i)):  # compared more than once
                continue
            if axes is None or axes == axes_of(found, np.ndim(s.value(a))):
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
    if count is None:
        return None
    (equal,) = count.inputs
    extreme = _equal_to_extreme(s, equal, axes_of(count, np.ndim(s.value(equal))))
    if extreme is None:
        return None
    s.finite.add(extreme)
    return s.as_it_is(
        step._replace(
            primitive=MORE_THAN,
            inputs=(equal,),
            static={"count": np.size(count.value)},
        )
    )


TIE_RULES: Final[tuple[Rule, ...]] = (_untied, _untied_extreme)
