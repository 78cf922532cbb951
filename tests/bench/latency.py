"""From a span's Kafka timestamp to the client's knowledge of a decision that it changed, before any
confirmation: the first span of a new service, whose decision is published at the next boundary."""

import random
import tempfile
import time
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.bench.end_to_end import _worker
from tests.bench.rows import Row
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import install
from tidegate.client import Client
from tidegate.schemas.topics import Topics
from tidegate.streams.topics_admin import create_topics

__all__ = ["run"]

PORT = 19_480


def run(folder: Path, *, is_quick: bool) -> list[Row]:
    """With `grace_ms` 500 and a real broker on the same machine."""
    install()
    count = 40 if is_quick else 300
    with tempfile.TemporaryDirectory() as place, KafkaCluster(Path(place)) as kafka:
        create_topics({"bootstrap.servers": kafka.bootstrap}, Topics(), partitions_count=4)
        worker = _worker(kafka.bootstrap, PORT)
        try:
            found = _measure(kafka.bootstrap, count)
        finally:
            worker.terminate()
            worker.wait(30)
    shape = f"{count} new services at random moments, grace 500 ms"
    return [
        Row(
            f"span on Kafka to decision known by the client, p{p}",
            float(np.percentile(found, p)),
            "ms",
            shape,
        )
        for p in (50, 99)
    ]


def _measure(bootstrap: str, count: int) -> list[float]:
    draw = random.Random(7)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    found: list[float] = []
    with Client(bootstrap) as client:
        client.wait_ready(30)
        for number in range(-5, count):  # the first ones warm the worker up
            name = f"service-{number}"
            sent_ms = time.time_ns() // 1_000_000
            producer.produce(Topics().otlp_spans, _record(name), timestamp=sent_ms)
            producer.flush()
            until_s = time.monotonic() + 60
            while client.decide(name).decision is None and time.monotonic() < until_s:
                time.sleep(0.002)
            if number >= 0:
                found.append(time.time_ns() / 1e6 - sent_ms)
            time.sleep(draw.uniform(0, 0.5))
    return found


def _record(name: str) -> bytes:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = name
    now_ns = time.time_ns()
    group.scope_spans.add().spans.add(
        trace_id=bytes(15) + b"1",
        span_id=bytes(7) + b"1",
        kind=2,
        start_time_unix_nano=now_ns - 10**7,
        end_time_unix_nano=now_ns,
    )
    return bytes(made.SerializeToString())
