"""Names of semantic conventions, all generations, newest first: ONE table, pinned by a test.

A field's value is that of the first name in its row that the span carries. Some SDKs send two generations
at once; then the newest wins.
"""

__all__ = ["FIELDS", "INSTANCE", "SPAN_FIELDS", "TIMEOUT_WORDS"]

SPAN_FIELDS: dict[str, tuple[str, ...]] = {
    "http_status": ("http.response.status_code", "http.status_code"),
    "grpc_status": (
        "rpc.status_code",
        "rpc.response.status_code",
        "rpc.grpc.status_code",
        "grpc.status_code",
        "grpc.code",
    ),
    "error_type": ("error.type",),
    "error_flag": ("error",),
    "peer_service": ("peer.service",),
    "db_system": ("db.system.name", "db.system"),
    "db_namespace": ("db.namespace", "db.name"),
    "messaging_system": ("messaging.system",),
    "messaging_destination": ("messaging.destination.name", "messaging.destination"),
    "address": ("server.address", "net.peer.name"),
    "url": ("url.full", "http.url"),
    "rpc_method": ("rpc.method",),
    "rpc_service": ("rpc.service",),
    "rpc_system": ("rpc.system.name", "rpc.system"),
    "effect": ("tidegate.effect",),
}
"""Attributes of a span, by the field they fill."""

INSTANCE: tuple[str, ...] = ("service.instance.id", "host.name", "k8s.pod.name")
"""Attributes of a resource that name the instance."""

FIELDS: tuple[str, ...] = tuple(SPAN_FIELDS)

TIMEOUT_WORDS: tuple[str, ...] = ("timeout", "timed out", "timedout", "deadline")
"""Lower-case words that name a time-out in an `error.type`, a status message, an exception's type or
message (`timedout`: `ETIMEDOUT`, `TimedOut`)."""
