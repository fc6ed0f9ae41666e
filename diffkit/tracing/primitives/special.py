"""Rows for the ufuncs of scipy.special, found by name: SciPy is used where `f` uses it already.

A parameter by which there is no formula (the order of a Bessel function) is refused where a
derivative would flow through it. Sources of the formulas: NIST Digital Library of Mathematical
Functions, chapters 5 to 8. Where the textbook formula cancels (exprel near 0) a series in
traceable NumPy takes its place. Error functions are in `error_functions`, Bessel functions in
`bessel`.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from diffkit.errors import UnsupportedOperation
from diffkit.tracing.graph import Column, Missing, Primitive, Rule
from diffkit.tracing.locations import user_location
from diffkit.tracing.primitives.elementwise import LN10, ratio
from diffkit.tracing.primitives.rows import FUNCTIONS, row

SPECIAL: Final[dict[str, Callable[..., Any]]] = {}
"""What to call in place of the ufunc of scipy.special of a name."""


def adopted(ufunc: np.ufunc) -> Callable[..., Any] | None:
    """What stands for a ufunc of scipy.special; kept in the table. None for any other."""
    name = ufunc.__name__
    for module in ("scipy.special", "scipy.special._ufuncs"):
        if getattr(sys.modules.get(module), name, None) is ufunc and name in SPECIAL:
            FUNCTIONS[ufunc] = SPECIAL[name]
            return SPECIAL[name]
    return None


class _FromSciPy:
    """A ufunc of scipy.special, looked up when it is called."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        module = sys.modules.get("scipy.special")
        if module is None:
            raise UnsupportedOperation(f"scipy.special.{self.name} needs `import scipy.special`")
        module = module if hasattr(module, self.name) else sys.modules["scipy.special._ufuncs"]
        return getattr(module, self.name)(*arguments)


def special_row(
    name: str, *pullbacks: Rule | None, sympy: Column, exact: Column, alias: str = ""
) -> Primitive:
    """A row for a ufunc of scipy.special with one rule per argument."""
    primitive = row(
        f"scipy.special.{name}",
        _FromSciPy(name),
        pullbacks,
        sympy=sympy,
        exact=exact,
        elementwise=True,
    )
    SPECIAL[alias or name] = primitive
    return primitive


def refused_by(name: str, parameter: str) -> Rule:
    def rule(*_: Any, **__: Any) -> Any:
        raise UnsupportedOperation(
            f"scipy.special.{name} has no formula for its derivative by {parameter}; pass "
            f"{parameter} as data, or use backend='finite' [{user_location()}]"
        )

    return rule


NO_FORMULA: Final = Missing("SymPy has no counterpart of it")


def power_series(coefficients: Sequence[float], u: Any) -> Any:
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * u + coefficient
    return total


def _either(inside: Any, x: Any, near: Rule, far: Rule, safe: float = 1.0) -> Any:
    """`near(x)` where `inside`, `far(x)` elsewhere, neither called where it does not apply."""
    return np.where(inside, near(np.where(inside, x, 0.0)), far(np.where(inside, safe, x)))


# ---------------------------------------------------------------------- those that NumPy has too

for _name in ("expm1", "log1p", "exp2", "cbrt"):
    SPECIAL[_name] = FUNCTIONS[getattr(np, _name)]

special_row(
    "exp10", lambda g, y, x: g * (y * LN10), sympy=lambda S, x: 10**x,
    exact=lambda A, x: A.power(10, x),
)  # fmt: skip
special_row(
    "cosm1", lambda g, y, x: -g * np.sin(x), sympy=lambda S, x: S.cos(x) - 1,
    exact=lambda A, x: A.cos(x) - 1,
)  # fmt: skip


def _in_degrees(name: str, function: str, slope: Rule) -> None:
    special_row(
        name,
        slope,
        sympy=lambda S, x: getattr(S, function)(x * S.pi / 180),
        exact=lambda A, x: getattr(A, function)(A.deg2rad(x)),
    )


_in_degrees("sindg", "sin", lambda g, y, x: g * np.deg2rad(SPECIAL["cosdg"](x)))
_in_degrees("cosdg", "cos", lambda g, y, x: -g * np.deg2rad(SPECIAL["sindg"](x)))
_in_degrees("tandg", "tan", lambda g, y, x: g * np.deg2rad(1 + y * y))
special_row(
    "cotdg",
    lambda g, y, x: -g * np.deg2rad(1 + y * y),
    sympy=lambda S, x: S.cot(x * S.pi / 180),
    exact=lambda A, x: A.divide(1, A.tan(A.deg2rad(x))),
)
SPECIAL["round"] = lambda x: np.rint(x)

# ---------------------------------------------------------------------- gamma and beta functions


def _polygamma(x: Any, *, order: int) -> Any:
    return sys.modules["scipy.special"].polygamma(order, x)


