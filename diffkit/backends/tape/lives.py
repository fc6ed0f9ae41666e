"""Where the values of a plan live: whose memory each shares, and how long it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.backends.tape.plan import Plan, Step
from diffkit.tracing.primitives.shapes import is_basic

WRITES_ANYWHERE = frozenset(("matmul", "sech"))
"""Rows other than ufuncs of one result whose value can be written into any array."""
NEVER_A_VIEW = frozenset(("roll",))
"""Movements that have memory of their own; any other may share that of its argument."""


class Lives:
    """The memory of the values of a plan.

    Attributes:
        uses: how often each value is read; results and guards count twice.
        additions: for `a + add_at(v)` (or `a - ...`) where neither is needed again, by
            position: the positions of `a` and of add_at. Such a sum adds `v` to the entries of `a`
            that it concerns, and the array of zeros that add_at stands for is never made.
        absorbed: the positions of those add_at.
        homes: values that are written straight into a part of another: the position of that
            one, and the index of the part.
        owner: for each value the one whose memory it shares.
        last: by owner, the last position at which its memory is read.
        leaving: the owners whose memory leaves with the results.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.uses = plan.uses()
        self.additions = self._found_additions()
        self.absorbed = {addend for _, addend in self.additions.values()}
        self.homes = self._found_homes()
        self.owner = self._found_owners()
        self.last = self._found_last()

        self.leaving = {self.owner[position] for position in plan.outputs}

    def _found_additions(self) -> dict[int, tuple[int, int]]:
        found: dict[int, tuple[int, int]] = {}
        absorbed: set[int] = set()
        for position, step in self.plan.enumerated():
            if step.primitive is None or step.primitive.name not in ("add", "subtract"):
                continue
            orders = (step.inputs, step.inputs[::-1])
            for base, addend in orders if step.primitive.name == "add" else orders[:1]:
                if base not in absorbed and self._absorbs(step, base, addend):
                    found[position] = (base, addend)
                    absorbed.add(addend)
                    break
        return found

    def _absorbs(self, step: Step, base: int, addend: int) -> bool:
        first, second = self.plan.steps[base], self.plan.steps[addend]
        return (
            first.primitive is not None
            and second.primitive is not None
            and second.primitive.name == "add_at"
            and is_basic(second.static["index"])
            and isinstance(step.value, np.ndarray)
            and isinstance(first.value, np.ndarray)
            and first.value.shape == step.value.shape == second.value.shape
            and first.value.dtype == step.value.dtype == second.value.dtype
            and self.uses[base] == self.uses[addend] == 1
            and not first.primitive.movement
            and first.primitive.name != "stack_rows"
        )

    def _found_homes(self) -> dict[int, tuple[int, Any]]:
        homes: dict[int, tuple[int, Any]] = {}
        for position, step in self.plan.enumerated():
            if step.primitive is None or not isinstance(step.value, np.ndarray):
                continue
            if step.primitive.name == "stack_rows":
                for row, member in enumerate(step.inputs):
                    if member not in homes and self._movable(member, step.value[row]):
                        homes[member] = (position, row)
            elif step.primitive.name == "add_at" and position not in self.absorbed:
                (member,), index = step.inputs, step.static["index"]
                alone = self.uses[member] == 1 and is_basic(index)
                if alone and member not in homes and self._movable(member, step.value[index]):
                    homes[member] = (position, index)
        return homes

    def _movable(self, position: int, home: Any) -> bool:
        """Whether an operation can write its value where it is wanted."""
        step = self.plan.steps[position]
        return (
            step.primitive is not None
            and isinstance(step.value, np.ndarray)
            and isinstance(home, np.ndarray)
            and (is_simple_ufunc(step) or step.primitive.name in WRITES_ANYWHERE)
            and step.value.shape == home.shape
            and step.value.dtype == home.dtype
            and position not in self.additions
            and position not in self.plan.outputs
        )

    def _found_owners(self) -> list[int]:
        owners: list[int] = []
        for position, step in self.plan.enumerated():
            owner = position
            if position in self.homes:
                owner = self.homes[position][0]
            elif position in self.additions:
                owner = owners[self.additions[position][0]]
            elif step.primitive is not None and isinstance(step.value, np.ndarray):
                views = step.primitive.movement and step.primitive.name not in NEVER_A_VIEW
                for i in step.inputs:
                    source = self.plan.steps[i].value
                    shared = views or (
                        isinstance(source, np.ndarray) and np.may_share_memory(step.value, source)
                    )
                    if shared and isinstance(source, np.ndarray):
                        owner = owners[i]
                        break
            owners.append(owner)
        for position in range(len(owners) - 1, -1, -1):  # a home may itself lie in another one
            owners[position] = owners[owners[position]]
        return owners

    def _found_last(self) -> dict[int, int]:
        last: dict[int, int] = {}
        owner = self.owner
        for position, step in self.plan.enumerated():
            last[owner[position]] = position
            for i in step.inputs:
                last[owner[i]] = position
        for position, (_, addend) in self.additions.items():
            for i in self.plan.steps[addend].inputs:
                last[self.owner[i]] = max(last[self.owner[i]], position)
        for position in (*self.plan.outputs, *self.plan.finite):
            last[self.owner[position]] = len(self.plan.steps)
        return last


def is_simple_ufunc(step: Step) -> bool:
    """Whether a step is a ufunc with one result and no keyword arguments."""
    function = step.primitive.function if step.primitive is not None else None
    return isinstance(function, np.ufunc) and function.nout == 1 and not step.static
