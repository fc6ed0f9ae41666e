"""Steps that are independent and alike, computed at once along a new first axis.

What a group computes is one array with a row per member. Its operands are gathered the same way:
values that all come from one array are rows of it; others are stacked, which costs nothing where
they are written into their row when they are computed. A sum over such rows is one reduction, and a
sum of outer products one matrix product.
"""

from __future__ import annotations

import heapq
import math
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.group_writer import Declined, GroupWriter, Operand
from diffkit.backends.tape.groups import independent_groups
from diffkit.backends.tape.keys import step_key
from diffkit.backends.tape.lives import WRITES_ANYWHERE, is_simple_ufunc
from diffkit.backends.tape.plan import Plan, Step, compiled_only
from diffkit.backends.tape.stacks import Stack, chosen_rows, sorted_by
from diffkit.backends.tape.sums import MANY, TOTAL
from diffkit.tracing.primitives import PRIMITIVES

STACK: Final = compiled_only("stack_rows", lambda *rows: np.stack(rows))


def batched(plan: Plan) -> Plan:
    """The plan with groups of like steps computed at once, and totals as reductions."""
    groups = independent_groups(plan)
    totals = any(step.primitive is TOTAL for step in plan.steps)
    return Batching(plan, groups).run() if groups or totals else plan


