"""Records as a Collector would have put them on Kafka: spans gathered by the 100 ms in which they are
exported, at most 250 ms after their end. Kafka's time is the 90th percentile of a record's ends, as
offline replay takes it, so that a record means the same in both.
"""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tests.goldens.incidents import BASE_MS, Incident
from tests.goldens.traffic import CLIENT, RawSpan, spans_of

__all__ = ["Record", "as_json", "as_protobuf", "records_of"]

RECORD_US = 100_000
EXPORT_US_MAX = 250_000


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record."""

    spans: tuple[RawSpan, ...]
    kafka_ms: int


@cache
def records_of(incident: Incident, *, base_ms: int = BASE_MS) -> tuple[Record, ...]:
    """In the order of Kafka times. `base_ms`: when the incident begins, a multiple of 500."""
    if base_ms % 500:
        raise ValueError(
            f"base_ms {base_ms}: is no multiple of 500, spans would change their buckets"
        )
    draw = random.Random(incident.seed + 1)
    batches: dict[int, list[RawSpan]] = defaultdict(list)
    for span in sorted(spans_of(incident), key=lambda span: (span.end_us, span.span)):
        exported_us = span.end_us + draw.randrange(20_000, EXPORT_US_MAX)
        batches[exported_us // RECORD_US].append(span)
    out = []
    for _, spans in sorted(batches.items()):
        spans.sort(key=lambda span: (span.service, span.end_us, span.span))
        ends_us = sorted(span.end_us for span in spans)
        p90_us = ends_us[(9 * len(ends_us) + 9) // 10 - 1]
        out.append(Record(tuple(spans), base_ms + p90_us // 1000))
    return tuple(sorted(out, key=lambda record: record.kafka_ms))


def as_protobuf(spans: Sequence[RawSpan], *, base_ms: int = BASE_MS) -> bytes:
    """The bytes of an ExportTraceServiceRequest."""
    by_service: dict[str, list[Span]] = defaultdict(list)
    for raw in spans:
        start_ns, end_ns = _times_ns(raw, base_ms)
        by_service[raw.service].append(
            Span(
                trace_id=_trace_id(raw),
                span_id=raw.span.to_bytes(8, "big"),
                parent_span_id=raw.parent.to_bytes(8, "big") if raw.parent else b"",
                name=_name(raw),
                kind=raw.kind,  # type: ignore[arg-type] # the numbers are OTLP's
                start_time_unix_nano=start_ns,
                end_time_unix_nano=end_ns,
                attributes=[_pair(key, value) for key, value in _attributes(raw)],
                status=Status(code=Status.STATUS_CODE_ERROR) if _is_error(raw) else None,
            )
        )
    made = ExportTraceServiceRequest()
    for service, inside in by_service.items():
        resource = ResourceSpans(scope_spans=[ScopeSpans(spans=inside)])
        resource.resource.attributes.append(_pair("service.name", service))
        made.resource_spans.append(resource)
    value: bytes = made.SerializeToString(deterministic=True)
    return value


def as_json(spans: Sequence[RawSpan], *, base_ms: int = BASE_MS) -> bytes:
    """The same as one line of OTLP/JSON, without the newline."""
    by_service: dict[str, list[dict[str, object]]] = defaultdict(list)
    for raw in spans:
        start_ns, end_ns = _times_ns(raw, base_ms)
        span: dict[str, object] = {
            "traceId": _trace_id(raw).hex(),
            "spanId": f"{raw.span:016x}",
            "name": _name(raw),
            "kind": raw.kind,
            "startTimeUnixNano": str(start_ns),
            "endTimeUnixNano": str(end_ns),
            "attributes": [_json_pair(key, value) for key, value in _attributes(raw)],
        }
        if raw.parent:
            span["parentSpanId"] = f"{raw.parent:016x}"
        if _is_error(raw):
            span["status"] = {"code": 2}
        by_service[raw.service].append(span)
    resources = [
        {
            "resource": {"attributes": [_json_pair("service.name", service)]},
            "scopeSpans": [{"spans": inside}],
        }
        for service, inside in by_service.items()
    ]
    return json.dumps({"resourceSpans": resources}, separators=(",", ":")).encode()


def _times_ns(raw: RawSpan, base_ms: int) -> tuple[int, int]:
    return tuple(base_ms * 1_000_000 + us * 1000 for us in (raw.start_us, raw.end_us))  # type: ignore[return-value] # two of them


def _trace_id(raw: RawSpan) -> bytes:
    return b"\x5a\x00\x00\x00\x00\x00\x00\x01" + raw.trace.to_bytes(8, "big")


def _name(raw: RawSpan) -> str:
    return f"GET {raw.target}" if raw.kind == CLIENT else f"GET /{raw.service}"


def _is_error(raw: RawSpan) -> bool:
    """By convention: a server's status is ERROR from 500 on, a client's from 400 on."""
    return raw.status == 0 or raw.status >= (400 if raw.kind == CLIENT else 500)


def _attributes(raw: RawSpan) -> list[tuple[str, str | int]]:
    out: list[tuple[str, str | int]] = []
    if raw.kind == CLIENT and ":" in raw.target:
        system, _, namespace = raw.target.partition(":")
        return [("db.system.name", system), ("db.namespace", namespace)]
    if raw.kind == CLIENT:
        out.append(("server.address", raw.target))
    if raw.status:
        out.append(("http.response.status_code", raw.status))
    if raw.error_type:
        out.append(("error.type", raw.error_type))
    return out


def _pair(key: str, value: str | int) -> KeyValue:
    made = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=key, value=made)


def _json_pair(key: str, value: str | int) -> dict[str, object]:
    made = {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
    return {"key": key, "value": made}
