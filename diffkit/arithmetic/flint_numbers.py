"""FLINT balls and Taylor series of them as numbers: made, held under a lock, and compared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from diffkit.arithmetic.base import Arithmetic, LengthNeeded, Number, PrecisionNeeded
from diffkit.arithmetic.taylor import Taylor
from diffkit.errors import InvalidInput

LONGEST: Final = 16
"""Two series that agree in this many coefficients count as equal in a comparison."""

_flint_context: Final = threading.RLock()


class FlintNumbers(Arithmetic):
    """Balls (`arb`) for what is constant along the direction, series in t for the rest.

    `variable(x0, v)` is x0 + v t; the k-th coefficient of a result times k! encloses the k-th
    derivative at t = 0 of the function as it is for small t of the sign `side`. With side 0
    everything is constant and results enclose the value at t = 0 itself.

    Use it as a context manager: FLINT's precision is global, so it is held under a lock and
    restored at the end.

    Args:
        length: how many coefficients a series has.
        side: 1 for t -> 0+, -1 for t -> 0-, 0 for t = 0.
        precision: the working precision in bits.
        final: whether, instead of raising `PrecisionNeeded`, balls that overlap count as equal
            where the larger or smaller of two is chosen, and a NaN compares as in NumPy.

    Attributes:
        one_sided: whether a result so far depended on `side`.
        assumed: whether such a thing has been taken for granted.
    """

    def __init__(
        self, length: int = 2, side: int = 1, precision: int = 128, final: bool = False
    ) -> None:
        import flint

        if side not in (-1, 0, 1) or length < 1 or precision < 2:
            raise InvalidInput(f"no series of length={length}, side={side}, precision={precision}")
        self.length = length
        self.side = side
        self.precision = precision
        self.final = final
        self.one_sided = False
        self.assumed = False
        self._context = flint.ctx
        self._arb = flint.arb
        self._series = flint.arb_series
        self._acb = flint.acb
        self._acb_series = flint.acb_series
        self._kinds = (flint.arb, Taylor)
        self._zero = flint.arb(0)
        self._missing = flint.arb.nan()
        self._saved: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        _flint_context.acquire()
        self._saved.append((self._context.prec, self._context.cap))
        self._context.prec, self._context.cap = self.precision, self.length
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._context.prec, self._context.cap = self._saved.pop()
        _flint_context.release()

    # ------------------------------------------------------------------ numbers

    def number(self, x: Number) -> Number:
        return x if type(x) in self._kinds else self.constant(x)

    def constant(self, x: Any) -> Number:
        if isinstance(x, float) and np.isfinite(x):
            return self._arb(x)
        return super().constant(x)

    def exact(self, value: Fraction) -> Number:
        exponent = value.denominator.bit_length() - 1
        if value.denominator == 1 << exponent:
            return self._arb((value.numerator, -exponent))
        return self._arb(value.numerator) / self._arb(value.denominator)

    def infinite(self, sign: int) -> Number:
        return (self._missing, self._arb.pos_inf(), self._arb.neg_inf())[sign]

    @property
    def pi(self) -> Number:
        return self._arb.pi()

    def variable(self, x0: Any, v: Any = 1) -> Number:
        """Return x0 + v t, for `x0` and `v` taken exactly; a constant where v is zero."""
        start, slope = self.number(x0), self.number(v)
        if self.side == 0 or slope.is_zero():
            return start
        return Taylor(self._series([start, slope], self.length))

    def coefficients(self, x: Number) -> list[Any]:
        """Return all known coefficients of a number: fewer than `length` where some were lost."""
        x = self.number(x)
        if type(x) is not Taylor:
            return [x] + [x * 0] * (self.length - 1)
        known: list[Any] = x.series.coeffs()
        return known + [self._zero] * (x.series.prec - len(known))

    def _new(self, coefficients: list[Any]) -> Number:
        return Taylor(self._series(coefficients, len(coefficients)))

    def _nan(self) -> Number:
        return self._arb.nan()

    def _start(self, x: Number) -> Any:
        """The constant term."""
        return x.series[0] if type(x) is Taylor else x

    # ------------------------------------------------------------------ eigenvalues

    def expanded(self, array: Any) -> list[Any]:
        if not self._varies(*array.flat):
            return [array]
        known = [self.coefficients(x) for x in array.flat]
        orders = []
        for order in range(min(map(len, known))):
            terms = np.empty(len(known), object)
            terms[:] = [coefficients[order] for coefficients in known]
            orders.append(terms.reshape(array.shape))
        return orders

    def joined(self, terms: list[Any]) -> Number:
        return terms[0] if len(terms) == 1 else self._new(terms)

    def symmetric_eigen(self, matrix: Any) -> tuple[list[Number], Any]:
        """By FLINT, as for any matrix, but eigenvalues here are real and so are vectors.

        A vector is real once one of its entries is 1.
        """
        import flint

        try:
            values, columns = flint.acb_mat(matrix.tolist()).eig(right=True)
        except ValueError as error:
            raise PrecisionNeeded("eigenvalues or singular values coincide") from error
        order = sorted(range(len(values)), key=lambda i: float(values[i].real.mid()))
        vectors = np.empty(matrix.shape, object)
        for place, i in enumerate(order):
            column = [columns[j, i] for j in range(len(values))]
            largest = max(column, key=lambda entry: float(abs(entry).mid()))
            real = [(entry / largest).real for entry in column]
            length = sum((x * x for x in real), self._zero).sqrt()
            vectors[:, place] = [x / length for x in real]
        return [values[i].real for i in order], vectors

    # ------------------------------------------------------------------ comparisons

    def compare(self, a: Number, b: Number) -> int | None:
        order = self._order(self.number(a), self.number(b), self._decide)
        if order == 0 and self._varies(a, b) and a is not b and self.length < LONGEST:
            raise LengthNeeded("two series agree in all their coefficients")
        return order

    def select(self, a: Number, b: Number) -> int | None:
        return self._order(self.number(a), self.number(b), self._decide_or_assume)

    def _varies(self, *numbers: Number) -> bool:
        return any(type(x) is Taylor for x in numbers)

    def _order(self, a: Number, b: Number, decide: Callable[[Any, Any], int | None]) -> int | None:
        """The order for small t on this side: that of the first coefficients that differ."""
        if a is b and not self._start(a).is_nan():
            return 0
        if not self._varies(a, b):
            return decide(a, b)
        pairs = zip(self.coefficients(a), self.coefficients(b), strict=False)
        for power, (p, q) in enumerate(pairs):
            order = decide(p, q)
            if order is None:
                return None
            if order:
                if power % 2:
                    self.one_sided = True
                return order if power % 2 == 0 else order * self.side
        return 0

    def _decide(self, p: Any, q: Any) -> int | None:
        if p < q:
            return -1
        if p > q:
            return 1
        if p == q:
            return 0
        if self.isnan(p) or self.isnan(q):
            return None
        raise PrecisionNeeded("two balls overlap")

    def isnan(self, x: Number) -> bool:
        x = self.number(x)
        if x is self._missing or not self._start(x).is_nan():
            return x is self._missing
        if not self.final:
            raise PrecisionNeeded("a result is not a number, or its balls are too wide")
        self.assumed = True
        return True

    def isinf(self, x: Number) -> bool:
        start = self._start(self.number(x))
        return bool(start == self._arb.pos_inf() or start == self._arb.neg_inf())

    def _decide_or_assume(self, p: Any, q: Any) -> int | None:
        try:
            return self._decide(p, q)
        except PrecisionNeeded:
            if not self.final or p.is_nan() or q.is_nan():
                raise
            self.assumed = True
            return 0

    def size(self, x: Number) -> Any:
        """A lower bound of the constant term's magnitude."""
        start = self._start(self.number(x))
        return self._zero if start.is_nan() else start.abs_lower()

    def leans_to(self, a: Number, b: Number) -> bool:
        return bool(self._start(a).mid() >= self._start(b).mid())

    def _below(self, x: Number, bound: float) -> bool:
        """Whether the constant term is about less than `bound` in magnitude."""
        return bool(abs(self._start(x).mid()) < bound)
