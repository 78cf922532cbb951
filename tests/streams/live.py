"""What the tests of live workers share: topics, workers as processes, spans to feed them, and what the
internal topics then hold.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tidegate.schemas.cells import SELF_TIME
from tidegate.schemas.partials import decode_partials
from tidegate.schemas.topics import Topics
from tidegate.streams.kafka_log import LogRecord, log_spans, read_log

SESSION_S = 6.0
SERVER, CLIENT = 2, 3


def make_topics(
    config: Mapping[str, str],
    topics: Topics,
    *,
    spans: int = 4,
    partials: int = 3,
    leave_out: tuple[str, ...] = (),
) -> None:
    """As `tidegate topics create` makes them."""
    admin = AdminClient({**config, "log_level": 0})
    specs = topics.specs(partitions_count=partials, spans_partitions_count=spans)
    new = [
        NewTopic(s.name, s.partitions_count, 1, config=s.config)
        for s in specs
        if s.name not in leave_out
    ]
    for done in admin.create_topics(new).values():
        done.result(30)
    until(
        lambda: all(
            s.name in admin.list_topics(timeout=5).topics for s in specs if s.name not in leave_out
        )
    )


def until(
    is_true: Callable[[], object], *, within_s: float = 60.0, what: str = "it", every_s: float = 0.1
) -> None:
    """Waits for something to become true."""
    end_s = time.monotonic() + within_s
    while not is_true():
        if time.monotonic() > end_s:
            raise AssertionError(f"{what} did not come true within {within_s:.0f} s")
        time.sleep(every_s)


def request(spans: list[tuple[str, str, int, int, int]], *, trace: int = 0) -> bytes:
    """OTLP bytes of spans (service, target, end_ms, duration_ms, status); target "" for a request."""
    out = ExportTraceServiceRequest()
    for number, (service, target, end_ms, duration_ms, status) in enumerate(spans):
        resource = out.resource_spans.add()
        attribute = resource.resource.attributes.add()
        attribute.key, attribute.value.string_value = "service.name", service
        span = resource.scope_spans.add().spans.add()
        span.trace_id = (trace + 1).to_bytes(16, "big")
        span.span_id = (trace * 1000 + number + 1).to_bytes(8, "big")
        span.name = "GET /"
        span.kind = CLIENT if target else SERVER
        span.end_time_unix_nano = end_ms * 1_000_000
        span.start_time_unix_nano = (end_ms - duration_ms) * 1_000_000
        if target:
            peer = span.attributes.add()
            peer.key, peer.value.string_value = "peer.service", target
        code = span.attributes.add()
        code.key, code.value.int_value = "http.response.status_code", status
    value: bytes = out.SerializeToString()
    return value


@dataclass
class Traffic:
    """Produces spans of a few services, now, and remembers how many."""

    config: Mapping[str, str]
    topic: str
    partitions: int = 4
    services: tuple[str, ...] = ("web", "cart", "payments", "ads", "search")
    seed: int = 1
    produced: Counter[tuple[str, str]] = field(default_factory=Counter)
    records: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._producer = Producer({**self.config, "linger.ms": 5, "acks": "all", "log_level": 0})

    def send(
        self,
        spans_per_record: int = 5,
        *,
        age_ms: int = 0,
        error_ratio: float = 0.05,
        kafka_ms: int | None = None,
        partition: int | None = None,
    ) -> None:
        """One record."""
        now_ms = int(time.time() * 1000) if kafka_ms is None else kafka_ms
        spans = []
        for _ in range(spans_per_record):
            service = self._random.choice(self.services)
            target = self._random.choice(("", "", "db", "cache"))
            status = 500 if self._random.random() < error_ratio else 200
            spans.append((service, target, now_ms - age_ms, self._random.randint(1, 200), status))
            self.produced[service, target] += 1
        self._producer.produce(
            self.topic,
            request(spans, trace=self.records),
            partition=self.records % self.partitions if partition is None else partition,
            timestamp=now_ms,
        )
        self._producer.poll(0)
        self.records += 1

    def run(self, seconds: float, *, per_s: int = 200, error_ratio: float = 0.05) -> None:
        """A steady stream."""
        began_s = time.monotonic()
        sent = 0
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            while sent < elapsed_s * per_s:
                self.send(error_ratio=error_ratio)
                sent += 1
            time.sleep(0.01)
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(60) == 0


class Worker:
    """`tidegate run` as a process; its log is shown when a test fails."""

    def __init__(
        self, config: Mapping[str, str], topics: Topics, folder: Path, *more: str, name: str = "w"
    ) -> None:
        self.log_path = folder / f"{name}.log"
        self._log = self.log_path.open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tidegate.streams.cli",
                "run",
                "--brokers",
                config["bootstrap.servers"],
                "--topic-prefix",
                topics.prefix,
                "--session-timeout-s",
                str(SESSION_S),
                "--debug",
                *more,
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_for(self, text: str, *, within_s: float = 60.0, times: int = 1) -> None:
        """Until its log holds a text."""

        def is_there() -> bool:
            if self.process.poll() is not None and self.log.count(text) < times:
                raise AssertionError(f"the worker ended ({self.process.returncode}):\n{self.log}")
            return self.log.count(text) >= times

        until(is_there, within_s=within_s, what=f"{text!r} in {self.log_path}")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self, *, within_s: float = 30.0) -> int:
        """SIGTERM; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.kill()
        self._log.close()
        if kind is not None:
            print(f"---- {self.log_path.name}\n{self.log[-6000:]}")


