"""`report`: compute chapters, and write their figures, data and the page."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from diffkit.errors import InvalidInput
from diffkit.files import write_whole
from diffkit.reporting.figures import watched
from diffkit.reporting.page import Chapter, render, stored_chapter

# Every chapter in the order of reading: its name, and the module whose `chapter` makes it.
CHAPTERS: Final[dict[str, str]] = {
    "round-off": "diffkit.reporting.chapters.round_off",
    "finite-differences": "diffkit.reporting.chapters.finite_differences",
    "expression-swell": "diffkit.reporting.chapters.expression_swell",
    "delta-recursion": "diffkit.reporting.chapters.delta_recursion",
    "networks": "diffkit.reporting.chapters.networks",
    "essays": "diffkit.reporting.chapters.essays",
    "coverage": "diffkit.reporting.chapters.coverage",
}


def report(
    *chapters: str,
    out: str | os.PathLike[str] = "reports",
    quick: bool = False,
    jobs: int = 1,
    progress: bool | None = None,
) -> Path:
    """Return the path of the page, after making the named chapters, or all of them.

    Args:
        chapters: names out of `CHAPTERS`.
        out: the directory to write to. Chapters that are there already stay on the page;
            files that no chapter owns are left alone.
        quick: coarser grids and smaller cases, in seconds.
        jobs: how many chapters to compute at once; -1 for one on each core.
        progress: show a progress bar; None for if standard error is a terminal.

    Raises:
        InvalidInput: a chapter is unknown, `jobs` is 0, or `out` cannot be written to.
    """
    names = _chosen(chapters)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0:
        raise InvalidInput(f"jobs={jobs!r} must be a number of processes, or -1 for every core")
    folder = Path(out)
    try:
        for part in ("figures", "data"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        with _shown(names, progress) as shown, watched(shown.figure):
            for chapter in _computed(names, quick, jobs):
                for path, text in chapter.files().items():
                    write_whole(folder / path, text)
                shown.chapter()
        page = folder / "index.html"
        write_whole(page, render(*_present(folder)))
    except OSError as error:
        raise InvalidInput(f"the report cannot be written to {folder}: {error}") from error
    return page


def make(name: str, quick: bool) -> Chapter:
    """Return one chapter, computed."""
    function: Callable[[bool], Chapter] = import_module(CHAPTERS[name]).chapter
    return function(quick)


def _chosen(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in CHAPTERS]
    if unknown:
        raise InvalidInput(f"unknown chapter {unknown[0]!r}; choose among {', '.join(CHAPTERS)}")
    return [name for name in CHAPTERS if name in names or not names]


def _computed(names: Sequence[str], quick: bool, jobs: int) -> Iterable[Chapter]:
    """The chapters in the order of `names`, each as soon as it is ready."""
    if jobs == 1 or len(names) == 1:
        return (make(name, quick) for name in names)
    from joblib import Parallel, delayed

    run = Parallel(n_jobs=jobs, return_as="generator")
    results: Iterable[Chapter] = run(delayed(make)(name, quick) for name in names)
    return results


@dataclass(frozen=True)
class _Progress:
    """What is called when a figure has been drawn, and when a chapter is done."""

    figure: Callable[[], Any]
    chapter: Callable[[], Any]


@contextmanager
def _shown(names: Sequence[str], progress: bool | None) -> Iterator[_Progress]:
    """A progress bar on standard error, or nothing.

    It counts chapters, and names the one at work with the figures drawn so far; chapters that
    are computed in other processes are done before they are seen here.
    """
    if not (sys.stderr.isatty() if progress is None else progress):
        yield _Progress(lambda: None, lambda: None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    waiting = iter([*names, "writing the page"])
    with Progress(*columns, console=Console(stderr=True)) as bar:
        current, figures = next(waiting), 0
        task = bar.add_task(current, total=len(names))

        def figure() -> None:
            nonlocal figures
            figures += 1
            bar.update(task, description=f"{current}, {figures} figure{'s' * (figures > 1)} drawn")

        def chapter() -> None:
            nonlocal current, figures
            current, figures = next(waiting), 0
            bar.update(task, advance=1, description=current)

        yield _Progress(figure, chapter)


def _present(folder: Path) -> tuple[list[Chapter], list[str]]:
    """The chapters stored in the folder, and the names of those that cannot be read."""

    def read(path: str) -> str:
        return (folder / path).read_text("utf-8")

    chapters, unreadable = [], []
    for name in CHAPTERS:
        file = folder / "data" / f"{name}.json"
        if not file.exists():
            continue
        try:
            chapters.append(stored_chapter(file.read_text("utf-8"), read))
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            unreadable.append(name)
    return chapters, unreadable
