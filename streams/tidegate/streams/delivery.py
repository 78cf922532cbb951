"""Sends what a flush yields, and tells when all of it has arrived."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidegate.rules.packing import PackedRecord
from tidegate.streams.dead_letter import dead_letter_header, dead_letter_headers
from tidegate.streams.logs import get_logger
from tidegate.streams.worker_settings import WorkerSettings

__all__ = ["Delivery", "Flight"]

PRODUCER_CONFIG: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 2,
    # The dead-letter topic takes whatever the spans topic let in.
    "message.max.bytes": 64 * 1_048_576,
    "queue.buffering.max.kbytes": 512 * 1_024,
    "reconnect.backoff.max.ms": 1_000,
    "partitioner": "murmur2_random",
    "log_level": 0,
}
_CUT_BYTES = 100_000

log = get_logger("ingest")


@dataclass(slots=True)
class Flight:
    """A flush under way."""

    upto: dict[int, tuple[int, int]]
    """Source partition -> (offset that may be committed, Kafka time) once all is delivered."""
    waiting: int = 0
    is_sent: bool = False
    problem: str | None = None
    dead_letters: int = 0

    @property
    def is_done(self) -> bool:
        """Whether everything arrived, or something failed."""
        return self.problem is not None or (self.is_sent and self.waiting == 0)


class Delivery:
    """An idempotent producer for blocks, sampled spans and dead letters."""

    def __init__(self, settings: WorkerSettings, spans_topic: str) -> None:
        self._partials, self._dlq = settings.topics.partials, settings.topics.dlq
        self._pairs = settings.topics.pairs
        self._spans_topic = spans_topic
        self._producer = Producer(
            {
                **settings.kafka,
                **PRODUCER_CONFIG,
                "client.id": "tidegate-ingest",
                "message.timeout.ms": settings.delivery_timeout_ms,
                "error_cb": lambda _: None,
            }
        )

    def send(
        self,
        records: Sequence[PackedRecord],
        dead: Sequence[tuple[Message, str]],
        upto: dict[int, tuple[int, int]],
        *,
        pairs: Sequence[PackedRecord] = (),
    ) -> Flight:
        """Puts all of it on its way. Blocks before watermarks: a partition's order is kept."""
        flight = Flight(upto)
        for message, reason in dead:
            self._send_dead(flight, message, reason)
        self._send_packed(flight, self._pairs, pairs)
        self._send_packed(flight, self._partials, records)
        flight.is_sent = True
        return flight

    def poll(self, wait_s: float = 0.0) -> None:
        """Serves delivery reports."""
        self._producer.poll(wait_s)

    def close(self) -> None:
        """Drops what has not been sent."""
        self._producer.purge()
        self._producer.poll(0)

    def _send_packed(self, flight: Flight, topic: str, records: Sequence[PackedRecord]) -> None:
        def arrived(error: KafkaError | None, _: Message) -> None:
            flight.waiting -= 1
            if error is not None and flight.problem is None:
                flight.problem = f"{topic}: a send failed: {error.str()}"

        for record in records:
            self._produce(
                flight,
                topic=topic,
                value=record.value,
                partition=record.partition,
                on_delivery=arrived,
            )

    def _send_dead(self, flight: Flight, message: Message, reason: str) -> None:
        """The record as it was, with its headers and ours. One that the dead-letter topic won't take for
        its size is cut, and says so: the stream must go on."""
        value = message.value()
        ours = dead_letter_headers(
            self._spans_topic, message.partition() or 0, message.offset() or 0, {"reason": reason}
        )
        headers = [*(message.headers() or []), *ours]
        timestamp = message.timestamp()[1]
        same: dict[str, Any] = {"topic": self._dlq, "key": message.key()}
        if timestamp > 0:
            same["timestamp"] = timestamp

        def arrived(error: KafkaError | None, _: Message) -> None:
            flight.waiting -= 1
            too_large = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE)
            if error is None:
                flight.dead_letters += 1
            elif error.code() in too_large and value is not None and len(value) > _CUT_BYTES:
                log.warning(
                    "a dead letter is too large for its topic; cut",
                    topic=self._dlq,
                    offset=message.offset(),
                    bytes=len(value),
                )
                cut = dead_letter_header("cut.from.bytes", str(len(value)))
                self._produce(
                    flight,
                    **same,
                    value=value[:_CUT_BYTES],
                    headers=[*headers, cut],
                    on_delivery=arrived_cut,
                )
            elif flight.problem is None:
                flight.problem = f"{self._dlq}: a send failed: {error.str()}"

        def arrived_cut(error: KafkaError | None, _: Message) -> None:
            flight.waiting -= 1
            if error is None:
                flight.dead_letters += 1
            elif flight.problem is None:
                flight.problem = f"{self._dlq}: a send failed: {error.str()}"

        self._produce(flight, **same, value=value, headers=headers, on_delivery=arrived)

    def _produce(self, flight: Flight, **record: Any) -> None:
        flight.waiting += 1
        until_s = time.monotonic() + 60.0
        while flight.problem is None:
            try:
                self._producer.produce(**record)
            except BufferError:
                if time.monotonic() > until_s:
                    flight.problem = f"{record['topic']}: the send queue stayed full for 60 s"
                self._producer.poll(0.05)
            except KafkaException as problem:
                error = problem.args[0]
                if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    record["on_delivery"](error, None)
                    return
                flight.problem = f"{record['topic']}: {error.str()}"
            else:
                return
