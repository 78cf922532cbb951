"""Where a picture's boxes and lines go: layers from left to right, by graphlay (which has no randomness)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Box", "Laid", "Line", "lay_out"]

_CAREFUL_NODES_MAX = 120
"""Labels count too. Above, crossings are searched less long: 0.1 s for 200 nodes and 3 s for 1,000, instead
of 1 s and 80 s."""
_SPACING = {"layer_gap": 30.0, "node_gap": 22.0, "dummy_gap": 18.0, "stub": 8.0}
"""In pixels."""


@dataclass(frozen=True, slots=True)
class Box:
    """Of a node: its centre and size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """Of an edge: its corners from the caller to its label, and from there to the callee."""

    out: list[tuple[float, float]]
    label: Box
    into: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Laid:
    """Of a whole graph, in the order in which it was given."""

    boxes: list[Box]
    lines: list[Line]
    left: float
    top: float
    right: float
    bottom: float


def lay_out(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    label_sizes: Sequence[tuple[float, float]],
) -> Laid:
    """sizes: (width, height) of each node; edges: (caller, callee) as indices; label_sizes: one for each edge."""
    import graphlay

    # A label is laid out as a node between both: so it has room, and a line leads to it and from it.
    graph = graphlay.Graph()
    for width, height in [*sizes, *label_sizes]:
        graph.node(width=width, height=height)
    for label, (caller, callee) in enumerate(edges, start=len(sizes)):
        graph.edge(caller, label)
        graph.edge(label, callee)
    effort = "balanced" if len(graph.nodes) <= _CAREFUL_NODES_MAX else "fast"
    options = {"effort": effort, "direction": "leftright", "spacing": _SPACING}
    laid = graphlay.layout(graph, options=options)
    boxes = [_box(node) for node in laid.nodes]
    ways = [_points(edge) for edge in laid.edges]
    labels = boxes[len(sizes) :]
    low, high = laid.bounds["min"], laid.bounds["max"]
    return Laid(
        boxes[: len(sizes)],
        [Line(*line) for line in zip(ways[::2], labels, ways[1::2], strict=True)],
        low["x"],
        low["y"],
        high["x"],
        high["y"],
    )


def _box(node: Mapping[str, Any]) -> Box:
    centre, size = node["center"], node["size"]
    return Box(centre["x"], centre["y"], size["width"], size["height"])


def _points(edge: Mapping[str, Any]) -> list[tuple[float, float]]:
    return [(point["x"], point["y"]) for point in edge["points"]]
