"""Rewriting rules: for one operation, other operations that give the same at less cost.

Each takes the simplifier that is writing the plan and the step at hand, and returns the position
of what stands for the step, or None. Rules that hold in exact arithmetic alone ask whether the
step is free, that is, whether it leads to no guard.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.backends.tape.keys import alike, number_key, step_key
from diffkit.backends.tape.plan import Step
from diffkit.backends.tape.sum_rules import SUM_RULES
from diffkit.backends.tape.tie_rules import TIE_RULES, tie_of_extreme
from diffkit.tracing.primitives import PRIMITIVES
from diffkit.tracing.primitives.shapes import is_basic

if TYPE_CHECKING:
    from diffkit.backends.tape.simplify import Simplifier

Rule = Callable[["Simplifier", Step], int | None]

MOST_LOOKED_AT: Final = 4096  # entries of an array, to find out whether an index takes them all


def negative_of(s: Simplifier, step: Step, k: int) -> int | None:
    """-(step) with its k-th argument, which is a negative, without its sign."""
    inputs = list(step.inputs)
    negative = s.made_by(inputs[k], "negative")
    if negative is None or np.asarray(step.value).dtype.kind != "f":
        return None
    inputs[k] = negative.inputs[0]
    if np.asarray(s.value(inputs[k])).dtype.kind != "f":
        return None
    positive = s.add(step.on(tuple(inputs))._replace(value=-step.value))
    return s.apply(step, "negative", positive)


def _negative_factor(s: Simplifier, step: Step) -> int | None:
    """(-a) b and a / (-b) are -(a b) and -(a / b)."""
    for k in (0, 1):
        if s.made_by(step.inputs[k], "negative") is not None:
            return negative_of(s, step, k)
    return None


def _negated(s: Simplifier, step: Step) -> int | None:
    """-(-x) is x, and -(c x) is (-c) x."""
    inner = s.made_by(step.inputs[0], "negative")
    if inner is not None:
        return inner.inputs[0]
    scaled = _scaled(s, step.inputs[0])
    if scaled is None:
        return None
    return _product(s, step, -scaled[0], scaled[1])


def _scaled(s: Simplifier, i: int) -> tuple[Any, int] | None:
    """The constant factor and the other argument of a product with one."""
    product = s.made_by(i, "multiply")
    if product is None:
        return None
    for k in (0, 1):
        factor = s.steps[product.inputs[k]]
        if factor.constant and _is_number(factor.value):
            return factor.value, product.inputs[1 - k]
    return None


def _is_number(value: Any) -> bool:
    """Whether a value is one number whose negative and products are as in real arithmetic."""
    if type(value) in (int, float, np.float64):
        return True
    return np.shape(value) == () and np.asarray(value).dtype.kind == "f"


def _scaled_twice(s: Simplifier, step: Step) -> int | None:
    """a (c x) is (a c) x where a or c is a power of two, so that nothing is rounded."""
    for k in (0, 1):
        factor = s.steps[step.inputs[k]]
        if not factor.constant or not _is_number(factor.value):
            continue
        scaled = _scaled(s, step.inputs[1 - k])
        if scaled is not None:
            # NumPy joins a float and a float32 to a float32, whatever they are factors of.
            a, c = np.asarray([factor.value, scaled[0]], np.asarray(step.value).dtype)
            if 0.5 in (abs(np.frexp(a)[0]), abs(np.frexp(c)[0])):
                return _product(s, step, a * c, scaled[1])
    return None


def _known_negative(s: Simplifier, step: Step) -> int | None:
    """(-c) x is -(c x) where c x is there already."""
    for k in (0, 1):
        factor = s.steps[step.inputs[k]]
        if not factor.constant or not _is_number(factor.value):
            continue
        opposite = s.seen.get(number_key(-factor.value))
        if opposite is None:
            continue
        for inputs in ((opposite, step.inputs[1 - k]), (step.inputs[1 - k], opposite)):
            known = s.seen.get(step_key(step.on(inputs)))
            if known is not None:
                negative = PRIMITIVES["negative"]
                return s.as_it_is(step._replace(primitive=negative, inputs=(known,)))
    return None


def _product(s: Simplifier, step: Step, factor: Any, other: int) -> int | None:
    """A product that is exact where the one it replaces was, in the same dtype."""
    if not alike(s.value(other), step.value) or not _is_normal(factor, step.value):
        return None
    multiply = PRIMITIVES["multiply"]
    return s.add(step._replace(primitive=multiply, inputs=(s.constant(factor), other)))


def _is_normal(factor: Any, like: Any) -> bool:
    """Whether a factor keeps all its digits in the dtype of the product."""
    dtype = np.asarray(like).dtype
    if dtype.kind != "f":
        return False
    limits = np.finfo(dtype.type)
    return bool(limits.tiny <= abs(factor) <= limits.max)


def _added(s: Simplifier, step: Step) -> int | None:
    """a + 0 is a unless the sign of a zero matters, and a + (-b) is a - b."""
    for k in (0, 1):
        other = step.inputs[1 - k]
        nothing = not s.tells_zeros and s.is_zero(step.inputs[k])
        if nothing and alike(s.value(other), step.value):
            return other
        negative = s.made_by(step.inputs[k], "negative")
        if negative is not None:
            inputs = (other, negative.inputs[0])
            return s.add(step._replace(primitive=PRIMITIVES["subtract"], inputs=inputs))
    return None


def _doubled(s: Simplifier, step: Step) -> int | None:
    """x + x is 2 x."""
    if step.inputs[0] != step.inputs[1]:
        return None
    return _product(s, step, np.asarray(step.value).dtype.type(2), step.inputs[0])


def _subtracted(s: Simplifier, step: Step) -> int | None:
    """a - 0 is a, and a - (-b) is a + b."""
    if s.is_zero(step.inputs[1]) and alike(s.value(step.inputs[0]), step.value):
        return step.inputs[0]
    negative = s.made_by(step.inputs[1], "negative")
    if negative is None:
        return None
    inputs = (step.inputs[0], negative.inputs[0])
    return s.add(step._replace(primitive=PRIMITIVES["add"], inputs=inputs))


def _cancelled(s: Simplifier, step: Step) -> int | None:
    """a - a is 0, if a is finite."""
    if not s.free or not isinstance(step.value, np.ndarray):
        return None
    left, right = (np.shape(s.value(i)) for i in step.inputs)
    for through in ("broadcast_to", "reshape"):
        if through == "reshape" and left != right:  # as in x[:, None] - x
            continue
        first, second = (s.behind(i, through) for i in step.inputs)
        number = s.number(first)
        if first == second or (number is not None and number == s.number(second)):
            s.finite.add(first)
            return s.zeros(step.value)
    return None


def _undone(s: Simplifier, step: Step) -> int | None:
    """(a / b) b is a, if b and the quotient are finite."""
    for k in (0, 1):
        quotient, factor = s.made_by(step.inputs[k], "divide"), step.inputs[1 - k]
        if not s.free or quotient is None or quotient.inputs[1] != factor:
            continue
        numerator = quotient.inputs[0]
        if np.asarray(s.value(numerator)).dtype != np.asarray(step.value).dtype:
            continue
        s.finite |= {step.inputs[k], factor}
        if np.shape(s.value(numerator)) == np.shape(step.value):
            return numerator
        return s.apply(step, "broadcast_to", numerator, shape=np.shape(step.value))
    return None


def _one_divisor(s: Simplifier, step: Step) -> int | None:
    """a / c - b / c is (a - b) / c."""
    first, second = (s.made_by(s.behind(i, "reshape"), "divide") for i in step.inputs)
    if not s.free or first is None or second is None or first.inputs[1] != second.inputs[1]:
        return None
    quotients = (s.value(step.inputs[0]), step.value), (s.value(step.inputs[1]), second.value)
    if not alike(first.value, step.value) or not all(alike(a, b) for a, b in quotients):
        return None
    if np.shape(s.value(second.inputs[0])) != np.shape(second.value):
        return None
    difference = s.apply(step, "subtract", first.inputs[0], second.inputs[0])
    if not alike(s.value(difference), step.value):
        return None
    s.finite.add(difference)
    return s.apply(step, "divide", difference, first.inputs[1])


def _known_quotient(s: Simplifier, step: Step) -> int | None:
    """(a / c) e is a (e / c), where that quotient is there already and is the older one."""
    for k in (0, 1):
        quotient, e = s.made_by(step.inputs[k], "divide"), step.inputs[1 - k]
        if not s.free or quotient is None:
            continue
        known = s.seen.get(step_key(quotient.on((e, quotient.inputs[1]))))
        if known is None or known >= step.inputs[k] or not alike(s.value(known), step.value):
            continue
        if alike(s.value(quotient.inputs[0]), step.value):
            return s.apply(step, "multiply", quotient.inputs[0], known)
    return None


def _over_square_of_cosh(s: Simplifier, step: Step) -> int | None:
    """g sech(x)² is g / cosh(x)²."""
    for k in (0, 1):
        square, g = s.made_by(step.inputs[k], "square"), step.inputs[1 - k]
        sech = None if square is None else s.made_by(square.inputs[0], "sech")
        if not s.free or sech is None or not alike(sech.value, step.value):
            continue
        cosh = s.apply(step, "cosh", sech.inputs[0])
        return s.apply(step, "divide", g, s.apply(step, "square", cosh))
    return None


def _set_whole(s: Simplifier, step: Step) -> int | None:
    """Entries set in zeros, all of them and in order, are a reshaping."""
    value, shape = s.value(step.inputs[0]), step.static["shape"]
    if not isinstance(step.value, np.ndarray) or not _is_whole(step.static["index"], shape):
        return None
    if isinstance(value, np.ndarray):
        return s.apply(step, "reshape", step.inputs[0], shape=shape)
    return s.apply(step, "stack_scalars", step.inputs[0], shape=shape)


def _taken_whole(s: Simplifier, step: Step) -> int | None:
    """All entries, in order, are a reshaping."""
    shape = np.shape(s.value(step.inputs[0]))
    if not isinstance(step.value, np.ndarray) or not _is_whole(step.static["index"], shape):
        return None
    return s.apply(step, "reshape", step.inputs[0], shape=step.value.shape)


def _rearranged_twice(s: Simplifier, step: Step) -> int | None:
    """A reshaping of a reshaping is one."""
    first = s.made_by(step.inputs[0], "reshape")
    if first is None or any(r.static.get("order", "C") != "C" for r in (step, first)):
        return None
    return s.apply(step, "reshape", first.inputs[0], shape=np.shape(step.value))


def _choice_of_numbers(s: Simplifier, step: Step) -> int | None:
    """A choice among single numbers is one; np.where puts it in an array without axes."""
    if not s.free or not isinstance(step.value, np.ndarray) or np.ndim(step.value):
        return None
    return s.add(step._replace(value=step.value[()]))


def _choice_of_constant(s: Simplifier, step: Step) -> int | None:
    """A choice between a number and 0 is a product, which takes a third of the time."""
    condition, *branches = step.inputs
    numbers = [s.number(i) for i in branches]
    if not s.free or not np.ndim(step.value) or None in numbers or 0.0 not in numbers:
        return None
    chosen = numbers.index(0.0) == 1
    number = s.value(branches[0 if chosen else 1])
    whole = s.value(condition).dtype == bool and np.shape(s.value(condition)) == step.value.shape
    if not whole or np.ndim(number) or not np.isfinite(number) or (s.tells_zeros and number < 0):
        return None
    if not chosen:
        condition = s.apply(step, "logical_not", condition)
    mask = s.apply(step, "astype", condition, dtype=step.value.dtype)
    return s.apply(step, "multiply", mask, branches[0 if chosen else 1])


def _of_negatives(s: Simplifier, step: Step) -> int | None:
    """-a > -b is b > a."""
    negatives = [s.made_by(i, "negative") for i in step.inputs]
    if None in negatives or any(np.asarray(s.value(i)).dtype.kind != "f" for i in step.inputs):
        return None
    a, b = (negative.inputs[0] for negative in negatives if negative is not None)
    return s.apply(step, "greater", b, a)


def _any_of_one(s: Simplifier, step: Step) -> int | None:
    """Whether any of one condition holds is that condition."""
    (a,) = step.inputs
    return a if type(s.value(a)) in (bool, np.bool) and type(step.value) is np.bool else None


def _plain_quotient(s: Simplifier, step: Step) -> int | None:
    """A quotient that is 0 for 0 / 0 is a plain one elsewhere; there it has no program."""
    if not s.free or not np.all(s.value(step.inputs[1])):
        return None
    return s.apply(step, "divide", *step.inputs)


def _outer(s: Simplifier, step: Step) -> int | None:
    """A matrix product that sums single terms is a plain product."""
    a, b = (s.value(i) for i in step.inputs)
    if not s.free or np.ndim(a) != 2 or a.shape[1] != 1 or np.ndim(b) > 2:
        return None
    if a.dtype != b.dtype:
        return None
    column = step.inputs[0]
    if np.ndim(b) == 1:
        column = s.apply(step, "reshape", column, shape=(a.shape[0],))
    return s.apply(step, "multiply", column, step.inputs[1])


def _rows_at_once(s: Simplifier, step: Step) -> int | None:
    """A product of a stack of matrices with one matrix is one product of all their rows."""
    a, b = (s.value(i) for i in step.inputs)
    if not s.free or np.ndim(a) < 3 or np.ndim(b) != 2 or a.dtype != b.dtype:
        return None
    rows = s.apply(step, "reshape", step.inputs[0], shape=(math.prod(a.shape[:-1]), a.shape[-1]))
    product = s.apply(step, "matmul", rows, step.inputs[1])
    return s.apply(step, "reshape", product, shape=step.value.shape)


def _is_whole(index: Any, shape: tuple[int, ...]) -> bool:
    """Whether an index takes every entry of an array, in order."""
    if not is_basic(index) or not 0 < math.prod(shape) <= MOST_LOOKED_AT:
        return False
    places = np.arange(math.prod(shape)).reshape(shape)
    chosen = places[index]
    return bool(np.size(chosen) == places.size and np.all(np.ravel(chosen) == places.ravel()))


RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "negative": (_negated,),
    "multiply": (
        _negative_factor,
        _scaled_twice,
        _known_negative,
        _undone,
        _known_quotient,
        _over_square_of_cosh,
    ),
    "add_at": (_set_whole,),
    "index": (_taken_whole,),
    "where": (_choice_of_numbers, *TIE_RULES, _choice_of_constant),
    "greater": (_of_negatives,),
    "any": (_any_of_one, tie_of_extreme),
    "ratio": (_plain_quotient,),
    "reshape": (_rearranged_twice,),
    "matmul": (_outer, _rows_at_once),
    "divide": (_negative_factor,),
    "add": (_added, _doubled),
    "subtract": (_subtracted, _cancelled, _one_divisor),
    "sum": SUM_RULES,
}
