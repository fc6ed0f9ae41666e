"""The same results from fewer steps.

Constants are folded, repeated operations shared, signs moved to where they cost nothing,
operations that change nothing left out, and what no result needs is dropped. Rules that hold in
exact arithmetic alone (a quotient times its divisor, a difference of equal terms) are kept away
from the operations that lead to a guard, and leave a note that what they rely on must be finite.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from diffkit.backends.tape.keys import alike, step_key
from diffkit.backends.tape.plan import Plan, Step
from diffkit.backends.tape.rules import RULES, negative_of
from diffkit.tracing.primitives import PRIMITIVES

SIGN_PASSES: Final = frozenset(
    ("reshape", "transpose", "broadcast_to", "index", "add_at", "sum", "astype")
)
CHANGES_LITTLE: Final = frozenset(
    ("broadcast_to", "astype", "positive", "reshape", "sum", "multiply", "divide", "power")
)
REWRITTEN: Final = SIGN_PASSES | RULES.keys()
TELLS_ZEROS: Final = frozenset(("arctan2", "copysign", "signbit"))
"""What gives finite results that differ for 0.0 and -0.0."""


def simplified(plan: Plan) -> Plan:
    """The same results from fewer steps."""
    return Simplifier(plan).run()


class Simplifier:
    """One pass over a plan, front to back, that writes a new one."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps: list[Step] = []
        self.finite: set[int] = set()
        self.seen: dict[Any, int] = {}
        self._constants: set[int] = set()
        self._numbers: dict[int, float | None] = {}
        self.fixed = plan.leading_to_guards()
        self.free = False  # whether the step at hand leads to no guard
        self.tells_zeros = any(
            step.primitive is not None and step.primitive.name in TELLS_ZEROS for step in plan.steps
        )

    def run(self) -> Plan:
        place: dict[int, int] = {}
        follows = self.plan.follows
        for position, step in self.plan.enumerated():
            self.free = position not in self.fixed
            leader = follows.get(position)
            if leader is not None and self.is_zero(place[leader]):
                place[position] = self.zeros(step.value)
                continue
            inputs = tuple([place[i] for i in step.inputs])
            place[position] = self.add(step.on(inputs))
        finite = {place[i] for i in self.plan.finite} | self.finite
        guards: dict[int, list[Any]] = {}
        for position, expected in self.plan.guards.items():
            if not self.steps[place[position]].constant:
                guards.setdefault(place[position], []).extend(expected)
        ties: dict[int, int | None] = {
            place[tie]: None
            for tie, adjoint in self.plan.ties.items()
            if adjoint is None or not self.is_zero(place[adjoint])
        }
        moved = [place[i] for i in self.plan.inputs], [place[i] for i in self.plan.outputs]
        return Plan(list(self.steps), *moved, guards, frozenset(finite), {}, ties).needed()

    def add(self, step: Step) -> int:
        """The position of the step in the new plan, or of one that stands for it."""
        primitive = step.primitive
        steps = self.steps
        if primitive is not None:
            if self._constants.issuperset(step.inputs):
                with np.errstate(all="ignore"):
                    value = primitive.function(*map(self.value, step.inputs), **step.static)
                step = Step(None, (), {}, value, True, step.origin)
            else:
                if primitive.elementwise and isinstance(step.value, np.ndarray):
                    if step.value.ndim and step.value.size == 1:
                        number = self._as_number(step)
                        if number is not None:
                            return number
                    repeated = self._repeated_number(step)
                    if repeated is not None:
                        return repeated
                    step = self._unrepeated(step)
                stands_in = self._unchanged(step) if primitive.name in CHANGES_LITTLE else None
                if stands_in is None and primitive.name in REWRITTEN:
                    stands_in = self._rewritten(step)
                if stands_in is not None:
                    return stands_in
        key = step_key(step)
        known = None if key is None else self.seen.get(key)
        if known is None:
            known = len(steps)
            steps.append(step)
            if step.constant:
                self._constants.add(known)
            if key is not None:
                self.seen[key] = known
        return known

    def constant(self, value: Any) -> int:
        return self.add(Step(None, (), {}, value, True))

    def value(self, position: int) -> Any:
        return self.steps[position].value

    def apply(self, like: Step, name: str, *inputs: int, **static: Any) -> int:
        """The position of another operation on the same line."""
        if name == "reshape" and np.shape(self.value(inputs[0])) == static["shape"]:
            return inputs[0]
        primitive = PRIMITIVES[name]
        with np.errstate(all="ignore"):
            value = primitive.function(*(self.value(i) for i in inputs), **static)
        return self.add(Step(primitive, inputs, static, value, False, like.origin))

    # ------------------------------------------------------------------ what changes nothing

    def _unchanged(self, step: Step) -> int | None:
        """The position of an argument that the step gives back as it is."""
        for k, i in enumerate(step.inputs):
            if self._changes_nothing(step, k) and alike(self.value(i), step.value):
                return i
        return None

    def _changes_nothing(self, step: Step, k: int) -> bool:
        assert step.primitive is not None
        name = step.primitive.name
        if name == "multiply" or (name in ("divide", "power") and k == 0):
            return self.number(step.inputs[1 - k]) == 1.0
        if name in ("broadcast_to", "astype", "positive"):
            return True
        if name == "reshape":
            return bool(step.static.get("order", "C") == "C")
        return bool(name == "sum" and step.static["axis"] == ())

    def number(self, i: int) -> float | None:
        """The number, if an argument is one number at every call."""
        step = self.steps[i]
        if not step.constant:
            primitive = step.primitive
            if primitive is None or primitive.name != "broadcast_to":
                return None
            return self.number(step.inputs[0])
        if i not in self._numbers:
            self._numbers[i] = _number(step.value)
        return self._numbers[i]

    def _unrepeated(self, step: Step) -> Step:
        """Without repetition of an argument that broadcasting does anyway."""
        if len(step.inputs) == 1:
            return step
        inputs = list(step.inputs)
        for k, i in enumerate(step.inputs):
            lighter = self._unrepeated_argument(i)
            if lighter is None:
                continue
            shapes = [np.shape(self.value(lighter if j == k else o)) for j, o in enumerate(inputs)]
            if np.broadcast_shapes(*shapes) == np.shape(step.value):
                inputs[k] = lighter
        return step.on(tuple(inputs))

    def _unrepeated_argument(self, i: int) -> int | None:
        source = self.steps[i]
        if source.primitive is not None:
            if source.primitive.name != "broadcast_to":
                return self._boxed(i)
            number = self._boxed(source.inputs[0])
            return source.inputs[0] if number is None else number
        if isinstance(source.value, np.ndarray) and source.constant and self.number(i) is not None:
            return self.constant(source.value.flat[0])
        return None

    def _repeated_number(self, step: Step) -> int | None:
        """An operation on numbers that are repeated as the number that it gives, repeated."""
        assert step.primitive is not None
        empty = not step.value.ndim or not step.value.size
        if not self.free or empty or step.primitive.name == "negative":
            return None  # a sign moves outwards
        numbers = []
        for i in step.inputs:
            number = self._unrepeated_argument(i) if np.ndim(self.value(i)) else i
            if number is None or np.ndim(self.value(number)):
                return None
            numbers.append(number)
        number = self.apply(step, step.primitive.name, *numbers, **step.static)
        if np.ndim(self.value(number)) or not alike(self.value(number), step.value.flat[0]):
            return None
        return self.apply(step, "broadcast_to", number, shape=step.value.shape)

    def _as_number(self, step: Step) -> int | None:
        """An operation on arrays of one entry each as one on numbers."""
        found = [self._boxed(i) if np.ndim(self.value(i)) else i for i in step.inputs]
        numbers = [i for i in found if i is not None]
        assert step.primitive is not None
        if len(numbers) < len(found) or not self.free or step.primitive.name == "negative":
            return None  # a sign moves outwards
        number = self.apply(step, step.primitive.name, *numbers, **step.static)
        return self.apply(step, "reshape", number, shape=step.value.shape)

    def _boxed(self, i: int) -> int | None:
        """The number of which an array is made, if it has just one entry."""
        boxed = self.made_by(i, "reshape")
        if boxed is None or not self.free or np.ndim(self.value(boxed.inputs[0])):
            return None
        return boxed.inputs[0]

    # ------------------------------------------------------------------ rules

    def _rewritten(self, step: Step) -> int | None:
        assert step.primitive is not None
        name = step.primitive.name
        passes = name in SIGN_PASSES and not (name == "sum" and self.tells_zeros)
        if passes and self.made_by(step.inputs[0], "negative"):
            return negative_of(self, step, 0)
        for rule in RULES.get(name, ()):
            stands_in = rule(self, step)
            if stands_in is not None:
                return stands_in
        return None

    def made_by(self, i: int, name: str) -> Step | None:
        step = self.steps[i]
        return step if step.primitive is not None and step.primitive.name == name else None

    def behind(self, i: int, name: str) -> int:
        """What a value is a repetition or another arrangement of."""
        made = self.made_by(i, name)
        while made is not None and made.static.get("order", "C") == "C":
            i = made.inputs[0]
            made = self.made_by(i, name)
        return i

    def as_it_is(self, step: Step) -> int:
        """The position of a step to which no rule is to be applied."""
        key = step_key(step)
        known = self.seen.get(key)
        if known is None:
            self.steps.append(step)
            known = self.seen[key] = len(self.steps) - 1
        return known

    def zeros(self, like: Any) -> int:
        zero = np.zeros((), like.dtype)
        return self.constant(np.broadcast_to(zero, like.shape) if like.shape else zero[()])

    def is_zero(self, i: int) -> bool:
        return self.steps[i].constant and self.number(i) == 0.0

    def _unspread(self, i: int) -> int:
        step = self.steps[i]
        while step.primitive is not None and step.primitive.name == "broadcast_to":
            i = step.inputs[0]
            step = self.steps[i]
        return i


def _repeats(value: Any) -> bool:
    """Whether an array is one number, broadcast."""
    return isinstance(value, np.ndarray) and value.size > 0 and not any(value.strides)


def _number(value: Any) -> float | None:
    """The number that a constant is, or repeats."""
    if isinstance(value, float):
        return value
    if not isinstance(value, np.ndarray):
        return float(value)
    if _repeats(value):
        return float(value.flat[0])
    if not value.size:
        return None
    first, *others = (value.flat[k] for k in (0, value.size // 2, -1))
    if any(other != first for other in others):  # a look at few entries tells most apart
        return None
    return float(first) if bool(np.all(value == first)) else None
