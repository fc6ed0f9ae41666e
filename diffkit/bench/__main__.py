"""`python -m diffkit.bench`: time gradients here, and print the ratios."""

from __future__ import annotations

import click

from diffkit.bench.contestants import PEERS
from diffkit.bench.run import Measurement, measure
from diffkit.bench.workloads import WORKLOADS
from diffkit.errors import DiffkitError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[WORKLOAD]...")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Spent on timing, per contestant and workload.",
)
@click.option("--json", "as_json", is_flag=True, help="Print strict JSON.")
def main(names: tuple[str, ...], seconds: float, as_json: bool) -> None:
    """Time one value and gradient of each WORKLOAD (all of them by default).

    Every gradient is checked first, by a difference of the plain function along a random
    direction. Contestants take turns, so that a busy machine slows all of them alike; read the
    ratios, not the times. For one thread of linear algebra, set OPENBLAS_NUM_THREADS=1 and
    OMP_NUM_THREADS=1. Peers that are not installed are left out.
    """
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(WORKLOADS)}.")
    chosen = names or tuple(WORKLOADS)
    try:
        if as_json:
            _print_json(chosen, seconds)
        else:
            _print_tables(chosen, seconds)
    except DiffkitError as error:
        raise click.ClickException(str(error)) from error


def _print_json(names: tuple[str, ...], seconds: float) -> None:
    import json

    results = [measure(WORKLOADS[name], seconds).to_dict() for name in names]
    click.echo(json.dumps(results, indent=2, allow_nan=False))


def _print_tables(names: tuple[str, ...], seconds: float) -> None:
    from rich.console import Console

    console = Console()
    absent = [peer.name for peer in PEERS if not peer.installed]
    if absent:
        console.print(f"Not installed, hence left out: {', '.join(absent)}.")
    for name in names:
        measurement = measure(WORKLOADS[name], seconds)
        console.print(_table(measurement))
        for row in measurement.rows:
            if row.remark:
                console.print(f"{row.contestant}: {row.remark}", style="dim")


def _table(measurement: Measurement) -> object:
    from rich.table import Table

    table = Table(title=measurement.workload, title_justify="left", title_style="bold")
    table.add_column("gradient by", no_wrap=True)
    table.add_column("µs a call", justify="right")
    table.add_column(f"ratio to {measurement.base}", justify="right")
    for row in measurement.rows:
        ratio = measurement.ratio(row)
        if row.seconds is not None and ratio is not None:
            table.add_row(row.contestant, f"{row.seconds * 1e6:,.1f}", f"{ratio:,.2f}")
    return table


if __name__ == "__main__":
    main()
