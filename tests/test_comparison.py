"""`compare`: every backend, measured against the arbitrary-precision truth."""

from __future__ import annotations

import json
import math
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.interface import Differentiator, Prepared


def damped(x: Any) -> Any:
    return np.sin(x) * np.exp(-(x**2))


def plane(x: Any) -> Any:
    return np.array([x[0] * x[1], x[1] ** 3])


def loss(params: Any, X: Any) -> Any:
    return np.sum(np.tanh(X @ params["W"] + params["b"]) ** 2)


PARAMS = {"W": np.array([[0.3, -0.7], [1.1, 0.2]]), "b": np.array([0.1, -0.4])}
X = np.array([[0.5, -1.5], [2.0, 0.25], [-0.3, 0.9]])

CASES: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (damped, (0.5,), {}),
    (damped, (0.5,), {"order": 2}),
    (damped, (np.float32(0.5),), {}),
    (plane, (np.array([1.3, 2.2]),), {}),
    (lambda x: np.sum(x**3), (np.array([1.3, 2.2]),), {"order": 2}),
    (loss, (PARAMS, X), {}),
    (np.abs, (0.0,), {}),
    (lambda x: 2 * math.sin(x), (0.5,), {}),
]


@pytest.fixture(scope="module")
def comparisons() -> list[dk.Comparison]:
    return [dk.compare(f, *arguments, **options) for f, arguments, options in CASES]


def test_there_is_one_row_per_backend_in_the_order_of_the_table() -> None:
    rows = dk.compare(damped, 0.5).rows
    assert [row.backend for row in rows] == ["analytic", "finite", "symbolic", "tape"]


def test_the_truth_is_known_to_twenty_five_digits() -> None:
    import mpmath

    truth = dk.compare(np.exp, 1.0).truth
    assert truth is not None
    with mpmath.workdps(40):
        expected = Decimal(mpmath.nstr(mpmath.e, 30))
    assert abs(Decimal(truth.decimals[0]) - expected) < Decimal("1e-23")
    assert truth.certified
    assert truth.value == (math.e,)


def test_the_error_is_the_distance_from_the_truth_in_ulps() -> None:
    class Off(Differentiator):
        name = "off by three ulps"

        def bind(self, target: Any, point: Any) -> Prepared:
            return Wrong(self, target)

    class Wrong(Prepared):
        def _jvp(self, point: Any, tangents: Any) -> Any:
            output = self._value(point)
            return output, [np.asarray(8 + 3 * np.spacing(8.0))]

    row = dk.compare(lambda x: x * x, 4.0, backends=[Off()]).rows[0]
    assert row.backend == "off by three ulps"
    assert row.error_ulps == 3.0
    assert row.value == (8 + 3 * np.spacing(8.0),)
    assert row.digits == pytest.approx(-math.log10(3 * np.spacing(8.0) / 8))


def test_good_backends_are_within_a_few_ulps_and_finite_knows_its_error() -> None:
    comparison = dk.compare(damped, 0.5)
    for name in ("symbolic", "tape"):
        error = comparison.row(name).error_ulps
        assert error is not None
        assert error < 4
    finite = comparison.row("finite")
    assert finite.value is not None
    assert finite.estimate is not None
    exact = float(Decimal(comparison.truth.decimals[0])) if comparison.truth else math.nan
    assert abs(finite.value[0] - exact) <= 3 * finite.estimate
    assert finite.evaluations is not None
    assert finite.evaluations > 2


def test_cost_is_counted() -> None:
    row = dk.compare(damped, 0.5).row("tape")
    assert row.operations is not None
    assert row.operations >= 4
    assert row.evaluations == 0
    assert row.seconds is not None
    assert row.seconds > 0


def test_a_refusal_is_a_row_with_its_message() -> None:
    comparison = dk.compare(damped, 0.5)
    refusal = comparison.row("analytic").refusal
    assert refusal is not None
    assert "dk.register" in refusal
    assert comparison.row("analytic").value is None
    assert "refused" in str(comparison)


def test_without_truth_the_backends_are_compared_with_each_other() -> None:
    comparison = dk.compare(
        lambda x: 2 * math.sin(x),
        0.5,
        backends=["finite", dk.FiniteDifference("forward", step=1e-4), "tape"],
        exact=False,
    )
    assert comparison.truth is None
    assert comparison.note.startswith("no truth: ")
    assert comparison.row("finite").error_ulps is None
    assert comparison.row("finite").value is not None
    assert comparison.row("tape").refusal is not None
    assert comparison.disagreement is not None
    assert 1e-6 < comparison.disagreement < 1e-3
    assert "largest disagreement" in str(comparison)


def test_the_truth_of_a_black_box_is_not_certified_and_no_error_below_its_doubt_is_claimed() -> (
    None
):
    comparison = dk.compare(lambda x: 2 * math.sin(x), 0.5, backends=["finite"])
    assert comparison.truth is not None
    assert not comparison.truth.certified
    assert "not certified" in comparison.note
    row = comparison.row("finite")
    assert row.error_ulps is not None
    assert row.error_ulps * 2.0**-52 >= comparison.truth.radius / 2
    assert row.digits is not None
    assert 10 < row.digits <= -math.log10(comparison.truth.radius / 2)


