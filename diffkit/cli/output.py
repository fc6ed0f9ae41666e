"""What the commands print, and how they end: tables, files, one line for an error."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from diffkit.errors import DiffkitError, ParseError
from diffkit.files import write_whole

if TYPE_CHECKING:
    from diffkit.differentiation import Derivative
    from diffkit.graphs import ComputationalGraph

UNWRITABLE = (errno.ENOSPC, errno.EFBIG, errno.EIO)


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


def show(result: Any, as_json: bool) -> None:
    if as_json:
        click.echo(result.to_json())
    else:
        print_table(str(result), result.__rich__)


def show_graph(graph: ComputationalGraph, form: str, out: str | None) -> None:
    if form == "text" and out is None:
        print_table(str(graph), graph.__rich__)
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
        write_whole(Path(out), content)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}") from error
    click.echo(f"The graph is at {out}")


def print_table(text: str, rich: Callable[[], Any]) -> None:
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


def quiet() -> Any:
    """NumPy's own warnings off: what is not finite is reported as such."""
    import numpy as np

    return np.errstate(all="ignore")


def _line(text: str) -> str:
    return " ".join(text.split())


def fail_for(refusals: Sequence[Derivative]) -> NoReturn:
    """Fail for the one backend that was asked, or for all of them, a line each."""
    if len(refusals) == 1:
        fail(str(refusals[0].error))
    lines = [f"{r.backend}: {_line(str(r.error))}" for r in refusals]
    raise click.ClickException("\n".join(["every backend refuses", *lines]))


def fail(message: str) -> NoReturn:
    raise click.ClickException(_line(message))