def log_of(config: Mapping[str, str], *topics: str) -> list[LogRecord]:
    """Everything the topics hold now."""
    return list(read_log(config, log_spans(config, topics)))


@dataclass
class Merged:
    """Blocks of a partials log after de-duplication."""

    spans: Counter[tuple[str, str]] = field(default_factory=Counter)
    offsets: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    duplicates: int = 0
    epochs: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    late_blocks: int = 0
    """Spans whose bucket had been closed for every reader by the watermarks before, all sources heard."""


def merged(records: list[LogRecord]) -> Merged:
    """A plain reading of partials: each (partition, source, offset, part) once, as evaluate counts."""
    out = Merged()
    seen: dict[tuple[int, str, int, int, int], bytes] = {}
    for record in sorted(records, key=lambda r: (r.partition, r.offset)):
        assert record.value is not None
        read, blocks = decode_partials(record.value)
        cell = 0
        for i in range(len(blocks.offset)):
            source = read.sources[blocks.source[i]]
            cells = range(cell, cell + int(blocks.cells_count[i]))
            cell = cells.stop
            name = (
                record.partition,
                source.topic_id,
                source.partition,
                int(blocks.offset[i]),
                int(blocks.part[i]),
            )
            content = repr(
                [
                    (
                        blocks.keys[blocks.key[j]],
                        int(blocks.bucket[j]),
                        int(blocks.code[j]),
                        int(blocks.bin[j]),
                        int(blocks.count[j]),
                    )
                    for j in cells
                ]
            ).encode()
            out.offsets.setdefault((source.topic_id, source.partition), set()).add(name[3])
            if name in seen:
                assert seen[name] == content, "a block came again with other content"
                out.duplicates += 1
                continue
            seen[name] = content
            for j in cells:
                if not blocks.code[j] & SELF_TIME:
                    out.spans[blocks.keys[blocks.key[j]]] += int(blocks.count[j])
        for mark in read.watermarks:
            source = read.sources[mark.source]
            epochs = out.epochs.setdefault((source.topic_id, source.partition), [])
            if mark.epoch not in epochs:
                epochs.append(mark.epoch)
    return out


def watermarks(
    records: list[LogRecord], partition: int
) -> Iterator[tuple[LogRecord, str, int, int, int]]:
    """(record, topic id, source partition, epoch, watermark) of one partition of partials."""
    for record in sorted(records, key=lambda r: r.offset):
        if record.partition == partition and record.value is not None:
            read, _ = decode_partials(record.value)
            for mark in read.watermarks:
                source = read.sources[mark.source]
                yield record, source.topic_id, source.partition, mark.epoch, mark.watermark_ms
