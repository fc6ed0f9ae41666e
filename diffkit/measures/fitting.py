"""How counts grow with a size: by a factor for each step, or as a power; and how sure that is.

Powers and exponentials are fitted by least squares on relative residuals, y = A n^d and
y = A r^n, from six points on each also with an offset, y = c + ... Of them the one with the
smallest corrected Akaike criterion counts (Hurvich and Tsai, Biometrika 76, 1989); whether it is
a power or an exponential stays open where the best of the other kind differs by less than 2
(Burnham and Anderson, Model Selection and Multimodel Inference, 2002). Intervals are those of
Student's t for independent residuals of equal spread. Counts have no such residuals: an interval
tells how well the model fits over the sizes measured, and nothing about larger ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

FEWEST: Final = 5  # points: with fewer the criterion does not exist
STEEPEST: Final = 12.0  # degree looked for
FASTEST: Final = 3.0  # logarithm of a factor looked for
EXACT: Final = 1e-9  # relative residual that counts as none
UNDECIDED: Final = 2.0  # difference of the criterion

# Student's t at 97.5 %, for 1, 2, ... degrees of freedom.
STUDENT: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


@dataclass(frozen=True)
class Growth:
    """How one count grows over the sizes it was measured at.

    Attributes:
        kind: `constant`, `power` or `exponential`.
        rate: the factor for one more unit of size if exponential, else the degree.
        low, high: the 95 % confidence interval of the rate.
        scale, offset: of the model, offset + scale * n^rate or scale * rate^n.
        sizes: the smallest and the largest size fitted; the model says nothing beyond.
        points: how many were fitted.
        spread: the standard deviation of the relative residuals.
        decided: whether the other kind fits clearly worse.
    """

    kind: str
    rate: float
    low: float
    high: float
    scale: float
    offset: float
    sizes: tuple[int, int]
    points: int
    spread: float
    decided: bool

    def at(self, size: float) -> float:
        """Return the model's count at a size.

        It is NaN outside the sizes fitted.
        """
        if not self.sizes[0] <= size <= self.sizes[1]:
            return math.nan
        power = self.rate**size if self.kind == "exponential" else size**self.rate
        return float(self.offset + self.scale * power)

    def __str__(self) -> str:
        if self.kind == "constant":
            return "constant"
        bounds = f"{_brief(self.rate)} ({_brief(self.low)} to {_brief(self.high)})"
        what = f"times {bounds} a step" if self.kind == "exponential" else f"degree {bounds}"
        other = "a power" if self.kind == "exponential" else "an exponential"
        return what if self.decided else f"{what}; {other} fits as well"


def growth(sizes: Sequence[int], counts: Sequence[float]) -> Growth | None:
    """Return how counts grow with sizes.

    Counts of 0, which no relative residual can be taken of, are left out, as are those that are
    not finite. None with fewer than five others.
    """
    pairs = [
        (n, y) for n, y in zip(sizes, counts, strict=True) if n > 0 and math.isfinite(y) and y > 0
    ]
    if len(pairs) < FEWEST:
        return None
    n, y = (np.array(column, float) for column in zip(*pairs, strict=True))
    ends = (int(n.min()), int(n.max()))
    if np.all(y == y[0]):
        return Growth("constant", 0.0, 0.0, 0.0, float(y[0]), 0.0, ends, len(n), 0.0, True)
    fits = [_exponential(n, y), _power(n, y)]
    if len(n) > FEWEST:
        fits.append(_shifted("power", STEEPEST, n, y))
        fits.append(_shifted("exponential", FASTEST, n, y))
    best = min(fits, key=lambda fit: fit.criterion)
    others = [fit.criterion for fit in fits if fit.kind != best.kind]
    decided = min(others) - best.criterion >= UNDECIDED
    reach = _student(len(n) - best.parameters) * best.error
    low, high = best.slope - reach, best.slope + reach
    shown: Callable[[float], float] = _exp if best.kind == "exponential" else float
    return Growth(
        best.kind, shown(best.slope), shown(low), shown(high), best.scale, best.offset,
        ends, len(n), best.spread, bool(decided),
    )  # fmt: skip


@dataclass(frozen=True)
class _Fit:
    """A model fitted.

    Attributes:
        kind: of the model.
        slope: the degree, or the logarithm of the factor.
        error: its standard error.
        scale, offset: the other parameters.
        parameters: how many there are.
        residuals: relative ones.
    """

    kind: str
    slope: float
    error: float
    scale: float
    offset: float
    parameters: int
    residuals: Any

    @property
    def spread(self) -> float:
        freedom = len(self.residuals) - self.parameters
        return math.sqrt(float(self.residuals @ self.residuals) / freedom)

    @property
    def criterion(self) -> float:
        """AICc; the variance of the residuals is one more parameter."""
        count, k = len(self.residuals), self.parameters + 1
        mean = max(float(self.residuals @ self.residuals) / count, EXACT**2)
        return count * math.log(mean) + 2 * k + 2 * k * (k + 1) / (count - k - 1)


def _exponential(n: Any, y: Any) -> _Fit:
    return _line("exponential", n, np.log(y))


def _power(n: Any, y: Any) -> _Fit:
    return _line("power", np.log(n), np.log(y))


def _line(kind: str, x: Any, log_y: Any) -> _Fit:
    """A straight line through logarithms."""
    centred = x - x.mean()
    slope = float(centred @ log_y / (centred @ centred))
    level = float(log_y.mean() - slope * x.mean())
    residuals = log_y - level - slope * x
    fit = _Fit(kind, slope, 0.0, _exp(level), 0.0, 2, residuals)
    error = fit.spread / math.sqrt(float(centred @ centred))
    return _Fit(kind, slope, error, fit.scale, 0.0, 2, residuals)


def _shifted(kind: str, steepest: float, n: Any, y: Any) -> _Fit:
    """c + A n^d or c + A e^(dn): c and A the best ones for each d, d by search from a grid."""
    variable = n if kind == "exponential" else np.log(n)

    def loss(slope: float) -> float:
        _, scale, residuals = _weighted(slope, variable, y)
        return float(residuals @ residuals) if scale > 0 else math.inf

    grid = np.linspace(steepest / 240, steepest, 240)
    i = min(max(int(np.argmin([loss(slope) for slope in grid])), 1), len(grid) - 2)
    slope = _golden(loss, grid[i - 1], grid[i + 1])
    offset, scale, residuals = _weighted(slope, variable, y)
    fit = _Fit(kind, slope, 0.0, scale, offset, 3, residuals)
    power = np.exp(slope * variable)
    slopes = np.stack([1 / y, power / y, scale * power * variable / y], axis=1)
    covariance = np.linalg.pinv(slopes.T @ slopes)
    error = fit.spread * math.sqrt(max(float(covariance[2, 2]), 0.0))
    return _Fit(kind, slope, error, scale, offset, 3, residuals)


def _weighted(slope: float, variable: Any, y: Any) -> tuple[float, float, Any]:
    """c and A of the least relative residuals, and these."""
    columns = np.stack([1 / y, np.exp(slope * variable) / y], axis=1)
    (offset, scale), *_ = np.linalg.lstsq(columns, np.ones_like(y), rcond=None)
    return float(offset), float(scale), 1 - columns @ np.array([offset, scale])


def _golden(loss: Callable[[float], float], low: float, high: float) -> float:
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-10 * high:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return float((low + high) / 2)


def _student(freedom: int) -> float:
    """Student's t at 97.5 %; by its expansion for many degrees of freedom."""
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _exp(t: float) -> float:
    return math.exp(t) if t < 700 else math.inf


def _brief(value: float) -> str:
    return f"{value:.3g}"
