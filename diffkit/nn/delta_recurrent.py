"""Backpropagation through time as formulas: the delta recursion of recurrent layers.

In front of the recursion over the layers comes one over the steps: what reaches a state A_t is
what its own output sends, and what step t + 1 sends back. Samples are rows. Each gate has formulas
of its own; its weights are a block of columns of the layer's. Source: Werbos, Proceedings of the
IEEE 78 (1990).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np

from diffkit.nn.activations import IDENTITY, SIGMOID, TANH
from diffkit.nn.layers import Layer, Parameters
from diffkit.nn.matrix_terms import (
    Applied,
    Formula,
    Hadamard,
    OverSteps,
    Product,
    Sum,
    Symbol,
    Term,
    Transposed,
)
from diffkit.nn.recurrent import GRU, LSTM, Elman
from diffkit.nn.slopes import slope_of

Recurrent = Elman | LSTM | GRU

ONES: Final = Symbol("1")
RECURRENT: Final = (Elman, LSTM, GRU)
_GATES: Final[Mapping[type[Layer], Sequence[str]]] = {
    Elman: ("",),
    LSTM: ("I", "F", "U", "O"),
    GRU: ("R", "S", "U"),
}
LEGEND: Final = "T steps; what would lie before step 1 or after step T is 0"
_MEANINGS: Final[Mapping[type[Layer], str]] = {
    LSTM: "I, F, O are the gates for input, forgetting, output of the cell C; U is written to it",
    GRU: "R and S are the gates for resetting and keeping the state; U is the new one",
}


@dataclass(frozen=True)
class Unrolled:
    """One recurrent layer, to be written as formulas.

    Attributes:
        number: of the layer, from 1.
        layer: what it is.
        before: what it reads, at a step.
    """

    number: int
    layer: Recurrent
    before: Symbol

    @property
    def gates(self) -> Sequence[str]:
        """The marks of its gates, in the order of their columns."""
        return _GATES[type(self.layer)]

    @property
    def legend(self) -> list[str]:
        """What its symbols are."""
        meaning = _MEANINGS.get(type(self.layer))
        number = Symbol("G", self.number).stem
        outer = [] if self.layer.every_step else [f"{number}[t] is 0 for t < T"]
        return [LEGEND, *outer, *([meaning] if meaning else [])]

    def forward(self) -> list[Formula]:
        """The formulas of a step, in order."""
        if isinstance(self.layer, GRU):
            return self._forward_gru()
        sums = [Formula(self._z(g), self._sum(g)) for g in self.gates]
        if isinstance(self.layer, Elman):
            return [*sums, Formula(self._state(), self._phi("", self._z("")))]
        i, f, u, o = (self._at(g) for g in self.gates)
        opened = [Formula(self._at(g), self._phi(g, self._z(g))) for g in self.gates]
        cell = Sum(Hadamard(f, self._at("C", "t-1")), Hadamard(i, u))
        state = Hadamard(o, _tanh(self._at("C")))
        return [*sums, *opened, Formula(self._at("C"), cell), Formula(self._state(), state)]

    def deltas(self, arriving: Term) -> list[Formula]:
        """The formulas of a step, from what arrives at its output; G is that."""
        every = self.layer.every_step
        outer = Formula(self._at("G", "t" if every else "T"), arriving)
        reached = Formula(self._at("D"), Sum(self._at("G"), self._sent_back()))
        if isinstance(self.layer, Elman):
            inner = [self._delta("", self._at("D"))]
        elif isinstance(self.layer, LSTM):
            inner = self._deltas_lstm()
        else:
            inner = self._deltas_gru()
        return [outer, reached, *inner]

    def gradients(self) -> list[Formula]:
        """By the parameters, as sums over the steps."""
        formulas = []
        for g in self.gates:
            old = self._old(g)
            products = (
                (self._weight("x", g), self.before.at("t"), self._d(g)),
                (self._weight("h", g), self._state("t-1"), old),
            )
            for weight, read, delta in products:
                moved = OverSteps(Product(Transposed(read), delta))
                formulas.append(Formula(weight, moved, derivative=True))
            biases = [("b", self._d(g)), ("d", old)][: 2 if isinstance(self.layer, GRU) else 1]
            for name, delta in biases:
                moved = OverSteps(Product(Transposed(delta), ONES))
                formulas.append(Formula(self._bias(name, g), moved, derivative=True))
        return formulas

    def sent_down(self) -> Term:
        """What reaches the layer's input at a step."""
        parts: list[Term] = [
            Product(self._d(g), Transposed(self._weight("x", g))) for g in self.gates
        ]
        return reduce(Sum, parts[1:], parts[0])

    # ------------------------------------------------------------------ values

    def bound(self, parameters: Parameters, batch: int, dtype: Any) -> dict[str, Any]:
        """The values of the parameters by their symbols, and the zeros around the sequence."""
        width = self.layer.hidden
        values: dict[str, Any] = {f"0 of layer {self.number}": np.zeros((batch, width), dtype)}
        for k, g in enumerate(self.gates):
            columns = slice(k * width, (k + 1) * width)
            for side in ("x", "h"):
                values[self._weight(side, g).stem] = parameters[f"W_{side}"][:, columns]
            for name in ("b", "d"):
                if name in parameters:
                    values[self._bias(name, g).stem] = parameters[name][columns].reshape(-1, 1)
        return values

    def collected(self, found: Mapping[str, Any], parameters: Parameters) -> dict[str, Any]:
        """The gradient by the parameters, from that by their blocks."""
        symbols = {
            "W_x": [self._weight("x", g) for g in self.gates],
            "W_h": [self._weight("h", g) for g in self.gates],
            "b": [self._bias("b", g) for g in self.gates],
            "d": [self._bias("d", g) for g in self.gates],
        }
        return {
            key: np.concatenate([found[s.stem] for s in symbols[key]], axis=-1 if W.ndim > 1 else 0)
            .reshape(W.shape)
            for key, W in parameters.items()
        }  # fmt: skip

    # ------------------------------------------------------------------ symbols

    def _at(self, name: str, step: str = "t", mark: str = "") -> Symbol:
        return Symbol(name, self.number, step, mark)

    def _state(self, step: str = "t") -> Symbol:
        return self._at("A", step)

    def _z(self, gate: str) -> Symbol:
        return self._at("Z", mark=gate)

    def _d(self, gate: str, step: str = "t") -> Symbol:
        return self._at("Δ", step, gate)

    def _old(self, gate: str, step: str = "t") -> Symbol:
        """What reaches A_{t-1} W_h: of the new state of a GRU what the reset lets through."""
        resets = isinstance(self.layer, GRU) and gate == "U"
        return self._d("Q" if resets else gate, step)

    def _weight(self, side: str, gate: str) -> Symbol:
        return Symbol("W", self.number, mark=side + gate)

    def _bias(self, name: str, gate: str) -> Symbol:
        return Symbol(name, self.number, mark=gate)

    # ------------------------------------------------------------------ terms

    def _new(self, gate: str) -> Term:
        product = Product(self.before.at("t"), self._weight("x", gate))
        return Sum(product, Product(ONES, Transposed(self._bias("b", gate))))

    def _read(self, gate: str) -> Term:
        return Product(self._state("t-1"), self._weight("h", gate))

    def _sum(self, gate: str) -> Term:
        product = Product(self.before.at("t"), self._weight("x", gate))
        bias = Product(ONES, Transposed(self._bias("b", gate)))
        return Sum(Sum(product, self._read(gate)), bias)

    def _phi(self, gate: str, z: Term, prime: bool = False) -> Term:
        """The activation of a gate, or its derivative."""
        if isinstance(self.layer, Elman):
            phi = self.layer.activation
            if phi is IDENTITY and not prime:
                return z
            slope, symbol = slope_of(phi), Symbol("φ", self.number)
            name, shown = symbol.text(), symbol.latex()
        else:
            slope = slope_of(TANH if gate == "U" else SIGMOID)
            name, shown = ("tanh", r"\tanh") if gate == "U" else ("σ", r"\sigma")
        if prime:
            return Applied(f"{name}'", f"{shown}'", slope.derivative, z)
        return Applied(name, shown, slope.function, z)

    def _delta(self, gate: str, reaching: Term) -> Formula:
        return Formula(self._d(gate), Hadamard(reaching, self._phi(gate, self._z(gate), True)))

    def _sent_back(self) -> Term:
        """What step t + 1 sends back to the state."""
        parts: list[Term] = [
            Product(self._old(g, "t+1"), Transposed(self._weight("h", g))) for g in self.gates
        ]
        if isinstance(self.layer, GRU):
            parts.insert(0, Hadamard(self._at("D", "t+1"), self._at("S", "t+1")))
        return reduce(Sum, parts[1:], parts[0])

    # ------------------------------------------------------------------ gates

    def _deltas_lstm(self) -> list[Formula]:
        c, d, e = self._at("C"), self._at("D"), self._at("E")
        slope = Applied("tanh'", r"\tanh'", slope_of(TANH).derivative, c)
        kept = Hadamard(self._at("E", "t+1"), self._at("F", "t+1"))
        return [
            Formula(e, Sum(Hadamard(Hadamard(d, self._at("O")), slope), kept)),
            self._delta("I", Hadamard(e, self._at("U"))),
            self._delta("F", Hadamard(e, self._at("C", "t-1"))),
            self._delta("U", Hadamard(e, self._at("I"))),
            self._delta("O", Hadamard(d, _tanh(c))),
        ]

    def _forward_gru(self) -> list[Formula]:
        """The reset gate acts on the product of the old state, its bias included."""
        r, s, u, q = (self._at(name) for name in ("R", "S", "U", "Q"))
        offset = {g: Product(ONES, Transposed(self._bias("d", g))) for g in self.gates}
        formulas = []
        for g in ("R", "S"):
            formulas.append(Formula(self._z(g), Sum(Sum(self._new(g), self._read(g)), offset[g])))
            formulas.append(Formula(self._at(g), self._phi(g, self._z(g))))
        state = Sum(u, Hadamard(s, Sum(self._state("t-1"), u, minus=True)))
        return [
            *formulas,
            Formula(q, Sum(self._read("U"), offset["U"])),
            Formula(self._z("U"), Sum(self._new("U"), Hadamard(r, q))),
            Formula(u, self._phi("U", self._z("U"))),
            Formula(self._state(), state),
        ]

    def _deltas_gru(self) -> list[Formula]:
        d, r, s, u, q = (self._at(name) for name in ("D", "R", "S", "U", "Q"))
        new = self._delta("U", Hadamard(d, Sum(ONES, s, minus=True)))
        return [
            new,
            self._delta("S", Hadamard(d, Sum(self._state("t-1"), u, minus=True))),
            self._delta("R", Hadamard(self._d("U"), q)),
            Formula(self._d("Q"), Hadamard(self._d("U"), r)),
        ]


def _tanh(part: Term) -> Term:
    return Applied("tanh", r"\tanh", np.tanh, part)
