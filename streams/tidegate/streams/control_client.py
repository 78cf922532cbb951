"""The control topic for commands: writing one record and reading them all."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import ControlRecord, PolicyPush, encode_control
from tidegate.schemas.topics import Topics
from tidegate.streams.errors import Failure, UsageError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from tidegate.streams.control_topic import Accepted, Refused

__all__ = ["Asked", "ask", "check_asked", "deliver", "lead_ms", "read_control"]

_DELIVERY_S = 20.0
_TEXT_BYTES_MAX = 900_000
"""Of a record: Kafka takes a megabyte with its head."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A record that the control topic has."""

    record: ControlRecord
    offset: int
    append_ms: int
    effective_boundary: int
    """By the built-in policy's lead: workers that run another one may differ."""

    @property
    def effective_ms(self) -> int:
        """When it takes effect."""
        return self.effective_boundary * BUCKET_MS

    def as_json(self, **more: Any) -> str:
        """One line, for audit logs."""
        asked = msgspec.to_builtins(self.record)
        if isinstance(self.record, PolicyPush):
            del asked["text"]
        place = {
            "offset": self.offset,
            "append_ms": self.append_ms,
            "effective_boundary": self.effective_boundary,
            "effective_ms": self.effective_ms,
        }
        return msgspec.json.encode(asked | place | more).decode()


def ask(config: Mapping[str, str], topics: Topics, record: ControlRecord) -> Asked:
    """Writes one record, once the broker has it. Raises UsageError for one that would be refused, Failure
    where it could not be written."""
    check_asked(record)
    value = encode_control(record)
    if len(value) > _TEXT_BYTES_MAX:
        raise UsageError(f"has {len(value):,} bytes; at most {_TEXT_BYTES_MAX:,} fit into a record")
    _check_topic(config, topics.control)
    offset, append_ms = deliver(config, topics.control, None, value)
    boundary = -(-(append_ms + lead_ms()) // BUCKET_MS)
    return Asked(record=record, offset=offset, append_ms=append_ms, effective_boundary=boundary)


def check_asked(record: ControlRecord) -> None:
    """Raises UsageError for a record that would be refused."""
    from tidegate.streams.control_check import problems_of

    problems = problems_of(record, append_ms=record.asked_ms)
    if problems:
        raise UsageError("; ".join(problems))


def read_control(config: Mapping[str, str], topics: Topics) -> "list[Accepted | Refused]":
    """Every record that was ever asked, and whether it counted. Raises Failure where it can't be read."""
    from tidegate.streams.control_topic import ControlLog
    from tidegate.streams.kafka_log import log_spans, read_log

    control = ControlLog(switch_lead_ms=lead_ms())
    return [
        control.take(record.value, offset=record.offset, append_ms=record.append_ms)
        for record in read_log(config, log_spans(config, [topics.control]))
    ]


def deliver(
    config: Mapping[str, str],
    topic: str,
    key: bytes | None,
    value: bytes | None,
    *,
    is_once: bool = True,
) -> tuple[int, int]:
    """Writes one record and returns its offset and time, once all replicas have it. Raises Failure.

    is_once: however often it was tried. Otherwise it may stand there twice, half a second sooner.
    """
    from confluent_kafka import KafkaException, Producer

    told: list[tuple[KafkaError | None, Message]] = []
    errors: list[str] = []
    producer = Producer(
        {
            **config,
            "partitioner": "murmur2_random",  # places keys as Kafka's own clients do
            "enable.idempotence": is_once,
            "acks": "all",
            "linger.ms": 0,
            "delivery.timeout.ms": int(_DELIVERY_S * 1000),
            "log_level": 0,
            "error_cb": lambda error: errors.append(error.str()),
        }
    )
    try:
        producer.produce(
            topic, key=key, value=value, on_delivery=lambda error, m: told.append((error, m))
        )
        producer.flush(_DELIVERY_S + 5.0)
    except KafkaException as problem:
        raise Failure(f"{topic}: {problem.args[0].str()}") from problem
    if not told or told[0][0] is not None:
        reason = errors[0] if errors else str(told[0][0].str() if told and told[0][0] else "")
        raise Failure(
            f"{topic}: the record was not written ({reason or 'no answer'}); check --brokers, that "
            f"the topic is there (`tidegate topics check`), and that you may write to it "
            f"(`tidegate topics acls --role operator`)"
        )
    message = told[0][1]
    return message.offset() or 0, message.timestamp()[1]


def _check_topic(config: Mapping[str, str], topic: str) -> None:
    """A topic that a broker would make on its own would lack the settings that make its times count."""
    from tidegate.streams.kafka_log import log_spans

    log_spans(config, [topic])


def lead_ms() -> int:
    """How far ahead of its append time a record takes effect, by the built-in policy."""
    from tidegate.rules.policy import builtin_policy

    return builtin_policy("default").timing.switch_lead_ms
