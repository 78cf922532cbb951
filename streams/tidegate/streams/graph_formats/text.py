"""A graph as trees of text: an entry, what it calls, what that calls."""

import io

from rich.console import Console, Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from tidegate.schemas.graph import EdgeView, EntryView, GraphView, NodeView
from tidegate.schemas.level import level_named
from tidegate.streams.control_options import local_text
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
from tidegate.streams.level_table import LEVEL_STYLES

__all__ = ["plain_text", "tree"]

_PLAIN_WIDTH = 100_000
"""No line is ever broken: what reads it is a program, or a pager."""


def tree(selection: Selection) -> RenderableType:
    """A head, a tree for each root, and what else there is to know."""
    view = selection.view
    forest = _Forest(view)
    parts: list[RenderableType] = [Text(_head(view))]
    if not view.nodes:
        parts.append(Text("no service was seen yet"))
    parts += [forest.grown(root) for root in selection.roots]
    if view.findings:
        count = len(view.findings)
        parts.append(Text(f"{count} finding{'s' * (count != 1)}; `tidegate findings` says more"))
    if selection.cut_text:
        parts.append(Text(selection.cut_text))
    return Group(*parts)


def plain_text(renderable: RenderableType) -> str:
    """Without colours, and no line broken."""
    out = io.StringIO()
    console = Console(file=out, width=_PLAIN_WIDTH, color_system=None, force_terminal=False)
    console.print(renderable)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _head(view: GraphView) -> str:
    counts = ", ".join(
        f"{count:,} {word if count == 1 else plural}"
        for count, word, plural in (
            (len(view.nodes), "node", "nodes"),
            (len(view.edges), "edge", "edges"),
            (len(view.entries), "entry", "entries"),
        )
    )
    return f"graph of {local_text(view.window_end_ms)}, version {view.version}: {counts}"


class _Forest:
    """Grows the tree of a root. A node opens once in a tree: a graph has too many ways to show all."""

    def __init__(self, view: GraphView) -> None:
        self._nodes = {node.name: node for node in view.nodes}
        self._entries = {entry.entry: entry for entry in view.entries}
        self._findings = findings_by_edge(view)
        self._edges: dict[str, list[EdgeView]] = {}
        for edge in sorted(view.edges, key=lambda edge: -level_named(edge.level)):
            self._edges.setdefault(edge.caller, []).append(edge)

    def grown(self, root: str) -> Tree:
        grown = Tree(self._root_line(root))
        entry = self._entries.get(root)
        for cause in entry.root_causes if entry else ():
            line = Text("root cause ", style="bold")
            line.append(f"{shown(cause.name)} ({cause.share:.0%}): ")
            line.append(shown(cause.reason), style="default not bold")
            grown.add(line)
        opened = {root}
        above: dict[Tree, tuple[str, Tree | None]] = {grown: (root, None)}
        waiting = [(grown, edge) for edge in reversed(self._edges.get(root, []))]
        while waiting:
            parent, edge = waiting.pop()
            callee, line = edge.callee, self._edge_line(edge)
            if _is_above(callee, parent, above):
                line.append("  (cycle: cut here)", style="bold")
            elif callee in opened and self._edges.get(callee):
                line.append("  (its calls: see above)", style="dim")
            else:
                opened.add(callee)
                child = parent.add(line)
                above[child] = (callee, parent)
                waiting += [(child, below) for below in reversed(self._edges.get(callee, []))]
                continue
            parent.add(line)
        return grown

    def _root_line(self, root: str) -> Text:
        node, entry = self._nodes[root], self._entries.get(root)
        line = Text(shown(root), style="bold")
        _add_marks(line, node_marks(node))
        if entry is not None:
            _add_graph(line, entry)
        line.append("  itself ", style="default not bold")
        _add_level(line, node.level, node.since_ms)
        line.append("".join(f"  {number}" for number in node_numbers(node)), style="not bold")
        return line

    def _edge_line(self, edge: EdgeView) -> Text:
        node = self._nodes[edge.callee]
        line = Text(shown(edge.callee))
        line.append("  ")
        _add_level(line, edge.level, edge.since_ms)
        line.append("".join(f"  {number}" for number in edge_numbers(edge)))
        if _differs(node, edge):
            line.append("  itself ")
            _add_level(line, node.level, node.since_ms)
        names = self._findings.get((edge.caller, edge.callee), [])
        _add_marks(line, [*edge_marks(edge, names), *node_marks(node)])
        return line


def _differs(node: NodeView, edge: EdgeView) -> bool:
    return node.kind == "service" and node.level != edge.level


def _is_above(name: str, at: Tree | None, above: dict[Tree, tuple[str, Tree | None]]) -> bool:
    while at is not None:
        here, at = above[at]
        if here == name:
            return True
    return False


def _add_graph(line: Text, entry: EntryView) -> None:
    line.append("  graph ", style="not bold")
    line.append(entry.level, style=LEVEL_STYLES[entry.level])
    line.append(f", score {entry.score:.2f}, {entry.nodes_count:,} nodes;", style="not bold")


def _add_level(line: Text, level: str, since_ms: int | None) -> None:
    line.append(level_words(level, since_ms), style=LEVEL_STYLES[level])


def _add_marks(line: Text, marks: list[str]) -> None:
    for mark in marks:
        line.append(f"  [{shown(mark)}]", style="not bold")
