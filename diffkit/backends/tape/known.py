"""Gradients of functions that were not prepared, compiled once their course is known by heart.

Without preparation a function is recorded afresh at every call, so that nothing outside it can be
out of date. What it does is mostly the same each time. A course that was taken often enough is
compiled, with everything but its structure as an input: the leaves of `x`, the data, every captured
array. The program serves whenever a new recording turns out to have taken that very course, step by
step; so this table holds nothing that could be wrong, only what has been worked out before.

The table is bounded, in courses and in bytes, and keeps no array of the user's alive.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from diffkit.backends.tape.entry import compiled
from diffkit.structure import Layout, Leaves, flatten
from diffkit.target import Function
from diffkit.tracing.graph import Graph, Node
from diffkit.tracing.scripts import Script, keys_of, script_of
from diffkit.tracing.tracer import Trace, Traced

MOST_PLACES: Final = 256  # pairs of a function and a layout
MOST_COURSES: Final = 8  # of one function
MOST_STEPS: Final = 50_000  # of all courses together
MOST_BYTES: Final = 1 << 26  # of all their values together
LONGEST: Final = 20_000  # steps of a course
LARGEST: Final = 1 << 24  # bytes of its values; with large arrays all the time is arithmetic
WORTH_COMPILING: Final = 8  # times that a course was taken; a long one takes longer to compile
STEPS_PER_TIME: Final = 500
FIRST_LOOKED_AT: Final = 3  # calls of a function, before which no course of it is noted
MOST_TRUST: Final = 32
ROUNDING: Final = 2.0**-26  # up to which two ways to compute a value may differ

Program = Callable[[Any, tuple[Any, ...]], Any]


class Recording(NamedTuple):
    """A function run on traced values.

    Attributes:
        trace: the recording, ended.
        result: the number that the function returned.
        leaves: how many `x` has; their nodes come first, then those of the data.
    """

    trace: Trace
    result: Traced
    leaves: int

    @property
    def inputs(self) -> list[Node]:
        return self.trace.nodes[: self.leaves]

    @property
    def data(self) -> set[int]:
        """The places of the numeric leaves of the data."""
        return set(range(self.leaves, self.leaves + self.trace.data_count))

    def follows(self, script: Script) -> bool:
        """Whether the function did what the script says, from the beginning to the end."""
        return self.trace.is_followed and self.result.is_at(script.output)

    def is_computed(self) -> bool:
        """Whether all that the function did can be computed, if that is still to be done."""
        try:
            return self.result.node is not None
        except Exception:  # which the function, as it was not raised where it belongs, did not see
            return False


class Course:
    """A course that a function took, and its gradient as one program once that is compiled.

    Attributes:
        script: what the function did.
        bytes: what the values of its steps take, of which a program holds about as many.
        program: from `x` and everything else that was given to value and gradient, or to None
            where it does not apply, as at a tie.
        times: how often the course was taken.
        trust: how often the program may still decline, by and large, before it is given up.
    """

    def __init__(self, script: Script, size: int) -> None:
        self.script = script
        self.bytes = size
        self.program: Program | None = None
        self.times = 0
        self.trust = MOST_TRUST // 2

    def count(self, recording: Recording, layout: Layout) -> None:
        """Count that the function took this course, and compile the gradient when it is time."""
        self.times += 1
        if self.times == WORTH_COMPILING + len(self.script.steps) // STEPS_PER_TIME:
            graph, given = _graph_of(recording, self.script, layout)
            found = compiled(graph, given)
            self.program = None if found is None else found.run

    def gradient(self, layout: Layout, given: Leaves | None, value: float) -> Any:
        """The gradient by the program; None where it does not apply.

        Args:
            layout: of the point.
            given: the leaves of `x`, then everything else on which the script depends.
            value: what the plain function gave there.
        """
        program = self.program
        if program is None or given is None:
            return None
        count = len(layout.leaves)
        result = program(layout.unflatten(given[:count]), tuple(given[count:]))
        if result is not None and abs(result[0] - value) <= ROUNDING * abs(value):
            self.trust = min(self.trust + 1, MOST_TRUST)
            return result[1]
        self.trust -= 1
        if self.trust <= 0:
            self.program = None
        return None


def _graph_of(
    recording: Recording, script: Script, layout: Layout
) -> tuple[Graph, tuple[Any, ...]]:
    """The recording with all that was given as data, and what that was."""
    nodes = recording.trace.nodes
    data = [nodes[place] for place in script.given[recording.leaves :]]
    output = nodes[script.output]
    output_layout, _ = flatten(output.value)
    graph = Graph(nodes, recording.inputs, data, layout, [output], output_layout)
    return graph, tuple([node.value for node in data])


class Courses:
    """The courses of one function at points of one layout, the one taken last first.

    Attributes:
        courses: those known.
        used: whether they have been asked for of late.
    """

    def __init__(self) -> None:
        self.courses: tuple[Course, ...] = ()
        self.used = True
        self._pause = FIRST_LOOKED_AT - 1
        self._length = 1

    @property
    def size(self) -> float:
        """Which part of all that may be kept they take."""
        return sum(
            max(len(course.script.steps) / MOST_STEPS, course.bytes / MOST_BYTES)
            for course in self.courses
        )

    def expected(self) -> Course | None:
        """The course to expect, if its gradient is compiled."""
        courses = self.courses
        return courses[0] if courses and courses[0].program is not None else None

    def taken(self, recording: Recording) -> Course | None:
        """The course that a run took; one that is new is noted."""
        if self._pause:
            self._pause -= 1
            return None
        nodes = recording.trace.nodes
        keys = keys_of(nodes, recording.data) if len(nodes) <= LONGEST else None
        if keys is None:
            self._wait()
            return None
        output = recording.result.node
        for course in self.courses:
            if course.script.output == output.index and course.script.keys == keys:
                return self.come_first(course)
        size = sum(getattr(node.value, "nbytes", 8) for node in nodes)
        if size > LARGEST:
            self._wait()
            return None
        course = Course(script_of(nodes, keys, recording.inputs, output), size)
        if len(self.courses) == MOST_COURSES:
            self._wait()
        self.courses = (course, *self.courses)[:MOST_COURSES]
        KNOWN.shrink()
        return course

    def come_first(self, course: Course) -> Course:
        """Note that a course was taken again."""
        if self.courses[:1] != (course,):
            self.courses = (course, *(c for c in self.courses if c is not course))
        self._length = 1
        return course

    def _wait(self) -> None:
        """Look away for a while, each time longer: there is hardly anything to recognise."""
        self._pause, self._length = self._length, min(2 * self._length, 1024)


class Known:
    """The courses of all functions, by function and layout. Several threads may ask at once."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[int, int], Courses] = OrderedDict()
        self._lock = threading.Lock()

    def courses(self, f: Function, layout: Layout) -> Courses:
        """Those of a function at points of a layout.

        Where the name of another function is taken for it, nothing goes wrong: a course is known
        by its steps.
        """
        key = (_identity(f), layout.signature)
        courses = self._places.get(key)
        if courses is None:
            with self._lock:
                courses = self._places.setdefault(key, Courses())
                if len(self._places) > MOST_PLACES:
                    self._forget_one()
        courses.used = True
        return courses

    def shrink(self) -> None:
        """Forget functions not asked about for long, until what is kept is small enough."""
        with self._lock:
            total = sum(courses.size for courses in self._places.values())
            while len(self._places) > 1 and total > 1:
                total -= self._forget_one().size

    def _forget_one(self) -> Courses:
        """Forget the function that was not asked about since this last looked at it."""
        while True:
            key, courses = self._places.popitem(last=False)
            if not courses.used:
                return courses
            courses.used = False
            self._places[key] = courses

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._places.clear()


def _identity(f: Function) -> int:
    """A number for the code of a function, which stays the same where it is defined again."""
    while type(f) is partial:
        f = f.func
    return id(getattr(f, "__code__", None) or type(f))


KNOWN: Final = Known()
