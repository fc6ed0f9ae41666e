"""Sums of products as dot products, which need no array for the terms.

A sum of terms none of which is negative is also the sum of the sums of its parts: nothing
cancels. Long sums are left to NumPy, which adds by pairs, and so is what leads to a guard.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.plan import Plan, Step
from diffkit.tracing.primitives import PRIMITIVES

MOST_TERMS: Final = 16_384

_NEVER_NEGATIVE: Final = frozenset(("square", "absolute", "fabs", "exp", "exp2", "cosh", "sech"))


def with_dots(plan: Plan) -> Plan:
    """The plan with its sums of products as dot products, where those are as accurate."""
    return _Dots(plan).run()


class _Dots:
    """One pass that writes a new plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.fixed = plan.leading_to_guards()
        self.uses = plan.uses()
        self.steps: list[Step] = []
        self.place: dict[int, int] = {}
        self.finite: set[int] = set()  # totals whose terms, scaled one by one, were smaller

    def run(self) -> Plan:
        found = False
        if not any(map(self._sums_all, self.plan.steps)):
            return self.plan
        for position, step in self.plan.enumerated():
            if position not in self.fixed and self._sums_all(step):
                total = self._total(step, step.inputs[0])
                if total is not None:
                    self.place[position], found = total, True
                    continue
            self.steps.append(step.on(tuple([self.place[i] for i in step.inputs])))
            self.place[position] = len(self.steps) - 1
        if not found:
            return self.plan
        moved = self.plan.moved(self.steps, self.place)
        return replace(moved, finite=moved.finite | self.finite).needed()

    def _sums_all(self, step: Step) -> bool:
        if step.primitive is None or step.primitive.name != "sum":
            return False
        terms = self.plan.steps[step.inputs[0]].value
        return (
            type(step.value) is np.float64
            and isinstance(terms, np.ndarray)
            and terms.dtype == np.float64
            and 0 < terms.size <= MOST_TERMS
        )

    def _total(self, like: Step, terms: int) -> int | None:
        """The position of the sum of an array that only the sum needs; None to leave it."""
        step = self.plan.steps[terms]
        if step.primitive is None or self.uses[terms] != 1:
            return None
        if step.primitive.name == "square":
            return self._dot(like, *step.inputs, *step.inputs)
        if step.primitive.name == "multiply":
            for k in (0, 1):
                if np.ndim(self.plan.steps[step.inputs[k]].value) == 0:
                    total = self._total(like, step.inputs[1 - k])
                    if total is None:
                        return None
                    self.finite.add(total)
                    return self._apply(like, "multiply", self.place[step.inputs[k]], total)
            return self._dot(like, *step.inputs)
        if step.primitive.name == "add" and all(map(self._never_negative, step.inputs)):
            parts = [self._total(like, i) for i in step.inputs]
            if None not in parts:
                return self._apply(like, "add", *(p for p in parts if p is not None))
        return None

    def _never_negative(self, position: int) -> bool:
        step = self.plan.steps[position]
        if step.primitive is None:
            return step.constant and bool(np.all(np.greater_equal(step.value, 0)))
        if step.primitive.name == "multiply" and step.inputs[0] == step.inputs[1]:
            return True
        if step.primitive.name in ("multiply", "add", "divide"):
            return all(map(self._never_negative, step.inputs))
        return step.primitive.name in _NEVER_NEGATIVE

    def _dot(self, like: Step, first: int, second: int) -> int | None:
        a, b = (self.plan.steps[i].value for i in (first, second))
        if np.shape(a) != np.shape(b) or not all(_flat_without_copy(v) for v in (a, b)):
            return None
        factors = [self.place[i] for i in (first, second)]
        if a.ndim > 1:
            factors = [self._apply(like, "reshape", i, shape=(a.size,)) for i in factors]
        return self._apply(like, "matmul", *factors)

    def _apply(self, like: Step, name: str, *inputs: int, **static: Any) -> int:
        primitive = PRIMITIVES[name]
        with np.errstate(all="ignore"):
            value = primitive.function(*(self.steps[i].value for i in inputs), **static)
        self.steps.append(Step(primitive, inputs, static, value, False, like.origin))
        return len(self.steps) - 1


def _flat_without_copy(value: Any) -> bool:
    return bool(
        isinstance(value, np.ndarray)
        and value.dtype == np.float64
        and (value.ndim == 1 or value.flags.c_contiguous)
    )
