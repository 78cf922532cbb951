"""A graph in Graphviz's language: `dot -Tpng`."""

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
    verdicts,
)
from tidegate.streams.graph_formats.selection import Selection

__all__ = ["dot"]


def dot(selection: Selection) -> str:
    """One directed graph; nodes have their services' names."""
    return "".join(f"{line}\n" for line in _lines(selection))


def _lines(selection: Selection) -> Iterator[str]:
    view = selection.view
    title = [f"graph of {local_text(view.window_end_ms)}", *verdicts(view)]
    title += filter(None, [selection.cut_text])
    yield "digraph tidegate {"
    yield f"  graph [rankdir=LR, labelloc=t, fontname=sans, label={_label(title)}];"
    yield "  node [shape=box, style=filled, fontname=sans, fontsize=11];"
    yield "  edge [fontname=sans, fontsize=9];"
    for node in view.nodes:
        colour = COLOURS[node.level]
        style = "filled,rounded,dashed" if node.kind == "virtual" else "filled"
        words = [level_words(node.level, node.since_ms), *node_marks(node)]
        label = _label([node.name, ", ".join(words), ", ".join(node_numbers(node))])
        yield (
            f"  {_id(node.name)} [label={label}, style={_quoted(style)}, "
            f'fillcolor="{colour.fill}", color="{colour.line}", fontcolor="{colour.text}"];'
        )
    findings = findings_by_edge(view)
    for edge in view.edges:
        ends = f"{_id(edge.caller)} -> {_id(edge.callee)}"
        marks = edge_marks(edge, findings.get((edge.caller, edge.callee), []))
        words = [level_words(edge.level, edge.since_ms), *marks]
        label = _label([", ".join(words), ", ".join(edge_numbers(edge))])
        width = 1 if edge.level == "closed" else 2.5
        yield f'  {ends} [label={label}, color="{COLOURS[edge.level].line}", penwidth={width}];'
    yield "}"


def _label(lines: list[str]) -> str:
    """Lines, centred. Graphviz's own sign for a new line stands between them; every other backslash is
    doubled."""
    return '"' + "\\n".join(_escaped(shown(line)) for line in lines) + '"'


def _id(name: str) -> str:
    """The name itself. Its backslashes are doubled first, so that no two names become one where what
    can't be printed is written as an escape."""
    return _quoted(shown(name.replace("\\", "\\\\")))


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
