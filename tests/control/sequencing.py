"""A worker's sequencer in the test's own process, and what it has written into each partition of partials and
into health.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.streams.evaluating import Running, running
from tests.streams.live import log_of
from tidegate.schemas.control import ControlEntry, ControlRecord, encode_control
from tidegate.schemas.health import decode_health
from tidegate.schemas.partials import decode_partials
from tidegate.schemas.topics import Topics
from tidegate.streams.exactly import ExactApp


class Sequencing:
    """A started worker."""

    def __init__(self, worker: Running) -> None:
        self.app, self.metrics = worker.app, worker.metrics

    def counted(self, name: str, **labels: str) -> float:
        """A counter of its sequencer."""
        return self.metrics.registry.get_sample_value(f"tidegate_control_{name}_total", labels) or 0

    async def until(self, is_true: Callable[[], object], *, within_s: float = 60.0) -> None:
        """Waits, unless the app ends."""
        end_s = time.monotonic() + within_s
        while not await asyncio.to_thread(is_true):
            assert not self.app.ended.is_set(), self.app.crash_reason
            assert time.monotonic() < end_s, "it did not come true"
            await asyncio.sleep(0.1)


@asynccontextmanager
async def sequencing(
    config: Mapping[str, str],
    topics: Topics,
    folder: Path,
    *,
    before: Callable[[ExactApp], object] = lambda _: None,
) -> AsyncIterator[Sequencing]:
    """An evaluate worker; `before` is called with the app before it starts."""
    async with running(config, topics, folder, before=before, has_control=True) as worker:
        yield Sequencing(worker)


def ask_all(config: Mapping[str, str], topics: Topics, *records: ControlRecord | bytes) -> None:
    """As operators write them, one after the other."""
    producer = Producer({**config, "acks": "all", "linger.ms": 0, "log_level": 0})
    for record in records:
        value = record if isinstance(record, bytes) else encode_control(record)
        producer.produce(topics.control, value, partition=0)
        assert producer.flush(30) == 0


def entries_of(config: Mapping[str, str], topics: Topics) -> dict[int, list[ControlEntry]]:
    """By partition, as they stand in its log; those that an evaluator ignores left out."""
    found: dict[int, list[ControlEntry]] = {}
    for record in sorted(log_of(config, topics.partials), key=lambda r: (r.partition, r.offset)):
        read, _ = decode_partials(record.value or b"")
        heard = found.setdefault(record.partition, [])
        for entry in read.control:
            if not heard or entry.seq > heard[-1].seq:
                heard.append(entry)
    return found


def entries_of_health(config: Mapping[str, str], topics: Topics) -> list[ControlEntry]:
    """As `entries_of`, of the graph stage's log."""
    heard: list[ControlEntry] = []
    for record in log_of(config, topics.health):
        for entry in decode_health(record.value or b"").control:
            if not heard or entry.seq > heard[-1].seq:
                heard.append(entry)
    return heard


def break_after(sends: int, *topics: str) -> Callable[[ExactApp], object]:
    """A worker that dies after so many sends of control entries: to topics, in the order in which they are
    sent."""

    def prepare(app: ExactApp) -> None:
        send, done = app.producer.send, [0]

        async def broken(name: str, key: bytes | None, *arguments: Any, **named: Any) -> Any:
            is_asked = key is None and name in topics
            if is_asked:
                if done[0] >= sends:
                    raise RuntimeError("killed here")
                done[0] += 1
            sent = await send(name, key, *arguments, **named)
            if is_asked:
                await sent  # it is in the log when the worker dies
            return sent

        app.producer.send = broken

    return prepare
