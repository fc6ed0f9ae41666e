"""The chapters on networks and on the essays: their numbers are what their texts say."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from diffkit import gradient
from diffkit.nn import RELU, SELU, SIGMOID, TANH, softmax
from diffkit.reporting import misprints
from diffkit.reporting import network_studies as studies
from diffkit.reporting.chapters import essays, networks
from diffkit.reporting.network_panels import rounded
from diffkit.reporting.page import Chapter, stored_chapter

# ---------------------------------------------------------------------- essays


@pytest.fixture(scope="module")
def told() -> Chapter:
    return essays.chapter(quick=True)


def test_every_misprint_is_in_the_chapter_with_its_evidence(told: Chapter) -> None:
    rows = [row for section in told.sections for row in section.shown.rows]
    assert len(rows) == len(misprints.misprints()) == 12
    assert all(all(row) for row in rows)
    found = {m.printed: m.found for m in misprints.misprints()}
    assert found["th(th(x₁ + x₂ - 1.5) + th(-x₁ - x₂ + 0.5) - 0.5)"].startswith("1, 0, 0, 1")
    assert "disagree, at x[3]" in found["-a_y - a_max + log Σ exp(a_j - a_max)"]
    assert "disagree, disagree, disagree" in found["∂J/∂a_i = Σ_m ∂J/∂a_m a'_m w_mj"]
    assert "SELU: 1.758, 1.051" in found["α (eˣ - 1) for x < 0, any α"]
    assert "(1, 3) and (2, 3) do not multiply" in found["a_l = φ(W_(l-1) a_(l-1) + b_l)"]
    assert "-5 at x = -5" in found["x/2 (1 + tanh(√(2/π) (x + 0.44715 x²)))"]


def test_the_right_cross_entropy_is_the_right_one() -> None:
    a, y = misprints.LOGITS, misprints.RIGHT_CLASS
    assert misprints.right_cross_entropy(a, y) == pytest.approx(-np.log(softmax(a)[y]), rel=1e-14)
    got = gradient(misprints.right_cross_entropy, a, y)
    np.testing.assert_allclose(got, softmax(a) - np.eye(4)[y], rtol=1e-13)


def test_descent_along_the_printed_gradient_leads_away(told: Chapter) -> None:
    table = list(csv.DictReader(io.StringIO(told.sections[2].data.csv())))
    printed = [float(row["descent, printed"]) for row in table]
    right = [float(row["descent, right"]) for row in table]
    assert printed[-1] > printed[0]
    assert all(b < a for a, b in pairwise(right))
    level = {float(row["right"]) for row in table}
    assert max(level) - min(level) < 1e-6


def test_the_three_adjoints_as_printed_are_one_number() -> None:
    step = misprints.backpropagation_step()
    assert len(set(step.right.tolist())) == 3
    for j, printed in enumerate(step.printed):
        np.testing.assert_allclose(printed, step.right[j], rtol=1e-13)
    assert step.verdicts == ("agree", "disagree", "disagree", "disagree")


# ---------------------------------------------------------------------- networks


@pytest.fixture(scope="module")
def chapter() -> Chapter:
    return networks.chapter(quick=True)


def test_every_point_of_the_issue_has_its_section(chapter: Chapter) -> None:
    titles = [section.title for section in chapter.sections]
    assert titles == [
        "Computational graphs", "A network in full", "Networks by layers",
        "Gradients that vanish, and explode",
        "Saturated units", "Dead rectifiers", "The same start for all units", "Plateaus",
        "The zigzag of positive inputs", "Universal approximation", "Where training ends, by size",
    ]  # fmt: skip
    for section in chapter.sections:
        assert len(section.data.rows) >= 2
        assert all(len(row) == len(section.data.columns) for row in section.data.rows)
        assert all(len(row) == len(section.shown.columns) for row in section.shown.rows)


def test_a_chapter_can_be_stored_and_read(chapter: Chapter) -> None:
    files = chapter.files()
    again = stored_chapter(files["data/networks.json"], files.__getitem__)
    assert again == chapter


def test_the_published_trace_is_in_the_data(chapter: Chapter) -> None:
    rows = {row[:2]: row for row in chapter.sections[0].shown.rows}
    assert rows["f = ln x₁ + x₁x₂ - sin x₂", "x1"][-1] == "5.5"
    assert rows["f = ln x₁ + x₁x₂ - sin x₂", "x2"][-1] == "1.716"
    assert rows["Q = 3x³ + y²", "x"][-1] == "[36, 81]"
    assert rows["f = (x + y) z", "v2"][3] == "-12"


def test_gradients_vanish_through_sigmoids_from_every_start() -> None:
    factors = studies.decays((10,))
    for start in studies.STARTS:
        assert factors[SIGMOID.name, start][0] < 0.5
    for phi in (TANH, RELU, SELU):
        assert 0.7 < factors[phi.name, "Xavier"][0] < 1.4


def test_rectifiers_explode_from_large_weights_and_vanish_from_small_ones() -> None:
    found = studies.signals(10, (RELU,))
    by_start = {s.start: s.gradient for s in found if s.layer == 1}
    assert by_start["N(0, 0.05²)"] < 1e-6 < by_start["He"] < 1e3 < by_start["N(0, 0.5²)"]
    assert all(0.2 < s.saturated < 0.8 for s in found)


def test_only_relus_die() -> None:
    shares = studies.dead_units((0.01, 1.0), 2)
    assert shares["relu"][1] > 0.9 > shares["relu"][0]
    assert shares["leaky_relu"] == shares["elu"] == [0, 0]


def test_equal_units_do_not_learn_exclusive_or() -> None:
    ends = {name: losses[-1] for name, losses in studies.exclusive_or_losses(100).items()}
    assert ends["all 0"] == pytest.approx(np.log(2))
    assert ends["all 1"] > 0.4
    assert max(ends["Xavier"], ends["He"], ends["N(0, 0.5²)"]) < 0.1


def test_the_squared_loss_has_plateaus_where_the_log_loss_slopes() -> None:
    axis = np.linspace(-12, 12, 13)
    found = studies.surfaces(axis)
    middle = len(axis) // 2
    far = [abs(values[middle, 0] - values[middle, 1]) / 2 for values in found.values()]
    assert far[0] < 0.01
    assert far[1] > 0.5


def test_positive_inputs_push_all_weights_the_same_way() -> None:
    found = studies.paths(60)
    positive, centred = found["all inputs positive"], found["inputs centred"]
    assert positive.share == 1
    assert centred.share < 0.6
    ends = [np.hypot(*(path.points[-1] - [1, -1])) for path in (positive, centred)]
    assert ends[1] < ends[0]


def test_a_polynomial_activation_stays_stuck() -> None:
    errors = studies.approximation((8, 64))
    assert errors["x²"][1] == pytest.approx(errors["x²"][0], rel=1e-6)
    assert errors["x²"][1] > 0.5
    assert max(errors[name][1] for name in ("sigmoid", "tanh", "relu")) < 0.1


def test_larger_networks_end_closer_together() -> None:
    small, large = studies.loss_spread((4, 64), 10, 300).values()
    assert np.median(large) < np.median(small)
    assert large[-1] - large[0] < (small[-1] - small[0]) / 2


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("text", "text"),
        (3, 3),
        (None, None),
        (1 / 3, 0.33333),
        (np.float64(12345678.9), 12346000.0),
    ],
)
def test_numbers_are_rounded_to_what_every_machine_agrees_on(value: Any, cell: Any) -> None:
    assert rounded(value) == cell
    assert type(rounded(value)) in (str, int, float, type(None))
