"""The one table of semantic-convention names, pinned: a name that gets lost here gets lost in production."""

from collections.abc import Callable

import numpy as np

from tidegate.schemas import conventions
from tidegate.schemas.otlp.names import RESOURCE_NAMES, SPAN_NAMES, resource_name, span_name
from tidegate.schemas.otlp.wire import PADDING

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


def test_names_are_known_by_every_byte_they_have() -> None:
    for names, number_of in ((SPAN_NAMES, span_name), (RESOURCE_NAMES, resource_name)):
        for number, name in enumerate(names):
            data = name.encode()
            near = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(len(data))]
            near += [data[:-1], data + b"x", data + b"\0", b"x" + data, data[1:]]
            for other in near:
                expected = names.index(other.decode()) if other.decode() in names else -1
                assert looked_up(other, number_of) == expected
            assert looked_up(data, number_of) == number


def looked_up(name: bytes, number_of: Callable[..., int]) -> int:
    """In the midst of other bytes, as in a record."""
    buf = np.frombuffer(b"abc" + name + b"def" + bytes(PADDING), np.uint8)
    return int(number_of(buf, 3, len(name)))
