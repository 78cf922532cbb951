"""Every override of `streams/exactly.py`, and the two checks of `streams/evaluate.py` beside them: what
goes wrong without it.
"""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import CommitFailedError, RequestTimedOutError
from confluent_kafka import Producer
from faust.types import TP

from tests.kafka import KafkaCluster
from tests.streams.evaluating import (
    PartialsWriter,
    Running,
    committed,
    manifests,
    offline,
    published,
    running,
)
from tests.streams.live import Worker, make_topics
from tidegate.schemas.topics import Topics
from tidegate.streams.exactly import ExactApp
from tidegate.streams.snapshot_table import manifest_key

PARTITIONS = 2


class Log:
    """Topics of one test, and a writer of partials."""

    def __init__(self, cluster: KafkaCluster, prefix: str, folder: Path) -> None:
        self.config, self.topics = cluster.client_config(), Topics(prefix=prefix)
        self.folder = folder
        make_topics(self.config, self.topics, spans=1, partials=PARTITIONS)
        self.writer = PartialsWriter(self.config, self.topics, partitions=PARTITIONS)

    async def run(self, *, before: Any = lambda _: None) -> dict[int, int]:
        """A worker reads what there is. Returns from where it read each partition."""
        async with running(self.config, self.topics, self.folder, before=before) as worker:
            await worker.read_to_the_end(self.config, self.topics.partials)
            assert all(worker.owned(p).gap is None for p in range(PARTITIONS))
            return {tp.partition: at for tp, at in worker.evaluation.start_offsets().items()}

    def check(self) -> None:
        """Nothing is missing, nothing differs."""
        assert published(self.config, self.topics) == offline(
            self.config, self.topics, partitions=PARTITIONS
        )

    def manifests(self, partition: int = 0) -> list[Any]:
        return manifests(self.config, self.topics, partition)


@pytest.fixture
def log(kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path) -> Log:
    return Log(kafka_cluster, topic_prefix, tmp_path)


def test_nothing_is_fetched_while_memory_is_rebuilt(log: Log) -> None:
    flows: list[tuple[str, bool]] = []

    def watch(app: ExactApp) -> None:
        rebuild, seek = app.starts.stages[0]._rebuild, None  # type: ignore[attr-defined]  # watched from outside

        async def watched() -> None:
            nonlocal seek
            await rebuild()
            await asyncio.sleep(0.3)  # as long as a large partition takes
            flows.append(("rebuilt", app.consumer.flow_active))
            seek = app.consumer.seek_to_committed

            async def sought() -> Any:
                assert seek is not None
                found = await seek()
                flows.append(("sought", app.consumer.flow_active))
                return found

            app.consumer.seek_to_committed = sought

        app.starts.stages[0]._rebuild = watched  # type: ignore[attr-defined]  # watched from outside

    log.writer.write(25)
    asyncio.run(log.run())
    log.writer.write(10)
    asyncio.run(log.run(before=watch))
    assert ("rebuilt", False) in flows
    assert ("sought", False) in flows
    assert not any(is_active for _, is_active in flows)
    log.check()


def test_a_table_that_was_not_read_to_its_end_is_read_again(log: Log) -> None:
    """Faust's steps of a recovery time out in silence; here the first one does."""
    log.writer.write(60)
    asyncio.run(log.run())
    newest = log.manifests()[0]
    skipped: list[Any] = []

    def break_once(app: ExactApp) -> None:
        recovery = app.tables.recovery
        build = recovery._build_highwaters

        async def broken(*arguments: Any) -> None:
            if skipped:
                await build(*arguments)
            skipped.append(arguments)

        recovery._build_highwaters = broken

    starts = asyncio.run(log.run(before=break_once))
    assert skipped
    assert starts[0] == newest.start_offset > 0
    log.check()


def test_a_table_takes_its_own_changelog_only(log: Log) -> None:
    """Faust's recovery gives a record of a partition that it no longer has to the table before."""

    async def run() -> None:
        async with running(log.config, log.topics, log.folder, has_graph=True) as worker:
            await worker.until(lambda: worker.graph is not None and worker.graph.is_owner)
            mine, others = log.topics.snapshots_changelog, log.topics.graph_snapshots_changelog
            events = [
                SimpleNamespace(
                    key=f"{number}/1/manifest".encode(),
                    value=b"x",
                    message=SimpleNamespace(topic=topic, partition=0, value=b"x"),
                )
                for number, topic in enumerate((mine, others))
            ]
            table = worker.app.tables[log.topics.snapshots_table]
            table.apply_changelog_batch(events)
            assert list(table.data) == [b"0/1/manifest"]

    asyncio.run(run())


def test_reading_begins_where_the_restored_snapshot_says(log: Log) -> None:
    """Its newest manifest is gone, so the one before counts: older than the committed offset."""
    log.writer.write(90)
    asyncio.run(log.run())
    newest, older = log.manifests()
    other = log.manifests(1)[0]
    assert committed(log.config, log.topics, 0) == newest.start_offset > older.start_offset
    producer = Producer(log.config)
    producer.produce(
        log.topics.snapshots_changelog, None, manifest_key(0, newest.boundary), partition=0
    )
    assert producer.flush(20) == 0
    log.writer.write(5)
    starts = asyncio.run(log.run())
    assert starts[0] == older.start_offset
    assert starts[1] == other.start_offset
    log.check()


