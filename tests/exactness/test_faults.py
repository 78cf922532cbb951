"""What a broker does to workers: topics that are missing, a broker that goes away for 20 s, a quota on
writes. They wait, say so once, go on, and lose nothing.
"""

import time
from pathlib import Path

import pytest

from tests.conftest import KafkaFactory
from tests.exactness.live_golden import Run, law_one
from tests.streams.live import Traffic, Worker, make_topics
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.topics import Topics

PARTIALS = 2


@pytest.mark.timeout(240)
def test_missing_topics_an_absent_broker_and_a_quota_lose_nothing(
    kafka_factory: KafkaFactory, tmp_path: Path
) -> None:
    cluster = kafka_factory()
    config, topics = cluster.client_config(), Topics(prefix="faults.")
    run = Run(config, topics, PARTIALS)
    with Worker(config, topics, tmp_path, name="waits") as worker:
        worker.wait_for("missing topics")
        time.sleep(4)
        assert worker.log.count("missing topics") == 1
        make_topics(config, topics, spans=4, partials=PARTIALS)
        worker.wait_for("partitions rebuilt")
        traffic = Traffic(config, topics.otlp_spans)
        traffic.run(6, per_s=50)

        cluster.kill()
        time.sleep(20)
        cluster.start()
        before = worker.log.count("does not answer")
        traffic.run(6, per_s=50)

        cluster.throttle_producers(30_000)
        traffic.run(8, per_s=50, error_ratio=0.9)
        cluster.throttle_producers(None)
        traffic.run(2, per_s=50)
        run.wait_for_boundary(int(time.time() * 2))
        assert worker.process.poll() is None
        assert 1 <= before <= 2, worker.log  # of ingest, and of evaluate
        assert worker.stop() == 0
    counters = law_one(run, builtin_policy("default"))
    produced = traffic.produced.total()
    assert run.spans_count() == produced
    # What was held back for more than the window is late, and counted.
    assert counters["requests"] + counters["late"] >= produced
