"""The fast way into a prepared gradient: one generated function from arguments to results.

It checks that the arguments are laid out as the program expects and that what the function
refers to outside is still the same, takes the leaves out of their structure, computes, and puts
the gradient back together. Wherever something is not as recorded it returns None, and the
general way is taken, which knows every refusal.
"""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.assembly import assembled
from diffkit.backends.tape.batching import batched
from diffkit.backends.tape.dots import with_dots
from diffkit.backends.tape.emit import Emitter
from diffkit.backends.tape.finiteness import Finiteness
from diffkit.backends.tape.plan import Plan, Step, gradient_plan
from diffkit.backends.tape.simplify import simplified
from diffkit.backends.tape.sums import regrouped
from diffkit.backends.tape.underflow import TINY, Underflow, any_tiny
from diffkit.structure import Leaf, is_traced
from diffkit.tracing.generated import Lines
from diffkit.tracing.graph import Graph

GROWING: Final = frozenset(("exp", "exp2", "expm1", "sinh", "cosh", "power", "divide", "ratio"))
"""What makes numbers so large or small that an adjoint may underflow and yet count."""


@dataclass(frozen=True)
class Compiled:
    """A program ready to run.

    Attributes:
        run: from the positional arguments of the function (as `x`, then the data) to the pair
            (value, gradient), or None where the program does not apply.
        source: what was compiled.
    """

    run: Callable[[Any, tuple[Any, ...]], Any]
    source: str


def compiled(
    graph: Graph,
    data: tuple[Any, ...],
    planned: Callable[[Graph], Plan] = gradient_plan,
    along: tuple[str, ...] = (),
) -> Compiled | None:
    """Generate and compile value and gradient of a recording, for data laid out like `data`.

    None where the general way is needed: the value is not one floating-point number, or the
    recording lies inside another one.

    Args:
        graph: the recording.
        data: what is given beside `x`.
        planned: makes the plan of what is wanted, the gradient or something in its place.
        along: the names of directions, laid out like `x`, that the plan takes next to it. The
            program then takes the tuple of `x` and these in the place of `x`.
    """
    with _without_collection():
        return _compiled(graph, data, planned, ("x", *along))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Spare the garbage collector from looking through a growing plan again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _compiled(
    graph: Graph,
    data: tuple[Any, ...],
    planned: Callable[[Graph], Plan],
    arguments: tuple[str, ...],
) -> Compiled | None:
    leaves = (*graph.output_layout.leaves, *graph.layout.leaves)
    if any(is_traced(node.value) for node in graph.nodes) or not graph.output_layout.is_scalar:
        return None
    plan = simplified(planned(graph))
    better = batched(regrouped(plan))
    plan = with_dots(plan if better is plan else simplified(better))
    examples = [plan.steps[position].value for position in plan.outputs]
    if any(np.asarray(v).dtype != leaf.dtype for v, leaf in zip(examples, leaves, strict=True)):
        return None
    watched = [*plan.inputs[: len(arguments) * len(graph.layout.leaves)], *plan.outputs]
    finiteness = Finiteness(plan, watched)
    plan = finiteness.plan
    plan = replace(plan, finite=plan.finite | _of_any_size(plan))  # which keeps their names
    emitter = Emitter(plan)
    lines = Lines()
    underflow = Underflow()
    lines.names["underflow"], lines.names["any_tiny"] = underflow, any_tiny
    number = "float" if emitter.doubles else "float64"
    targets = iter([f"v{position}" for position in plan.inputs])
    if len(arguments) > 1:
        lines.add(f"{', '.join(arguments)} = x")
    for argument in arguments:
        leaves_in = [
            (leaf, node.value, next(targets))
            for leaf, node in zip(graph.layout.leaves, graph.inputs, strict=True)
        ]
        lines.take_apart(argument, graph.layout.nesting, iter(leaves_in), number)
    lines.take_data("data", data, targets)
    body = emitter.body()
    # In the function itself much underflows that is small in truth.
    backwards = (k for k, line in enumerate(body) if "# adjoint of" in line)
    body.insert(next(backwards, 0), "underflow.any = False")
    value, *gradient = map(_as_leaf, emitter.results(), examples, leaves)
    ending = [
        *finiteness.lines(),
        *_in_range(plan, emitter.doubles),
        f"return {value}, {lines.put_together(graph.layout.nesting, iter(gradient))}",
    ]
    names = {**lines.names, **emitter.names}
    program, source = assembled(lines.lines, body, ending, names)
    legend = _legend(emitter, source)
    return Compiled(_serialised(program, underflow), "\n".join([source, *legend]))


