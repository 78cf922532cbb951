"""Graphs to show: plausible ones, and ones with names that try to break out of a format."""

import itertools
from collections.abc import Mapping, Sequence

from tidegate.schemas.decision import LevelName, RootCause
from tidegate.schemas.graph import EdgeView, EntryView, GraphFinding, GraphView, NodeView

T_MS = 1_700_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"

HOSTILE = (
    'say "hi"',
    "a --> b",
    "a -> b; c",
    "line\nbreak",
    "tab\there\x1b[31mred\x07",
    "<script>alert(1)</script>",
    "]]>&amp;<!--",
    "back\\slash\\",
    "ends with a \\n",
    "price #quot; #35; %% {curly} |pipe| `tick` [bracket] (round)",
    "end",
    "subgraph x",
    "click n0 href javascript:alert(1)",
    "日本語サービス",
    "🦀 Ünïcode",
    "rtl \u202e evil",
    "\ufffe",
    "shop/payments:8080",
    "[red]markup[/red]",
    "x" * 200,
)


def node(
    name: str,
    *,
    level: LevelName = "closed",
    is_virtual: bool = False,
    is_entry: bool = False,
    qps: float = 40.0,
) -> NodeView:
    return NodeView(
        name=name,
        kind="virtual" if is_virtual else "service",
        is_entry=is_entry,
        level=level,
        score=0.95,
        since_ms=T_MS,
        qps=qps,
        error_ratio=0.0125,
        p95_ms=None if is_virtual else 80.0,
    )


def edge(
    caller: str,
    callee: str,
    *,
    level: LevelName = "closed",
    incidents: Sequence[str] = (),
    calls_per_s: float = 12.34,
) -> EdgeView:
    return EdgeView(
        caller=caller,
        callee=callee,
        level=level,
        score=0.95,
        since_ms=T_MS,
        calls_per_s=calls_per_s,
        error_ratio=0.041,
        timeout_ratio=0.0,
        p95_ms=1_310.0,
        server_p95_ms=None,
        network_ms=None,
        fan_out=1.0,
        usual_fan_out=1.0,
        hard=None,
        deadline_ms=None,
        incidents=list(incidents),
    )


def entry(
    name: str,
    nodes_count: int,
    *,
    level: LevelName = "closed",
    score: float = 0.99,
    causes: Mapping[str, str] | None = None,
) -> EntryView:
    return EntryView(
        entry=name,
        level=level,
        score=score,
        nodes_count=nodes_count,
        root_causes=[
            RootCause(name=cause, share=0.84, reason=reason)
            for cause, reason in (causes or {}).items()
        ],
    )


def finding(name: str, path: Sequence[str], *, waste: float = 0.0) -> GraphFinding:
    assert name in GraphFinding.__annotations__["name"].__args__
    return GraphFinding(
        name=name,  # type: ignore[arg-type]  # asserted above
        path=list(path),
        since_ms=T_MS,
        waste_s_per_min=waste,
        reason=f"because {path[0]} does",
        exemplars=[TRACE],
    )


def view(
    nodes: Sequence[NodeView],
    edges: Sequence[EdgeView],
    entries: Sequence[EntryView] = (),
    findings: Sequence[GraphFinding] = (),
    *,
    boundary: int = T_MS // 500,
) -> GraphView:
    return GraphView(
        version=7,
        boundary=boundary,
        window_end_ms=boundary * 500,
        nodes=list(nodes),
        edges=list(edges),
        entries=list(entries),
        findings=list(findings),
    )


def shop(*, boundary: int = T_MS // 500) -> GraphView:
    """Two entries, a cycle, a dead database under two services, and what came of it."""
    return view(
        [
            node("web", is_entry=True, level="degraded_1"),
            node("admin", is_entry=True, qps=1.0),
            node("checkout", level="degraded_2"),
            node("inventory"),
            node("inventory-db", is_virtual=True, level="open"),
            node("mail"),
        ],
        [
            edge("web", "checkout", level="degraded_2"),
            edge("checkout", "inventory"),
            edge("checkout", "inventory-db", level="open", incidents=["L3"]),
            edge("inventory", "inventory-db", level="open"),
            edge("inventory", "checkout"),
            edge("checkout", "mail", calls_per_s=0.2),
            edge("admin", "inventory"),
        ],
        [
            entry("admin", 5),
            entry(
                "web",
                5,
                level="degraded_2",
                score=0.41,
                causes={"inventory-db": "its callers see p95 2.1 s since 12:03:04"},
            ),
        ],
        [
            finding("outlives", ["checkout", "inventory"], waste=33.4),
            finding("cycle", ["checkout", "inventory", "checkout"]),
            finding("gives_up_early", ["web", "checkout"], waste=120.0),
        ],
        boundary=boundary,
    )


def hostile() -> GraphView:
    """A chain of names, each of which would break some format if it were written as it is."""
    names = HOSTILE
    return view(
        [node(name, is_virtual=i % 3 == 2, is_entry=i == 0) for i, name in enumerate(names)],
        [edge(a, b, level="open") for a, b in itertools.pairwise(names)],
        [entry(names[0], len(names), level="open", causes={names[3]: "</text>\n\x1b[2J"})],
        [finding("network", names[3:6])],
    )


def wide(count: int, *, boundary: int = T_MS // 500) -> GraphView:
    """An entry that calls so many services, each of which has a database; the last one's is bad."""
    services = [f"s{number:04}" for number in range(count)]
    bad = f"db-{services[-1]}"
    return view(
        [node("web", is_entry=True)]
        + [node(name) for name in services]
        + [
            node(f"db-{name}", is_virtual=True, level="open" if f"db-{name}" == bad else "closed")
            for name in services
        ],
        [edge("web", name) for name in services] + [edge(name, f"db-{name}") for name in services],
        [entry("web", 2 * count + 1)],
        boundary=boundary,
    )
