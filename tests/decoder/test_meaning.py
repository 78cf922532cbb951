"""What attributes mean: rows of one table, read by both decoders."""

from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.otlp.decoding import decode_by_kernel
from tidegate.schemas.otlp.protobuf import decode_by_protobuf
from tidegate.schemas.outcome import Effect, Outcome

Decode = Callable[[list[bytes]], SpanColumns]
Attributes = dict[str, str | int | bool | float]
DECODERS = pytest.mark.parametrize("decode", [decode_by_kernel, decode_by_protobuf])
OK, CLIENT_ERROR, CANCELLED = Outcome.OK, Outcome.CLIENT_ERROR, Outcome.CANCELLED
THROTTLED, SERVER_ERROR, TIMEOUT = Outcome.THROTTLED, Outcome.SERVER_ERROR, Outcome.TIMEOUT
ERROR = 2


def put(span: Span | Span.Event, attributes: Attributes) -> None:
    for key, value in attributes.items():
        kept = span.attributes.add(key=key).value
        if isinstance(value, bool):
            kept.bool_value = value
        elif isinstance(value, int):
            kept.int_value = value
        elif isinstance(value, float):
            kept.double_value = value
        else:
            kept.string_value = value


def client(attributes: Attributes, name: str = "call") -> tuple[ExportTraceServiceRequest, Span]:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    span = group.scope_spans.add().spans.add(
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        kind=Span.SPAN_KIND_CLIENT,
        name=name,
        start_time_unix_nano=10**18,
        end_time_unix_nano=10**18 + 5_000_000,
    )
    put(span, attributes)
    return request, span


@DECODERS
@pytest.mark.parametrize(
    ("attributes", "status", "outcome"),
    [
        ({}, 0, OK),
        ({}, 1, OK),
        ({}, ERROR, SERVER_ERROR),
        ({"http.response.status_code": 200}, 0, OK),
        ({"http.response.status_code": 302}, ERROR, OK),
        ({"http.response.status_code": 404}, ERROR, CLIENT_ERROR),
        ({"http.status_code": 404}, 0, CLIENT_ERROR),
        ({"http.status_code": "500"}, 0, SERVER_ERROR),
        ({"http.status_code": "0"}, 0, OK),
        ({"http.status_code": "0"}, ERROR, SERVER_ERROR),
        ({"http.response.status_code": 408}, 0, TIMEOUT),
        ({"http.response.status_code": 504}, 0, TIMEOUT),
        ({"http.response.status_code": 429}, ERROR, THROTTLED),
        ({"http.response.status_code": 503}, 0, SERVER_ERROR),
        ({"http.response.status_code": 503, "http.status_code": 200}, 0, SERVER_ERROR),
        ({"http.status_code": 503, "http.response.status_code": 200}, 0, OK),
        ({"rpc.grpc.status_code": 0}, ERROR, OK),
        ({"rpc.grpc.status_code": 1}, 0, CANCELLED),
        ({"rpc.grpc.status_code": 2}, 0, SERVER_ERROR),
        ({"rpc.grpc.status_code": 3}, ERROR, CLIENT_ERROR),
        ({"rpc.grpc.status_code": 4}, 0, TIMEOUT),
        ({"rpc.grpc.status_code": 5}, 0, CLIENT_ERROR),
        ({"rpc.grpc.status_code": 8}, 0, THROTTLED),
        ({"rpc.grpc.status_code": 12}, 0, SERVER_ERROR),
        ({"rpc.grpc.status_code": 13}, 0, SERVER_ERROR),
        ({"rpc.grpc.status_code": 14}, 0, SERVER_ERROR),
        ({"rpc.grpc.status_code": 15}, 0, SERVER_ERROR),
        ({"rpc.grpc.status_code": 16}, 0, CLIENT_ERROR),
        ({"rpc.status_code": "DEADLINE_EXCEEDED"}, 0, TIMEOUT),
        ({"rpc.response.status_code": "UNAVAILABLE"}, 0, SERVER_ERROR),
        ({"rpc.response.status_code": "OK", "rpc.grpc.status_code": 14}, 0, OK),
        ({"rpc.grpc.status_code": 14, "rpc.status_code": "OK"}, 0, OK),
        # A mesh says 200 of HTTP and 14 of gRPC about the same call.
        ({"http.status_code": "200", "grpc.status_code": "14"}, 0, SERVER_ERROR),
        ({"http.status_code": "503", "grpc.status_code": "0"}, 0, SERVER_ERROR),
        ({"grpc.code": "RESOURCE_EXHAUSTED"}, 0, THROTTLED),
        ({"rpc.status_code": "-32602"}, 0, OK),
        ({"rpc.status_code": "-32602"}, ERROR, SERVER_ERROR),
        ({"error": "true"}, 0, SERVER_ERROR),
        ({"error": True}, 0, SERVER_ERROR),
        ({"error": "false"}, 0, OK),
        ({"error": "true", "http.status_code": 404}, 0, CLIENT_ERROR),
        ({"error.type": "java.net.SocketTimeoutException"}, ERROR, TIMEOUT),
        ({"error.type": "ETIMEDOUT"}, ERROR, TIMEOUT),
        ({"error.type": "context.deadlineExceededError"}, ERROR, TIMEOUT),
        ({"error.type": "ConnectionError"}, ERROR, SERVER_ERROR),
        ({"error.type": "ConnectionError"}, 0, SERVER_ERROR),
    ],
)
def test_the_protocols_code_decides_before_the_status(
    decode: Decode, attributes: Attributes, status: int, outcome: Outcome
) -> None:
    request, span = client(attributes)
    span.status.code = status  # type: ignore[assignment]  # a plain number
    assert decode([request.SerializeToString()]).outcome.tolist() == [outcome]


