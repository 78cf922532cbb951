"""evaluate, and the graph stage if asked for, in the test's own process, on a log of partials that the test
writes: for tests that look at one moment of it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.streams.live import log_of
from tidegate.rules.packing import Packer, SourceMark
from tidegate.rules.pipeline import Evaluator
from tidegate.rules.policy import builtin_policy
from tidegate.rules.standing import Manifest
from tidegate.schemas.cells import Cells, Exemplars
from tidegate.schemas.partials import Source
from tidegate.schemas.topics import Topics
from tidegate.streams.app import build_app
from tidegate.streams.evaluate import Evaluation
from tidegate.streams.exactly import ExactApp
from tidegate.streams.kafka_log import Span, log_spans
from tidegate.streams.metrics import WorkerMetrics
from tidegate.streams.snapshot_table import newest_first
from tidegate.streams.source_topics import SourceTopics
from tidegate.streams.worker_settings import EVALUATE, GRAPH, WorkerSettings

POLICY = builtin_policy("default")
SOURCE = Source("source", 0)


class PartialsWriter:
    """Plays ingest: a flush for each 500 ms of event time, from two minutes ago on."""

    def __init__(self, config: Mapping[str, str], topics: Topics, *, partitions: int) -> None:
        self._producer = Producer({**config, "acks": "all", "log_level": 0})
        self._topic = topics.partials
        self._partitions = partitions
        self._packer = Packer(partitions)
        self.now_ms = (int(time.time()) - 120) * 1000
        self.offset = 0

    def write(self, seconds: float, *, partitions_count: int | None = None) -> None:
        """So much event time, one record of the source in each flush; `partitions_count` is what a
        writer believes that sees another topic."""
        if partitions_count is not None:
            self._packer = Packer(partitions_count)
        for _ in range(int(seconds * 2)):
            self.now_ms += 500
            self._packer.add(
                cells(self.now_ms // 500 - 2, self.offset),
                source=np.array([self._packer.source_index(SOURCE)], np.int32),
                offset=np.array([self.offset]),
                kafka_ms=np.array([self.now_ms - 500]),
            )
            self.offset += 1
            mark = SourceMark(SOURCE, 1, self.now_ms - 500, 0)
            for record in self._packer.flush([mark], listed=[(SOURCE.topic_id, 1)]):
                if record.partition < self._partitions:
                    self._producer.produce(self._topic, record.value, partition=record.partition)
        assert self._producer.flush(30) == 0


def cells(bucket: int, seed: int) -> Cells:
    """Twenty requests of five services; every third record's fail."""
    keys = [(f"service-{i}", "") for i in range(5)]
    rows = np.arange(20)
    outcome = 4 if seed % 3 == 0 else 0
    return Cells(
        record=np.zeros(20, np.int32),
        key=(rows % 5).astype(np.int32),
        bucket=np.full(20, bucket, np.int64),
        code=np.full(20, outcome, np.uint16),
        bin=(500 + (rows * 7 + seed) % 300).astype(np.uint16),
        count=np.ones(20, np.int32),
        weight=np.full(20, 64, np.int32),
        keys=keys,
        exemplars=Exemplars.empty(),
    )


@dataclass(slots=True)
class Running:
    """A started app."""

    app: ExactApp
    evaluation: Evaluation
    metrics: WorkerMetrics
    graph: Evaluation | None = None

    def owned(self, partition: int) -> Any:
        """A partition's memory."""
        return self.evaluation._owned.get(partition)

    async def until(self, is_true: Callable[[], object], *, within_s: float = 30.0) -> None:
        """Waits, unless the app ends."""
        end_s = time.monotonic() + within_s
        while not is_true():
            assert not self.app.ended.is_set(), self.app.crash_reason
            assert time.monotonic() < end_s, "it did not come true"
            await asyncio.sleep(0.05)

    async def read_to_the_end(self, config: Mapping[str, str], topic: str) -> None:
        """Until all of partials has been fed."""
        for span in log_spans(config, [topic]):

            def is_read(span: Span = span) -> bool:
                one = self.owned(span.partition)
                return one is not None and one.expected >= span.end

            await self.until(is_read)


@asynccontextmanager
async def running(
    config: Mapping[str, str],
    topics: Topics,
    folder: Path,
    *,
    before: Callable[[ExactApp], object] = lambda _: None,
    has_control: bool = False,
    has_graph: bool = False,
) -> AsyncIterator[Running]:
    """An evaluate worker, with a sequencer where there is a control topic, and with the graph stage if asked
    for; `before` is called with the app before it starts."""
    settings = WorkerSettings(
        kafka=config,
        topics=topics,
        roles=frozenset({EVALUATE, GRAPH} if has_graph else {EVALUATE}),
        session_timeout_ms=6_000,
        heartbeat_ms=1_000,
    )
    metrics = WorkerMetrics()
    names = [topics.partials, topics.snapshots_changelog, *([topics.control] * has_control)]
    if has_graph:
        names += [topics.health, topics.graph, topics.graph_snapshots_changelog]
    facts = await asyncio.to_thread(SourceTopics({**config, "log_level": 0}).facts, names)
    app = build_app(settings, POLICY, metrics, facts, data_dir=str(folder))
    stages = app.starts.stages  # type: ignore[attr-defined]  # watched from outside
    by_name = {stage.stage.name: stage for stage in stages if isinstance(stage, Evaluation)}
    before(app)
    app.finalize()
    await app.start()
    try:
        yield Running(app, by_name["evaluate"], metrics, by_name.get("graph"))
    finally:
        await app.stop()


def committed(config: Mapping[str, str], topics: Topics, partition: int, *, topic: str = "") -> int:
    """Committed offset of a partition of partials, or of another topic; below 0 where there is none."""
    consumer = Consumer({**config, "group.id": topics.evaluate_app_id, "log_level": 0})
    found = consumer.committed([TopicPartition(topic or topics.partials, partition)], timeout=10)
    consumer.close()
    return int(found[0].offset)


def manifests(config: Mapping[str, str], topics: Topics, partition: int) -> list[Manifest]:
    """Of the snapshots that the table's changelog holds, newest first."""
    table: dict[bytes, bytes] = {}
    for record in log_of(config, topics.snapshots_changelog):
        if record.partition != partition or record.key is None:
            continue
        if record.value is None:
            table.pop(record.key, None)
        else:
            table[record.key] = record.value
    return [
        msgspec.msgpack.decode(stored.manifest, type=Manifest)
        for stored in newest_first(table, partition)
    ]


def offline(
    config: Mapping[str, str], topics: Topics, *, partitions: int
) -> set[tuple[bytes, bytes]]:
    """What evaluators decide that read the log without any worker."""
    ours = [Evaluator(p, POLICY, partitions_count=partitions) for p in range(partitions)]
    out = set()
    for record in sorted(log_of(config, topics.partials), key=lambda r: (r.partition, r.offset)):
        outputs = ours[record.partition].feed(
            record.value or b"", offset=record.offset, append_ms=record.append_ms
        )
        out |= {(key, value) for key, value in outputs.records() if value is not None}
    return out


def published(config: Mapping[str, str], topics: Topics) -> set[tuple[bytes, bytes]]:
    """What was published."""
    return {
        (record.key, record.value)
        for record in log_of(config, topics.decisions)
        if record.key is not None and record.value is not None
    }
