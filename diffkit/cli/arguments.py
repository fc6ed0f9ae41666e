"""What the commands are given: names out of tables, points, sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from diffkit.errors import ParseError

if TYPE_CHECKING:
    from diffkit.expressions import Expression

_BETWEEN_VALUES = re.compile(r",(?=\s*[A-Za-z]\w*\s*=(?!=))")


class Name(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """One of a table's names; the table is loaded when a value has to be checked."""

    def __init__(self, name: str, module: str, table: str, *extra: str) -> None:
        self.name = name
        self.module = module
        self.table = table
        self.extra = extra

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        from importlib import import_module

        names = [*self.extra, *getattr(import_module(self.module), self.table)]
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(names)}.", param, ctx)
        return str(value)


BACKEND = Name("backend", "diffkit.backends", "BACKENDS", "all")
CHAPTER = Name("chapter", "diffkit.reporting.build", "CHAPTERS")
NETWORK = Name("network", "diffkit.nn.zoo", "NETWORKS")
PROBLEM = Name("problem", "diffkit.problems", "PROBLEMS")
FAMILY = Name("family", "diffkit.problems.families", "FAMILIES")
FORM = Name("form", "diffkit.comparison.forms", "FORMS", "multiplied out")

at_option = click.option(
    "--at",
    multiple=True,
    metavar="NAME=VALUE",
    help="Where: x=1, x=pi/4, or x=1,y=2. With one variable, the value is enough.",
)
order_option = click.option(
    "--order",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    show_default=True,
    help="Of the derivative.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print strict JSON.")


def function_and_point(text: str, at: Iterable[str]) -> tuple[Expression, dict[str, float]]:
    """The parsed expression, of the variables it has and those given a value."""
    from diffkit.expressions import parse

    variables = parse(text).variables
    point = _point(at, variables)
    function = parse(text, tuple(dict.fromkeys((*variables, *point))))
    if missing := [name for name in function.variables if name not in point]:
        raise click.UsageError(f"No value for {', '.join(missing)}: give --at {missing[0]}=...")
    if not point:
        raise click.UsageError("Where? Give --at NAME=VALUE.")
    return function, {name: point[name] for name in function.variables}


def _point(at: Iterable[str], variables: tuple[str, ...]) -> dict[str, float]:
    point: dict[str, float] = {}
    for item in (item for option in at for item in _BETWEEN_VALUES.split(option)):
        name, equals, value = item.partition("=")
        name = name.strip()
        if not equals:
            if len(variables) != 1:
                raise click.BadParameter(f"{item!r} is not NAME=VALUE.", param_hint="--at")
            name, value = variables[0], item
        if name in point:
            raise click.BadParameter(f"{name} is given twice.", param_hint="--at")
        point[name] = _value(name, value)
    return point


def sizes_of(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not N,N,...", param_hint="--sizes") from None


def _value(name: str, text: str) -> float:
    from diffkit.expressions import parse

    try:
        return float(parse(text, ())(0.0))
    except ParseError as error:
        raise ParseError(f"in --at {name}: {error}") from None
