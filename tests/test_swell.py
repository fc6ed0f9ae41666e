"""The swell meter: sizes of every form of a derivative, how they grow, and what they lose."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.comparison.forms import FORMS, MULTIPLIED_OUT, derived
from diffkit.comparison.swell import QUANTITIES, Swell, measure_swell
from diffkit.problems import logistic_map
from diffkit.problems.families import FAMILIES, Family, Member, determinant_by_minors, family
from diffkit.reporting.figures import drawing
from diffkit.reporting.swell import STYLES, draw_swell, growth_label, swell_panel


@pytest.fixture(scope="module")
def logistic() -> Swell:
    return measure_swell("logistic", sizes=range(1, 8), forms=(MULTIPLIED_OUT, *FORMS), points=2)


def counts(swell: Swell, form: str, quantity: str = "tree") -> list[Any]:
    return [getattr(row, quantity) for row in swell.of(form)]


# ---------------------------------------------------------------------- the published example


def test_the_swell_of_the_logistic_map_is_the_published_one(logistic: Swell) -> None:
    """Baydin et al., JMLR 18(153), 2018, Table 1, by sympy.count_ops, for n = 1..6."""
    assert counts(logistic, "expanded")[:6] == [0, 2, 21, 82, 264, 768]
    assert counts(logistic, MULTIPLIED_OUT)[:6] == [0, 2, 8, 20, 44, 92]


PUBLISHED = {
    1: ("x", "1"),
    2: ("4*x*(1-x)", "4 - 8*x"),
    3: ("16*x*(1-x)*(1-2*x)**2", "16*(1 - 10*x + 24*x**2 - 16*x**3)"),
    4: (
        "64*x*(1-x)*(1-2*x)**2*(1-8*x+8*x**2)**2",
        "64*(1-42*x+504*x**2-2640*x**3+7040*x**4-9984*x**5+7168*x**6-2048*x**7)",
    ),
}


@pytest.mark.parametrize("n", PUBLISHED)
def test_the_simplified_forms_are_those_of_the_published_table(n: int) -> None:
    """Baydin et al. 2018, Table 1: l_n factored, and its simplified derivative."""
    import sympy

    def f(x: Any) -> Any:
        return logistic_map(x, n)

    def shown(simplify: str) -> Any:
        return dk.Symbolic(form="expanded", simplify=simplify).prepare(f, 0.2)

    def published(text: str, x: Any) -> Any:
        return sympy.sympify(text, locals={"x": x})

    full = shown("full").expression
    x = next(iter(full.free_symbols), sympy.Symbol("x", real=True))
    assert full == sympy.expand(published(PUBLISHED[n][1], x))
    assert sympy.factor_terms(full) == sympy.factor_terms(published(PUBLISHED[n][1], x))
    factored = shown("factor").function_expression
    (x,) = factored.free_symbols
    assert factored == sympy.factor(published(PUBLISHED[n][0], x))


def test_what_is_shared_grows_by_a_constant(logistic: Swell) -> None:
    for form in ("shared", "tape"):
        steps = np.diff(counts(logistic, form, "operations"))[1:]
        assert len(set(steps)) == 1
        fit = logistic.growth(form, "operations")
        assert fit is not None
        assert fit.kind == "power"
        assert fit.low <= 1.2


def test_written_out_it_grows_by_a_factor(logistic: Swell) -> None:
    fit = logistic.growth("shared")
    assert fit is not None
    assert (fit.kind, fit.decided) == ("exponential", True)
    assert fit.rate == pytest.approx(4, rel=0.05)
    assert fit.sizes == (2, 7)


def test_multiplying_out_costs_the_digits(logistic: Swell) -> None:
    polynomial = logistic.of(MULTIPLIED_OUT)[-1]
    for form in ("expanded", "shared", "tape"):
        kept = logistic.of(form)[-1]
        assert kept.error_ulps is not None
        assert kept.error_ulps < 1e4
        assert polynomial.error_ulps is not None
        assert polynomial.error_ulps > 1e6 * kept.error_ulps


# ---------------------------------------------------------------------- forms and families


def test_every_form_that_the_symbolic_backend_has_is_measured() -> None:
    from diffkit.backends.symbolic import differentiator

    assert set(FORMS) == {*differentiator.FORMS, "tape"}
    assert set(STYLES) == {*FORMS, MULTIPLIED_OUT}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_form_of_every_family_is_right(name: str) -> None:
    first = FAMILIES[name].sizes[:2]
    swell = measure_swell(name, sizes=first, points=1)
    for row in swell.rows:
        assert row.refusal is None
        assert row.error_ulps is not None
        assert row.error_ulps < 100
        assert None not in (row.tree, row.lines, row.bytes, row.derive_seconds)
        assert row.dag is not None
        assert row.operations is not None
        assert row.dag <= row.operations
        assert row.call_seconds is not None
        assert row.call_seconds > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_families_say_what_they_are(name: str) -> None:
    known = FAMILIES[name]
    assert family(name) is known
    assert known.name == name
    assert known.description
    assert known.size
    assert known.source
    assert list(known.sizes) == sorted(set(known.sizes))


def test_minors_give_the_determinant() -> None:
    x = np.random.default_rng(0).normal(size=(4, 4))
    assert determinant_by_minors(x) == pytest.approx(np.linalg.det(x))


def test_an_unknown_family_is_refused_with_the_nearest() -> None:
    with pytest.raises(dk.InvalidInput, match="did you mean 'logistic'"):
        measure_swell("logistics")


def test_a_family_of_ones_own() -> None:
    powers = Family(
        "powers", "n", "x^n as a product", "", (2, 3),
        lambda n: Member(lambda x: np.prod(np.stack([x] * n)), 0.5),
    )  # fmt: skip
    swell = measure_swell(powers, forms=("shared", "tape"), points=1)
    assert [row.size for row in swell.of("tape")] == [2, 3]
    assert all(row.refusal is None for row in swell.rows)


def test_a_single_function_of_any_order() -> None:
    swell = measure_swell(lambda x: np.sin(x) * x, 0.4, order=3, points=2)
    assert [row.form for row in swell.rows] == list(FORMS)
    for row in swell.rows:
        assert row.error_ulps is not None
        assert row.error_ulps < 10


def test_data_are_not_differentiated() -> None:
    def f(x: Any, a: Any) -> Any:
        return np.sum(np.tanh(a * x))

    x, a = np.array([0.1, 0.2]), np.array([0.3, 0.7])
    swell = measure_swell(f, x, a, points=1)
    assert all(row.error_ulps is not None and row.error_ulps < 10 for row in swell.rows)


# ---------------------------------------------------------------------- budgets


def test_a_form_that_grows_too_large_is_a_row_and_ends_its_series() -> None:
    swell = measure_swell(
        "mlp-depth", sizes=(1, 2, 3), forms=("expanded", "shared"), points=1, max_operations=200
    )
    refusals = [row.refusal for row in swell.of("expanded")]
    assert refusals[0] is None
    assert refusals[1] is not None
    assert refusals[1].startswith("too large: ")
    assert refusals[2:] == ["not tried: size 2 was too large"]
    assert all(row.refusal is None for row in swell.of("shared"))
    assert "too large" in str(swell)


def test_a_form_that_takes_too_long_ends_its_series() -> None:
    swell = measure_swell("logistic", sizes=(3, 4), forms=("expanded",), points=1, max_seconds=1e-9)
    assert [row.refusal is None for row in swell.rows] == [True, False]
    assert swell.rows[1].refusal is not None
    assert "to derive" in swell.rows[1].refusal


def test_what_has_no_such_form_says_so_in_its_row() -> None:
    swell = measure_swell("helmholtz", sizes=(2,), forms=(MULTIPLIED_OUT,), points=1)
    assert swell.rows[0].refusal == "multiplied out there are functions of one number alone"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("logistic",), {"forms": ("tree",)}, "unknown form 'tree'"),
        (("logistic",), {"sizes": (0, 1)}, "positive integers"),
        (("logistic",), {"sizes": ()}, "positive integers"),
        (("logistic",), {"sizes": (1.5,)}, "positive integers"),
        (("logistic", 1.0), {}, "points and an order of its own"),
        ((np.sin,), {}, "with the point to measure it at"),
        ((np.sin, 1.0), {"sizes": (1,)}, "with the point to measure it at"),
    ],
)
def test_bad_input_is_refused(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(dk.InvalidInput, match=message):
        measure_swell(*arguments, **options)


# ---------------------------------------------------------------------- the result


def test_it_survives_json(logistic: Swell) -> None:
    text = logistic.to_json()
    assert Swell.from_json(text) == logistic
    growth = json.loads(text)["growth"]["shared"]["tree"]
    assert growth["kind"] == "exponential"
    assert growth["text"].startswith("times 4")


def test_it_prints_every_row_and_the_growth(logistic: Swell) -> None:
    lines = str(logistic).splitlines()
    assert sum(line.startswith("expanded  ") for line in lines) == 7
    assert "growth over the sizes measured, with 95 % confidence:" in lines
    assert any(line.startswith("shared, tree: times 4") for line in lines)
    assert "<table>" in logistic._repr_html_()


def test_what_was_not_measured_is_refused(logistic: Swell) -> None:
    with pytest.raises(dk.InvalidInput, match="no form 'c' here"):
        logistic.of("c")
    with pytest.raises(dk.InvalidInput, match="unknown quantity 'nodes'"):
        logistic.growth("tape", "nodes")


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_quantity_can_be_drawn(logistic: Swell, quantity: str) -> None:
    panel = swell_panel(logistic, quantity, floor=0.1)
    named = [curve.label for curve in panel.curves if curve.label]
    assert len(named) == len(logistic.forms)
    assert drawing(panel).startswith("<?xml")


def test_fits_are_drawn_over_the_sizes_they_were_fitted_to_and_no_further(logistic: Swell) -> None:
    panel = swell_panel(logistic, "tree")
    (fitted,) = [c for c in panel.curves if not c.label and c.colour == STYLES["shared"][0]]
    assert (min(fitted.x), max(fitted.x)) == (2, 7)
    fit = logistic.growth("shared")
    assert fit is not None
    assert growth_label(fit) in next(c.label for c in panel.curves if c.label.startswith("shared"))


def test_figures_go_to_files_of_the_kinds_that_can_be_drawn(logistic: Swell, tmp_path: Any) -> None:
    draw_swell(logistic, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(dk.InvalidInput, match=r"must end in \.svg or \.png"):
        draw_swell(logistic, str(tmp_path / "a.pdf"))
    with pytest.raises(dk.InvalidInput, match="cannot be written"):
        draw_swell(logistic, str(tmp_path / "none" / "a.svg"))


def test_a_polynomial_multiplied_out_has_the_right_value() -> None:
    program = derived(MULTIPLIED_OUT, family("logistic").member(3), 1000, 10.0)
    assert program.call(0.25) == pytest.approx(16 * (1 - 2.5 + 1.5 - 0.25))
    product = derived(MULTIPLIED_OUT, Member(lambda x: np.exp(x) * (x + 1.5), 0.3), 1000, 10.0)
    assert product.call(0.3) == pytest.approx(np.exp(0.3) * 2.8)
