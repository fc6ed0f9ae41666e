"""What the chapter on finite differences measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Any, Final

import numpy as np

from diffkit import truth
from diffkit.backends.finite import FiniteDifference
from diffkit.backends.finite.stencils import stencil
from diffkit.comparison.measurement import Operator
from diffkit.errors import DiffkitError
from diffkit.measures import Enclosure
from diffkit.problems import PROBLEMS, Problem
from diffkit.reporting.page import Cell
from diffkit.structure import flatten


@dataclass(frozen=True)
class Scheme:
    """A difference quotient for the first derivative."""

    kind: str
    order: int
    colour: str

    @property
    def label(self) -> str:
        return "complex step" if self.kind == "complex" else f"{self.kind}, order {self.order}"

    @property
    def constants(self) -> tuple[float, float]:
        """C and G: the error is about C h^p |f^(p+1)| + G e/h for values known to within e."""
        if self.kind == "complex":
            return 1 / 6, 0.0
        formula = stencil(self.kind, 1, self.order)
        pairs = list(zip(formula.numerators, formula.nodes, strict=True))
        moment = abs(sum(w * n ** (self.order + 1) for w, n in pairs))
        scale = formula.denominator
        return moment / (scale * factorial(self.order + 1)), sum(abs(w) for w, _ in pairs) / scale


SCHEMES: Final = (
    Scheme("forward", 1, "blue"),
    Scheme("backward", 1, "sky"),
    Scheme("central", 2, "vermilion"),
    Scheme("central", 4, "orange"),
    Scheme("central", 6, "green"),
    Scheme("central", 8, "purple"),
    Scheme("complex", 2, "black"),
)


@dataclass(frozen=True)
class Study:
    """A function of one number at a point of a dtype, with its true derivatives there."""

    f: Any
    x: Any

    @cached_property
    def exact(self) -> Enclosure:
        (enclosure,) = truth.derivative(self.f, self.x).enclosures
        assert enclosure is not None
        return enclosure

    def size_of(self, order: int) -> float:
        """|f^(order)|."""
        return abs(float(truth.derivative(self.f, np.float64(self.x), order=order).value))

    @cached_property
    def rounding(self) -> float:
        """The root mean square of the rounding error of f at 16 points near x."""
        step = np.spacing(self.x)
        squares = []
        for i in range(16):
            t = self.x.dtype.type(self.x + (3 * i + 1) * step)
            (enclosure,) = truth.value(self.f, t).enclosures
            assert enclosure is not None
            off = Enclosure.of(self.f(t)).midpoint - enclosure.midpoint
            squares.append(float(off) ** 2)
        return float(np.sqrt(np.mean(squares)))

    def error(self, scheme: Scheme, h: float) -> float:
        """The relative error of the quotient; NaN where there is none."""
        value = self._along_i(h) if scheme.kind == "complex" else self._quotient(scheme, h)
        if value is None or not np.isfinite(value):
            return float("nan")
        off = abs(Enclosure.of(value).midpoint - self.exact.midpoint)
        return float(off / abs(self.exact.midpoint))

    def _along_i(self, h: float) -> Any:
        """The complex step; NumPy has no complex numbers of half precision."""
        if self.x.dtype == np.float16:
            return None
        step = self.x.dtype.type(h)
        return (self.f(self.x + 1j * step).imag / step)[()]

    def _quotient(self, scheme: Scheme, h: float) -> Any:
        """The quotient at the step as given; None where x + h rounds to x."""
        method = FiniteDifference(scheme.kind, scheme.order, step=h)
        try:
            with np.errstate(all="ignore"):
                return method.prepare(self.f, self.x).derivative(self.x)
        except DiffkitError:
            return None

    def optimum(self, scheme: Scheme) -> tuple[float, float] | None:
        """The best step and its relative error, as predicted; None where round-off never grows.

        With p the order: h^(p+1) = G e / (p C |F|), and the error there is (1 + 1/p) G e / h.
        """
        truncation, gain = scheme.constants
        if not gain or not self.rounding:
            return None
        p = scheme.order
        h = (gain * self.rounding / (p * truncation * self.size_of(p + 1))) ** (1 / (p + 1))
        return h, (1 + 1 / p) * gain * self.rounding / h / abs(float(self.exact.midpoint))


def steps_of(dtype: np.dtype[Any], per_decade: int) -> list[float]:
    """From an ulp of 1 to 1, with a whole number of steps to a decade."""
    lowest = int(np.floor(np.log10(float(np.finfo(dtype).eps))))
    count = -lowest * per_decade
    return [float(f"{10 ** (lowest + i / per_decade):.6g}") for i in range(count + 1)]


def best_step(steps: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """The step with the smallest median of three neighbouring errors."""
    windows = np.lib.stride_tricks.sliding_window_view(np.array(errors), 3)
    typical = np.median(windows, axis=1)  # NaN beside a step that has no quotient
    i = len(typical) - 1 - int(np.nanargmin(typical[::-1]))
    return steps[i + 1], float(typical[i])


# ---------------------------------------------------------------------- all problems


@dataclass(frozen=True)
class Sample:
    """A problem at a point, with the true derivative."""

    name: str
    f: Any
    arguments: tuple[Any, ...]
    operator: Operator
    truth: truth.Truth

    @cached_property
    def exact(self) -> list[float]:
        return [float("nan") if e is None else float(e.midpoint) for e in self.truth.enclosures]


def sampled(near: int) -> list[Sample]:
    """Every problem at its own point, and at points within a tenth of it."""
    return [s for p in PROBLEMS.values() for s in _samples_of(p, near)]


def _samples_of(p: Problem, near: int) -> tuple[Sample, ...]:
    layout, leaves = flatten(p.x)
    vector = layout.ravel(leaves)
    generator = np.random.default_rng(0)
    operator = Operator(
        "derivative" if p.derivatives else "gradient" if p.gradient else "jacobian", 1
    )
    samples = []
    for i in range(1 + near):
        factor = 1 + (generator.uniform(-0.1, 0.1, vector.shape) if i else 0.0)
        x = layout.restore(layout.unravel(vector * factor))
        arguments = (x, *p.data)
        samples.append(
            Sample(p.name, p.f, arguments, operator, operator.exactly(p.f, arguments, 0))
        )
    return tuple(samples)


@dataclass(frozen=True)
class Entry:
    """One entry of a derivative with its estimate, relative to its size."""

    problem: str
    entry: str
    status: str
    error: float
    estimate: float


def entries_of(samples: Sequence[Sample]) -> Iterator[Entry]:
    for sample in samples:
        prepared = FiniteDifference().prepare(sample.f, *sample.arguments)
        estimate = prepared.estimate(*sample.arguments)
        values = flat(estimate.value)
        doubts = flat(estimate.error)
        statuses = list(estimate.status.values())
        enclosures = sample.truth.enclosures
        for value, doubt, status, name, enclosure in zip(
            values, doubts, statuses, sample.truth.entries, enclosures, strict=True
        ):
            if enclosure is None or not enclosure.midpoint:
                continue
            off = abs(Enclosure.of(value).midpoint - enclosure.midpoint)
            size = abs(float(enclosure.midpoint))
            yield Entry(sample.name, name, status, float(off) / size, float(doubt) / size)


def flat(structure: Any) -> list[Any]:
    layout, leaves = flatten(structure)
    return list(layout.ravel(leaves))


def cost_and_error(method: FiniteDifference, sample: Sample) -> tuple[float, float] | None:
    """Evaluations per coordinate, and the relative error in the max norm; None if refused."""
    try:
        with np.errstate(all="ignore"):
            prepared = method.prepare(sample.f, *sample.arguments)
            before = prepared.cost.evaluations
            value = sample.operator.of(prepared, sample.arguments)
            evaluations = prepared.cost.evaluations - before
    except DiffkitError:
        return None
    exact = np.array(sample.exact)
    error = np.max(np.abs(np.array(flat(value), float) - exact)) / np.max(np.abs(exact))
    size = flatten(sample.arguments[0])[0].size
    return evaluations / size, float(error)


# ---------------------------------------------------------------------- points that are hard


def _in_single(x: Any) -> Any:
    return np.sin(x.astype(np.float32)).astype(np.float64)


# What it is, the function, the point, and what the derivative is there.
HARD: Final[tuple[tuple[str, Any, float, str], ...]] = (
    ("|x| at its kink", np.abs, 0.0, "none: -1 and 1"),
    ("|x| close to its kink", np.abs, 1e-9, "1"),
    ("max(x, x²) at its kink", lambda x: np.maximum(x, x**2), 1.0, "none: 1 and 2"),
    ("a jump, sign x at 0", np.sign, 0.0, "none"),
    ("sin x, rounded to six decimals", lambda x: np.round(np.sin(x), 6), 0.7, "cos 0.7, in spirit"),
    ("sin x, computed in float32", _in_single, 0.7, "cos 0.7"),
    ("log x next to its edge", np.log, 1e-300, "1e300"),
    ("√x next to its edge", np.sqrt, 1e-300, "5e149"),
    ("√x at its edge", np.sqrt, 0.0, "infinite"),
    ("arcsin x next to its edge", np.arcsin, 1 - 2.0**-50, "2.37e7"),
    ("sin 10⁵x, which oscillates", lambda x: np.sin(1e5 * x), 0.7, "10⁵ cos 70000"),
    ("x^1.5 far out", lambda x: x**1.5, 1e200, "1.5e100"),
)


def warned(name: str, f: Any, x: float, true: str) -> tuple[Cell, ...]:
    with np.errstate(all="ignore"):
        estimate = FiniteDifference().prepare(f, np.float64(x)).estimate(np.float64(x))
    (status,) = estimate.status.values()
    found = (float(estimate.value), float(estimate.error))
    return (name, x, true, *(v if np.isfinite(v) else str(v) for v in found), status)
