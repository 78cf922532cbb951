"""One evaluate partition: its log goes in, record by record; decisions, health and snapshots come out.

A pure function of the log: any worker, live, restarted or replaying, gives the same bytes. After
`restore` records up to X are only folded (no steps, no feeding); from X on everything runs as live.
"""

import numpy as np
import numpy.typing as npt

from tidegate.rules import snapshots
from tidegate.rules.aliases import UNPLACED
from tidegate.rules.exemplars import candidates_of
from tidegate.rules.instances import rows_of
from tidegate.rules.outputs import Outputs
from tidegate.rules.partition import Partition
from tidegate.rules.pending import Arrived, merge
from tidegate.rules.policy import Policy
from tidegate.rules.publish import publish
from tidegate.rules.ruling import Telemetry
from tidegate.rules.sources import Sources
from tidegate.schemas.cells import BUCKET_MS, SELF_TIME
from tidegate.schemas.partials import Blocks, PartialsRecord, decode_partials
from tidegate.schemas.points import MetricPoint

__all__ = ["FUTURE_BUCKETS_MAX", "Evaluator", "PartitionsChangedError"]

FUTURE_BUCKETS_MAX = 240
SNAPSHOT_EVERY_BOUNDARIES = 20
JUMP_BOUNDARIES = 7_200
"""A partition without a single key skips silence of more than an hour instead of stepping through it."""
_LAG_MAX = 63


class PartitionsChangedError(ValueError):
    """The partials topic has another number of partitions than this worker knows."""


