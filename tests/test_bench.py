"""The benchmark: who is right takes part, whoever is wrong is named, and no time is asserted."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from diffkit.bench import run
from diffkit.bench.__main__ import main
from diffkit.bench.contestants import CONTESTANTS, FUNCTION, HAND, PEERS
from diffkit.bench.timing import interleaved, seconds_of
from diffkit.bench.workloads import WORKLOADS, Workload
from diffkit.structure import flatten

SECONDS = 1e-3


def central_difference(workload, direction, h=1e-5):
    layout, leaves = flatten(workload.x, "x")
    x = layout.ravel(leaves)

    def f(t):
        return workload.f(layout.restore(layout.unravel(x + t * direction)), *workload.data)

    return (f(h) - f(-h)) / (2 * h)


@pytest.mark.parametrize("name", [name for name, w in WORKLOADS.items() if w.hand is not None])
def test_a_gradient_written_by_hand_is_right(name):
    workload = WORKLOADS[name]
    value, gradient = workload.hand(workload.x, *workload.data)
    layout, leaves = flatten(gradient, "gradient")
    g = layout.ravel(leaves)
    direction = np.random.default_rng(5).normal(size=g.size) / np.sqrt(g.size)
    assert value == pytest.approx(workload.value(), rel=1e-12)
    assert g @ direction == pytest.approx(central_difference(workload, direction), rel=1e-6)


def test_everybody_who_is_right_is_timed_and_the_base_has_the_ratio_one():
    measurement = run.measure(WORKLOADS["rosenbrock-10"], SECONDS)
    timed = {row.contestant: row for row in measurement.rows if row.seconds is not None}
    assert {FUNCTION, HAND, "diffkit tape, prepared", "diffkit tape, unprepared"} <= set(timed)
    assert measurement.base == HAND
    assert measurement.ratio(timed[HAND]) == 1
    assert not any(row.remark for row in measurement.rows)


def test_without_a_gradient_by_hand_the_function_is_the_base():
    workload = replace(WORKLOADS["square"], hand=None)
    assert run.measure(workload, SECONDS).base == FUNCTION


def test_a_wrong_gradient_is_named_instead_of_timed():
    square = WORKLOADS["square"]
    wrong = replace(square, hand=lambda x: (x * x, 3 * x))
    rows = {row.contestant: row for row in run.measure(wrong, SECONDS).rows}
    assert rows[HAND].seconds is None
    assert rows[HAND].remark.startswith("wrong: 9 along a direction where the slope is 6")


def test_a_refusal_is_told_in_the_words_of_the_error(monkeypatch):
    workload = Workload("entry by entry", lambda xp, x: float(x) * 1.0, 2.0)
    rows = {row.contestant: row for row in run.measure(workload, SECONDS).rows}
    assert "float" in rows["diffkit tape, prepared"].remark


def test_a_call_longer_than_its_share_is_timed_by_itself(monkeypatch):
    now = 0.0
    count = {"quick": 0, "slow": 0}
    lasts = {"quick": 1e-5, "slow": 0.5}

    def called(name):
        nonlocal now
        count[name] += 1
        now += lasts[name]

    monkeypatch.setattr("diffkit.bench.timing.time.perf_counter", lambda: now)
    times = interleaved({name: lambda name=name: called(name) for name in count}, 1e-2)
    assert count["slow"] == 2
    assert count["quick"] > 2
    assert times == pytest.approx(lasts)


def test_the_first_call_only_warms_up():
    calls = []
    assert seconds_of(lambda: calls.append(1)) > 0
    assert len(calls) == 2


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_that_is_absent_is_left_out(peer, monkeypatch):
    monkeypatch.setattr("diffkit.bench.contestants.find_spec", lambda module: None)
    assert not peer.installed
    assert all(c.installed for c in CONTESTANTS if c.module is None)


def test_the_command_prints_a_table_of_ratios():
    result = CliRunner().invoke(main, ["square", "--seconds", "0.001"])
    assert result.exit_code == 0, result.output
    assert "ratio to NumPy by hand" in result.output
    assert "diffkit tape, prepared" in result.output


def test_the_command_prints_strict_json():
    result = CliRunner().invoke(main, ["square", "--seconds", "0.001", "--json"])
    (measurement,) = json.loads(result.output)
    assert measurement["workload"] == "square"
    assert all(row["ratio"] > 0 for row in measurement["rows"] if row["seconds"])


def test_an_unknown_workload_is_refused_with_the_known_ones():
    result = CliRunner().invoke(main, ["cube"])
    assert result.exit_code == 2
    assert "'cube' is not one of square, rosenbrock-10" in result.output
