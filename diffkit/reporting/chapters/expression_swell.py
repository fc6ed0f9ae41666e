"""Chapter `expression-swell`: how large a derivative is in each form, what it costs and loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

from diffkit.backends.symbolic import Symbolic
from diffkit.comparison.forms import FORMS, MULTIPLIED_OUT
from diffkit.comparison.swell import COUNTS, TIMES, Size, Swell, measure_swell
from diffkit.problems import logistic_map
from diffkit.problems.families import FAMILIES
from diffkit.reporting.figures import Panel, drawing
from diffkit.reporting.page import (
    Cell,
    Chapter,
    Picture,
    Section,
    Table,
    command,
    formatted,
    scientific,
)
from diffkit.reporting.swell import growth_label, swell_panel

NAME: Final = "expression-swell"
WRITTEN_OUT: Final = 50_000  # operations that are foreseen, for the logistic map
BUDGET: Final = 8_000  # of the other families
ALL_DIGITS: Final = 2.0**52  # ulps
EXACT: Final = 0.1  # ulps; a smaller error is drawn there
SEEN: Final = ("logistic", "order", "mlp-depth", "mlp-width", "helmholtz", "determinant")
DIGITS: Final = ("logistic", "order", "mlp-depth", "helmholtz")
QUICK: Final = ("logistic", "order", "mlp-depth")
TIMED: Final = ("logistic", "mlp-depth", "mlp-width")


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    swells = {name: _measured(name, quick) for name in (QUICK if quick else FAMILIES)}
    logistic = swells["logistic"]
    return Chapter(
        NAME,
        "Expression swell",
        "A derivative written out as a formula grows far faster than the function. Kept with "
        "its shared parts shared, it grows in step with it, and so does reverse mode.",
        command(NAME, quick),
        (
            _published(logistic),
            _table_of_formulas(),
            _families(swells),
            _programs(swells),
            _digits(swells),
            _times(swells),
        ),
    )


def _measured(name: str, quick: bool) -> Swell:
    logistic = name == "logistic"
    family = FAMILIES[name]
    return measure_swell(
        name,
        sizes=family.sizes[: 6 if logistic else 3] if quick else family.sizes,
        forms=(MULTIPLIED_OUT, *FORMS) if logistic else FORMS,
        points=1 if quick else 5,
        max_operations=WRITTEN_OUT if logistic else BUDGET,
        max_seconds=120.0,
    )


# ---------------------------------------------------------------------- the published example


@dataclass(frozen=True)
class LogisticSize:
    """Operations in l_n and its derivative.

    Attributes:
        n: which iterate.
        function: `sympy.count_ops` of l_n.
        tree: the same of its derivative, as `sympy.diff` leaves it.
        expanded: the same, expanded to a polynomial.
        dag: different operations of the derivative written out.
        compiled: operations after common subexpressions are shared.
        symbolic: operations of the symbolic backend's shared form.
        tape: operations of the tape's program for value and derivative.
    """

    n: int
    function: int
    tree: int
    expanded: int
    dag: int
    compiled: int
    symbolic: int
    tape: int


def logistic_sizes(swell: Swell) -> list[LogisticSize]:
    """Return the sizes for each iterate that was written out."""
    import sympy

    rows = {(row.form, row.size): row for row in swell.rows if row.refusal is None}
    x = sympy.Symbol("x")
    sizes = []
    for n in sorted({size for form, size in rows if form == MULTIPLIED_OUT}):
        closed, polynomial = rows["expanded", n], rows[MULTIPLIED_OUT, n]
        counts = (closed.tree, polynomial.tree, closed.dag, closed.operations)
        programs = (rows[form, n].operations for form in ("shared", "tape"))
        function = int(sympy.count_ops(logistic_map(x, n)))
        sizes.append(LogisticSize(n, function, *(int(c or 0) for c in (*counts, *programs))))
    return sizes


def _published(swell: Swell) -> Section:
    sizes = logistic_sizes(swell)
    last = sizes[-1]
    panels = (
        swell_panel(swell, "tree", "The derivative of lₙ, written out"),
        swell_panel(swell, "operations", "The same, as a program"),
    )
    table = Table(
        "expression-swell-logistic",
        "Operations by sympy.count_ops, and of the two backends' own programs. The columns for "
        "lₙ, for lₙ' written out and expanded are those of Baydin et al. (2018), Table 1.",
        (
            "n",
            "lₙ written out",
            "lₙ' written out",
            "lₙ' expanded",
            "different ones",
            "after cse",
            "symbolic backend",
            "tape",
        ),
        tuple(astuple(s) for s in sizes),
    )
    return Section(
        "The published example: the logistic map",
        (
            f"Written out, the derivative of l{_subscript(last.n)} takes {formatted(last.tree)} "
            f"operations, {last.tree / last.function:.0f} times those of the function: each "
            "product rule repeats its factors. This is the swell of the literature (Baydin et "
            "al., JMLR 18(153), 2018, Table 1).",
            "It is a matter of writing, not of differentiating. The same expression has "
            f"{last.dag} different parts; and where the iterates are kept as they were computed, "
            f"the symbolic backend needs {last.symbolic} operations and the tape {last.tape}, "
            "growing by the same number for each n (Laue 2019).",
        ),
        _picture(
            "expression-swell-logistic",
            panels,
            "Left, operations when every derivative is written out. All but the first two are "
            "never written out; the count says what they avoid. Right, operations in the programs "
            "that run. Dashed lines and the legend give the growth fitted over the sizes shown, "
            "with its 95 % confidence interval: a factor for each n, or the degree of a power.",
            "Operation counts against n on logarithmic axes. Written out, the forms rise "
            f"exponentially, the derivative to {last.tree}; as programs the shared form and the "
            f"tape stay below {max(last.symbolic, last.tape) + 1}.",
        ),
        table,
        Table(table.name, table.caption, tuple(LogisticSize.__annotations__), table.rows),
    )


def _table_of_formulas() -> Section:
    rows = tuple(_formulas(n) for n in range(1, 5))
    table = Table(
        "expression-swell-formulas",
        "lₙ factored, its derivative as the product rule leaves it, and simplified "
        "(simplify='full', the common factor taken out), as the symbolic backend gives them; after "
        "Baydin et al. (2018), Table 1.",
        ("n", "lₙ", "lₙ' written out", "lₙ' simplified"),
        rows,
    )
    return Section(
        "The formulas themselves",
        (
            "The simplified derivatives are those of the published table. Simplification finds "
            "short forms for small polynomials; it costs more than the derivative, and for most "
            "functions there is no short form to find.",
        ),
        None,
        table,
        table,
    )


def _formulas(n: int) -> tuple[Cell, ...]:
    def f(x: Any) -> Any:
        return logistic_map(x, n)

    import sympy

    def prepared(simplify: str) -> Any:
        return Symbolic(form="expanded", simplify=simplify).prepare(f, 0.2)

    factored = prepared("factor").function_expression
    simplified = sympy.factor_terms(prepared("full").expression)
    expressions = (factored, prepared("none").expression, simplified)
    return (n, *(str(e).replace("**", "^") for e in expressions))


# ---------------------------------------------------------------------- the families


def _families(swells: dict[str, Swell]) -> Section:
    panels = [swell_panel(swells[name], "tree", _title(name)) for name in SEEN if name in swells]
    deep = swells["mlp-depth"]
    sizes, trees = deep.series("shared", "tree")
    return Section(
        "What written out would mean",
        (
            "With every layer the gradient of a network, written out, is "
            "multiplied: each path from the output to a parameter appears in full. The network "
            f"with {sizes[-1]} hidden layers of three neurons would take "
            f"{scientific(trees[-1])} operations.",
            "The counts of the forms that share are exact: operations are counted on the program, "
            "each name standing for what it is defined by. The expanded form is written out "
            "indeed, and stops where it exceeds its budget.",
        ),
        _picture(
            "expression-swell-families",
            panels,
            "Operations when written out, by family, with the fitted growth and its 95 % "
            "interval. The array form and the tape count operations on arrays, and so hardly see "
            "the width of a network or the length of a vector. Counts of 0 are left out.",
            "Six panels of operation counts on logarithmic axes. Depth, order and the logistic "
            "map grow exponentially, width and the number of components as a power.",
        ),
        _growths(swells, "tree"),
        _all_sizes(swells, "expression-swell-families", COUNTS),
    )


def _programs(swells: dict[str, Swell]) -> Section:
    panels = [
        swell_panel(swells[name], "operations", _title(name)) for name in SEEN if name in swells
    ]
    return Section(
        "What is computed instead",
        (
            "With everything shared, the same derivatives grow like the functions: linear in "
            "the depth, and no faster than the number of parameters in the width. Even the "
            "expanded form runs as a program whose common subexpressions are shared; but they have "
            "to be found again in the formula, and not all of them are.",
            "Two swells remain, and they are no matter of writing: the determinant by minors "
            "is itself a sum of n! products, and each order of derivative multiplies the work.",
        ),
        _picture(
            "expression-swell-programs",
            panels,
            "Operations in the program that runs, by family, with the fitted growth and its 95 % "
            "interval.",
            "Six panels of operation counts on logarithmic axes. The shared form and the tape "
            "grow as low powers with depth and width, exponentially with the order.",
        ),
        _growths(swells, "operations"),
        _all_sizes(swells, "expression-swell-programs", ("operations", "lines", "bytes")),
    )


def _digits(swells: dict[str, Swell]) -> Section:
    panels = [
        swell_panel(
            swells[name],
            "error_ulps",
            _title(name),
            y_limits=(EXACT / 2, 1e18) if name == "logistic" else None,
            floor=EXACT,
        )
        for name in DIGITS
        if name in swells
    ]
    rows = [
        (_title(name), form, row.size, row.error_ulps, row.worst_ulps)
        for name in DIGITS
        if name in swells
        for form in swells[name].forms
        for row in [_last_known(swells[name], form)]
    ]
    return Section(
        "The digits that swell costs",
        (
            "The forms are equal on paper and not in floating point. " + _lost(swells["logistic"]),
            "The expanded form loses less, and some: the formula of a higher derivative has large "
            "terms of both signs. What the shared forms and the tape lose grows with the condition "
            "of the function itself, and none of them loses much more than the others.",
        ),
        _picture(
            "expression-swell-digits",
            panels,
            "Largest error of an entry in ulps against the certified truth, the median over the "
            "points. Errors below a tenth of an ulp are drawn there; in the first panel, errors "
            "beyond 10¹⁸ leave the picture.",
            "Four panels of errors in ulps. The multiplied-out polynomial climbs steeply away "
            "from the other forms, which stay together.",
        ),
        Table(
            "expression-swell-digits-last",
            "Error in ulps at the largest size of each form: median over the points, and worst.",
            ("family", "form", "size", "median", "worst"),
            tuple(rows),
        ),
        _all_sizes(swells, "expression-swell-digits", ("error_ulps", "worst_ulps")),
    )


def _lost(logistic: Swell) -> str:
    """What multiplying out costs at the largest size where a digit is left."""
    known = [r for r in logistic.of(MULTIPLIED_OUT) if r.error_ulps is not None]
    some = [row for row in known if (row.error_ulps or 0.0) < ALL_DIGITS][-1]
    shared = next(row for row in logistic.of("shared") if row.size == some.size)
    lost, kept = scientific(some.error_ulps or 0.0), scientific(shared.error_ulps or 0.0)
    text = (
        f"Multiplied out to a sum of powers, the derivative of l{_subscript(some.size)} is wrong "
        f"by {lost} ulps, where the program with shared parts is wrong by {kept}: its terms are "
        "huge and cancel."
    )
    if some is known[-1]:
        return text
    return f"{text} From l{_subscript(some.size + 1)} on not one digit is right."


def _times(swells: dict[str, Swell]) -> Section:
    panels = [
        swell_panel(swells[name], quantity, f"{_title(name)}: {title}")
        for name in TIMED
        if name in swells
        for quantity, title in (("derive_seconds", "deriving"), ("call_seconds", "one call"))
    ]
    return Section(
        "Seconds",
        (
            "Deriving is where forms that are written out cost most. A call takes what the "
            "operations of the program take, and some microseconds for checking that the program "
            "holds; operations on whole arrays hardly notice the width.",
        ),
        _picture(
            "expression-swell-time",
            panels,
            "Timings: seconds to derive (tracing and writing the program), and microseconds of "
            "one call of the derivative.",
            "Six panels of times on logarithmic axes, for the logistic map and for networks by "
            "depth and by width.",
        ),
        _last_times(swells),
        _all_sizes(swells, "expression-swell-time", TIMES),
        timed=True,
    )


# ---------------------------------------------------------------------- shared


def _title(name: str) -> str:
    titles = {
        "logistic": "logistic map",
        "order": "order of the derivative",
        "mlp-depth": "tanh network by depth",
        "mlp-width": "tanh network by width",
        "helmholtz": "Helmholtz energy",
        "determinant": "determinant by minors",
        "sigmoids": "nested sigmoids",
        "speelpenning": "product of n numbers",
    }
    return titles[name]


def _last_known(swell: Swell, form: str) -> Size:
    return [row for row in swell.of(form) if row.error_ulps is not None][-1]


def _growths(swells: dict[str, Swell], quantity: str) -> Table:
    """The fitted growth of every family and form."""
    rows: list[tuple[Cell, ...]] = []
    for name, swell in swells.items():
        cells: list[Cell] = [_title(name)]
        for form in FORMS:
            fit = swell.growth(form, quantity)
            cells.append("fewer than five sizes" if fit is None else growth_label(fit))
        rows.append(tuple(cells))
    return Table(
        f"expression-swell-growth-{quantity}",
        "Fitted growth with its 95 % confidence interval: the factor for each step of the size, "
        "or the degree of a power; by least squares on relative residuals, chosen by the "
        "corrected Akaike criterion. It describes the sizes measured and none beyond.",
        ("family", *FORMS),
        tuple(rows),
    )


def _last_times(swells: dict[str, Swell]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, swell in swells.items():
        for form in swell.forms:
            row = [row for row in swell.of(form) if row.refusal is None][-1]
            call = None if row.call_seconds is None else 1e6 * row.call_seconds
            compiling = None if row.compile_seconds is None else 1e3 * row.compile_seconds
            deriving = 1e3 * (row.derive_seconds or 0.0)
            rows.append((_title(name), form, row.size, deriving, compiling, call))
    return Table(
        "expression-swell-time-last",
        "Times at the largest size of each form: to derive, for Python to compile the program, "
        "and of a call.",
        ("family", "form", "size", "derive (ms)", "compile (ms)", "call (µs)"),
        tuple(rows),
    )


def _all_sizes(swells: dict[str, Swell], name: str, quantities: Sequence[str]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (family, row.form, row.size, *(getattr(row, q) for q in quantities), row.refusal)
        for family, swell in swells.items()
        for row in swell.rows
    ]
    columns = ("family", "form", "size", *quantities, "refusal")
    return Table(name, "Every form of every function.", columns, tuple(rows))


def _picture(name: str, panels: Sequence[Panel], caption: str, alt: str) -> Picture:
    return Picture(name, caption, alt, tuple((p.title, drawing(p)) for p in panels))


def _subscript(n: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(n))
