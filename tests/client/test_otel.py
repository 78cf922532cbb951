"""Spans of the OpenTelemetry SDK straight to Kafka; marks; baggage."""

import threading
from collections.abc import Iterator
from itertools import count

import pytest
from confluent_kafka import Consumer
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.client.live import until
from tidegate.client import Priority, Request, Verdict
from tidegate.client.otel import (
    EFFECT,
    RECORD_BYTES_MAX,
    ExportedSpans,
    KafkaSpanExporter,
    mark,
    request_of,
)
from tidegate.streams.embedded import EmbeddedBroker

_numbers = count()
NOWHERE = "127.0.0.1:9"


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({"otlp_spans": 2}) as running:
        yield running


def spans(how_many: int, *, payload_chars: int = 0) -> list[ReadableSpan]:
    """Ended spans of the real SDK."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(
        BatchSpanProcessor(kept, max_queue_size=100_000, schedule_delay_millis=60_000)
    )
    tracer = provider.get_tracer("test")
    for i in range(how_many):
        with tracer.start_as_current_span(f"work {i}") as span:
            if payload_chars:
                span.set_attribute("payload", "x" * payload_chars)
    provider.shutdown()
    return list(kept.get_finished_spans())


def read(bootstrap: str, spans_count: int) -> tuple[list[str], list[int]]:
    """Names of the spans that are there, and the bytes of each record."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"read-{next(_numbers)}",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["otlp_spans"])
    names: list[str] = []
    sizes: list[int] = []

    def is_whole() -> bool:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            value = message.value()
            assert value is not None
            assert message.key() is None
            sizes.append(len(value))
            request = ExportTraceServiceRequest.FromString(value)
            for resource in request.resource_spans:
                assert resource.resource.attributes[0].key
                names.extend(s.name for scope in resource.scope_spans for s in scope.spans)
        return len(names) >= spans_count

    until(is_whole)
    consumer.close()
    return names, sizes


def test_spans_of_the_sdk_reach_kafka_whole(broker: EmbeddedBroker) -> None:
    exporter = KafkaSpanExporter(broker.bootstrap)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100))
    tracer = provider.get_tracer("test")
    for i in range(700):
        with tracer.start_as_current_span(f"work {i}"):
            pass
    provider.shutdown()
    assert exporter.stats == ExportedSpans(delivered=700, dropped=0, failed=0, pending=0)
    names, _ = read(broker.bootstrap, 700)
    assert sorted(names) == sorted(f"work {i}" for i in range(700))


def test_a_batch_beyond_a_megabyte_is_cut_into_records_that_kafka_takes(
    broker: EmbeddedBroker,
) -> None:
    exporter = KafkaSpanExporter(broker.bootstrap)
    assert exporter.export(spans(300, payload_chars=8_000)) is SpanExportResult.SUCCESS
    assert exporter.force_flush(10_000)
    exporter.shutdown()
    names, sizes = read(broker.bootstrap, 300)
    assert len(set(names)) == len(names) == 300
    assert len(sizes) >= 3
    assert max(sizes) <= RECORD_BYTES_MAX


def test_one_span_too_large_for_kafka_is_dropped_and_its_neighbours_are_not(
    broker: EmbeddedBroker,
) -> None:
    exporter = KafkaSpanExporter(broker.bootstrap)
    batch = [*spans(3), *spans(1, payload_chars=1_200_000), *spans(3)]
    assert exporter.export(batch) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert exporter.stats == ExportedSpans(delivered=6, dropped=1, failed=0, pending=0)


def test_what_kafka_never_takes_is_counted_as_failed() -> None:
    exporter = KafkaSpanExporter({"bootstrap.servers": NOWHERE, "message.timeout.ms": 300})
    assert exporter.export(spans(5)) is SpanExportResult.SUCCESS  # queued
    assert exporter.stats.pending == 5
    assert until(lambda: exporter.force_flush(100))
    assert exporter.stats == ExportedSpans(delivered=0, dropped=0, failed=5, pending=0)
    assert exporter.dropped_spans == 5
    exporter.shutdown()


def test_a_full_queue_drops_and_counts_and_does_not_wait() -> None:
    exporter = KafkaSpanExporter(NOWHERE, queue_bytes_max=64 * 1024)
    batch = spans(20, payload_chars=1_000)
    results = [exporter.export(batch) for _ in range(20)]
    assert results[0] is SpanExportResult.SUCCESS
    assert results[-1] is SpanExportResult.FAILURE
    stats = exporter.stats
    assert stats.pending + stats.dropped == 400
    assert stats.pending <= 80
    exporter._producer.purge()  # not to wait ten seconds for nobody
    exporter.shutdown()
    assert exporter.stats.pending == 0


def test_after_shutdown_spans_are_dropped_and_counted(broker: EmbeddedBroker) -> None:
    exporter = KafkaSpanExporter(broker.bootstrap)
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export(spans(4)) is SpanExportResult.FAILURE
    assert exporter.stats.dropped == 4


def test_threads_export_together_and_nothing_is_counted_twice(broker: EmbeddedBroker) -> None:
    exporter, batch = KafkaSpanExporter(broker.bootstrap), spans(50)
    threads = [
        threading.Thread(target=lambda: [exporter.export(batch) for _ in range(10)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exporter.shutdown()
    assert exporter.stats == ExportedSpans(delivered=2_000, dropped=0, failed=0, pending=0)
    names, _ = read(broker.bootstrap, 2_000)
    assert len(names) == 2_000


@pytest.mark.parametrize("config", ["", {}, {"bootstrap.servers": "a:1", "no.such.key": "1"}])
def test_wrong_settings_are_told_at_once(config: dict[str, str] | str) -> None:
    with pytest.raises(ValueError, match="config: "):
        KafkaSpanExporter(config)


@pytest.mark.parametrize(
    ("verdict", "is_cut", "is_fallback", "effect"),
    [
        (Verdict(passes=False, would_pass=False, effect="shed"), False, False, "shed"),
        (Verdict(passes=False, would_pass=False, effect="shed"), False, True, "fallback"),
        (Verdict(passes=True, would_pass=True, effect="probe"), False, False, "probe"),
        (Verdict(passes=True, would_pass=True, deadline_ms=9), True, False, "cut"),
        (Verdict(passes=True, would_pass=True), False, False, None),
    ],
)
def test_a_span_is_marked_with_our_own_effect(
    verdict: Verdict, is_cut: bool, is_fallback: bool, effect: str | None
) -> None:
    span = TracerProvider().get_tracer("test").start_span("call")
    mark(span, verdict, is_cut=is_cut, is_fallback=is_fallback)
    assert isinstance(span, ReadableSpan)
    assert (span.attributes or {}).get(EFFECT) == effect


def test_a_request_is_described_by_the_present_trace_and_its_baggage() -> None:
    tracer = TracerProvider().get_tracer("test")
    context = Context()
    for key, value in {
        "user.id": "u1",
        "session.id": "s1",
        "tidegate.priority": "sheddable",
    }.items():
        context = baggage.set_baggage(key, value, context)
    span = tracer.start_span("call", context=context)
    context = trace.set_span_in_context(span, context)
    said = request_of(context, is_retry=True)
    assert said == Request(
        trace_id=span.get_span_context().trace_id,
        session="s1",
        priority=Priority.SHEDDABLE,
        is_retry=True,
    )
    assert request_of(Context()) == Request(trace_id=0)
