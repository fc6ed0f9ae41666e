"""The delta recursion of a network, layer by layer, in matrix form with named symbols.

Samples are rows, as everywhere in `diffkit.nn`, so the formulas are the transposes of those for
column vectors: Δ_l = (Δ_{l+1} W_{l+1}ᵀ) ∘ φ_l'(Z_l) for δ_l = (W_{l+1}ᵀ δ_{l+1}) ∘ φ_l'(z_l).
Source: Rumelhart, Hinton and Williams, Nature 323 (1986). The derivatives of the activations are
SymPy's, of their formulas as they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from typing import Any, Final

import numpy as np

from diffkit.errors import UnsupportedOperation
from diffkit.nn.activations import IDENTITY, Activation, sigmoid, softmax
from diffkit.nn.delta_recurrent import RECURRENT, Unrolled
from diffkit.nn.layers import Dense, Dropout, Elementwise, Layer, Parameters
from diffkit.nn.losses import (
    HALF_SQUARED_ERROR,
    LOGISTIC,
    MEAN_SQUARED_ERROR,
    SOFTMAX_CROSS_ENTROPY,
    Loss,
)
from diffkit.nn.matrix_terms import (
    Applied,
    Formula,
    Hadamard,
    Product,
    Scaled,
    Sum,
    Symbol,
    Term,
    Transposed,
    Weighted,
    step_of,
)
from diffkit.nn.network import Network
from diffkit.nn.penalties import Penalty
from diffkit.nn.slopes import Slope, slope_of

ONES: Final = Symbol("1")
TARGETS: Final = Symbol("Y")


@dataclass(frozen=True)
class DeltaRecursion:
    """The gradient of a network's loss as formulas.

    Attributes:
        forward: from the inputs A_0 to the outputs A_L.
        deltas: from the last layer to the first, Δ_l = ∂J/∂Z_l.
        gradients: by the parameters of each layer.
        loss: the formula of J, in words.
        slopes: for each layer with an activation, φ_l and φ_l'.
        network: whose loss it is.
    """

    forward: tuple[Formula, ...]
    deltas: tuple[Formula, ...]
    gradients: tuple[Formula, ...]
    loss: str
    slopes: dict[int, Slope]
    network: Network = field(repr=False)

    @property
    def formulas(self) -> tuple[Formula, ...]:
        """All of them, in the order in which they can be evaluated."""
        return (*self.forward, *self.deltas, *self.gradients)

    @property
    def legend(self) -> list[str]:
        """What the symbols are that no formula defines."""
        penalty = self.network.penalty
        factors = [("λ₁", penalty.l1), ("λ₂", penalty.l2)]
        named = [f"{name} = {factor:g}" for name, factor in factors if factor]
        masked = any(isinstance(layer, Dropout) for layer in self.network.layers)
        masks = ["M is a mask of dropout, with entries 0 and 1/(1 - rate)"] if masked else []
        through_time = [line for part in _unrolled(self.network).values() for line in part.legend]
        return [f"J is the {self.loss}", *named, *masks, *dict.fromkeys(through_time)]

    def text(self) -> str:
        """Return the formulas in Unicode, one to a line."""
        width = max(len(formula.left_text()) for formula in self.formulas)
        blocks = [
            [f"{f.left_text():>{width}} = {f.right.text()}" for f in part]
            for part in (self.forward, self.deltas, self.gradients)
        ]
        slopes = [f"{slope.text(layer)}" for layer, slope in self.slopes.items()]
        legend = ["A₀ = X, one sample to a row; N samples, K outputs", *self.legend]
        return "\n\n".join("\n".join(block) for block in (*blocks, slopes, legend) if block)

    def latex_lines(self) -> list[str]:
        """Return the LaTeX of each formula, and then of each activation with its derivative."""
        slopes = [line for layer, s in self.slopes.items() for line in s.latex(layer)]
        return [*(formula.latex() for formula in self.formulas), *slopes]

    def latex(self) -> str:
        """Return the LaTeX of everything, aligned at the equals signs."""
        lines = [line.replace(" = ", " &= ", 1) for line in self.latex_lines()]
        return "\n".join([r"\begin{aligned}", " \\\\\n".join(lines), r"\end{aligned}"])

    def evaluate(self, parameters: dict[str, Parameters], X: Any, y: Any) -> Any:
        """Return the gradient that the formulas give, in the structure of the parameters.

        Args:
            parameters: as the network takes them.
            X: features, (batch, inputs); of sequences (batch, time, inputs).
            y: targets, as the network's loss takes them.
        """
        self.network.require_parameters(parameters)
        values: dict[str, Any] = {"A₀": X, "1": np.ones((len(X), 1), X.dtype), "N": len(X)}
        unrolled = _unrolled(self.network)
        if unrolled:
            steps = np.moveaxis(X, 1, 0)
            values |= {"A₀": dict(enumerate(steps, start=1)), "T": len(steps), "0 of layer 0": None}
        for i, (name, layer) in enumerate(self.network.named_layers, start=1):
            if i in unrolled:
                values |= unrolled[i].bound(parameters[name], len(X), X.dtype)
                continue
            for key, parameter in parameters.get(name, {}).items():
                column = np.reshape(parameter, (-1, 1)) if key == "b" else parameter
                values[Symbol(key, i).text()] = column
            if isinstance(layer, Dropout):
                width = _width(self.network, i)
                values[Symbol("M", i).text()] = layer.mask((len(X), width), X.dtype)
        _run(self.forward, values, 1)
        outputs = _after(self.network, len(self.network.layers)).value(values)
        values |= {"K": outputs.shape[1], "Y": _one_row_each(y, outputs)}
        _run(self.deltas, values, -1)
        found = {f.symbol.text(): f.right.value(values) for f in self.gradients}
        return {
            name: unrolled[i].collected(found, parameters[name])
            if i in unrolled
            else {
                key: np.reshape(found[Symbol(key, i).text()], np.shape(parameters[name][key]))
                for key in parameters[name]
            }
            for i, (name, _) in enumerate(self.network.named_layers, start=1)
            if name in parameters
        }

    def __str__(self) -> str:
        return self.text()

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"


def delta_recursion(network: Network) -> DeltaRecursion:
    """Return the gradient of a network's loss, layer by layer, as formulas.

    For networks of dense layers, elementwise activations and dropout, after recurrent layers
    (Elman, LSTM, GRU: backpropagation through time) if there are any, with the mean squared, the
    half squared, the logistic loss or the softmax cross-entropy, and any penalty.

    Raises:
        UnsupportedOperation: there is a layer or a loss of another kind; its formula is not
            written here, though every backend differentiates it.
    """
    if network.criterion not in _LOSSES:
        raise UnsupportedOperation(
            f"no delta formula is written here for the loss {network.criterion}; there is one "
            f"for {', '.join(map(str, _LOSSES))}"
        )
    forward: list[Formula] = []
    slopes: dict[int, Slope] = {}
    _require_sequences_first(network)
    unrolled = _unrolled(network)
    for i, layer in enumerate(network.layers, start=1):
        if i in unrolled:
            forward += unrolled[i].forward()
        else:
            forward += _forward(i, layer, _after(network, i - 1))
        if (phi := _activation(layer)) is not IDENTITY:
            slopes[i] = slope_of(phi)
    deltas, gradients = _backward(network, slopes)
    note = " plus the penalty" if network.penalty else ""
    return DeltaRecursion(
        tuple(forward), tuple(deltas), tuple(gradients),
        f"{network.criterion}{note}", slopes, network,
    )  # fmt: skip


def _unrolled(network: Network) -> dict[int, Unrolled]:
    """The recurrent layers, by number."""
    return {
        i: Unrolled(i, layer, _output(i - 1))
        for i, layer in enumerate(network.layers, start=1)
        if isinstance(layer, RECURRENT)
    }


def _run(formulas: Sequence[Formula], values: dict[str, Any], direction: int) -> None:
    """Evaluate formulas in order, those of a recurrent layer step by step."""

    def loop(formula: Formula) -> int | None:
        return formula.symbol.layer if formula.symbol.step == "t" else None

    for layer, group in groupby(formulas, loop):
        part = list(group)
        for formula in part:
            if formula.symbol.step is not None:
                values.setdefault(formula.symbol.stem, {})
        steps = range(1, values["T"] + 1)[::direction] if layer is not None else [None]
        for step in steps:
            values["t"] = step
            for formula in part:
                found, symbol = formula.right.value(values), formula.symbol
                if symbol.step is None:
                    values[symbol.stem] = found
                else:
                    values[symbol.stem][step_of(symbol.step, values)] = found


def _after(network: Network, i: int) -> Symbol:
    """What layer `i` puts out: of a recurrent one that puts out its last state, that."""
    if i and isinstance(network.layers[i - 1], RECURRENT):
        return _output(i).at("T")
    return _output(i)


def _require_sequences_first(network: Network) -> None:
    """Check that recurrent layers come first and end in one that puts out its last state alone.

    Raises:
        UnsupportedOperation: another layer reads or puts out a sequence.
    """
    recurrent = list(_unrolled(network).values())
    for place, part in enumerate(recurrent, start=1):
        if part.number != place or part.layer.every_step != (place < len(recurrent)):
            raise UnsupportedOperation(
                f"no delta formula is written here for the layer {part.layer} at place "
                f"{part.number}; there is one for recurrent layers at the beginning, of which the "
                "last puts out its last state alone"
            )


def _forward(i: int, layer: Layer, before: Symbol) -> list[Formula]:
    after = _output(i)
    if type(layer) is Dense:
        z: Term = Product(before, Symbol("W", i))
        if layer.bias:
            z = Sum(z, Product(ONES, Transposed(Symbol("b", i))))
        formulas = [Formula(Symbol("Z", i), z)]
    elif type(layer) is Elementwise:
        formulas = [Formula(Symbol("Z", i), before)]
    elif type(layer) is Dropout:
        return [Formula(after, Hadamard(before, Symbol("M", i)))]
    else:
        raise UnsupportedOperation(
            f"no delta formula is written here for the layer {layer}; there is one for Dense, "
            "Elementwise, Dropout, Elman, LSTM and GRU"
        )
    phi = _activation(layer)
    inner: Term = Symbol("Z", i)
    if phi is not IDENTITY:
        inner = _phi(i, slope_of(phi).function, "")(inner)
    return [*formulas, Formula(after, inner)]


def _backward(network: Network, slopes: Mapping[int, Slope]) -> tuple[list[Formula], list[Formula]]:
    """The deltas from the last layer to the first, and the gradients."""
    last = len(network.layers)
    unrolled = _unrolled(network)
    arriving: Term = _LOSSES[network.criterion](_after(network, last))
    deltas: list[Formula] = []
    gradients: list[Formula] = []
    for i, layer in reversed(list(enumerate(network.layers, start=1))):
        if i in unrolled:
            deltas += unrolled[i].deltas(arriving)
            gradients[:0] = _penalised(unrolled[i].gradients(), network.penalty)
            arriving = unrolled[i].sent_down()
            continue
        delta = Symbol("Δ", i)
        if isinstance(layer, Dropout):
            arriving = Hadamard(arriving, Symbol("M", i))
        elif i in slopes:
            arriving = Hadamard(arriving, _phi(i, slopes[i].derivative, "'")(Symbol("Z", i)))
        deltas.append(Formula(delta, arriving))
        arriving = delta
        if isinstance(layer, Dense):
            read = _after(network, i - 1)
            gradients[:0] = _penalised(_gradients(i, layer, read), network.penalty)
            arriving = Product(delta, Transposed(Symbol("W", i)))
    return deltas, gradients


def _gradients(i: int, layer: Dense, read: Symbol) -> list[Formula]:
    delta = Symbol("Δ", i)
    by_weights = Product(Transposed(read), delta)
    formulas = [Formula(Symbol("W", i), by_weights, derivative=True)]
    if layer.bias:
        by_bias = Product(Transposed(delta), ONES)
        formulas.append(Formula(Symbol("b", i), by_bias, derivative=True))
    return formulas


def _penalised(formulas: Sequence[Formula], penalty: Penalty) -> list[Formula]:
    """The gradients with what the penalty adds for weights."""
    result = []
    for formula in formulas:
        W, right = formula.symbol, formula.right
        if W.name == "W" and penalty.l1:
            right = Sum(right, Weighted("λ₁", penalty.l1, _sign(W)))
        if W.name == "W" and penalty.l2:
            right = Sum(right, Weighted("2 λ₂", 2 * penalty.l2, W))
        result.append(Formula(W, right, derivative=True))
    return result


def _sign(W: Symbol) -> Term:
    return Applied("sign", r"\operatorname{sign}", np.sign, W)


def _phi(i: int, function: Callable[[Any], Any], prime: str) -> Callable[[Term], Term]:
    symbol = Symbol("φ", i)
    shown = rf"\varphi_{{{i}}}{prime}"
    return lambda part: Applied(f"{symbol.text()}{prime}", shown, function, part)


def _output(i: int) -> Symbol:
    return Symbol("A", i)


def _activation(layer: Layer) -> Activation:
    """φ of a layer; the gates of LSTM and GRU have theirs by name."""
    found = getattr(layer, "activation", IDENTITY)
    return found if isinstance(found, Activation) else IDENTITY


def _width(network: Network, i: int) -> int:
    """How many numbers a sample has before layer i."""
    for layer in reversed(network.layers[: i - 1]):
        if isinstance(layer, Dense):
            return layer.outputs
        if isinstance(layer, RECURRENT):
            return layer.hidden
    first = next(layer for layer in network.layers if isinstance(layer, Dense))
    return first.inputs


def _one_row_each(y: Any, outputs: Any) -> Any:
    """Class numbers as rows of zeros with a one; other targets as they are."""
    if np.shape(y) == np.shape(outputs):
        return y
    return np.equal(np.expand_dims(y, -1), np.arange(outputs.shape[1])).astype(outputs.dtype)


# ---------------------------------------------------------------------- losses


def _difference(number: int, over: Sequence[str]) -> Callable[[Term], Term]:
    return lambda a: Scaled(Fraction(number), tuple(over), Sum(a, TARGETS, minus=True))


def _cross_entropy(a: Term) -> Term:
    """For targets that are class numbers, or rows of probabilities with the sum 1."""
    s = Applied("softmax", r"\operatorname{softmax}", softmax, a)
    return Scaled(Fraction(1), ("N",), Sum(s, TARGETS, minus=True))


def _logistic(a: Term) -> Term:
    s = Applied("σ", r"\sigma", sigmoid, a)
    return Scaled(Fraction(1), ("N", "K"), Sum(s, TARGETS, minus=True))


# ∂J/∂A_L of each loss, from A_L.
_LOSSES: Final[Mapping[Loss, Callable[[Term], Term]]] = {
    MEAN_SQUARED_ERROR: _difference(2, ("N", "K")),
    HALF_SQUARED_ERROR: _difference(1, ("N",)),
    SOFTMAX_CROSS_ENTROPY: _cross_entropy,
    LOGISTIC: _logistic,
}
