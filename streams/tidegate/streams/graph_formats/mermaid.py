"""A graph as a Mermaid flowchart, which GitHub, GitLab and many wikis draw."""

from collections.abc import Iterator

from tidegate.streams.control_options import local_text
from tidegate.streams.graph_formats.colours import COLOURS
from tidegate.streams.graph_formats.labels import (
    edge_marks,
    edge_numbers,
    findings_by_edge,
    level_words,
    node_marks,
    node_numbers,
    shown,
)
from tidegate.streams.graph_formats.selection import Selection

__all__ = ["MERMAID_CHARS_MAX", "MERMAID_EDGES_MAX", "mermaid"]

MERMAID_EDGES_MAX = 500
MERMAID_CHARS_MAX = 50_000
"""Mermaid's own `maxEdges` and `maxTextSize`: a page draws no more unless it is told to."""

_PLAIN = frozenset(" .,-/_")


def mermaid(selection: Selection) -> str:
    """One flowchart; nodes are `n0`, `n1`, ... in the order of their names."""
    return "".join(f"{line}\n" for line in _lines(selection))


def _lines(selection: Selection) -> Iterator[str]:
    view = selection.view
    yield "flowchart LR"
    yield f"  %% graph of {local_text(view.window_end_ms)}"
    if selection.cut_text:
        yield f"  cut{_text([selection.cut_text])}"
    ids = {node.name: f"n{number}" for number, node in enumerate(view.nodes)}
    for node in view.nodes:
        words = [level_words(node.level, node.since_ms), *node_marks(node)]
        text = _text([node.name, ", ".join(words), ", ".join(node_numbers(node))])
        text = f"({text})" if node.kind == "virtual" else text
        yield f"  {ids[node.name]}{text}:::{node.level}"
    findings = findings_by_edge(view)
    for edge in view.edges:
        marks = edge_marks(edge, findings.get((edge.caller, edge.callee), []))
        words = [level_words(edge.level, edge.since_ms), *marks]
        label = _label([", ".join(words), ", ".join(edge_numbers(edge))])
        yield f"  {ids[edge.caller]} -->|{label}| {ids[edge.callee]}"
    for level in sorted({node.level for node in view.nodes}):
        colour = COLOURS[level]
        yield f"  classDef {level} fill:{colour.fill},stroke:{colour.line},color:{colour.text}"
    for number, edge in enumerate(view.edges):
        if edge.level != "closed":
            yield f"  linkStyle {number} stroke:{COLOURS[edge.level].line},stroke-width:3px"


def _text(lines: list[str]) -> str:
    return f"[{_label(lines)}]"


def _label(lines: list[str]) -> str:
    return '"' + "<br/>".join(_escaped(shown(line)) for line in lines) + '"'


def _escaped(text: str) -> str:
    """Everything but letters, digits and a few signs as Mermaid's entity codes."""
    return "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in text)