polygamma: Primitive = row(
    "scipy.special.polygamma",
    _polygamma,
    (lambda g, y, x, *, order: g * polygamma(x, order=order + 1),),
    sympy=lambda S, x, *, order: S.polygamma(order, x),
    exact=lambda A, x, *, order: A.polygamma(order, x),
    elementwise=True,
)
digamma: Primitive = special_row(
    "digamma",
    lambda g, y, x: g * polygamma(x, order=1),
    sympy="digamma",
    exact="digamma",
    alias="psi",
)
special_row(
    "gammaln",
    lambda g, y, x: g * digamma(x),
    sympy=lambda S, x: S.loggamma(x),
    exact="lgamma",
)
special_row(
    "loggamma",
    lambda g, y, x: g * digamma(x),
    sympy="loggamma",
    exact=lambda A, x: A.infinite(0) if A.less(x, 0) else A.lgamma(x),
)
special_row("gamma", lambda g, y, x: g * y * digamma(x), sympy="gamma", exact="gamma")
special_row(
    "rgamma",
    lambda g, y, x: -g * y * digamma(x),
    sympy=lambda S, x: 1 / S.gamma(x),
    exact=lambda A, x: A.divide(1, A.gamma(x)),
)
special_row(
    "beta",
    lambda g, y, a, b: g * y * (digamma(a) - digamma(a + b)),
    lambda g, y, a, b: g * y * (digamma(b) - digamma(a + b)),
    sympy=lambda S, a, b: S.gamma(a) * S.gamma(b) / S.gamma(a + b),
    exact=lambda A, a, b: A.divide(A.gamma(a) * A.gamma(b), A.gamma(A.add(a, b))),
)
special_row(
    "betaln",
    lambda g, y, a, b: g * (digamma(a) - digamma(a + b)),
    lambda g, y, a, b: g * (digamma(b) - digamma(a + b)),
    sympy=lambda S, a, b: S.loggamma(a) + S.loggamma(b) - S.loggamma(a + b),
    exact=lambda A, a, b: A.lgamma(a) + A.lgamma(b) - A.lgamma(A.add(a, b)),
)


def _gamma_density(a: Any, x: Any) -> Any:
    return np.exp(SPECIAL["xlogy"](a - 1, x) - x - SPECIAL["gammaln"](a))


special_row(
    "gammainc",
    refused_by("gammainc", "a"),
    lambda g, y, a, x: g * _gamma_density(a, x),
    sympy=lambda S, a, x: S.lowergamma(a, x) / S.gamma(a),
    exact="gammainc",
)
special_row(
    "gammaincc",
    refused_by("gammaincc", "a"),
    lambda g, y, a, x: -g * _gamma_density(a, x),
    sympy=lambda S, a, x: S.uppergamma(a, x) / S.gamma(a),
    exact="gammaincc",
)


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    powers = SPECIAL["xlogy"](a - 1, x) + SPECIAL["xlog1py"](b - 1, -x)
    return np.exp(powers - SPECIAL["betaln"](a, b))


special_row(
    "betainc",
    refused_by("betainc", "a"),
    refused_by("betainc", "b"),
    lambda g, y, a, b, x: g * _beta_density(a, b, x),
    sympy=NO_FORMULA,
    exact="betainc",
)
special_row(
    "_zeta",
    refused_by("zeta", "its exponent"),
    lambda g, y, s, q: -g * s * SPECIAL["_zeta"](s + 1, q),
    sympy=NO_FORMULA,
    exact="hurwitz",
)
special_row("_riemann_zeta", refused_by("zeta", "its exponent"), sympy="zeta", exact="zeta")

# ---------------------------------------------------------------------- entropies


def _log_times(log: Callable[..., Any], S_log: Rule) -> tuple[Rule, Rule]:
    """The two columns of x log(y), 0 at x = 0."""

    def sympy(S: Any, x: Any, y: Any) -> Any:
        return S.Piecewise((S.Integer(0), S.Eq(x, 0)), (x * S_log(S, y), True))

    def exact(A: Any, x: Any, y: Any) -> Any:
        return A.constant(0) if A.equal(x, 0) else A.multiply(x, log(A, y))

    return sympy, exact


