"""The forms of a derivative: those of the symbolic backend, and the tape; each as a program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from diffkit.backends.symbolic import Symbolic
from diffkit.backends.symbolic import differentiator as symbolic
from diffkit.backends.tape import Tape
from diffkit.comparison.measurement import Operator
from diffkit.errors import ExpressionTooLarge, InvalidInput, UnsupportedOperation
from diffkit.interface import Prepared
from diffkit.measures import ProgramSize, program_size
from diffkit.operators import derivative, gradient
from diffkit.problems.families import Member
from diffkit.tracing import Graph, trace
from diffkit.tracing.graph import Node

CALLS: Final = 2  # the fast way in is compiled when a derivative is asked for a second time
MULTIPLIED_OUT: Final = "multiplied out"
SYMBOLIC: Final = ("expanded", *(form for form in symbolic.FORMS if form != "expanded"))
FORMS: Final = (*SYMBOLIC, "tape")
"""The forms that any function has; `multiplied out` is for polynomials of one number."""


@dataclass(frozen=True)
class Program:
    """A derivative made ready in one form.

    Attributes:
        call: from the arguments of the function to the derivative.
        source: the straight-line code that runs; empty where there is none.
        size: how large it is; None where there is no telling.
    """

    call: Callable[..., Any]
    source: str
    size: ProgramSize | None


def derived(form: str, member: Member, operations: int, seconds: float) -> Program:
    """Return the derivative of a function in a form, compiled.

    Args:
        form: out of `FORMS`, or `multiplied out`.
        member: the function, where, and the order.
        operations: the most that a form may have that is written out.
        seconds: the longest that a simplification may take.

    Raises:
        InvalidInput: there is no such form.
        ExpressionTooLarge: it would take more operations.
        UnsupportedOperation: the form does not exist for this function.
    """
    if form == "tape":
        return _by_tape(member)
    if form == MULTIPLIED_OUT:
        return _multiplied_out(member, operations, seconds)
    if form not in SYMBOLIC:
        known = ", ".join((*FORMS, MULTIPLIED_OUT))
        raise InvalidInput(f"unknown form {form!r}; choose among {known}")
    prepared = _prepared(form, member, operations, seconds)
    call = _operator(member, prepared)
    for _ in range(CALLS):
        call(*member.arguments)
    source = str(prepared.source(order=member.order))
    size = program_size(source)
    if form == "expanded":
        size = replace(size, tree=sum(map(_count, _closed(prepared, member))))
    return Program(call, source, size)


def _prepared(form: str, member: Member, operations: int, seconds: float) -> Any:
    """As its formulas compute it, with the digits that they lose."""
    if form != "expanded":  # what is never written out keeps the backend's own budget
        return Symbolic(form=form, refine=False).prepare(member.f, *member.arguments)
    written_out = Symbolic(form=form, max_operations=operations, max_seconds=seconds, refine=False)
    return written_out.prepare(member.f, *member.arguments)


def _operator(member: Member, prepared: Prepared) -> Callable[..., Any]:
    operator = operator_of(member)
    return lambda *arguments: operator.of(prepared, arguments)


def operator_of(member: Member) -> Operator:
    """Return the operator that gives the member's derivative: the gradient, for order 1."""
    return Operator("gradient" if member.order == 1 else "derivative", member.order)


def _by_tape(member: Member) -> Program:
    """The gradient, of the function or of the derivative one order lower."""
    f = member.f if member.order == 1 else _lower(member)
    prepared: Any = Tape().prepare(f, *member.arguments)
    for _ in range(CALLS):
        prepared.gradient(*member.arguments)
    try:
        source = prepared.source()
    except UnsupportedOperation:
        return Program(prepared.gradient, "", None)
    # The code writes into buffers that it uses again, so what is shared is told by the graph.
    tree, different = _unfolded(trace(lambda x: gradient(f, x, *member.data), member.x))
    size = replace(program_size(source), tree=tree, dag=different, operations=different)
    return Program(prepared.gradient, source, size)


