"""One life of ingest: from joining the group to a stop, or to the first thing that makes it unsafe to go
on. The next life begins from what was committed, with a new owner epoch, so nothing is lost, and
evaluate recognises what it sees twice.

One thread runs all of it. What must hold:
* a source record's offset is committed only after all its blocks, or its dead letter, were delivered;
* a watermark is sent only in a flush that follows a delivered one, and says only what the broker
  confirmed after the last record was read;
* after a failed delivery no watermark is sent any more (the life ends).
"""

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidegate.rules.fold import fold
from tidegate.rules.packing import Packer, SourceMark
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.otlp import decode
from tidegate.schemas.partials import Source
from tidegate.streams.commit_note import Committed, CommitNote, plan_start
from tidegate.streams.delivery import Delivery, Flight
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

__all__ = ["IngestSession", "SessionEndedError"]

POLL_S = 0.05
BUSY_S = 0.005
AWAY_RETRY_MS = 250
CATCH_UP_S = 0.1
"""How long a flush waits for the records that were there when it fell due."""
REVOKE_FLUSH_S = 10.0
CELLS_PER_FLIGHT_MAX = 1_000_000
"""Beyond this, blocks are sent before the next flush is due."""
BATCH_BYTES = 16 * 1_048_576
RECORDS_PER_BATCH = (50, 20_000)
HELD_BYTES_MAX = 256 * 1_048_576
"""Of dead letters not sent yet."""

log = get_logger("ingest")


class SessionEndedError(Exception):
    """This life is over; the text says why."""


