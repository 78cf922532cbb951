"""The first law on a live run of any input: late spans, clocks an hour ahead, garbage, with an ingest, an
evaluate and a graph worker killed. What was published follows from the internal log, byte for byte.
"""

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.exactness.live_golden import Run, law_one
from tests.kafka import KafkaCluster
from tests.streams.live import Traffic, Worker, log_of, make_topics
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.topics import Topics

PARTIALS = 3
HOUR_MS = 3_600_000


@pytest.mark.timeout(240)
def test_decisions_follow_from_the_log_whatever_comes_and_whoever_is_killed(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=4, partials=PARTIALS)
    run = Run(config, topics, PARTIALS)

    def worker(role: str, name: str) -> Worker:
        return Worker(config, topics, tmp_path, "--role", role, name=name)

    traffic = Traffic(config, topics.otlp_spans)
    ahead = Traffic(config, topics.otlp_spans, services=("fast-clock",))
    with (
        worker("ingest", "i1") as ingest,
        worker("ingest", "i2"),
        worker("evaluate", "e1") as evaluate,
        worker("evaluate", "e2") as other,
        worker("graph", "g1") as graph,
        worker("graph", "g2"),
    ):
        evaluate.wait_for("partitions rebuilt")
        other.wait_for("partitions rebuilt")
        graph.wait_for("graph stage rebuilt")
        for second in range(46):
            traffic.run(1, per_s=60, error_ratio=0.6 if 8 <= second < 30 else 0.02)
            for age_ms in (700, 3_000, 12_000, 29_000, 45_000):
                traffic.send(age_ms=age_ms)
            ahead.send(age_ms=-HOUR_MS)
            if second == 10:
                ingest.kill()
            if second == 22:
                evaluate.kill()
            if second == 24:
                graph.kill()
            if second == 25:
                garbage(config, topics.otlp_spans)
        traffic.flush()
        ahead.flush()
        run.wait_for_boundary(int(time.time() * 2))
    counters = law_one(run, builtin_policy("default"))
    produced = traffic.produced.total() + ahead.produced.total()
    assert run.spans_count() == produced
    assert counters["skewed"] == ahead.produced.total()
    assert counters["late"] >= 30 * 5  # those of 45 s, but for the first seconds, when all is new
    dead = log_of(config, topics.dlq)
    assert {record.value for record in dead} == {b"no spans at all", b"\xff" * 40}
    levels = [r.value for r in run.published() if r.value and b'"level":"open"' in r.value]
    assert levels


def garbage(config: dict[str, str], topic: str) -> None:
    producer = Producer({**config, "acks": "all"})
    for value in (b"no spans at all", b"\xff" * 40):
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0
