"""Which steps of a plan do the same to different values, independently of each other.

A loop that was unrolled by recording leaves one copy of its body per turn. Steps of equal role
in different turns form a group where none needs another; a group is computed at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.keys import frozen
from diffkit.backends.tape.plan import Plan, Step
from diffkit.tracing.primitives.shapes import is_basic

FEWEST: Final = 6  # members of a group
LARGEST: Final = 16_384  # entries of a member, from which the overhead of a call is nothing
MOST_ROLES: Final = 256
ATTEMPTS: Final = 40

_UNARY: Final = frozenset(("reshape", "transpose", "broadcast_to", "astype", "sum", "max", "min"))


def independent_groups(plan: Plan) -> list[list[int]]:
    """Groups of steps, each in order, such that the groups can be computed one after another."""
    return _Grouping(plan).groups()


class _Grouping:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.fixed = plan.leading_to_guards()
        self.roles: dict[int, Any] = {}
        self.kinds = [
            (_kind(step.value), step.primitive.name if step.primitive else None)
            for step in plan.steps
        ]
        for position, step in plan.enumerated():
            if step.primitive is not None and position not in self.fixed:
                role = self._role(step, self.kinds[position][0])
                if role is not None:
                    self.roles[position] = role

    def groups(self) -> list[list[int]]:
        found = self._levelled(self.roles, range(len(self.plan.steps)))
        for _ in range(ATTEMPTS):
            tangled = self._tangled(found)
            if not tangled:
                return found
            worst = min(tangled, key=lambda k: len(found[k]))
            members = found.pop(worst)
            finer = {i: (self.roles[i], self._surroundings(i, 3)) for i in members}
            parts = self._levelled(finer, members)
            if len(parts) != 1 or len(parts[0]) < len(members):
                found += parts
        tangled = self._tangled(found)
        return [group for k, group in enumerate(found) if k not in tangled]

    # ------------------------------------------------------------------ roles

    def _role(self, step: Step, kind: Any) -> Any:
        """What a step does and to what kinds of values; None for one that is not grouped."""
        primitive = step.primitive
        assert primitive is not None
        name = primitive.name
        sources = [self.plan.steps[i] for i in step.inputs]
        if any(_size(s.value) > LARGEST for s in (step, *sources)):
            return None
        named: tuple[int, ...] = ()
        if name == "matmul":
            dims = tuple(np.ndim(s.value) for s in sources)
            if dims not in ((1, 2), (2, 1), (2, 2), (1, 1)):
                return None
            named = tuple(i for i, d in zip(step.inputs, dims, strict=True) if d == 2)[-1:]
        elif name in ("index", "add_at"):
            if not is_basic(step.static["index"]) or not np.ndim(sources[0].value):
                return None
            if not isinstance(step.value, np.ndarray) and name == "add_at":
                return None
        elif name == "stack_scalars":
            if len(step.inputs) != 1:
                return None
        elif name in _UNARY:
            if name != "reshape" and not isinstance(sources[0].value, np.ndarray):
                return None
        elif not primitive.elementwise:
            return None
        try:
            static = frozen(step.static) if step.static else ()
        except TypeError:
            return None
        kinds = tuple([self.kinds[i] for i in step.inputs])
        return name, static, kinds, kind, named, step.origin

    def _surroundings(self, position: int, depth: int) -> Any:
        """The roles of what a step is made of."""
        if depth == 0:
            return None
        inputs = self.plan.steps[position].inputs
        return tuple((self.roles.get(i), self._surroundings(i, depth - 1)) for i in inputs)

    # ------------------------------------------------------------------ groups

    def _levelled(self, roles: dict[int, Any], members: Iterable[int]) -> list[list[int]]:
        """Steps of equal role, none of which needs another one of the same group."""
        by_role: dict[Any, list[int]] = {}
        for i in members:
            if i in roles:
                by_role.setdefault(roles[i], []).append(i)
        many = [group for group in by_role.values() if len(group) >= FEWEST]
        many = sorted(many, key=len, reverse=True)[:MOST_ROLES]
        if not many:
            return []
        column = {i: k for k, group in enumerate(many) for i in group}
        # For each step how many of each role come before it, one after another; often the same
        # as for one of its arguments.
        none = np.zeros(len(many), np.int32)
        before: list[Any] = []
        found: dict[tuple[int, int], list[int]] = {}
        for position, step in self.plan.enumerated():
            counts = none
            for i in step.inputs:
                if counts is none or before[i] is counts:
                    counts = before[i]
                elif before[i] is not none:
                    counts = np.maximum(counts, before[i])
            k = column.get(position)
            if k is not None:
                found.setdefault((k, int(counts[k])), []).append(position)
                counts = counts.copy()
                counts[k] += 1
            before.append(counts)
        return [group for group in found.values() if len(group) >= FEWEST]

    def _tangled(self, groups: list[list[int]]) -> set[int]:
        """The groups that lie on a cycle, or between cycles, when each is one node."""
        if not groups:
            return set()
        node = list(range(len(self.plan.steps)))
        for group in groups:
            for i in group:
                node[i] = group[0]
        after: dict[int, set[int]] = {n: set() for n in node}
        ahead: dict[int, set[int]] = {n: set() for n in node}
        for here, step in zip(node, self.plan.steps, strict=True):
            for i in step.inputs:
                if node[i] != here:
                    after[node[i]].add(here)
                    ahead[here].add(node[i])
        left = _peeled(set(node), after, ahead)
        left = _peeled(left, ahead, after)
        return {k for k, group in enumerate(groups) if group[0] in left}


def _peeled(nodes: set[int], after: dict[int, set[int]], ahead: dict[int, set[int]]) -> set[int]:
    """The nodes that remain when those with nothing ahead of them are taken away in turn."""
    count = {node: len(ahead.get(node, set()) & nodes) for node in nodes}
    ready = [node for node, n in count.items() if n == 0]
    left = set(nodes)
    while ready:
        node = ready.pop()
        left.discard(node)
        for follower in after.get(node, ()):
            if follower in left:
                count[follower] -= 1
                if count[follower] == 0:
                    ready.append(follower)
    return left


def _kind(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str
    return type(value)


def _size(value: Any) -> int:
    return value.size if isinstance(value, np.ndarray) else 1
