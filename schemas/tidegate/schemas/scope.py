"""Names of what is judged: `service:NAME`, `edge:CALLER->TARGET`, and the names that are reserved.

A key is the pair (service, target): target is "" for a service's own requests.
"""

__all__ = [
    "NAME_CHARS_MAX",
    "OTHER",
    "OVERRIDE_ALL",
    "UNKNOWN_SERVICE",
    "UNKNOWN_TARGET",
    "edge_scope",
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
OVERRIDE_ALL = "override:*"


def service_scope(service: str) -> str:
    """Scope of a service's own view."""
    return f"service:{service}"


def edge_scope(caller: str, target: str) -> str:
    """Scope of one caller's calls to one target."""
    return f"edge:{caller}->{target}"


def scope_of_key(service: str, target: str) -> str:
    """Scope of a key (service, target)."""
    return edge_scope(service, target) if target else service_scope(service)


def key_of_scope(scope: str) -> tuple[str, str]:
    """(service, target) of a `service:` or `edge:` scope; ValueError for any other text."""
    kind, _, rest = scope.partition(":")
    if kind == "service" and rest:
        return rest, ""
    caller, arrow, target = rest.partition("->")
    if kind == "edge" and arrow and caller and target:
        return caller, target
    raise ValueError(f"{scope!r} is not a scope; expected service:NAME or edge:CALLER->TARGET")


def lease_key(partition: int) -> str:
    """Key of a partition's lease record on the decisions topic."""
    return f"lease:{partition}"
