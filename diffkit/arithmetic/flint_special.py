"""Special functions on balls and on Taylor series of them, as FLINT composes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffkit.arithmetic.base import Number
from diffkit.arithmetic.flint_numbers import FlintNumbers
from diffkit.arithmetic.taylor import Taylor


class FlintSpecial(FlintNumbers):
    """Error, gamma and Bessel functions.

    Where FLINT has no series, it follows from those of other functions: an inverse is the
    series reversed, a polygamma function a derivative of log gamma by definition, a Bessel
    function of the second kind the other solution beside that of the first, and the series of
    a sum at a point (a hypergeometric or a zeta function) is made of its own sums.
    """

    # ------------------------------------------------------------------ the error function

    def erf(self, x: Number) -> Number:
        return self._by_name(x, "erf")

    def erfc(self, x: Number) -> Number:
        return self._by_name(x, "erfc")

    def erfi(self, x: Number) -> Number:
        return self._by_name(x, "erfi")

    def erfinv(self, x: Number) -> Number:
        x = self.number(x)
        if type(x) is not Taylor:
            return x.erfinv()
        return self._inverted("erf", self._start(x).erfinv(), x)

    def erfcinv(self, x: Number) -> Number:
        x = self.number(x)
        if type(x) is not Taylor:
            return x.erfcinv()
        return self._inverted("erfc", self._start(x).erfcinv(), x)

    def _inverted(self, name: str, start: Any, x: Number) -> Number:
        """The inverse of a function with the given value at the constant term of `x`."""
        if not start.is_finite():
            return self._nan()

        def reversed_series(t: Any) -> Any:
            forward = getattr(self._series([start, 1], t.prec), name)()
            forward[0] = self._zero
            inverse = forward.reversion()
            inverse[0] = start
            return inverse

        return self._composed(reversed_series, x)

    # ------------------------------------------------------------------ the gamma function

    def gamma(self, x: Number) -> Number:
        return self._by_name(x, "gamma")

    def lgamma(self, x: Number) -> Number:
        """log |gamma(x)|."""
        x = self.number(x)
        if self._start(x) > 0:
            return self._by_name(x, "lgamma")
        return self.log(self.absolute(self.gamma(x)))

    def digamma(self, x: Number) -> Number:
        """gamma' / gamma, which is what digamma is by definition."""
        x = self.number(x)
        if type(x) is not Taylor:
            return x.digamma()
        if self._start(x) > 0:
            return self._composed(lambda t: t.lgamma().derivative(), x)
        return self._composed(lambda t: t.gamma().derivative() / t.gamma(), x)

    def polygamma(self, order: int, x: Number) -> Number:
        """The derivative of digamma of some order, by definition."""
        x = self.number(x)

        def derived(t: Any) -> Any:
            known = t.lgamma() if t[0] > 0 else (t.gamma().derivative() / t.gamma()).integral()
            for _ in range(order + 1):
                known = known.derivative()
            return known

        if type(x) is Taylor:
            return self._composed(derived, x, order + 1)
        return self._start(self._composed(derived, self._new([x, self._arb(1)]), order + 1))

    def zeta(self, x: Number) -> Number:
        return self._by_name(x, "zeta")

    def hurwitz(self, s: Number, q: Number) -> Number:
        """The sum of (q + n)^-s over n >= 0, where one of the two is constant and q > 0."""
        s, q = self.number(s), self.number(q)
        if type(q) is not Taylor:
            return Taylor(s.series.zeta(q)) if type(s) is Taylor else s.zeta(q)
        if self._varies(s):
            return self._nan()

        def expanded(t: Any) -> Any:
            terms, weight = [], self._arb(1)
            for k in range(t.prec):
                terms.append((s + k).zeta(t[0]) * weight)
                weight = weight * -(s + k) / (k + 1)
            return self._series(terms, t.prec)

        return self._composed(expanded, q)

    def gammainc(self, a: Number, x: Number) -> Number:
        """The lower incomplete gamma function over gamma(a), of a constant `a`."""
        return self._incomplete("gamma_lower", (a,), x)

    def gammaincc(self, a: Number, x: Number) -> Number:
        return self._incomplete("gamma_upper", (a,), x)

    def betainc(self, a: Number, b: Number, x: Number) -> Number:
        return self._incomplete("beta_lower", (a, b), x)

    def _incomplete(self, name: str, parameters: tuple[Number, ...], x: Number) -> Number:
        constants = [self.number(p) for p in parameters]
        if self._varies(*constants):
            return self._nan()
        x = self.number(x)
        series = x.series if type(x) is Taylor else self._series([x], 1)
        result = Taylor(getattr(self._series, name)(*constants, series, regularized=1))
        return result if type(x) is Taylor else self._start(result)

    # ------------------------------------------------------------------ exponential integrals

    def expi(self, x: Number) -> Number:
        return self._by_name(x, "ei")

    def exp1(self, x: Number) -> Number:
        """The integral of e^-t / t from x > 0 on."""
        return -self.expi(-self.number(x)) if self._start(self.number(x)) > 0 else self._nan()

    def expn(self, n: Number, x: Number) -> Number:
        """x^(n-1) times the upper incomplete gamma function of 1 - n, constant `n` and x > 0."""
        n, x = self.number(n), self.number(x)
        if self._varies(n) or not self._start(x) > 0:
            return self._nan()
        if type(x) is not Taylor:
            return x.expint(n)
        return Taylor(self._series.gamma_upper(1 - n, x.series)) * self.power(x, n - 1)

    # ------------------------------------------------------------------ Bessel functions

    def hyp0f1(self, b: Number, z: Number) -> Number:
        """The sum of z^m / ((b)_m m!), of a constant `b`."""
        b, z = self.number(b), self.number(z)
        if self._varies(b):
            return self._nan()
        if type(z) is not Taylor:
            return z.hypgeom_0f1(b)

        def expanded(t: Any) -> Any:
            terms, weight = [], self._arb(1)
            for k in range(t.prec):
                terms.append(t[0].hypgeom_0f1(b + k) * weight)
                weight = weight / ((b + k) * (k + 1))
            return self._series(terms, t.prec)

        return self._composed(expanded, z)

    def second_bessel(self, order: Number, x: Number, sign: int) -> Number:
        """The Bessel function Y (sign -1) or K (sign 1) of a constant order, for x > 0.

        By Abel's formula, J Y' - J' Y = 2 / (pi x) and I K' - I' K = -1 / x, it is the solution
        of the first kind times a constant, which its value tells, and an integral.
        """
        order, x = self.number(order), self.number(x)
        start = self._start(x)
        if self._varies(order) or not start > 0:
            return self._nan()
        value = start.bessel_k(order) if sign > 0 else start.bessel_y(order)
        if type(x) is not Taylor:
            return value
        first = self.bessel(order, x, sign).series
        scale = self._arb(-1) if sign > 0 else 2 / self.pi
        beside = (scale * x.series.derivative() / (x.series * first * first)).integral()
        return Taylor(first * (beside + value / first[0]))

    # ------------------------------------------------------------------ how they are composed

    def differentiated(self, function: Callable[[Number], Number], order: int, x: Number) -> Number:
        """The derivative of some order of a function of one number, by definition of a series."""
        x = self.number(x)

        def derived(t: Any) -> Any:
            known = function(Taylor(t)).series
            for _ in range(order):
                known = known.derivative()
            return known

        self.length += order
        self._context.cap = self.length
        try:
            if type(x) is Taylor:
                return self._composed(derived, x, 0)
            return self._arb(derived(self._series([x, 1], self.length))[0])
        finally:
            self.length -= order
            self._context.cap = self.length

    def _composed(self, function: Callable[[Any], Any], x: Number, more: int = 1) -> Number:
        """The series of a function at the constant term, composed with the rest of `x`.

        It is expanded some coefficients further, for functions that lose as many.
        """
        rest = x.series + 0
        rest[0] = self._zero
        self._context.cap = self.length + more
        try:
            outer = function(self._series([x.series[0], 1], self.length + more))
        finally:
            self._context.cap = self.length
        if rest.length() == 0:  # which FLINT takes for a series with a constant term
            return Taylor(self._series([outer[0]], rest.prec))
        return Taylor(outer(rest))

    def _by_name(self, x: Number, name: str) -> Number:
        x = self.number(x)
        if type(x) is Taylor:
            return Taylor(getattr(x.series, name)())
        return getattr(x, name)()
