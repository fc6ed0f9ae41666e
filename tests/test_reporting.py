"""`report`: chapters of figures, data and one page, the same bytes each time."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.comparison.forms import FORMS
from diffkit.reporting import build
from diffkit.reporting.chapters import round_off
from diffkit.reporting.difference_peers import METHODS, PEERS, measured
from diffkit.reporting.difference_studies import sampled
from diffkit.reporting.figures import COLOURS, Curve, Mark, Panel, bitmap, drawing, watched
from diffkit.reporting.page import Chapter, Picture, Section, Table, formatted, render


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    page = dk.report(out=folder, quick=True, progress=False)
    assert page == folder / "index.html"
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# ---------------------------------------------------------------------- the facts


def chapters(folder: Path) -> list[dict[str, Any]]:
    """The stored chapters in the order of reading."""
    return [json.loads((folder / "data" / f"{n}.json").read_text("utf-8")) for n in build.CHAPTERS]


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "data" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_expression_swell_is_the_published_one(out: Path) -> None:
    """Baydin et al., JMLR 18(153), 2018, Table 1, by sympy.count_ops."""
    table = rows(out, "expression-swell-logistic")
    assert [int(row["function"]) for row in table] == [0, 3, 8, 18, 38, 78]
    assert [int(row["tree"]) for row in table] == [0, 2, 21, 82, 264, 768]
    assert [int(row["expanded"]) for row in table] == [0, 2, 8, 20, 44, 92]


def test_shared_programs_grow_by_a_constant(out: Path) -> None:
    for column in ("symbolic", "tape"):
        counts = [int(row[column]) for row in rows(out, "expression-swell-logistic")][1:]
        assert len({b - a for a, b in pairwise(counts)}) == 1


def test_the_swell_of_every_form_is_told_with_its_refusals(out: Path) -> None:
    table = rows(out, "expression-swell-families")
    forms = {row["form"] for row in table}
    assert forms == {"multiplied out", *FORMS}
    for row in table:
        assert (row["tree"] == "") == (row["refusal"] != "")


def test_the_digits_that_multiplying_out_costs_are_told(out: Path) -> None:
    table = rows(out, "expression-swell-digits")
    errors = {
        row["form"]: float(row["error_ulps"])
        for row in table
        if row["family"] == "logistic" and row["size"] == "6"
    }
    assert errors["multiplied out"] > 1e6 * errors["shared"]


def test_steps_are_best_where_predicted_in_every_precision(out: Path) -> None:
    chapter = json.loads((out / "data" / "finite-differences.json").read_text("utf-8"))
    best = [row for row in chapter["sections"][0]["shown"]["rows"] if row[4] is not None]
    assert len(best) == 6 * 4
    for dtype, _, step, error, predicted_step, predicted_error in best:
        assert predicted_step / 10 < step < 10 * predicted_step
        assert error < 3 * predicted_error
        # In half precision a few of some 30 steps are right by luck.
        assert dtype == "float16" or error > predicted_error / 30


def test_estimates_cover_the_true_errors(out: Path) -> None:
    table = [r for r in rows(out, "finite-differences-estimates") if r["status"] == "converged"]
    covered = sum(float(row["true"]) <= float(row["estimated"]) for row in table)
    assert len(table) > 100
    assert covered >= 0.99 * len(table)


def test_a_kink_a_jump_and_noise_do_not_pass_for_derivatives(out: Path) -> None:
    table = {row["function"]: row["status"] for row in rows(out, "finite-differences-hard")}
    assert table["|x| at its kink"] == "kink"
    assert table["|x| close to its kink"] == "converged"
    assert table["sin x, rounded to six decimals"] == "noisy"
    assert table["sin x, computed in float32"] == "noisy"
    assert table["a jump, sign x at 0"] != "converged"
    assert table["√x at its edge"] != "converged"


def test_other_packages_are_measured_on_the_points_of_the_chapter() -> None:
    def differences(f: Any) -> Any:
        steps = 1e-6 * np.diag(np.maximum(np.abs(f.x), 1))
        pairs = f.columns((f.x + steps).T) - f.columns((f.x - steps).T)
        return pairs / (2 * np.diag(steps))

    points = sampled(0)
    found = measured(differences, points)
    assert found.points == found.answered == len(points)
    assert found.evaluations == 2
    assert found.median < 1e-9

    def refusing(f: Any) -> Any:
        return differences(f) if f.x.size > 1 else 1 / 0

    assert 0 < measured(refusing, points).answered < len(points)
    assert list(PEERS) == list(METHODS)
    assert {peer.points for peer in PEERS.values()} == {9 * len(points)}


def test_the_formulas_of_backpropagation_agree_with_the_tape(out: Path) -> None:
    chapter = json.loads((out / "data" / "delta-recursion.json").read_text("utf-8"))
    agreement = chapter["sections"][0]["shown"]["rows"]
    assert len(agreement) == 6
    assert all(difference < 1e-15 for *_, difference in agreement)


@pytest.mark.parametrize(("h", "published"), round_off.PUBLISHED.items())
def test_the_published_errors_of_differences_are_reproduced(
    h: float, published: tuple[float, float]
) -> None:
    """Baydin et al. 2018, Figure 3: to the two digits given."""
    study = round_off._study("logistic-4", "")
    measured = [study.error(scheme, h) for scheme in (round_off.FORWARD, round_off.CENTRAL)]
    assert measured == pytest.approx(published, rel=0.05)


def test_the_best_measured_step_is_near_the_predicted_one(out: Path) -> None:
    chapter = json.loads((out / "data" / "round-off.json").read_text("utf-8"))
    best = chapter["sections"][1]["shown"]["rows"]
    predicted = [row for row in best if row[3] is not None]
    assert len(predicted) == 8
    for _, step, error, predicted_step, predicted_error in predicted:
        assert predicted_step / 10 < step < 10 * predicted_step
        assert predicted_error / 10 < error < 3 * predicted_error


def test_a_lucky_error_is_not_the_best_step() -> None:
    steps = [float(h) for h in range(9)]
    errors = [1e-1, 1e-2, 1e-12, 1e-3, 1e-4, 1e-4, 1e-3, 1e-2, 1e-1]
    assert round_off._best(steps, errors) == (5.0, 1e-4)


def test_the_complex_step_has_no_round_off_arm(out: Path) -> None:
    table = rows(out, "round-off-orders")
    columns = [name for name in table[0] if name.endswith("complex step")]
    assert len(columns) == 4
    for name in columns:
        errors = [float(row[name]) for row in table if float(row["h"]) < 1e-9]
        assert max(errors) < 1e-13


# ---------------------------------------------------------------------- the page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_needs_no_other_file(out: Path) -> None:
    text = (out / "index.html").read_text("utf-8")
    page = Page(text)
    assert not page.all("script")
    assert not page.all("link")
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)
    assert all(
        str(image["src"]).startswith("data:image/svg+xml;base64,") for image in page.all("img")
    )


def test_every_figure_has_a_text_and_every_section_its_table_and_command(out: Path) -> None:
    text = (out / "index.html").read_text("utf-8")
    page = Page(text)
    told = chapters(out)
    count = sum(len(chapter["sections"]) for chapter in told)
    assert len(page.all("table")) == count
    pictured = sum(section["picture"] is not None for c in told for section in c["sections"])
    assert len(page.all("figure")) == text.count("<figcaption>") == pictured
    assert all(image["alt"] for image in page.all("img"))
    for chapter in told:
        command = f"<code>diffkit report {chapter['name']} --quick</code>"
        assert text.count(command) == len(chapter["sections"])
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    below = [["h2", *["h3"] * len(chapter["sections"])] for chapter in told]
    assert headings == ["h1", *(tag for tags in below for tag in tags)]


def test_every_link_leads_to_a_file(out: Path) -> None:
    page = Page((out / "index.html").read_text("utf-8"))
    targets = [str(link["href"]) for link in page.all("a")]
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert len(targets) > 10
    for target in targets:
        assert target[1:] in anchors if target.startswith("#") else (out / target).is_file()


def test_drawings_are_well_formed_and_name_no_place_or_time(out: Path) -> None:
    drawings = list((out / "figures").glob("*.svg"))
    sections = [section for chapter in chapters(out) for section in chapter["sections"]]
    pictures = [section["picture"] for section in sections if section["picture"]]
    assert len(drawings) == sum(len(picture["panels"]) for picture in pictures)
    for file in drawings:
        ET.fromstring(file.read_text("utf-8"))
        assert "<dc:date>" not in file.read_text("utf-8")


def without_timings(folder: Path) -> dict[str, bytes]:
    """Every file, but for what the sections hold that say they are timings."""
    kept = contents(folder)
    page = kept["index.html"].decode()
    page, cut = re.subn(r'<section [^>]*class="timed">.*?</section>', "", page, flags=re.S)
    kept["index.html"] = page.encode()
    timed = 0
    for chapter in chapters(folder):
        for section in chapter["sections"]:
            if section["timed"]:
                timed += 1
                names = [section["data"]["name"], section["picture"]["name"]]
                kept = {k: v for k, v in kept.items() if not any(f"/{n}" in k for n in names)}
        chapter["sections"] = [s for s in chapter["sections"] if not s["timed"]]
        kept[f"data/{chapter['name']}.json"] = json.dumps(chapter).encode()
    assert cut == timed >= 1
    return kept


def test_the_same_command_gives_the_same_bytes(out: Path, tmp_path: Path) -> None:
    dk.report(out=tmp_path, quick=True, jobs=2, progress=False)
    assert without_timings(tmp_path) == without_timings(out)


def test_timings_say_that_they_are(out: Path) -> None:
    text = (out / "index.html").read_text("utf-8")
    (section,) = re.findall(r'<section [^>]*class="timed">.*?</section>', text, flags=re.S)
    assert "These are timings" in section
    assert "expression-swell-time.csv" in section


def test_what_is_not_ascii_or_html_is_escaped() -> None:
    table = Table("t", "<i>caption</i>", ("<b>",), (("<script>",),))
    picture = Picture("p", "a & b", '"quoted"', (("one", "<svg/>"),))
    chapter = Chapter("c", "<title>", "ü", "cmd", (Section("s", ("p",), picture, table, table),))
    page = render([chapter])
    assert "<script>" not in page
    assert "<i>caption" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "\u2013"), (0, "0"), (1234567, "1\u202f234\u202f567"), (0.0, "0"),
        (0.25, "0.25"), (1.2345e-9, "1.2\u00d710⁻⁹"), ("l₄", "l₄"), (-276570.5, "-2.8\u00d710⁵"),
    ],
)  # fmt: skip
def test_numbers_are_shown_short(cell: Any, text: str) -> None:
    assert formatted(cell) == text


# ---------------------------------------------------------------------- writing


def fake(name: str) -> Chapter:
    table = Table(f"{name}-data", "rows", ("n",), ((1,), (2,)))
    panel = Panel("p", "x", "y", (Curve("c", [1, 2], [1.0, 10.0]),), log_x=False)
    picture = Picture(f"{name}-picture", "see", "see", (("p", drawing(panel)),))
    section = Section("s", ("text",), picture, table, table)
    return Chapter(name, name.title(), "summary", f"diffkit report {name}", (section,))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the chapters made, each instantly."""
    names: list[str] = []

    def make(name: str, quick: bool) -> Chapter:
        names.append(name)
        return fake(name)

    monkeypatch.setattr(build, "make", make)
    return names


