"""pairing: a Faust agent that feeds each partition of `tidegate.pairs` to its `Pairing` and sends what that
tells into partials, to the partitions of the callers.

Memory is not kept: what is committed lies one trace's time back, so that a successor meets again the spans
whose other half is still to come. What it tells twice is a sample anyway.
"""

import asyncio
import time
from collections import Counter as Counts
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import faust
from faust.types import TP
from prometheus_client import Counter

from tidegate.rules.pairing import TRACE_MS, Pairing, Told
from tidegate.rules.pairs import pack_facts
from tidegate.schemas.topics import Topics
from tidegate.streams.exactly import ExactApp
from tidegate.streams.logs import get_logger
from tidegate.streams.source_topics import TopicFacts
from tidegate.streams.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from tidegate.streams.metrics import WorkerMetrics

__all__ = ["PairingStage", "add_pairing"]

ALIVE_S = 90.0
COMMIT_EVERY_MS = 5_000
MARK_EVERY_MS = 1_000
SEEK_AGAIN_S = 3.0
TRIES_MAX = 2
"""How often reading is sent back for records that did not come."""

log = get_logger("pairing")


@dataclass(slots=True)
class _Owned:
    """A partition's memory, from one assignment to the next."""

    number: int
    expected: int
    """Offset of the next record to feed."""
    pairing: Pairing = field(default_factory=Pairing)
    counted: Counts[str] = field(default_factory=Counts)
    """What has been added to the metrics."""
    marks: deque[tuple[int, int]] = field(default_factory=deque)
    """(append time, offset) of a record of each second in a trace's time, and of one before that."""
    committed_ms: int = 0
    """The log's time when an offset was last committed."""
    sought_s: float = -SEEK_AGAIN_S
    tries: int = 0

    def feed(self, value: bytes, *, offset: int, append_ms: int) -> Told:
        """One record, and what is to be told by then."""
        self.expected, self.tries = offset + 1, 0
        marks = self.marks
        if not marks or append_ms >= marks[-1][0] + MARK_EVERY_MS:
            marks.append((append_ms, offset))
        while len(marks) > 1 and marks[1][0] <= append_ms - TRACE_MS:
            marks.popleft()
        self.pairing.feed(value, append_ms)
        return self.pairing.due(append_ms)