class IngestSession:
    """Reads, decodes, folds and packs until `stop()` is true. `facts` were true when it was made."""

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: "WorkerMetrics",
        topics: SourceTopics,
        facts: dict[str, TopicFacts],
        *,
        grace_ms: int,
    ) -> None:
        self._settings, self._metrics, self._topics = settings, metrics, topics
        self._grace_ms = grace_ms
        self._spans, self._partials = settings.topics.otlp_spans, settings.topics.partials
        self._facts = facts
        self._packer = Packer(facts[self._partials].partitions_count)
        self._step: InStep[Message] = InStep()
        self._source_id = ""
        self._incarnation = 0
        self._epochs: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._dead: list[tuple[Message, str]] = []
        self._dead_bytes = 0
        self._flight: Flight | None = None
        self._failure: BaseException | None = None
        self._batch_records = 1_000
        self._paused: set[int] = set()
        self._is_fresh = False
        self._is_full = False
        self._due_ms = 0
        self._away_since_s: float | None = None
        self.is_assigned = False
        """Whether the group has given this worker its share (which may be nothing)."""
        self._delivery = Delivery(settings, self._spans)
        self._consumer = Consumer(self._consumer_config())

    @property
    def is_ready(self) -> bool:
        """Whether it reads and its broker answers."""
        return self.is_assigned and self._away_since_s is None

    def run(self, stop: Callable[[], bool], tick: Callable[[], None]) -> None:
        """Until `stop()`. `tick` is called each round. Raises SessionEndedError."""
        try:
            self._consumer.subscribe(
                [self._spans],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not stop():
                tick()
                self._round()
        except BaseException as problem:
            self._failure = self._failure or problem  # what was taken is not sent any more
            raise
        finally:
            self._consumer.close()  # revokes: what was read is flushed and committed
            self._delivery.close()

    def _round(self) -> None:
        left_s = self._due_ms / 1000 - time.time()
        self._read(min(POLL_S, max(BUSY_S, left_s)))
        self._settle()
        if not self._epochs:
            return
        if time.time() * 1000 >= self._due_ms:
            self._flush()
        elif self._packer.cells_count > CELLS_PER_FLIGHT_MAX and self._flight is None:
            # Early, without watermarks, but never unconfirmed: a topic made anew has the same offsets.
            if self._confirm():
                self._send([])

    # ---- reading ----

    def _read(self, wait_s: float) -> None:
        self._hold_back()
        try:
            messages = self._consumer.consume(self._batch_records, timeout=wait_s)
        except KafkaException as problem:
            raise SessionEndedError(f"{self._spans}: {problem.args[0].str()}") from problem
        if self._failure is not None:
            raise self._failure
        if self._is_fresh:
            # The group changed inside this call: what it returned may be of the assignment before,
            # and not begin where this one must.
            self._is_fresh = False
            if messages:
                self._assign_at({p: r.read_to for p, r in self._step.readings.items()})
            return
        if messages or self._step.held_partitions():
            self._take(messages)

    def _hold_back(self) -> None:
        """Stops fetching what could not be taken: partitions ahead of others, all when memory is full."""
        full = self._packer.cells_count > self._settings.held_cells_max
        self._is_full = full or self._dead_bytes > HELD_BYTES_MAX
        wanted = set(self._epochs if self._is_full else self._step.held_partitions())
        if wanted == self._paused:
            return
        if more := wanted - self._paused:
            self._consumer.pause([TopicPartition(self._spans, p) for p in more])
        if fewer := (self._paused - wanted) & set(self._epochs):
            self._consumer.resume([TopicPartition(self._spans, p) for p in fewer])
        self._paused = wanted

    def _take(self, messages: list[Message]) -> None:
        batch: Batch[Message] = Batch()
        ends = []
        for message in messages:
            error = message.error()
            if error is not None:
                self._heed(error, message, ends)
                continue
            partition = message.partition()
            if partition not in self._epochs:
                continue
            batch.partition.append(partition)
            batch.offset.append(message.offset())
            batch.kafka_ms.append(message.timestamp()[1])
            batch.item.append(message)
        passed = self._step.take(batch, ends, int(time.time() * 1000))
        if passed.item:
            self._fold(passed)

    def _fold(self, batch: Batch[Message]) -> None:
        values = [message.value() or b"" for message in batch.item]
        columns = decode(values)
        cells = fold(columns)
        sources = {
            p: self._packer.source_index(Source(self._source_id, p)) for p in set(batch.partition)
        }
        self._packer.add(
            cells,
            source=np.array([sources[p] for p in batch.partition], np.int32),
            offset=np.array(batch.offset, np.int64),
            kafka_ms=np.array(batch.kafka_ms, np.int64),
        )
        for index, reason in columns.record_errors.items():
            self._dead.append((batch.item[index], reason))
            self._dead_bytes += len(values[index])
        size = sum(map(len, values))
        least, most = RECORDS_PER_BATCH
        fitting = BATCH_BYTES * len(values) // max(1, size)
        self._batch_records = max(least, min(most, fitting))
        metrics = self._metrics
        metrics.records.inc(len(values))
        metrics.bytes.inc(size)
        metrics.spans.inc(len(columns.record))
        metrics.undecodable.inc(len(columns.record_errors))
        for counters in (columns.counters, cells.counters):
            for kind, count in counters.items():
                metrics.oddities.labels(kind).inc(count)

    def _heed(self, error: KafkaError, message: Message, ends: list[tuple[int, int]]) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            if message.partition() in self._epochs:
                ends.append((message.partition(), message.offset()))
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise SessionEndedError(f"{self._spans}: {error.str()}; reading anew")
        elif error.fatal():
            raise SessionEndedError(f"{self._spans}: {error.str()}")
        elif not error.retriable() and code not in (
            KafkaError._ALL_BROKERS_DOWN,
            KafkaError._TRANSPORT,
        ):
            log.warning("the consumer reports a problem", problem=error.str())

    # ---- flushing ----

    def _flush(self) -> None:
        """Confirms with the broker, sends all blocks and, in the last records, the watermarks. Waits for
        a flight that isn't delivered yet: so a stalled delivery stalls watermarks too."""
        if self._flight is not None:
            return
        asked_ms = int(time.time() * 1000)
        try:
            ends = self._topics.ends(self._spans, self._epochs)
        except BrokerAwayError as problem:
            self._is_away(problem)
            return
        except TopicMissingError as problem:
            raise SessionEndedError(f"{self._spans}: is missing") from problem
        self._check_ends(ends)
        until_s = time.monotonic() + CATCH_UP_S
        while self._behind(ends) and time.monotonic() < until_s and not self._is_full:
            self._read(0.005)
            if not ends.keys() <= self._epochs.keys():
                return  # a rebalance came between
        if not self._confirm() or not ends.keys() <= self._epochs.keys():
            return
        self._send(self._marks(ends, asked_ms))
        step_ms = BUCKET_MS
        phase_ms = self._grace_ms % step_ms
        now_ms = int(time.time() * 1000)
        self._due_ms = (now_ms - phase_ms) // step_ms * step_ms + phase_ms + step_ms

    def _check_ends(self, ends: dict[int, int]) -> None:
        """Before more is read: what was read when they were asked for can't lie beyond them."""
        for partition, end in ends.items():
            reading = self._step.readings.get(partition)
            if reading is not None and reading.read_to > end:
                raise SessionEndedError(f"{self._spans}[{partition}]: has shrunk")

    def _behind(self, ends: dict[int, int]) -> list[int]:
        readings = self._step.readings
        return [p for p, end in ends.items() if p in readings and readings[p].read_to < end]

    def _confirm(self) -> bool:
        """Whether the topics are still those that were read. Asked after the last record was taken, so
        that no record of a topic made anew goes by the old one's id."""
        try:
            facts = self._topics.facts([self._spans, self._partials])
        except BrokerAwayError as problem:
            self._is_away(problem)
            return False
        except TopicMissingError as problem:
            raise SessionEndedError(f"{problem}: is missing") from problem
        if facts[self._spans].topic_id != self._facts[self._spans].topic_id:
            raise SessionEndedError(f"{self._spans}: was made anew")
        if facts[self._partials].partitions_count != self._packer.partitions_count:
            raise SessionEndedError(f"{self._partials}: has another number of partitions")
        self._facts |= facts
        if self._away_since_s is not None:
            log.info("the broker answers again", after_s=round(time.monotonic() - self._away_since_s))
            self._away_since_s = None
        return True

    def _marks(self, ends: dict[int, int], asked_ms: int) -> list[SourceMark]:
        """A watermark for each partition: the moment of asking where all that was there then has been
        read, else the time of the last record read; minus grace."""
        marks = []
        for partition, end in ends.items():
            reading = self._step.readings[partition]
            reading.is_behind = reading.read_to < end
            if reading.is_behind:
                if reading.time_ms is None:
                    continue
                read_ms = min(reading.time_ms, asked_ms)
            else:
                read_ms = asked_ms
            self._metrics.lag.labels(self._spans, partition).set(end - reading.read_to)
            self._metrics.source_delay_s.labels(self._spans, partition).set(
                time.time() - (read_ms - self._grace_ms) / 1000
            )
            marks.append(
                SourceMark(
                    Source(self._source_id, partition),
                    self._epochs[partition],
                    read_ms - self._grace_ms,
                    self._committed[partition],
                )
            )
        return marks

    def _send(self, marks: list[SourceMark]) -> None:
        listed = [(self._source_id, self._facts[self._spans].partitions_count)]
        records = self._packer.flush(marks, listed=listed)
        upto = {
            p: (reading.read_to, reading.time_ms or 0) for p, reading in self._step.readings.items()
        }
        self._flight = self._delivery.send(records, self._dead, upto)
        self._dead, self._dead_bytes = [], 0

    def _settle(self) -> None:
        """Serves deliveries; commits what a delivered flight has carried."""
        self._delivery.poll()
        flight = self._flight
        if flight is None or not flight.is_done:
            return
        if flight.problem is not None:
            raise SessionEndedError(flight.problem)
        self._flight = None
        self._metrics.flushes.inc()
        self._metrics.dead_lettered.inc(flight.dead_letters)
        offsets = self._offsets(flight)
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _offsets(self, flight: Flight) -> list[TopicPartition]:
        return [
            self._note(partition, offset, time_ms)
            for partition, (offset, time_ms) in flight.upto.items()
            if partition in self._epochs and offset != self._committed[partition]
        ]

    def _note(self, partition: int, offset: int, time_ms: int) -> TopicPartition:
        note = CommitNote(
            epoch=self._epochs[partition],
            topic_id=self._facts[self._spans].topic_id,
            incarnation=self._incarnation,
            read_ms=time_ms,
        )
        return TopicPartition(self._spans, partition, offset, metadata=note.text())

    # ---- the group ----

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._guarded(lambda: self._assign(consumer, sorted(tp.partition for tp in partitions)))

    def _assign(self, consumer: Consumer, assigned: list[int]) -> None:
        self.is_assigned = True
        facts = self._topics.facts([self._spans])[self._spans]
        if facts.topic_id != self._facts[self._spans].topic_id:
            raise SessionEndedError(f"{self._spans}: was made anew")
        self._facts[self._spans] = facts
        every = [TopicPartition(self._spans, p) for p in range(facts.partitions_count)]
        found = consumer.committed(every, timeout=10.0)
        for tp in found:
            if tp.error is not None:
                raise SessionEndedError(f"{self._spans}[{tp.partition}]: {tp.error.str()}")
        committed = {
            tp.partition: Committed(offset=tp.offset, note=CommitNote.read(tp.metadata))
            for tp in found
            if tp.offset >= 0
        }
        spans = self._topics.spans(self._spans, facts.partitions_count)
        plan = plan_start(self._spans, facts.topic_id, committed, spans, assigned)
        if plan.expired:
            self._metrics.expired.inc(plan.expired)
            log.error(
                "records were removed by retention before they were read",
                topic=self._spans,
                records=plan.expired,
            )
        self._source_id, self._incarnation = plan.source_id, plan.incarnation
        # The clock as a floor: offsets that were reset or have expired must not bring old epochs back.
        clock = int(time.time())
        for partition in assigned:
            before = committed.get(partition)
            note = before.note if before is not None else CommitNote(epoch=0)
            is_same = before is not None and plan.start[partition] == before.offset
            self._epochs[partition] = max(note.epoch + 1, clock)
            self._committed[partition] = plan.start[partition]
            time_ms = note.read_ms if is_same and note.read_ms else None
            self._step.assign(partition, plan.start[partition], time_ms)
        if assigned:
            notes = [
                self._note(p, plan.start[p], self._step.readings[p].time_ms or 0) for p in assigned
            ]
            for tp in consumer.commit(offsets=notes, asynchronous=False):
                if tp.error is not None:
                    raise SessionEndedError(f"{self._spans}[{tp.partition}]: {tp.error.str()}")
        self._assign_at(plan.start)
        self._is_fresh = True
        self._due_ms = int(time.time() * 1000)
        log.info(
            "partitions assigned", topic=self._spans, partitions=assigned, source=plan.source_id
        )

    def _assign_at(self, start: dict[int, int]) -> None:
        places = [TopicPartition(self._spans, p, offset) for p, offset in sorted(start.items())]
        self._consumer.assign(places)
        if places:
            self._consumer.resume(places)
        self._paused = set()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._guarded(lambda: self._revoke(consumer))

    def _revoke(self, consumer: Consumer) -> None:
        """Sends and commits what was taken, so that the next owner need not read it again."""
        try:
            if self._failure is None and self._epochs and self._drained():
                if self._packer.cells_count or self._dead:
                    if not self._confirm():
                        return
                    self._send([])
                    self._drained()
                log.info("partitions revoked", partitions=sorted(self._epochs))
        finally:
            self._disown()

    def _drained(self) -> bool:
        """Waits for the flight and commits it; False where it isn't delivered in time."""
        until_s = time.monotonic() + REVOKE_FLUSH_S
        while self._flight is not None and not self._flight.is_done:
            if time.monotonic() > until_s:
                raise SessionEndedError("a flush was not delivered before partitions were revoked")
            self._delivery.poll(0.05)
        flight, self._flight = self._flight, None
        if flight is None:
            return True
        if flight.problem is not None:
            raise SessionEndedError(flight.problem)
        self._metrics.dead_lettered.inc(flight.dead_letters)
        offsets = self._offsets(flight)
        if offsets:
            for tp in self._consumer.commit(offsets=offsets, asynchronous=False):
                if tp.error is None:
                    self._committed[tp.partition] = tp.offset
        return True

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Others own them already: nothing is sent or committed any more. Blocks under way are known to
        evaluate by their offsets, and watermarks by their old epoch."""
        log.warning("partitions lost to other workers", partitions=sorted(self._epochs))
        self._disown()

    def _disown(self) -> None:
        for partition in self._epochs:
            with contextlib.suppress(KeyError):  # none was set yet
                self._metrics.lag.remove(self._spans, str(partition))
                self._metrics.source_delay_s.remove(self._spans, str(partition))
        self._epochs, self._committed, self._paused = {}, {}, set()
        self._step.clear()
        self._packer.forget()
        self._dead, self._dead_bytes = [], 0
        self._flight = None

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """A commit that fails is made good by the next flush's, or the partitions are lost anyway."""
        if error is not None:
            return
        for tp in partitions:
            if tp.error is None and tp.partition in self._committed:
                self._committed[tp.partition] = max(self._committed[tp.partition], tp.offset)

    # ---- inside ----

    def _guarded(self, act: Callable[[], None]) -> None:
        """Callbacks run inside librdkafka's poll: what they raise is kept for the round to raise."""
        try:
            act()
        except (BrokerAwayError, TopicMissingError, SessionEndedError) as problem:
            self._failure = self._failure or SessionEndedError(str(problem))
        except KafkaException as problem:
            self._failure = self._failure or SessionEndedError(problem.args[0].str())
        except Exception as problem:  # noqa: BLE001 - raised again by the round
            self._failure = self._failure or problem

    def _is_away(self, problem: BrokerAwayError) -> None:
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            log.warning("the broker does not answer; waiting for it", problem=str(problem))
        self._due_ms = int(time.time() * 1000) + AWAY_RETRY_MS

    def _consumer_config(self) -> dict[str, Any]:
        return {
            **self._settings.kafka,
            "group.id": self._settings.topics.ingest_group,
            "client.id": "tidegate-ingest",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            # Eager: at a rebalance everything is flushed and committed, and begins anew. Cooperative
            # would spare the partitions that stay, and make two owners' states live side by side.
            "partition.assignment.strategy": "range",
            "session.timeout.ms": self._settings.session_timeout_ms,
            "heartbeat.interval.ms": self._settings.heartbeat_ms,
            "max.poll.interval.ms": max(300_000, self._settings.session_timeout_ms),
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 100,
            "queued.min.messages": 20_000,
            "queued.max.messages.kbytes": 16_384,
            "message.max.bytes": 64 * 1_048_576,
            "receive.message.max.bytes": 128 * 1_048_576,
            "topic.metadata.refresh.interval.ms": 10_000,
            "reconnect.backoff.max.ms": 1_000,
            "on_commit": self._on_commit,
            "error_cb": lambda _: None,  # what matters shows in answers and messages
            "log_level": 0,
        }
