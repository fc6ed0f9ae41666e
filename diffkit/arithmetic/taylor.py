"""A power series in t with balls for coefficients, as one number."""

from __future__ import annotations

from typing import Any


class Taylor:
    """A FLINT power series as a plain number, for object arrays of NumPy.

    NumPy would take FLINT's own series for a sequence. Where a quotient is no power series,
    it is NaN.
    """

    __slots__ = ("series",)

    def __init__(self, series: Any) -> None:
        self.series = series

    def __repr__(self) -> str:
        return f"Taylor({self.series})"

    def _other(self, x: Any) -> Any:
        return x.series if type(x) is Taylor else type(self.series)([x])

    def __neg__(self) -> Taylor:
        return Taylor(-self.series)

    def __pos__(self) -> Taylor:
        return self

    def __add__(self, other: Any) -> Taylor:
        return Taylor(self.series + self._other(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Taylor:
        return Taylor(self.series - self._other(other))

    def __rsub__(self, other: Any) -> Taylor:
        return Taylor(self._other(other) - self.series)

    def __mul__(self, other: Any) -> Any:
        """The product; zero times a series is the constant zero."""
        if type(other) is not Taylor and other == 0:
            return other
        return Taylor(self.series * self._other(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return _quotient(self.series, self._other(other))

    def __rtruediv__(self, other: Any) -> Any:
        return _quotient(self._other(other), self.series)


def _quotient(a: Any, b: Any) -> Any:
    try:
        return Taylor(a / b)
    except (ValueError, ZeroDivisionError):
        return a[0] * type(a[0]).nan()