def _legend(emitter: Emitter, source: str) -> list[str]:
    """What the names in the source stand for, where they are numbers, indices or views."""
    named = set(re.findall(r"\w+", source))
    return [f"# {name}: {meaning}" for name, meaning in emitter.legend.items() if name in named]


def _as_leaf(result: str, example: Any, leaf: Leaf) -> str:
    """The result as the kind of number that the leaf is: a NumPy scalar, or an array."""
    if leaf.scalar:
        if leaf.dtype == np.float64:
            return f"float64({result})"
        return f"{result}[()]" if isinstance(example, np.ndarray) else result
    return result if isinstance(example, np.ndarray) else f"asarray({result})"


def _grows(step: Step, plan: Plan) -> bool:
    """Whether the function itself takes an operation that can make numbers of any size."""
    if step.primitive is None or step.primitive.name not in GROWING:
        return False
    return not step.is_adjoint and not plan.steps[step.inputs[-1]].constant


def _in_range(plan: Plan, doubles: bool) -> list[str]:
    """Lines that end the program where entries of the derivative may have underflowed.

    Of NumPy's numbers the processor has reported it. Python's, which stand for `doubles`, do not:
    they are looked at where the function may make them of any size, and where arrays are made of
    them, whether it has: an adjoint that is zero says little, since many a choice makes it so.
    """
    leaves = [(f"v{i}", plan.steps[i]) for i in plan.outputs[1:] if not plan.steps[i].constant]
    numbers = [name for name, step in leaves if doubles and not isinstance(step.value, np.ndarray)]
    others = [name for name, _ in leaves if name not in numbers]
    lines = []
    if any(_grows(step, plan) for step in plan.steps):
        lines += [f"if -{TINY!r} < {name} < {TINY!r}: return None" for name in numbers]
    if others and doubles:
        usual = f"{TINY!r} < abs(v{{0}}) < {1 / TINY!r}"
        for i in sorted(_of_any_size(plan)):
            lines.append(f"if v{i} and not {usual.format(i)}: underflow.any = True")
    if others:
        lines.append(f"if underflow.any and any_tiny({', '.join(others)}): return None")
    return lines


def _of_any_size(plan: Plan) -> frozenset[int]:
    """The single numbers that the function itself may make of any size."""
    numbers = (i for i, step in plan.enumerated() if type(step.value) is np.float64)
    return frozenset(i for i in numbers if _grows(plan.steps[i], plan))


def _serialised(
    program: Callable[[Any, Any], Any], underflow: Underflow
) -> Callable[[Any, Any], Any]:
    """The program for one thread at a time, since its buffers are its own; others decline."""
    lock = threading.Lock()
    acquire, release = lock.acquire, lock.release
    # Its own context, which costs a tenth of np.errstate to enter.
    quietly = Context()
    quietly.run(np.seterr, all="ignore", under="call")
    quietly.run(np.seterrcall, underflow)
    enter = quietly.run

    def run(x: Any, data: Any) -> Any:
        if not acquire(False):
            return None
        try:
            return enter(program, x, data)
        except (ArithmeticError, ValueError):  # where NumPy has an infinity or a NaN
            return None
        finally:
            release()

    return run
