"""Matrix expressions that can be read, printed as LaTeX, and evaluated with NumPy.

Only what the formulas of networks need. Every term says itself what it looks like and what it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

Values = Mapping[str, Any]
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class Term(ABC):
    """A matrix expression.

    Attributes:
        binding: how tightly its outermost operation binds, for the brackets around it.
    """

    binding: ClassVar[int] = 3

    @abstractmethod
    def text(self) -> str:
        """Return it in Unicode, for a terminal."""

    @abstractmethod
    def latex(self) -> str:
        """Return it as LaTeX."""

    @abstractmethod
    def value(self, values: Values) -> Any:
        """Return what it is worth, the symbols having the values given by their text."""

    def _inside(self, part: Term, as_latex: bool) -> str:
        """A part of this term, in brackets where it binds less tightly."""
        shown = part.latex() if as_latex else part.text()
        if part.binding > self.binding or isinstance(part, type(self)):
            return shown
        return rf"\left({shown}\right)" if as_latex else f"({shown})"

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class Symbol(Term):
    """A named matrix.

    Attributes:
        name: its letter.
        layer: the number of its layer.
        step: at which step of a sequence, out of `t`, `t-1`, `t+1` and `T`, the last one.
        mark: what tells it from others of the same letter: the gate that it belongs to.
    """

    name: str
    layer: int | None = None
    step: str | None = None
    mark: str = ""

    _LATEX: ClassVar[Mapping[str, str]] = {"Δ": r"\Delta", "φ": r"\varphi", "1": r"\mathbf{1}"}

    @property
    def stem(self) -> str:
        """What it is called at every step."""
        number = "" if self.layer is None else str(self.layer).translate(SUBSCRIPTS)
        return self.name + (f"^{self.mark}" if self.mark else "") + number

    def text(self) -> str:
        return self.stem + ("" if self.step is None else f"[{self.step}]")

    def latex(self) -> str:
        below = [str(part) for part in (self.layer, self.step) if part is not None]
        shown = self._LATEX.get(self.name, self.name)
        shown += f"^{{{self.mark}}}" if self.mark else ""
        return f"{shown}_{{{','.join(below)}}}" if below else shown

    def at(self, step: str) -> Symbol:
        """Return the same at a step."""
        return replace(self, step=step)

    def value(self, values: Values) -> Any:
        """Return its value; outside of the sequence it is zero."""
        if self.step is None:
            return values[self.stem]
        known, zeros = values[self.stem], values[f"0 of layer {self.layer}"]
        return known.get(step_of(self.step, values), zeros)


def step_of(step: str, values: Values) -> int:
    """Return the number of a step, from those of the present and of the last one."""
    return int(values["T"] if step == "T" else values["t"] + {"t": 0, "t-1": -1, "t+1": 1}[step])


@dataclass(frozen=True)
class Transposed(Term):
    """The transpose of a symbol."""

    part: Symbol

    def text(self) -> str:
        return f"{self.part.text()}ᵀ"

    def latex(self) -> str:
        shown = self.part.latex()
        return rf"{{{shown}}}^{{\top}}" if self.part.mark else rf"{shown}^{{\top}}"

    def value(self, values: Values) -> Any:
        return self.part.value(values).T


@dataclass(frozen=True)
class Product(Term):
    """The product of two matrices."""

    left: Term
    right: Term

    binding = 2

    def text(self) -> str:
        return f"{self._inside(self.left, False)} {self._inside(self.right, False)}"

    def latex(self) -> str:
        return rf"{self._inside(self.left, True)} {self._inside(self.right, True)}"

    def value(self, values: Values) -> Any:
        return self.left.value(values) @ self.right.value(values)


@dataclass(frozen=True)
class Hadamard(Term):
    """The product of two matrices entry by entry."""

    left: Term
    right: Term

    binding = 1

    def text(self) -> str:
        return f"{self._part(self.left, False)} ∘ {self._part(self.right, False)}"

    def latex(self) -> str:
        return rf"{self._part(self.left, True)} \circ {self._part(self.right, True)}"

    def value(self, values: Values) -> Any:
        return self.left.value(values) * self.right.value(values)

    def _part(self, part: Term, as_latex: bool) -> str:
        """A matrix product stands in brackets: convention gives no precedence over ∘."""
        if not isinstance(part, Product):
            return self._inside(part, as_latex)
        return rf"\left({part.latex()}\right)" if as_latex else f"({part.text()})"


@dataclass(frozen=True)
class Sum(Term):
    """Two matrices added, or one taken from the other."""

    left: Term
    right: Term
    minus: bool = False

    binding = 0

    def text(self) -> str:
        return self._joined(False)

    def latex(self) -> str:
        return self._joined(True)

    def value(self, values: Values) -> Any:
        left, right = self.left.value(values), self.right.value(values)
        return left - right if self.minus else left + right

    def _joined(self, as_latex: bool) -> str:
        left, right = self._inside(self.left, as_latex), self._inside(self.right, as_latex)
        return f"{left} {'-' if self.minus else '+'} {right}"


@dataclass(frozen=True)
class OverSteps(Term):
    """The sum of a matrix over all steps of a sequence."""

    part: Term

    binding = 1

    def text(self) -> str:
        return f"Σₜ {self._inside(self.part, False)}"

    def latex(self) -> str:
        return rf"\sum_{{t=1}}^{{T}} {self._inside(self.part, True)}"

    def value(self, values: Values) -> Any:
        steps = range(1, values["T"] + 1)
        return sum(self.part.value({**values, "t": t}) for t in steps)


@dataclass(frozen=True)
class Scaled(Term):
    """A matrix times number / (symbols), the symbols standing for numbers."""

    number: Fraction
    over: tuple[str, ...]
    part: Term

    binding = 2

    def text(self) -> str:
        factor = str(self.number)
        if self.over:
            below = " ".join(self.over)
            factor = f"{factor}/({below})" if len(self.over) > 1 else f"{factor}/{below}"
        return f"{factor} {self._inside(self.part, False)}"

    def latex(self) -> str:
        above, below = str(self.number.numerator), list(self.over)
        if self.number.denominator != 1:
            below.insert(0, str(self.number.denominator))
        factor = rf"\frac{{{above}}}{{{' '.join(below)}}}" if below else above
        return f"{factor} {self._inside(self.part, True)}"

    def value(self, values: Values) -> Any:
        below = np.prod([float(values[name]) for name in self.over])
        return float(self.number) / below * self.part.value(values)


@dataclass(frozen=True)
class Weighted(Term):
    """A matrix times a named number that is given exactly."""

    name: str
    factor: float
    part: Term

    binding = 2

    def text(self) -> str:
        return f"{self.name} {self._inside(self.part, False)}"

    def latex(self) -> str:
        shown = self.name.replace("λ₁", r"\lambda_1").replace("λ₂", r"\lambda_2")
        return f"{shown} {self._inside(self.part, True)}"

    def value(self, values: Values) -> Any:
        return self.factor * self.part.value(values)


@dataclass(frozen=True, eq=False)
class Applied(Term):
    """A function of every entry (or of every row) of a matrix."""

    name: str
    shown: str
    function: Callable[[Any], Any]
    part: Term

    def text(self) -> str:
        return f"{self.name}({self.part.text()})"

    def latex(self) -> str:
        return rf"{self.shown}\!\left({self.part.latex()}\right)"

    def value(self, values: Values) -> Any:
        return self.function(self.part.value(values))


@dataclass(frozen=True)
class Formula:
    """An equation that says what a symbol, or a derivative by a symbol, is.

    Attributes:
        symbol: what the left side is about.
        right: the right side.
        derivative: whether the left side is ∂J by the symbol, not the symbol itself.
    """

    symbol: Symbol
    right: Term
    derivative: bool = False

    def left_text(self) -> str:
        return f"∂J/∂{self.symbol.text()}" if self.derivative else self.symbol.text()

    def left_latex(self) -> str:
        if not self.derivative:
            return self.symbol.latex()
        return rf"\frac{{\partial J}}{{\partial {self.symbol.latex()}}}"

    def text(self) -> str:
        """Return the equation in Unicode."""
        return f"{self.left_text()} = {self.right.text()}"

    def latex(self) -> str:
        """Return the equation as LaTeX."""
        return f"{self.left_latex()} = {self.right.latex()}"

    def __str__(self) -> str:
        return self.text()
