"""sequencer: a Faust agent that writes each control record that counts into every partition of partials and
into health, so that what was in force when is part of every log that is evaluated.

It keeps nothing: on every assignment it reads the control topic from its beginning and sends again what
still matters. Evaluators ignore what they have heard, by the records' offsets.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faust.types import TP
from prometheus_client import Counter

from tidegate.schemas.health import encode_control_for_graph
from tidegate.schemas.partials import encode_aside
from tidegate.schemas.topics import Topics
from tidegate.streams.control_topic import Accepted, ControlLog, InForce, Refused, batches_of
from tidegate.streams.dead_letter import dead_letter_headers
from tidegate.streams.exactly import ExactApp
from tidegate.streams.logs import get_logger

if TYPE_CHECKING:
    from tidegate.rules.policy import Policy
    from tidegate.streams.metrics import WorkerMetrics

__all__ = ["Sequencer"]

ALIVE_S = 90.0
SEEK_AGAIN_S = 3.0
HISTORY_LINES_MAX = 20
"""Of refused records that were there before reading began."""

log = get_logger("sequencer")


@dataclass(slots=True)
class Reading:
    """The topic, from its beginning on."""

    topic_id: str
    first: int
    """Offset of its first record."""
    live_from: int
    """Records below were there when reading began: what matters of them is sent at once."""
    control: ControlLog
    expected: int
    history: InForce | None = field(default_factory=InForce)
    """None once it has been sent."""
    refused_count: int = 0


class Sequencer:
    """Made before the app starts; the agent calls `take` with every record of the control topic."""

    def __init__(
        self,
        app: ExactApp,
        topics: Topics,
        metrics: "WorkerMetrics",
        fallback_policy: "Policy",
        *,
        partitions_count: int,
        topic_id: Callable[[], str],
    ) -> None:
        """fallback_policy: says how far ahead a record takes effect; the same in all workers.
        partitions_count: of partials. topic_id: asks the broker (blocking)."""
        self._app, self._topics = app, topics
        self._lead_ms = fallback_policy.timing.switch_lead_ms
        self._partitions_count = partitions_count
        self._topic_id = topic_id
        self._tp = TP(topics.control, 0)
        self._reading: Reading | None = None
        self._sought_s = -SEEK_AGAIN_S
        self._busy_since_s: float | None = None
        registry = metrics.registry
        self._records = Counter(
            "tidegate_control_records",
            "Control records written to every partition",
            ("kind",),
            registry=registry,
        )
        self._rejected = Counter(
            "tidegate_control_rejected",
            "Control records that were refused; what was in force stays",
            registry=registry,
        )
        self._undecodable = Counter(
            "tidegate_control_undecodable",
            "Control records of which nobody knows what was meant",
            registry=registry,
        )
        app.on_partitions_revoked.connect(self._on_revoked)
        metrics.set_stage("sequencer", is_ready=lambda: True, is_alive=lambda: self.is_alive)

    @property
    def is_alive(self) -> bool:
        """Whether no record has been in hand for too long."""
        since = self._busy_since_s
        return since is None or time.monotonic() - since < ALIVE_S

    def start_offsets(self) -> Mapping[TP, int]:
        """Always from the beginning."""
        return {self._tp: 0}

    async def take(self, message: Any) -> None:
        """The next record. All that it causes is delivered before this returns; a send that fails is
        raised, and the next owner reads from the beginning."""
        self._busy_since_s = time.monotonic()
        try:
            await self._take(message)
        finally:
            self._busy_since_s = None

    async def _take(self, message: Any) -> None:
        reading = self._reading
        if reading is None or message.offset == reading.first:
            reading = await self._begin(message.offset)
            if reading is None:
                return
        if message.offset < reading.expected:
            return
        if message.offset > reading.expected:
            await self._read_again("records were skipped", reading.expected)
            return
        reading.expected = message.offset + 1
        append_ms = round(message.timestamp * 1000)
        one = await asyncio.to_thread(
            reading.control.take, message.value, offset=message.offset, append_ms=append_ms
        )
        if isinstance(one, Refused):
            await self._refuse(reading, one, message)
        elif reading.history is not None:
            reading.history.add(one)
        else:
            await self._send(reading, [one])
            _tell(one)
        if reading.history is not None and reading.expected >= reading.live_from:
            await self._send_history(reading, reading.history)

    async def _begin(self, offset: int) -> Reading | None:
        """A reading that begins with this record; None where records before it were skipped."""
        consumer = self._app.consumer
        first = (await consumer.earliest_offsets(self._tp))[self._tp]
        if offset > first:
            await self._read_again("the beginning was skipped", first)
            return None
        end = (await consumer.highwaters(self._tp))[self._tp]
        topic_id = await asyncio.to_thread(self._topic_id) or self._topics.control
        control = ControlLog(switch_lead_ms=self._lead_ms)
        self._reading = Reading(topic_id, offset, end, control, expected=offset)
        return self._reading

    async def _read_again(self, why: str, first: int) -> None:
        """Until the reading has gone back, later records come out of buffers; they are dropped."""
        now_s = time.monotonic()
        if now_s - self._sought_s < SEEK_AGAIN_S:
            return
        log.warning(f"{why}; reading the control topic from its beginning", missing=first)
        self._reading = None
        await self._app.consumer.seek_back(self._tp, 0)
        self._sought_s = time.monotonic()

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        """Others may write from here on; at the next assignment all is read again."""
        self._reading = None

    # ---- what goes out ----

    async def _send_history(self, reading: Reading, history: InForce) -> None:
        records = history.records()
        reading.history = None
        await self._send(reading, records)
        log.info(
            "control records in force were sent",
            read=reading.expected - reading.first,
            sent=len(records),
            refused=reading.refused_count,
            policy=next((one.label for one in reversed(records) if one.label), ""),
        )

    async def _send(self, reading: Reading, records: list[Accepted]) -> None:
        """To every log, one record after the other: who ends in between has left a prefix in each."""
        topics, count = self._topics, self._partitions_count
        for batch in batches_of(records, reading.topic_id):
            value = encode_aside(partitions_count=count, control=batch)
            logs = [(topics.partials, partition, value) for partition in range(count)]
            logs.append((topics.health, 0, encode_control_for_graph(batch)))
            sends = [
                await self._app.producer.send(topic, None, value, partition, None, None)
                for topic, partition, value in logs
            ]
            await asyncio.gather(*sends)
        for one in records:
            self._records.labels(_kind(one)).inc()

    async def _refuse(self, reading: Reading, one: Refused, message: Any) -> None:
        """The last good one stays in force. One that was there before reading began is told more quietly:
        it is met again at each rebalance, and the control topic itself keeps it."""
        is_history = reading.history is not None
        reading.refused_count += 1
        (self._undecodable if one.is_undecodable else self._rejected).inc()
        if not is_history or reading.refused_count <= HISTORY_LINES_MAX:
            record, say = one.record, log.info if is_history else log.error
            say(
                "a control record was refused; what was in force stays",
                offset=one.offset,
                kind="" if record is None else record.__struct_config__.tag,
                by="" if record is None else record.by,
                problems=list(one.problems),
            )
        if is_history or not one.is_undecodable:
            return
        headers = [
            *dict(message.headers or ()).items(),
            *dead_letter_headers(self._topics.control, 0, one.offset, {"reason": one.problems[0]}),
        ]
        sent = await self._app.producer.send(
            self._topics.dlq, message.key, message.value, None, None, headers
        )
        await sent


def _kind(one: Accepted) -> str:
    return str(one.record.__struct_config__.tag)


def _tell(one: Accepted) -> None:
    """An audit line."""
    log.info(
        "a control record was sent to every partition",
        offset=one.offset,
        kind=_kind(one),
        scope=getattr(one.record, "scope", ""),
        by=one.record.by,
        reason=one.record.reason,
        policy=one.label,
        effective_boundary=one.effective_boundary,
    )
    for warning in one.warnings:
        log.warning(warning, policy=one.label)
