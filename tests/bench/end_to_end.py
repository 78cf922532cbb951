"""Kafka in, decisions out: a backlog of spans on a real broker, read by one to four worker processes.

The figure that counts is CPU seconds of the workers per million spans: broker and workers share the
machine. Spans a second are by the wall clock, between 20 and 95 % of the backlog.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.bench.rows import Row, generated, split_by_trace
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import install
from tidegate.schemas.outcome import SpanKind
from tidegate.schemas.topics import Topics
from tidegate.streams.topics_admin import create_topics

__all__ = ["run"]

PORT = 19_470
PARTITIONS = 8


def run(folder: Path, *, is_quick: bool) -> list[Row]:
    """At 1,000 spans a record with 1 to 4 workers, at 1.7 with one."""
    install()
    spans, loops = (300_000, 12) if is_quick else (1_000_000, 6)
    start_ns = (time.time_ns() // 10**9 - 60) * 10**9
    # At 500,000 spans a second of event time a million spans cross four boundaries, as they would live.
    records = generated(folder, spans, rate=500_000, start_ns=start_ns)
    _measure(records[:40], 1, "compiles", 1)  # the first worker after a change does
    out = []
    for workers in (1,) if is_quick else (1, 2, 4):
        out += _measure(records, loops, f"1,000 spans a record, {workers} worker(s)", workers)
    tiny = split_by_trace(records[: len(records) // 4])
    out += _measure(tiny, loops, "1.7 spans a record, 1 worker(s)", 1)
    return out


@dataclass(frozen=True, slots=True)
class _Sample:
    wall_s: float
    cpu_s: float
    spans: int


def _measure(records: list[bytes], loops: int, shape: str, workers: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, KafkaCluster(Path(folder)) as kafka:
        topics = Topics()
        create_topics({"bootstrap.servers": kafka.bootstrap}, topics, partitions_count=PARTITIONS)
        total = _produce(kafka.bootstrap, topics.otlp_spans, records, loops)
        processes = [_worker(kafka.bootstrap, PORT + i) for i in range(workers)]
        try:
            samples = _sample(processes, total)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)
    first = next(s for s in samples if s.spans >= 0.2 * total)
    last = next(s for s in samples if s.spans >= 0.95 * total)
    done = last.spans - first.spans
    cpu_s, wall_s = last.cpu_s - first.cpu_s, last.wall_s - first.wall_s
    return [
        Row(
            f"Kafka to decisions, {shape}",
            cpu_s / done * 1e6,
            "CPU s per M spans",
            f"{total:,} spans",
        ),
        Row(
            f"Kafka to decisions, {shape}", done / cpu_s / 1e6, "M spans/CPU s", f"{total:,} spans"
        ),
        Row(f"Kafka to decisions, {shape}", done / wall_s / 1e6, "M spans/s", f"{total:,} spans"),
    ]


def _produce(bootstrap: str, topic: str, records: list[bytes], loops: int = 1) -> int:
    """How many requests and calls were sent. Kafka's time is that of the newest span, as if each record
    had just been exported; the same records come `loops` times, at offsets of their own."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": "lz4",
            "linger.ms": 50,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )
    total, times = 0, []
    for record in records:
        made = ExportTraceServiceRequest.FromString(record)
        spans = [s for r in made.resource_spans for c in r.scope_spans for s in c.spans]
        total += loops * sum(s.kind >= SpanKind.SERVER for s in spans)
        times.append(max(s.end_time_unix_nano for s in spans) // 10**6)
    for _ in range(loops):
        for number, (record, at_ms) in enumerate(zip(records, times, strict=True)):
            while True:
                try:
                    producer.produce(topic, record, partition=number % PARTITIONS, timestamp=at_ms)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
    producer.flush()
    return total


def _worker(bootstrap: str, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tidegate.streams.cli", "run", "--brokers", bootstrap]
    command += ["--metrics-port", str(port), "--log-format", "json"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _sample(processes: list[subprocess.Popen[bytes]], total: int) -> list[_Sample]:
    out: list[_Sample] = []
    until_s = time.monotonic() + 300
    while time.monotonic() < until_s:
        time.sleep(0.1)
        spans = sum(_evaluated(PORT + i) for i in range(len(processes)))
        cpu_s = sum(_cpu_s(process.pid) for process in processes)
        out.append(_Sample(time.monotonic(), cpu_s, spans))
        if spans >= 0.95 * total:
            return out
    raise RuntimeError(f"the workers did {out[-1].spans if out else 0} of {total} spans in 300 s")


def _evaluated(port: int) -> int:
    """Requests and calls that were merged into windows."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as page:
            for line in page.read().decode().splitlines():
                if line.startswith('tidegate_evaluate_total{kind="requests"} '):
                    return int(float(line.split()[1]))
    except OSError:
        pass
    return 0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