class Batching:
    """One pass that writes a new plan, group by group."""

    def __init__(self, plan: Plan, groups: list[list[int]]) -> None:
        self.plan = plan
        self.groups = groups
        self.steps: list[Step] = []
        self.seen: dict[Any, int] = {}
        self.place: dict[int, int] = {}
        self.rows: dict[int, tuple[int, int]] = {}  # old position: array in the new plan, and row
        self.stacks: list[Stack] = []
        self.stacked: dict[int, Stack] = {}
        self.slices: list[tuple[int, Stack, list[int]]] = []  # see _rows_of_stack

    def run(self) -> Plan:
        with np.errstate(all="ignore"):
            for members in self._schedule():
                if len(members) > 1:
                    self._group(members)
                else:
                    self._single(members[0])
            self._finish_stacks()
            for i in self.plan.ends():
                self._at(i)
        return self.plan.moved(self.steps, self.place).sources_first().needed()

    def _schedule(self) -> list[list[int]]:
        """Steps and groups in an order in which each comes after what it needs."""
        node = list(range(len(self.plan.steps)))
        members = {i: [i] for i in node}
        for group in self.groups:
            for i in group:
                node[i] = group[0]
                members.pop(i)
            members[group[0]] = group
        waiting_for: dict[int, set[int]] = {n: set() for n in members}
        after: dict[int, list[int]] = {n: [] for n in members}
        for here, step in zip(node, self.plan.steps, strict=True):
            waiting = waiting_for[here]
            for i in step.inputs:
                there = node[i]
                if there != here and there not in waiting:
                    waiting.add(there)
                    after[there].append(here)
        count = {n: len(waiting) for n, waiting in waiting_for.items()}
        ready = [n for n, waiting in count.items() if waiting == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            n = heapq.heappop(ready)
            order.append(members[n])
            for follower in after[n]:
                count[follower] -= 1
                if count[follower] == 0:
                    heapq.heappush(ready, follower)
        return order

    # ------------------------------------------------------------------ writing steps

    def _add(self, step: Step) -> int:
        key, position = step_key(step), len(self.steps)
        if key is not None:
            known = self.seen.setdefault(key, position)
            if known != position:
                return known
        self.steps.append(step)
        return position

    def apply(self, like: Step, name: str, *inputs: int, **static: Any) -> int:
        primitive = PRIMITIVES[name]
        value = primitive.function(*(self.steps[i].value for i in inputs), **static)
        constant = all(self.steps[i].constant for i in inputs)
        if constant:
            return self._constant(value)
        return self._add(Step(primitive, inputs, static, value, False, like.origin))

    def _constant(self, value: Any) -> int:
        return self._add(Step(None, (), {}, value, True))

    def value(self, position: int) -> Any:
        return self.steps[position].value

    def _at(self, old: int) -> int:
        """The new position of an old value by itself."""
        if old not in self.place:
            source, row = self.rows[old]
            self.place[old] = self.apply(self.plan.steps[old], "index", source, index=row)
        return self.place[old]

    def _single(self, old: int) -> None:
        step = self.plan.steps[old]
        if step.primitive is TOTAL:
            self.place[old] = self._total(step)
        else:
            place = self.place
            inputs = [place[i] if i in place else self._at(i) for i in step.inputs]
            place[old] = self._add(step.on(tuple(inputs)))

    # ------------------------------------------------------------------ groups

    def _group(self, members: list[int]) -> None:
        try:
            members = self._in_order_of_rows(members)
            made = self._computed(members)
        except Declined:
            for member in members:
                self._single(member)
            return
        for row, member in enumerate(members):
            self.rows[member] = made, row

    def _computed(self, members: list[int]) -> int:
        """The position of an array with the value of each member as a row."""
        first = self.plan.steps[members[0]]
        assert first.primitive is not None
        inputs = list(zip(*(self.plan.steps[i].inputs for i in members), strict=True))
        self._require_worth(first, inputs)
        operands = [self._operand(first, list(column)) for column in inputs]
        if not any(operand.rows for operand in operands):
            raise Declined
        made = GroupWriter(self, first, operands, len(members)).write()
        value = self.value(made)
        expected = (len(members), *np.shape(first.value))
        if value.shape != expected or value.dtype != np.asarray(first.value).dtype:
            raise Declined
        return made

    def _require_worth(self, first: Step, inputs: list[tuple[int, ...]]) -> None:
        """Decline where gathering the operands costs more than is saved."""
        copied = sum(self._copies(list(column)) for column in inputs)
        scalar = not isinstance(first.value, np.ndarray)
        if copied > (0 if scalar and np.ndim(self.plan.steps[inputs[0][0]].value) == 0 else 1):
            raise Declined

    def _copies(self, column: list[int]) -> bool:
        """Whether operands must be copied to stand in one array."""
        if len(set(column)) == 1 or self._common_source(column) is not None:
            return False
        steps = [self.plan.steps[i] for i in column]
        if all(s.constant for s in steps) or all(i in self.stacked for i in column):
            return False
        if not isinstance(steps[0].value, np.ndarray):
            return True
        return not all(
            s.constant
            or is_simple_ufunc(s)
            or (s.primitive is not None and s.primitive.name in WRITES_ANYWHERE)
            for s in steps
        )

    def _in_order_of_rows(self, members: list[int]) -> list[int]:
        """The members in the order in which their operands lie in memory, or were computed."""
        columns = list(zip(*(self.plan.steps[i].inputs for i in members), strict=True))
        varying = [column for column in columns if len(set(column)) > 1]
        for column in varying:
            places = [self._lies_at(old) for old in column]
            if len({place[0] for place in places if place is not None}) == 1:
                return sorted_by([None if p is None else p[1] for p in places], members)
        for column in varying:
            if not all(self.plan.steps[i].constant for i in column):
                return sorted_by(
                    [None if self.plan.steps[i].constant else i for i in column], members
                )
        return members

    def _lies_at(self, old: int) -> tuple[int, int] | None:
        """The array or stack of the new plan that holds a value, and its row there."""
        row = self._row(old)
        if row is not None or old not in self.stacked:
            return row
        stack = self.stacked[old]
        return stack.position, stack.members.index(old)

    # ------------------------------------------------------------------ operands

    def _operand(self, like: Step, column: list[int]) -> Operand:
        if len(set(column)) == 1:
            return Operand(self._at(column[0]), False)
        source = self._common_source(column)
        if source is not None:
            rows = [row[1] for row in map(self._row, column) if row is not None]
            return Operand(self._rows_of(like, source, rows), True)
        steps = [self.plan.steps[i] for i in column]
        if all(step.constant for step in steps):
            return Operand(self._constant(np.stack([np.asarray(s.value) for s in steps])), True)
        return Operand(self._rows_of_stack(like, column), True)

    def _row(self, old: int) -> tuple[int, int] | None:
        """The array of the new plan that a value is a row of, and which."""
        if old in self.rows:
            return self.rows[old]
        step = self.plan.steps[old]
        if step.primitive is not None and step.primitive.name == "index" and old in self.place:
            index, source = step.static["index"], step.inputs[0]
            whole = isinstance(index, (int, np.integer)) and not isinstance(index, bool)
            if whole and np.ndim(self.plan.steps[source].value):
                length = np.shape(self.plan.steps[source].value)[0]
                return self._at(source), int(index) % length
        return None

    def _common_source(self, column: list[int]) -> int | None:
        rows = [self._row(old) for old in column]
        sources = {row[0] if row else None for row in rows}
        return sources.pop() if len(sources) == 1 else None

    def _rows_of(self, like: Step, source: int, rows: list[int]) -> int:
        length = self.value(source).shape[0]
        if rows == list(range(length)):
            return source
        return self.apply(like, "index", source, index=chosen_rows(rows))

    def _rows_of_stack(self, like: Step, column: list[int]) -> int:
        """The values as rows of a stack, an old one if it holds them or can be extended to.

        Rows may still be added to a stack; so which of its rows they are is filled in at the end.
        """
        stack = next((self.stacked[i] for i in column if i in self.stacked), None)
        unique = list(dict.fromkeys(column))
        if stack is None or not self._extended(stack, unique):
            stack = self._new_stack(like, unique)
        value = np.stack([np.asarray(self.plan.steps[i].value) for i in column])
        step = Step(PRIMITIVES["index"], (stack.position,), {}, value, False, like.origin)
        self.steps.append(step)
        self.slices.append((len(self.steps) - 1, stack, column))
        return len(self.steps) - 1

    def _new_stack(self, like: Step, members: list[int]) -> Stack:
        for i in members:
            self._at(i)
        self.steps.append(Step(STACK, (), {}, None, False, like.origin))
        stack = Stack(members, len(self.steps) - 1)
        self.stacks.append(stack)
        for i in members:
            if not self.plan.steps[i].constant:
                self.stacked.setdefault(i, stack)
        return stack

    def _extended(self, stack: Stack, column: list[int]) -> bool:
        """Whether the values are rows of the stack, perhaps with constants added at its ends."""
        if set(column) <= set(stack.members):
            return True
        known = [k for k, i in enumerate(column) if i in stack.members]
        offset = stack.members.index(column[known[0]]) - known[0]
        before, after = max(-offset, 0), max(offset + len(column) - len(stack.members), 0)
        wanted = column[:before] + stack.members + column[len(column) - after :]
        start = offset + before
        if wanted[start : start + len(column)] != column or len(set(wanted)) < len(wanted):
            return False
        added = [*column[:before], *column[len(column) - after :]]
        if not all(self.plan.steps[i].constant for i in added):
            return False
        for i in added:
            self._at(i)
        stack.members = wanted
        return True

    def _finish_stacks(self) -> None:
        for stack in self.stacks:
            inputs = tuple(map(self._at, stack.members))
            value = np.stack([np.asarray(self.value(i)) for i in inputs])
            step = self.steps[stack.position]
            self.steps[stack.position] = step._replace(inputs=inputs, value=value)
        for position, stack, column in self.slices:
            row_of = {old: row for row, old in enumerate(stack.members)}
            static = {"index": chosen_rows([row_of[old] for old in column])}
            value = self.value(stack.position)[static["index"]]
            self.steps[position] = self.steps[position]._replace(static=static, value=value)

    # ------------------------------------------------------------------ totals

    def _total(self, step: Step) -> int:
        """A sum of many terms: rows of one array are reduced, the others added one by one."""
        terms = list(zip(step.inputs, step.static["signs"], strict=True))
        by_source: dict[tuple[int, int], list[tuple[int, int]]] = {}
        single: list[tuple[int, int]] = []
        for old, sign in terms:
            row = self._row(old)
            if row is None:
                single.append((old, sign))
            else:
                by_source.setdefault((row[0], sign), []).append((row[1], old))
        parts: list[tuple[int, int]] = []
        for (source, sign), found in by_source.items():
            rows = sorted(row for row, _ in found)
            if len(found) < MANY or len(set(rows)) < len(rows) or rows[-1] - rows[0] >= len(rows):
                single += [(old, sign) for _, old in found]
            else:
                parts.append((self._summed(step, self._rows_of(step, source, rows)), sign))
        parts += self._stacked_terms(step, single)
        return self._chained(step, parts)

    def _stacked_terms(self, like: Step, single: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Terms that stand by themselves, gathered where they can be written into rows."""
        parts: list[tuple[int, int]] = []
        for sign in (1, -1):
            olds = [old for old, s in single if s == sign]
            worth = isinstance(like.value, np.ndarray) and like.value.size <= 4096
            if (
                len(olds) >= MANY
                and worth
                and len(set(olds)) == len(olds)
                and not self._copies(olds)
            ):
                stack = self.stacked.get(olds[0])
                if stack is not None and set(olds) <= set(stack.members):
                    olds.sort(key=stack.members.index)
                stacked = self._rows_of_stack(like, olds)
                parts.append((self.apply(like, "sum", stacked, axis=(0,), keepdims=False), sign))
            else:
                parts += [(self._at(old), sign) for old in olds]
        return parts

    def _chained(self, like: Step, parts: list[tuple[int, int]]) -> int:
        parts = sorted(parts, key=lambda part: -part[1])
        result, sign = parts[0]
        if sign < 0:
            result = self.apply(like, "negative", result)
        for i, sign in parts[1:]:
            result = self.apply(like, "add" if sign > 0 else "subtract", result, i)
        return result

    def _summed(self, like: Step, source: int) -> int:
        """The sum of the rows of an array; of outer products as one matrix product."""
        step = self.steps[source]
        if step.primitive is not None and step.primitive.name == "multiply":
            product = self._contracted(like, step)
            if product is not None:
                return product
        return self.apply(like, "sum", source, axis=(0,), keepdims=False)

    def _contracted(self, like: Step, product: Step) -> int | None:
        """The sum over the first axis of a product whose factors share no other axis."""
        ndim, shape = product.value.ndim, product.value.shape
        shapes = [np.shape(self.value(i)) for i in product.inputs]
        if any(len(s) != ndim or s[0] != shape[0] for s in shapes):
            return None
        left, right = product.inputs
        own = [[axis for axis in range(1, ndim) if s[axis] != 1] for s in shapes]
        if own[1] and own[0] and own[0][-1] > own[1][0]:
            left, right, own = right, left, own[::-1]
        if own[1] and own[0] and own[0][-1] >= own[1][0]:
            return None
        a = self._reshaped(like, left, (shape[0], math.prod(self.value(left).shape[1:])))
        b = self._reshaped(like, right, (shape[0], math.prod(self.value(right).shape[1:])))
        turned = self.apply(like, "transpose", a, axes=(1, 0))
        made = self.apply(like, "matmul", turned, b)
        return self._reshaped(like, made, shape[1:])

    def _reshaped(self, like: Step, position: int, shape: tuple[int, ...]) -> int:
        if not shape:
            return self.apply(like, "index", position, index=(0,) * self.value(position).ndim)
        if self.value(position).shape == shape:
            return position
        return self.apply(like, "reshape", position, shape=shape)
