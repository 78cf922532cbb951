"""Random OTLP requests, ordinary and odd, and what two decoders made of them, comparable."""

import random
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.conventions import SPAN_FIELDS

__all__ = ["comparable", "mutated", "request", "reversed_fields"]

NAMES = [name for names in SPAN_FIELDS.values() for name in names] + [
    *("http.route", "thread.name", "", "error.typ", "xhttp.status_code", "service.name", "a" * 300),
]
TEXTS = [
    *("", "0", "200", "404", "408", "429", "499", "500", "503", "504", "0500", "-1", "2x", "1000"),
    *("OK", "DEADLINE_EXCEEDED", "unavailable", "Cancelled", "4", "16", "17", "08", "13", "true"),
    *("True", "false", "ReadTimeout", "java.net.SocketTimeoutException", "connection timed out"),
    *("context deadline exceeded", "shed", "cut", "fallback", "probe", "none", "Shed", "redis"),
    *(
        "postgresql",
        "orders",
        "/shop.Cart/Add",
        "shop.Cart/Add",
        "Add",
        "//x/y/",
        "a/b/c",
        "/",
        "x",
    ),
    *(
        "http://cart.svc:8080/items/7?x=1",
        "https://u:p@Host.example/a",
        "http://[::1]:80/",
        "ftp:x",
    ),
    *("http://[bad/", "//only", "http://h#f", "cart.svc", "Ünïcödé", "y" * 250),
]
NUMBERS = [
    0,
    1,
    2,
    4,
    8,
    13,
    16,
    17,
    99,
    100,
    200,
    404,
    499,
    500,
    504,
    999,
    1000,
    -1,
    2**62,
    -(2**63),
]
STATES = [
    "",
    "",
    "",
    "ot=th:8",
    "ot=th:0",
    "ot=rv:1;th:c",
    "x=1,ot=th:fffffffffffff",
    "ot=th:zz",
    "vendor=1",
]


def value(r: random.Random, depth: int = 0) -> AnyValue:
    """Any kind of value; mostly text."""
    kind = r.randrange(12)
    if kind < 6:
        return AnyValue(string_value=r.choice(TEXTS))
    if kind < 9:
        return AnyValue(int_value=r.choice(NUMBERS))
    if kind == 9:
        return r.choice([AnyValue(bool_value=r.random() < 0.5), AnyValue(double_value=r.random())])
    if kind == 10:
        return r.choice([AnyValue(), AnyValue(bytes_value=b"\0\xff")])
    out = AnyValue()
    for _ in range(r.randrange(3) if depth < 5 else 0):
        out.array_value.values.append(value(r, depth + 1))
        out.kvlist_value.values.append(KeyValue(key="k", value=value(r, depth + 1)))
    return out


def span(r: random.Random) -> Span:
    """One span with any of the attributes that matter, twice now and then."""
    out = Span(
        trace_id=r.randbytes(r.choice([16] * 9 + [0, 8, 17])),
        span_id=r.choice([r.randbytes(8), r.randbytes(8), (7).to_bytes(8), b"", b"1234567"]),
        parent_span_id=r.choice([b"", r.randbytes(8), (7).to_bytes(8), b"12"]),
        trace_state=r.choice(STATES),
        name=r.choice(["GET", "", "n" * 220, "process orders"]),
        kind=r.choice([0, 1, 2, 2, 3, 3, 3, 4, 5]),  # type: ignore[arg-type]  # a plain number
        start_time_unix_nano=r.choice([0, 10**18, 10**18 + r.randrange(10**10), 2**64 - 1]),
        end_time_unix_nano=r.choice([0, 10**18 + r.randrange(10**10), 10**18, 2**63, 2**64 - 1]),
        flags=r.choice([0, 257]),
    )
    for _ in range(r.choice([0, 1, 2, 3, 6, 9])):
        out.attributes.append(KeyValue(key=r.choice(NAMES), value=value(r)))
    if r.random() < 0.4:
        out.status.code = r.choice([0, 1, 2, 2, 2, 7])  # type: ignore[assignment]  # a plain number
        out.status.message = r.choice(["", "boom", "Request timed out"])
    for _ in range(r.choice([0, 0, 0, 1, 2])):
        event = out.events.add(name=r.choice(["exception", "log", ""]))
        for _ in range(r.randrange(3)):
            key = r.choice(["exception.type", "exception.message", "k"])
            event.attributes.append(KeyValue(key=key, value=value(r)))
    if r.random() < 0.1:
        out.links.add(trace_id=b"x" * 16, span_id=b"y" * 8)
    return out


def request(r: random.Random) -> ExportTraceServiceRequest:
    """A request of a few resources."""
    out = ExportTraceServiceRequest()
    for _ in range(r.choice([0, 1, 1, 1, 2, 3])):
        group = out.resource_spans.add(schema_url=r.choice(["", "https://example.org/1"]))
        for _ in range(r.randrange(5)):
            key = r.choice(
                [
                    "service.name",
                    "service.namespace",
                    "service.instance.id",
                    "host.name",
                    "k8s.pod.name",
                    "x",
                ]
            )
            text = AnyValue(string_value=r.choice(["a", "b", "", "cart", "z" * 260, "ü"]))
            group.resource.attributes.append(
                KeyValue(key=key, value=text if r.random() < 0.93 else value(r))
            )
        for _ in range(r.choice([0, 1, 1, 2])):
            scope = group.scope_spans.add()
            scope.scope.name = "s"
            scope.spans.extend(span(r) for _ in range(r.choice([0, 1, 2, 5])))
    return out


def reversed_fields(message: Any) -> bytes:
    """The message with its fields written last to first, as the Collector writes them; values before
    keys, spans before their resource, ids last."""
    parts = []
    for field, content in message.ListFields():
        items = content if field.is_repeated else [content]
        for item in items:
            if field.message_type is not None:
                body = reversed_fields(item)
                parts.append(_varint(field.number << 3 | 2) + _varint(len(body)) + body)
            else:
                alone = type(message)()
                if field.is_repeated:
                    getattr(alone, field.name).append(item)
                else:
                    setattr(alone, field.name, item)
                parts.append(alone.SerializeToString())
    return b"".join(reversed(parts))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def mutated(r: random.Random, data: bytes) -> bytes:
    """Some bytes changed, cut, doubled or put in."""
    out = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 5])):
        at = r.randrange(len(out) + 1)
        kind = r.randrange(5)
        if kind == 0 and out:
            out[at % len(out)] = r.choice([0, 1, 0x7F, 0x80, 0xFF, r.randrange(256)])
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            del out[at : at + r.randrange(4)]
        elif kind == 3:
            out[at:at] = r.randbytes(r.randrange(4))
        else:
            piece = out[at : at + r.randrange(40)]
            out[at:at] = piece
    return bytes(out)


def comparable(columns: SpanColumns) -> dict[str, Any]:
    """Names instead of their numbers: how a decoder numbers them is its own affair."""
    plain = (
        *("record", "kind", "outcome", "effect", "start_ns", "end_ns", "trace_hi", "trace_lo"),
        *("span_id", "parent_id", "weight"),
    )
    out: dict[str, Any] = {name: getattr(columns, name).tolist() for name in plain}
    out["service"] = [columns.services[i] for i in columns.service]
    out["instance"] = [columns.instances[i] if i >= 0 else None for i in columns.instance]
    out["target"] = [columns.targets[i] if i >= 0 else None for i in columns.target]
    return out
