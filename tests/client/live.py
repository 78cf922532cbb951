"""What the live tests of the client share: publishing like evaluate does, and waiting."""

import time
from collections.abc import Callable, Mapping

from confluent_kafka import Producer

from tidegate.schemas.decision import Decision, Lease, encode_decision, encode_lease
from tidegate.schemas.scope import lease_key

SCOPE = "edge:web->payments"


def now_boundary() -> int:
    return time.time_ns() // 500_000_000


def until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether it becomes true in time."""
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def publish(
    config: Mapping[str, str],
    topic: str,
    *records: Decision | Lease | str,
    kafka_ms: int | None = None,
    timeout_s: float = 30.0,
) -> None:
    """In this order; a text is the scope of a tombstone."""
    producer = Producer({**config, "partitioner": "murmur2_random", "linger.ms": 0})
    for record in records:
        if isinstance(record, str):
            key, value = record, None
        elif isinstance(record, Lease):
            key, value = lease_key(record.partition), encode_lease(record)
        else:
            key, value = record.scope, encode_decision(record)
        # 0 is librdkafka's word for now.
        producer.produce(topic, key=key, value=value, timestamp=kafka_ms or 0)
    assert producer.flush(timeout_s) == 0


def lease(partition: int = 0, *, boundary: int | None = None) -> Lease:
    at = now_boundary() if boundary is None else boundary
    return Lease(partition=partition, boundary=at, window_end_ms=at * 500, lease_ms=45_000)
