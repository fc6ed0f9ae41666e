"""Plain multiprecision numbers, in an mpmath context of their own."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from diffkit.arithmetic.base import Arithmetic, Number
from diffkit.errors import InvalidInput


class MultiPrecision(Arithmetic):
    """mpmath's real numbers with a given number of decimal digits.

    The context is a copy: neither the precision nor the numbers of `mpmath.mp` are touched.
    """

    def __init__(self, digits: int = 50) -> None:
        import mpmath

        if digits < 1:
            raise InvalidInput(f"digits={digits} must be positive")
        self.context = mpmath.mp.clone()
        self.context.dps = digits
        self._mpf = self.context.mpf
        self._nan = self.context.nan
        self._zero = self._mpf(0)

    # ------------------------------------------------------------------ numbers

    def number(self, x: Number) -> Number:
        return x if type(x) is self._mpf else self.constant(x)

    def exact(self, value: Fraction) -> Number:
        exponent = value.denominator.bit_length() - 1
        if value.denominator == 1 << exponent:
            return self._mpf((value.numerator, -exponent))
        return self._mpf(value.numerator) / value.denominator

    def infinite(self, sign: int) -> Number:
        return (self._nan, self.context.inf, self.context.ninf)[sign]

    @property
    def pi(self) -> Number:
        return +self.context.pi

    def compare(self, a: Number, b: Number) -> int | None:
        a, b = self.number(a), self.number(b)
        return -1 if a < b else 1 if a > b else 0 if a == b else None

    def select(self, a: Number, b: Number) -> int | None:
        return self.compare(a, b)

    def isnan(self, x: Number) -> bool:
        return bool(self.context.isnan(self.number(x)))

    def isinf(self, x: Number) -> bool:
        return bool(self.context.isinf(self.number(x)))

    def size(self, x: Number) -> Any:
        x = self.number(x)
        return self._zero if self.context.isnan(x) else abs(x)

    def leans_to(self, a: Number, b: Number) -> bool:
        return bool(a >= b)

    def _real(self, function: Callable[..., Any], *arguments: Number) -> Number:
        """What a function of mpmath's returns, NaN where that is not a real number."""
        numbers = [self.number(x) for x in arguments]
        if any(self.context.isnan(x) for x in numbers):
            return self._nan
        try:
            result = function(*numbers)
        except (ValueError, ZeroDivisionError):
            return self._nan
        return result if type(result) is self._mpf else self._nan

    def symmetric_eigen(self, matrix: Any) -> tuple[list[Number], Any]:
        values, vectors = self.context.eigsy(self.context.matrix(matrix.tolist()))
        columns = np.empty(matrix.shape, object)
        for i, j in np.ndindex(matrix.shape):
            columns[i, j] = vectors[i, j]
        return list(values), columns

    # ------------------------------------------------------------------ functions

    def divide(self, a: Number, b: Number) -> Number:
        return self._real(lambda p, q: p / q, a, b)

    def power(self, a: Number, b: Number) -> Number:
        a, b = self.number(a), self.number(b)
        if b == 0:
            return self._mpf(1)
        return self._real(lambda p, q: p**q, a, b)

    def sqrt(self, x: Number) -> Number:
        return self._real(self.context.sqrt, x)

    def cbrt(self, x: Number) -> Number:
        x = self.number(x)
        return -self.cbrt(-x) if x < 0 else self._real(self.context.cbrt, x)

    def exp(self, x: Number) -> Number:
        return self._real(self.context.exp, x)

    def expm1(self, x: Number) -> Number:
        return self._real(self.context.expm1, x)

    def log(self, x: Number) -> Number:
        return self._real(self.context.ln, x)

    def log1p(self, x: Number) -> Number:
        return self._real(self.context.log1p, x)

    def log2(self, x: Number) -> Number:
        return self._log_by_base(x, 2)

    def log10(self, x: Number) -> Number:
        return self._log_by_base(x, 10)

    def _log_by_base(self, x: Number, base: int) -> Number:
        """log(x) / log(base), exact at powers of the base."""
        quotient = self._real(lambda p: self.context.ln(p) / self.context.ln(base), x)
        nearest = self.context.nint(quotient) if self.context.isfinite(quotient) else quotient
        return nearest if self._mpf(base) ** nearest == x else quotient

    def sin(self, x: Number) -> Number:
        return self._real(self.context.sin, x)

    def cos(self, x: Number) -> Number:
        return self._real(self.context.cos, x)

    def tan(self, x: Number) -> Number:
        return self._real(self.context.tan, x)

    def arcsin(self, x: Number) -> Number:
        return self._real(self.context.asin, x)

    def arccos(self, x: Number) -> Number:
        return self._real(self.context.acos, x)

    def arctan(self, x: Number) -> Number:
        return self._real(self.context.atan, x)

    def arctan2(self, y: Number, x: Number) -> Number:
        return self._real(self.context.atan2, y, x)

    def sinh(self, x: Number) -> Number:
        return self._real(self.context.sinh, x)

    def cosh(self, x: Number) -> Number:
        return self._real(self.context.cosh, x)

    def tanh(self, x: Number) -> Number:
        return self._real(self.context.tanh, x)

    def arcsinh(self, x: Number) -> Number:
        return self._real(self.context.asinh, x)

    def arccosh(self, x: Number) -> Number:
        return self._real(self.context.acosh, x)

    def arctanh(self, x: Number) -> Number:
        return self._real(self.context.atanh, x)

    def sinc(self, x: Number) -> Number:
        return self._real(self.context.sincpi, x)

    def erf(self, x: Number) -> Number:
        return self._real(self.context.erf, x)

    def erfc(self, x: Number) -> Number:
        return self._real(self.context.erfc, x)

    def gamma(self, x: Number) -> Number:
        return self._real(self.context.gamma, x)

    def lgamma(self, x: Number) -> Number:
        x = self.number(x)
        return self._real(self.context.loggamma, x) if x > 0 else self.log(abs(self.gamma(x)))

    def digamma(self, x: Number) -> Number:
        return self._real(self.context.digamma, x)

    def polygamma(self, order: int, x: Number) -> Number:
        return self._real(lambda t: self.context.polygamma(order, t), x)

    def zeta(self, x: Number) -> Number:
        return self._real(self.context.zeta, x)

    def erfi(self, x: Number) -> Number:
        return self._real(self.context.erfi, x)

    def erfinv(self, x: Number) -> Number:
        return self._real(self.context.erfinv, x)

    def erfcinv(self, x: Number) -> Number:
        """As the inverse of erf near 1, as that of its complement near 0."""
        x = self.number(x)
        with self.context.extradps(max(0, 10 - int(self.context.mag(x)) // 3)):
            return self.erfinv(1 - x)

    def gammainc(self, a: Number, x: Number) -> Number:
        return self._real(lambda p, t: self.context.gammainc(p, 0, t, regularized=True), a, x)

    def gammaincc(self, a: Number, x: Number) -> Number:
        return self._real(lambda p, t: self.context.gammainc(p, t, regularized=True), a, x)

    def betainc(self, a: Number, b: Number, x: Number) -> Number:
        def lower(p: Number, q: Number, t: Number) -> Number:
            return self.context.betainc(p, q, 0, t, regularized=True)

        return self._real(lower, a, b, x)

    def hurwitz(self, s: Number, q: Number) -> Number:
        return self._real(self.context.zeta, s, q)

    def expi(self, x: Number) -> Number:
        return self._real(self.context.ei, x)

    def exp1(self, x: Number) -> Number:
        return self._real(self.context.e1, x)

    def expn(self, n: Number, x: Number) -> Number:
        return self._real(self.context.expint, n, x)

    def second_bessel(self, order: Number, x: Number, sign: int) -> Number:
        """The Bessel function Y (sign -1) or K (sign 1)."""
        return self._real(self.context.besselk if sign > 0 else self.context.bessely, order, x)

    def differentiated(self, function: Callable[[Number], Number], order: int, x: Number) -> Number:
        """The derivative of some order of a function of one number, by differences."""
        return self._real(lambda t: self.context.diff(function, t, order), x)

    def hyp0f1(self, b: Number, z: Number) -> Number:
        return self._real(self.context.hyp0f1, b, z)

    def floor(self, x: Number) -> Number:
        return self._real(self.context.floor, x)
