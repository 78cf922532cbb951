"""OTLP metrics into partials, beside ingest and on its own: whatever happens here, spans go on.

At least once is enough, since evaluate knows a point by its series and time: read, decode, send, wait for
the delivery, commit. A failure ends a life; the next begins from what was committed.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from mode import Service

from tidegate.rules.cutting import target_partitions
from tidegate.rules.host_metrics import SERIES_TTL_MS
from tidegate.rules.packing import PackedRecord
from tidegate.schemas.otlp.metrics import decode_metrics
from tidegate.schemas.partials import RECORD_BYTES_MAX, encode_aside
from tidegate.schemas.points import MetricPoint
from tidegate.streams.commit_note import CommitNote
from tidegate.streams.delivery import Delivery, Flight
from tidegate.streams.logs import get_logger
from tidegate.streams.source_share import SessionEndedError
from tidegate.streams.source_topics import BrokerAwayError, SourceTopics, TopicMissingError
from tidegate.streams.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from tidegate.streams.metrics import WorkerMetrics

__all__ = ["MetricsIngest", "pack_points"]

POLL_S = 0.5
BATCH_RECORDS = 500
MISSING_S = 30.0
AWAY_S = 2.0
COMMITTED_S = 10.0
DRAIN_S = 10.0
"""How long a stop waits for a delivery; what isn't delivered is read again."""
_STOP_S = 20.0
_POINT_BYTES = 64
"""Of a point's numbers and headers, at most; names come on top."""
_ROOM_BYTES = 8_000
"""For a record's columns, which are empty, and headers."""
_AWAY = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)  # noqa: SLF001 - its public name

log = get_logger("metrics ingest")


class MetricsIngest(Service):
    """Lives as long as the app, and never ends it. Not asked whether the worker is ready: without metrics L2
    and L5 don't hold, and all else does."""

    def __init__(self, settings: WorkerSettings, metrics: "WorkerMetrics", **service: Any) -> None:
        super().__init__(**service)
        self._settings, self._worker_metrics = settings, metrics
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""

    async def on_start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(
            target=self._run, name="tidegate-metrics-ingest", daemon=True
        )
        self._thread.start()

    async def on_stop(self) -> None:
        """Lets the thread deliver and commit what it has read."""
        self._halt.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_S)

    def _run(self) -> None:
        topic = self._settings.topics.otlp_metrics
        while not self._halt.is_set():
            wait_s = AWAY_S
            try:
                self._live()
            except TopicMissingError as problem:
                wait_s = MISSING_S
                self._say(
                    f"missing topics: {problem}; no metrics are read (L2 and L5 can't hold). Make them "
                    "with `tidegate topics create`"
                )
            except BrokerAwayError as problem:
                self._say(f"the broker does not answer; waiting for it ({problem})")
            except SessionEndedError as problem:
                self._worker_metrics.metric_restarts.inc()
                self._say(f"beginning again from the committed offsets: {problem}")
            except Exception:  # spans must go on, whatever is wrong with metrics
                wait_s = MISSING_S
                self._worker_metrics.metric_restarts.inc()
                log.exception("metrics can't be read; trying again", topic=topic, after_s=wait_s)
            self._halt.wait(wait_s)

    def _live(self) -> None:
        """One life, until a stop or a failure."""
        names = self._settings.topics
        topics = SourceTopics(
            {
                **self._settings.kafka,
                "client.id": "tidegate-metrics-ingest",
                "reconnect.backoff.max.ms": 1_000,
                "error_cb": lambda _: None,
                "log_level": 0,
            }
        )
        facts = topics.facts([names.otlp_metrics, names.partials, names.dlq])
        note = CommitNote(epoch=0, topic_id=facts[names.otlp_metrics].topic_id)
        delivery = Delivery(self._settings, names.otlp_metrics)
        consumer = Consumer(_consumer_config(self._settings))
        try:
            consumer.subscribe([names.otlp_metrics], on_assign=partial(_begin, note))
            while not self._halt.is_set():
                messages = _read(consumer)
                if messages:
                    self._pass_on(messages, topics, delivery, note)
                    _commit(consumer, messages, note)
                    self._said = ""
        finally:
            consumer.close()
            delivery.close()

    def _pass_on(
        self,
        messages: Sequence[Message],
        topics: SourceTopics,
        delivery: Delivery,
        note: CommitNote,
    ) -> None:
        """Returns when all of it has arrived. Raises SessionEndedError where it doesn't."""
        names, metrics = self._settings.topics, self._worker_metrics
        batch = decode_metrics([message.value() or b"" for message in messages])
        oldest_ms = int(time.time() * 1000) - SERIES_TTL_MS
        points = [point for _, point in batch.points if point.time_ms >= oldest_ms]
        batch.counters["old_points"] += len(batch.points) - len(points)
        dead = [(messages[i], reason) for i, reason in batch.record_errors.items()]
        # Asked each time: evaluate ends at a record that was made for another number of partitions.
        facts = topics.facts([names.otlp_metrics, names.partials])
        if facts[names.otlp_metrics].topic_id != note.topic_id:
            raise SessionEndedError(f"{names.otlp_metrics}: was made anew")
        records = pack_points(points, facts[names.partials].partitions_count)
        flight = delivery.send(records, dead, {})
        self._land(flight, delivery)
        metrics.metric_records.inc(len(messages))
        metrics.metric_points.inc(len(points))
        metrics.undecodable.inc(len(dead))
        metrics.dead_lettered.inc(flight.dead_letters)
        for kind, count in batch.counters.items():
            metrics.metric_oddities.labels(kind).inc(count)

    def _land(self, flight: Flight, delivery: Delivery) -> None:
        until_s = None
        while not flight.is_done:
            delivery.poll(POLL_S)
            if until_s is None and self._halt.is_set():
                until_s = time.monotonic() + DRAIN_S
            if until_s is not None and time.monotonic() > until_s:
                raise SessionEndedError("stopped before points were delivered")
        if flight.problem is not None:
            raise SessionEndedError(flight.problem)

    def _say(self, text: str) -> None:
        """Once, not at every try."""
        if text != self._said:
            log.warning(text)
        self._said = text