def test_only_starts_of_snapshots_are_committed(log: Log) -> None:
    async def run() -> None:
        async with running(log.config, log.topics, log.folder) as worker:
            log.writer.write(8)
            await worker.read_to_the_end(log.config, log.topics.partials)
            await asyncio.sleep(4)  # longer than Faust's commit interval
            # None, or of a snapshot whose window begins with the log; 16 records were processed.
            assert committed(log.config, log.topics, 0) <= 0
            log.writer.write(70)
            await worker.read_to_the_end(log.config, log.topics.partials)
            await asyncio.sleep(4)
            assert committed(log.config, log.topics, 0) == log.manifests()[0].start_offset > 0

    asyncio.run(run())
    assert committed(log.config, log.topics, 0) == log.manifests()[0].start_offset
    assert len(log.manifests()) == 2
    log.check()


def test_a_refused_commit_costs_nothing(log: Log) -> None:
    async def run() -> None:
        async with running(log.config, log.topics, log.folder) as worker:
            inner = worker.app.consumer._thread._consumer
            refusals = 0

            async def refused(*_: Any) -> None:
                nonlocal refusals
                refusals += 1
                raise RequestTimedOutError if refusals % 2 else CommitFailedError("not a member")

            inner.commit = refused
            log.writer.write(60)
            await worker.read_to_the_end(log.config, log.topics.partials)
            assert refusals >= 2
            del inner.commit
            log.writer.write(15)
            await worker.read_to_the_end(log.config, log.topics.partials)
            tp = TP(log.topics.partials, 0)
            assert tp in worker.app.consumer.assignment()

    asyncio.run(run())
    assert committed(log.config, log.topics, 0) == log.manifests()[0].start_offset
    log.check()


def test_the_producer_is_idempotent_and_waits_for_all_replicas(log: Log) -> None:
    async def run() -> None:
        async with running(log.config, log.topics, log.folder) as worker:
            producer = worker.app.producer._producer
            assert producer._sender._acks == -1
            assert producer._txn_manager is not None
            assert producer._txn_manager.transactional_id is None

    asyncio.run(run())


def test_an_exception_in_the_agent_ends_the_worker(log: Log) -> None:
    log.writer.write(3, partitions_count=PARTITIONS + 1)
    with Worker(log.config, log.topics, log.folder, "--role", "evaluate") as worker:
        assert worker.process.wait(40) == 1
        assert "tidegate: tidegate.partials: a record says 3 partitions" in worker.log


def test_records_that_are_skipped_are_read_again(log: Log) -> None:
    async def run() -> None:
        async with running(log.config, log.topics, log.folder) as worker:
            log.writer.write(5)
            await worker.read_to_the_end(log.config, log.topics.partials)
            at = worker.owned(0).expected
            await worker.app.consumer.seek(TP(log.topics.partials, 0), at + 4)
            log.writer.write(5)
            await worker.read_to_the_end(log.config, log.topics.partials)
            assert worker.owned(0).gap.at == at

    asyncio.run(run())
    log.check()


def test_reading_that_is_sent_back_in_the_middle_of_a_batch_goes_back(log: Log) -> None:
    handed: list[int] = []

    def slow_down(app: ExactApp) -> None:
        callback = app.consumer.callback

        async def slow(message: Any) -> None:
            if message.topic == log.topics.partials and message.partition == 0:
                handed.append(message.offset)
            await callback(message)
            await asyncio.sleep(0.01)

        app.consumer.callback = slow

    async def run() -> None:
        log.writer.write(30)
        async with running(log.config, log.topics, log.folder, before=slow_down) as worker:
            await worker.until(lambda: len(handed) > 10)
            before = len(handed)
            await worker.app.consumer.seek_back(TP(log.topics.partials, 0), 2)
            await worker.until(lambda: len(handed) > before + 10)
            at = handed.index(2, before)
            assert at - before < 10
            assert handed[at : at + 5] == [2, 3, 4, 5, 6]

    asyncio.run(run())


def test_every_assignment_discards_and_rebuilds_the_memory(log: Log) -> None:
    async def run() -> None:
        async with running(log.config, log.topics, log.folder) as first:
            log.writer.write(60)
            await first.read_to_the_end(log.config, log.topics.partials)
            before = [first.owned(p) for p in range(PARTITIONS)]
            other: Running
            async with running(log.config, log.topics, log.folder) as other:
                await first.until(
                    lambda: count(first) + count(other) == PARTITIONS == 2 * count(first)
                )
                kept = [p for p in range(PARTITIONS) if first.owned(p)]
                assert first.owned(kept[0]) is not before[kept[0]]
                log.writer.write(5)
                await asyncio.sleep(1)
            await first.until(lambda: count(first) == PARTITIONS)
            await first.read_to_the_end(log.config, log.topics.partials)
            assert not set(map(id, before)) & {id(first.owned(p)) for p in range(PARTITIONS)}

    def count(worker: Running) -> int:
        return sum(worker.owned(p) is not None for p in range(PARTITIONS))

    asyncio.run(run())
    log.check()