def test_the_truth_is_left_out_where_it_would_take_long() -> None:
    x = np.linspace(0.0, 1.0, 3000)
    comparison = dk.compare(lambda x: np.sum(np.sin(x)), x, backends=["tape"])
    assert comparison.truth is None
    assert "exact=True" in comparison.note
    assert dk.compare(damped, 0.5, exact=False, backends=["tape"]).truth is None
    assert dk.compare(damped, 0.5, exact=True, backends=["tape"]).truth is not None


def test_a_kink_is_shown_with_both_slopes() -> None:
    comparison = dk.compare(np.abs, 0.0)
    assert comparison.truth is not None
    assert list(comparison.truth.kinks.values()) == [(-1.0, 1.0)]
    assert math.isnan(comparison.truth.value[0])
    assert comparison.row("tape").error_ulps is None
    assert "kink" in (comparison.row("finite").warning or "")
    assert "-1 from the left, 1 from the right" in str(comparison)


def test_structures_are_compared_entry_by_entry() -> None:
    comparison = dk.compare(loss, PARAMS, X)
    assert comparison.entries == ("W[0, 0]", "W[0, 1]", "W[1, 0]", "W[1, 1]", "b[0]", "b[1]")
    assert comparison.row("tape").worst in comparison.entries
    gradient = dk.gradient(loss, PARAMS, X)
    flat = (*np.ravel(gradient["W"]).tolist(), *gradient["b"].tolist())
    assert comparison.row("tape").value == flat


def test_several_values_give_the_jacobian_and_order_two_the_hessian() -> None:
    jacobian = dk.compare(plane, np.array([2.0, 3.0]), backends=["tape"])
    assert jacobian.derivative == "jacobian"
    assert jacobian.rows[0].value == (3.0, 2.0, 0.0, 27.0)
    hessian = dk.compare(lambda x: np.sum(x**3), np.array([2.0, 3.0]), backends=["tape"], order=2)
    assert hessian.derivative == "hessian"
    assert hessian.rows[0].value == (12.0, 0.0, 0.0, 18.0)
    assert hessian.rows[0].digits == math.inf


def test_options_that_are_not_defaults_name_the_row() -> None:
    chosen = [dk.FiniteDifference("central", step=1e-3), dk.Tape()]
    rows = dk.compare(damped, 0.5, backends=chosen).rows
    assert [row.backend for row in rows] == ["finite (step=0.001)", "tape"]


def test_wrt_picks_the_argument() -> None:
    comparison = dk.compare(lambda a, x: a * x**2, 3.0, 5.0, wrt=1, backends=["tape"])
    assert comparison.rows[0].value == (30.0,)


def test_an_exception_of_the_function_passes_through() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        dk.compare(broken, 0.5)


def test_a_warning_of_the_function_passes_through() -> None:
    def old(x: Any) -> Any:
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return x * x

    with pytest.warns(DeprecationWarning, match="old"):
        dk.compare(old, 0.5, backends=["tape"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dk.compare(damped, math.nan), "not finite"),
        (lambda: dk.compare(damped, 0.5, backends=["magic"]), "magic"),
        (lambda: dk.compare(damped, 0.5, order=0), "order"),
        (lambda: dk.compare(plane, np.ones(2), order=3), "order"),
        (lambda: dk.compare("sin(x)", 0.5), "callable"),  # type: ignore[arg-type]
        (lambda: dk.compare(damped), "no point"),
        (lambda: dk.compare(damped, 0.5).row("magic"), "magic"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(call: Any, words: str) -> None:
    with pytest.raises(dk.InvalidInput, match=words):
        call()


def test_json_is_strict_and_comes_back_equal(comparisons: list[dk.Comparison]) -> None:
    for comparison in comparisons:
        text = comparison.to_json()
        json.loads(text, parse_constant=pytest.fail)
        assert dk.Comparison.from_json(text).to_json() == text
        again = dk.Comparison.from_json(text)
        assert again.rows == comparison.rows
        assert str(again) == str(comparison)


def test_it_prints_in_a_terminal_with_and_without_rich(comparisons: list[dk.Comparison]) -> None:
    from rich.console import Console

    for comparison in comparisons:
        console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(comparison)
        console.file.close()
        for text in (str(comparison), console.export_text()):
            assert all(row.backend in text for row in comparison.rows)
            assert comparison.function in text


def test_one_backend_needs_no_list() -> None:
    for backends in ("tape", dk.Tape()):
        assert [row.backend for row in dk.compare(damped, 0.5, backends=backends).rows] == ["tape"]


def test_a_small_point_is_told_by_its_numbers_and_a_large_one_by_its_shapes() -> None:
    def total(p: Any) -> Any:
        return p["a"] * np.sum(p["b"])

    small = dk.compare(total, {"a": 0.5, "b": np.array([1.0, 2.0])}, backends=["tape"])
    assert small.point == "a = 0.5, b = [1. 2.]"
    large = dk.compare(total, {"a": 0.5, "b": np.ones(9)}, backends=["tape"])
    assert large.point == "a (), b (9,)"


def test_a_notebook_gets_escaped_html() -> None:
    def f(x: Any) -> Any:
        return x * x

    f.__name__ = f.__qualname__ = "<script>alert(1)</script>"
    html = dk.compare(f, 1.0)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr>") == 5
