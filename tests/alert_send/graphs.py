"""Views of a small shop, for alerts that have a cause in it."""

from tidegate.schemas.decision import LevelName, RootCause
from tidegate.schemas.graph import EdgeView, EntryView, GraphView, NodeView

CALLS = (
    ("web", "checkout"),
    ("web", "search"),
    ("checkout", "cart"),
    ("checkout", "stock"),
    ("cart", "db"),
    ("stock", "db"),
    ("search", "index"),
    ("admin", "audit"),
)
"""web and admin are entries; db and index send no spans."""
DB_SCOPES = (
    "inbound:db",
    "edge:cart->db",
    "edge:stock->db",
    "service:cart",
    "service:stock",
    "edge:checkout->cart",
    "edge:checkout->stock",
    "service:checkout",
    "graph:web",
    "service:web",
)
"""Ten that alert when db dies."""
DB = "db: its callers see p95 2.1 s since 12:03:04, 97 % of what is bad in web passes through it"


def view(
    *causes: tuple[str, str, float],
    bad: tuple[tuple[str, str], ...] = CALLS,
    thin: tuple[tuple[str, str], ...] = (),
    boundary: int = 1000,
) -> GraphView:
    """causes: (entry, root cause, share). bad: calls that fail. thin: calls too few to be judged."""
    names = sorted({name for call in CALLS for name in call})
    return GraphView(
        version=1,
        boundary=boundary,
        window_end_ms=boundary * 500,
        nodes=[_node(name) for name in names],
        edges=[_edge(*call, is_bad=call in bad, is_thin=call in thin) for call in CALLS],
        entries=[
            EntryView(
                entry=entry,
                level="open",
                score=0.1,
                nodes_count=8,
                root_causes=[RootCause(name=name, share=share, reason=DB.replace("db", name))],
            )
            for entry, name, share in causes
        ],
    )


def _node(name: str) -> NodeView:
    return NodeView(
        name=name,
        kind="virtual" if name in ("db", "index") else "service",
        is_entry=name in ("web", "admin"),
        level="closed",
        score=None,
        since_ms=None,
        qps=10.0,
        error_ratio=0.0,
        p95_ms=None,
    )


def _edge(caller: str, callee: str, *, is_bad: bool, is_thin: bool) -> EdgeView:
    level: LevelName = "open" if is_bad and not is_thin else "closed"
    return EdgeView(
        caller=caller,
        callee=callee,
        level=level,
        score=None if is_thin else 0.1 if is_bad else 1.0,
        since_ms=None,
        calls_per_s=10.0,
        error_ratio=0.0,
        timeout_ratio=0.0,
        p95_ms=None,
        server_p95_ms=None,
        network_ms=None,
        fan_out=None,
        usual_fan_out=None,
        hard=None,
        deadline_ms=None,
    )
