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
    series reversed, a polygamma function a derivative of log gamma by definition, and the
    series of a hypergeometric function at a point is made of its own sums.
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

    # ------------------------------------------------------------------ how they are composed

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
        return Taylor(outer(rest))

    def _by_name(self, x: Number, name: str) -> Number:
        x = self.number(x)
        if type(x) is Taylor:
            return Taylor(getattr(x.series, name)())
        return getattr(x, name)()