def _unfolded(graph: Graph) -> tuple[int, int]:
    """Operations of what a graph puts out if everything were written out, and different ones."""
    needed = _needed(graph)
    trees: dict[int, int] = {}
    keys: dict[int, int] = {}
    known: dict[Any, int] = {}
    for node in needed:
        primitive = node.primitive
        if primitive is None:
            description: Any = node.index
        else:
            description = (primitive, repr(node.static), *(keys[i.index] for i in node.inputs))
        keys[node.index] = known.setdefault(description, len(known))
        own = primitive is not None and not primitive.movement
        trees[node.index] = own + sum(trees[i.index] for i in node.inputs)
    different = {
        keys[node.index]
        for node in needed
        if node.primitive is not None and not node.primitive.movement
    }
    return sum(trees[node.index] for node in graph.outputs), len(different)


def _needed(graph: Graph) -> list[Node]:
    """The nodes that the outputs need, each after its inputs."""
    wanted = {node.index for node in graph.outputs}
    for node in reversed(graph.nodes):
        if node.index in wanted:
            wanted.update(source.index for source in node.inputs)
    return [node for node in graph.nodes if node.index in wanted]


def _lower(member: Member) -> Callable[..., Any]:
    return lambda x, *data: derivative(member.f, x, *data, order=member.order - 1)


# ---------------------------------------------------------------------- closed expressions


def _closed(prepared: Any, member: Member) -> list[Any]:
    """The entries of the derivative as closed SymPy expressions."""
    if member.order == 1:
        return list(_entries(prepared.expression))
    import sympy

    f = prepared.function_expression
    (x,) = f.free_symbols - set(prepared.constants)
    return [sympy.diff(f, x, member.order)]


def _entries(structure: Any) -> Iterator[Any]:
    if isinstance(structure, (dict, list, tuple)):
        members = structure.values() if isinstance(structure, dict) else structure
        for member in members:
            yield from _entries(member)
    elif hasattr(structure, "rank"):
        yield from structure.reshape(len(structure)) if structure.rank() else [structure[()]]
    else:
        yield structure


def _count(expression: Any) -> int:
    import sympy

    return int(sympy.count_ops(expression))


def _multiplied_out(member: Member, operations: int, seconds: float) -> Program:
    """The closed derivative by one number as a sum of powers, as by `sympy.expand`."""
    import sympy

    if np.ndim(member.x) or isinstance(member.x, (dict, list, tuple)):
        raise UnsupportedOperation("multiplied out there are functions of one number alone")
    prepared = _prepared("expanded", member, operations, seconds)
    (entry,) = _closed(prepared, member)
    if (size := _count(entry)) > operations:
        raise ExpressionTooLarge(f"written out, it has {size} operations; {operations} are allowed")
    constants = dict(prepared.constants)
    inputs = sorted(entry.free_symbols - set(constants), key=str) or [sympy.Symbol("x")]
    polynomial = _sum_of_powers(entry, inputs[0])
    program = sympy.lambdify([*inputs, *constants], polynomial, "numpy", cse=True)

    def call(x: Any, *data: Any) -> Any:
        try:
            value = program(x, *constants.values())
        except OverflowError as error:
            raise UnsupportedOperation("a coefficient exceeds the range of the dtype") from error
        return np.asarray(value, np.asarray(x).dtype)[()]

    source = inspect.getsource(program)
    return Program(call, source, replace(program_size(source), tree=_count(polynomial)))


def _sum_of_powers(entry: Any, x: Any) -> Any:
    """What `sympy.expand` gives; a polynomial in x alone is computed as one, which is faster."""
    import sympy

    if entry.free_symbols != {x} or not entry.is_polynomial(x):
        return sympy.expand(entry)
    return sympy.lambdify([x], entry, "sympy")(sympy.Poly(x, x)).as_expr()
