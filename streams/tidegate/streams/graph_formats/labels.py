"""Words and numbers for a node or an edge, the same in every format."""

import itertools
from collections.abc import Iterable

from tidegate.schemas.graph import EdgeView, GraphFinding, GraphView, NodeView
from tidegate.streams.level_table import clock_text

__all__ = [
    "cut",
    "edge_marks",
    "edge_numbers",
    "findings_by_edge",
    "level_words",
    "node_marks",
    "node_numbers",
    "shown",
    "verdicts",
]

_VERDICTS_MAX = 5
_VERDICT_CHARS_MAX = 160


def shown(text: str) -> str:
    """On one line, with what can't be seen written as an escape: a name comes off the wire, and must not
    steer a terminal or end a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(text: str, chars: int) -> str:
    """At most so many characters."""
    return text if len(text) <= chars else text[: chars - 1] + "…"


def level_words(level: str, since_ms: int | None) -> str:
    """`open since 12:03:04`."""
    if since_ms is None or level == "closed":
        return level
    return f"{level} since {clock_text(since_ms)}"


def node_numbers(node: NodeView) -> list[str]:
    """Requests a second, errors, P95; those that are known."""
    numbers = [f"{node.qps:,.1f} req/s", f"errors {node.error_ratio:.1%}"]
    return numbers + _p95(node.p95_ms)


def edge_numbers(edge: EdgeView) -> list[str]:
    """Calls a second, errors, P95 as the caller sees it; those that are known."""
    numbers = [f"{edge.calls_per_s:,.1f} calls/s", f"errors {edge.error_ratio:.1%}"]
    return numbers + _p95(edge.p95_ms)


def node_marks(node: NodeView) -> list[str]:
    """What kind of a node it is; nothing of an ordinary service."""
    return ["entry"] * node.is_entry + ["virtual"] * (node.kind == "virtual")


def edge_marks(edge: EdgeView, findings: Iterable[str]) -> list[str]:
    """Incidents and findings."""
    return [*edge.incidents, *findings]


def findings_by_edge(view: GraphView) -> dict[tuple[str, str], list[str]]:
    """(caller, callee) to the names of the findings whose path goes that way."""
    found: dict[tuple[str, str], set[str]] = {}
    for finding in view.findings:
        for way in _ways(finding):
            found.setdefault(way, set()).add(finding.name)
    return {way: sorted(names) for way, names in found.items()}


def verdicts(view: GraphView) -> list[str]:
    """A line for each of the worst entries that aren't well, with the likeliest root cause."""
    bad = [entry for entry in view.entries if entry.level != "closed"]
    lines = []
    for entry in bad[:_VERDICTS_MAX]:
        line = f"{shown(entry.entry)}: graph {entry.level}, score {entry.score:.2f}"
        if entry.root_causes:
            cause = entry.root_causes[0]
            line += f"; root cause {shown(cause.name)} ({cause.share:.0%}): {shown(cause.reason)}"
        lines.append(cut(line, _VERDICT_CHARS_MAX))
    return lines + [f"and {len(bad) - len(lines)} more entries"] * (len(bad) > len(lines))


def _ways(finding: GraphFinding) -> Iterable[tuple[str, str]]:
    return itertools.pairwise(finding.path)


def _p95(p95_ms: float | None) -> list[str]:
    return [] if p95_ms is None else [f"p95 {p95_ms:,.0f} ms"]
