"""evaluate and the graph stage: Faust agents that feed each partition of a log to its evaluator and publish
what comes out.

On every assignment a partition's memory is discarded and rebuilt from its newest whole snapshot; from
the snapshot's boundary on it publishes again the same bytes, which readers recognise. So it never
matters what a worker had published before it was killed, frozen or moved.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faust.types import TP

from tidegate.rules.pipeline import Outputs, PartitionsChangedError, Snapshot
from tidegate.schemas.topics import Topics
from tidegate.streams.errors import Failure
from tidegate.streams.exactly import ExactApp
from tidegate.streams.log_stage import AnyEvaluator, LogStage
from tidegate.streams.logs import get_logger
from tidegate.streams.snapshot_table import (
    chunk_key,
    keys_before,
    manifest_key,
    newest_first,
)

if TYPE_CHECKING:
    from tidegate.schemas.graph import GraphView
    from tidegate.streams.metrics import WorkerMetrics

__all__ = ["Evaluation", "OwnedPartition"]

SNAPSHOTS_KEPT = 2
ALIVE_S = 90.0
SEEK_AGAIN_S = 3.0
TRIES_MAX = 5


@dataclass(slots=True)
class Gap:
    """Records that did not come."""

    at: int
    """Offset of the first."""
    sought_s: float = -SEEK_AGAIN_S
    """When reading was last sent back, monotonic."""
    tries: int = 0


@dataclass(slots=True)
class OwnedPartition:
    """A partition's memory, from one assignment to the next."""

    partition: int
    """Of the log."""
    number: int
    """Of the evaluator."""
    evaluator: AnyEvaluator
    expected: int
    """Offset of the next record to feed."""
    kept: list[int] = field(default_factory=list)
    """Boundaries of the last snapshots, oldest first."""
    keys: dict[bytes, None] = field(default_factory=dict)
    """Keys in the snapshots' table."""
    gap: Gap | None = None
    """The last one that was met."""


