"""Which part of a graph is shown: what some services reach, and at most so many nodes of it."""

import difflib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tidegate.schemas.graph import EdgeView, EntryView, GraphView, NodeView
from tidegate.schemas.level import level_named
from tidegate.streams.errors import Failure
from tidegate.streams.graph_formats.labels import shown

__all__ = ["Selection", "select"]

_NAMES_LISTED_MAX = 10


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a graph that is shown."""

    view: GraphView
    """Only this part: nodes by name, edges by caller and callee, entries worst first."""
    roots: tuple[str, ...]
    """Where a reader begins; every node of the part is reached from one of them."""
    nodes_left_out: int = 0
    edges_left_out: int = 0

    @property
    def cut_text(self) -> str:
        """What was left out, for people; empty where nothing was."""
        if not self.nodes_left_out and not self.edges_left_out:
            return ""
        return (
            f"{self.nodes_left_out:,} nodes and {self.edges_left_out:,} edges are left out: the "
            "healthiest first, then those with the least traffic (--max-nodes shows more)"
        )


def select(
    view: GraphView, names: Sequence[str] = (), *, nodes_max: int | None = None
) -> Selection:
    """What `names` reach (all, without any), cut to `nodes_max` nodes: the worst are kept, each with a way
    to it from a root. Raises Failure for a name that the graph doesn't have.
    """
    nodes = {node.name: node for node in sorted(view.nodes, key=lambda node: node.name)}
    known = [e for e in view.edges if e.caller in nodes and e.callee in nodes]
    edges = sorted(known, key=lambda edge: (edge.caller, edge.callee))
    for name in names:
        if name not in nodes:
            raise Failure(_unknown_text(name, nodes, view.entries))
    callees = _callees(nodes, edges)
    entries = sorted(view.entries, key=_entry_order)
    roots = list(dict.fromkeys(names)) or _roots(nodes, edges, callees, entries)
    came_from = _reach(roots, callees)
    kept = set(came_from)
    if nodes_max is not None and len(kept) > nodes_max:
        kept = _worst(nodes, edges, came_from, nodes_max)
    shown_edges = [e for e in edges if e.caller in kept and e.callee in kept]
    reached_edges = sum(e.caller in came_from for e in edges)
    part = replace(
        view,
        nodes=[node for name, node in nodes.items() if name in kept],
        edges=shown_edges,
        entries=[e for e in entries if e.entry in kept and (not names or e.entry in names)],
        findings=[f for f in view.findings if kept.issuperset(f.path)],
    )
    return Selection(
        part,
        tuple(root for root in roots if root in kept),
        len(came_from) - len(kept),
        reached_edges - len(shown_edges) + len(view.edges) - len(edges),
    )


def _entry_order(entry: EntryView) -> tuple[int, float, str]:
    return (-level_named(entry.level), entry.score, entry.entry)


def _callees(nodes: Iterable[str], edges: Iterable[EdgeView]) -> dict[str, list[str]]:
    callees: dict[str, list[str]] = {name: [] for name in nodes}
    for edge in edges:
        callees[edge.caller].append(edge.callee)
    return callees


def _roots(
    nodes: Mapping[str, NodeView],
    edges: Iterable[EdgeView],
    callees: Mapping[str, list[str]],
    entries: Sequence[EntryView],
) -> list[str]:
    """Entries, then as many others as it takes to reach every node: first those that nobody calls."""
    called = {edge.callee for edge in edges if edge.caller != edge.callee}
    named = [entry.entry for entry in entries if entry.entry in nodes]
    named += [name for name, node in nodes.items() if node.is_entry]
    candidates = [*named, *(name for name in nodes if name not in called), *nodes]
    reached: set[str] = set(named)
    reached.update(_reach(named, callees))
    roots = list(dict.fromkeys(named))
    for name in candidates:
        if name not in reached:
            roots.append(name)
            reached.update(_reach([name], callees, reached))
    return roots


def _reach(
    roots: Iterable[str], callees: Mapping[str, list[str]], known: Iterable[str] = ()
) -> dict[str, str | None]:
    """Every node that is reached, nearest first, and the node through which it was."""
    came_from: dict[str, str | None] = dict.fromkeys(roots)
    beyond = set(known)
    waiting = deque(came_from)
    while waiting:
        name = waiting.popleft()
        for callee in callees[name]:
            if callee not in came_from and callee not in beyond:
                came_from[callee] = name
                waiting.append(callee)
    return came_from


def _worst(
    nodes: Mapping[str, NodeView],
    edges: Iterable[EdgeView],
    came_from: Mapping[str, str | None],
    nodes_max: int,
) -> set[str]:
    severity = {name: int(level_named(nodes[name].level)) for name in came_from}
    for edge in edges:
        if edge.callee in severity:
            severity[edge.callee] = max(severity[edge.callee], level_named(edge.level))
    kept: set[str] = set()
    for name in sorted(came_from, key=lambda name: (-severity[name], -nodes[name].qps, name)):
        way: list[str] = []
        at: str | None = name
        while at is not None and at not in kept:
            way.append(at)
            at = came_from[at]
        if len(kept) + len(way) <= nodes_max:
            kept.update(way)
        if len(kept) == nodes_max:
            break
    return kept


def _unknown_text(name: str, nodes: Mapping[str, NodeView], entries: Sequence[EntryView]) -> str:
    near = difflib.get_close_matches(name, nodes, n=1)
    if near:
        hint = f"did you mean {shown(near[0])}?"
    elif entries:
        names = [shown(entry.entry) for entry in entries[:_NAMES_LISTED_MAX]]
        more = len(entries) - len(names)
        hint = f"entries are {', '.join(names)}" + (f" and {more} more" if more else "")
    else:
        hint = "it has no entry yet"
    return f"{shown(name)}: this graph has no such node; {hint}"
