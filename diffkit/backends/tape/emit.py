"""From a plan to one straight-line Python function over NumPy.

Every array that does not leave the function is written into a buffer that was made beforehand;
a buffer is used again as soon as nothing reads it any more, at once where a number may be
overwritten as it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.plan import Plan, Step
from diffkit.tracing.graph import same_value
from diffkit.tracing.primitives.shapes import is_basic

NAMED_OUT: Final = (np.maximum, np.minimum)


class Emitter:
    """Writes a plan out as source, with the names that the source refers to."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.names: dict[str, Any] = {"same_value": same_value}
        self.lines: list[str] = []
        self._free: dict[Any, list[str]] = {}
        self._uses = self._counted_uses()
        self._added_in_place = self._adds_in_place()
        self._owner = self._owners()
        self._last = self._last_uses()
        self._buffer: dict[int, str] = {}
        self._outputs = set(plan.outputs)

    def body(self) -> list[str]:
        """The lines that compute every value; a guard that fails returns None."""
        absorbed = {addend for _, addend in self._added_in_place.values()}
        for position, step in enumerate(self.plan.steps):
            if step is None:
                continue
            if step.primitive is None:
                if step.constant:
                    self.names[f"v{position}"] = step.value
            elif position in self._added_in_place:
                self._emit_in_place(position, *self._added_in_place[position])
            elif position not in absorbed:
                self._emit(position, step)
            for expected in self.plan.guards.get(position, ()):
                self._guard(position, expected)
        return self.lines

    def constants(self) -> dict[str, Any]:
        """What the names in the source stand for, where they are numbers or indices."""
        return {
            name: v for name, v in self.names.items() if name[0] in "vki" and name[1:].isdigit()
        }

    def results(self) -> list[str]:
        """An expression for each output, sharing memory with nothing else."""
        owners = [self._owner[position] for position in self.plan.outputs]
        written = []
        for position, owner in zip(self.plan.outputs, owners, strict=True):
            value = self.value(position)
            own = self.step(owner).primitive is not None and owners.count(owner) == 1
            copied = isinstance(value, np.ndarray) and not (own and value.flags.writeable)
            written.append(f"v{position}.copy()" if copied else f"v{position}")
        return written

    # ------------------------------------------------------------------ lives of values

    def _counted_uses(self) -> dict[int, int]:
        uses: dict[int, int] = {}
        for step in self.plan.steps:
            for i in () if step is None else step.inputs:
                uses[i] = uses.get(i, 0) + 1
        for position in (*self.plan.outputs, *self.plan.guards):
            uses[position] = uses.get(position, 0) + 2
        return uses

    def _adds_in_place(self) -> dict[int, tuple[int, int]]:
        """For `a + add_at(v)` where neither is needed again: the positions of `a` and add_at.

        Such a sum adds `v` to the entries of `a` that it concerns, and the array of zeros that
        add_at stands for is never made.
        """
        found: dict[int, tuple[int, int]] = {}
        absorbed: set[int] = set()
        for position, step in enumerate(self.plan.steps):
            if step is None or step.primitive is None or step.primitive.name != "add":
                continue
            for base, addend in (step.inputs, step.inputs[::-1]):
                if base not in absorbed and self._absorbs(step, base, addend):
                    found[position] = (base, addend)
                    absorbed.add(addend)
                    break
        return found

    def _absorbs(self, step: Step, base: int, addend: int) -> bool:
        first, second = self.step(base), self.step(addend)
        return (
            first.primitive is not None
            and second.primitive is not None
            and second.primitive.name == "add_at"
            and is_basic(second.static["index"])
            and isinstance(step.value, np.ndarray)
            and first.value.shape == step.value.shape
            and first.value.dtype == step.value.dtype == second.value.dtype
            and self._uses[base] == self._uses[addend] == 1
            and not first.primitive.movement
        )

    def _owners(self) -> list[int]:
        """For each step the one whose memory its value may share."""
        owners: list[int] = []
        for position, step in enumerate(self.plan.steps):
            owner = position
            if position in self._added_in_place:
                owner = owners[self._added_in_place[position][0]]
            elif step is not None and step.primitive is not None:
                for i in step.inputs:
                    source = self.plan.steps[i]
                    assert source is not None
                    shared = isinstance(step.value, np.ndarray) and (
                        step.primitive.movement or np.may_share_memory(step.value, source.value)
                    )
                    if shared and isinstance(source.value, np.ndarray):
                        owner = owners[i]
                        break
            owners.append(owner)
        return owners

    def _last_uses(self) -> dict[int, int]:
        last: dict[int, int] = {}
        for position, step in enumerate(self.plan.steps):
            for i in () if step is None else (position, *step.inputs):
                last[self._owner[i]] = position
        for position, (_, addend) in self._added_in_place.items():
            for i in self.step(addend).inputs:
                last[self._owner[i]] = max(last[self._owner[i]], position)
        for position in self.plan.outputs:
            last[self._owner[position]] = len(self.plan.steps)
        return last

    def _release(self, position: int, owners: set[int]) -> None:
        for owner in owners:
            if self._last.get(owner) == position and owner in self._buffer:
                name = self._buffer.pop(owner)
                kind = (self.names[name].shape, self.names[name].dtype)
                self._free.setdefault(kind, []).append(name)

    def _out(self, position: int, step: Step) -> str | None:
        """A buffer for the value of a step, or None where it must have memory of its own."""
        if not isinstance(step.value, np.ndarray) or self._last[position] == len(self.plan.steps):
            return None
        kind = (step.value.shape, step.value.dtype)
        free = self._free.setdefault(kind, [])
        if not free:
            name = f"b{sum(key[0] == 'b' for key in self.names)}"
            self.names[name] = np.empty(*kind)
            free.append(name)
        name = free.pop()
        self._buffer[position] = name
        return name

    # ------------------------------------------------------------------ one line per operation

    def _emit(self, position: int, step: Step) -> None:
        assert step.primitive is not None
        owners = {self._owner[i] for i in step.inputs}
        function = step.primitive.function
        arguments = [f"v{i}" for i in step.inputs]
        special = SPECIAL.get(step.primitive.name)
        if isinstance(function, np.ufunc) and function.nout == 1 and not step.static:
            elementwise = function.signature is None
            if elementwise:
                self._release(position, {i for i in step.inputs if self._same_kind(i, step)})
            out = self._out(position, step)
            if not elementwise:
                self._release(position, owners)
            self._name(function.__name__, function)
            # Positional where NumPy allows it: keywords cost a fifth of a small operation.
            where = [] if out is None else [f"out={out}" if function in NAMED_OUT else out]
            call = f"{function.__name__}({', '.join(arguments + where)})"
        elif special is not None and (written := special(self, position, step)) is not None:
            call = written
        else:
            name = f"p{position}"
            self.names[name] = partial(function, **step.static) if step.static else function
            call = f"{name}({', '.join(arguments)})"
        self._release(position, owners)
        comment = f"  # line {step.location.line}" if step.location else ""
        self.lines.append(f"v{position} = {call}{comment}")

    def _emit_in_place(self, position: int, base: int, addend: int) -> None:
        step = self.step(addend)
        place = self._name(f"k{addend}", step.static["index"])
        self.lines.append(f"v{position} = v{base}; v{position}[{place}] += v{step.inputs[0]}")
        self._release(position, {self._owner[i] for i in (base, *step.inputs)})

    def _same_kind(self, i: int, step: Step) -> bool:
        """Whether an operand lies exactly where the result could be put."""
        source = self.plan.steps[i]
        assert source is not None
        return (
            isinstance(source.value, np.ndarray)
            and isinstance(step.value, np.ndarray)
            and self._owner[i] == i
            and source.value.shape == step.value.shape
            and source.value.dtype == step.value.dtype
        )

    def _name(self, name: str, value: Any) -> str:
        self.names[name] = value
        return name

    def static(self, position: int, value: Any) -> str:
        return self._name(f"k{position}", value)

    def step(self, i: int) -> Step:
        return self.plan.step(i)

    def value(self, i: int) -> Any:
        return self.step(i).value

    def _guard(self, position: int, expected: Any) -> None:
        plain = np.asarray(expected)
        if plain.shape == () and plain.dtype == bool:
            self.lines.append(f"if {'not ' if plain else ''}v{position}: return None")
            return
        name = self._name(f"g{len(self.names)}", expected)
        self.lines.append(f"if not same_value(v{position}, {name}): return None")


