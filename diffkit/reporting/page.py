"""What a report consists of, and the page that shows it.

A chapter is plain data. It is stored as JSON beside its figures, so that the page can be
written anew from every chapter that is there when only one of them has been regenerated.
"""

from __future__ import annotations

import csv
import io
import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

FORMAT: Final = 1  # of the stored chapters; a page shows those of its own format alone
Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of data under named columns.

    Attributes:
        name: of its file in `data/`.
        caption: what the rows are.
        columns: headings, with units.
        rows: numbers, text, and None where there is nothing to tell.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def csv(self) -> str:
        """Return the table as comma-separated values, every digit kept."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()


@dataclass(frozen=True)
class Picture:
    """A figure as a reader meets it: panels that stand side by side where there is room.

    Attributes:
        name: of its files in `figures/`.
        caption: what to see in it.
        alt: the same for somebody who cannot see it.
        panels: the title and the SVG of each.
    """

    name: str
    caption: str
    alt: str
    panels: tuple[tuple[str, str], ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The path of each panel's file below the report."""
        return tuple(f"figures/{self.name}-{i}.svg" for i in range(1, len(self.panels) + 1))


@dataclass(frozen=True)
class Section:
    """One point that a chapter makes.

    Attributes:
        title: a heading.
        text: paragraphs.
        picture: the figure; None if the table says it all.
        shown: the table beside it.
        data: every number behind the figure, for the CSV file.
        timed: whether it holds timings, which differ from one run to the next.
    """

    title: str
    text: tuple[str, ...]
    picture: Picture | None
    shown: Table
    data: Table
    timed: bool = False

    @property
    def name(self) -> str:
        """What its heading is called in links."""
        return self.picture.name if self.picture else self.data.name


@dataclass(frozen=True)
class Chapter:
    """A chapter of the report.

    Attributes:
        name: as in `diffkit report NAME`.
        title: a heading.
        summary: what it shows, in a sentence or two.
        command: the command that makes it.
        sections: in the order of reading.
    """

    name: str
    title: str
    summary: str
    command: str
    sections: tuple[Section, ...]

    def files(self) -> dict[str, str]:
        """Return the text of each file of the chapter, by its path below the report."""
        pictures = [s.picture for s in self.sections if s.picture]
        files = {
            path: svg
            for picture in pictures
            for path, (_, svg) in zip(picture.files, picture.panels, strict=True)
        }
        files |= {f"data/{s.data.name}.csv": s.data.csv() for s in self.sections}
        return files | {f"data/{self.name}.json": self.to_json()}

    def to_json(self) -> str:
        """Return the chapter as JSON; the drawings stay in their own files."""
        content = asdict(self)
        for section in content["sections"]:
            if picture := section["picture"]:
                picture["panels"] = [title for title, _ in picture["panels"]]
        return json.dumps({"format": FORMAT, **content}, indent=1, ensure_ascii=False) + "\n"


def command(name: str, quick: bool) -> str:
    """Return the command that makes a chapter as it is."""
    return f"diffkit report {name}{' --quick' if quick else ''}"


def stored_chapter(text: str, read: Callable[[str], str]) -> Chapter:
    """Return the chapter that `Chapter.to_json` wrote.

    Args:
        text: the JSON.
        read: returns the text of a file by its path below the report.

    Raises:
        KeyError, TypeError, ValueError: it is not a chapter of this format.
    """
    content = json.loads(text)
    if content.pop("format") != FORMAT:
        raise ValueError("a chapter of another format")
    sections = tuple(
        Section(
            title=s["title"],
            text=tuple(s["text"]),
            picture=_picture(s["picture"], read) if s["picture"] else None,
            shown=_table(s["shown"]),
            data=_table(s["data"]),
            timed=s.get("timed", False),
        )
        for s in content.pop("sections")
    )
    return Chapter(**content, sections=sections)


def _picture(content: dict[str, Any], read: Callable[[str], str]) -> Picture:
    titles = content.pop("panels")
    paths = Picture(**content, panels=tuple((title, "") for title in titles)).files
    return Picture(**content, panels=tuple(zip(titles, map(read, paths), strict=True)))


def _table(content: dict[str, Any]) -> Table:
    rows = tuple(tuple(row) for row in content.pop("rows"))
    return Table(**{**content, "columns": tuple(content["columns"])}, rows=rows)


def render(chapters: Sequence[Chapter], unreadable: Sequence[str] = ()) -> str:
    """Return the page, one HTML document that needs no other file.

    Args:
        chapters: in the order of reading.
        unreadable: names of chapters that are there and cannot be shown.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("diffkit.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": formatted, "image": _image}
    return environment.get_template("index.html").render(chapters=chapters, unreadable=unreadable)


def formatted(cell: Cell) -> str:
    """Return a number as a reader wants it in a table: few digits, integers grouped."""
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, int):
        return f"{cell:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return scientific(cell) if isinstance(cell, float) else cell


def scientific(value: float) -> str:
    """Return a number with two or three digits, and a power of ten where it is far from 1."""
    if value == 0 or 0.01 <= abs(value) < 1e4:
        return f"{value:.3g}"
    digits, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}\N{MULTIPLICATION SIGN}10{raised}"


def _image(svg: str) -> str:
    """An SVG as a data URI: as an image it keeps its ids to itself."""
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode("ascii")
