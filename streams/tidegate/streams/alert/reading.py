"""Reads the alerts topic as a member of a group. A partition is read from its beginning each time it comes:
what lies before the committed offset was dealt with, and says who was told of what.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from tidegate.schemas.topics import Topics
from tidegate.streams.errors import Failure
from tidegate.streams.kafka_log import LogRecord

__all__ = ["AlertReader", "Assigned", "Revoked"]

FIRST_BACK_MS = 600_000
"""Where a group that never committed begins: people are not called about last week."""
_BATCH_RECORDS_MAX = 500
_ANSWER_S = 10.0
_RETRY_S = 0.5
_BEGIN_S = 60.0
"""A broker that just came back has no coordinator for a while."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """A partition came."""

    partition: int
    begin: int
    """Records from this offset on are to be dealt with, those before it only to be known."""
    is_first: bool
    """Whether nothing was committed before."""
    low: int
    """Offset of the oldest record."""
    end: int
    """After the newest."""
    note: str
    """What was committed beside the offset."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """A partition went to another sender."""

    partition: int


class AlertReader:
    """A consumer of one topic. `fetch` from one thread at a time."""

    def __init__(self, config: Mapping[str, str], topics: Topics) -> None:
        self._topic = topics.alerts
        self._news: list[Assigned | Revoked | LogRecord] = []
        self._takes_notes = True
        self.problem = ""
        """What the broker complained of last; empty once something came."""
        self._consumer = Consumer(
            {
                **config,
                "group.id": topics.alert_group,
                "client.id": "tidegate-alert",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # A sender that was killed keeps its partition for so long: nobody is called meanwhile.
                "session.timeout.ms": 10_000,
                "log_level": 0,
                "error_cb": self._on_error,
                "on_commit": self._on_commit,
            }
        )
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def fetch(self, wait_s: float) -> list[Assigned | Revoked | LogRecord]:
        """What came, in its order; waits at most so long for the first. Raises Failure."""
        try:
            message = self._consumer.poll(wait_s)
            while message is not None:
                self._add(message)
                if len(self._news) >= _BATCH_RECORDS_MAX:
                    break
                message = self._consumer.poll(0)
        except KafkaException as problem:
            raise Failure(f"{self._topic}: {problem.args[0].str()}") from problem
        news, self._news = self._news, []
        return news

    def hold(self, *, is_held: bool) -> None:
        """Stops or goes on with reading; `fetch` must still be called."""
        partitions = self._consumer.assignment()
        (self._consumer.pause if is_held else self._consumer.resume)(partitions)

    def commit(self, partition: int, offset: int, note: str, *, is_last: bool = False) -> bool:
        """Everything before `offset` is dealt with. `is_last`: waits for the broker's answer. Whether it
        failed is known only then."""
        note = note if self._takes_notes else ""
        offsets = [TopicPartition(self._topic, partition, offset, metadata=note)]
        try:
            if not is_last:
                self._consumer.commit(offsets=offsets, asynchronous=True)
                return True
            (done,) = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as problem:
            self._on_commit(problem.args[0], offsets)
            return False
        self._on_commit(done.error, offsets)
        return done.error is None

    def close(self) -> None:
        """Leaves the group."""
        self._consumer.close()

    def _add(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            self.problem = f"{self._topic}: {error.str()}"
            return
        self.problem = ""
        self._news.append(
            LogRecord(
                self._topic,
                message.partition() or 0,
                message.offset() or 0,
                message.timestamp()[1],
                message.key(),
                message.value(),
            )
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.problem = ""
        self._news += self._begins(consumer, partitions)
        for where in partitions:
            where.offset = OFFSET_BEGINNING
        consumer.assign(partitions)

    def _begins(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[Assigned]:
        until_s = time.monotonic() + _BEGIN_S
        while True:
            try:
                return [
                    self._begin(consumer, one)
                    for one in consumer.committed(partitions, timeout=_ANSWER_S)
                ]
            except KafkaException:
                if time.monotonic() > until_s:
                    raise
                time.sleep(_RETRY_S)

    def _begin(self, consumer: Consumer, committed: TopicPartition) -> Assigned:
        if committed.error is not None:
            raise KafkaException(committed.error)
        low, end = consumer.get_watermark_offsets(
            TopicPartition(self._topic, committed.partition), timeout=_ANSWER_S
        )
        partition = committed.partition
        if committed.offset > end:  # the topic was made anew
            return Assigned(partition, end, is_first=False, low=low, end=end, note="")
        if committed.offset >= 0:
            begin, note = max(committed.offset, low), committed.metadata or ""
            return Assigned(partition, begin, is_first=False, low=low, end=end, note=note)
        since_ms = time.time_ns() // 1_000_000 - FIRST_BACK_MS
        (found,) = consumer.offsets_for_times(
            [TopicPartition(self._topic, committed.partition, since_ms)], timeout=_ANSWER_S
        )
        begin = found.offset if found.offset >= 0 else end
        return Assigned(partition, begin, is_first=True, low=low, end=end, note="")

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._news += [Revoked(where.partition) for where in partitions]

    def _on_error(self, error: KafkaError) -> None:
        self.problem = error.str()

    def _on_commit(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        if error is None:
            return
        self.problem = f"commit: {error.str()}"
        if error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
            # A broker with an offset.metadata.max.bytes below its default of 4096.
            self._takes_notes = False
