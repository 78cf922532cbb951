"""A small shop's partials as ingest would write them, and what follows from the health that evaluate makes of
them: for tests of the graph stage on a real Kafka.

web (an entry) calls cart and pay, cart calls the database `db`, which sends no spans. Each event second has
ten requests of web; while the fault lasts, most calls to `db` fail, and so do cart's and web's requests.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from confluent_kafka import Producer

from tests.streams.live import log_of
from tidegate.rules.graph.evaluator import GraphEvaluator
from tidegate.rules.packing import Packer, SourceMark
from tidegate.rules.policy import builtin_policy
from tidegate.rules.standing import Manifest
from tidegate.schemas.cells import Cells, Exemplars
from tidegate.schemas.outcome import Outcome
from tidegate.schemas.partials import Source
from tidegate.schemas.topics import Topics
from tidegate.streams.snapshot_table import newest_first

__all__ = ["POLICY", "Follows", "Shop", "follows_from_health", "stands_on", "stored_manifests"]

POLICY = builtin_policy("default")
SOURCE = Source("source", 0)
PER_FLUSH = 5
KEYS = [
    ("web", ""),
    ("web", "cart"),
    ("web", "pay"),
    ("cart", ""),
    ("cart", "db"),
    ("pay", ""),
]
FAILING = {("web", ""), ("web", "cart"), ("cart", ""), ("cart", "db")}


class Shop:
    """Plays ingest: a flush for each 500 ms of event time, from four minutes ago on."""

    def __init__(self, config: Mapping[str, str], topics: Topics, *, partitions: int) -> None:
        self._producer = Producer({**config, "acks": "all", "log_level": 0})
        self._topic = topics.partials
        self._packer = Packer(partitions)
        self.now_ms = (int(time.time()) - 240) * 1000
        self.offset = 0

    def write(self, seconds: float, *, is_faulty: bool = False) -> None:
        """So much event time, at once."""
        for _ in range(int(seconds * 2)):
            self.now_ms += 500
            self._packer.add(
                self._cells(is_faulty=is_faulty),
                source=np.array([self._packer.source_index(SOURCE)], np.int32),
                offset=np.array([self.offset]),
                kafka_ms=np.array([self.now_ms - 500]),
            )
            self.offset += 1
            mark = SourceMark(SOURCE, 1, self.now_ms - 500, 0)
            for record in self._packer.flush([mark], listed=[(SOURCE.topic_id, 1)]):
                self._producer.produce(self._topic, record.value, partition=record.partition)
        assert self._producer.flush(30) == 0

    def _cells(self, *, is_faulty: bool) -> Cells:
        rows = np.arange(len(KEYS) * PER_FLUSH)
        key = rows % len(KEYS)
        is_hit = np.array([k in FAILING for k in KEYS])[key] & (rows // len(KEYS) > 0)
        code = np.where(is_hit & is_faulty, int(Outcome.SERVER_ERROR), int(Outcome.OK))
        return Cells(
            record=np.zeros(len(rows), np.int32),
            key=key.astype(np.int32),
            bucket=np.full(len(rows), self.now_ms // 500 - 2, np.int64),
            code=code.astype(np.uint16),
            bin=(500 + (rows * 7 + self.offset) % 40).astype(np.uint16),
            count=np.ones(len(rows), np.int32),
            weight=np.full(len(rows), 64, np.int32),
            keys=KEYS,
            exemplars=Exemplars.empty(),
        )


@dataclass(slots=True)
class Follows:
    """What the graph stage publishes."""

    decisions: set[tuple[bytes, bytes]] = field(default_factory=set)
    """(key, value) of decisions and leases."""
    graphs: set[tuple[bytes, bytes]] = field(default_factory=set)
    """(key, value) of parts of views."""
    boundary: int | None = None


def follows_from_health(config: Mapping[str, str], topics: Topics, *, partitions: int) -> Follows:
    """Of one stage that reads the log once, without any worker."""
    stage, out = GraphEvaluator(POLICY, partitions_count=partitions), Follows()
    for record in sorted(log_of(config, topics.health), key=lambda r: r.offset):
        fed = stage.feed(record.value or b"", offset=record.offset, append_ms=record.append_ms)
        out.decisions |= {(key, value) for key, value in fed.records() if value is not None}
        out.graphs |= {(key, value) for _, key, value in fed.appended(partitions)}
    out.boundary = stage.boundary
    return out


def stands_on(config: Mapping[str, str], topics: Topics, *, partitions: int) -> Follows:
    """What is published; of the decisions topic the graph stage's."""
    prefixes = (b"graph:", b"inbound:", f"lease:{partitions}".encode())

    def rows(topic: str) -> set[tuple[bytes, bytes]]:
        return {
            (record.key, record.value)
            for record in log_of(config, topic)
            if record.key is not None and record.value is not None
        }

    mine = {row for row in rows(topics.decisions) if row[0].startswith(prefixes)}
    return Follows(decisions=mine, graphs=rows(topics.graph))


def stored_manifests(
    config: Mapping[str, str], topics: Topics, *, partitions: int
) -> list[Manifest]:
    """Of all snapshots of the stage that the changelog ever held whole, oldest first."""
    rows = {
        record.key: record.value
        for record in log_of(config, topics.graph_snapshots_changelog)
        if record.key is not None and record.value is not None
    }
    newest = newest_first(rows, partitions)
    read = [msgspec.msgpack.decode(stored.manifest, type=Manifest) for stored in newest]
    return read[::-1]
