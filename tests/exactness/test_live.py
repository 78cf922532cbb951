"""Goldens through a real Kafka and `tidegate run`, with everything that goes wrong: the same decisions as
without any of it, byte for byte, and every span counted once.
"""

import itertools
import time
from pathlib import Path

import pytest

from tests.exactness.live_golden import Played, Run, law_one, patient_policy, same
from tests.goldens.incidents import incident_named
from tests.kafka import KafkaCluster
from tests.streams.live import Worker, log_of, make_topics, watermarks
from tidegate.schemas.topics import Topics

SPANS, PARTIALS = 4, 2


def start_ms(seconds_ago: float) -> int:
    """A multiple of 500, as goldens need."""
    return int((time.time() - seconds_ago) * 2) * 500


@pytest.mark.timeout(300)
def test_frozen_killed_and_ownerless_workers_change_no_decision(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    """Two workers. One is frozen past its session and wakes after the other took over; that one is
    killed; then the last one: for 15 s nobody owns a partition, while spans come in; two new ones
    share the rest."""
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=SPANS, partials=PARTIALS)
    path, policy = patient_policy(tmp_path)
    played = Played(incident_named("worker_gap"), start_ms(100))
    producing = played.produce(config, topics.otlp_spans)
    run = Run(config, topics, PARTIALS)

    def worker(name: str) -> Worker:
        return Worker(config, topics, tmp_path, "--policy", str(path), name=name)

    with worker("a") as a, worker("b") as b:
        a.wait_for("partitions rebuilt")
        b.wait_for("partitions rebuilt")
        time.sleep(6)
        a.freeze()
        time.sleep(14)
        a.thaw()
        time.sleep(9)
        b.kill()
        time.sleep(12)
        a.kill()
        time.sleep(12)
        with worker("c") as c, worker("d"):
            c.wait_for("partitions rebuilt")
            producing.join(90)
            assert not producing.is_alive()
            run.wait_for_boundary(played.end_boundary)
    expected = played.expected(policy, partials=PARTIALS)
    assert len(expected) > 25
    assert longest_silence_ms(run) >= 15_000
    counters = law_one(run, policy)
    assert counters["late"] == counters["skewed"] == 0
    assert run.spans_count() == played.spans_count()
    same(run.decisions(played.end_boundary), expected)


def longest_silence_ms(run: Run) -> int:
    """For how long no watermark came."""
    times = [
        record.append_ms for record, *_ in watermarks(log_of(run.config, run.topics.partials), 0)
    ]
    return max(b - a for a, b in itertools.pairwise(times))


@pytest.mark.timeout(120)
def test_a_backlog_over_uneven_partitions_is_caught_up_without_a_late_span(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    """200 s of spans wait on four partitions, of which one holds nearly all and one nearly none."""
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=SPANS, partials=PARTIALS)
    path, policy = patient_policy(tmp_path)
    played = Played(incident_named("error_burst"), start_ms(205), shares=(80, 15, 4, 1))
    played.produce(config, topics.otlp_spans).join(30)
    run = Run(config, topics, PARTIALS)
    with Worker(config, topics, tmp_path, "--policy", str(path)) as worker:
        worker.wait_for("partitions rebuilt")
        run.wait_for_boundary(played.end_boundary)
        assert worker.stop() == 0
    counters = law_one(run, policy)
    assert counters["late"] == 0
    assert run.spans_count() == played.spans_count()
    same(run.decisions(played.end_boundary), played.expected(policy, partials=PARTIALS))
