"""Reads topics without a group: from their beginning to where they end now, or on and on."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from tidegate.streams.errors import Failure

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

__all__ = ["LogRecord", "Span", "follow_log", "log_spans", "read_log"]

_ANSWER_S = 10.0
_RETRY_S = 0.2
_SILENCE_S = 30.0
_BATCH_RECORDS_MAX = 500


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    append_ms: int
    """Its Kafka timestamp; of topics with LogAppendTime, when the broker appended it."""
    key: bytes | None
    value: bytes | None


class Span(msgspec.Struct, frozen=True, array_like=True):
    """What a partition holds: offsets from `low` up to but not including `end`."""

    topic: str
    partition: int
    low: int
    end: int


def log_spans(config: Mapping[str, str], topics: Sequence[str]) -> list[Span]:
    """What the topics hold now, one after the other in the order given: what a later topic holds is asked
    later. Raises Failure where the broker doesn't answer or a topic is missing.
    """
    from confluent_kafka import KafkaException

    errors: list[str] = []
    consumer = _consumer(config, errors)
    spans: list[Span] = []
    try:
        _wait_for_answer(consumer, config, errors)
        for topic in topics:
            until_s = time.monotonic() + _ANSWER_S
            while True:
                try:
                    spans += _spans_of(consumer, topic)
                    break
                except _NotYetError as problem:
                    # A topic that was just made has no leader for a moment.
                    if time.monotonic() > until_s:
                        raise Failure(
                            f"topic {topic}: {problem}; `tidegate topics check` tells more"
                        ) from problem
                    time.sleep(_RETRY_S)
    except KafkaException as problem:
        raise Failure(_unreachable(config, problem)) from problem
    finally:
        consumer.close()
    return spans


class _NotYetError(Exception):
    """A topic that isn't there, or not yet."""


def _spans_of(consumer: "Consumer", topic: str) -> list[Span]:
    from confluent_kafka import KafkaError, KafkaException, TopicPartition

    metadata = consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
    if metadata.error is not None or not metadata.partitions:
        raise _NotYetError(metadata.error.str() if metadata.error else "has no partitions")
    spans = []
    for partition in sorted(metadata.partitions):
        try:
            low, end = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_ANSWER_S
            )
        except KafkaException as problem:
            error = problem.args[0]
            if error.code() in (
                KafkaError.NOT_LEADER_FOR_PARTITION,
                KafkaError.LEADER_NOT_AVAILABLE,
                KafkaError.UNKNOWN_TOPIC_OR_PART,
            ):
                raise _NotYetError(error.str()) from problem
            raise
        spans.append(Span(topic, partition, low, end))
    return spans


def read_log(config: Mapping[str, str], spans: Sequence[Span]) -> Iterator[LogRecord]:
    """Every record of the spans; each partition's in the order of offsets, partitions mixed."""
    from confluent_kafka import KafkaError, KafkaException, TopicPartition

    ends = {(span.topic, span.partition): span.end for span in spans if span.end > span.low}
    if not ends:
        return
    consumer = _consumer(config)
    try:
        consumer.assign(
            [TopicPartition(s.topic, s.partition, s.low) for s in spans if s.end > s.low]
        )
        silent_s = 0.0
        while ends:
            messages = consumer.consume(_BATCH_RECORDS_MAX, timeout=1.0)
            silent_s = 0.0 if messages else silent_s + 1.0
            if silent_s >= _SILENCE_S:
                rest = ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(ends))
                raise Failure(
                    f"{_brokers(config)}: nothing came for {_SILENCE_S:.0f} s from {rest}"
                )
            for message in messages:
                place = _place(message)
                error = message.error()
                if error is not None:
                    # A compacted topic may have no record just before its end.
                    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                        ends.pop(place, None)
                    elif not error.retriable() and error.fatal():
                        raise Failure(_unreachable(config, error.str()))
                    continue
                end = ends.get(place)
                record = _record(message)
                if end is None or record.offset >= end:
                    ends.pop(place, None)
                    continue
                yield record
                if record.offset + 1 >= end:
                    ends.pop(place)
    except KafkaException as problem:
        raise Failure(_unreachable(config, problem)) from problem
    finally:
        consumer.close()


def follow_log(
    config: Mapping[str, str], spans: Sequence[Span], *, tick_s: float
) -> Iterator[tuple[list[LogRecord], set[tuple[str, int]]]]:
    """Records of the spans' partitions from `low` on, and on: at least every `tick_s` those that came,
    and the partitions whose end was reached. A broker that goes away is waited for.
    """
    from confluent_kafka import KafkaError, TopicPartition

    consumer = _consumer(config)
    try:
        consumer.assign([TopicPartition(s.topic, s.partition, s.low) for s in spans])
        while True:
            records, ended = [], set()
            for message in consumer.consume(_BATCH_RECORDS_MAX, timeout=tick_s):
                error = message.error()
                if error is None:
                    records.append(_record(message))
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    ended.add(_place(message))
            yield records, ended
    finally:
        consumer.close()


def _place(message: "Message") -> tuple[str, int]:
    """Of a message that was consumed: the types allow None for messages that are still to be sent."""
    return message.topic() or "", message.partition() or 0


def _record(message: "Message") -> LogRecord:
    topic, partition = _place(message)
    append_ms = message.timestamp()[1]
    offset = message.offset() or 0
    return LogRecord(topic, partition, offset, append_ms, message.key(), message.value())


def _consumer(config: Mapping[str, str], errors: list[str] | None = None) -> "Consumer":
    """Its errors go to `errors`, not to stderr: librdkafka would write a line for every attempt."""
    from confluent_kafka import Consumer

    def on_error(error: "KafkaError") -> None:
        if errors is not None:
            errors.append(error.str())

    return Consumer(
        {
            **config,
            # Never joined: librdkafka wants a name for it all the same.
            "group.id": "tidegate-tools",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "log_level": 0,
            "error_cb": on_error,
        }
    )


def _wait_for_answer(
    consumer: "Consumer", config: Mapping[str, str], errors: Sequence[str]
) -> None:
    from confluent_kafka import KafkaException

    until_s = time.monotonic() + _ANSWER_S
    while True:
        try:
            consumer.list_topics(timeout=1.0)
        except KafkaException as problem:
            consumer.poll(0)
            if time.monotonic() > until_s:
                raise Failure(_unreachable(config, errors[0] if errors else problem)) from problem
        else:
            return


def _brokers(config: Mapping[str, str]) -> str:
    return config.get("bootstrap.servers", "?")


def _unreachable(config: Mapping[str, str], problem: object) -> str:
    reason = problem.args[0].str() if isinstance(problem, Exception) else problem
    return (
        f"{_brokers(config)}: no Kafka broker answered ({reason}); check --brokers and, on a secured "
        "cluster, --kafka-config"
    )
