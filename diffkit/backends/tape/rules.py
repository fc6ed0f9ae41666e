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


def _subtracted(s: Simplifier, step: Step) -> int | None:
    """a - (-b) is a + b."""
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
        first, second = (_behind(s, i, through) for i in step.inputs)
        number = s.number(first)
        if first == second or (number is not None and number == s.number(second)):
            s.finite.add(first)
            return s.zeros(step.value)
    return None


def _behind(s: Simplifier, i: int, name: str) -> int:
    """What a value is a repetition or another arrangement of."""
    made = s.made_by(i, name)
    while made is not None and made.static.get("order", "C") == "C":
        i = made.inputs[0]
        made = s.made_by(i, name)
    return i


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


def _untied(s: Simplifier, step: Step) -> int | None:
    """The adjoint of the larger of two, shared where they tie: there the plan does not hold."""
    wins, shared, nothing = step.inputs
    halved = s.made_by(shared, "where")
    larger = _unless_nan(s, wins)
    if not s.free or larger is None or halved is None or not s.is_zero(nothing):
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


def _sum_known(s: Simplifier, step: Step) -> int | None:
    """A sum that is there already with its axes kept."""
    if step.static["keepdims"] or not isinstance(step.value, np.ndarray):
        return None
    kept = s.seen.get(step_key(step._replace(static={**step.static, "keepdims": True})))
    if kept is None:
        return None
    return s.apply(step, "reshape", kept, shape=step.value.shape)


def _factor_of_known_sum(s: Simplifier, step: Step) -> int | None:
    """The sum of c e is c times that of e, which is there already, where c is constant."""
    product, axis = s.made_by(step.inputs[0], "multiply"), step.static["axis"]
    if not s.free or product is None or axis is None or step.static["keepdims"]:
        return None
    for k in (0, 1):
        factor, other = product.inputs[k], product.inputs[1 - k]
        c, e = s.value(factor), s.value(other)
        if np.shape(e) != np.shape(product.value) or np.ndim(c) != np.ndim(e):
            continue
        if any(np.shape(c)[i] != 1 for i in axis):
            continue
        for keepdims in (True, False):
            total = step._replace(inputs=(other,), static={"axis": axis, "keepdims": keepdims})
            known = s.seen.get(step_key(total))
            if known is not None:
                s.finite.add(known)
                return _scaled_sum(s, step, factor, known)
    return None


def _scaled_sum(s: Simplifier, step: Step, factor: int, total: int) -> int:
    shape = np.shape(s.value(total))
    if np.ndim(s.value(factor)) != len(shape):
        lanes = s.made_by(factor, "reshape")
        if lanes is not None and np.shape(s.value(lanes.inputs[0])) == shape:
            factor = lanes.inputs[0]
        else:
            axes = step.static["axis"]
            own = [n for i, n in enumerate(np.shape(s.value(factor))) if i not in axes]
            factor = s.apply(step, "reshape", factor, shape=tuple(own))
    product = s.apply(step, "multiply", factor, total)
    return s.apply(step, "reshape", product, shape=np.shape(step.value))


def _sum_of_opposites(s: Simplifier, step: Step) -> int | None:
    """The sum of a - b is 0 where a and b are known to have one sum, if that is finite.

    So it is for the adjoint of what is shifted out of the logarithm of a sum of exponentials.
    """
    axis, terms, sign = step.static["axis"], s.made_by(step.inputs[0], "subtract"), 1
    if terms is None:
        terms, sign = s.made_by(step.inputs[0], "add"), -1
    if not s.free or terms is None or not axis or not isinstance(step.value, np.ndarray):
        return None
    totals = []
    for i in terms.inputs:
        total = _known_sum(s, step, i) or _scattered_sum(s, step, i) or _undone_sum(s, step, i)
        if total is None or np.shape(s.value(i)) != np.shape(terms.value):
            return None
        totals.append(total)
    (first, relied_on), (second, also) = totals
    number = s.number(second)
    if number is None or s.number(first) != sign * number:
        if sign < 0 or _behind(s, first, "reshape") != _behind(s, second, "reshape"):
            return None
        relied_on = (*relied_on, *also) or (first,)
    s.finite |= {*relied_on, *also}
    return s.zeros(step.value)


def _known_sum(s: Simplifier, step: Step, i: int) -> tuple[int, tuple[int, ...]] | None:
    """The position of the sum of a value along the axes of a step, if it is there already."""
    for keepdims in (True, False):
        total = step._replace(inputs=(i,), static={**step.static, "keepdims": keepdims})
        known = s.seen.get(step_key(total))
        if known is not None:
            return known, ()
    return None


def _scattered_sum(s: Simplifier, step: Step, i: int) -> tuple[int, tuple[int, ...]] | None:
    """The sums of rows into each of which one value is put: these values."""
    scattered = s.made_by(i, "scatter")
    if scattered is None or step.static["axis"] != (1,) or len(scattered.inputs) != 2:
        return None
    values, integers = scattered.inputs
    rows, shape = scattered.static["index"][0], scattered.static["shape"]
    if len(shape) != 2 or np.shape(s.value(integers)) != shape[:1] or np.ndim(s.value(values)) > 1:
        return None
    one_each = isinstance(rows, np.ndarray) and np.array_equal(rows, np.arange(shape[0]))
    return (values, ()) if one_each else None


def _undone_sum(s: Simplifier, step: Step, i: int) -> tuple[int, tuple[int, ...]] | None:
    """The sum of (a / Σ e) e is a; with what must be finite for that."""
    product = s.made_by(i, "multiply")
    if product is None:
        return None
    for factor, other in (product.inputs, product.inputs[::-1]):
        shape, known = np.shape(s.value(factor)), _known_sum(s, step, other)
        if known is None or len(shape) != np.ndim(s.value(other)):
            continue
        factor = _behind(s, factor, "reshape")
        quotient = s.made_by(factor, "divide")
        if quotient is None or any(shape[j] != 1 for j in step.static["axis"]):
            continue
        numerator, divisor = (_behind(s, j, "reshape") for j in quotient.inputs)
        whole = s.number(numerator) is not None or np.size(s.value(numerator)) == math.prod(shape)
        if whole and divisor == _behind(s, known[0], "reshape"):
            return numerator, (factor, divisor)
    return None


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
    ),
    "add_at": (_set_whole,),
    "index": (_taken_whole,),
    "where": (_untied,),
    "matmul": (_outer,),
    "divide": (_negative_factor,),
    "add": (_added,),
    "subtract": (_subtracted, _cancelled),
    "sum": (_sum_known, _factor_of_known_sum, _sum_of_opposites),
}
