"""Chapter `finite-differences`: all schemes and precisions, and estimates held to the truth."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import numpy as np

from diffkit.backends.finite import FiniteDifference
from diffkit.problems import PROBLEMS, Problem, problem
from diffkit.reporting.difference_peers import PEERS, VERSIONS
from diffkit.reporting.difference_studies import (
    HARD,
    SCHEMES,
    Sample,
    Scheme,
    Study,
    best_step,
    cost_and_error,
    entries_of,
    sampled,
    steps_of,
    warned,
)
from diffkit.reporting.figures import Curve, Mark, Panel, drawing
from diffkit.reporting.page import Chapter, Picture, Section, Table, command, scientific

NAME: Final = "finite-differences"
DTYPES: Final = ("float16", "float32", "float64", "longdouble")
SEEN: Final = {
    "converged": ("blue", "o"),
    "noisy": ("orange", "^"),
    "kink": ("vermilion", "X"),
    "domain": ("purple", "D"),
    "unresolved": ("black", "v"),
}
LEAST: Final = 1e-18  # a relative error of 0 is drawn here


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    samples = sampled(2 if quick else 8)
    return Chapter(
        NAME,
        "Finite differences, and whether to believe them",
        "Every scheme in every precision with its best step as predicted; the adaptive step's "
        "own estimate of its error against the true one; and what a digit costs.",
        command(NAME, quick),
        (
            _precisions(4 if quick else 8),
            _estimates(samples),
            _warnings(),
            _digits(samples),
        ),
    )


# ---------------------------------------------------------------------- schemes and dtypes


def _precisions(per_decade: int) -> Section:
    known: Problem = problem("moler")
    panels, rows, data = [], [], []
    for name in DTYPES:
        dtype = np.dtype(name)
        study = Study(known.f, dtype.type(known.x))
        steps = steps_of(dtype, per_decade)
        errors = {s: [study.error(s, h) for h in steps] for s in SCHEMES}
        panels.append(_precision_panel(name, study, steps, errors))
        for scheme, measured in errors.items():
            if not np.all(np.isnan(measured)):
                best = best_step(steps, measured)
                rows.append((name, scheme.label, *best, *(study.optimum(scheme) or (None, None))))
            data += [
                (name, scheme.label, h, e)
                for h, e in zip(steps, measured, strict=True)
                if np.isfinite(e)
            ]
    return Section(
        "Every scheme, in four precisions",
        (
            "The function is eˣ / (cos³x + sin³x) at π/4 (Moler 2013). The stars are the optimum "
            "of Gill, Murray, Saunders and Wright (1983), carried to every order p: truncation "
            "C hᵖ |f⁽ᵖ⁺¹⁾| balanced with rounding G e/h, C and G read off the stencil, e the "
            "measured rounding error of f.",
            "A higher order moves the optimum to larger steps, where rounding hurts less, and so "
            "it helps in every precision; half precision, though, has too few digits for any "
            "difference to keep more than one or two. The forward and the backward quotient are "
            "mirror images.",
        ),
        _picture(
            "finite-differences-precisions",
            panels,
            "Relative error against step. Stars: predicted optimum. Curves end on the left where "
            "x + h rounds to x. NumPy has no half-precision complex numbers.",
            "Four panels, one for each dtype, of V-shaped error curves of seven schemes; the tips "
            "lie near the stars, further down and to the left the more digits the dtype has.",
        ),
        Table(
            "finite-differences-optimum",
            "Best step of the grid with its typical relative error (a median over neighbouring "
            "steps), and both as predicted.",
            ("dtype", "scheme", "best h", "its error", "predicted h", "predicted error"),
            tuple(rows),
        ),
        Table(
            "finite-differences-precisions",
            "Relative error by dtype, scheme and step.",
            ("dtype", "scheme", "h", "relative error"),
            tuple(data),
        ),
    )


def _precision_panel(
    name: str, study: Study, steps: list[float], errors: dict[Scheme, list[float]]
) -> Panel:
    marks = []
    for scheme in SCHEMES:
        if scheme.kind != "backward" and (best := study.optimum(scheme)):
            label = "optimum, predicted" if scheme.kind == "forward" else ""
            marks.append(Mark(label, *best, scheme.colour))
    return Panel(
        name,
        "step h (in units of x)",
        "relative error of f'(x)",
        tuple(
            Curve(s.label, steps, [max(e, 1e-21) for e in measured], s.colour, every=4)
            for s, measured in errors.items()
            if not np.all(np.isnan(measured))
        ),
        tuple(marks),
        y_limits=(float(np.finfo(study.x.dtype).eps) / 30, 30.0),
    )


# ---------------------------------------------------------------------- all problems


def _estimates(samples: Sequence[Sample]) -> Section:
    entries = list(entries_of(samples))
    curves = [Curve("estimate = error", [LEAST, 1.0], [LEAST, 1.0], "black", measured=False)]
    rows = []
    for status, (colour, marker) in SEEN.items():
        these = [e for e in entries if e.status == status]
        if not these:
            continue
        held = sum(e.error <= e.estimate for e in these)
        ratios = [e.estimate / e.error for e in these if e.error]
        rows.append(
            (status, len(these), held, median(ratios) if ratios else None,
             median(e.error for e in these), max(e.error for e in these))
        )  # fmt: skip
        x, y = ([max(v, LEAST) for v in column] for column in zip(
            *((e.error, e.estimate) for e in these), strict=True))  # fmt: skip
        curves.append(Curve(status, x, y, colour, marker=marker, joined=False))
    panel = Panel(
        "adaptive step, every problem",
        "true error, relative",
        "estimated error, relative",
        tuple(curves),
        x_limits=(LEAST / 3, 1.0),
        y_limits=(LEAST / 3, 1.0),
    )
    held, good = sum(row[2] for row in rows), len(entries)
    return Section(
        "The estimate against the truth",
        (
            f"The adaptive step on {len(PROBLEMS)} problems, at their own points and near them: "
            f"{good} entries of first derivatives, each with a certified truth. The estimate "
            f"covers the error for {held} of them. It is an estimate and no bound; where the "
            "method sees that something is wrong it says so in the status of the entry.",
        ),
        _picture(
            "finite-differences-estimates",
            [panel],
            "One point for each entry. On or above the dashed line the estimate covers the error. "
            f"An error of 0 is drawn at {scientific(LEAST)}.",
            "A cloud of points above the diagonal: the estimated error exceeds the true one by "
            "one or two decades, for errors near 1e-15.",
        ),
        Table(
            "finite-differences-estimates-held",
            "Entries by status: how many there are, for how many the estimate covers the error, "
            "the median of estimate over error, and relative errors.",
            ("status", "entries", "covered", "estimate / error", "median error", "largest error"),
            tuple(rows),
        ),
        Table(
            "finite-differences-estimates",
            "Relative errors, true and estimated, by problem and entry.",
            ("problem", "entry", "status", "true", "estimated"),
            tuple((e.problem, e.entry, e.status, e.error, e.estimate) for e in entries),
        ),
    )


# ---------------------------------------------------------------------- points that are hard


def _warnings() -> Section:
    rows = tuple(warned(*case) for case in HARD)
    table = Table(
        "finite-differences-hard",
        "The adaptive step at hard points: what it finds, its estimate of the absolute error, and "
        "its verdict.",
        ("function", "x", "true derivative", "found", "estimated error", "status"),
        rows,
    )
    return Section(
        "Where it says no",
        (
            "A number without a derivative behind it must not pass for one. At a kink, at a jump "
            "and with noise the status says so, and the estimate covers the disagreement of both "
            "sides. Next to the edge of a domain the steps shrink or turn one-sided.",
        ),
        None,
        table,
        table,
    )


# ---------------------------------------------------------------------- digits and evaluations

# The method with its colour and marker: by the rule, by search, and (below) other packages.
OPTIONS: Final = {
    "forward, rule": (FiniteDifference("forward", step="rule"), "sky", "o"),
    "central 2, rule": (FiniteDifference("central", 2, step="rule"), "sky", "s"),
    "central 4, rule": (FiniteDifference("central", 4, step="rule"), "sky", "^"),
    "central 6, rule": (FiniteDifference("central", 6, step="rule"), "sky", "D"),
    "central 8, rule": (FiniteDifference("central", 8, step="rule"), "sky", "v"),
    "central 2, optimal": (FiniteDifference("central", 2, step="optimal"), "blue", "P"),
    "complex step": (FiniteDifference("complex"), "blue", "X"),
    "adaptive (default)": (FiniteDifference(), "blue", "o"),
}
OTHERS: Final = {
    "numdifftools": "s",
    "jacobi": "^",
    "scipy.differentiate": "D",
    "scipy, 3 points": "v",
}


def _digits(samples: Sequence[Sample]) -> Section:
    rows = []
    curves = []
    for label, (method, colour, marker) in OPTIONS.items():
        found = [r for sample in samples if (r := cost_and_error(method, sample))]
        costs, errors = zip(*found, strict=True)
        right = sum(error <= 1e-9 for error in errors)
        rows.append(
            (label, len(samples), len(found), right, median(costs), median(errors), max(errors))
        )
        curves.append(
            Curve(
                label,
                [median(costs)],
                [max(median(errors), LEAST)],
                colour,
                marker=marker,
                joined=False,
            )
        )
    for label, marker in OTHERS.items():
        peer = PEERS[label]
        rows.append(
            (label, peer.points, peer.answered, peer.right, peer.evaluations, peer.median,
             peer.largest)
        )  # fmt: skip
        curves.append(
            Curve(
                label, [peer.evaluations], [peer.median], "vermilion", marker=marker, joined=False
            )
        )
    panel = Panel(
        "all problems, float64",
        "evaluations of f per coordinate, median",
        "relative error (max norm), median",
        tuple(curves),
        x_limits=(1, 100),
        y_limits=(1e-17, 1e-6),
    )
    return Section(
        "What a digit costs",
        (
            "The same problems by every way to choose step and order. The rule takes a power of "
            "the rounding unit and is cheap; a higher order buys digits for two evaluations more, "
            "on the average of these problems: where the step does not fit the function, a high "
            "order is worse than a low one, and nothing says so. The optimal step spends its "
            "evaluations on the noise and the next derivative, and is never far off.",
            "The adaptive step spends as many and comes within a digit or two of the complex step, "
            "which only functions without a branch, an absolute value or foreign code allow. "
            "(One evaluation would do for that; the others hold it against a central difference.)",
            f"Other packages with their defaults: {VERSIONS}, measured once on the same points by "
            "python -m diffkit.reporting.difference_peers; their rows are kept with the program.",
        ),
        _picture(
            "finite-differences-digits",
            [panel],
            "Median relative error against median number of evaluations per coordinate, one point "
            "for each option: further down is more digits, further left is cheaper. Light blue: "
            "steps by the rule; blue: steps that are searched; vermilion: other packages.",
            "A falling row of points from the forward difference at the top left to the adaptive "
            "step and the complex step at the lower right; the optimal step of order 2 stands "
            "above these two.",
        ),
        Table(
            "finite-differences-options",
            "Of the points where the true derivative is known: answered, right to 1e-9, and what "
            "it cost. Evaluations are those of one derivative, its value included.",
            ("option", "points", "answered", "right", "evaluations per coordinate",
             "median error", "largest error"),
            tuple(rows),
        ),
        Table(
            "finite-differences-digits",
            "Median evaluations and errors by option.",
            ("option", "points", "answered", "right", "evaluations", "median", "largest"),
            tuple(rows),
        ),
    )  # fmt: skip


def _picture(name: str, panels: Sequence[Panel], caption: str, alt: str) -> Picture:
    return Picture(name, caption, alt, tuple((p.title, drawing(p)) for p in panels))