class PairingStage:
    """All partitions of this worker. Made before the app starts; the agent calls `take`."""

    def __init__(
        self,
        app: ExactApp,
        table: Any,
        topics: Topics,
        metrics: "WorkerMetrics",
        *,
        partitions_count: int,
    ) -> None:
        """table: one of the app's; when it has recovered, partitions are about to be read.
        partitions_count: of partials."""
        self._app, self._topics = app, topics
        self._partitions_count = partitions_count
        self._owned: dict[int, _Owned] = {}
        self._busy_since_s: float | None = None
        registry = metrics.registry
        self._counted = Counter(
            "tidegate_pairing",
            "What pairing counted: spans, pairs, duplicate_spans, undecodable_pairs, ...",
            ("kind",),
            registry=registry,
        )
        self._facts = Counter(
            "tidegate_pairing_facts", "Facts and loops sent to evaluate", registry=registry
        )
        table.on_recover(self._begin_or_end)
        app.on_partitions_revoked.connect(self._on_revoked)
        metrics.set_stage("pairing", is_ready=lambda: True, is_alive=lambda: self.is_alive)

    @property
    def is_alive(self) -> bool:
        """Whether no record has been in hand for too long."""
        since = self._busy_since_s
        return since is None or time.monotonic() - since < ALIVE_S

    def start_offsets(self) -> Mapping[TP, int]:
        """From where partitions must be read, now."""
        return {TP(self._topics.pairs, n): one.expected for n, one in self._owned.items()}

    async def take(self, message: Any) -> None:
        """Feeds one record and sends what is told. Every record once, in the log's order."""
        owned = self._owned.get(message.partition)
        if owned is None or message.offset < owned.expected:
            return
        if message.offset > owned.expected and not await self._accept_gap(owned, message.offset):
            return
        self._busy_since_s = time.monotonic()
        append_ms = round(message.timestamp * 1000)
        told = await asyncio.to_thread(
            owned.feed, message.value or b"", offset=message.offset, append_ms=append_ms
        )
        if self._owned.get(owned.number) is owned:
            await self._tell(owned, told)
            await self._commit(owned, append_ms)
        self._busy_since_s = None

    async def _accept_gap(self, owned: _Owned, offset: int) -> bool:
        """Offsets have no holes, so reading is sent back to where some are missing; only if that doesn't help
        (the log begins after them by now) does it go on. Until then later records are dropped."""
        now_s = time.monotonic()
        if now_s - owned.sought_s < SEEK_AGAIN_S:
            return False
        tp = TP(self._topics.pairs, owned.number)
        low = (await self._app.consumer.earliest_offsets(tp))[tp]
        if low > owned.expected or owned.tries >= TRIES_MAX:
            log.warning(
                "records of pairs are gone before they were read",
                partition=owned.number,
                first=owned.expected,
                last=offset - 1,
            )
            owned.expected = offset
            return True
        owned.tries += 1
        await self._app.consumer.seek_back(tp, owned.expected)
        owned.sought_s = time.monotonic()
        return False

    async def _tell(self, owned: _Owned, told: Told) -> None:
        """All of it delivered before the next record is fed."""
        sends = [
            await self._app.producer.send(
                self._topics.partials, None, record.value, record.partition, None, None
            )
            for record in pack_facts(told.facts, told.loops, self._partitions_count)
        ]
        if sends:
            await asyncio.gather(*sends)
        self._facts.inc(len(told.facts) + len(told.loops))
        for kind, count in owned.pairing.counters.items():
            if count > owned.counted[kind]:
                self._counted.labels(kind).inc(count - owned.counted[kind])
                owned.counted[kind] = count

    async def _commit(self, owned: _Owned, append_ms: int) -> None:
        """So that whoever reads on from there has a trace's time in memory by the next record."""
        if append_ms - owned.committed_ms < COMMIT_EVERY_MS:
            return
        owned.committed_ms = append_ms
        tp = TP(self._topics.pairs, owned.number)
        await self._app.consumer.commit_exactly(tp, owned.marks[0][1])

    # ---- assignment ----

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        """Others may read on from here."""
        self._owned = {}

    async def _begin_or_end(self) -> None:
        """Faust swallows what a recovery callback raises."""
        try:
            await self._begin()
        except Exception as problem:  # noqa: BLE001 - handed to the app, which ends
            await self._app.crash(problem)

    async def _begin(self) -> None:
        """From the committed offsets, where the log still has them."""
        consumer = self._app.consumer
        tps = sorted(tp for tp in consumer.assignment() if tp.topic == self._topics.pairs)
        low = await consumer.earliest_offsets(*tps) if tps else {}
        end = await consumer.highwaters(*tps) if tps else {}
        owned = {}
        for tp in tps:
            at = await consumer.committed_offset(tp)
            is_there = at is not None and low[tp] <= at <= end[tp]
            owned[tp.partition] = _Owned(tp.partition, at if is_there else low[tp])
        self._owned = owned
        log.info("pairing begins", partitions={n: one.expected for n, one in sorted(owned.items())})


def add_pairing(
    app: ExactApp,
    settings: WorkerSettings,
    metrics: "WorkerMetrics",
    facts: Mapping[str, TopicFacts],
) -> PairingStage:
    """The agent, in an app that has evaluate's table already. `facts` has the pairs topic."""
    topics = settings.topics
    pairs = app.raw_topic(topics.pairs, partitions_count=facts[topics.pairs].partitions_count)
    stage = PairingStage(
        app,
        app.tables[topics.snapshots_table],
        topics,
        metrics,
        partitions_count=facts[topics.partials].partitions_count,
    )

    @app.agent(pairs, name="pairing")
    async def pair(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.noack().events():
            await stage.take(event.message)

    return stage
