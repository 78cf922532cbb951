"""Records of Kafka from a world's spans, as SDKs and Collectors send them.

Each service exports every 4 s, at moments of its own, what ended at least a second before: so spans are 1 to
5 s old. A process that dies takes with it what it had not exported. How spans are put into records and onto
partitions is one of four *groupings*; the spans and the times at which they were exported are the same.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tests.goldens.incidents import BASE_MS
from tests.graph_scenes.simulation import SimulatedSpan
from tests.graph_scenes.world import World

__all__ = ["GROUPINGS", "Grouping", "Record", "export", "exported"]

Grouping = Literal["resource", "collector", "trace", "random"]
"""resource: a record holds spans of one service. collector: of all services, by 200 ms of arrival. trace: of
one trace, as exported by one service. random: each export dealt out to the partitions by chance."""
GROUPINGS: tuple[Grouping, ...] = ("resource", "collector", "trace", "random")

PARTITIONS_COUNT = 4
EXPORT_EVERY_US = 4_000_000
EXPORT_DELAY_US = 1_000_000
BATCH_SPANS_MAX = 512
COLLECTOR_US = 200_000


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record."""

    value: bytes
    """ExportTraceServiceRequest."""
    kafka_ms: int
    partition: int
    """0..3, as the grouping places it."""


@dataclass(frozen=True, slots=True)
class _Batch:
    sent_us: int
    spans: tuple[SimulatedSpan, ...]
    partition: int


def export(world: World, spans: Sequence[SimulatedSpan], grouping: Grouping) -> list[Record]:
    """In the order of Kafka times; lost spans are left out."""
    batches = _grouped(_batches(world, spans), grouping, Random(world.seed + 1))
    batches.sort(key=lambda batch: batch.sent_us)
    return [
        Record(_encoded(batch.spans), BASE_MS + batch.sent_us // 1000, batch.partition)
        for batch in batches
    ]


def exported(world: World, spans: Sequence[SimulatedSpan]) -> list[SimulatedSpan]:
    """Those that somebody got to see."""
    return [span for span in spans if not _is_lost(world, span)]


def _exported_us(span: SimulatedSpan) -> int:
    """When the SDK of a span's service sends it."""
    phase_us = _hash(span.service) % EXPORT_EVERY_US
    ticks = -(-(span.end_us + EXPORT_DELAY_US - phase_us) // EXPORT_EVERY_US)
    return phase_us + ticks * EXPORT_EVERY_US


def _is_lost(world: World, span: SimulatedSpan) -> bool:
    return any(
        fault.kind == "dead"
        and fault.where == span.service
        and span.end_us < fault.start_s * 1_000_000 <= _exported_us(span)
        for fault in world.faults
    )


def _batches(world: World, spans: Sequence[SimulatedSpan]) -> list[_Batch]:
    """What each service exports at once."""
    by_export: dict[tuple[str, int], list[SimulatedSpan]] = defaultdict(list)
    for span in exported(world, spans):
        by_export[span.service, _exported_us(span)].append(span)
    out = []
    for (service, at_us), found in by_export.items():
        for start in range(0, len(found), BATCH_SPANS_MAX):
            sent_us = at_us + 1_000 * (5 + start // BATCH_SPANS_MAX)
            batch = tuple(found[start : start + BATCH_SPANS_MAX])
            out.append(_Batch(sent_us, batch, _hash(service) % PARTITIONS_COUNT))
    return out


def _grouped(batches: list[_Batch], grouping: Grouping, draw: Random) -> list[_Batch]:
    if grouping == "collector":
        return _collected(batches)
    if grouping == "resource":
        return batches
    out = []
    for batch in batches:
        parts: dict[int, list[SimulatedSpan]] = defaultdict(list)
        for span in batch.spans:
            place = span.trace if grouping == "trace" else draw.randrange(PARTITIONS_COUNT)
            parts[place].append(span)
        out += [
            _Batch(batch.sent_us, tuple(part), place % PARTITIONS_COUNT)
            for place, part in parts.items()
        ]
    return out


def _collected(batches: list[_Batch]) -> list[_Batch]:
    by_time: dict[int, list[SimulatedSpan]] = defaultdict(list)
    for batch in batches:
        by_time[batch.sent_us // COLLECTOR_US + 1] += batch.spans
    return [
        _Batch(number * COLLECTOR_US, tuple(spans), number % PARTITIONS_COUNT)
        for number, spans in by_time.items()
    ]


def _encoded(spans: Sequence[SimulatedSpan]) -> bytes:
    by_service: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_service[span.service].append(_span(span))
    made = ExportTraceServiceRequest()
    for service, inside in by_service.items():
        resource = ResourceSpans(scope_spans=[ScopeSpans(spans=inside)])
        resource.resource.attributes.append(_pair("service.name", service))
        made.resource_spans.append(resource)
    value: bytes = made.SerializeToString(deterministic=True)
    return value


def _span(span: SimulatedSpan) -> Span:
    return Span(
        trace_id=span.trace.to_bytes(16, "big"),
        span_id=span.span.to_bytes(8, "big"),
        parent_span_id=span.parent.to_bytes(8, "big") if span.parent else b"",
        name=span.name,
        kind=span.kind,  # type: ignore[arg-type] # the numbers are OTLP's
        start_time_unix_nano=(BASE_MS * 1000 + span.start_us) * 1000,
        end_time_unix_nano=(BASE_MS * 1000 + span.end_us) * 1000,
        attributes=[_pair(key, value) for key, value in span.attributes],
        status=Status(code=Status.STATUS_CODE_ERROR) if span.is_error else None,
    )


def _pair(key: str, value: str | int) -> KeyValue:
    made = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=key, value=made)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