class Evaluation:
    """All partitions of a stage that this worker has. Made before the app starts; the agent calls `take`."""

    def __init__(
        self,
        app: ExactApp,
        table: Any,
        topics: Topics,
        stage: LogStage,
        metrics: "WorkerMetrics",
    ) -> None:
        """table: the stage's, of this app."""
        self._app, self._table, self._topics = app, table, topics
        self.stage = stage
        self._metrics = metrics.of_stage(stage.name)
        self._log = get_logger(stage.name)
        self._newest_view: GraphView | None = None
        self._owned: dict[int, OwnedPartition] = {}
        self._starts: dict[TP, int] = {}
        self._is_rebuilt = False
        self._busy_since_s: float | None = None
        table.on_recover(self._rebuild_or_end)
        app.on_partitions_revoked.connect(self._on_revoked)
        metrics.set_stage(
            stage.name, is_ready=lambda: self._is_rebuilt, is_alive=lambda: self.is_alive
        )

    @property
    def is_alive(self) -> bool:
        """Whether no record has been in hand for too long."""
        since = self._busy_since_s
        return since is None or time.monotonic() - since < ALIVE_S

    @property
    def is_owner(self) -> bool:
        """Whether this worker has any partition of the log."""
        return bool(self._owned)

    @property
    def newest_view(self) -> "GraphView | None":
        """The last graph that was published since the memory was rebuilt."""
        return self._newest_view

    def start_offsets(self) -> Mapping[TP, int]:
        """From where each rebuilt partition must be read."""
        return self._starts

    async def take(self, message: Any) -> None:
        """Feeds one record and publishes what comes out. Every record once, in the log's order: Faust
        may hand over records of an assignment before, or (at a rebalance) again from the start."""
        owned = self._owned.get(message.partition)
        if owned is None or message.offset < owned.expected:
            return
        if message.offset > owned.expected and not await self._accept_gap(owned, message.offset):
            return
        self._busy_since_s = began_s = time.monotonic()
        append_ms = round(message.timestamp * 1000)
        try:
            outputs = await asyncio.to_thread(
                owned.evaluator.feed, message.value, offset=message.offset, append_ms=append_ms
            )
        except PartitionsChangedError as problem:
            raise Failure(str(problem)) from problem
        took_s = time.monotonic() - began_s
        if self._owned.get(owned.partition) is not owned:
            return  # moved meanwhile: its new owner, or our new memory of it, publishes this
        owned.expected = message.offset + 1
        self._measure(owned, outputs, took_s)
        await self._publish(owned, outputs)
        self._busy_since_s = None

    async def _accept_gap(self, owned: OwnedPartition, offset: int) -> bool:
        """Offsets of the log have no holes: where some are missing, reading is sent back to them. Only
        if the log begins after them by now (retention), or nothing helps, is the gap a fact. Until the
        reading has gone back, later records come out of buffers; they are dropped."""
        gap = owned.gap
        if gap is None or gap.at != owned.expected:
            gap = owned.gap = Gap(owned.expected)
        now_s = time.monotonic()
        if now_s - gap.sought_s < SEEK_AGAIN_S:
            return False
        tp = TP(self.stage.log, owned.partition)
        low = (await self._app.consumer.earliest_offsets(tp))[tp]
        if low > owned.expected or gap.tries >= TRIES_MAX:
            self._log.error(
                "records of the log are gone before they were read",
                topic=self.stage.log,
                partition=owned.partition,
                first=owned.expected,
                last=offset - 1,
            )
            owned.expected = offset
            return True
        self._log.warning(
            "records were skipped; reading them again",
            topic=self.stage.log,
            partition=owned.partition,
            first=owned.expected,
        )
        gap.tries += 1
        await self._app.consumer.seek_back(tp, owned.expected)
        gap.sought_s = time.monotonic()
        return False

    # ---- publishing ----

    async def _publish(self, owned: OwnedPartition, outputs: Outputs) -> None:
        """All of it, every send awaited, before the next record is fed; then the snapshot."""
        topics = self._topics
        records = outputs.records()
        sends = [await self._send(topics.decisions, key, value) for key, value in records]
        for name, key, value in outputs.appended(owned.number):
            partition = 0 if name == "health" else None  # it has one only
            sends.append(await self._send(getattr(topics, name), key, value, partition=partition))
        if sends:
            await asyncio.gather(*sends)
        if outputs.views and self._owned.get(owned.partition) is owned:
            self._newest_view = outputs.views[-1]
        self._metrics.decisions.inc(len(records))
        self._metrics.alerts.inc(len(outputs.alerts))
        self._log_applied(owned, outputs)
        if outputs.snapshot is not None:
            await self._save(owned, outputs.snapshot)

    def _log_applied(self, owned: OwnedPartition, outputs: Outputs) -> None:
        """The audit line of everything operators asked for, in every partition."""
        for boundary, due in outputs.applied:
            record = due.record
            self._log.info(
                "in force",
                partition=owned.number,
                boundary=boundary,
                kind=type(record).__name__,
                scope=getattr(record, "scope", None),
                by=record.by,
                reason=record.reason,
                late=due.is_late,
                policy=owned.evaluator.state.policy.label,
            )

    async def _save(self, owned: OwnedPartition, snapshot: Snapshot) -> None:
        """Chunks, then the manifest, then the commit, then the deletion of what is too old."""
        number, partition, boundary = owned.number, owned.partition, snapshot.boundary
        chunks = {chunk_key(number, boundary, i): chunk for i, chunk in enumerate(snapshot.chunks)}
        await self._store(partition, chunks)
        manifest = manifest_key(number, boundary)
        await self._store(partition, {manifest: snapshot.manifest})
        owned.keys |= dict.fromkeys([*chunks, manifest])
        if self._owned.get(partition) is not owned:
            return
        tp = TP(self.stage.log, partition)
        await self._app.consumer.commit_exactly(tp, snapshot.start_offset)
        self._metrics.snapshots.inc()
        if boundary not in owned.kept:
            owned.kept = sorted([*owned.kept, boundary])[-SNAPSHOTS_KEPT:]
        if len(owned.kept) == SNAPSHOTS_KEPT:
            old = keys_before(owned.keys, number, owned.kept[0])
            await self._store(partition, dict.fromkeys(old))
            for key in old:
                del owned.keys[key]

    async def _store(self, partition: int, rows: Mapping[bytes, bytes | None]) -> None:
        """Straight to the changelog. `Table.send_changelog` goes through a buffer whose futures may
        never end after an error, and needs an event that is acknowledged."""
        sends = [
            await self._send(self.stage.changelog, key, value, partition=partition)
            for key, value in rows.items()
        ]
        await asyncio.gather(*sends)

    async def _send(
        self, topic: str, key: bytes, value: bytes | None, *, partition: int | None = None
    ) -> Any:
        """A future that ends when the broker has it."""
        return await self._app.producer.send(topic, key, value, partition, None, None)

    # ---- assignment ----

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        """Memory is worth nothing once others may write the log's consequences: it is built anew from
        the snapshots at the next assignment, whether the partition comes back or not."""
        self._is_rebuilt = False
        self._owned = {}
        self._starts = {}
        self._newest_view = None
        self._metrics.forget_policies()

    async def _rebuild_or_end(self) -> None:
        """Faust swallows what a recovery callback raises."""
        try:
            await self._rebuild()
        except Exception as problem:  # noqa: BLE001 - handed to the app, which ends
            await self._app.crash(problem)

    async def _rebuild(self) -> None:
        consumer = self._app.consumer
        assigned = consumer.assignment()
        mine = sorted(tp for tp in assigned if tp.topic == self.stage.log)
        tps = [tp for tp in mine if TP(self.stage.changelog, tp.partition) in assigned]
        if len(tps) < len(mine):
            self._log.error(
                "partitions were assigned without their snapshots, and are left alone: the worker that "
                "leads the group can't see the topic; `tidegate topics acls` lists what it must be allowed",
                topic=self.stage.changelog,
            )
        earliest = await consumer.earliest_offsets(*tps) if tps else {}
        owned, starts = {}, {}
        for tp in tps:
            one = await asyncio.to_thread(self._restored, tp.partition)
            low = earliest[tp]
            if one.expected < low:
                if one.expected > 0 or low > 0:
                    self._log.warning(
                        "the log's beginning is past its retention; levels may differ from those "
                        "of a worker that read it",
                        topic=tp.topic,
                        partition=tp.partition,
                        needed=one.expected,
                        first=low,
                    )
                one.expected = low
            owned[tp.partition] = one
            starts[tp] = one.expected
        self._owned, self._starts = owned, starts
        self._is_rebuilt = len(tps) == len(mine)
        self._metrics.rebuilds.inc(len(owned))
        self._log.info(
            "partitions rebuilt" if self.stage.name == "evaluate" else "graph stage rebuilt",
            partitions={p: one.expected for p, one in sorted(owned.items())},
        )

    def _restored(self, partition: int) -> OwnedPartition:
        """From the newest snapshot that is whole; from the log's beginning where there is none."""
        evaluators = self.stage.evaluators
        number = evaluators.first_number + partition
        rows: Mapping[bytes, bytes] = dict(self._table.data.items())
        keys: dict[bytes, None] = {
            key: None for key in rows if key.decode().startswith(f"{number}/")
        }
        for stored in newest_first(rows, number):
            try:
                evaluator = evaluators.restore(number, stored.manifest, stored.chunks)
            except ValueError as problem:
                self._log.warning(
                    "a snapshot is not whole", partition=partition, problem=str(problem)
                )
                continue
            start = start_offset_of(stored.manifest)
            return OwnedPartition(partition, number, evaluator, start, [stored.boundary], keys)
        return OwnedPartition(partition, number, evaluators.begin(number), 0, [], keys)

    # ---- measures ----

    def _measure(self, owned: OwnedPartition, outputs: Outputs, took_s: float) -> None:
        metrics = self._metrics
        metrics.records.inc()
        metrics.count(outputs.counters)
        if boundaries := outputs.counters.get("boundaries", 0):
            metrics.step_s.observe(took_s / boundaries)
        metrics.in_force(owned.partition, owned.evaluator.state.policy.label)
        metrics.reached(
            owned.partition, boundary=outputs.boundary, watermark_ms=outputs.watermark_ms
        )


def start_offset_of(manifest: bytes) -> int:
    """From where the log must be read again to rebuild the window."""
    import msgspec

    from tidegate.rules.standing import Manifest

    return msgspec.msgpack.decode(manifest, type=Manifest).start_offset
