"""Workers that come and go while operators can ask for things: whoever stays is rebuilt each time. An idle control
partition makes fetches that wait, which is where a rebalance once threw snapshots away (`ExactConsumer`).
"""

import asyncio
import threading
import time
from pathlib import Path

import pytest
from faust.types import TP

from tests.kafka import KafkaCluster
from tests.streams.evaluating import (
    PartialsWriter,
    Running,
    offline,
    published,
    running,
)
from tests.streams.live import make_topics
from tidegate.schemas.topics import Topics

PARTIALS = 3
ROUNDS = 14
REBUILT_S = 20.0


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
        async with running(config, topics, tmp_path, has_control=True) as one:
            await one.until(lambda: owned_count(one) == PARTIALS, within_s=60)
            writing.start()
            for number in range(ROUNDS):
                async with running(config, topics, tmp_path, has_control=True) as other:
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
        async with running(config, topics, tmp_path, has_control=True) as one:
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
