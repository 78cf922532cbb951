"""A golden moved to now and produced to a real Kafka, and what a live run of it must have published."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from tests.exactness.driving import Feed, evaluate, straight_log
from tests.goldens.incidents import Incident
from tests.goldens.recording import as_protobuf, records_of
from tests.streams.live import log_of, merged, until
from tidegate.rules.policy import Policy, load_policy
from tidegate.schemas.topics import Topics
from tidegate.streams.dump import internal_log
from tidegate.streams.kafka_log import LogRecord
from tidegate.streams.recompute import compare, recompute

__all__ = [
    "LEAD_MS",
    "PATIENT",
    "Decisions",
    "Played",
    "Run",
    "law_one",
    "patient_policy",
    "same",
]

LEAD_MS = 400
"""Records are produced so much before their Kafka time: a busy machine must not make them late."""
PATIENT = "name: patient\ntiming:\n  source_wait_ms: 60000\n  lease_ms: 120000\n"
"""The default, but no source is left out while nobody owns it for a while."""
Decisions = dict[tuple[str, int], bytes]
"""By scope and boundary."""


class _Stamp(msgspec.Struct):
    boundary: int
    partition: int


_stamps = msgspec.json.Decoder(_Stamp)


def patient_policy(folder: Path) -> tuple[Path, Policy]:
    """As a file for workers, and as they read it."""
    path = folder / "patient.yaml"
    path.write_text(PATIENT)
    return path, load_policy(PATIENT, where=str(path))


@dataclass(slots=True)
class Played:
    """An incident on `partitions` partitions of the spans topic, beginning at `base_ms`."""

    incident: Incident
    base_ms: int
    shares: Sequence[int] = (1, 1, 1, 1)
    """How many of each 100 records or so go to each partition."""
    feeds: list[Feed] = field(init=False)

    def __post_init__(self) -> None:
        where = [p for p, share in enumerate(self.shares) for _ in range(share)]
        # Spread out, not one run after the other.
        where = [where[(i * 37) % len(where)] for i in range(len(where))]
        offsets = [0] * len(self.shares)
        self.feeds = []
        for number, record in enumerate(records_of(self.incident, base_ms=self.base_ms)):
            partition = where[number % len(where)]
            value = as_protobuf(record.spans, base_ms=self.base_ms)
            self.feeds.append(Feed(value, record.kafka_ms, partition, offsets[partition]))
            offsets[partition] += 1

    @property
    def end_boundary(self) -> int:
        """The last boundary whose decisions are compared."""
        return self.feeds[-1].kafka_ms // 500

    def spans_count(self) -> int:
        """How many are produced."""
        return sum(len(record.spans) for record in records_of(self.incident))

    def expected(self, policy: Policy, *, partials: int) -> Decisions:
        """What a straight run without any Kafka decides."""
        logs = straight_log(
            self.feeds,
            partitions_count=partials,
            sources_count=len(self.shares),
            tail_ms=3_000,
        )
        out: Decisions = {}
        for partition, log in enumerate(logs):
            rows, _ = evaluate(log, policy, partition=partition, partitions_count=partials)
            out |= {
                (key, boundary): value
                for boundary, key, value in rows
                if key.startswith(("service:", "edge:")) and value is not None
            }
        return {at: value for at, value in out.items() if at[1] <= self.end_boundary}

    def produce(self, config: Mapping[str, str], topic: str) -> threading.Thread:
        """At once what is due, then each record at its time, in a thread."""
        producer = Producer({**config, "acks": "all", "linger.ms": 5, "log_level": 0})

        def run() -> None:
            for feed in self.feeds:
                wait_s = (feed.kafka_ms - LEAD_MS) / 1000 - time.time()
                if wait_s > 0:
                    producer.poll(0)
                    time.sleep(wait_s)
                while True:
                    try:
                        producer.produce(
                            topic,
                            feed.value,
                            partition=feed.partition,
                            timestamp=feed.kafka_ms,
                        )
                        break
                    except BufferError:
                        producer.poll(0.1)
            assert producer.flush(60) == 0

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


@dataclass(slots=True)
class Run:
    """The internal topics of a live run, to wait for and to look at."""

    config: Mapping[str, str]
    topics: Topics
    partials: int
    has_graph: bool = True
    """Whether a graph stage runs."""

    def published(self) -> list[LogRecord]:
        """The decisions topic as it is now."""
        return log_of(self.config, self.topics.decisions)

    def wait_for_boundary(self, boundary: int, *, within_s: float = 90.0) -> None:
        """Until the lease of every partition, and of the graph stage, says that it is beyond a boundary."""

        def is_done() -> bool:
            newest: Counter[int] = Counter()
            for record in self.published():
                if record.value is not None and (record.key or b"").startswith(b"lease:"):
                    stamp = _stamps.decode(record.value)
                    newest[stamp.partition] = max(newest[stamp.partition], stamp.boundary)
            numbers = range(self.partials + self.has_graph)
            return all(newest[number] > boundary for number in numbers)

        until(is_done, within_s=within_s, what=f"boundary {boundary}", every_s=0.5)

    def decisions(self, end_boundary: int) -> Decisions:
        """evaluate's, published up to a boundary; one that is published again must be the same bytes."""
        out: Decisions = {}
        for record in self.published():
            key = (record.key or b"").decode()
            if record.value is None or not key.startswith(("service:", "edge:")):
                continue
            at = (key, _stamps.decode(record.value).boundary)
            if at[1] <= end_boundary:
                assert out.setdefault(at, record.value) == record.value, at
        return out

    def spans_count(self) -> int:
        """Counted spans, each block once."""
        return merged(log_of(self.config, self.topics.partials)).spans.total()


def same(published: Decisions, expected: Decisions) -> None:
    """Says which decisions are missing, too many or different."""
    problems = [
        f"{what} {scope} at {boundary}\n  {value.decode()}"
        for what, values, others in (
            ("too many:", published, expected),
            ("missing:", expected, published),
        )
        for (scope, boundary), value in sorted(values.items(), key=lambda item: item[0][::-1])
        if others.get((scope, boundary)) != value
    ]
    assert not problems, "\n".join(problems[:12])


def law_one(run: Run, policy: Policy) -> Counter[str]:
    """What was published is what follows from the internal log, byte for byte. Returns the counters of
    the recomputation."""
    header, records = internal_log(run.config, run.topics)
    recomputed, published = recompute(header, records, policy)
    result = compare(header, recomputed, published)
    assert not result.differences, "\n".join(result.differences[:20])
    assert result.compared > 0
    return recomputed.counters
