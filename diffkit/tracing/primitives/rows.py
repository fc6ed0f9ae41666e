"""How rows enter the table: each kind of row has one constructor here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from diffkit.tracing.graph import SAME, Column, Missing, Primitive, Rule

PRIMITIVES: dict[str, Primitive] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
METHODS: dict[tuple[Any, str], Callable[..., Any]] = {}

_Definition = TypeVar("_Definition", bound=Callable[..., Any])


def row(
    name: str,
    function: Rule,
    pullbacks: Sequence[Rule | None] | Rule | Missing,
    *,
    sympy: Column,
    exact: Column,
    elementwise: bool = False,
    movement: bool = False,
    routes: bool = False,
    adds: Rule | None = None,
    replaces: Sequence[Any] = (),
) -> Primitive:
    """Add a primitive to the table, to be called in place of the functions it replaces."""
    if name in PRIMITIVES:
        raise AssertionError(f"two rows are named {name}")
    primitive = Primitive(
        name, function, pullbacks, sympy, exact, elementwise, movement, movement or routes, adds
    )
    PRIMITIVES[name] = primitive
    for replaced in replaces:
        FUNCTIONS[replaced] = primitive
    return primitive


def defines(*functions: Any) -> Callable[[_Definition], _Definition]:
    """Decorate the definition, in traceable NumPy, of NumPy functions."""

    def register(definition: _Definition) -> _Definition:
        for function in functions:
            FUNCTIONS[function] = definition
        return definition

    return register


def defines_method(ufunc: Any, method: str) -> Callable[[_Definition], _Definition]:
    """Decorate the definition of a method of a ufunc, such as `np.add.reduce`."""

    def register(definition: _Definition) -> _Definition:
        METHODS[ufunc, method] = definition
        return definition

    return register


def elementwise(
    ufunc: Any,
    *pullbacks: Rule | None,
    sympy: Column,
    exact: Column,
    routes: bool = False,
) -> Primitive:
    """A row for a ufunc with one rule per argument."""
    return row(
        ufunc.__name__,
        ufunc,
        pullbacks,
        sympy=sympy,
        exact=exact,
        elementwise=True,
        routes=routes,
        replaces=[ufunc],
    )


def step(ufunc: Any, *, sympy: Column, exact: Column) -> Primitive:
    """A row for an elementwise function that is constant between jumps: no derivative flows."""
    return row(
        ufunc.__name__,
        ufunc,
        Missing("piecewise constant: its derivative is zero"),
        sympy=sympy,
        exact=exact,
        elementwise=True,
        replaces=[ufunc],
    )


def movement(function: Any, pullback: Rule | None = None) -> Primitive:
    """A row for a function that only moves the entries of its first argument.

    Such a function is its own counterpart on object arrays. Its pullback, unless a faster one
    is given, moves the positions of the entries and adds each adjoint where its entry came from.
    """
    name = function.__name__
    signature = inspect.signature(function)
    first = next(iter(signature.parameters))

    def moved(array: Any, **static: Any) -> Any:
        return function(array, **static)

    def scattered(g: Any, y: Any, array: Any, **static: Any) -> Any:
        from diffkit.tracing.primitives.shapes import scatter_positions

        return scatter_positions(g, moved, array, static)

    primitive = row(name, moved, (pullback or scattered,), sympy=SAME, exact=SAME, movement=True)

    def bound(*arguments: Any, **keywords: Any) -> Any:
        named = dict(signature.bind(*arguments, **keywords).arguments)
        return primitive(named.pop(first), **named)

    FUNCTIONS[function] = bound
    return primitive
