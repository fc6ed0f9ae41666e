"""Sums of several terms and products of several factors, in the order in which they cost least.

In the turns of a loop, what is there early comes before what is there late, so that it can be
computed for all turns at once. A long sum becomes one `total`, whose terms need no order. Entries
that are set in zeros and added become one array. What leads to a guard is left as it is.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np

from diffkit.backends.tape.keys import alike
from diffkit.backends.tape.lines import entry_place
from diffkit.backends.tape.plan import Plan, Step, compiled_only
from diffkit.tracing.primitives import PRIMITIVES

MANY: Final = 8  # terms, from which they are summed at once; sums, from which order matters

LARGEST_FACTOR: Final = 1e30  # and its reciprocal the smallest, of what is multiplied anew


def _total(*terms: Any, signs: tuple[int, ...]) -> Any:
    result = terms[0] if signs[0] > 0 else -terms[0]
    for term, sign in zip(terms[1:], signs[1:], strict=True):
        result = result + term if sign > 0 else result - term
    return result


TOTAL: Final = compiled_only("total", _total)

Term = tuple[int, int]  # a position, and 1 or -1


def regrouped(plan: Plan) -> Plan:
    """The plan with its sums and products put in order."""
    return _Sums(_Products(plan).run()).run()


class _Regrouping:
    """One pass that writes a new plan.

    Attributes:
        forward, backward: an operation, and its inverse.
    """

    forward: ClassVar[str]
    backward: ClassVar[str]

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.fixed = plan.leading_to_guards()
        self.uses = plan.uses()
        self.steps: list[Step] = []
        self.place: dict[int, int] = {}

    @cached_property
    def depth(self) -> list[int]:
        """How many operations each value comes after."""
        depth: list[int] = []
        for step in self.plan.steps:
            depth.append(1 + max([depth[i] for i in step.inputs], default=-1))
        return depth

    def run(self) -> Plan:
        """The new plan."""
        adding = {position for position in range(len(self.plan.steps)) if self._adds(position)}
        inner = {
            i
            for position in adding
            for i in self.plan.steps[position].inputs
            if i in adding and self.uses[i] == 1
        }
        sums = {position: self._terms(position, inner) for position in sorted(adding - inner)}
        lengths = Counter(len(terms) for terms in sums.values())
        chosen = {
            position: terms
            for position, terms in sums.items()
            if self._may_be_reordered(self.plan.steps[position], terms)
            and ((len(terms) > 2 and lengths[len(terms)] >= MANY) or self._is_chosen(terms))
        }
        if not chosen:
            return self.plan
        skipped = {i for position in chosen for i in self._below(position, inner) if i != position}
        for position, step in self.plan.enumerated():
            if position in chosen:
                self.place[position] = self._written(step, chosen[position])
            elif position not in skipped:
                inputs = tuple([self.place[i] for i in step.inputs])
                self.place[position] = self._add(step.on(inputs))
        return self.plan.moved(self.steps, self.place).needed()

    def _adds(self, position: int) -> bool:
        step = self.plan.steps[position]
        if step.primitive is None or step.primitive.name not in (self.forward, self.backward):
            return False
        if position in self.fixed:
            return False
        return all(alike(self.plan.steps[i].value, step.value) for i in step.inputs)

    def _below(self, position: int, inner: set[int]) -> list[int]:
        """A sum and the sums that are its terms."""
        found, waiting = [], [position]
        while waiting:
            found.append(waiting.pop())
            waiting += [i for i in self.plan.steps[found[-1]].inputs if i in inner]
        return found

    def _terms(self, position: int, inner: set[int]) -> list[Term]:
        terms: list[Term] = []
        waiting = [(position, 1)]
        while waiting:
            at, sign = waiting.pop()
            step = self.plan.steps[at]
            if at != position and at not in inner:
                terms.append(self._leaf(at, sign))
                continue
            assert step.primitive is not None
            first, second = step.inputs
            waiting.append((second, sign if step.primitive.name == self.forward else -sign))
            waiting.append((first, sign))
        return terms

    # ------------------------------------------------------------------ writing

    def _add(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1

    def _may_be_reordered(self, step: Step, terms: list[Term]) -> bool:
        """Whether another order can change no more than the last digits."""
        raise NotImplementedError

    def _is_chosen(self, terms: list[Term]) -> bool:
        """Whether terms are worth putting in order though nothing else is like them."""
        return False

    def _leaf(self, position: int, sign: int) -> Term:
        return position, sign

    def _written(self, like: Step, terms: list[Term]) -> int:
        """The position of the operations on terms, those first that are there early."""
        early = sorted(terms, key=lambda term: self.depth[term[0]])
        return self._chain(like, [(self.place[i], sign) for i, sign in early])

    def _chain(self, like: Step, placed: list[Term]) -> int:
        first = next((k for k, (_, sign) in enumerate(placed) if sign > 0), None)
        if first is None:
            return self._inverse(like, self._chain(like, [(i, 1) for i, _ in placed]))
        result = placed.pop(first)[0]
        for i, sign in placed:
            primitive = PRIMITIVES[self.forward if sign > 0 else self.backward]
            value = primitive.function(self.steps[result].value, self.steps[i].value)
            step = Step(primitive, (result, i), {}, value, False, like.origin)
            result = self._add(step)
        return result

    def _inverse(self, like: Step, position: int) -> int:
        raise NotImplementedError


class _Products(_Regrouping):
    """Products and quotients; each has a factor that it does not divide by."""

    forward, backward = "multiply", "divide"

    def _may_be_reordered(self, step: Step, terms: list[Term]) -> bool:
        """Only in the reverse sweep, and of factors so moderate that no product underflows."""
        return _is_adjoint(step) and all(
            _is_moderate(self.plan.steps[i].value, LARGEST_FACTOR) for i, _ in terms
        )


class _Sums(_Regrouping):
    forward, backward = "add", "subtract"

    def _may_be_reordered(self, step: Step, terms: list[Term]) -> bool:
        """Not where the function itself subtracts: that may be to know its rounding errors."""
        return _is_adjoint(step) or all(sign > 0 for _, sign in terms)

    def _is_chosen(self, terms: list[Term]) -> bool:
        return len(terms) >= MANY or any(self._sets(i) for i, _ in terms)

    def _leaf(self, position: int, sign: int) -> Term:
        step = self.plan.steps[position]
        if step.primitive is not None and step.primitive.name == "negative":
            return step.inputs[0], -sign
        return position, sign

    def _inverse(self, like: Step, position: int) -> int:
        value = -self.steps[position].value
        return self._add(Step(PRIMITIVES["negative"], (position,), {}, value, False, like.origin))

    def _sets(self, position: int) -> bool:
        step = self.plan.steps[position]
        return step.primitive is not None and step.primitive.name == "add_at"

    def _written(self, like: Step, terms: list[Term]) -> int:
        """The sum of terms, those first that are there early, and positive ones before others."""
        whole = [term for term in terms if not self._sets(term[0])]
        parts = [term for term in terms if self._sets(term[0])]
        gathered = self._gathered(like, parts)
        placed = [(self.place[i], s) for i, s in sorted(whole, key=lambda t: self.depth[t[0]])]
        if gathered is None:
            placed += [(self.place[i], s) for i, s in parts]
        else:
            placed.append((gathered, 1))
        if len(placed) >= MANY and not parts:
            signs = tuple([s for _, s in placed])
            inputs = tuple([i for i, _ in placed])
            return self._add(like._replace(primitive=TOTAL, inputs=inputs, static={"signs": signs}))
        return self._chain(like, placed)

    def _gathered(self, like: Step, parts: list[Term]) -> int | None:
        """One array of entries, where so many are set one by one that this costs less."""
        shape, size = np.shape(like.value), np.size(like.value)
        entries: dict[int, list[Term]] = {}
        for i, sign in parts:
            step = self.plan.steps[i]
            place = entry_place(step.static["index"], shape)
            if place is None or like.value.dtype != np.float64:
                return None
            entries.setdefault(place, []).append((self.place[step.inputs[0]], sign))
        if len(parts) < 2 or len(parts) * 4 < size:
            return None
        zero = self._add(Step(None, (), {}, np.float64(0.0), True))
        number = like._replace(value=np.float64(0.0))
        inputs = tuple(
            self._chain(number, list(entries[k])) if k in entries else zero for k in range(size)
        )
        stack = PRIMITIVES["stack_scalars"]
        value = stack.function(*(self.steps[i].value for i in inputs), shape=shape)
        step = like._replace(primitive=stack, inputs=inputs, static={"shape": shape}, value=value)
        return self._add(step)


def _is_adjoint(step: Step) -> bool:
    return step.origin is None or step.is_adjoint


def _is_moderate(value: Any, largest: float) -> bool:
    sizes = np.abs(value)
    return bool(np.all((sizes == 0) | ((1 / largest < sizes) & (sizes < largest))))
