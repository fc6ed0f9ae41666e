"""From a plan to the lines of straight-line Python over NumPy.

Every array that does not leave the function is written into a buffer that was made beforehand;
a buffer is used again as soon as nothing reads it any more, at once where a number may be
overwritten as it is read. A view of a buffer is the same at every call and so costs nothing.
Single numbers are Python's.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.lines import SPECIAL
from diffkit.backends.tape.lives import Lives, is_simple_ufunc
from diffkit.backends.tape.number_lines import NumberLines
from diffkit.backends.tape.plan import Plan, Step
from diffkit.backends.tape.scalars import is_number, plain
from diffkit.tracing.graph import same_value

NAMED_OUT: Final = (np.maximum, np.minimum)
CACHE_LINE: Final = 64  # bytes
_REAL: Final = (int, float, np.float64)
_IN_PYTHON: Final = {np.float64: "float64", np.bool_: "bool_"}
WRITTEN_OUT: Final = 32_768  # entries, up to which a repeated constant may take memory


class Emitter:
    """Writes a plan out as source, with the names that the source refers to.

    Attributes:
        names: what the source refers to: functions, constants, buffers and views of them.
        lines: the source so far.
        places: the arrays among the values that lie at the same place at every call.
        exact: the positions that lead to a guard.
        doubles: whether every number is a double, so that Python's can stand for them.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.names: dict[str, Any] = {
            "same_value": same_value,
            "float64": np.float64,
            "bool_": np.bool_,
        }
        self.lines: list[str] = []
        self.places: dict[int, Any] = {}
        self.exact = plan.leading_to_guards()
        self.doubles = all(_is_double(step.value) for step in plan.steps)
        self.lives = Lives(plan)
        self._number_lines = NumberLines(plan, self.exact)
        self.legend: dict[str, str] = {}
        self._storage: dict[int, Any] = {}
        self._free: dict[Any, list[Any]] = {}
        self._buffers: dict[tuple[int, tuple[int, ...]], str] = {}
        self._hosts: set[int] = set()
        self._destinations: dict[int, str | None] = {}
        self._listed: set[int] = set()
        self._boxed: set[int] = set()
        self._reads = Counter(
            step.inputs[0]
            for step in plan.steps
            if step.primitive is not None
            and step.primitive.name == "index"
            and type(step.value) is np.float64
        )

    # ------------------------------------------------------------------ the source

    def body(self) -> list[str]:
        """The lines that compute every value; a guard that fails returns None."""
        guards, ties = self.plan.guards, self.plan.ties
        for position, step in self.plan.enumerated():
            if step.primitive is None:
                if step.constant:
                    self._constant(position, step.value)
            elif position in self.lives.additions:
                self._emit_addition(position, step)
            elif position not in self.lives.absorbed and not self._is_fixed_view(position, step):
                self._emit(position, step)
            self._release(position, step.inputs)
            for expected in guards.get(position, ()):
                self._guard(position, expected)
            if position in ties:
                self.lines.append(f"if v{position}: return None  # a tie")
        return self.lines

    def results(self) -> list[str]:
        """An expression for each output, sharing memory with nothing else."""
        owners = [self.lives.owner[position] for position in self.plan.outputs]
        written = []
        for position, owner in zip(self.plan.outputs, owners, strict=True):
            value = self.value(position)
            own = self.plan.steps[owner].primitive is not None and owners.count(owner) == 1
            copied = isinstance(value, np.ndarray) and not (own and value.flags.writeable)
            written.append(f"v{position}.copy()" if copied else f"v{position}")
        return written

    def value(self, position: int) -> Any:
        return self.plan.steps[position].value

    def name(self, name: str, value: Any) -> str:
        """A name of the source for a value."""
        self.names[name] = value
        return name

    def shown(self, name: str, value: Any) -> str:
        """A name for a constant or an index, to be listed below the source."""
        self.legend[name] = _briefly(value)
        return self.name(name, value)

    def _constant(self, position: int, value: Any) -> None:
        if isinstance(value, np.ndarray):
            self.places[position] = value
        self.shown(f"v{position}", plain(value) if self.doubles else value)

    def _line(self, position: int, call: str) -> None:
        if call == f"v{position}":
            return
        origin = self.plan.steps[position].origin
        comment = f"  # {origin}" if origin else ""
        self.lines.append(f"v{position} = {call}{comment}")

    # ------------------------------------------------------------------ memory

    def _is_fixed_view(self, position: int, step: Step) -> bool:
        """Make a view of what always lies at the same place, once and for all."""
        assert step.primitive is not None
        source = self.places.get(step.inputs[0]) if step.inputs else None
        if source is None or not isinstance(step.value, np.ndarray):
            return False
        if not step.primitive.movement or position in self.lives.homes:
            return False
        view = step.primitive.function(source, **step.static)
        if view.shape != step.value.shape or not np.shares_memory(view, source):
            return False
        self.places[position] = view
        self.name(f"v{position}", view)
        parts = ", ".join(f"{k}={v}" for k, v in step.static.items())
        self.legend[f"v{position}"] = f"{step.primitive.name} of v{step.inputs[0]}: {parts}"
        return True

    def destination(self, position: int) -> str | None:
        """Where a value is to be written; None where it must have memory of its own."""
        if position not in self._destinations:
            self._destinations[position] = self._destination(position)
        return self._destinations[position]

    def _destination(self, position: int) -> str | None:
        value = self.value(position)
        if not isinstance(value, np.ndarray):
            return None
        if position in self.lives.homes:
            return self._home(position, *self.lives.homes[position])
        if position in self.lives.leaving:
            return None
        return self._buffer(position, value)

    def reads(self, position: int) -> int:
        """How many single entries are read from an array."""
        return self._reads.get(position, 0)

    def listed(self, position: int) -> str:
        """The name of a list of the entries of an array."""
        if position not in self._listed:
            self._listed.add(position)
            self.lines.append(f"l{position} = v{position}.tolist()")
        return f"l{position}"

    def _buffer(self, position: int, value: Any) -> str:
        kind = (value.size, value.dtype)
        free = self._free.setdefault(kind, [])
        storage = free.pop() if free else _aligned(*kind)
        self._storage[position] = storage
        self.places[position] = view = storage.reshape(value.shape)
        self.names[f"v{position}"] = view
        key = (id(storage), value.shape)
        if key not in self._buffers:
            self._buffers[key] = self.name(f"b{len(self._buffers)}", view)
        return self._buffers[key]

    def _home(self, position: int, host: int, index: Any) -> str:
        self.make_host(host)
        if host not in self.places:
            place = self.shown(f"k{position}", index)
            self.lines.append(f"v{position} = v{host}[{place}]")
            return f"v{position}"
        view = self.places[host][index]
        self.places[position] = self.names[f"v{position}"] = view
        self.legend[f"r{position}"] = f"[{_briefly(index)}] of v{host}"
        return self.name(f"r{position}", view)

    def make_host(self, position: int) -> None:
        """Allocate an array that is written part by part, before its first part is."""
        if position in self._hosts:
            return
        self._hosts.add(position)
        step = self.plan.steps[position]
        assert step.primitive is not None
        cleared = step.primitive.name == "add_at"
        written = self.destination(position)
        if written is None:
            function = self.name("zeros", np.zeros) if cleared else self.name("empty", np.empty)
            dtype = self.name(f"t{step.value.dtype}", step.value.dtype)
            self.lines.append(f"v{position} = {function}({step.value.shape}, {dtype})")
        elif cleared:
            self.lines.append(f"{written}.fill(0)")

    def _release(self, position: int, inputs: tuple[int, ...]) -> None:
        """Let go of the memory that nothing reads from here on."""
        if not self._storage:
            return
        for owner in {self.lives.owner[i] for i in (position, *inputs)}:
            if self.lives.last[owner] <= position and owner in self._storage:
                storage = self._storage.pop(owner)
                self._free.setdefault((storage.size, storage.dtype), []).append(storage)

    # ------------------------------------------------------------------ one line per operation

    def _emit(self, position: int, step: Step) -> None:
        assert step.primitive is not None
        if self._emit_number(position, step):
            return
        special = SPECIAL.get(step.primitive.name)
        call = None if special is None else special(self, position, step)
        if call is None:
            call = self._ufunc(position, step) if is_simple_ufunc(step) else None
        self._line(position, self._call(position, step) if call is None else call)

    def _emit_number(self, position: int, step: Step) -> bool:
        """Write an operation on single numbers as an expression, if Python has it."""
        assert step.primitive is not None
        if not self.doubles:
            return False
        written = self._number_lines.write(position, step)
        if written is None:
            return False
        if written.called is not None:
            self.name(*written.called)
        if written.text:
            self._line(position, written.text)
        return True

    def _ufunc(self, position: int, step: Step) -> str:
        assert step.primitive is not None
        function: Any = step.primitive.function
        elementwise = function.signature is None
        if elementwise and position not in self.lives.homes:
            self._release(position, tuple(i for i in step.inputs if self._same_kind(i, step)))
        written = self.destination(position)
        self.name(function.__name__, function)
        # Positional where NumPy allows it: keywords cost a fifth of a small operation.
        where = [] if written is None else [f"out={written}" if function in NAMED_OUT else written]
        operand = self._repeated if function in NAMED_OUT else self.operand
        arguments = [operand(i, step) for i in step.inputs]
        return f"{function.__name__}({', '.join([*arguments, *where])})"

    def operand(self, i: int, step: Step) -> str:
        """An operand of a ufunc: a number goes in an array, which NumPy takes in half the time."""
        source = self.plan.steps[i]
        if (
            not self.doubles
            or isinstance(source.value, np.ndarray)
            or not self._takes_doubles(step)
        ):
            return f"v{i}"
        box = f"n{i}"
        if source.primitive is None and source.constant and type(source.value) in _REAL:
            number = float(source.value)
            self.legend[box] = f"{number}"
            return self.name(box, np.array(number))
        if type(source.value) is not np.float64:
            return f"v{i}"
        if i not in self._boxed:
            self._boxed.add(i)
            self.lines.append(f"{self.name(box, np.zeros(()))}[()] = v{i}")
        return box

    def _takes_doubles(self, step: Step) -> bool:
        """Whether a step is a ufunc of arrays that are all of doubles."""
        assert step.primitive is not None
        types = getattr(step.primitive.function, "types", ())
        arrays = [v for v in map(self.value, step.inputs) if isinstance(v, np.ndarray)]
        doubles = bool(arrays) and all(array.dtype == np.float64 for array in arrays)
        return doubles and ("dd->d" in types or "dd->?" in types)

    def _repeated(self, i: int, step: Step) -> str:
        """An operand; a constant number is written out, because NumPy's loop is slow without."""
        source, shape = self.plan.steps[i], np.shape(step.value)
        few = 1 < np.size(step.value) <= WRITTEN_OUT
        if not source.constant or np.shape(source.value) != () or not few:
            return f"v{i}"
        size = "x".join(map(str, shape))
        return self.name(f"v{i}_{size}", np.full(shape, source.value, np.asarray(step.value).dtype))

    def _call(self, position: int, step: Step) -> str:
        """A call of the row's own function."""
        assert step.primitive is not None
        function = step.primitive.function
        bound = partial(function, **step.static) if step.static else function
        called = self.name(f"p{position}", bound)
        parts = ", ".join(f"{k}={_briefly(v)}" for k, v in step.static.items())
        self.legend[called] = f"{step.primitive.name} {parts}".rstrip()
        return f"{called}({', '.join(self.as_numpy(i) for i in step.inputs)})"

    def as_numpy(self, i: int) -> str:
        """A value as NumPy has it: a row's function may ask a number for its dtype."""
        kind = type(self.value(i))
        if not self.doubles or kind not in _IN_PYTHON:
            return f"v{i}"
        return f"{_IN_PYTHON[kind]}(v{i})"

    def _same_kind(self, i: int, step: Step) -> bool:
        """Whether an operand lies exactly where the result could be put."""
        source = self.plan.steps[i]
        return (
            isinstance(source.value, np.ndarray)
            and isinstance(step.value, np.ndarray)
            and self.lives.owner[i] == i
            and source.value.shape == step.value.shape
            and source.value.dtype == step.value.dtype
        )

    def _emit_addition(self, position: int, step: Step) -> None:
        base, addend = self.lives.additions[position]
        added = self.plan.steps[addend]
        assert step.primitive is not None
        ufunc = self.name(step.primitive.name, step.primitive.function)
        if base in self.places:
            self.places[position] = self.names[f"v{position}"] = self.places[base]
        else:
            self.lines.append(f"v{position} = v{base}")
        index, term = added.static["index"], self.operand(added.inputs[0], step)
        if not isinstance(self.value(base)[index], np.ndarray):
            sign = "+" if step.primitive.name == "add" else "-"
            self.lines.append(f"v{position}[{self.shown(f'k{addend}', index)}] {sign}= {term}")
        elif base in self.places:
            part = self.name(f"r{position}", self.places[base][index])
            self.legend[part] = f"[{_briefly(index)}] of v{base}"
            self.lines.append(f"{ufunc}({part}, {term}, {part})")
        else:
            part = f"r = v{position}[{self.shown(f'k{addend}', index)}]"
            self.lines.append(f"{part}; {ufunc}(r, {term}, r)")
        self._release(position, added.inputs)

    def _guard(self, position: int, expected: Any) -> None:
        plain_value = np.asarray(expected)
        if plain_value.shape == () and plain_value.dtype == bool:
            self.lines.append(f"if {'not ' if plain_value else ''}v{position}: return None")
            return
        name = self.name(f"g{len(self.names)}", expected)
        self.lines.append(f"if not same_value(v{position}, {name}): return None")


def _aligned(size: int, dtype: np.dtype[Any]) -> Any:
    """Memory that begins with a cache line.

    NumPy's own begins anywhere, and an operation whose vectors straddle lines takes up to twice
    as long: a draw at random that would hold for as long as the program does.
    """
    raw = np.empty(size * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size * dtype.itemsize].view(dtype)


def _is_double(value: Any) -> bool:
    """Whether a value is made of doubles, or of no floating-point numbers at all."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype == np.float64 or value.dtype.kind in "iub"
    return is_number(value)


def _briefly(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
