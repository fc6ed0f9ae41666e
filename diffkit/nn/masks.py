"""Masks of dropout layers: drawn anew for each step of training, and left out afterwards.

Masks are data: {"layer3": {"mask": ...}}, nested as residual blocks are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from diffkit.nn.blocks import Residual
from diffkit.nn.layers import Dropout, Layer
from diffkit.nn.network import Network

Places = dict[str, Any]
"""For each dropout layer by name the layer, the shape and the dtype of what it masks."""


def draw_masks(
    network: Network, parameters: Any, X: Any, generator: np.random.Generator
) -> dict[str, Any]:
    """Return a fresh mask for each dropout layer, to be given to `network.loss` as `masks`.

    Args:
        network: any.
        parameters: of the network.
        X: samples, as many as the masks are for.
        generator: where the masks are drawn from.
    """
    return drawn(mask_places(network, parameters, X), generator)


def mask_places(network: Network, parameters: Any, X: Any) -> Places:
    """Return where masks go for samples like `X`; empty for a network without dropout."""
    places, _ = _places(network.named_layers, parameters, X)
    return places


def drawn(places: Places, generator: np.random.Generator) -> dict[str, Any]:
    """Return a fresh mask for each place."""
    masks: dict[str, Any] = {}
    for name, place in places.items():
        if isinstance(place, dict):
            masks[name] = drawn(place, generator)
        else:
            layer, shape, dtype = place
            masks[name] = {"mask": layer.drawn(generator, shape, dtype)}
    return masks


def without_dropout(network: Network) -> Network:
    """Return the network as it is used after training: nothing is dropped."""
    return replace(network, layers=tuple(_kept(layer) for layer in network.layers))


def has_dropout(network: Network) -> bool:
    """Return whether there is a dropout layer, within residual blocks too."""
    return without_dropout(network) != network


def _places(
    named_layers: tuple[tuple[str, Layer], ...], parameters: Any, x: Any
) -> tuple[Places, Any]:
    found: Places = {}
    for name, layer in named_layers:
        own = parameters.get(name, {})
        if isinstance(layer, Dropout):
            found[name] = layer, np.shape(x), x.dtype
        elif isinstance(layer, Residual):
            within, _ = _places(layer.named_layers, own, x)
            if within:
                found[name] = within
        x = layer.forward(own, x)
    return found, x


def _kept(layer: Layer) -> Layer:
    if isinstance(layer, Dropout):
        return replace(layer, rate=0.0)
    if isinstance(layer, Residual):
        return replace(layer, layers=tuple(_kept(inner) for inner in layer.layers))
    return layer
