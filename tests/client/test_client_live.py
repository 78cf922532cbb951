"""The client against brokers: catch-up, a missing topic, a broker that dies, and the span exporter."""

import time
from collections.abc import Iterator
from itertools import count

import pytest
from confluent_kafka import Consumer, Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tidegate.client import Client
from tidegate.client.otel import KafkaSpanExporter, mark
from tidegate.client.testing import decision
from tidegate.schemas.decision import Decision, encode_decision
from tidegate.schemas.topics import Topics
from tidegate.streams.embedded import EmbeddedBroker

SCOPE = "edge:web->payments"
_numbers = count()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({Topics().decisions: 3, "otlp_spans": 2}) as running:
        yield running


def now_boundary() -> int:
    return time.time_ns() // 500_000_000


def publish(bootstrap: str, *decisions: Decision) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    for said in decisions:
        producer.produce(Topics().decisions, key=said.scope, value=encode_decision(said))
    assert producer.flush(10) == 0


def until(condition: object, seconds: float = 10.0) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_a_client_is_ready_when_it_has_caught_up_and_hears_changes(broker: EmbeddedBroker) -> None:
    boundary = now_boundary()
    many = [decision(f"service:s{i}", "closed", boundary=boundary) for i in range(300)]
    publish(broker.bootstrap, *many, decision(SCOPE, "open", boundary=boundary, admit_ratio=0.0))
    with Client(broker.bootstrap) as client:
        assert client.wait_ready(15)
        assert client.stats()["scopes"] == 301
        assert not client.admit(SCOPE, trace_id="a").passes
        publish(broker.bootstrap, decision(SCOPE, "closed", boundary=boundary + 1))
        assert until(lambda: client.admit(SCOPE, trace_id="a").passes)


def test_a_service_keeps_only_what_concerns_it(broker: EmbeddedBroker) -> None:
    boundary = now_boundary()
    publish(
        broker.bootstrap,
        *(decision(f"service:s{i}", "closed", boundary=boundary) for i in range(50)),
    )
    with Client(broker.bootstrap, wanted=lambda scope: scope == "service:s7") as client:
        assert client.wait_ready(15)
        assert client.stats()["scopes"] == 1


def test_without_kafka_calls_pass_at_once() -> None:
    client = Client("127.0.0.1:9")
    try:
        assert not client.wait_ready(0.2)
        before = time.monotonic()
        assert client.admit(SCOPE, trace_id="a").passes
        assert client.decide("payments").level == "closed"
        assert time.monotonic() - before < 0.1
    finally:
        client.close()


def test_spans_of_the_sdk_reach_kafka_whole(broker: EmbeddedBroker) -> None:
    exporter = KafkaSpanExporter(broker.bootstrap)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100))
    tracer = provider.get_tracer("test")
    with Client(broker.bootstrap) as client:
        for i in range(700):
            with tracer.start_as_current_span(f"work {i}") as span:
                mark(span, client.admit(SCOPE, trace_id=str(i)))
    provider.shutdown()
    assert (exporter.exported_spans, exporter.dropped_spans) == (700, 0)
    assert len(read_names(broker.bootstrap, 700)) == 700


def read_names(bootstrap: str, wanted: int) -> set[str]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"read-{next(_numbers)}",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["otlp_spans"])
    names: set[str] = set()
    ends = time.monotonic() + 20
    while len(names) < wanted and time.monotonic() < ends:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            request = ExportTraceServiceRequest.FromString(message.value())
            for resource in request.resource_spans:
                names |= {s.name for scope in resource.scope_spans for s in scope.spans}
    consumer.close()
    return names


def test_a_batch_beyond_a_megabyte_is_cut(broker: EmbeddedBroker) -> None:
    exporter = KafkaSpanExporter(broker.bootstrap)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
    tracer = provider.get_tracer("test")
    for i in range(300):
        with tracer.start_as_current_span(f"big {i}") as span:
            span.set_attribute("payload", "x" * 8_000)
    provider.shutdown()
    assert (exporter.exported_spans, exporter.dropped_spans) == (300, 0)
    assert len(read_names(broker.bootstrap, 300)) == 300


def test_what_kafka_never_takes_is_dropped_and_counted() -> None:
    exporter = KafkaSpanExporter({"bootstrap.servers": "127.0.0.1:9", "message.timeout.ms": 300})
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50))
    with provider.get_tracer("test").start_as_current_span("lost"):
        pass
    provider.force_flush()
    assert not exporter.force_flush(50)
    assert until(lambda: exporter.force_flush(100) and exporter.dropped_spans == 1)
    provider.shutdown()
