"""Every error and warning of diffkit.

All derive from `DiffkitError`, so that one `except` catches whatever this package refuses.
None derives from `TypeError` or `ValueError`: a differentiated function that catches those
for reasons of its own must not swallow ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DiffkitError(Exception):
    """Base of every error that diffkit raises on purpose."""


class InvalidInput(DiffkitError):
    """The point, the data, a tangent or an option is not what the operation takes."""


class InvalidOutput(DiffkitError):
    """The function returned something that cannot be differentiated this way."""


class TracingError(DiffkitError):
    """A traced value was about to leave the graph, which would lose its derivative."""


class UnsupportedOperation(DiffkitError):
    """The function uses an operation that this backend has no rule for."""


class NoClosedForm(DiffkitError):
    """The analytic backend knows no closed form for the function asked for."""


class NotAnalytic(DiffkitError):
    """The complex step was taken through a function that is not complex-analytic."""


class ExpressionTooLarge(DiffkitError):
    """The symbolic derivative would exceed its budget of operations."""


class ParseError(DiffkitError):
    """A text is not an expression that diffkit accepts."""


class TruthUnavailable(DiffkitError):
    """No arbitrary-precision reference can be computed for the function."""


class DatasetError(DiffkitError):
    """A data set is missing, malformed or unusable for training."""


class NonFiniteDerivative(DiffkitError):
    """Entries of a derivative are infinite or not a number.

    Attributes:
        value: the whole derivative, in the structure that would have been returned.
        entries: the names of the entries that are not finite.
    """

    def __init__(self, message: str, value: Any = None, entries: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.value = value
        self.entries = tuple(entries)


class DiffkitWarning(UserWarning):
    """A result is returned, but with a reservation that the user should know."""


class KinkWarning(DiffkitWarning):
    """The function has no derivative at the point: it bends or jumps there.

    What is returned is the equally shared subgradient: of equal arguments of `maximum` each has
    the same part, the slope of |x| at 0 is 0, that of a jump what it is beside it.
    """


class StepWarning(DiffkitWarning):
    """The function goes in steps: its gradient is 0 wherever it exists, and teaches nothing."""


class RoundingWarning(DiffkitWarning):
    """Rounding may have taken more than half of the digits of a derivative: terms cancel."""


class UnderflowWarning(DiffkitWarning):
    """Entries of a derivative are made of numbers that are too small for their dtype.

    They may lack digits or be zero though the derivative is not.
    """