Special = Callable[[Emitter, int, Step], str | None]


def _reduction(ufunc: np.ufunc) -> Special:
    def write(emitter: Emitter, position: int, step: Step) -> str | None:
        (a,) = step.inputs
        if not isinstance(emitter.value(a), np.ndarray):
            return None
        axis, keep = step.static["axis"], step.static["keepdims"]
        if axis is not None and len(axis) == 1:
            (axis,) = axis
        name = emitter._name(f"{ufunc.__name__}_reduce", ufunc.reduce)
        out = emitter._out(position, step)
        return f"{name}(v{a}, {axis}, None, {out}, {keep})"

    return write


def _reshape(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    if not isinstance(emitter.value(a), np.ndarray) or step.static.get("order", "C") != "C":
        return None
    return f"v{a}.reshape({np.shape(step.value)})"


def _transpose(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    if not isinstance(emitter.value(a), np.ndarray):
        return None
    axes = step.static.get("axes")
    turned = axes is None or tuple(axes) == tuple(range(np.ndim(step.value)))[::-1]
    return f"v{a}.T" if turned else f"v{a}.transpose({tuple(axes)})"


def _index(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    return f"v{a}[{emitter.static(position, step.static['index'])}]"


def _astype(emitter: Emitter, position: int, step: Step) -> str | None:
    (a,) = step.inputs
    if not isinstance(emitter.value(a), np.ndarray):
        return None
    return f"v{a}.astype({emitter.static(position, step.static['dtype'])})"


def _where(emitter: Emitter, position: int, step: Step) -> str | None:
    emitter._name("where", np.where)
    result = f"where({', '.join(f'v{i}' for i in step.inputs)})"
    return result if isinstance(step.value, np.ndarray) else f"{result}[()]"


def _add_at(emitter: Emitter, position: int, step: Step) -> str | None:
    """Zeros with some entries set."""
    index = step.static["index"]
    if not is_basic(index) or not isinstance(step.value, np.ndarray):
        return None
    out = emitter._out(position, step)
    if out is None:
        emitter._name("zeros", np.zeros)
        kind = emitter.static(position, (step.value.shape, step.value.dtype))
        emitter.lines.append(f"z = zeros(*{kind})")
    else:
        emitter.lines.append(f"z = {out}; z.fill(0)")
    place = emitter._name(f"i{position}", index)
    emitter.lines.append(f"z[{place}] = v{step.inputs[0]}")
    return "z"


SPECIAL: dict[str, Special] = {
    "sum": _reduction(np.add),
    "max": _reduction(np.maximum),
    "min": _reduction(np.minimum),
    "reshape": _reshape,
    "transpose": _transpose,
    "index": _index,
    "astype": _astype,
    "where": _where,
    "add_at": _add_at,
}
