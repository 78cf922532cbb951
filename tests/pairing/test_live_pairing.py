"""The whole way on a real Kafka: spans of a trace in any partition of the spans topic, four ingest workers,
a pairing worker that is killed in the middle, facts in the caller's partition of partials.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.kafka import KafkaCluster
from tests.pairing.test_orders import drawn, records_of
from tests.pairing.traces import (
    CLIENT,
    SERVER,
    Callees,
    Raw,
    as_bytes,
    oracle,
    sampled_traces,
)
from tests.streams.live import Worker, log_of, make_topics, merged, until
from tidegate.schemas.pairs import decode_pairs
from tidegate.schemas.partials import decode_partials
from tidegate.schemas.partitioner import partition_of
from tidegate.schemas.topics import Topics

PARTIALS = 2


class Spans:
    """Produces records of spans that end about now."""

    def __init__(self, config: Mapping[str, str], topics: Topics) -> None:
        self._producer = Producer({**config, "acks": "all", "log_level": 0})
        self._topic = topics.otlp_spans
        self.records_count = 0

    def send(self, record: bytes) -> None:
        self._producer.produce(
            self._topic, record, partition=self.records_count % 4, timestamp=int(time.time() * 1000)
        )
        self.records_count += 1

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


def callees(config: Mapping[str, str], topics: Topics) -> Callees:
    """By all facts in partials, each of which stands in its caller's partition."""
    out: Callees = defaultdict(set)
    for record in log_of(config, topics.partials):
        read, _ = decode_partials(record.value or b"")
        for fact in read.facts:
            assert partition_of(fact.caller, PARTIALS) == record.partition
            out[fact.caller, fact.target] |= set(fact.callees)
    return dict(out)


def at_now(spans: list[Raw]) -> list[Raw]:
    """Times are from the moment of sending."""
    return [replace(raw, start=-20, end=-5) for raw in spans]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_facts_come_whatever_worker_read_which_span_and_although_pairing_was_killed(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=4, partials=PARTIALS)
    producing = Spans(config, topics)
    before = drawn(11, traces=120)
    # One half of these comes before the kill, the other after it.
    traces = [next(sampled_traces((5_000 + i) << 20)) for i in range(6)]
    calls = [Raw(t, 1, 0, f"half{i}", CLIENT, "late.local") for i, t in enumerate(traces)]
    answers = [Raw(t, 2, 1, f"late{i % 3}", SERVER) for i, t in enumerate(traces)]
    everything = [*before, *calls, *answers]

    def produce(spans: list[Raw], how: str) -> None:
        for record in records_of(at_now(spans), how, seed=1, base_ms=int(time.time() * 1000)):
            producing.send(record)
        producing.flush()

    with ExitStack() as stack:

        def worker(role: str, name: str) -> Worker:
            return stack.enter_context(Worker(config, topics, tmp_path, "--role", role, name=name))

        killed = worker("evaluate", "e1")
        for number in range(4):
            worker("ingest", f"i{number}")
        killed.wait_for("pairing begins")
        produce([*before, *calls], "random")
        until(
            lambda: callees(config, topics) == oracle(before),
            within_s=90,
            what="all facts of the first half",
            every_s=1.0,
        )
        killed.kill()
        successor = worker("evaluate", "e2")
        produce(answers, "trace")
        successor.wait_for("pairing begins")
        until(
            lambda: callees(config, topics) == oracle(everything),
            within_s=90,
            what="facts whose first half came before the kill",
            every_s=1.0,
        )
    assert len([key for key in oracle(everything) if key[1] == "late.local"]) == 6
    log = log_of(config, topics.pairs)
    where: dict[int, set[int]] = defaultdict(set)
    for record in log:
        for low in decode_pairs(record.value or b"").trace_lo.tolist():
            where[low].add(record.partition)
    assert set().union(*where.values()) == {0, 1}
    assert all(len(partitions) == 1 for partitions in where.values())


@pytest.mark.timeout(120)
def test_without_the_pairs_topic_workers_go_on_and_say_so_once(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=4, partials=PARTIALS, leave_out=(topics.pairs,))
    producing = Spans(config, topics)
    spans = at_now(drawn(11, traces=20))
    with Worker(config, topics, tmp_path) as worker:
        worker.wait_for("partitions rebuilt")
        producing.send(as_bytes(spans, base_ms=int(time.time() * 1000)))
        producing.flush()
        counted = Counter(raw.kind for raw in spans)
        wanted = counted.total() - counted[1]

        def is_counted() -> bool:
            return merged(log_of(config, topics.partials)).spans.total() == wanted

        until(is_counted, within_s=60)
        assert worker.stop() == 0
    said = [line for line in worker.log.splitlines() if "callees' names are not learned" in line]
    assert len(said) == 2  # ingest and evaluate, each once
    assert topics.pairs in said[0]
