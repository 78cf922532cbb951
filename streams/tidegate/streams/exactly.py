"""Faust, where it loses or repeats data, made exact. Every override says which loss it closes, and the
test that fails without it.

How evaluate is exact, in short: its memory is a function of the log from a snapshot's start offset on;
so what must be right is *from where* a partition is read (`ExactConsumer.seek_to_committed`), *what* was
read meanwhile (the snapshots' table must be whole: `ExactRecovery`), *that* every record is fed once
and in order (`evaluate.py` checks offsets), and *when* an offset is committed (`commit_exactly`, after
a delivered manifest). Nothing is acknowledged in Faust's sense: the positions it would commit are those
of records that a restart must read again.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import faust
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.tables.table import Table
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Producer,
    Transport,
    ensure_aiokafka_TP,
)
from faust.types import TP

from tidegate.streams.logs import get_logger

__all__ = [
    "ExactApp",
    "ExactConsumer",
    "ExactProducer",
    "ExactRecovery",
    "ExactTable",
    "ExactTableManager",
    "ExactTransport",
    "Starts",
]

FETCH_S = 0.1
"""Longest wait of a fetch: a rebalance waits for its end."""
FETCH_WAIT_MS = 20
BATCH_ENDS_S = 0.05
log = get_logger("evaluate")


class Starts(Protocol):
    """What says from where partitions must be read."""

    def start_offsets(self) -> Mapping[TP, int]:
        """By topic partition, for those that were rebuilt."""
        ...


class ExactRecovery(Recovery):
    """Rebuilding of the snapshots' tables at each assignment."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Closes *records skipped at a restart with a backlog* (faust issue 596): stock Faust lets the
        fetcher go on while the table's callbacks run and before partitions are sought to their start,
        so records go by unread. The flow is stopped until all of that is done; the last lines of the
        method resume it.

        Closes *an older snapshot taken for the newest*: `_wait` goes on silently when a step timed out,
        with end offsets of an earlier assignment, or none. A table that isn't whole is read again.

        Tests: tests/streams/test_exactly.py::test_nothing_is_fetched_while_memory_is_rebuilt,
        ::test_a_table_that_was_not_read_to_its_end_is_read_again."""
        self.app.consumer.stop_flow()
        if not self._is_whole():
            log.warning("a table of snapshots was not read to its end; reading again")
            await asyncio.sleep(0.5)
            self.signal_recovery_start.set()
            return
        await super().on_recovery_completed(generation_id)

    async def _seek_offsets(self, consumer: Any, tps: Any, offsets: Any, title: str) -> None:
        """See `ExactConsumer._getmany`: a fetch from before the rebalance ends first."""
        await consumer.end_fetch()
        await super()._seek_offsets(consumer, tps, offsets, title)

    def _is_whole(self) -> bool:
        """Whether every active partition's end is known and was reached."""
        if any(tp not in self.active_highwaters for tp in self.active_tps):
            return False
        return not self.need_recovery()