def pack_points(points: Sequence[MetricPoint], partitions_count: int) -> list[PackedRecord]:
    """Records of partials below RECORD_BYTES_MAX, for the partitions of the points' services."""
    keys = [(point.service, "") for point in points]
    of_partition: dict[int, list[MetricPoint]] = {}
    for partition, point in zip(
        target_partitions(keys, partitions_count, {}).tolist(), points, strict=True
    ):
        of_partition.setdefault(partition, []).append(point)
    out: list[PackedRecord] = []
    for partition, mine in sorted(of_partition.items()):
        some: list[MetricPoint] = []
        size = _ROOM_BYTES
        for point in mine:
            more = _POINT_BYTES + len(point.service.encode()) + len(point.instance.encode())
            if size + more > RECORD_BYTES_MAX:
                out.append(_record(partition, some, partitions_count))
                some, size = [], _ROOM_BYTES
            some.append(point)
            size += more
        out.append(_record(partition, some, partitions_count))
    return out


def _record(partition: int, points: list[MetricPoint], partitions_count: int) -> PackedRecord:
    return PackedRecord(partition, encode_aside(partitions_count=partitions_count, points=points))


def _read(consumer: Consumer) -> list[Message]:
    """What has come. Raises SessionEndedError for what waiting doesn't mend."""
    try:
        messages = consumer.consume(BATCH_RECORDS, timeout=POLL_S)
    except KafkaException as problem:
        raise SessionEndedError(problem.args[0].str()) from problem
    for message in messages:
        error = message.error()
        if error is not None and not error.retriable() and error.code() not in _AWAY:
            raise SessionEndedError(f"{message.topic()}: {error.str()}")
    return [message for message in messages if message.error() is None]


def _begin(note: CommitNote, consumer: Consumer, partitions: list[TopicPartition]) -> None:
    """Reads from the committed offsets, those of a topic that was made anew from its beginning."""
    places = consumer.committed(partitions, timeout=COMMITTED_S)
    for place in places:
        is_ours = CommitNote.read(place.metadata).topic_id in (note.topic_id, "")
        if place.offset < 0 or not is_ours:
            place.offset = OFFSET_BEGINNING
    consumer.assign(places)


def _commit(consumer: Consumer, messages: Sequence[Message], note: CommitNote) -> None:
    """A commit that is refused is made good by the next, or by whoever owns the partition now."""
    upto: dict[tuple[str, int], int] = {}
    for message in messages:
        place = (message.topic() or "", message.partition() or 0)
        upto[place] = max(upto.get(place, 0), (message.offset() or 0) + 1)
    offsets = [
        TopicPartition(*place, offset, metadata=note.text()) for place, offset in upto.items()
    ]
    try:
        consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as problem:
        log.info("a commit was refused", problem=problem.args[0].str())


def _consumer_config(settings: WorkerSettings) -> dict[str, Any]:
    return {
        **settings.kafka,
        "group.id": settings.topics.metrics_group,
        "client.id": "tidegate-metrics-ingest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # What is old is dropped here, so that a long history costs its reading only.
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": settings.heartbeat_ms,
        "max.poll.interval.ms": max(300_000, settings.session_timeout_ms),
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16_384,
        "message.max.bytes": 64 * 1_048_576,
        "receive.message.max.bytes": 128 * 1_048_576,
        "topic.metadata.refresh.interval.ms": 10_000,
        "reconnect.backoff.max.ms": 1_000,
        "error_cb": lambda _: None,  # what matters shows in answers and messages
        "log_level": 0,
    }
