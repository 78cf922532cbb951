"""Keeps what could not be sent: the record as it was on the dead-letter topic, with headers that say why."""

import threading
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidegate.schemas.topics import Topics
from tidegate.streams.dead_letter import dead_letter_headers
from tidegate.streams.kafka_log import LogRecord
from tidegate.streams.logs import get_logger

__all__ = ["DeadLetters"]

_RETRY_S = 1.0

log = get_logger("alert")


class DeadLetters:
    """A producer for the dead-letter topic."""

    def __init__(self, config: Mapping[str, str], topics: Topics) -> None:
        self._topic = topics.dlq
        self._stopped = threading.Event()
        self._producer = Producer(
            {
                **config,
                "client.id": "tidegate-alert",
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.timeout.ms": 30_000,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )

    def put(self, record: LogRecord, facts: Mapping[str, str]) -> bool:
        """Blocks until the broker has it, however long that takes; False where `close` came before."""
        headers = dead_letter_headers(record.topic, record.partition, record.offset, facts)
        said = ""
        while not self._stopped.is_set():
            problem = self._once(record, headers)
            if problem is None:
                return True
            if problem != said:
                said = problem
                log.warning("a dead letter waits", topic=self._topic, reason=problem)
            self._stopped.wait(_RETRY_S)
        return False

    def close(self) -> None:
        """Ends a `put` that waits, and drops what it waits for: it was not committed."""
        self._stopped.set()
        self._producer.purge()
        self._producer.poll(0)

    def _once(self, record: LogRecord, headers: list[tuple[str, bytes]]) -> str | None:
        """None, or why it did not arrive."""
        answers: list[KafkaError | None] = []

        def arrived(error: KafkaError | None, _: Message) -> None:
            answers.append(error)

        try:
            self._producer.produce(
                self._topic,
                value=record.value,
                key=record.key,
                headers=list(headers),
                on_delivery=arrived,
            )
        except (BufferError, KafkaException) as problem:
            return str(problem)
        while not answers and not self._stopped.is_set():
            self._producer.poll(0.1)
        if not answers:
            return "stopped"
        return None if answers[0] is None else answers[0].str()
