"""What other packages make of the problems of the chapter on finite differences.

They are not needed for the report: what they gave is kept in the table `PEERS`. Where they are
installed, `python -m diffkit.reporting.difference_peers` measures them and prints it anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any, Final

import numpy as np

from diffkit.reporting.difference_studies import Sample, flat, sampled
from diffkit.structure import flatten

NEAR: Final = 8  # further points of each problem, as in the chapter


@dataclass(frozen=True)
class Peer:
    """What a package gave at all points.

    Attributes:
        points: how many there are.
        answered: at how many it gave finite numbers.
        right: at how many the relative error in the max norm was at most 1e-9.
        evaluations: of the function per coordinate, the median.
        median, largest: relative error in the max norm.
    """

    points: int
    answered: int
    right: int
    evaluations: float
    median: float
    largest: float


VERSIONS: Final = "numdifftools 0.9.41, jacobi 0.9.2, SciPy 1.17.1"
PEERS: Final = {
    "numdifftools": Peer(180, 171, 169, 32.0, 2.06e-14, 3.86e-09),
    "jacobi": Peer(180, 180, 169, 15.5, 1.18e-14, 2.84),
    "scipy.differentiate": Peer(180, 171, 162, 11.0, 3.02e-13, 3.39e-07),
    "scipy, 3 points": Peer(180, 180, 140, 2.75, 2.64e-11, 7.61e-06),
}


class _Flat:
    """The function of a sample as one from a vector to a vector, which counts its calls."""

    def __init__(self, sample: Sample) -> None:
        x, *self.data = sample.arguments
        self.f, self.calls = sample.f, 0
        self.layout, leaves = flatten(x)
        self.x = self.layout.ravel(leaves)

    def __call__(self, vector: Any) -> Any:
        self.calls += 1
        leaves = self.layout.unravel(np.asarray(vector, float))
        with np.errstate(all="ignore"):
            return np.ravel(self.f(self.layout.restore(leaves), *self.data))

    def columns(self, points: Any) -> Any:
        """The same for an array of points, along its first axis."""
        return np.apply_along_axis(self, 0, points)


def _numdifftools(f: _Flat) -> Any:
    package = import_module("numdifftools")
    if f(f.x).size > 1:
        return package.Jacobian(f)(f.x)
    return package.Gradient(lambda x: f(x)[0])(f.x)


def _jacobi(f: _Flat) -> Any:
    return import_module("jacobi").jacobi(f, f.x)[0]


def _differentiate(f: _Flat) -> Any:
    return import_module("scipy.differentiate").jacobian(f.columns, f.x).df


def _three_points(f: _Flat) -> Any:
    derivative = import_module("scipy.optimize._numdiff").approx_derivative
    return derivative(f, f.x, method="3-point")


METHODS: Final[dict[str, Callable[[_Flat], Any]]] = {
    "numdifftools": _numdifftools,
    "jacobi": _jacobi,
    "scipy.differentiate": _differentiate,
    "scipy, 3 points": _three_points,
}


def measured(method: Callable[[_Flat], Any], points: list[Sample]) -> Peer:
    """Return what a method gives at the points."""
    costs, errors = [], []
    for sample in points:
        f = _Flat(sample)
        exact = np.array(sample.exact)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                value = np.ravel(np.asarray(method(f), float))[_entry_order(sample)]
            except Exception:  # whatever a package makes of a function
                continue
        if value.shape != exact.shape or not np.all(np.isfinite(value)):
            continue
        errors.append(float(np.max(np.abs(value - exact)) / np.max(np.abs(exact))))
        costs.append(f.calls / f.x.size)
    right = sum(error <= 1e-9 for error in errors)
    return Peer(
        len(points), len(errors), right, median(costs), float(f"{median(errors):.3g}"),
        float(f"{max(errors):.3g}"),
    )  # fmt: skip


def _entry_order(sample: Sample) -> list[int]:
    """The places of a Jacobian's entries, leaf by leaf, in the matrix of a flat function."""
    rows = len(flat(sample.f(*sample.arguments)))
    layout, _ = flatten(sample.arguments[0])
    order, left = [], 0
    for leaf in layout.leaves:
        order += [i * layout.size + left + j for i in range(rows) for j in range(leaf.size)]
        left += leaf.size
    return order


if __name__ == "__main__":
    from importlib.metadata import version

    packages = ("numdifftools", "jacobi", "scipy")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    everywhere = sampled(NEAR)
    for name, method in METHODS.items():
        print(f'    "{name}": {measured(method, everywhere)},')
