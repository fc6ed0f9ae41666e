"""The command line. Every command reads its arguments, calls the library and prints the result."""

from __future__ import annotations

from typing import Any

import click

from diffkit import __version__
from diffkit.cli.arguments import (
    BACKEND,
    CHAPTER,
    FAMILY,
    FORM,
    NETWORK,
    PROBLEM,
    at_option,
    function_and_point,
    json_option,
    order_option,
    sizes_of,
)
from diffkit.cli.output import Commands, fail, fail_for, print_table, quiet, show, show_graph


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="diffkit")
def main() -> None:
    """Differentiate one function in four independent ways, and learn which result to trust."""


@main.command()
@click.argument("expression")
@at_option
@click.option(
    "--backend",
    type=BACKEND,
    default="tape",
    show_default=True,
    help=("analytic, finite, symbolic, tape, or all of them."),
)
@click.option("--wrt", metavar="NAME", help="The variable to differentiate by; all by default.")
@order_option
@click.option("--latex", is_flag=True, help="Give the formula too, as LaTeX source.")
@json_option
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

    function, point = function_and_point(expression, at)
    backends = tuple(BACKENDS) if backend == "all" else (backend,)
    with quiet():
        result = compute(function, point, backends=backends, order=order, wrt=wrt, latex=latex)
    if as_json or not result.refused:
        show(result, as_json)
    if result.refused:
        fail_for(result.results)


@main.command()
@click.argument("expression", required=False)
@at_option
@click.option(
    "--problem",
    type=PROBLEM,
    metavar="NAME",
    help="A named problem; `diffkit problems` lists them.",
)
@order_option
@json_option
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
        f, point = function_and_point(expression, at)
        arguments = (point if len(f.variables) > 1 else next(iter(point.values())),)
    with quiet():
        result = compute(f, *arguments, order=order)
    show(result, as_json)


@main.command()
@click.argument("expression", required=False)
@at_option
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
@json_option
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
        what, point = function_and_point(expression, at)
        arguments = (point if len(what.variables) > 1 else next(iter(point.values())),)
    elif at or order != 1:
        raise click.UsageError("A family has points and orders of its own.")
    chosen = None if sizes is None else sizes_of(sizes)
    with quiet():
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
    show(result, as_json)


@main.command()
@json_option
def problems(as_json: bool) -> None:
    """List the named problems."""
    from diffkit.display import Display, to_json
    from diffkit.problems import PROBLEMS

    rows = tuple((p.name, p.description) for p in PROBLEMS.values())
    if as_json:
        click.echo(to_json([{"name": name, "description": text} for name, text in rows]))
        return
    table = Display((), ("problem", "what it is"), rows, left=2)
    print_table(table.text(), table.rich)


@main.command()
@click.option("--network", type=NETWORK, required=True, metavar="NAME", help="Such as iris-mlp.")
@json_option
def validate(network: str, as_json: bool) -> None:
    """Check every backend on a network's loss.

    Each gradient is held against the symbolic one, parameter by parameter.
    """
    from diffkit.nn.zoo import network as build
    from diffkit.validation.crosscheck import cross_check

    case = build(network)
    with quiet():
        result = cross_check(case.loss, case.parameters, *case.data, name=case.name)
    show(result, as_json)
    if result.verdict != "agree":
        fail(f"the backends do not agree on {case.name}: {result.verdict}")


@main.command()
@click.argument("expression", required=False)
@at_option
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
        f, point = function_and_point(str(expression), at)
        argument = point if len(f.variables) > 1 else next(iter(point.values()))
        with quiet():
            found = computational_graph(f, argument)
    show_graph(found, form, out)


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
