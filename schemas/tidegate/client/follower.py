"""Reads the decisions topic: all partitions, from the beginning, without a consumer group.

Goes on by itself whatever happens to Kafka, and says each trouble once until it is over. What is read
at start, or after a time without Kafka, is old: it is passed on as not live.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

__all__ = ["Follower", "Reader"]

_log = logging.getLogger("tidegate.client")
_BATCH_MAX = 500
_POLL_S = 0.1
_RETRY_S = 0.5
_ASK_S = 2.0
"""How long a question to the broker may take; `close` may have to wait for it."""
_CHECK_EVERY_S = 10.0
_FROZEN_S = 5.0
"""A turn that took so long: the process was stopped, and what comes next is old."""

_AWAY = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE})  # noqa: SLF001 - their public names
_GONE = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its public name
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - its public name
        100,  # UNKNOWN_TOPIC_ID and
        103,  # INCONSISTENT_TOPIC_ID: older versions of the library have no names for them
    }
)
_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name


class Reader(Protocol):
    """Who is told what the topic holds; all calls come from the follower's thread."""

    def begin(self) -> None:
        """The topic is read from its beginning."""

    def apply(self, key: bytes, value: bytes | None, *, kafka_ms: int, is_live: bool) -> None:
        """One record."""

    def caught_up(self) -> None:
        """All that was there when reading began has been read."""

    def tick(self) -> None:
        """About every second."""


