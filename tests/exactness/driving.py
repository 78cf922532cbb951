"""Runs recorded input through the stages as ingest and evaluate do, without Kafka: the partials log comes
out, and what evaluate publishes for it. Nothing here decides anything: packing, sources and evaluator are
the real ones.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.rules.evaluator import Evaluator
from tidegate.rules.fold import fold
from tidegate.rules.outputs import Outputs
from tidegate.rules.packing import Packer, SourceMark
from tidegate.rules.policy import Policy
from tidegate.schemas.alert import encode_alert
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import encode_decision, encode_lease
from tidegate.schemas.health import encode_health
from tidegate.schemas.otlp import decode
from tidegate.schemas.partials import Source
from tidegate.schemas.scope import lease_key

__all__ = [
    "GRACE_MS",
    "TOPIC_ID",
    "Feed",
    "Ingest",
    "LogRecord",
    "Published",
    "evaluate",
    "published_of",
    "straight_log",
]

GRACE_MS = 500
TOPIC_ID = "golden"
Published = list[tuple[int, str, bytes | None]]
"""(boundary, key, value) in publishing order; health is keyed `health:PARTITION`."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of one partition of partials; its place in the list is its offset."""

    value: bytes
    append_ms: int


@dataclass(frozen=True, slots=True)
class Feed:
    """A record of the spans topic."""

    value: bytes
    kafka_ms: int
    partition: int = 0
    offset: int = 0


@dataclass(slots=True)
class Ingest:
    """A worker: what it reads is packed, and sent by `flush`."""

    log: list[list[LogRecord]]
    """By partition of partials."""
    listed: Sequence[tuple[str, int]] = ((TOPIC_ID, 1),)
    epoch: int = 1
    counters: Counter[str] = field(default_factory=Counter)
    packer: Packer = field(init=False)

    def __post_init__(self) -> None:
        self.packer = Packer(len(self.log))

    def read(self, feeds: Sequence[Feed], *, topic_id: str = TOPIC_ID) -> None:
        """Takes a batch."""
        if not feeds:
            return
        columns = decode([feed.value for feed in feeds])
        assert not columns.record_errors, columns.record_errors
        cells = fold(columns)
        self.counters.update(cells.counters)
        sources = [self.packer.source_index(Source(topic_id, f.partition)) for f in feeds]
        self.packer.add(
            cells,
            source=np.array(sources, np.int32),
            offset=np.array([feed.offset for feed in feeds], np.int64),
            kafka_ms=np.array([feed.kafka_ms for feed in feeds], np.int64),
        )

    def flush(self, marks_ms: dict[Source, int], *, append_ms: int) -> None:
        """Sends all it holds, and these watermarks (grace taken off already)."""
        marks = [SourceMark(source, self.epoch, ms, 0) for source, ms in marks_ms.items()]
        for record in self.packer.flush(marks, listed=self.listed):
            self.log[record.partition].append(LogRecord(record.value, append_ms))


def straight_log(
    feeds: Iterable[Feed],
    *,
    partitions_count: int = 1,
    sources_count: int = 1,
    tail_ms: int = GRACE_MS + BUCKET_MS,
) -> list[list[LogRecord]]:
    """An undisturbed worker's log: a flush whenever the records' time passes a boundary, each record
    before the boundaries its time closes; `tail_ms` of silence at the end."""
    log: list[list[LogRecord]] = [[] for _ in range(partitions_count)]
    ingest = Ingest(log, listed=((TOPIC_ID, sources_count),))
    sources = [Source(TOPIC_ID, p) for p in range(sources_count)]
    waiting: list[Feed] = []
    now_ms = flushed = 0
    for feed in feeds:
        waiting.append(feed)
        now_ms = max(now_ms, feed.kafka_ms)
        if (now_ms - GRACE_MS) // BUCKET_MS > flushed:
            flushed = (now_ms - GRACE_MS) // BUCKET_MS
            ingest.read(waiting)
            waiting = []
            ingest.flush(dict.fromkeys(sources, now_ms - GRACE_MS), append_ms=now_ms)
    ingest.read(waiting)
    end_ms = now_ms + tail_ms
    ingest.flush(dict.fromkeys(sources, end_ms - GRACE_MS), append_ms=end_ms)
    return log


def published_of(outputs: Outputs, partition: int = 0) -> Published:
    """Everything a feed gave out, ordered by boundary, then key."""
    rows: Published = [(d.boundary, d.scope, encode_decision(d)) for d in outputs.decisions]
    rows += [(d.boundary, f"shadow:{d.scope}", encode_decision(d)) for d in outputs.shadow]
    rows += [(a.boundary, f"alert:{a.id}/{a.number}", encode_alert(a)) for a in outputs.alerts]
    rows += [(boundary, scope, None) for boundary, scope in outputs.tombstones]
    rows += [(x.boundary, lease_key(x.partition), encode_lease(x)) for x in outputs.leases]
    for health in outputs.health:
        rows += [(health.boundary, f"health:{partition}", part) for part in encode_health(health)]
    return sorted(rows, key=lambda row: row[:2])


def evaluate(
    log: Sequence[LogRecord], policy: Policy, *, partition: int = 0, partitions_count: int = 1
) -> tuple[Published, Counter[str]]:
    """What an undisturbed evaluator publishes for a log, and its counters."""
    evaluator = Evaluator(partition, policy, partitions_count=partitions_count)
    out: Published = []
    counters: Counter[str] = Counter()
    for offset, record in enumerate(log):
        fed = evaluator.feed(record.value, offset=offset, append_ms=record.append_ms)
        out += published_of(fed, partition)
        counters.update(fed.counters)
    return out, counters
