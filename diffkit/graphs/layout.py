"""Where the boxes of a graph are put: in rows by depth, few edges crossing, none through a box.

Rows by the longest way, the order within them by the mean place of the neighbours, places by
least squares. An edge that passes a row has a lane of its own there, as wide as it needs.
Source: Sugiyama, Tagawa and Toda, IEEE Transactions on Systems, Man, and Cybernetics 11 (1981).
Lengths are in points, x to the right and y downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from diffkit.errors import UnsupportedOperation
from diffkit.graphs.definition import ComputationalGraph, Edge, Node, depths
from diffkit.graphs.wording import MOST_ENTRIES, quantity, size

FONT_SIZE: Final = 9.0
LABEL_SIZE: Final = 7.5
ADVANCE: Final = 0.61  # width of a letter of a monospaced font, in parts of its size
LEADING: Final = 1.3
MARGIN: Final = 12.0
PADDING: Final = 6.0
LANE: Final = 10.0  # room that an edge takes where it passes a row
BETWEEN: Final = 14.0  # boxes of one row
CHANNEL: Final = 20.0  # between rows, where edges change their place
SWEEPS: Final = 8
MOST_BOXES: Final = 120
MOST_ON_EDGE: Final = 3  # entries of an adjoint
LONGEST_LINE: Final = 30  # letters that describe a layer
ADJOINT_MARK: Final = "adjoint "


@dataclass(frozen=True)
class Box:
    """A node as it is drawn: x and y of its upper left corner, its size, and its lines."""

    node: Node
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]

    @property
    def adjoint(self) -> int:
        """The line on which the adjoint begins, which is the last that is told."""
        marked = (i for i, line in enumerate(self.lines) if line.startswith(ADJOINT_MARK))
        return next(marked, len(self.lines))


@dataclass(frozen=True)
class Route:
    """An edge as it is drawn: the corners of its way, and its label above the last of them."""

    edge: Edge
    points: tuple[tuple[float, float], ...]
    label: str


@dataclass(frozen=True)
class Layout:
    """A graph as it is drawn, and how large that is."""

    boxes: tuple[Box, ...]
    routes: tuple[Route, ...]
    width: float
    height: float


def layout(graph: ComputationalGraph) -> Layout:
    """Return where everything is put.

    Raises:
        UnsupportedOperation: there are more boxes than a reader could take in.
    """
    if len(graph.nodes) > MOST_BOXES:
        raise UnsupportedOperation(
            f"the graph of {graph.name} has {len(graph.nodes)} nodes, and a drawing of more than "
            f"{MOST_BOXES} is not legible; collapse its layers with .collapsed(), or give "
            ".to_dot() to Graphviz"
        )
    return _Drawing(graph).laid_out()


def lines(node: Node) -> tuple[str, ...]:
    """Return what is written in a node's box."""
    title = f"{node.name} = {node.formula}" if node.kind == "operation" else node.name
    described = _broken(node.formula) if node.kind == "layer" else ()
    told = [quantity(node.value)]
    if node.tangent is not None:
        told.append(f"tangent {_without_size(node.tangent)}")
    if node.adjoint is not None:
        told.append(f"{ADJOINT_MARK}{_without_size(node.adjoint)}")
    return (title, *described, *(row for text in told for row in _by_row(text)))


def label(edge: Edge) -> str:
    """Return what is written beside an edge: the adjoint that it carries, or the norm of it."""
    if edge.adjoint is None:
        return ""
    return _without_size(edge.adjoint, most=MOST_ON_EDGE)


def _without_size(derivative: Any, most: int = MOST_ENTRIES) -> str:
    """A derivative by a value that stands above it: it has the same shape."""
    return quantity(derivative, most).removeprefix(f"{size(derivative)}, ")


def _by_row(text: str) -> tuple[str, ...]:
    """A matrix that is written out, row by row."""
    return tuple(text.replace("], [", "],\n[").split("\n"))


def _broken(description: str) -> tuple[str, ...]:
    """What a layer is on one line or two."""
    kind, comma, options = description.partition(", ")
    if len(description) <= LONGEST_LINE or not comma:
        return (description,)
    return (f"{kind},", options)


