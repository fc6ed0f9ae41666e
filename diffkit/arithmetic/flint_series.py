"""Taylor series in FLINT balls: derivatives with a rigorous enclosure, from values alone."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from diffkit.arithmetic.base import Number, PrecisionNeeded
from diffkit.arithmetic.flint_special import FlintSpecial
from diffkit.arithmetic.taylor import Taylor


class FlintSeries(FlintSpecial):
    """NumPy's functions on balls and on Taylor series of them, as FLINT composes them.

    What the numbers are, and how an instance is made and used, is said at `FlintNumbers`.
    """

    # ------------------------------------------------------------------ quotients and powers

    def divide(self, a: Number, b: Number) -> Number:
        return self.number(a) / self.number(b)

    def sqrt(self, x: Number) -> Number:
        x = self.number(x)
        if type(x) is not Taylor:
            return x.sqrt()
        if self._vanishes(x):
            return self._power_at_zero(x, Fraction(1, 2))
        return Taylor(x.series.sqrt())

    def cbrt(self, x: Number) -> Number:
        x = self.number(x)
        if type(x) is Taylor and self._vanishes(x):
            return self._power_at_zero(x, Fraction(1, 3), odd=True)
        if self._start(x) < 0:
            return -self.cbrt(-x)
        return x.root(3) if type(x) is not Taylor else self.exp(self.log(x) / 3)

    def power(self, a: Number, b: Number) -> Number:
        a, b = self.number(a), self.number(b)
        if type(b) is Taylor:
            if type(a) is not Taylor and a.is_zero():
                return self._zero if self._start(b) > 0 else self._nan()
            return self.exp(b * self.log(a))
        if b.is_exact() and b.is_integer():
            return self._integer_power(a, int(b.unique_fmpz()))
        if type(a) is not Taylor:
            return a**b
        if self._vanishes(a):
            return self._power_at_zero(a, _fraction(b)) if b.is_exact() else self._nan()
        return self.exp(b * self.log(a))

    def _integer_power(self, a: Number, n: int) -> Number:
        if n < 0:
            return self.divide(1, self._integer_power(a, -n))
        if n >> 31:
            power = self.exp(self.log(self.absolute(a)) * n)
            return -power if n % 2 and self._start(a) < 0 else power
        if type(a) is not Taylor:
            return a**n
        return self._arb(1) if n == 0 else Taylor(a.series**n)

    def _vanishes(self, x: Number) -> bool:
        """Whether the constant term of a series is exactly zero."""
        return bool(x.series[0].is_zero())

    def _power_at_zero(self, x: Number, p: Fraction, odd: bool = False) -> Number:
        """x^p for a series without constant term; with `odd`, -|x|^p where x is negative.

        With x = t^m u and u(0) != 0 it is |t|^(m p) |u|^p. Where m p is no integer, the
        coefficients below it are zero and those above infinite.
        """
        coefficients = self.coefficients(x)
        m, sign = self._valuation(coefficients)
        q = m * p
        if sign is None or q <= 0 or (sign < 0 and not odd):
            return self._nan()
        if sign == 0:
            return self._new([self._zero] * max(1, min(int(q), self.length)))
        if q.denominator != 1:
            self.one_sided = True
            zeros = [self._zero] * (int(q) + 1)
            return self._new((zeros + [self._nan()] * self.length)[: self.length])
        unit = self._new(coefficients[m:])
        root = self.exp(self.log(self._signed(unit, self._start(unit) > 0)) * self.exact(p))
        known = ([self._zero] * int(q) + self.coefficients(root))[: self.length]
        self.one_sided |= q % 2 == 1
        return self._signed(self._new(known), (self.side if q % 2 else 1) * sign > 0)

    def _signed(self, x: Number, positive: bool) -> Number:
        return x if positive else -x

    def _valuation(self, coefficients: list[Any]) -> tuple[int, int | None]:
        """The index of the first coefficient that is not zero, and the series' sign there."""
        for power, coefficient in enumerate(coefficients):
            order = self._decide(coefficient, self._zero)
            if order != 0:
                if power % 2:
                    self.one_sided = True
                return power, None if order is None else order * self.side**power
        return len(coefficients), 0

    # ------------------------------------------------------------------ exponentials, logarithms

    def exp(self, x: Number) -> Number:
        return self._by_name(x, "exp")

    def log(self, x: Number) -> Number:
        return self._by_name(x, "log")

    def expm1(self, x: Number) -> Number:
        x = self.number(x)
        if type(x) is not Taylor:
            return x.expm1()
        return self._restarted(self.exp(x), self._start(x).expm1())

    def log1p(self, x: Number) -> Number:
        x = self.number(x)
        if type(x) is not Taylor:
            return x.log1p()
        return self._restarted(self.log(x + 1), self._start(x).log1p())

    def log2(self, x: Number) -> Number:
        return self._log_by_base(x, 2)

    def log10(self, x: Number) -> Number:
        return self._log_by_base(x, 10)

    def _log_by_base(self, x: Number, base: int) -> Number:
        """log(x) / log(base), exact at powers of the base."""
        x = self.number(x)
        if type(x) is Taylor:
            quotient = self.log(x) / self._arb(base).log()
            return self._restarted(quotient, self._log_by_base(self._start(x), base))
        quotient = x.log() / self._arb(base).log()
        n = quotient.unique_fmpz()
        if n is None or not x.is_exact():
            return quotient
        n = int(n)
        left, right = (x, self._arb(base) ** n) if n >= 0 else (x * self._arb(base) ** -n, 1)
        return self._arb(n) if left == right else quotient

    def _restarted(self, x: Number, start: Any) -> Number:
        """A fresh series with a sharper enclosure of its constant term."""
        x.series[0] = start
        return x

    # ------------------------------------------------------------------ circular and hyperbolic

    def sin(self, x: Number) -> Number:
        return self._by_name(x, "sin")

    def cos(self, x: Number) -> Number:
        return self._by_name(x, "cos")

    def tan(self, x: Number) -> Number:
        return self._by_name(x, "tan")

    def arcsin(self, x: Number) -> Number:
        return self._by_name(x, "asin")

    def arccos(self, x: Number) -> Number:
        return self._by_name(x, "acos")

    def arctan(self, x: Number) -> Number:
        return self._by_name(x, "atan")

    def sinh(self, x: Number) -> Number:
        """sinh x = -i sin(i x)."""
        x = self.number(x)
        return self._rotated(x, "sin") if type(x) is Taylor else x.sinh()

    def cosh(self, x: Number) -> Number:
        """cosh x = (e^x + e^-x) / 2."""
        x = self.number(x)
        return (self.exp(x) + self.exp(-x)) / 2 if type(x) is Taylor else x.cosh()

    def tanh(self, x: Number) -> Number:
        """tanh x = -i tan(i x)."""
        x = self.number(x)
        return self._rotated(x, "tan") if type(x) is Taylor else x.tanh()

    def arcsinh(self, x: Number) -> Number:
        """log(x + sqrt(1 + x^2)) for large x, artanh(x / sqrt(1 + x^2)) for small x."""
        x = self.number(x)
        if type(x) is not Taylor:
            return x.asinh()
        root = self.sqrt(x * x + 1)
        if self._below(x, 1):
            return self.arctanh(x / root)
        return self.log(x + root) if self._start(x) > 0 else -self.log(root - x)

    def arccosh(self, x: Number) -> Number:
        """log(x + sqrt(x^2 - 1))."""
        x = self.number(x)
        if type(x) is not Taylor:
            return x.acosh()
        return self.log(x + self.sqrt(x + 1) * self.sqrt(x - 1))

    def arctanh(self, x: Number) -> Number:
        """artanh x = -i arctan(i x), within (-1, 1)."""
        x = self.number(x)
        if type(x) is not Taylor:
            return x.atanh()
        inside = -1 < self._start(x) < 1
        return self._rotated(x, "atan") if inside else self._nan()

    def arctan2(self, y: Number, x: Number) -> Number:
        """The angle of (x, y): arctan of the quotient that is regular there, plus a constant."""
        y, x = self.number(y), self.number(x)
        if not self._varies(y, x):
            return self._arb.atan2(y, x)
        above, right = self._start(y), self._start(x)
        if right > 0:
            return self.arctan(y / x)
        if above > 0 or above < 0:
            quarter = self.pi / 2
            return (quarter if above > 0 else -quarter) - self.arctan(x / y)
        if right < 0:
            half = -self.pi if self.compare(y, 0) == -1 else self.pi
            return self.arctan(y / x) + half
        return self._nan()

    def _rotated(self, x: Number, name: str) -> Number:
        """-i f(i x) for an odd function f, which is real."""
        turned = [self._acb(0, c) for c in x.series.coeffs()]
        result = getattr(self._acb_series(turned, x.series.prec), name)()
        return Taylor(self._series([c.imag for c in result.coeffs()], x.series.prec))

    def sinc(self, x: Number) -> Number:
        """sin(pi x) / (pi x), and 1 at 0."""
        x = self.number(x)
        if type(x) is not Taylor:
            return x.sinc_pi()
        if not self._vanishes(x):
            return Taylor(x.series.sin_pi()) / (x * self.pi)
        return self._composed(lambda t: t.sin_pi() / (t * self.pi), x)

    # ------------------------------------------------------------------ rounding to integers

    def floor(self, x: Number) -> Number:
        x = self.number(x)
        start = self._start(x)
        nearest = start.unique_fmpz()
        if nearest is not None and self._varies(x) and start == nearest:
            return self._arb(nearest) - int(self.compare(x, self._arb(nearest)) == -1)
        below = start.floor()
        if not below.is_exact():
            raise PrecisionNeeded("a ball holds an integer and numbers on both sides of it")
        return below


def _fraction(ball: Any) -> Fraction:
    """An exact ball as a rational."""
    mantissa, exponent = (int(part) for part in ball.man_exp())
    return Fraction(mantissa) * Fraction(2) ** exponent
