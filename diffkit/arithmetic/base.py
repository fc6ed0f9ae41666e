"""What both arithmetics share: the functions that follow from others, and comparisons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.arithmetic import decompositions, linear_algebra
from diffkit.errors import DiffkitError, InvalidInput

Number = Any
Array = npt.NDArray[Any]


class PrecisionNeeded(DiffkitError):
    """Balls are too wide to decide a comparison; the caller raises the precision."""


class LengthNeeded(DiffkitError):
    """Series are too short to decide a comparison; the caller makes them longer."""


class Arithmetic(ABC):
    """NumPy's scalar functions on one kind of number.

    A result that is not a real number (outside a domain, at a pole) is a NaN of that kind,
    never an exception: it may stand in a branch that `where` does not take.
    """

    @abstractmethod
    def number(self, x: Number) -> Number:
        """`x` as a number of this kind; numbers of this kind pass unchanged."""

    @abstractmethod
    def exact(self, value: Fraction) -> Number:
        """The number nearest to a rational; exact where the denominator is a power of two."""

    @abstractmethod
    def infinite(self, sign: int) -> Number:
        """Plus or minus infinity, or NaN for sign 0."""

    @property
    @abstractmethod
    def pi(self) -> Number: ...

    @abstractmethod
    def compare(self, a: Number, b: Number) -> int | None:
        """-1, 0 or 1 as `a` is less than, equal to or greater than `b`; None with a NaN."""

    @abstractmethod
    def select(self, a: Number, b: Number) -> int | None:
        """`compare` for choosing the larger or smaller of two, where a tie does no harm."""

    @abstractmethod
    def size(self, x: Number) -> Any:
        """A lower bound of |x| that can be compared; zero where `x` may be zero."""

    @abstractmethod
    def leans_to(self, a: Number, b: Number) -> bool:
        """Whether `a` is about as large as `b` or larger: to choose among equal formulas."""

    def constant(self, x: Any) -> Number:
        """Return a Python or NumPy real number as it is in binary, exactly.

        Raises:
            InvalidInput: `x` is complex or no number.
        """
        if isinstance(x, (bool, np.bool_)):
            return self.exact(Fraction(int(x)))
        if isinstance(x, (int, np.integer)):
            return self.exact(Fraction(int(x)))
        if not isinstance(x, (float, np.floating)):
            raise InvalidInput(f"{x!r} is of type {type(x).__name__}, which is not a real number")
        if np.isfinite(x):
            return self.exact(Fraction(*x.as_integer_ratio()))
        return self.infinite(0 if np.isnan(x) else 1 if x > 0 else -1)

    # ------------------------------------------------------------------ elementary, by others

    @abstractmethod
    def exp(self, x: Number) -> Number: ...

    @abstractmethod
    def log(self, x: Number) -> Number: ...

    @abstractmethod
    def log1p(self, x: Number) -> Number: ...

    @abstractmethod
    def sqrt(self, x: Number) -> Number: ...

    @abstractmethod
    def divide(self, a: Number, b: Number) -> Number: ...

    @abstractmethod
    def power(self, a: Number, b: Number) -> Number: ...

    @abstractmethod
    def floor(self, x: Number) -> Number: ...

    def add(self, a: Number, b: Number) -> Number:
        return self.number(a) + self.number(b)

    def subtract(self, a: Number, b: Number) -> Number:
        return self.number(a) - self.number(b)

    def multiply(self, a: Number, b: Number) -> Number:
        return self.number(a) * self.number(b)

    def negative(self, x: Number) -> Number:
        return -self.number(x)

    def positive(self, x: Number) -> Number:
        return self.number(x)

    def square(self, x: Number) -> Number:
        x = self.number(x)
        return x * x

    def reciprocal(self, x: Number) -> Number:
        return self.divide(1, x)

    def exp2(self, x: Number) -> Number:
        return self.power(2, x)

    def sigmoid(self, x: Number) -> Number:
        """1 / (1 + exp(-x))."""
        return self.divide(1, 1 + self.exp(-self.number(x)))

    def logaddexp(self, a: Number, b: Number) -> Number:
        larger, smaller = self._larger_first(self.number(a), self.number(b))
        return larger + self.log1p(self.exp(smaller - larger))

    def logaddexp2(self, a: Number, b: Number) -> Number:
        larger, smaller = self._larger_first(self.number(a), self.number(b))
        ln2 = self.log(self.number(2))
        return larger + self.divide(self.log1p(self.exp((smaller - larger) * ln2)), ln2)

    def _larger_first(self, a: Number, b: Number) -> tuple[Number, Number]:
        return (a, b) if self.leans_to(a, b) else (b, a)

    def hypot(self, a: Number, b: Number) -> Number:
        return self.sqrt(self.square(a) + self.square(b))

    def deg2rad(self, x: Number) -> Number:
        return self.number(x) * self.pi / 180

    def rad2deg(self, x: Number) -> Number:
        return self.number(x) * 180 / self.pi

    @abstractmethod
    def gamma(self, x: Number) -> Number: ...

    @abstractmethod
    def hyp0f1(self, b: Number, z: Number) -> Number: ...

    def bessel(self, order: Number, x: Number, sign: int) -> Number:
        """The Bessel function J (sign -1) or I (sign 1) of a constant order, by its series."""
        order, half = self.number(order), self.number(x) * self.exact(Fraction(1, 2))
        if self.less(order, 0) and self.equal(self.floor(order), order):
            odd = not self.equal(self.remainder(order, 2), 0)
            return self.bessel(-order, x, sign) * (sign if odd else 1)
        scale = self.divide(self.power(half, order), self.gamma(order + 1))
        return scale * self.hyp0f1(order + 1, half * half * sign)

    # ------------------------------------------------------------------ comparisons and choice

    @abstractmethod
    def isnan(self, x: Number) -> bool: ...

    @abstractmethod
    def isinf(self, x: Number) -> bool: ...

    def isfinite(self, x: Number) -> bool:
        return not (self.isnan(x) or self.isinf(x))

    def less(self, a: Number, b: Number) -> bool:
        return self.compare(a, b) == -1

    def less_equal(self, a: Number, b: Number) -> bool:
        return self.compare(a, b) in (-1, 0)

    def greater(self, a: Number, b: Number) -> bool:
        return self.compare(a, b) == 1

    def greater_equal(self, a: Number, b: Number) -> bool:
        return self.compare(a, b) in (0, 1)

    def equal(self, a: Number, b: Number) -> bool:
        return self.compare(a, b) == 0

    def not_equal(self, a: Number, b: Number) -> bool:
        return self.compare(a, b) != 0

    def truth(self, x: Number) -> bool:
        """Whether `x` counts as true: it is not zero."""
        if isinstance(x, (bool, np.bool_)):
            return bool(x)
        return self.not_equal(x, 0)

    def logical_and(self, a: Number, b: Number) -> bool:
        return self.truth(a) and self.truth(b)

    def logical_or(self, a: Number, b: Number) -> bool:
        return self.truth(a) or self.truth(b)

    def logical_xor(self, a: Number, b: Number) -> bool:
        return self.truth(a) != self.truth(b)

    def logical_not(self, a: Number) -> bool:
        return not self.truth(a)

    def where(self, condition: Number, a: Number, b: Number) -> Number:
        return a if self.truth(condition) else b

    def maximum(self, a: Number, b: Number) -> Number:
        a, b = self.number(a), self.number(b)
        order = self.select(a, b)
        return self.infinite(0) if order is None else a if order >= 0 else b

    def minimum(self, a: Number, b: Number) -> Number:
        a, b = self.number(a), self.number(b)
        order = self.select(a, b)
        return self.infinite(0) if order is None else a if order <= 0 else b

    def fmax(self, a: Number, b: Number) -> Number:
        """`maximum`: a NaN is not skipped, since it may only mean that balls are too wide."""
        return self.maximum(a, b)

    def fmin(self, a: Number, b: Number) -> Number:
        """`minimum`: a NaN is not skipped, since it may only mean that balls are too wide."""
        return self.minimum(a, b)

    def absolute(self, x: Number) -> Number:
        x = self.number(x)
        order = self.select(x, self.number(0))
        return self.infinite(0) if order is None else x if order >= 0 else -x

    def sign(self, x: Number) -> Number:
        order = self.compare(x, 0)
        return self.infinite(0) if order is None else self.number(order)

    def heaviside(self, x: Number, at_zero: Number) -> Number:
        order = self.compare(x, 0)
        if order is None:
            return self.infinite(0)
        return self.number(at_zero) if order == 0 else self.number(order > 0)

    def copysign(self, a: Number, b: Number) -> Number:
        """|a| with the sign of `b`; a zero counts as positive, for it carries no sign here."""
        return -self.absolute(a) if self.less(b, 0) else self.absolute(a)

    # ------------------------------------------------------------------ rounding to integers

    def ceil(self, x: Number) -> Number:
        return -self.floor(-self.number(x))

    def trunc(self, x: Number) -> Number:
        return self.ceil(x) if self.less(x, 0) else self.floor(x)

    def rint(self, x: Number) -> Number:
        """The nearest integer, an even one where two are equally near."""
        x = self.number(x)
        below = self.floor(x)
        order = self.compare(x - below, self.exact(Fraction(1, 2)))
        if order is None:
            return self.infinite(0)
        if order == 0:
            return 2 * self.floor((below + 1) * self.exact(Fraction(1, 2)))
        return below if order < 0 else below + 1

    def floor_divide(self, a: Number, b: Number) -> Number:
        return self.floor(self.divide(a, b))

    def remainder(self, a: Number, b: Number) -> Number:
        """a - floor(a / b) b, which has the sign of `b`."""
        return self.number(a) - self.floor_divide(a, b) * self.number(b)

    def fmod(self, a: Number, b: Number) -> Number:
        """a - trunc(a / b) b, which has the sign of `a`."""
        return self.number(a) - self.trunc(self.divide(a, b)) * self.number(b)

    # ------------------------------------------------------------------ linear algebra

    def solve(self, matrix: Array, right: Array) -> Array:
        return linear_algebra.solve(self, matrix, right)

    def inv(self, matrix: Array) -> Array:
        return linear_algebra.inv(self, matrix)

    def det(self, matrix: Array) -> Array:
        return linear_algebra.det(self, matrix)

    def slogdet(self, matrix: Array) -> tuple[Array, Array]:
        return linear_algebra.slogdet(self, matrix)

    def cholesky(self, matrix: Array) -> Array:
        return linear_algebra.cholesky(self, matrix)

    @abstractmethod
    def symmetric_eigen(self, matrix: Array) -> tuple[list[Number], Array]:
        """The eigenvalues, ascending, and unit eigenvectors of a constant symmetric matrix.

        Raises:
            PrecisionNeeded: the eigenvalues cannot be told apart.
        """

    def expanded(self, array: Array) -> list[Array]:
        """The Taylor terms of every entry, as far as all are known."""
        return [array]

    def joined(self, terms: list[Number]) -> Number:
        """The number with the given Taylor terms."""
        return terms[0]

    def eigh(self, matrix: Array, *, uplo: str) -> Array:
        return decompositions.eigh(self, matrix, uplo)

    def svd(self, matrix: Array, *, full: bool) -> Array:
        return decompositions.svd(self, matrix, full)

    def qr(self, matrix: Array, *, complete: bool) -> Array:
        return decompositions.qr(self, matrix, complete)