@DECODERS
@pytest.mark.parametrize(
    ("message", "exceptions", "outcome"),
    [
        ("Request timed out", [], TIMEOUT),
        ("boom", [], SERVER_ERROR),
        ("", [("requests.exceptions.ReadTimeout", "")], TIMEOUT),
        ("", [("psycopg.OperationalError", "timeout expired")], TIMEOUT),
        ("", [("OSError", "[Errno 110] Connection timed out")], TIMEOUT),
        ("", [("ValueError", "no")], SERVER_ERROR),
        # A time-out that was tried again and then refused is a refusal.
        ("", [("ReadTimeout", ""), ("ConnectionRefusedError", "")], SERVER_ERROR),
    ],
)
def test_time_outs_are_found_in_messages_and_the_last_exception(
    decode: Decode, message: str, exceptions: list[tuple[str, str]], outcome: Outcome
) -> None:
    request, span = client({})
    span.status.code, span.status.message = Status.STATUS_CODE_ERROR, message
    for kind, text in exceptions:
        event = span.events.add(name="exception")
        put(event, {"exception.type": kind, "exception.message": text})
    span.events.add(name="log").attributes.add(key="exception.type").value.string_value = "Timeout"
    assert decode([request.SerializeToString()]).outcome.tolist() == [outcome]


@DECODERS
@pytest.mark.parametrize(
    ("attributes", "target"),
    [
        ({"peer.service": "cart", "server.address": "10.0.0.1"}, "cart"),
        ({"db.system.name": "postgresql", "db.namespace": "orders"}, "postgresql/orders"),
        ({"db.system": "mysql", "db.name": "users", "net.peer.name": "db-1"}, "mysql/users"),
        ({"db.system": "redis"}, "redis"),
        (
            {"messaging.system": "kafka", "messaging.destination.name": "orders-events"},
            "kafka/orders-events",
        ),
        ({"messaging.system": "sqs", "messaging.destination": "q"}, "sqs/q"),
        ({"server.address": "cart.svc", "rpc.service": "shop.Cart"}, "cart.svc/shop.Cart"),
        ({"server.address": "cart.svc", "rpc.method": "shop.Cart/Add"}, "cart.svc/shop.Cart"),
        ({"rpc.method": "/shop.Cart/Add", "rpc.service": "old.Cart"}, "shop.Cart"),
        ({"rpc.method": "Add", "rpc.service": "shop.Cart"}, "shop.Cart"),
        ({"server.address": "new", "net.peer.name": "old"}, "new"),
        ({"url.full": "https://user:pw@api.example.org:8443/a?b=c"}, "api.example.org"),
        ({"http.url": "http://pay/x", "rpc.service": "S"}, "pay/S"),
        ({"url.full": "nothing"}, "call"),
        ({}, "call"),
    ],
)
def test_a_calls_target_is_what_the_span_itself_says(
    decode: Decode, attributes: Attributes, target: str
) -> None:
    request, _ = client(attributes)
    columns = decode([request.SerializeToString()])
    assert columns.targets == [target]
    assert columns.target.tolist() == [0]


@DECODERS
def test_a_call_that_says_nothing_still_has_a_target(decode: Decode) -> None:
    request, _ = client({}, name="")
    assert decode([request.SerializeToString()]).targets == ["unknown_target"]


@DECODERS
def test_effects_are_read_by_their_names(decode: Decode) -> None:
    for effect in Effect:
        request, _ = client({"tidegate.effect": effect.name.lower()})
        assert decode([request.SerializeToString()]).effect.tolist() == [effect]
    request, _ = client({"tidegate.effect": "other"})
    assert decode([request.SerializeToString()]).effect.tolist() == [Effect.NONE]


@DECODERS
@pytest.mark.parametrize(
    ("state", "weight"),
    [
        ("", 64),
        ("ot=th:0", 64),
        ("ot=th:8", 128),
        ("ot=th:c", 256),
        ("ot=rv:abc;th:e", 512),
        ("vendor=x, ot=th:8", 128),
        ("ot=th:fd70a3d70a3d71", 6_400),  # one in a hundred
        ("ot=th:ffffffffffffff", 65_536 * 64),
        ("ot=th:xyz", 64),
        ("ot=th:000000000000000", 64),
    ],
)
def test_a_trace_states_threshold_is_the_weight(decode: Decode, state: str, weight: int) -> None:
    request, span = client({})
    span.trace_state = state
    assert decode([request.SerializeToString()]).weight.tolist() == [weight]


@DECODERS
@pytest.mark.parametrize(
    ("attributes", "service", "instance"),
    [
        ({"service.name": "cart"}, "cart", None),
        ({"service.name": "cart", "service.namespace": "shop"}, "shop/cart", None),
        ({"service.namespace": "shop"}, "unknown_service", None),
        ({"service.name": ""}, "unknown_service", None),
        ({"service.name": "a", "k8s.pod.name": "p", "host.name": "h"}, "a", "h"),
        ({"service.name": "a", "host.name": "h", "service.instance.id": "i"}, "a", "i"),
    ],
)
def test_a_resource_names_service_and_instance(
    decode: Decode, attributes: Attributes, service: str, instance: str | None
) -> None:
    request, _ = client({})
    resource = request.resource_spans[0].resource
    del resource.attributes[:]
    for key, value in attributes.items():
        resource.attributes.add(key=key).value.string_value = str(value)
    columns = decode([request.SerializeToString()])
    assert columns.services == [service]
    assert columns.instances == ([instance] if instance else [])
    is_unknown = service == "unknown_service"
    assert columns.counters == ({"unknown_service": 1} if is_unknown else {})
