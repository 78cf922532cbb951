"""The share of the spans topic that the group has given to this worker: its consumer, owner epochs,
committed offsets, and how far each partition was read.

The group's callbacks run inside librdkafka's poll, that is inside `fetch` and `close`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidegate.streams.commit_note import CommitNote, Committed, Plan, plan_start
from tidegate.streams.in_step import Batch, InStep
from tidegate.streams.logs import get_logger
from tidegate.streams.source_topics import (
    BrokerAwayError,
    SourceTopics,
    TopicFacts,
    TopicMissingError,
)
from tidegate.streams.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from tidegate.streams.metrics import WorkerMetrics

__all__ = ["SessionEndedError", "SourceShare"]

COMMITTED_S = 10.0
# The library's own codes: public, for all their underscores.
_END = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
_OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - its public name
_AWAY = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)  # noqa: SLF001 - its public name

log = get_logger("ingest")


class SessionEndedError(Exception):
    """The end of a life of ingest; the text says why."""


class SourceShare:
    """`drain` is called before partitions go, to send and commit what was read; `forget` after."""

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: "WorkerMetrics",
        topics: SourceTopics,
        facts: TopicFacts,
        *,
        drain: Callable[[], None],
        forget: Callable[[], None],
    ) -> None:
        self._metrics, self._topics = metrics, topics
        self._drain, self._forget = drain, forget
        self.topic = settings.topics.otlp_spans
        self.facts = facts
        self.step: InStep[Message] = InStep()
        self.epochs: dict[int, int] = {}
        """Owner epoch of each partition that is owned."""
        self.committed: dict[int, int] = {}
        self.source_id = ""
        """The topic's name in blocks."""
        self.is_assigned = False
        """Whether the group has given this worker its share (which may be nothing)."""
        self._incarnation = 0
        self._paused: set[int] = set()
        self._is_fresh = False
        self._failure: BaseException | None = None
        self._consumer = Consumer(_consumer_config(settings, self._on_commit))

    def subscribe(self) -> None:
        """Joins the group."""
        self._consumer.subscribe(
            [self.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def close(self) -> None:
        """Leaves the group: what was read is drained, unless the life has failed."""
        self._consumer.close()

    def fail(self, problem: BaseException) -> None:
        """From now on nothing is sent or committed."""
        self._failure = self._failure or problem

    def fetch(self, records_max: int, wait_s: float, *, is_full: bool) -> Batch[Message]:
        """The records that may be taken now. Raises SessionEndedError, or what a callback raised."""
        self._hold_back(is_full=is_full)
        try:
            messages = self._consumer.consume(records_max, timeout=wait_s)
        except KafkaException as problem:
            raise SessionEndedError(f"{self.topic}: {problem.args[0].str()}") from problem
        if self._failure is not None:
            raise self._failure
        if self._is_fresh:
            # The group changed inside this call: what it returned may be of the assignment before,
            # and not begin where this one must.
            self._is_fresh = False
            if messages:
                self._assign_at({p: r.read_to for p, r in self.step.readings.items()})
            return Batch()
        ends: list[tuple[int, int]] = []
        # Comprehensions: at 1.7 spans a record this is a tenth of all that ingest costs.
        odd = [m for m in messages if m.error() is not None]
        for message in odd:
            self._heed(message, ends)
        if odd or not {m.partition() for m in messages} <= self.epochs.keys():
            messages = [m for m in messages if m.error() is None and m.partition() in self.epochs]
        if not messages and not ends and not self.step.held_partitions():
            return Batch()
        batch: Batch[Message] = Batch(
            [m.partition() for m in messages],  # type: ignore[misc]  # None is for messages to send
            [m.offset() for m in messages],  # type: ignore[misc]  # no error, so it has one
            [m.timestamp()[1] for m in messages],
            messages,
        )
        return self.step.take(batch, ends, int(time.time() * 1000))

    def behind(self, ends: Mapping[int, int]) -> list[int]:
        """Partitions that were not read to these ends."""
        readings = self.step.readings
        return [p for p, end in ends.items() if p in readings and readings[p].read_to < end]

    def check_ends(self, ends: Mapping[int, int]) -> None:
        """Before more is read: what was read when they were asked for can't lie beyond them. Raises
        SessionEndedError for a topic that was made anew."""
        for partition, end in ends.items():
            reading = self.step.readings.get(partition)
            if reading is not None and reading.read_to > end:
                raise SessionEndedError(f"{self.topic}[{partition}]: has shrunk")

    def commit(self, upto: Mapping[int, tuple[int, int]], *, is_waited_for: bool = False) -> None:
        """Commits (offset, Kafka time) of the partitions that are still owned. One that fails is made
        good by the next, or the partitions are lost anyway."""
        offsets = [
            self._place(partition, offset, time_ms)
            for partition, (offset, time_ms) in upto.items()
            if partition in self.epochs and offset != self.committed[partition]
        ]
        if not offsets:
            return
        try:
            if is_waited_for:
                self._on_commit(None, self._consumer.commit(offsets=offsets, asynchronous=False))
            else:
                self._consumer.commit(offsets=offsets)
        except KafkaException as problem:
            log.info("a commit was refused", problem=problem.args[0].str())

    # ---- inside ----

    def _hold_back(self, *, is_full: bool) -> None:
        """Stops fetching what could not be taken: partitions ahead of others, all when memory is full."""
        wanted = set(self.epochs if is_full else self.step.held_partitions())
        if wanted == self._paused:
            return
        if more := wanted - self._paused:
            self._consumer.pause([TopicPartition(self.topic, p) for p in more])
        if fewer := (self._paused - wanted) & set(self.epochs):
            self._consumer.resume([TopicPartition(self.topic, p) for p in fewer])
        self._paused = wanted

    def _heed(self, message: Message, ends: list[tuple[int, int]]) -> None:
        error, partition = message.error(), message.partition()
        assert error is not None
        code = error.code()
        if code == _END:
            if partition in self.epochs:
                ends.append((partition or 0, message.offset() or 0))
        elif code in _OUT_OF_RANGE:
            raise SessionEndedError(f"{self.topic}: {error.str()}; reading anew")
        elif error.fatal():
            raise SessionEndedError(f"{self.topic}: {error.str()}")
        elif not error.retriable() and code not in _AWAY:
            log.warning("the consumer reports a problem", problem=error.str())

    def _place(self, partition: int, offset: int, time_ms: int) -> TopicPartition:
        note = CommitNote(
            epoch=self.epochs[partition],
            topic_id=self.facts.topic_id,
            incarnation=self._incarnation,
            read_ms=time_ms,
        )
        return TopicPartition(self.topic, partition, offset, metadata=note.text())

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        with self._guarded():
            self._assign(sorted(tp.partition for tp in partitions))

    def _assign(self, assigned: list[int]) -> None:
        self.is_assigned = True
        facts = self._topics.facts([self.topic])[self.topic]
        if facts.topic_id != self.facts.topic_id:
            raise SessionEndedError(f"{self.topic}: was made anew")
        self.facts = facts
        committed = self._all_committed()
        spans = self._topics.spans(self.topic, facts.partitions_count)
        plan = plan_start(self.topic, facts.topic_id, committed, spans, assigned)
        if plan.expired:
            self._metrics.expired.inc(plan.expired)
            log.error(
                "records were removed by retention before they were read",
                topic=self.topic,
                records=plan.expired,
            )
        self.source_id, self._incarnation = plan.source_id, plan.incarnation
        self._own(assigned, committed, plan)
        self._assign_at(plan.start)
        self._is_fresh = True
        log.info(
            "partitions assigned", topic=self.topic, partitions=assigned, source=plan.source_id
        )

    def _own(self, assigned: list[int], committed: dict[int, Committed], plan: Plan) -> None:
        """Takes a new epoch for each partition and commits it beside the same offset."""
        # The clock as a floor: offsets that were reset or have expired must not bring old epochs back.
        clock = int(time.time())
        for partition in assigned:
            before = committed.get(partition)
            note = before.note if before is not None else CommitNote(epoch=0)
            is_same = before is not None and plan.start[partition] == before.offset
            self.epochs[partition] = max(note.epoch + 1, clock)
            self.committed[partition] = plan.start[partition]
            time_ms = note.read_ms if is_same and note.read_ms else None
            self.step.assign(partition, plan.start[partition], time_ms)
        if assigned:
            places = [
                self._place(p, plan.start[p], self.step.readings[p].time_ms or 0) for p in assigned
            ]
            self._check(self._consumer.commit(offsets=places, asynchronous=False) or [])

    def _all_committed(self) -> dict[int, Committed]:
        """Of every partition of the topic, ours or not: an incarnation belongs to the topic."""
        every = [TopicPartition(self.topic, p) for p in range(self.facts.partitions_count)]
        found = self._consumer.committed(every, timeout=COMMITTED_S)
        self._check(found)
        return {
            tp.partition: Committed(offset=tp.offset, note=CommitNote.read(tp.metadata))
            for tp in found
            if tp.offset >= 0
        }

    def _check(self, places: list[TopicPartition]) -> None:
        for tp in places:
            if tp.error is not None:
                raise SessionEndedError(f"{self.topic}[{tp.partition}]: {tp.error.str()}")

    def _assign_at(self, start: Mapping[int, int]) -> None:
        places = [TopicPartition(self.topic, p, offset) for p, offset in sorted(start.items())]
        self._consumer.assign(places)
        if places:
            self._consumer.resume(places)
        self._paused = set()

    def _on_revoke(self, *_: object) -> None:
        """Sends and commits what was taken, so that the next owner need not read it again."""
        try:
            if self._failure is None and self.epochs:
                with self._guarded():
                    self._drain()
                    log.info("partitions revoked", partitions=sorted(self.epochs))
        finally:
            self._disown()

    def _on_lost(self, *_: object) -> None:
        """Others own them already: nothing is sent or committed any more. Blocks under way are known to
        evaluate by their offsets, and watermarks by their old epoch."""
        log.warning("partitions lost to other workers", partitions=sorted(self.epochs))
        self._disown()

    def _disown(self) -> None:
        for partition in self.epochs:
            with contextlib.suppress(KeyError):  # none was set yet
                self._metrics.lag.remove(self.topic, str(partition))
                self._metrics.source_delay_s.remove(self.topic, str(partition))
        self.epochs, self.committed, self._paused = {}, {}, set()
        self.step.clear()
        self._forget()

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None:
            return
        for tp in partitions:
            if tp.error is None and tp.partition in self.committed:
                self.committed[tp.partition] = max(self.committed[tp.partition], tp.offset)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """What a callback raises is kept for `fetch` to raise."""
        try:
            yield
        except (BrokerAwayError, TopicMissingError, SessionEndedError) as problem:
            self.fail(SessionEndedError(str(problem)))
        except KafkaException as problem:
            self.fail(SessionEndedError(problem.args[0].str()))
        except Exception as problem:  # noqa: BLE001 - raised again by `fetch`
            self.fail(problem)


def _consumer_config(
    settings: WorkerSettings,
    on_commit: Callable[[KafkaError | None, list[TopicPartition]], None],
) -> dict[str, Any]:
    return {
        **settings.kafka,
        "group.id": settings.topics.ingest_group,
        "client.id": "tidegate-ingest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        # Eager: at a rebalance everything is flushed and committed, and begins anew. Cooperative would
        # spare the partitions that stay, and make two owners' states live side by side.
        "partition.assignment.strategy": "range",
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": settings.heartbeat_ms,
        "max.poll.interval.ms": max(300_000, settings.session_timeout_ms),
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
        # The default, 1 s, starves a reader that empties a full queue in a tenth of that.
        "fetch.queue.backoff.ms": 5,
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 16_384,
        "message.max.bytes": 64 * 1_048_576,
        "receive.message.max.bytes": 128 * 1_048_576,
        "topic.metadata.refresh.interval.ms": 10_000,
        "reconnect.backoff.max.ms": 1_000,
        "on_commit": on_commit,
        "error_cb": lambda _: None,  # what matters shows in answers and messages
        "log_level": 0,
    }
