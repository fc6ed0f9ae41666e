"""Rewriting rules for sums: known ones, those that are zero, and what need not be summed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from diffkit.backends.tape.keys import alike, step_key
from diffkit.backends.tape.plan import Step
from diffkit.tracing.primitives.lanes import kept_shape

if TYPE_CHECKING:
    from diffkit.backends.tape.rules import Rule
    from diffkit.backends.tape.simplify import Simplifier


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
    if not s.free or product is None or step.static["keepdims"]:
        return None
    for k in (0, 1):
        factor, other = product.inputs[k], product.inputs[1 - k]
        c, e = s.value(factor), s.value(other)
        if np.shape(e) != np.shape(product.value):
            continue
        if np.ndim(c) and (axis is None or np.ndim(c) != np.ndim(e)):
            continue
        if np.ndim(c) and any(np.shape(c)[i] != 1 for i in axis):
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
        if sign < 0 or s.behind(first, "reshape") != s.behind(second, "reshape"):
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
        factor = s.behind(factor, "reshape")
        quotient = s.made_by(factor, "divide")
        if quotient is None or any(shape[j] != 1 for j in step.static["axis"]):
            continue
        numerator, divisor = (s.behind(j, "reshape") for j in quotient.inputs)
        operands = [j for j in (numerator, divisor) if s.number(j) is None]
        whole = all(np.size(s.value(j)) == math.prod(shape) for j in operands)
        if whole and divisor == s.behind(known[0], "reshape"):
            return numerator, (factor, divisor)
    return None


def _sum_of_all(s: Simplifier, step: Step) -> int | None:
    """A sum along every axis has one name."""
    axis, ndim = step.static["axis"], np.ndim(s.value(step.inputs[0]))
    if axis is None or step.static["keepdims"] or len(axis) < ndim or np.ndim(step.value):
        return None
    return s.add(step._replace(static={"axis": None, "keepdims": False}))


def _sum_to_number(s: Simplifier, step: Step) -> int | None:
    """A sum over all axes that are kept is a number in a box."""
    if not s.free or not np.ndim(step.value) or np.size(step.value) != 1:
        return None
    number = s.apply(step, "sum", *step.inputs, axis=None, keepdims=False)
    return s.apply(step, "reshape", number, shape=step.value.shape)


def _sum_of_quotients(s: Simplifier, step: Step) -> int | None:
    """The sum of a / b is that of a, divided by b, where b is the same for all its terms."""
    quotient = s.made_by(step.inputs[0], "divide")
    if not s.free or quotient is None or not isinstance(quotient.value, np.ndarray):
        return None
    terms, divisor = quotient.inputs
    kept = _kept_shape(step, np.shape(quotient.value))
    if not alike(s.value(terms), quotient.value) or np.shape(s.value(divisor)) not in ((), kept):
        return None
    total = s.apply(step, "sum", terms, **{**step.static, "keepdims": bool(kept)})
    s.finite.add(total)
    mean = s.apply(step, "divide", total, divisor)
    return s.apply(step, "reshape", mean, shape=np.shape(step.value))


def _sum_of_products(s: Simplifier, step: Step) -> int | None:
    """The sum of Aᵀ G over a stack of pairs is one product of all their rows."""
    product = s.made_by(step.inputs[0], "matmul")
    if not s.free or product is None or step.static["keepdims"]:
        return None
    ndim = np.ndim(product.value)
    turned = s.made_by(product.inputs[0], "transpose")
    if ndim < 3 or axes_of(step, ndim) != tuple(range(ndim - 2)) or turned is None:
        return None
    stacks = turned.inputs[0], product.inputs[1]
    axes = (*range(ndim - 2), ndim - 1, ndim - 2)
    if turned.static.get("axes") != axes or any(np.ndim(s.value(i)) != ndim for i in stacks):
        return None
    shapes = [np.shape(s.value(i)) for i in stacks]
    if shapes[0][:-1] != shapes[1][:-1]:
        return None
    a, g = (
        s.apply(step, "reshape", i, shape=(math.prod(shape[:-1]), shape[-1]))
        for i, shape in zip(stacks, shapes, strict=True)
    )
    return s.apply(step, "matmul", s.apply(step, "transpose", a, axes=(1, 0)), g)


def _kept_shape(step: Step, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with its axes kept; none if everything is summed to a number."""
    axis = step.static["axis"]
    if axis is None and not isinstance(step.value, np.ndarray):
        return ()
    return kept_shape(shape, axis)


def _sum_about_mean(s: Simplifier, step: Step) -> int | None:
    """The sum of (g - Σ g a) a is 0, where a is e / Σ e.

    So it is for the adjoint of what is shifted out of the exponentials of a softmax.
    """
    product = s.made_by(step.inputs[0], "multiply")
    if not s.free or product is None:
        return None
    for centred, weights in (product.inputs, product.inputs[::-1]):
        difference, share = s.made_by(centred, "subtract"), s.made_by(weights, "divide")
        if difference is None or share is None or np.shape(share.value) != np.shape(product.value):
            continue
        g, mean = difference.inputs
        whole = _sum_behind(s, step, share.inputs[1])
        if whole != share.inputs[0]:
            continue
        weighted = s.made_by(_sum_behind(s, step, mean), "multiply")
        if weighted is not None and sorted(weighted.inputs) == sorted((g, weights)):
            s.finite.add(s.behind(mean, "reshape"))
            return s.zeros(step.value)
    return None


def _sum_behind(s: Simplifier, step: Step, i: int) -> int:
    """What a value, laid out beside its terms, is the sum of along the axes of a step.

    Itself if it is no such sum.
    """
    total = s.made_by(s.behind(i, "reshape"), "sum")
    shape = np.shape(s.value(step.inputs[0]))
    if total is None or np.ndim(s.value(total.inputs[0])) != len(shape):
        return i
    same = axes_of(total, len(shape)) == axes_of(step, len(shape))
    return total.inputs[0] if same and is_beside(s, i, total) else i


def axes_of(step: Step, ndim: int) -> tuple[int, ...]:
    """The axes along which a step reduces an array of so many."""
    axis = step.static["axis"]
    return tuple(range(ndim)) if axis is None else tuple(sorted(axis))


def is_beside(s: Simplifier, i: int, reduction: Step) -> bool:
    """Whether a rearranged result of a reduction meets, in broadcasting, what it was made of."""
    shape, laid_out = np.shape(s.value(reduction.inputs[0])), np.shape(s.value(i))
    kept = kept_shape(shape, reduction.static["axis"])
    return bool((1,) * (len(kept) - len(laid_out)) + laid_out == kept)


SUM_RULES: Final[tuple[Rule, ...]] = (
    _sum_of_all,
    _sum_to_number,
    _sum_known,
    _factor_of_known_sum,
    _sum_of_opposites,
    _sum_about_mean,
    _sum_of_quotients,
    _sum_of_products,
)
