"""Workers that come and go while operators can ask for things: whoever stays is rebuilt each time. An idle control
partition makes fetches that wait, which is where a rebalance once threw snapshots away (`ExactConsumer`).
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from faust.types import TP

from tests.kafka import KafkaCluster
from tests.streams.evaluating import (
    POLICY,
    PartialsWriter,
    Running,
    offline,
    published,
)
from tests.streams.live import make_topics
from tidegate.schemas.topics import Topics
from tidegate.streams.app import build_app
from tidegate.streams.evaluate import Evaluation
from tidegate.streams.metrics import WorkerMetrics
from tidegate.streams.source_topics import SourceTopics
from tidegate.streams.worker_settings import EVALUATE, WorkerSettings

PARTIALS = 3
ROUNDS = 14
REBUILT_S = 20.0


@asynccontextmanager
async def joined(config: Mapping[str, str], topics: Topics, folder: Path) -> AsyncIterator[Running]:
    """An evaluate worker with a sequencer, until the end."""
    settings = WorkerSettings(
        kafka=config,
        topics=topics,
        roles=frozenset({EVALUATE}),
        session_timeout_ms=6_000,
        heartbeat_ms=1_000,
    )
    names = [
        topics.partials,
        topics.decisions,
        topics.health,
        topics.snapshots_changelog,
        topics.alerts,
        topics.shadow,
        topics.control,
    ]
    facts = await asyncio.to_thread(SourceTopics({**config, "log_level": 0}).facts, names)
    metrics = WorkerMetrics()
    app = build_app(settings, POLICY, metrics, facts, data_dir=str(folder))
    evaluation = app.starts.stages[0]  # type: ignore[attr-defined]  # watched from outside
    assert isinstance(evaluation, Evaluation)
    app.finalize()
    await app.start()
    try:
        yield Running(app, evaluation, metrics)
    finally:
        await app.stop()


def owned_count(one: Running) -> int:
    """Partitions whose memory is rebuilt."""
    return sum(one.owned(partition) is not None for partition in range(PARTIALS))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_worker_is_rebuilt_each_time_another_comes_or_goes(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=1, partials=PARTIALS)
    writer = PartialsWriter(config, topics, partitions=PARTIALS)
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            writer.write(1.0)
            time.sleep(0.1)

    async def run() -> None:
        writing = threading.Thread(target=write, daemon=True)
        async with joined(config, topics, tmp_path) as one:
            await one.until(lambda: owned_count(one) == PARTIALS, within_s=60)
            writing.start()
            for number in range(ROUNDS):
                async with joined(config, topics, tmp_path) as other:
                    await other.until(lambda: 0 < owned_count(one) < PARTIALS, within_s=REBUILT_S)
                    await other.until(
                        lambda other=other: owned_count(other) > 0,  # type: ignore[misc]  # its own default
                        within_s=REBUILT_S,
                    )
                    # At another moment of its work each time.
                    await asyncio.sleep(number % 7 * 0.15)
                await one.until(lambda: owned_count(one) == PARTIALS, within_s=REBUILT_S)
            ended.set()
            await asyncio.to_thread(writing.join, 30)
            await one.read_to_the_end(config, topics.partials)

    try:
        asyncio.run(run())
    finally:
        ended.set()
    assert published(config, topics) == offline(config, topics, partitions=PARTIALS)


def test_a_fetch_that_waits_takes_nothing_of_partitions_it_was_not_asked_for(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    """Faust empties the set of partitions in the middle of a fetch, and aiokafka takes an empty set for all:
    what it then gave back was dropped, and never read again."""
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=1, partials=PARTIALS)
    writer = PartialsWriter(config, topics, partitions=PARTIALS)

    async def run() -> None:
        async with joined(config, topics, tmp_path) as one:
            await one.until(lambda: owned_count(one) == PARTIALS, within_s=60)
            consumer = one.app.consumer
            consumer.pause_partitions(TP(topics.partials, p) for p in range(PARTIALS))
            await asyncio.sleep(1.2)  # Faust's own fetch of them has ended
            wanted = {TP(topics.control, 0)}
            for _ in range(20):  # however short a fetch waits, one is under way
                fetch = asyncio.create_task(consumer._getmany(set_of := set(wanted), 1.0))
                await asyncio.sleep(0.02)
                set_of.clear()
                await asyncio.to_thread(writer.write, 0.5)
                assert not await fetch

    asyncio.run(run())
