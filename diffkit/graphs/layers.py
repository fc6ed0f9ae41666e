"""Which layer of a network each operation belongs to: layers that take note when they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from diffkit.graphs.wording import by
from diffkit.nn.activations import IDENTITY, Activation
from diffkit.nn.blocks import Residual
from diffkit.nn.layers import Layer, Parameters, Shapes
from diffkit.nn.network import Network
from diffkit.structure import is_traced

LOSS = "loss"


@dataclass
class Spans:
    """Between which recorded nodes each layer ran.

    Attributes:
        labels: what each layer is, by its path (`layer4.layer1` is within `layer4`).
        runs: (path, first node, node after the last), inner layers before those they are in.
    """

    labels: dict[str, str] = field(default_factory=dict)
    runs: list[tuple[str, int, int]] = field(default_factory=list)

    def group(self, index: int) -> str:
        """Return the path of the innermost layer in which a node was recorded."""
        return next((path for path, first, end in self.runs if first <= index < end), "")


@dataclass(frozen=True)
class _Marked(Layer):
    """A layer that notes which nodes are recorded while it runs."""

    inner: Layer
    path: str
    spans: Spans

    @property
    def shapes(self) -> Shapes:
        return self.inner.shapes

    @property
    def parameter_count(self) -> int:
        return self.inner.parameter_count

    def forward(self, parameters: Parameters, x: Any) -> Any:
        first = _recorded(parameters, x)
        y = self.inner.forward(parameters, x)
        if is_traced(y):
            self.spans.runs.append((self.path, first, len(y.recorder.nodes)))
        return y


def _recorded(parameters: Any, x: Any) -> int:
    """How many nodes have been recorded so far."""
    if is_traced(x):
        return len(x.recorder.nodes)
    if isinstance(parameters, dict):
        return max((_recorded(member, None) for member in parameters.values()), default=0)
    return len(parameters.recorder.nodes) if is_traced(parameters) else 0


def marked(f: Callable[..., Any]) -> tuple[Callable[..., Any], Spans | None]:
    """Return `loss` or `predict` of a network with layers that take note; else `f` itself."""
    network, method = getattr(f, "__self__", None), getattr(f, "__name__", "")
    if not isinstance(network, Network) or method not in ("loss", "predict"):
        return f, None
    spans = Spans()
    layers = tuple(_mark(layer, name, spans) for name, layer in network.named_layers)
    if method == "loss":
        penalty = f" + {_words(network.penalty)}" if network.penalty else ""
        spans.labels[LOSS] = f"{network.criterion}{penalty}"
    return getattr(replace(network, layers=layers), method), spans


def _mark(layer: Layer, path: str, spans: Spans) -> Layer:
    spans.labels[path] = describe(layer)
    if isinstance(layer, Residual):
        layers = tuple(_mark(inner, f"{path}.{name}", spans) for name, inner in layer.named_layers)
        shortcut = layer.shortcut and _mark(layer.shortcut, f"{path}.shortcut", spans)
        layer = replace(layer, layers=layers, shortcut=shortcut)
    return _Marked(layer, path, spans)


def describe(layer: Layer) -> str:
    """Return a layer in a few words: its type, its sizes, and what is not as by default."""
    values = {f.name: getattr(layer, f.name) for f in fields(layer)}  # type: ignore[arg-type]
    words = []
    ends = [
        str(values.pop(name)) for name in ("inputs", "vocabulary", "outputs", "hidden", "width")
        if name in values
    ]  # fmt: skip
    if ends:
        words.append(" → ".join(ends))
    defaults = {f.name: f.default for f in fields(layer)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name in ("layers", "shortcut", "seed") or value in (defaults[name], IDENTITY):
            continue
        words.append(_setting(name, value, defaults[name] is MISSING))
    return " ".join([type(layer).__name__, ", ".join(words)]).rstrip()


def _setting(name: str, value: Any, needed: bool) -> str:
    if isinstance(value, Activation):
        return value.name
    if isinstance(value, tuple):
        return by(value)
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return str(value) if needed and name != "rate" else f"{name} {value}"


def _words(penalty: Any) -> str:
    terms = [f.name.upper() for f in fields(penalty) if getattr(penalty, f.name)]
    return f"{' and '.join(terms)} penalty"
