"""How results look: one table, in a terminal, in colour and in a notebook; and strict JSON."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Display:
    """A heading, a table under it and remarks below.

    Attributes:
        heading: lines above the table.
        columns: names; those in `left` are aligned to the left.
        rows: text, one cell per column. A row that is shorter lets its last cell run on.
        remarks: lines below the table.
        left: how many columns from the first hold text rather than numbers.
    """

    heading: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...] = ()
    left: int = 1

    def text(self) -> str:
        """Return plain text."""
        whole = [self.columns, *(row for row in self.rows if len(row) == len(self.columns))]
        widths = [max(len(row[i]) for row in whole) for i in range(len(self.columns))]
        for row in self.rows:
            for i, cell in enumerate(row[:-1]):
                widths[i] = max(widths[i], len(cell))
        lines = [self._line(row, widths) for row in (self.columns, *self.rows)]
        lines.insert(1, "  ".join("-" * width for width in widths))
        above = [*self.heading, ""] if self.heading else []
        return "\n".join([*above, *lines, *self._below()])

    def _below(self) -> tuple[str, ...]:
        return ("", *self.remarks) if self.remarks else ()

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        short = len(row) < len(self.columns)
        cells = [
            cell
            if short and i == len(row) - 1
            else cell.ljust(width)
            if i < self.left
            else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        return "  ".join(cells).rstrip()

    def rich(self) -> Any:
        """Return a renderable for rich; nothing in the text is taken for markup."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for i, column in enumerate(self.columns):
            side = "left" if i < self.left else "right"
            table.add_column(Text(column), justify=side, overflow="fold")  # type: ignore[arg-type]
        below = []
        for row in self.rows:
            if len(row) == len(self.columns):
                table.add_row(*(Text(cell) for cell in row))
            else:
                table.add_row(*(Text(cell) for cell in row[:-1]))
                below.append(f"{row[0]} {row[-1]}")
        foot = [Text(line) for line in (*below, *self.remarks)]
        head = [Text(line) for line in (*self.heading, "")] if self.heading else []
        return Group(*head, table, *([Text()] if foot else []), *foot)

    def html(self) -> str:
        """Return HTML, with everything escaped."""
        sides = ["left" if i < self.left else "right" for i in range(len(self.columns))]
        head = "".join(
            f'<th style="text-align:{side}">{escape(column)}</th>'
            for side, column in zip(sides, self.columns, strict=True)
        )
        body = "".join(f"<tr>{self._html_cells(row, sides)}</tr>" for row in self.rows)
        above = "".join(f"<div>{escape(line)}</div>" for line in self.heading)
        below = "".join(f"<div>{escape(line)}</div>" for line in self.remarks)
        return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"

    def _html_cells(self, row: Sequence[str], sides: Sequence[str]) -> str:
        missing = len(self.columns) - len(row)
        cells = [
            f'<td style="text-align:{side}">{escape(cell)}</td>'
            for cell, side in zip(row, sides, strict=False)
        ]
        if missing:
            wide = f'<td colspan="{missing + 1}" style="text-align:left">{escape(row[-1])}</td>'
            cells[-1] = wide
        return "".join(cells)


class Displayed(ABC):
    """What a result needs to print well in a terminal and a notebook: `_display`, and this."""

    @abstractmethod
    def _display(self) -> Display:
        """The title, the table and the remarks."""

    def __str__(self) -> str:
        return self._display().text()

    def __rich__(self) -> Any:
        return self._display().rich()

    def _repr_html_(self) -> str:
        return self._display().html()


def to_json(content: Any) -> str:
    """Return strict JSON: numbers that are not finite become the strings nan, inf and -inf."""
    return json.dumps(_plain(content), allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    return value.item() if isinstance(value, np.generic) else value


def number(value: float | str | None) -> float | None:
    """Return the number that `to_json` wrote."""
    return None if value is None else float(value)


def short(value: float | None, digits: int = 3) -> str:
    """Return a number with few digits, for reading."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}"