class ExactTable(Table):
    """A table of snapshots."""

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Closes *one table's records in another*: where an app has several, stock Faust's recovery gives a
        record of a partition that was just revoked to whichever table got the one before.

        Test: tests/streams/test_exactly.py::test_a_table_takes_its_own_changelog_only."""
        mine = self.changelog_topic_name
        super().apply_changelog_batch([event for event in batch if event.message.topic == mine])


class ExactTableManager(TableManager):
    """Uses ExactRecovery."""

    _exact: ExactRecovery | None = None

    @property
    def recovery(self) -> ExactRecovery:
        """The recovery service, made at the first use."""
        if self._exact is None:
            self._exact = ExactRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
            self._recovery = self._exact  # Faust's own methods look there
        return self._exact


class ExactConsumerThread(AIOKafkaConsumerThread):
    """Faust's thread around aiokafka's consumer."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        """No loss: shortens a fetch's wait, which Faust hard-codes to 1.5 s. librdkafka's mock cluster
        answers only when it is over."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - no public way
        return consumer

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Closes *a worker that dies of a refused commit*: stock Faust crashes it on any error but one.
        A commit that fails (no longer a member, coordinator away) costs nothing: the committed offset
        stays at the start of an older snapshot, and the next one commits anew.

        Test: tests/streams/test_exactly.py::test_a_refused_commit_costs_nothing."""
        mine = self.assignment()
        wanted = {
            ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in mine
        }
        try:
            await self._ensure_consumer().commit(wanted)
        except KafkaError as problem:
            log.info("a commit was refused; the next snapshot commits anew", problem=str(problem))
            return False
        return True


class ExactConsumer(Consumer):
    """Reads from where the snapshots say, commits what the snapshots say."""

    app: "ExactApp"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fetch_ended = asyncio.Event()
        self._fetch_ended.set()

    def _new_consumer_thread(self) -> ExactConsumerThread:
        return ExactConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109 - Faust calls it so
        """Closes *snapshots that are fetched and thrown away*: Faust empties the set of active partitions in
        the middle of a fetch, aiokafka takes an empty set for all partitions, and what comes back is
        dropped. Such a fetch, from before a rebalance, moved positions that recovery had sought: the
        worker waited for its snapshots for ever.

        Tests: tests/exactness/test_live_rebalances.py."""
        asked = None if active_partitions is None else set(active_partitions)
        self._fetch_ended.clear()
        try:
            return await super()._getmany(asked, min(timeout, FETCH_S))
        finally:
            self._fetch_ended.set()

    async def end_fetch(self) -> None:
        """Stops the flow and waits for a fetch under way: it would move positions after a seek."""
        self.stop_flow()
        await self._fetch_ended.wait()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Closes *a gap between what was restored and what is read*: the newest manifest may be newer
        than the committed offset (a kill between the two), or older (its successor was broken). Each
        partition is sought to the start of the snapshot that was really restored. Also called by Faust
        when a fetch returns into a stopped flow.

        Test: tests/streams/test_exactly.py::test_reading_begins_where_the_restored_snapshot_says."""
        assignment = self.assignment()
        wanted = {
            tp: offset for tp, offset in self.app.starts.start_offsets().items() if tp in assignment
        }
        if wanted:
            await self._thread.seek_wait(wanted)
        return wanted

    async def commit_exactly(self, tp: TP, offset: int) -> bool:
        """Commits the start offset of a snapshot whose manifest was delivered. False where it was
        refused.

        Closes *commits of what a restart must read again*, together with the agent's `noack`: Faust
        commits what was acknowledged, on a timer, at stops and at rebalances; nothing ever is.

        Test: tests/streams/test_exactly.py::test_only_starts_of_snapshots_are_committed."""
        if tp not in self.assignment():
            return False
        return bool(await self._commit({tp: offset}))

    async def committed_offset(self, tp: TP) -> int | None:
        """No loss: what was committed last, by whatever worker; None where nothing was."""
        consumer = self._thread._ensure_consumer()  # noqa: SLF001 - no public way
        found = await self._thread.call_thread(consumer.committed, ensure_aiokafka_TP(tp))
        return None if found is None else int(found)

    async def seek_back(self, tp: TP, offset: int) -> None:
        """Closes *records dropped as read already*: while Faust hands over a fetched batch it notes each
        record's offset, so after a plain `seek` in the middle of a batch it drops what comes again below
        that. The flow is stopped until the batch has ended.

        Test: tests/streams/test_exactly.py::
        test_reading_that_is_sent_back_in_the_middle_of_a_batch_goes_back."""
        self.stop_flow()
        try:
            await asyncio.sleep(BATCH_ENDS_S)
            await self.seek(tp, offset)
        finally:
            self.resume_flow()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """No loss: Faust's watchdog would warn that nothing is committed between snapshots."""


class ExactProducer(Producer):
    """Sends that arrive once."""

    def _settings_extra(self) -> Mapping[str, Any]:
        """Closes *records that arrive twice or out of order after a broker's death*: a retry of a
        producer that isn't idempotent may put an older decision after a newer one. And acks=all, or
        what was acknowledged dies with a leader.

        Test: tests/streams/test_exactly.py::test_the_producer_is_idempotent_and_waits_for_all_replicas."""
        return {"acks": "all", "enable_idempotence": True}


class ExactTransport(Transport):
    """Makes the classes above."""

    Consumer = ExactConsumer
    Producer = ExactProducer


class ExactApp(faust.App):
    """A Faust app whose losses are closed. `starts` is set before it is started.

    Its settings close two more: `agent_supervisor='mode.CrashingSupervisor'` closes *a partition that
    stands still in silence after an exception in an agent* (test:
    tests/streams/test_exactly.py::test_an_exception_in_the_agent_ends_the_worker);
    `stream_wait_empty=False` closes *a rebalance that waits for events nobody acknowledges*.
    """

    starts: Starts

    def raw_topic(self, name: str, *, partitions_count: int) -> Any:
        """A topic whose keys and values are bytes, as all of ours are."""
        return self.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=partitions_count,
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ended = asyncio.Event()
        """Set when the app has crashed."""
        super().__init__(*args, **kwargs)

    def _new_transport(self) -> ExactTransport:
        return ExactTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> ExactTransport:
        return ExactTransport(self.conf.broker_producer, self)

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        self.ended.set()
