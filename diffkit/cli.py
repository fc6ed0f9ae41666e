"""The command line. Every command reads its arguments, calls the library and prints the result."""

from __future__ import annotations

import errno
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from diffkit import __version__
from diffkit.errors import DiffkitError, ParseError

if TYPE_CHECKING:
    from diffkit.differentiation import Derivative
    from diffkit.expressions import Expression
    from diffkit.graphs import ComputationalGraph

UNWRITABLE = (errno.ENOSPC, errno.EFBIG, errno.EIO)
_BETWEEN_VALUES = re.compile(r",(?=\s*[A-Za-z]\w*\s*=(?!=))")


class Failure(click.ClickException):
    """An error of ours: one line on standard error, exit code 1."""

    def __init__(self, error: DiffkitError) -> None:
        text = str(error)
        # A caret under the text needs lines of its own; the first line says the place as well.
        super().__init__(text.split("\n")[0] if isinstance(error, ParseError) else _line(text))


class Commands(click.Group):
    """A group whose commands turn our errors, warnings and Ctrl-C into what a shell expects."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            # What is still in the buffer can go nowhere; the interpreter would try once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            try:
                return super().invoke(ctx)
            except DiffkitError as error:
                raise Failure(error) from error
            except KeyboardInterrupt:
                ctx.exit(130)
            finally:
                for message in dict.fromkeys(str(warning.message) for warning in caught):
                    click.echo(f"Warning: {_line(message)}", err=True)


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

_at = click.option(
    "--at",
    multiple=True,
    metavar="NAME=VALUE",
    help="Where: x=1, x=pi/4, or x=1,y=2. With one variable, the value is enough.",
)
_order = click.option(
    "--order",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    show_default=True,
    help="Of the derivative.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print strict JSON.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="diffkit")
def main() -> None:
    """Differentiate one function in four independent ways, and learn which result to trust."""


@main.command()
@click.argument("expression")
@_at
@click.option(
    "--backend",
    type=BACKEND,
    default="tape",
    show_default=True,
    help=("analytic, finite, symbolic, tape, or all of them."),
)
@click.option("--wrt", metavar="NAME", help="The variable to differentiate by; all by default.")
@_order
@click.option("--latex", is_flag=True, help="Give the formula too, as LaTeX source.")
@_json
def differentiate(
    expression: str,
    at: tuple[str, ...],
    backend: str,
    wrt: str | None,
    order: int,
    latex: bool,
    as_json: bool,
) -> None:
    """Differentiate a formula at a point.

    EXPRESSION is Python's notation with NumPy's functions, such as "sin(x)*exp(-x**2)".
    """
    from diffkit.backends import BACKENDS
    from diffkit.differentiation import differentiate as compute

    function, point = _function_and_point(expression, at)
    backends = tuple(BACKENDS) if backend == "all" else (backend,)
    with _quiet():
        result = compute(function, point, backends=backends, order=order, wrt=wrt, latex=latex)
    if as_json or not result.refused:
        _show(result, as_json)
    if result.refused:
        _fail_of(result.results)


@main.command()
@click.argument("expression", required=False)
@_at
@click.option(
    "--problem",
    type=PROBLEM,
    metavar="NAME",
    help="A named problem; `diffkit problems` lists them.",
)
@_order
@_json
def compare(
    expression: str | None, at: tuple[str, ...], problem: str | None, order: int, as_json: bool
) -> None:
    """Compare every backend with the arbitrary-precision truth.

    What is differentiated is EXPRESSION at a point, or a named problem at its own.
    """
    from diffkit.comparison import compare as compute

    if (expression is None) == (problem is None):
        raise click.UsageError("Give either an expression or --problem NAME.")
    if expression is None:
        from diffkit.problems import problem as find

        if at:
            raise click.UsageError("A named problem has its own point; leave out --at.")
        known = find(str(problem))
        f, arguments = known.f, known.arguments
    else:
        f, point = _function_and_point(expression, at)
        arguments = (point if len(f.variables) > 1 else next(iter(point.values())),)
    with _quiet():
        result = compute(f, *arguments, order=order)
    _show(result, as_json)


@main.command()
@click.argument("expression", required=False)
@_at
@click.option(
    "--family",
    type=FAMILY,
    metavar="NAME",
    help="Functions of growing size: logistic, speelpenning, sigmoids, order, mlp-depth, "
    "mlp-width, helmholtz or determinant.",
)
@click.option("--sizes", metavar="N,N,...", help="Of the family's functions.")
@click.option(
    "--form",
    "forms",
    type=FORM,
    multiple=True,
    metavar="NAME",
    help="Such as expanded, shared, tape; all by default.",
)
@click.option(
    "--order",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    show_default=True,
    help="Of the derivative of an expression in one variable.",
)
@click.option(
    "--max-operations",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    metavar="N",
    help="Beyond so many a form is not written out.",
)
@click.option("--figure", metavar="FILE", help="Draw the growth too, to an SVG or PNG file.")
@_json
def swell(
    expression: str | None,
    at: tuple[str, ...],
    family: str | None,
    sizes: str | None,
    forms: tuple[str, ...],
    order: int,
    max_operations: int,
    figure: str | None,
    as_json: bool,
) -> None:
    """Measure how large each form of a derivative is, what it costs and what it loses.

    Of EXPRESSION at a point, or of a family of functions of growing size.
    """
    from diffkit.comparison import measure_swell

    if (expression is None) == (family is None):
        raise click.UsageError("Give either an expression or --family NAME.")
    what: Any = family
    arguments: tuple[Any, ...] = ()
    if expression is not None:
        if sizes is not None:
            raise click.UsageError("An expression has one size; leave out --sizes.")
        what, point = _function_and_point(expression, at)
        arguments = (point if len(what.variables) > 1 else next(iter(point.values())),)
    elif at or order != 1:
        raise click.UsageError("A family has points and orders of its own.")
    chosen = None if sizes is None else _sizes(sizes)
    with _quiet():
        result = measure_swell(
            what,
            *arguments,
            sizes=chosen,
            forms=forms or None,
            order=order,
            max_operations=max_operations,
        )
    if figure is not None:
        from diffkit.reporting.swell import draw_swell

        draw_swell(result, figure)
    _show(result, as_json)


@main.command()
@_json
def problems(as_json: bool) -> None:
    """List the named problems."""
    from diffkit.display import Display, to_json
    from diffkit.problems import PROBLEMS

    rows = tuple((p.name, p.description) for p in PROBLEMS.values())
    if as_json:
        click.echo(to_json([{"name": name, "description": text} for name, text in rows]))
        return
    table = Display((), ("problem", "what it is"), rows, left=2)
    _print(table.text(), table.rich)


@main.command()
@click.option("--network", type=NETWORK, required=True, metavar="NAME", help="Such as iris-mlp.")
@_json
def validate(network: str, as_json: bool) -> None:
    """Check every backend on a network's loss.

    Each gradient is held against the symbolic one, parameter by parameter.
    """
    from diffkit.nn.zoo import network as build
    from diffkit.validation.crosscheck import cross_check

    case = build(network)
    with _quiet():
        result = cross_check(case.loss, case.parameters, *case.data, name=case.name)
    _show(result, as_json)
    if result.verdict != "agree":
        _fail(f"the backends do not agree on {case.name}: {result.verdict}")


@main.command()
@click.argument("expression", required=False)
@_at
@click.option("--network", type=NETWORK, metavar="NAME", help="Of a network, layer by layer.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "dot", "mermaid", "json", "svg", "png")),
    default="text",
    show_default=True,
)
@click.option("--out", metavar="FILE", help="Write to a file; a PNG has to go to one.")
def graph(
    expression: str | None, at: tuple[str, ...], network: str | None, form: str, out: str | None
) -> None:
    """Show the computational graph, with values and adjoints.

    Of EXPRESSION at a point, or of a network's loss.
    """
    from diffkit.graphs import computational_graph

    if (expression is None) == (network is None):
        raise click.UsageError("Give either an expression or --network NAME.")
    if form == "png" and out is None:
        raise click.UsageError("A picture goes to a file: give --out FILE.")
    if network is not None:
        from diffkit.nn.zoo import network as build

        if at:
            raise click.UsageError("A network has its own point; leave out --at.")
        case = build(network)
        found = computational_graph(case.loss, case.parameters, *case.data).collapsed()
    else:
        f, point = _function_and_point(str(expression), at)
        argument = point if len(f.variables) > 1 else next(iter(point.values()))
        with _quiet():
            found = computational_graph(f, argument)
    _show_graph(found, form, out)


@main.command()
@click.argument("chapters", nargs=-1, type=CHAPTER, metavar="[CHAPTER]...")
@click.option("--quick", is_flag=True, help="Coarser grids and smaller cases, in seconds.")
@click.option("--out", default="reports", show_default=True, metavar="DIR")
@click.option(
    "--jobs", type=int, default=1, show_default=True, help="Chapters at once; -1: all cores."
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
def report(chapters: tuple[str, ...], quick: bool, out: str, jobs: int, show: bool) -> None:
    """Write the report: all chapters, or the ones named.

    Figures, data and a page go to DIR, and the page shows every chapter that is there.
    """
    from diffkit.reporting.build import report as build

    page = build(*chapters, out=out, quick=quick, jobs=jobs)
    click.echo(f"The report is at {page}")
    if show:
        click.launch(page.resolve().as_uri())


# ------------------------------------------------------------------ reading


def _function_and_point(text: str, at: Iterable[str]) -> tuple[Expression, dict[str, float]]:
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


def _sizes(text: str) -> list[int]:
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


# ------------------------------------------------------------------ printing


def _show(result: Any, as_json: bool) -> None:
    if as_json:
        click.echo(result.to_json())
    else:
        _print(str(result), result.__rich__)


def _show_graph(graph: ComputationalGraph, form: str, out: str | None) -> None:
    if form == "text" and out is None:
        _print(str(graph), graph.__rich__)
        return
    if form in ("svg", "png"):
        from diffkit.reporting.graph_drawing import drawn

        content = drawn(graph, form)
    else:
        forms = {"dot": graph.to_dot, "mermaid": graph.to_mermaid, "json": graph.to_json}
        content = forms.get(form, graph.__str__)().rstrip("\n").encode()
    if out is None:
        click.echo(content.decode())
        return
    try:
        Path(out).write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}") from error
    click.echo(f"The graph is at {out}")


def _print(text: str, rich: Callable[[], Any]) -> None:
    """Print by rich in a terminal; elsewhere as plain lines of whatever width they need.

    So too in a terminal narrower than the table: no number is ever broken or cut.
    """
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.console import Console
    from rich.table import Table

    console, renderable = Console(), rich()
    unlimited = console.options.update(max_width=10_000)
    tables = [part for part in renderable.renderables if isinstance(part, Table)]
    needed = max(console.measure(table, options=unlimited).maximum for table in tables)
    if needed > console.width:
        click.echo(text)
    else:
        console.print(renderable)


def _quiet() -> Any:
    """NumPy's own warnings off: what is not finite is reported as such."""
    import numpy as np

    return np.errstate(all="ignore")


def _line(text: str) -> str:
    return " ".join(text.split())


def _fail_of(refusals: Sequence[Derivative]) -> NoReturn:
    """Fail for the one backend that was asked, or for all of them, a line each."""
    if len(refusals) == 1:
        _fail(str(refusals[0].error))
    lines = [f"{r.backend}: {_line(str(r.error))}" for r in refusals]
    raise click.ClickException("\n".join(["every backend refuses", *lines]))


def _fail(message: str) -> NoReturn:
    raise click.ClickException(_line(message))
