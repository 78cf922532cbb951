"""The one table of semantic-convention names, pinned: a name that gets lost here gets lost in production."""

from tidegate.schemas import conventions

PINNED = {
    "http_status": ["http.response.status_code", "http.status_code"],
    "grpc_status": [
        "rpc.status_code",
        "rpc.response.status_code",
        "rpc.grpc.status_code",
        "grpc.status_code",
        "grpc.code",
    ],
    "error_type": ["error.type"],
    "error_flag": ["error"],
    "peer_service": ["peer.service"],
    "db_system": ["db.system.name", "db.system"],
    "db_namespace": ["db.namespace", "db.name"],
    "messaging_system": ["messaging.system"],
    "messaging_destination": ["messaging.destination.name", "messaging.destination"],
    "address": ["server.address", "net.peer.name"],
    "url": ["url.full", "http.url"],
    "rpc_method": ["rpc.method"],
    "rpc_service": ["rpc.service"],
    "rpc_system": ["rpc.system.name", "rpc.system"],
    "effect": ["tidegate.effect"],
}


def test_the_table_of_names_is_pinned_newest_first() -> None:
    assert {field: list(names) for field, names in conventions.SPAN_FIELDS.items()} == PINNED
    assert conventions.INSTANCE == ("service.instance.id", "host.name", "k8s.pod.name")


def test_no_name_stands_twice() -> None:
    names = [name for row in conventions.SPAN_FIELDS.values() for name in row]
    assert len(names) == len(set(names))
