"""A recording made for tests: a service that fails for a while, as requests in order of time."""

import base64
import importlib
import random
import struct

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

json_format = importlib.import_module("google.protobuf.json_format")  # it has no types

T_MS = 1_700_000_000_000
RECORD_MS = 250
SPANS_PER_RECORD = 10
_MS = 1_000_000


def requests(
    seconds: float, *, fault: tuple[float, float] | None = None, seed: int = 1
) -> list[ExportTraceServiceRequest]:
    """`pay` serves 40 requests a second, called by `web`; during the fault it answers 500."""
    draw = random.Random(seed)
    made = []
    for number in range(int(seconds * 1000 / RECORD_MS)):
        at_ms = T_MS + number * RECORD_MS
        elapsed_s = (at_ms - T_MS) / 1000
        is_bad = fault is not None and fault[0] <= elapsed_s < fault[1]
        pairs = [_pair(draw, at_ms, is_bad=is_bad) for _ in range(SPANS_PER_RECORD)]
        made.append(
            ExportTraceServiceRequest(
                resource_spans=[
                    _resource("web", [client for client, _ in pairs]),
                    _resource("pay", [server for _, server in pairs]),
                ]
            )
        )
    return made


def as_messages(made: list[ExportTraceServiceRequest]) -> bytes:
    """Length-delimited protobuf."""
    return b"".join(
        struct.pack(">I", len(data)) + data for data in (r.SerializeToString() for r in made)
    )


def as_lines(made: list[ExportTraceServiceRequest]) -> bytes:
    """JSON lines as OTLP has them: ids in hexadecimal, enumerations as numbers."""
    lines = []
    for request in made:
        text = json_format.MessageToJson(request, indent=None, use_integers_for_enums=True)
        for resource in request.resource_spans:
            for span in resource.scope_spans[0].spans:
                for value in (span.trace_id, span.span_id, span.parent_span_id):
                    text = text.replace(_base64(value), value.hex())
        lines.append(text.encode() + b"\n")
    return b"".join(lines)


def _pair(draw: random.Random, at_ms: int, *, is_bad: bool) -> tuple[Span, Span]:
    trace_id, client_id, server_id = (draw.randbytes(n) for n in (16, 8, 8))
    end_ns = (at_ms - draw.randrange(RECORD_MS)) * _MS
    took_ns = draw.randrange(10, 30) * _MS
    attributes = [_int("http.response.status_code", 500 if is_bad else 200)]
    client = Span(
        trace_id=trace_id,
        span_id=client_id,
        name="POST /pay",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=end_ns - took_ns,
        end_time_unix_nano=end_ns,
        attributes=[*attributes, _text("server.address", "pay")],
    )
    server = Span(
        trace_id=trace_id,
        span_id=server_id,
        parent_span_id=client_id,
        name="POST /pay",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=end_ns - took_ns,
        end_time_unix_nano=end_ns,
        attributes=attributes,
    )
    return client, server


def _resource(service: str, spans: list[Span]) -> ResourceSpans:
    made = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    made.resource.attributes.append(_text("service.name", service))
    return made


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _int(key: str, value: int) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(int_value=value))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
