"""Law 1: the four backends share no derivative formula.

One formula is corrupted in one place at a time; exactly the backend that owns it changes, and
`compare` shows which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.tracing.primitives import PRIMITIVES

BACKENDS = ("analytic", "finite", "symbolic", "tape")


def f(x: Any) -> Any:
    return np.sin(x) * np.exp(x)


def f_derivative(x: Any) -> Any:
    return (np.sin(x) + np.cos(x)) * np.exp(x)


def derivatives() -> dict[str, float]:
    return {b: float(dk.derivative(f, 0.5, backend=b)) for b in BACKENDS}


Corrupt = Callable[[str, Any], None]


@pytest.fixture
def corrupt() -> Iterator[Corrupt]:
    """Replace a column of the row of `sin`, and put everything back afterwards."""
    row = PRIMITIVES["sin"]
    columns = ("function", "pullbacks", "sympy", "exact")
    original = {column: getattr(row, column) for column in columns}
    yield lambda column, value: object.__setattr__(row, column, value)
    for column, value in original.items():
        object.__setattr__(row, column, value)


def corrupt_the_pullback(corrupt: Corrupt) -> None:
    corrupt("pullbacks", (lambda g, y, x: -g * np.cos(x),))


def corrupt_the_sympy_counterpart(corrupt: Corrupt) -> None:
    # SymPy's own derivative cannot be wrong here, so the function it is taken of is made so.
    corrupt("sympy", lambda S, x: S.sin(2 * x) / 2)


def corrupt_the_closed_form(corrupt: Corrupt) -> None:
    dk.register(f, derivative=lambda x: 1.001 * f_derivative(x))


CORRUPTIONS: dict[str, Callable[[Corrupt], None]] = {
    "tape": corrupt_the_pullback,
    "symbolic": corrupt_the_sympy_counterpart,
    "analytic": corrupt_the_closed_form,
}


@pytest.mark.parametrize("owner", CORRUPTIONS)
def test_one_corrupted_formula_changes_one_backend(owner: str, corrupt: Corrupt) -> None:
    dk.register(f, derivative=f_derivative)
    expected = f_derivative(0.5)
    before = derivatives()
    for value in before.values():
        assert value == pytest.approx(expected, rel=1e-9)

    CORRUPTIONS[owner](corrupt)
    after = derivatives()
    changed = {b for b in BACKENDS if abs(after[b] - expected) > 1e-6 * abs(expected)}
    assert changed == {owner}

    comparison = dk.compare(f, 0.5)
    assert comparison.truth.value == pytest.approx((expected,), rel=1e-15)
    digits = {row.backend: row.digits for row in comparison.rows}
    assert digits.pop(owner) < 4
    assert min(digits.values()) > 9


def test_the_value_column_is_watched_by_the_plain_function(corrupt: Corrupt) -> None:
    """What tape, symbolic and truth share, the recording, is compared with plain f(x)."""
    corrupt("function", np.cos)
    with pytest.raises(dk.TracingError, match="on plain arrays and"):
        dk.derivative(f, 0.5)