class _Place:
    """A box, or the lane of an edge through a row: both take a place in one."""

    def __init__(self, node: Node | None, width: float, row: int) -> None:
        self.node = node
        self.width = width
        self.row = row
        self.x = 0.0  # of the middle
        self.above: list[_Place] = []
        self.below: list[_Place] = []


class _Drawing:
    """The layout as it is made, step by step."""

    def __init__(self, graph: ComputationalGraph) -> None:
        self.graph = graph
        self.rows: list[list[_Place]] = []
        self.lanes: list[list[_Place]] = []  # for each edge the places it joins

    def laid_out(self) -> Layout:
        self._fill_rows()
        self._order()
        for sweep in range(2 * SWEEPS):
            self._align(downwards=sweep % 2 == 0)
        return self._drawn()

    # ------------------------------------------------------------------ rows

    def _fill_rows(self) -> None:
        levels = _rows(self.graph)
        self.rows = [[] for _ in range(max(levels.values(), default=0) + 1)]
        places = {}
        for node in self.graph.nodes:
            place = _Place(node, self._width(node), levels[node.name])
            places[node.name] = place
            self.rows[place.row].append(place)
        for edge in self.graph.edges:
            source, target = places[edge.source], places[edge.target]
            chain = [source]
            for row in range(source.row + 1, target.row):
                lane = _Place(None, LANE, row)
                self.rows[row].append(lane)
                chain.append(lane)
            chain.append(target)
            for upper, lower in pairwise(chain):
                upper.below.append(lower)
                lower.above.append(upper)
            self.lanes.append(chain)

    def _width(self, node: Node) -> float:
        """Of a box: what its lines need, and the labels of the edges that end there."""
        text = max(len(line) for line in lines(node)) * ADVANCE * FONT_SIZE
        ends = sum(_slot(edge) for edge in self.graph.into(node.name))
        return max(text, ends) + 2 * PADDING

    # ------------------------------------------------------------------ order within rows

    def _order(self) -> None:
        best = [list(row) for row in self.rows]
        least = self._crossings()
        for sweep in range(2 * SWEEPS):
            downwards = sweep % 2 == 0
            for row in self.rows if downwards else self.rows[::-1]:
                self._sort(row, downwards)
            crossings = self._crossings()
            if crossings < least:
                best, least = [list(row) for row in self.rows], crossings
        self.rows = best

    def _sort(self, row: list[_Place], downwards: bool) -> None:
        """By the mean position of the neighbours; what has none stays where it is."""
        position = {id(p): i for other in self.rows for i, p in enumerate(other)}

        def key(place: _Place) -> float:
            near = place.above if downwards else place.below
            near = near or (place.below if downwards else place.above)
            known = [position[id(p)] for p in near]
            return sum(known) / len(known) if known else position[id(place)]

        row.sort(key=key)

    def _crossings(self) -> int:
        total = 0
        for upper, lower in pairwise(self.rows):
            position = {id(p): i for i, p in enumerate(lower)}
            ends = [sorted(position[id(q)] for q in p.below) for p in upper]
            flat = [end for each in ends for end in each]
            total += sum(a > b for i, a in enumerate(flat) for b in flat[i + 1 :])
        return total

    # ------------------------------------------------------------------ places within rows

    def _align(self, downwards: bool) -> None:
        """Every row as near to its neighbours in the rows before as the boxes allow."""
        for row in self.rows if downwards else self.rows[::-1]:
            wanted, weights = [], []
            for place in row:
                near = (place.above if downwards else place.below) or [place]
                wanted.append(sum(p.x for p in near) / len(near))
                weights.append(8.0 if place.node is None else 1.0)  # lanes are to be straight
            gaps = [
                (a.width + b.width) / 2 + (BETWEEN if a.node or b.node else 0.0)
                for a, b in pairwise(row)
            ]
            for place, x in zip(row, spread(wanted, weights, gaps), strict=True):
                place.x = x

    # ------------------------------------------------------------------ the drawing

    def _drawn(self) -> Layout:
        left = min(p.x - p.width / 2 for row in self.rows for p in row) - MARGIN
        right = max(p.x + p.width / 2 for row in self.rows for p in row) + MARGIN
        tops, bottoms, y = [], [], MARGIN
        for row in self.rows:
            labelled = any(label(e) for p in row if p.node for e in self.graph.into(p.node.name))
            y += LABEL_SIZE * 2.4 if labelled else 0.0
            tops.append(y)
            y += max(_height(p.node) for p in row if p.node) if any(p.node for p in row) else 0.0
            bottoms.append(y)
            y += CHANNEL
        boxes = tuple(
            Box(p.node, p.x - p.width / 2 - left, tops[p.row], p.width, _height(p.node),
                lines(p.node))
            for row in self.rows for p in row if p.node
        )  # fmt: skip
        routes = self._routes(left, tops, bottoms)
        return Layout(boxes, routes, right - left, y - CHANNEL + MARGIN)

    def _routes(
        self, left: float, tops: Sequence[float], bottoms: Sequence[float]
    ) -> tuple[Route, ...]:
        entries = self._ports(incoming=True)
        exits = self._ports(incoming=False)
        routes = []
        for k, (edge, chain) in enumerate(zip(self.graph.edges, self.lanes, strict=True)):
            source, target = chain[0], chain[-1]
            assert source.node is not None
            foot = tops[source.row] + _height(source.node)
            points = [(exits[k] - left, foot)]
            if foot < bottoms[source.row]:
                points.append((exits[k] - left, bottoms[source.row]))
            for lane in chain[1:-1]:
                points.append((lane.x - left, tops[lane.row] - LABEL_SIZE * 2.4))
                points.append((lane.x - left, bottoms[lane.row]))
            points.append((entries[k] - left, tops[target.row] - LABEL_SIZE * 2.4))
            points.append((entries[k] - left, tops[target.row]))
            routes.append(Route(edge, tuple(points), label(edge)))
        return tuple(routes)

    def _ports(self, incoming: bool) -> dict[int, float]:
        """Where each edge meets its box, in the order of where it comes from or goes to."""
        by_box: dict[int, list[tuple[float, int]]] = {}
        for k, chain in enumerate(self.lanes):
            box, other = (chain[-1], chain[-2]) if incoming else (chain[0], chain[1])
            by_box.setdefault(id(box), []).append((other.x, k))
        ports = {}
        for meeting in by_box.values():
            meeting.sort()
            chain = self.lanes[meeting[0][1]]
            box = chain[-1] if incoming else chain[0]
            edges = [self.graph.edges[k] for _, k in meeting]
            shares = [_slot(edge) if incoming else LANE for edge in edges]
            x = box.x - sum(shares) / 2
            for (_, k), share in zip(meeting, shares, strict=True):
                ports[k] = x + share / 2
                x += share
        return ports


def _rows(graph: ComputationalGraph) -> dict[str, int]:
    """The row of each node: its depth, but what is not computed stands just above its use."""
    levels = depths([node.name for node in graph.nodes], graph.edges)
    for node in graph.nodes:
        used = [levels[edge.target] for edge in graph.out_of(node.name)]
        if node.kind in ("input", "data", "constant") and used:
            levels[node.name] = min(used) - 1
    return levels


def _slot(edge: Edge) -> float:
    """The room that an edge takes where it enters a box, with its label."""
    return max(LANE, len(label(edge)) * ADVANCE * LABEL_SIZE + PADDING)


def _height(node: Node) -> float:
    return len(lines(node)) * FONT_SIZE * LEADING + 2 * PADDING


def spread(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Return the places nearest to those wanted, in their order and at least `gaps` apart.

    Nearest in the weighted sum of squares: subtract the gaps, and pool neighbours that are in
    the wrong order to their mean (isotonic regression).
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for want, weight, offset in zip(wanted, weights, offsets, strict=False):
        pool = (want - offset, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, heavy, count = pools.pop()
            total = heavy + pool[1]
            pool = ((mean * heavy + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]
