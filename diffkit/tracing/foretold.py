"""How a trace follows a script: it finds the place of everything, and computes next to nothing.

A value is known by its place among the steps. Where somebody looks at one (a branch does) it is
computed, with what leads to it. Where the function does what the script does not have, all that
it did so far is computed, and the trace goes on by itself.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np

from diffkit.structure import Leaves
from diffkit.tracing.graph import Node
from diffkit.tracing.scripts import CONSTANT, Script, Step, given_key, number_key
from diffkit.tracing.watches import same_bytes

ELSEWHERE: Final = -1  # in place of a place: the script has nothing like it


class Follower:
    """The part of a trace that follows a script.

    Should threads of the function meet here, each place means the same to all of them: a place is
    handed out only for what the script has there, and is given one value only.

    Attributes:
        keys: those of the script for as long as it is followed, else None.
        steps: those of the script.
        count: how many steps have been taken.
        nodes: what has been recorded; empty until the script is left.
    """

    nodes: list[Node]

    def __init__(self, script: Script | None) -> None:
        self.script = script
        self.keys: list[Any] | None = None
        self._constants: dict[int, tuple[Any, Node]] = {}
        self._numbers: dict[int | float, Node] = {}
        if script is not None:
            self.keys, self.steps, self.count = script.keys, script.steps, 0
            self._values: dict[int, Any] = {}
            self._number_places: dict[int | float, tuple[type, int]] = {}
            self._constant_places: dict[int, tuple[Any, int]] = {}
            self._made: dict[int, Node] = {}
            self._left = False
            self._making = threading.RLock()

    # ------------------------------------------------------------------ places

    def place_of_step(self, key: Any) -> int:
        """The place of the next step, if it has this key."""
        keys, place = self.keys, self.count
        if keys is None or keys[place] != key:
            return ELSEWHERE
        self.count = place + 1
        return place

    def place_of_given(self, value: Any, role: str) -> int:
        """The place of a value that is given now."""
        keys, place, kind = self.keys, self.count, type(value)
        key: Any
        if kind is np.ndarray and value.flags.c_contiguous:
            key = (role, value.shape, value.dtype, ())
        elif kind is np.ndarray or kind is float or isinstance(value, np.generic):
            key = given_key(value, role)
        else:
            return ELSEWHERE
        if keys is None or keys[place] != key:
            return ELSEWHERE
        self.count = place + 1
        return place if self._values.setdefault(place, value) is value else ELSEWHERE

    def place_of_number(self, value: int | float) -> int:
        """The place of a Python number; one that is used again keeps its place, as in `number`."""
        known = self._number_places.get(value)
        if known is not None and known[0] is type(value) and value:
            return known[1]
        place = self.place_of_step(number_key(value, type(value)))
        if place >= 0:
            self._number_places[value] = (type(value), place)
        return place

    def place_of_constant(self, value: Any) -> int:
        """The place of a captured value; an array that is used again keeps its place.

        It is copied, so that it counts as it is now.
        """
        if type(value) is np.ndarray:
            known, place = self._constant_places.get(id(value), (None, ELSEWHERE))
            if known is value and same_bytes(value, self._values[place]):
                return place
            place = self.place_of_given(value.copy(order="K"), CONSTANT)
            if place >= 0:
                self._constant_places[id(value)] = (value, place)
            return place
        if type(value) is np.float64:
            return self.place_of_given(value, CONSTANT)
        if isinstance(value, (int, float, np.generic)):
            return self.place_of_step(number_key(value, type(value)))
        return ELSEWHERE

    # ------------------------------------------------------------------ values

    def value_at(self, place: int) -> Any:
        """The value at a place, for somebody who looks at it."""
        values, steps = self._values, self.steps
        waiting = [place]
        while waiting:
            k = waiting[-1]
            step = steps[k]
            missing = () if k in values else [i for i in step.inputs if i not in values]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if k not in values:
                values[k] = self._computed(step, [values[i] for i in step.inputs])
        return values[place]

    @staticmethod
    def _computed(step: Step, arguments: list[Any]) -> Any:
        if step.primitive is None:
            return step.value
        return step.primitive.function(*arguments, **step.static)

    # ------------------------------------------------------------------ leaving the script

    @property
    def is_followed(self) -> bool:
        """Whether the script was followed to its end."""
        return self.script is not None and not self._left and self.count == len(self.steps)

    def values_given(self, places: tuple[int, ...]) -> Leaves | None:
        """What was given at some places; None if something was not."""
        try:
            return [self._values[place] for place in places]
        except KeyError:
            return None

    def leave_script(self) -> None:
        """Compute what has been foretold so far, and record from here on."""
        with self._making:
            if not self._left:
                made: dict[int, Node] = {}
                for place in range(self.count):
                    made[place] = node = self._node_of(place, made)
                    node.index = place
                self.nodes[:] = made.values()
                self._made = made
                for number, (_, place) in self._number_places.items():
                    self._numbers[number] = made[place]
                for array, place in self._constant_places.values():
                    self._constants[id(array)] = (array, made[place])
                self._left = True
            self.keys = None

    def node_at(self, place: int) -> Node:
        """The node of what was foretold at a place."""
        if not self._left:
            self.leave_script()
        node = self._made.get(place)
        return self._made_late(place) if node is None else node

    def _made_late(self, place: int) -> Node:
        """A node that a thread was promised while another one made the script be left."""
        with self._making:
            wanted = {place}
            for k in range(place, -1, -1):
                if k in wanted and k not in self._made:
                    wanted.update(self.steps[k].inputs)
            for k in sorted(wanted):
                if k not in self._made:
                    self._made[k] = self._add(self._node_of(k, self._made))
            return self._made[place]

    def _node_of(self, place: int, made: dict[int, Node]) -> Node:
        step = self.steps[place]
        inputs = tuple([made[k] for k in step.inputs])
        if place in self._values:
            value = self._values[place]
        else:
            value = self._computed(step, [node.value for node in inputs])
        return Node(step.primitive, inputs, step.static, value, step.active, step.depends)

    def _add(self, node: Node) -> Node:
        raise NotImplementedError
