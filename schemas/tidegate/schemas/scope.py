"""Names of what is judged: `service:NAME` (its own view), `edge:CALLER->CALLEE`, `inbound:NAME` (all callers'
view of it), `graph:ENTRY` (all that a request entering there needs), and the names that are reserved.

A key is the pair (service, target): target is "" for a service's own requests. Who answers a target takes its
place as soon as that is known; the last two scopes have targets of their own (`ALL_CALLERS`, `WHOLE_GRAPH`).
"""

__all__ = [
    "ALL_CALLERS",
    "NAME_CHARS_MAX",
    "OTHER",
    "OVERRIDE_ALL",
    "UNKNOWN_SERVICE",
    "UNKNOWN_TARGET",
    "WHOLE_GRAPH",
    "edge_scope",
    "graph_scope",
    "inbound_scope",
    "key_of_scope",
    "lease_key",
    "scope_of_key",
    "service_scope",
]

NAME_CHARS_MAX = 200
"""Longer names are cut: one name must not fill a record (OTLP sets no limit)."""

OTHER = "(other)"
"""Where keys beyond a limit are counted. Never judged, never decided. No service that sends this name
is judged either: the parentheses keep it apart from a real service `other`."""

UNKNOWN_SERVICE = "unknown_service"
UNKNOWN_TARGET = "unknown_target"
"""Of a call whose span says nothing at all, not even a name."""
ALL_CALLERS = "(all callers)"
"""Target of the key whose scope is `inbound:NAME`; the parentheses keep it apart from what spans say."""
WHOLE_GRAPH = "(whole graph)"
"""Target of the key whose scope is `graph:ENTRY`."""
OVERRIDE_ALL = "override:*"


def service_scope(service: str) -> str:
    """Scope of a service's own view."""
    return f"service:{service}"


def edge_scope(caller: str, target: str) -> str:
    """Scope of one caller's calls to one target."""
    return f"edge:{caller}->{target}"


def inbound_scope(callee: str) -> str:
    """Scope of all callers' view of a service or virtual node."""
    return f"inbound:{callee}"


def graph_scope(entry: str) -> str:
    """Scope of everything that a request entering at a service needs."""
    return f"graph:{entry}"


def scope_of_key(service: str, target: str) -> str:
    """Scope of a key (service, target)."""
    if not target:
        return service_scope(service)
    if target == ALL_CALLERS:
        return inbound_scope(service)
    return graph_scope(service) if target == WHOLE_GRAPH else edge_scope(service, target)


_TARGETS = {"service": "", "inbound": ALL_CALLERS, "graph": WHOLE_GRAPH}


def key_of_scope(scope: str) -> tuple[str, str]:
    """(service, target) of a scope; ValueError for any other text."""
    kind, _, rest = scope.partition(":")
    if kind in _TARGETS and rest:
        return rest, _TARGETS[kind]
    caller, arrow, target = rest.partition("->")
    if kind == "edge" and arrow and caller and target:
        return caller, target
    raise ValueError(
        f"{scope!r} is not a scope; expected service:NAME, edge:CALLER->CALLEE, inbound:NAME or "
        "graph:ENTRY"
    )


def lease_key(partition: int) -> str:
    """Key of a partition's lease record on the decisions topic."""
    return f"lease:{partition}"