class Follower:
    """`run` in a thread of its own. The constructor raises KafkaException for settings that are wrong."""

    def __init__(self, config: Mapping[str, Any], topic: str, reader: Reader) -> None:
        self._config = {
            "group.id": "tidegate-client",  # librdkafka wants one; it is never joined
            "client.id": "tidegate-client",
            "reconnect.backoff.max.ms": 2_000,
            "topic.metadata.refresh.interval.ms": 10_000,
            # Troubles are told by error events, once; librdkafka would print each attempt.
            "log_level": 0,
            **config,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            "error_cb": self._on_error,
        }
        self._topic = topic
        self._reader = reader
        self._said: set[str] = set()
        self._was_away = False
        self._stop = threading.Event()
        self.is_ready = threading.Event()
        """Set once the topic has been read to its end."""
        self._consumer: Consumer | None = Consumer(self._config)

    def stop(self) -> None:
        """`run` returns soon after."""
        self._stop.set()

    def run(self) -> None:
        """Follows the topic until stopped."""
        while not self._stop.is_set():
            try:
                consumer, self._consumer = self._consumer or Consumer(self._config), None
            except KafkaException as problem:  # it could be made at the start: no resources, say
                self._say(f"can't reach Kafka: {problem}")
                self._stop.wait(_RETRY_S)
                continue
            try:
                while not self._stop.is_set():
                    self._follow(consumer)
            except (KafkaException, RuntimeError) as problem:
                self._say(f"{self._topic}: {problem}; starting again")
                self._stop.wait(_RETRY_S)
            finally:
                with contextlib.suppress(KafkaException, RuntimeError):
                    consumer.close()

    def _follow(self, consumer: Consumer) -> None:
        """Reads from the beginning until stopped, or until the topic is another one."""
        ends = self._wait_topic(consumer)
        if ends is None:
            return
        reader, topic = self._reader, self._topic
        reader.begin()
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in ends])
        turn = _Turn(ends)
        checked_s = ticked_s = turned_s = time.monotonic()
        self._was_away = False
        while not self._stop.is_set():
            messages = consumer.consume(_BATCH_MAX, _POLL_S)
            now_s = time.monotonic()
            if now_s - turned_s > _FROZEN_S:
                self._was_away = True
            if messages and self._was_away:
                self._resume(consumer, turn)
            for message in messages:
                if not self._take(message, turn):
                    consumer.unassign()
                    return
            if turn.is_catching_up and not turn.unread:
                turn.is_catching_up = False
                reader.caught_up()
                self._said.clear()
                self.is_ready.set()
            if now_s - ticked_s > 1.0:
                ticked_s = now_s
                reader.tick()
            if now_s - checked_s > _CHECK_EVERY_S and not self._was_away:
                checked_s = now_s
                if self._is_another(consumer, turn):
                    consumer.unassign()
                    return
            turned_s = time.monotonic()

    def _take(self, message: Message, turn: "_Turn") -> bool:
        """One message or event; False where the topic has to be read from its beginning again."""
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is not None and error.code() in _GONE:
            self._say(f"{self._topic} is not there any more; waiting for it")
            return False
        if error is not None and error.code() != _EOF:
            self._on_error(error)
        elif partition is None or offset is None or partition not in turn.positions:
            pass  # of an assignment that is over
        elif error is not None:
            turn.reached(partition, offset)
        elif offset < turn.positions[partition]:
            self._say(f"{self._topic} was made anew; reading it from its beginning")
            return False
        else:
            turn.positions[partition] = offset + 1
            self._reader.apply(
                message.key() or b"",
                message.value(),
                kafka_ms=message.timestamp()[1],
                is_live=not turn.is_catching_up and offset >= turn.live_from[partition],
            )
            turn.reached(partition, offset + 1)
        return True

    def _wait_topic(self, consumer: Consumer) -> dict[int, tuple[int, int]] | None:
        """First and end offset of each partition, once the topic is there; None when stopped."""
        while not self._stop.is_set():
            with contextlib.suppress(KafkaException):
                partitions = self._partitions(consumer)
                if partitions:
                    return self._ends(consumer, partitions)
            consumer.poll(0)  # serves error events
            self._reader.tick()
            self._stop.wait(_RETRY_S)
        return None

    def _partitions(self, consumer: Consumer) -> list[int]:
        """Empty where the topic is missing, which is said. Raises KafkaException without a broker."""
        try:
            found = consumer.list_topics(self._topic, timeout=_ASK_S).topics.get(self._topic)
        except KafkaException:
            self._say("Kafka does not answer; decisions are kept while their leases run")
            raise
        if found is not None and found.error is None and found.partitions:
            return sorted(found.partitions)
        if found is not None and found.error is not None and found.error.code() not in _GONE:
            self._on_error(found.error)
        else:
            self._say(f"there is no topic {self._topic} yet; `tidegate topics create` makes it")
        return []

    def _ends(self, consumer: Consumer, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """First and end offset of each partition."""
        ends = {}
        for partition in partitions:
            where = TopicPartition(self._topic, partition)
            found = consumer.get_watermark_offsets(where, timeout=_ASK_S)
            if found is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its public name
            ends[partition] = (int(found[0]), int(found[1]))
        return ends

    def _resume(self, consumer: Consumer, turn: "_Turn") -> None:
        """Kafka answers again: what lies below the present end offsets was published meanwhile."""
        try:
            ends = self._ends(consumer, turn.positions)
        except KafkaException:
            turn.live_from = dict.fromkeys(
                turn.positions, _NEVER
            )  # asked again at the next message
        else:
            turn.live_from = {partition: end for partition, (_, end) in ends.items()}
            self._was_away = False
            self._said.clear()

    def _is_another(self, consumer: Consumer, turn: "_Turn") -> bool:
        """Whether the topic has been made anew, or has other partitions."""
        try:
            if self._partitions(consumer) != sorted(turn.positions):
                return True
            ends = self._ends(consumer, turn.positions)
            return any(end < turn.positions[partition] for partition, (_, end) in ends.items())
        except KafkaException:
            return False  # nobody answers: looked at again later

    def _on_error(self, error: KafkaError) -> None:
        """Kafka's error events. GROUP_AUTHORIZATION_FAILED is harmless: no group is used."""
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return
        if error.code() in _AWAY:
            self._was_away = True
            if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
                self._say("Kafka is away; decisions are kept while their leases run")
            return
        self._say(f"{self._topic}: {error.str()}{_REMEDY.get(error.code(), '')}", error.name())

    def _say(self, text: str, trouble: str = "") -> None:
        """Each trouble once, until all is well again. `trouble` names it where its text varies (librdkafka
        puts times and attempts into it)."""
        trouble = trouble or text
        if trouble not in self._said and len(self._said) < _SAID_MAX:
            self._said.add(trouble)
            _log.warning("%s", text)


_SAID_MAX = 100
_REMEDY = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "; a client needs Read on it (`tidegate topics acls --role client`)"
    ),
    KafkaError._AUTHENTICATION: "; see docs/security.md for the settings",  # noqa: SLF001 - its public name
}
_NEVER = 1 << 62


class _Turn:
    """One reading of the topic from its beginning."""

    __slots__ = ("is_catching_up", "live_from", "positions", "unread")

    def __init__(self, ends: Mapping[int, tuple[int, int]]) -> None:
        self.positions = dict.fromkeys(ends, 0)
        self.live_from = dict.fromkeys(ends, 0)
        self.unread = {partition: end for partition, (first, end) in ends.items() if first < end}
        """End offsets that have not been reached."""
        self.is_catching_up = True

    def reached(self, partition: int, offset: int) -> None:
        """Everything below this offset has been read."""
        if offset >= self.unread.get(partition, _NEVER):
            del self.unread[partition]