def test_only_named_chapters_are_made_and_the_page_keeps_the_others(
    made: list[str], tmp_path: Path
) -> None:
    dk.report("round-off", out=tmp_path)
    assert made == ["round-off"]
    assert "expression-swell" not in (tmp_path / "index.html").read_text("utf-8")
    page = dk.report("expression-swell", out=tmp_path)
    assert made == ["round-off", "expression-swell"]
    text = page.read_text("utf-8")
    assert text.index('id="round-off"') < text.index('id="expression-swell"')


def test_files_of_others_are_left_alone(made: list[str], tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.svg").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    dk.report(out=tmp_path)
    assert (tmp_path / "figures" / "mine.svg").read_text() == "mine"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interruption_leaves_what_was_there(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dk.report(out=tmp_path)
    before = contents(tmp_path)

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dk.report(out=tmp_path)
    assert contents(tmp_path) == before


def test_a_stored_chapter_that_cannot_be_read_is_named_on_the_page(
    made: list[str], tmp_path: Path
) -> None:
    dk.report(out=tmp_path)
    (tmp_path / "data" / "expression-swell.json").write_text('{"format": 0}')
    page = dk.report("round-off", out=tmp_path)
    assert "diffkit report expression-swell" in page.read_text("utf-8")
    (tmp_path / "data" / "expression-swell.json").write_text("[1]")
    dk.report("round-off", out=tmp_path)


def test_an_unknown_chapter_is_refused_with_the_list() -> None:
    with pytest.raises(dk.InvalidInput, match="round-off, finite-differences, expression-swell"):
        dk.report("round-of")


@pytest.mark.parametrize("jobs", [0, 1.5, True])
def test_a_number_of_jobs_that_is_none_is_refused(jobs: Any, tmp_path: Path) -> None:
    with pytest.raises(dk.InvalidInput, match="jobs"):
        dk.report(out=tmp_path, jobs=jobs)


def test_a_place_that_cannot_be_written_to_is_refused(made: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(dk.InvalidInput, match="cannot be written"):
        dk.report(out=file)
    assert made == []


def test_progress_is_shown_on_standard_error_alone(
    made: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dk.report(out=tmp_path, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert f"{len(build.CHAPTERS)}/{len(build.CHAPTERS)}" in shown.err


# ---------------------------------------------------------------------- drawing


def test_a_panel_draws_to_svg_and_png_without_global_state() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    panel = Panel(
        "title",
        "x",
        "y",
        (Curve("measured", [1.0, 10.0], [1.0, 2.0]),
         Curve("theory", [1.0, 10.0], [1.0, 2.0], "black", measured=False)),
        (Mark("best", 2.0, 1.5, "orange"),),
        x_limits=(0.5, 20),
        y_limits=(0.5, 5),
    )  # fmt: skip
    assert drawing(panel) == drawing(panel)
    assert bitmap(panel).startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before


def test_each_figure_that_is_drawn_is_announced() -> None:
    panel = Panel("p", "x", "y", (Curve("c", [1, 2], [1.0, 10.0]),), log_x=False)
    drawn: list[int] = []
    with watched(lambda: drawn.append(1)):
        drawing(panel)
        bitmap(panel)
    drawing(panel)
    assert drawn == [1, 1]


def test_colours_are_distinct() -> None:
    assert len(set(COLOURS.values())) == len(COLOURS) == 7


def test_full_size_grids_contain_the_quick_ones() -> None:
    assert set(round_off._steps(4)) <= set(round_off._steps(12))
    assert {1e-16, 1e-8, 1e-1, 1.0} <= set(round_off._steps(4))