_sympy, _exact = _log_times(lambda A, y: A.log(y), lambda S, y: S.log(y))
xlogy: Primitive = special_row(
    "xlogy",
    lambda g, out, x, y: g * np.log(y),
    lambda g, out, x, y: g * ratio(x, y),
    sympy=_sympy,
    exact=_exact,
)
_sympy, _exact = _log_times(lambda A, y: A.log1p(y), lambda S, y: S.log(1 + y))
special_row(
    "xlog1py",
    lambda g, out, x, y: g * np.log1p(y),
    lambda g, out, x, y: g * ratio(x, 1 + y),
    sympy=_sympy,
    exact=_exact,
)
special_row(
    "entr",
    lambda g, y, x: -g * (np.log(x) + 1),
    sympy=lambda S, x: -S.Piecewise((S.Integer(0), S.Eq(x, 0)), (x * S.log(x), True)),
    exact=lambda A, x: A.constant(0) if A.equal(x, 0) else -A.multiply(x, A.log(x)),
)
special_row(
    "rel_entr",
    lambda g, out, x, y: g * (np.log(x / y) + 1),
    lambda g, out, x, y: -g * ratio(x, y),
    sympy=lambda S, x, y: S.Piecewise((S.Integer(0), S.Eq(x, 0)), (x * S.log(x / y), True)),
    exact=lambda A, x, y: A.constant(0) if A.equal(x, 0) else A.multiply(x, A.log(A.divide(x, y))),
)
special_row(
    "kl_div",
    lambda g, out, x, y: g * np.log(x / y),
    lambda g, out, x, y: g * ((y - x) / y),
    sympy=lambda S, x, y: S.Piecewise((S.Integer(0), S.Eq(x, 0)), (x * S.log(x / y), True)) - x + y,
    exact=lambda A, x, y: (
        (A.constant(0) if A.equal(x, 0) else A.multiply(x, A.log(A.divide(x, y))))
        - A.number(x)
        + A.number(y)
    ),
)

# ---------------------------------------------------------------------- exprel and Box-Cox

_EXPREL: Final = [(k + 1) / math.factorial(k + 2) for k in range(20)]


def _exprel_slope(x: Any) -> Any:
    """(x e^x - e^x + 1) / x²."""
    return _either(
        np.abs(x) < 1,
        x,
        lambda t: power_series(_EXPREL, t),
        lambda t: (np.exp(t) - exprel(t)) / t,
    )


exprel: Primitive = special_row(
    "exprel",
    lambda g, y, x: g * _exprel_slope(x),
    sympy=lambda S, x: S.Piecewise((S.Integer(1), S.Eq(x, 0)), ((S.exp(x) - 1) / x, True)),
    exact=lambda A, x: A.constant(1) if A.equal(x, 0) else A.divide(A.expm1(x), x),
)


def _boxcox(x: Any, lmbda: Any) -> Any:
    logarithm = np.log(x)
    return logarithm * exprel(lmbda * logarithm)


def _boxcox1p(x: Any, lmbda: Any) -> Any:
    logarithm = np.log1p(x)
    return logarithm * exprel(lmbda * logarithm)


SPECIAL["boxcox"], SPECIAL["boxcox1p"] = _boxcox, _boxcox1p

# ---------------------------------------------------------------------- losses


def _huber_in_sympy(S: Any, delta: Any, r: Any) -> Any:
    size = S.Abs(r)
    return S.Piecewise((r**2 / 2, size <= delta), (delta * (size - delta / 2), True))


def _huber_exactly(A: Any, delta: Any, r: Any) -> Any:
    size, delta = A.absolute(r), A.number(delta)
    inside = A.less_equal(size, delta)
    return A.square(r) / 2 if inside else delta * (size - delta / 2)


special_row(
    "huber",
    lambda g, y, delta, r: g * np.maximum(np.abs(r) - delta, 0.0),
    lambda g, y, delta, r: g * np.minimum(np.maximum(r, -delta), delta),
    sympy=_huber_in_sympy,
    exact=_huber_exactly,
)


def _pseudo_huber_by_delta(g: Any, y: Any, delta: Any, r: Any) -> Any:
    """delta u⁴ / (s (s + 1)²) with u = r / delta and s = sqrt(1 + u²)."""
    u = ratio(r, delta)
    s = np.hypot(1.0, u)
    return g * delta * np.square(u * u / (s + 1)) / s


special_row(
    "pseudo_huber",
    _pseudo_huber_by_delta,
    lambda g, y, delta, r: g * r / np.hypot(1.0, ratio(r, delta)),
    sympy=lambda S, delta, r: delta**2 * (S.sqrt(1 + (r / delta) ** 2) - 1),
    exact=lambda A, delta, r: A.square(delta) * (A.sqrt(1 + A.square(A.divide(r, delta))) - 1),
)

# ---------------------------------------------------------------------- exponential integrals

special_row("expi", lambda g, y, x: g * np.exp(x) / x, sympy="Ei", exact="expi")
special_row(
    "exp1",
    lambda g, y, x: -g * np.exp(-x) / x,
    sympy=lambda S, x: S.expint(1, x),
    exact="exp1",
)
expn: Primitive = special_row(
    "expn",
    refused_by("expn", "its order"),
    lambda g, y, n, x: -g * expn(n - 1, x),
    sympy=lambda S, n, x: S.expint(n, x),
    exact="expn",
)
special_row(
    "powm1",
    lambda g, out, x, y: g * y * np.power(x, y - 1),
    lambda g, out, x, y: g * np.power(x, y) * np.log(x),
    sympy=lambda S, x, y: operator.pow(x, y) - 1,
    exact=lambda A, x, y: A.power(x, y) - 1,
)
