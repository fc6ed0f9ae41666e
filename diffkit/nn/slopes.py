"""Activations as formulas to be read, and their derivatives by SymPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import numpy as np

from diffkit.nn.activations import Activation
from diffkit.nn.error_function import normal_distribution
from diffkit.nn.matrix_terms import SUBSCRIPTS
from diffkit.nn.rectifiers import GELU_CUBIC, SELU_ALPHA, SELU_SCALE

Function = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Slope:
    """An activation φ and its derivative.

    Attributes:
        name: of the activation.
        formula, slope: φ(z) and φ'(z) as SymPy expressions in z; None for an activation of the
            user's own, whose formula is not known.
        function: of NumPy arrays.
        derivative: the same for φ': what the formula says. Where that leaves the range of the
            dtype (e^-z for z = -1000), and without a formula, it is the activation's own.
    """

    name: str
    formula: Any
    slope: Any
    function: Function
    derivative: Function

    def text(self, layer: int) -> str:
        """Return φ and φ' of a layer on one line."""
        phi = f"φ{str(layer).translate(SUBSCRIPTS)}"
        if self.formula is None:
            return f"{phi} is {self.name}"
        shown, slope = (str(e).replace("**", "^") for e in (self.formula, self.slope))
        return f"{phi}(z) = {shown},  {phi}'(z) = {slope}"

    def latex(self, layer: int) -> list[str]:
        """Return the LaTeX of φ and of φ' of a layer."""
        import sympy

        phi = rf"\varphi_{{{layer}}}"
        if self.formula is None:
            return [rf"{phi}(z) = \text{{{self.name}}}"]
        shown = (sympy.latex(e) for e in (self.formula, self.slope))
        return [f"{left} = {e}" for left, e in zip((f"{phi}(z)", f"{phi}'(z)"), shown, strict=True)]


def slope_of(phi: Activation) -> Slope:
    """Return an activation with its derivative by SymPy, where its formula is known."""
    import sympy

    if phi.name not in _FORMULAS:
        return Slope(phi.name, None, None, phi.function, phi.derivative)
    z = sympy.Symbol("z", real=True)
    formula = _FORMULAS[phi.name](sympy, z)
    slope = _tidied(sympy.diff(formula, z))
    return Slope(phi.name, formula, slope, phi.function, _numeric(z, slope, phi.derivative))


def _tidied(slope: Any) -> Any:
    """SymPy's derivative as books write it: 1 - tanh² stays, common factors come out."""
    import sympy

    return slope if slope.is_Add else sympy.factor_terms(slope)


def _numeric(z: Any, expression: Any, otherwise: Function) -> Function:
    """The expression as a function of arrays; a step is a half where it jumps."""
    import sympy

    compiled = sympy.lambdify([z], expression, [{"Heaviside": _step, "erf": _erf}, "numpy"])

    def function(x: Any) -> Any:
        with np.errstate(all="ignore"):
            found = compiled(x) + np.zeros_like(x)
        return np.where(np.isfinite(found), found, otherwise(x))

    return function


def _step(x: Any, at_zero: float) -> Any:
    return np.heaviside(x, np.asarray(at_zero, x.dtype))


def _erf(x: Any) -> Any:
    return 2 * normal_distribution(sqrt(2) * x) - 1


# φ(z), written with SymPy.
_FORMULAS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "tanh": lambda S, z: S.tanh(z),
    "sigmoid": lambda S, z: 1 / (1 + S.exp(-z)),
    "softplus": lambda S, z: S.log(1 + S.exp(z)),
    "relu": lambda S, z: S.Max(0, z),
    "arctan": lambda S, z: S.atan(z),
    "leaky_relu": lambda S, z: S.Max(0, z) + S.Rational(1, 10) * S.Min(0, z),
    "elu": lambda S, z: S.Max(0, z) + S.exp(S.Min(0, z)) - 1,
    "selu": lambda S, z: (
        S.Float(SELU_SCALE) * (S.Max(0, z) + S.Float(SELU_ALPHA) * (S.exp(S.Min(0, z)) - 1))
    ),
    "gelu": lambda S, z: z / 2 * (1 + S.tanh(S.sqrt(2 / S.pi) * (z + S.Float(GELU_CUBIC) * z**3))),
    "gelu_erf": lambda S, z: z / 2 * (1 + S.erf(z / S.sqrt(2))),
    "silu": lambda S, z: z / (1 + S.exp(-z)),
}
