"""Chapter `round-off`: the error of differences against their step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial, sqrt
from typing import Any, Final

import numpy as np

from diffkit import truth
from diffkit.backends.finite import FiniteDifference
from diffkit.errors import InvalidInput, NonFiniteDerivative
from diffkit.measures import Enclosure
from diffkit.problems import Problem, logistic_map, problem
from diffkit.reporting.figures import Curve, Mark, Panel, drawing
from diffkit.reporting.page import Cell, Chapter, Picture, Section, Table, command, scientific

NAME: Final = "round-off"
STEP_LABEL: Final = "step h (in units of x)"
ERROR_LABEL: Final = "absolute error of f'(x)"

# Baydin et al. 2018, Figure 3: f = l_4 of the logistic map at 0.2. h: (forward, centre).
PUBLISHED: Final = {
    1e-15: (7.3e-2, 1.8e-2),
    1e-13: (1.1e-3, 1.4e-3), 1e-11: (3.7e-7, 3.1e-6), 1e-9: (7.4e-8, 1.0e-7),
    1e-8: (3.3e-7, 4.5e-9), 1e-7: (3.4e-6, 5.5e-11), 1e-6: (3.4e-5, 5.8e-10),
    1e-5: (3.4e-4, 6.6e-8), 1e-4: (3.4e-3, 6.6e-6), 1e-3: (3.3e-2, 6.6e-4),
    1e-2: (2.7e-1, 6.6e-2), 1e-1: (2.0, 5.5),
}  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """A way to form a quotient: its name, and how its error falls with the step."""

    label: str
    kind: str
    order: int

    def quotient(self, f: Any, x: Any, h: float) -> float:
        """Return the textbook quotient at the step as given.

        It is NaN where x + h rounds to x, or leaves the domain of f.
        """
        if self.kind == "complex":
            # The bare formula: the backend would refuse it where h is too large to be right.
            return float(f(x + 1j * h).imag / h)
        method = FiniteDifference(self.kind, self.order, step=h)
        try:
            with np.errstate(invalid="ignore"):
                return float(method.prepare(f, x).derivative(x))
        except (InvalidInput, NonFiniteDerivative):
            return float("nan")


FORWARD = Scheme("forward, order 1", "forward", 1)
CENTRAL = Scheme("central, order 2", "central", 2)
HIGHER = tuple(Scheme(f"central, order {p}", "central", p) for p in (4, 6, 8))
COMPLEX = Scheme("complex step", "complex", 2)


@dataclass(frozen=True)
class Study:
    """A function of one number at a point, in the precision of the point."""

    title: str
    f: Any
    x: Any

    @cached_property
    def exact(self) -> Enclosure:
        """The derivative at the point as it is stored, in arbitrary precision."""
        (enclosure,) = truth.derivative(self.f, self.x).enclosures
        assert enclosure is not None
        return enclosure

    @cached_property
    def higher(self) -> tuple[float, float]:
        """|f''| and |f'''|."""
        second, third = (truth.derivative(self.f, self.x, order=k).value for k in (2, 3))
        return abs(float(second)), abs(float(third))

    @cached_property
    def noise(self) -> float:
        """The absolute rounding error of f near x, from a difference table.

        Moré and Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011): the
        k-th differences of smooth f vanish and those of its rounding errors do not.
        """
        spacing = 2.0**-12 * float(np.finfo(self.x.dtype).eps) ** 0.25
        points = [self.x.dtype.type(self.x + i * spacing) for i in range(13)]
        table = np.array([float(self.f(p)) for p in points])
        k = 6
        differences = np.diff(table, k)
        return sqrt(np.mean(differences**2) * factorial(k) ** 2 / factorial(2 * k))

    def error(self, scheme: Scheme, h: float) -> float:
        """Return the absolute error of a quotient; NaN where there is none."""
        value = scheme.quotient(self.f, self.x, h)
        if not np.isfinite(value):
            return float("nan")
        return abs(float(Enclosure.of(value).midpoint - self.exact.midpoint))

    def errors(self, scheme: Scheme, steps: Sequence[float]) -> list[float]:
        return [self.error(scheme, h) for h in steps]

    def truncation(self, scheme: Scheme, h: float) -> float:
        """The leading term of the truncation error, for orders 1 and 2."""
        second, third = self.higher
        return h * second / 2 if scheme.order == 1 else h**2 * third / 6

    def rounding(self, scheme: Scheme, h: float) -> float:
        """What errors of size `noise` in both values do to the quotient."""
        return self.noise * (2 / h if scheme.order == 1 else 1 / h)

    def optimum(self, scheme: Scheme) -> tuple[float, float]:
        """The best step and its error by the formulas of Gill, Murray, Saunders, Wright (1983)."""
        second, third = self.higher
        if scheme.order == 1:
            return 2 * sqrt(self.noise / second), 2 * sqrt(self.noise * second)
        best = (3 * self.noise / third) ** (1 / 3)
        return best, 3 ** (2 / 3) / 2 * (self.noise**2 * third) ** (1 / 3)


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    steps = _steps(4 if quick else 12)
    logistic = _study("logistic-4", "l₄ of the logistic map at x = 0.2")
    others = [
        _study("moler", "eˣ / (cos³x + sin³x) at x = π/4"),
        _study("lyness", "eˣ / √(sin³x + cos³x) at x = 1.5"),
        Study("l₄ of the logistic map, as a loop, at x = 0.3", _looped, np.float64(0.3)),
    ]
    return Chapter(
        NAME,
        "Round-off against truncation",
        "A difference quotient has a best step. Larger steps cut the Taylor series too early, "
        "smaller ones subtract nearly equal numbers; the best is far from the smallest.",
        command(NAME, quick),
        (
            _textbook(logistic, steps),
            _all_orders([logistic, *others], steps),
            _precisions(logistic, steps),
        ),
    )


def _steps(per_decade: int) -> list[float]:
    """1e-16 to 1, with the powers of ten written exactly."""
    count = 16 * per_decade
    return [float(f"{10 ** (i / per_decade - 16):.6g}") for i in range(count + 1)]


def _study(name: str, title: str, dtype: Any = np.float64) -> Study:
    known: Problem = problem(name)
    return Study(title, known.f, dtype(known.x))


def _looped(x: Any) -> Any:
    return logistic_map(x, 4)


# ---------------------------------------------------------------------- sections


def _textbook(study: Study, steps: list[float]) -> Section:
    errors = {s: study.errors(s, steps) for s in (FORWARD, CENTRAL)}
    panels = tuple(
        _theory_panel(study, scheme, steps, errors[scheme], colour)
        for scheme, colour in ((FORWARD, "blue"), (CENTRAL, "vermilion"))
    )
    best = {s: _best(steps, errors[s]) for s in errors}
    (h1, e1), (h2, e2) = study.optimum(FORWARD), study.optimum(CENTRAL)
    return Section(
        "The V, and where theory puts its tip",
        (
            "f is l₄(x) = 64x(1-x)(1-2x)²(1-8x+8x²)², the example of Baydin et al. (2018). To the "
            "right of the tip the error is the truncated Taylor series: it falls by one decade "
            "per decade of h for the forward quotient, by two for the central one. To the left it "
            "is round-off: f is computed with an error of about "
            f"{scientific(study.noise)}, which the quotient divides by h.",
            "Gill, Murray, Saunders and Wright (1983) balance the two. Forward: "
            f"{_at(h1, e1)} predicted, {_at(*best[FORWARD])} measured. Central: {_at(h2, e2)} "
            f"predicted, {_at(*best[CENTRAL])} measured. Measured is the median over a few "
            "neighbouring steps: a single error dips far below where the two causes happen to "
            "cancel.",
        ),
        _picture(
            "round-off-theory",
            panels,
            "Measured error (markers), its two causes as predicted (dashed), and the predicted "
            "optimum (star). The markers follow the lines over fourteen decades; left of the "
            "tip they scatter about the round-off line, which is a typical size and no bound.",
            "Two V-shaped curves on logarithmic axes. Forward differences bottom out near "
            f"h = {h1:.0e}, central differences lower, near h = {h2:.0e}. Dashed lines for "
            "truncation and round-off meet at a star at the bottom of each V.",
        ),
        _published_table(study),
        _data("round-off-theory", steps, {s.label: e for s, e in errors.items()}),
    )


def _theory_panel(
    study: Study, scheme: Scheme, steps: list[float], errors: list[float], colour: str
) -> Panel:
    h, error = study.optimum(scheme)
    ends = [steps[0], steps[-1]]
    return Panel(
        f"{scheme.label.split(',')[0].capitalize()} quotient",
        STEP_LABEL,
        ERROR_LABEL,
        (
            Curve("measured", steps, errors, colour),
            Curve("truncation, predicted", ends, [study.truncation(scheme, t) for t in ends],
                  "black", measured=False),
            Curve("round-off, predicted", ends, [study.rounding(scheme, t) for t in ends],
                  "purple", measured=False),
        ),
        (Mark("optimum, predicted", h, error, "orange"),),
        x_limits=(1e-17, 10),
        y_limits=(1e-13, 1e2),
    )  # fmt: skip


def _published_table(study: Study) -> Table:
    rows = tuple(
        (h, study.error(FORWARD, h), forward, study.error(CENTRAL, h), centre)
        for h, (forward, centre) in sorted(PUBLISHED.items(), reverse=True)
    )
    return Table(
        "round-off-published",
        "Absolute error at x = 0.2, measured here and as published (Baydin et al., JMLR 18(153), "
        "2018, Figure 3).",
        ("h", "forward", "forward, published", "central", "central, published"),
        rows,
    )


def _all_orders(studies: Sequence[Study], steps: list[float]) -> Section:
    schemes = (FORWARD, CENTRAL, *HIGHER, COMPLEX)
    errors = {study: {s: study.errors(s, steps) for s in schemes} for study in studies}
    panels = tuple(
        Panel(
            study.title,
            STEP_LABEL,
            ERROR_LABEL,
            tuple(
                Curve(s.label, steps, _floored(e), every=_every(steps))
                for s, e in errors[study].items()
            ),
            x_limits=(1e-17, 10),
            y_limits=(1e-17, 1e3),
        )
        for study in studies
    )
    columns = {
        f"{study.title}: {s.label}": e for study in studies for s, e in errors[study].items()
    }
    return Section(
        "Higher orders, and the step that may be as small as you like",
        (
            "Each order buys a steeper fall, a larger best step and more digits, for two more "
            "values of f. The round-off arm is the same for all: no order escapes it. The "
            "complex step Im f(x + ih)/h subtracts nothing and has no round-off arm; it reaches "
            "the last digits and stays there. Its right arm is that of the central quotient of "
            "order 2, and hides it.",
            "l₄ is a polynomial of degree 8, so the stencil of order 8 has no truncation error "
            "at all: what is left of it on the right is round-off in values that grow with h.",
        ),
        _picture(
            "round-off-orders",
            panels,
            "The same six quotients in four cases. Curves end on the left where x + h "
            "rounds to x. An exact result is drawn at 1e-17.",
            "Four panels of error against step. From forward differences to order 8 the tips "
            "of the V move right and down; the complex step falls to about 1e-16 and stays flat "
            "for every smaller step.",
        ),
        _best_table(studies, errors, steps),
        _data("round-off-orders", steps, columns),
    )


def _best_table(
    studies: Sequence[Study], errors: dict[Study, dict[Scheme, list[float]]], steps: list[float]
) -> Table:
    rows = []
    for study in studies:
        for scheme, measured in errors[study].items():
            h, error = _best(steps, measured)
            predicted = study.optimum(scheme) if scheme in (FORWARD, CENTRAL) else (None, None)
            rows.append((f"{study.title}, {scheme.label}", h, error, *predicted))
    return Table(
        "round-off-best",
        "The best step of the grid and its typical error (the median over a few neighbouring "
        "steps), with the prediction of Gill, Murray, Saunders and Wright where there is one.",
        ("function and quotient", "best h", "its error", "predicted h", "predicted error"),
        tuple(rows),
    )


def _precisions(study: Study, steps: list[float]) -> Section:
    single = _study("logistic-4", study.title, np.float32)
    runs = {
        f"{name}, {kind}": (owner, scheme)
        for kind, scheme in (("forward", FORWARD), ("central", CENTRAL))
        for name, owner in (("float64", study), ("float32", single))
    }
    errors = {label: owner.errors(scheme, steps) for label, (owner, scheme) in runs.items()}
    panels = tuple(
        Panel(
            f"{kind.capitalize()} quotient",
            STEP_LABEL,
            ERROR_LABEL,
            tuple(
                Curve(name, steps, errors[f"{name}, {kind}"], colour)
                for name, colour in (("float64", "blue"), ("float32", "vermilion"))
            ),
            tuple(
                Mark(f"optimum, {name}", *owner.optimum(scheme), colour)
                for name, owner, colour in (
                    ("float64", study, "sky"), ("float32", single, "orange"))
            ),
            x_limits=(1e-17, 10),
            y_limits=(1e-13, 1e3),
        )
        for kind, scheme in (("forward", FORWARD), ("central", CENTRAL))
    )  # fmt: skip
    rows = tuple(
        (label, *_best(steps, errors[label]), *owner.optimum(scheme))
        for label, (owner, scheme) in runs.items()
    )
    return Section(
        "Half the digits, and then half of those",
        (
            "A forward difference keeps about half of the digits of f, a central one about two "
            "thirds. In single precision that leaves three or four, and the best forward "
            "step of double precision does not even move x: x + h rounds to x.",
        ),
        _picture(
            "round-off-precision",
            panels,
            "float32 beside float64. Truncation is the same; round-off sits some nine decades "
            "higher, so the tip moves up and to the right. Curves end where x + h rounds to x.",
            "Two panels. In each the float32 V stands above and to the right of the float64 V; "
            "their right arms coincide.",
        ),
        Table(
            "round-off-precision-best",
            "Best steps in both precisions and their typical errors, measured and predicted.",
            ("precision and quotient", "best h", "its error", "predicted h", "predicted error"),
            rows,
        ),
        _data("round-off-precision", steps, errors),
    )


# ---------------------------------------------------------------------- shared


def _best(steps: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """The step of the smallest typical error; of several, the largest.

    Typical is the median over some third of a decade: a single error may be as small as you
    like, where truncation and round-off happen to cancel.
    """
    reach = max(1, (len(steps) - 1) // 96)
    windows = np.lib.stride_tricks.sliding_window_view(np.array(errors), 2 * reach + 1)
    typical = np.median(windows, axis=1)
    i = len(typical) - 1 - int(np.nanargmin(typical[::-1]))
    return steps[i + reach], float(typical[i])


def _at(h: float, error: float) -> str:
    return f"an error of {scientific(error)} at h = {scientific(h)}"


def _floored(errors: Sequence[float]) -> list[float]:
    """Errors that a logarithmic axis can show: zero becomes the lower edge."""
    return [max(e, 1e-17) if np.isfinite(e) else e for e in errors]


def _every(steps: Sequence[float]) -> int:
    """Markers at about two points of a decade."""
    return max(1, (len(steps) - 1) // 32)


def _picture(name: str, panels: Sequence[Panel], caption: str, alt: str) -> Picture:
    return Picture(name, caption, alt, tuple((p.title, drawing(p)) for p in panels))


def _data(name: str, steps: Sequence[float], columns: dict[str, list[float]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (h, *(e if np.isfinite(e) else None for e in row))
        for h, row in zip(steps, zip(*columns.values(), strict=True), strict=True)
    ]
    return Table(name, "Absolute error by step.", ("h", *columns), tuple(rows))
