"""Chapter `coverage`: no function of NumPy is wrong, and each that is missing is refused."""

from __future__ import annotations

import numpy as np
import pytest

from diffkit.reporting.chapters import coverage

REFUSED = {
    "numpy": {
        *("frexp", "histogram", "histogram2d", "histogram_bin_edges", "histogramdd", "intersect1d"),
        *("ix_", "nextafter", "polydiv", "roots", "setdiff1d", "setxor1d", "sort_complex"),
        *("spacing", "union1d", "unique_all", "unique_counts", "unique_inverse", "unique_values"),
    },
    "numpy.linalg": {"eig", "eigvals"},
    "numpy.fft": set(),
}
EXAMPLES = {
    (module, name): call for module in REFUSED for name, call in coverage.examples(module).items()
}


@pytest.mark.parametrize("module", coverage.MODULES)
def test_every_function_has_an_example(module: str) -> None:
    assert [name for name, call in coverage.examples(module).items() if call is None] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "name"), EXAMPLES)
def test_a_function_is_right_or_refused_by_name(module: str, name: str) -> None:
    call = EXAMPLES[module, name]
    assert call is not None
    with np.errstate(all="ignore"):
        outcome, reason = coverage.by_tape(call)
    last = name.rpartition(".")[2]
    if last not in REFUSED[module]:
        assert outcome in ("derivative", "constant"), reason
        return
    assert outcome == "refused"
    assert last in reason or last == "ix_"


def test_a_chapter_tells_what_each_backend_has() -> None:
    chapter = coverage.chapter(quick=True)
    algebra, fourier = chapter.sections
    assert {row[0] for row in algebra.data.rows} == set(coverage.examples("numpy.linalg"))
    by_name = {row[0]: row for row in (*algebra.data.rows, *fourier.data.rows)}
    assert by_name["np.linalg.eigh"][2:5] == ("derivative", "none", "certified")
    assert by_name["np.linalg.det"][2:5] == ("derivative", "formula", "certified")
    assert by_name["np.linalg.eig"][2] == "refused"
    assert by_name["np.fft.rfft"][2:5] == ("derivative", "formula", "certified")
    counts = [row[3] for row in algebra.shown.rows]
    assert sum(n for n in counts if isinstance(n, int)) == len(algebra.data.rows)
