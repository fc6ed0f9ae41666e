"""Chapter `expression-swell`: how large a derivative is, written out and shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends.symbolic import Symbolic
from diffkit.measures import expression_size
from diffkit.operators import derivative, gradient, prepare
from diffkit.problems import logistic_map
from diffkit.reporting.figures import Curve, Panel, drawing
from diffkit.reporting.page import Chapter, Picture, Section, Table, command, formatted, scientific
from diffkit.tracing import trace

NAME: Final = "expression-swell"
INPUTS: Final = 2
WIDTH: Final = 3
DEEPEST_PREDICTION: Final = 10


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    return Chapter(
        NAME,
        "Expression swell",
        "A derivative written out as a formula grows far faster than the function. Kept with "
        "its shared parts shared, it grows in step with it, and so does reverse mode.",
        command(NAME, quick),
        (_logistic(6 if quick else 8), _network(3 if quick else 5)),
    )


# ---------------------------------------------------------------------- the logistic map


@dataclass(frozen=True)
class LogisticSize:
    """Operations in l_n and its derivative.

    Attributes:
        n: which iterate.
        function: `sympy.count_ops` of l_n.
        tree: the same of its derivative, as `sympy.diff` leaves it.
        expanded: the same, expanded to a polynomial.
        dag: different subexpressions of the derivative.
        compiled: operations after `sympy.cse`.
        symbolic: operations of the symbolic backend's program.
        tape: array operations recorded by the tape for value and derivative.
    """

    n: int
    function: int
    tree: int
    expanded: int
    dag: int
    compiled: int
    symbolic: int
    tape: int


def logistic_sizes(largest: int) -> list[LogisticSize]:
    """Return the sizes for n = 1 to `largest`."""
    import sympy

    x = iterate = sympy.Symbol("x")
    sizes = []
    for n in range(1, largest + 1):
        slope = sympy.diff(iterate, x)
        size = expression_size(slope)
        sizes.append(
            LogisticSize(
                n,
                int(sympy.count_ops(iterate)),
                size.tree,
                int(sympy.count_ops(sympy.expand(slope))),
                size.dag,
                size.compiled,
                *_backend_operations(lambda t, n=n: logistic_map(t, n), derivative, 0.2),
            )
        )
        iterate = 4 * iterate * (1 - iterate)
    return sizes


def _backend_operations(
    f: Callable[..., Any], operator: Callable[..., Any], x: Any
) -> tuple[int, int]:
    """The operations of one derivative by the symbolic backend, as a DAG, and by the tape."""
    prepared = prepare(f, x, backend=Symbolic(form="shared"))
    getattr(prepared, operator.__name__)(x)
    symbolic = prepared.cost.operations
    assert symbolic is not None
    return symbolic, trace(lambda t: operator(f, t), x).operations


def _logistic(largest: int) -> Section:
    sizes = logistic_sizes(largest)
    n = [s.n for s in sizes]
    last = sizes[-1]

    def curve(label: str, name: str, colour: str) -> Curve:
        return Curve(label, n, [getattr(s, name) or np.nan for s in sizes], colour)

    panel = Panel(
        "logistic map, l → 4 l (1 - l)",
        "n, iterate of the logistic map",
        "operations",
        (
            curve("lₙ' written out", "tree", "vermilion"),
            curve("lₙ' expanded", "expanded", "orange"),
            curve("lₙ itself, written out", "function", "black"),
            curve("lₙ' after sympy.cse", "compiled", "purple"),
            curve("lₙ' as a DAG, nodes", "dag", "green"),
            curve("symbolic backend", "symbolic", "sky"),
            curve("tape, with the value", "tape", "blue"),
            Curve("7(n-1), published", n[1:], [7 * (k - 1) for k in n[1:]], "black",
                  measured=False),
        ),
        log_x=False,
        y_limits=(1, 2e4),
    )  # fmt: skip
    table = Table(
        "expression-swell-logistic",
        "Operations by sympy.count_ops, and by the two backends' own programs. The columns for "
        "lₙ, for lₙ' written out and expanded are those of Baydin et al. (2018), Table 1.",
        (
            "n",
            "lₙ written out",
            "lₙ' written out",
            "lₙ' expanded",
            "DAG nodes",
            "after cse",
            "symbolic backend",
            "tape",
        ),
        tuple(astuple(s) for s in sizes),
    )
    return Section(
        "The published example: the logistic map",
        (
            f"Written out, the derivative of l{_subscript(last.n)} takes {formatted(last.tree)} "
            f"operations, {last.tree / last.function:.0f} times those of the function: each "
            "product rule repeats its factors. This is the swell of the literature (Baydin et "
            "al., JMLR 18(153), 2018, Table 1).",
            "It is a matter of writing, not of differentiating. The same expression has "
            f"{last.dag} different parts; and where the iterates are kept as they were computed, "
            f"the symbolic backend needs {last.symbolic} operations and the tape {last.tape}, "
            "growing by the same number for each n (Laue 2019).",
        ),
        Picture(
            "expression-swell-logistic",
            "Vermilion and orange, the formulas on paper, are nearly straight on this axis: "
            "they grow by a factor for each n. The tape and the symbolic backend (blue) bend "
            "over: they grow by a constant. Zero counts at n = 1 are left out.",
            "Operation counts against n on a logarithmic axis. The written-out derivative rises "
            f"exponentially to {last.tree}; DAG, symbolic backend and tape stay below 130.",
            ((panel.title, drawing(panel)),),
        ),
        table,
        Table(table.name, table.caption, ("n", *_names(LogisticSize)[1:]), table.rows),
    )


# ---------------------------------------------------------------------- a growing network


@dataclass(frozen=True)
class NetworkSize:
    """Operations in the gradient of a tanh network by all its parameters.

    Attributes:
        depth: hidden layers.
        parameters: how many there are.
        predicted: operations of the gradient written out, by counting paths.
        tree: the same, of what `sympy.diff` returns; None where it was not derived.
        dag: operations with every subexpression computed once; None likewise.
        symbolic: operations on numbers in the symbolic backend's program.
        tape: array operations recorded by the tape, for value and gradient.
    """

    depth: int
    parameters: int
    predicted: int
    tree: int | None
    dag: int | None
    symbolic: int
    tape: int


def network_sizes(deepest: int) -> list[NetworkSize]:
    """Return the sizes for 1 to `DEEPEST_PREDICTION` layers, by SymPy up to `deepest`."""
    return [_network_size(depth, depth <= deepest) for depth in range(1, DEEPEST_PREDICTION + 1)]


def network_output(parameters: Any) -> Any:
    """Return the output of a tanh network for the input (1, ..., 1)."""
    h = np.ones(INPUTS)
    for layer in parameters["hidden"]:
        h = np.tanh(layer["W"] @ h + layer["b"])
    return parameters["v"] @ h


def _network_size(depth: int, derive: bool) -> NetworkSize:
    generator = np.random.default_rng(0)
    widths = [INPUTS, *[WIDTH] * depth]
    parameters = {
        "hidden": [
            {"W": generator.normal(size=(WIDTH, n)), "b": generator.normal(size=WIDTH)}
            for n in widths[:-1]
        ],
        "v": generator.normal(size=WIDTH),
    }
    tree, dag = _sympy_sizes(depth) if derive else (None, None)
    return NetworkSize(
        depth,
        sum(WIDTH * n + WIDTH for n in widths[:-1]) + WIDTH,
        predicted_tree(depth),
        tree,
        dag,
        *_backend_operations(network_output, gradient, parameters),
    )


def predicted_tree(depth: int) -> int:
    """Return the operations of the network's gradient, written out.

    With t_d those of a neuron in layer d, its derivative by a parameter of its own takes those
    of 1 - tanh² z and of the input the parameter meets; by a parameter further down, the sum
    over the neurons between.
    """
    neuron, total, below, own = 0, 0, 0, 0
    for layer in range(depth):
        inputs = WIDTH if layer else INPUTS
        before, neuron = neuron, inputs * (neuron + 2) + 1
        slope = neuron + 3
        through = WIDTH * total + own * (slope + 2) + below * (slope + 2 * WIDTH)
        below, own = below + own, WIDTH * (inputs + 1)
        total = through + inputs * (slope + 1 + before) + slope
    return WIDTH * total + own + below * (2 * WIDTH - 1) + WIDTH * neuron


def _sympy_sizes(depth: int) -> tuple[int, int]:
    import sympy

    h: list[Any] = list(sympy.symbols(f"x:{INPUTS}"))
    parameters: list[Any] = []
    for layer in range(depth):
        weights = [sympy.symbols(f"w{layer}_{i}_:{len(h)}") for i in range(WIDTH)]
        biases = sympy.symbols(f"b{layer}_:{WIDTH}")
        parameters += [w for row in weights for w in row] + list(biases)
        h = [
            sympy.tanh(sum(w * value for w, value in zip(row, h, strict=True)) + b)
            for row, b in zip(weights, biases, strict=True)
        ]
    outputs = sympy.symbols(f"v:{WIDTH}")
    value = sum(v * neuron for v, neuron in zip(outputs, h, strict=True))
    return _unfolded([sympy.diff(value, p) for p in (*parameters, *outputs)])


def _unfolded(expressions: Sequence[Any]) -> tuple[int, int]:
    """Operations written out, and with every subexpression once; counted without unfolding."""
    trees: dict[Any, int] = {}

    def tree(e: Any) -> int:
        if e not in trees:
            trees[e] = _operations(e) + sum(tree(a) for a in e.args)
        return trees[e]

    total = sum(tree(e) for e in expressions)
    return total, sum(_operations(e) for e in trees)


def _operations(e: Any) -> int:
    """Binary operations and function calls at the root of an expression."""
    return len(e.args) - 1 if e.is_Add or e.is_Mul else int(bool(e.args))


def _network(deepest: int) -> Section:
    sizes = network_sizes(deepest)
    derived = [s for s in sizes if s.tree is not None]
    last = derived[-1]
    depths = [s.depth for s in sizes]
    panel = Panel(
        f"tanh network, {INPUTS} inputs, {WIDTH} neurons a layer",
        "hidden layers",
        "operations of the whole gradient",
        (
            Curve("written out (SymPy)", [s.depth for s in derived],
                  [float(s.tree or 0) for s in derived], "vermilion"),
            Curve("written out, predicted", depths, [s.predicted for s in sizes], "black",
                  measured=False),
            Curve("as a DAG (SymPy)", [s.depth for s in derived],
                  [float(s.dag or 0) for s in derived], "green"),
            Curve("symbolic backend", depths, [s.symbolic for s in sizes], "sky"),
            Curve("tape, array operations", depths, [s.tape for s in sizes], "blue"),
        ),
        log_x=False,
        y_limits=(1, 1e10),
    )  # fmt: skip
    table = Table(
        "expression-swell-network",
        "Operations of the gradient by all parameters. Beyond the depth that SymPy derived, "
        "the written-out size is predicted by counting paths.",
        (
            "hidden layers",
            "parameters",
            "written out, predicted",
            "written out",
            "as a DAG",
            "symbolic backend",
            "tape",
        ),
        tuple(astuple(s) for s in sizes),
    )
    return Section(
        "A growing network",
        (
            f"With {last.depth} hidden layers the gradient of this small network, written out, "
            f"takes {formatted(last.tree)} operations; with {DEEPEST_PREDICTION} it would take "
            f"{scientific(sizes[-1].predicted)}. Every path from the output to a parameter "
            "appears in full, and the number of paths is multiplied by the width with each layer.",
            "SymPy's own result shares its parts in memory, and so is far smaller, though "
            "larger than it need be: it differentiates by one parameter after the other. "
            "Derived in reverse, as the symbolic backend and the tape do, each further layer "
            f"adds the same number of operations: {sizes[-1].symbolic - sizes[-2].symbolic} on "
            f"numbers, or {sizes[-1].tape - sizes[-2].tape} on arrays.",
        ),
        Picture(
            "expression-swell-network",
            "Written out, the gradient grows by a factor of four or more for each layer; "
            "shared, it grows like the network. The dashed prediction goes through the measured "
            "points exactly.",
            "Operation counts against depth on a logarithmic axis. The written-out gradient "
            f"climbs steeply to {scientific(sizes[-1].predicted)} at ten layers; the symbolic "
            "backend and the tape stay nearly flat, below a thousand.",
            ((panel.title, drawing(panel)),),
        ),
        table,
        Table(table.name, table.caption, _names(NetworkSize), table.rows),
    )


def _names(kind: type) -> tuple[str, ...]:
    return tuple(kind.__annotations__)


def _subscript(n: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(n))
