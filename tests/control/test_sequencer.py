"""The sequencer on a real broker: every log gets the same entries, whatever dies when."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.control.asked import abort, bad_push, clear, latch, override, promote, push, silence
from tests.control.sequencing import ask_all, break_after, entries_of, entries_of_health, sequencing
from tests.kafka import KafkaCluster
from tests.streams.live import Worker, log_of, make_topics, until
from tidegate.rules.policy import policy_from_content
from tidegate.schemas.control import ControlRecord, PolicyPush, decode_control
from tidegate.schemas.topics import Topics
from tidegate.streams.exactly import ExactApp
from tidegate.streams.sequencer import Sequencer

PARTITIONS = 3
LOGS = PARTITIONS + 1
BOUNDARY_MS = 500


class Installation:
    """Topics of one test."""

    def __init__(self, cluster: KafkaCluster, prefix: str, folder: Path) -> None:
        self.config, self.topics, self.folder = (
            cluster.client_config(),
            Topics(prefix=prefix),
            folder,
        )
        make_topics(self.config, self.topics, spans=1, partials=PARTITIONS)

    def ask(self, *records: ControlRecord | bytes) -> None:
        ask_all(self.config, self.topics, *records)

    def seqs(self) -> list[list[int]]:
        """Offsets of the entries in each log: partitions of partials, then health."""
        found = entries_of(self.config, self.topics)
        logs = [found.get(p, []) for p in range(PARTITIONS)]
        logs.append(entries_of_health(self.config, self.topics))
        return [[entry.seq for entry in log] for log in logs]

    def has(self, *seqs: int) -> bool:
        return self.seqs() == [list(seqs)] * LOGS


@pytest.fixture
def installation(kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path) -> Installation:
    return Installation(kafka_cluster, topic_prefix, tmp_path)


def now(record: ControlRecord, **fields: int) -> ControlRecord:
    """As asked now: the broker stamps real time here."""
    at_ms = int(time.time() * 1000)
    return msgspec.structs.replace(
        record, asked_ms=at_ms, **{name: at_ms + ms for name, ms in fields.items()}
    )


def test_a_record_reaches_every_partition_with_its_boundary_and_its_policy(
    installation: Installation,
) -> None:
    async def run() -> None:
        async with sequencing(*place(installation)) as worker:
            installation.ask(push("shop"))
            await worker.until(lambda: installation.has(0))
            installation.ask(now(override(), until_ms=60_000), now(clear()))
            await worker.until(lambda: installation.has(0, 1, 2))
            assert worker.counted("records", kind="policy") == 1

    asyncio.run(run())
    found = entries_of(installation.config, installation.topics)
    assert found[0] == found[1] == found[2]
    assert entries_of_health(installation.config, installation.topics) == found[0]
    asked = log_of(installation.config, installation.topics.control)
    for entry, record in zip(found[0], asked, strict=True):
        assert entry.seq == record.offset
        assert entry.effective_boundary == -(-(record.append_ms + 2_000) // BOUNDARY_MS)
        assert entry.topic_id not in ("", installation.topics.control)
    first = decode_control(found[0][0].record)
    assert isinstance(first, PolicyPush)
    assert first.text == ""
    assert policy_from_content(found[0][0].policy).label.startswith("shop@")


def place(installation: Installation) -> tuple[dict[str, str], Topics, Path]:
    return installation.config, installation.topics, installation.folder


@pytest.mark.parametrize("sends", [0, 1, 3, 5, 7, 9])
def test_a_sequencer_that_dies_between_two_partitions_leaves_nothing_that_its_successor_does_not_mend(
    installation: Installation, sends: int
) -> None:
    """None of the records supersedes another, so each partition must end with all of them."""
    installation.ask(push("shop"), now(override(), until_ms=60_000))

    async def run() -> None:
        topics = installation.topics
        before = break_after(sends, topics.partials, topics.health)
        async with sequencing(*place(installation), before=before) as worker:
            if sends >= LOGS:  # it dies at a record that comes while it lives
                await worker.until(lambda: installation.has(0, 1))
            installation.ask(now(override("edge:a->b"), until_ms=60_000), latch())
            await asyncio.wait_for(worker.app.ended.wait(), 60)
        async with sequencing(*place(installation)) as worker:
            installation.ask(now(silence(), from_ms=0, until_ms=60_000))
            await worker.until(lambda: installation.has(0, 1, 2, 3, 4))

    asyncio.run(run())
    found = entries_of(installation.config, installation.topics)
    assert found[0] == found[1] == found[2]
    assert entries_of_health(installation.config, installation.topics) == found[0]


def test_a_bad_policy_is_refused_with_all_that_is_wrong_and_the_last_good_one_stays(
    installation: Installation, capfd: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with sequencing(*place(installation)) as worker:
            installation.ask(push("good"))
            await worker.until(lambda: installation.has(0))
            installation.ask(
                bad_push(),
                b'{"kind": "party"}',
                now(override("nothing"), until_ms=60_000),
                now(override(), until_ms=60_000),
            )
            await worker.until(lambda: installation.has(0, 4))
            assert worker.counted("rejected") == 2
            assert worker.counted("undecodable") == 1

    asyncio.run(run())
    entries = entries_of(installation.config, installation.topics)[0]
    assert [policy_from_content(e.policy).label.partition("@")[0] for e in entries if e.policy] == [
        "good"
    ]
    (dead,) = log_of(installation.config, installation.topics.dlq)
    assert dead.value == b'{"kind": "party"}'
    said = "".join(capfd.readouterr())
    assert "settings.mood" in said
    assert "settings.mode" in said
    assert "scope 'nothing' is none" in said


def test_superseded_history_is_not_sent_again_and_what_matters_of_it_is(
    installation: Installation,
) -> None:
    installation.ask(
        *(push(f"p{i}") for i in range(30)),
        push("tried", "grey"),
        promote(),
        push("other", "shadow"),
        abort(),
        bad_push(),
        latch(),
    )

    async def run() -> None:
        async with sequencing(*place(installation)) as worker:
            await worker.until(lambda: installation.has(30, 31, 33, 35))
            assert worker.counted("records", kind="policy") == 1

    asyncio.run(run())
    records = log_of(installation.config, installation.topics.partials)
    assert len(records) == PARTITIONS


def test_records_are_sent_once_while_a_worker_lives_and_again_when_it_starts_anew(
    installation: Installation,
) -> None:
    async def run(asked: int) -> None:
        async with sequencing(*place(installation)) as worker:
            await worker.until(lambda: installation.has(*range(asked)))
            installation.ask(now(override(f"service:s{asked}"), until_ms=60_000))
            await worker.until(lambda: installation.has(*range(asked + 1)))

    for asked in range(3):
        asyncio.run(run(asked))
    records = log_of(installation.config, installation.topics.partials)
    assert len(records) == PARTITIONS * (1 + 2 + 2)  # each start sends its history as one record


def test_an_empty_control_topic_sends_nothing(installation: Installation) -> None:
    async def run() -> None:
        async with sequencing(*place(installation)) as worker:
            await asyncio.sleep(3)
            assert not worker.app.ended.is_set()

    asyncio.run(run())
    assert installation.seqs() == [[]] * LOGS


@pytest.mark.parametrize("lost", [0, 1])
def test_records_that_were_skipped_are_read_again_from_the_beginning(
    installation: Installation, lost: int
) -> None:
    """Faust loses records around rebalances; here it loses one for once."""
    skipped: list[int] = []

    def lose_once(app: ExactApp) -> None:
        sequencer = next(s for s in app.starts.stages if isinstance(s, Sequencer))  # type: ignore[attr-defined]  # looked into from outside
        take = sequencer._take

        async def losing(message: Any) -> None:
            if message.offset == lost and not skipped:
                skipped.append(message.offset)
                return
            await take(message)

        sequencer._take = losing  # type: ignore[method-assign]  # broken from outside

    async def run() -> None:
        async with sequencing(*place(installation), before=lose_once) as worker:
            installation.ask(*(now(override(f"service:s{i}"), until_ms=60_000) for i in range(3)))
            await worker.until(lambda: installation.has(0, 1, 2))

    asyncio.run(run())
    assert skipped == [lost]


def test_workers_that_come_and_go_leave_every_partition_with_all_entries(
    installation: Installation,
) -> None:
    """The control partition moves with each rebalance, or comes back to who had it."""
    config, topics, folder = place(installation)

    def ask_next(count: int) -> None:
        installation.ask(now(override(f"service:s{count}"), until_ms=60_000))
        until(lambda: installation.has(*range(count + 1)), what=f"entry {count}")

    role = ("--role", "evaluate")
    with Worker(config, topics, folder, *role, name="first") as first:
        first.wait_for("worker started")
        ask_next(0)
        with Worker(config, topics, folder, *role, name="second") as second:
            second.wait_for("partitions rebuilt")
            ask_next(1)
            assert second.stop() == 0
        first.wait_for("partitions rebuilt", times=3)
        ask_next(2)
        with Worker(config, topics, folder, *role, name="third") as third:
            third.wait_for("partitions rebuilt")
            first.kill()
            ask_next(3)
    found = entries_of(config, topics)
    assert found[0] == found[1] == found[2]