class Evaluator:
    """State of one partition. `boundary` is the newest one stepped, None before the first."""

    def __init__(self, partition: int, policy: Policy, *, partitions_count: int) -> None:
        """policy: in force until the log says otherwise."""
        self.partition = partition
        self.fallback = policy
        """What ingest and sources go by: `timing` of a pushed policy doesn't move them."""
        self.partitions_count = partitions_count
        self.boundary: int | None = None
        self.state = Partition(partition, policy, partitions_count=partitions_count)
        self.pending = self.state.traffic.pending
        self.sources = self._new_sources()
        self._refold_until: int | None = None
        """X while memory is being rebuilt: records up to it are only folded."""
        self._refold_sources = self._new_sources()
        self._odd, self._spans = 0, 0
        """Since the last boundary, for the panic guard."""

    @classmethod
    def restore(
        cls,
        partition: int,
        policy: Policy,
        manifest: bytes,
        chunks: list[bytes],
        *,
        partitions_count: int,
    ) -> "Evaluator":
        """From a snapshot. Raises ValueError where it isn't whole. Feed from its start offset on."""
        evaluator = cls(partition, policy, partitions_count=partitions_count)
        read = snapshots.load(evaluator.state, manifest, chunks)
        evaluator.boundary = read.boundary
        evaluator.state.traffic.windows.advance(read.boundary)
        evaluator.sources.restore(read.sources, read.now_ms)
        evaluator._refold_until = read.offset
        evaluator._note_stepped(read.offset)
        return evaluator

    def feed(self, record: bytes, *, offset: int, append_ms: int) -> Outputs:
        """One record of `tidegate.partials`, at its log offset, with the time the broker appended it.

        Raises PartitionsChangedError where the writer saw another number of partitions. Bytes that are no
        partials record are counted, never raised: one broken record must not stop a partition."""
        out = Outputs(boundary=self.boundary)
        try:
            read, blocks = decode_partials(record)
        except ValueError:
            out.counters["undecodable_partials"] += 1
            self._odd += 1
            return out
        if read.partitions_count != self.partitions_count:
            raise PartitionsChangedError(
                f"tidegate.partials: a record says {read.partitions_count} partitions, this worker sees "
                f"{self.partitions_count}; the number is fixed at creation: make the topic anew"
            )
        is_refold = self._refold_until is not None and offset <= self._refold_until
        sources = self._refold_sources if is_refold else self.sources
        if not is_refold:
            self._end_refold()
        sources.hear(listed=read.listed, append_ms=append_ms)
        if not is_refold:  # those of a refold are in the snapshot, applied or waiting
            self.state.in_force.offer(read.control)
            self.state.traffic.facts.offer(read.facts, read.loops)
        self._offer_points(read.points, offset, append_ms, out, is_refold=is_refold)
        self._merge(sources, read, blocks, offset, append_ms, out, is_refold=is_refold)
        if is_refold:
            for watermark in read.watermarks:
                sources.advance(read.sources, watermark, append_ms)
            if offset != self._refold_until:
                return out
            self._end_refold()
            self.sources.hear(listed=read.listed, append_ms=append_ms)
        for watermark in read.watermarks:
            self.sources.advance(read.sources, watermark, append_ms)
        self._step_all(offset, out)
        out.boundary = self.boundary
        out.watermark_ms = self.sources.watermark_ms()
        return out

    def _merge(
        self,
        sources: Sources,
        read: PartialsRecord,
        blocks: Blocks,
        offset: int,
        append_ms: int,
        out: Outputs,
        *,
        is_refold: bool,
    ) -> None:
        """New blocks' cells into pending; in a refold, what is below the boundary into the window."""
        is_new = sources.admit(read.sources, blocks)
        out.counters["duplicate_blocks"] += int((~is_new).sum())
        chosen = np.repeat(is_new, blocks.cells_count)
        limit = (append_ms + self.fallback.skew_max_ms) // BUCKET_MS
        skewed = chosen & (blocks.bucket > limit)
        if skewed.any():
            out.counters["skewed"] += _requests(blocks, skewed)
            self._odd += 0 if is_refold else _requests(blocks, skewed)
            chosen &= ~skewed
        if self.boundary is not None:
            late = chosen & (blocks.bucket < self.boundary + (0 if is_refold else 1) - 60)
            if late.any():
                if not is_refold:
                    out.counters["late"] += _requests(blocks, late)
                    self._odd += _requests(blocks, late)
                chosen &= ~late
        slot_of_key = self._slots(blocks, chosen, out, is_refold=is_refold)
        whole = bool(chosen.all())
        index = slice(None) if whole else chosen
        kafka_ms = np.repeat(blocks.kafka_ms, blocks.cells_count)[index]
        bucket = blocks.bucket[index]
        lag = np.clip(kafka_ms // BUCKET_MS - bucket, 0, _LAG_MAX).astype(np.uint8)
        cells = Arrived(
            slot_of_key[blocks.key[index]].astype(np.int32),
            bucket,
            blocks.code[index],
            blocks.bin[index],
            blocks.count[index],
            blocks.weight[index],
            lag,
        )
        out.counters["cells"] += len(bucket)
        out.counters["requests"] += _requests(blocks, chosen)
        self._spans += 0 if is_refold else _requests(blocks, chosen)
        offered = np.repeat(is_new, blocks.exemplars_count)
        offered &= blocks.exemplar_bucket <= limit
        offered &= slot_of_key[blocks.exemplar_key] != UNPLACED
        rows = np.repeat(is_new, blocks.instances_count)
        rows &= (blocks.instance_bucket <= limit) & (slot_of_key[blocks.instance_key] >= 0)
        self.state.traffic.instances.offer(rows_of(blocks, slot_of_key, rows))
        self.pending.note(blocks.instance_bucket[rows], offset=offset)
        if is_refold and self.boundary is not None:
            aliases = self.state.traffic.aliases
            aliases.recall(blocks.keys, blocks.key[index], cells.bucket, cells.slot, offset)
            self._refold(cells, offset)
            self.state.traffic.instances.merge(self.boundary)
            offered &= blocks.exemplar_bucket >= self.boundary
        else:
            self.pending.add(cells, offset=offset)
        self.state.traffic.exemplars.offer(candidates_of(blocks, slot_of_key, offered))

    def _offer_points(
        self,
        points: list[MetricPoint],
        offset: int,
        append_ms: int,
        out: Outputs,
        *,
        is_refold: bool,
    ) -> None:
        """Those that a boundary up to the snapshot's has taken are in it already."""
        newest_ms = append_ms + self.fallback.skew_max_ms
        taken_ms = self.boundary * BUCKET_MS if is_refold and self.boundary is not None else 0
        kept = [p for p in points if taken_ms <= p.time_ms <= newest_ms]
        if not is_refold:
            out.counters["skewed_points"] += len(points) - len(kept)
        self.state.traffic.metrics.offer(kept, offset=offset)

    def _slots(
        self, blocks: Blocks, chosen: npt.NDArray[np.bool_], out: Outputs, *, is_refold: bool
    ) -> npt.NDArray[np.int64]:
        """Slots (codes of targets that have other names) of the record's keys that a chosen cell needs; -1
        for unknown others. In a refold every key that had room is in the snapshot: one that isn't was beyond
        a limit, and is so again."""
        used = np.zeros(len(blocks.keys), np.bool_)
        used[blocks.key[chosen]] = True
        by_key = self.state.traffic.keys.by_key
        if codes := self.state.traffic.aliases.codes:
            found = [codes.get(key, by_key.get(key, UNPLACED)) for key in blocks.keys]
        else:
            found = [by_key.get(key, UNPLACED) for key in blocks.keys]
        slots = np.array(found, np.int64)
        overflow = np.zeros(len(blocks.keys), np.bool_)
        for i in np.flatnonzero(used & (slots == UNPLACED)).tolist():
            slots[i], overflow[i] = self.state.traffic.slot_of(
                *blocks.keys[i], may_add=not is_refold
            )
        if overflow.any() and not is_refold:
            over = chosen & overflow[blocks.key]
            is_edge = np.array([bool(target) for _, target in blocks.keys])[blocks.key]
            out.counters["overflow_edges"] += _requests(blocks, over & is_edge)
            out.counters["overflow_services"] += _requests(blocks, over & ~is_edge)
        return slots

    def _refold(self, cells: Arrived, offset: int) -> None:
        """The window as it was at X: cells below the boundary are in it already by the standing's account,
        the rest waits."""
        assert self.boundary is not None
        below = cells.bucket < self.boundary
        if below.any():
            self.pending.note(cells.bucket[below], offset=offset)
            folded = cells.where(below)
            folded.slot = self.state.traffic.aliases.resolved(folded.slot).astype(np.int32)
            merged = merge(
                folded,
                self.boundary,
                rank=self.state.traffic.keys.rank(),
                in_order=self.state.traffic.keys.in_order(),
            )
            self.state.traffic.windows.merge(merged, self.boundary, is_fed=False)
        self.pending.add(cells.where(~below), offset=offset)

    def _end_refold(self) -> None:
        if self._refold_until is not None:
            self._refold_until = None
            self._refold_sources = self._new_sources()

    def _step_all(self, offset: int, out: Outputs) -> None:
        until = self._steps_until()
        while until is not None and (self.boundary is None or self.boundary < until):
            boundary = self._next(until)
            is_due = boundary % SNAPSHOT_EVERY_BOUNDARIES == 0
            self._step(boundary, out)
            self._note_stepped(offset)
            if is_due and boundary + SNAPSHOT_EVERY_BOUNDARIES > until:
                out.snapshot = snapshots.take(
                    self.state,
                    partition=self.partition,
                    boundary=boundary,
                    offset=offset,
                    sources=self.sources,
                )
            if boundary == until:
                until = self._steps_until()

    def _steps_until(self) -> int | None:
        """The boundary up to which everything has been heard."""
        watermark_ms = self.sources.watermark_ms()
        until = None if watermark_ms is None else watermark_ms // BUCKET_MS
        last = self.pending.last_bucket()
        if self.boundary is not None and last is not None:
            forced = last - FUTURE_BUCKETS_MAX
            if forced > max(self.boundary, until or 0):
                forced_ms = self.sources.forced_watermark_ms(forced * BUCKET_MS)
                until = until if forced_ms is None else forced
        return until

    def _next(self, until: int) -> int:
        if self.boundary is not None:
            is_idle = len(self.state.traffic.keys) == 0 and until - self.boundary > JUMP_BOUNDARIES
            return min([until, *self.pending.buckets()]) if is_idle else self.boundary + 1
        first = self.pending.buckets()[:1]
        # A backlog is stepped through from its beginning, but not all the years from a wrong clock.
        return min(until, max(first[0] + 1, until - JUMP_BOUNDARIES)) if first else until

    def _step(self, boundary: int, out: Outputs) -> None:
        cells, late_count = self.pending.take(boundary)
        out.counters["late"] += late_count
        telemetry = Telemetry(self._odd + late_count, self._spans, self.sources.left_out_count())
        self._odd, self._spans = 0, 0
        stepped = self.state.step(cells, boundary, telemetry)
        self.boundary = boundary
        out.counters["boundaries"] += 1
        out.counters.update(stepped.counters)
        out.counters.update(self.state.traffic.metrics.counters)
        self.state.traffic.metrics.counters.clear()
        publish(self.state, stepped, boundary, partition=self.partition, out=out)

    def _note_stepped(self, offset: int) -> None:
        """With which record the newest boundary was stepped."""
        aliases = self.state.traffic.aliases
        aliases.stepped_boundary, aliases.stepped_offset = self.boundary or 0, offset

    def _new_sources(self) -> Sources:
        return Sources(grace_ms=self.fallback.grace_ms, source_wait_ms=self.fallback.source_wait_ms)


def _requests(blocks: Blocks, chosen: npt.NDArray[np.bool_]) -> int:
    """Spans among the chosen cells (self times are none)."""
    counted = chosen & ((blocks.code & SELF_TIME) == 0)
    return int(blocks.count[counted].sum())
