"""The graph stage: the log of health goes in, record by record; decisions of `inbound:` and `graph:` scopes, views of
the graph and snapshots come out. A pure function of that log, as evaluate is of its own.

Steps follow the boundary up to which every evaluate partition has been heard; one that is silent for
`source_wait_ms` is left out, and what it says later counts from the next boundary on.
"""

from tidegate.rules import snapshots
from tidegate.rules.evaluator import (
    JUMP_BOUNDARIES,
    SNAPSHOT_EVERY_BOUNDARIES,
    PartitionsChangedError,
)
from tidegate.rules.graph.arriving import Arriving, Whole, part_of
from tidegate.rules.graph.partition import GraphPartition
from tidegate.rules.graph.views import view_of
from tidegate.rules.outputs import Outputs
from tidegate.rules.pending import Arrived, merge
from tidegate.rules.policy import Policy
from tidegate.rules.publish import publish
from tidegate.rules.ruling import Telemetry
from tidegate.rules.sources import SourceRecord
from tidegate.rules.window import WINDOW_BUCKETS
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.health import decode_health

__all__ = ["GraphEvaluator"]

VIEW_EVERY_BOUNDARIES = 10
LARGE_EDGES, LARGE_EVERY_BOUNDARIES = 2_000, 60
"""The graph is published every 5 s, one of so many edges every 30 s: nobody reads that at a glance."""


class GraphEvaluator:
    """State of the graph stage. `boundary` is the newest one stepped, None before the first."""

    def __init__(self, policy: Policy, *, partitions_count: int) -> None:
        """policy: in force until the log says otherwise. partitions_count: of evaluate."""
        self.fallback = policy
        self.partition = self.partitions_count = partitions_count
        self.boundary: int | None = None
        self.state = GraphPartition(partitions_count, policy, partitions_count=1)
        self.arriving = self._new_arriving()
        self._refold_until: int | None = None
        self._refolded = self._new_arriving()
        self._odd = 0
        """Records that can't be read, since the last boundary, for the panic guard."""

    @classmethod
    def restore(
        cls, policy: Policy, manifest: bytes, chunks: list[bytes], *, partitions_count: int
    ) -> "GraphEvaluator":
        """From a snapshot. Raises ValueError where it isn't whole. Feed from its start offset on."""
        evaluator = cls(policy, partitions_count=partitions_count)
        read = snapshots.load(evaluator.state, manifest, chunks)
        evaluator.boundary = read.boundary
        evaluator.state.traffic.windows.advance(read.boundary)
        evaluator.arriving.load(evaluator.state.arriving, read.now_ms)
        evaluator._refold_until = read.offset
        return evaluator

    def feed(self, record: bytes, *, offset: int, append_ms: int) -> Outputs:
        """One record of `tidegate.health`, at its log offset, with the time the broker appended it.

        Raises PartitionsChangedError where the writer saw another number of partitions. Bytes that are no
        health record are counted, never raised."""
        out = Outputs(boundary=self.boundary)
        is_refold = self._refold_until is not None and offset <= self._refold_until
        if not is_refold:
            self._end_refold()
        arriving = self._refolded if is_refold else self.arriving
        try:
            read = decode_health(record)
            part = part_of(read)
        except ValueError:
            out.counters["undecodable_health"] += 1
            self._odd += not is_refold
            return out
        whole = None
        if read.control:
            if not is_refold:  # those of a refold are in the snapshot
                self.state.in_force.offer(read.control)
        elif read.partitions != self.partitions_count:
            raise PartitionsChangedError(
                f"tidegate.health: a record says {read.partitions} partitions, this worker sees "
                f"{self.partitions_count}; the number is fixed at creation: make the topics anew"
            )
        else:
            whole = arriving.hear(read, part, offset=offset, append_ms=append_ms)
        if whole is not None:
            if is_refold and self.boundary is not None and whole.boundary <= self.boundary:
                self._refold(whole)
            else:
                arriving.wait(whole)
        if is_refold:
            if offset != self._refold_until:
                return out
            self._end_refold()
        self._step_all(offset, out)
        out.counters.update(arriving.counters)
        arriving.counters.clear()
        out.boundary = self.boundary
        until = self.arriving.until()
        out.watermark_ms = None if until is None else until * BUCKET_MS
        return out

    # ---- inside ----

    def _step_all(self, offset: int, out: Outputs) -> None:
        until = self.arriving.until()
        while until is not None and (self.boundary is None or self.boundary < until):
            boundary = self._next(until)
            self._step(boundary, out)
            is_due = boundary % SNAPSHOT_EVERY_BOUNDARIES == 0
            if is_due and boundary + SNAPSHOT_EVERY_BOUNDARIES > until:
                self.state.arriving = self.arriving.save()
                out.snapshot = snapshots.take(
                    self.state,
                    partition=self.partition,
                    boundary=boundary,
                    offset=offset,
                    sources=_Sources(self.arriving.now_ms),
                    start_offset=self.arriving.start_offset(boundary - WINDOW_BUCKETS, offset),
                )

    def _next(self, until: int) -> int:
        first = self.arriving.first_waiting()
        if self.boundary is not None:
            is_idle = not len(self.state.traffic.keys) and until - self.boundary > JUMP_BOUNDARIES
            if not is_idle:
                return self.boundary + 1
            return until if first is None else max(self.boundary + 1, min(until, first))
        return until if first is None else min(until, max(first, until - JUMP_BOUNDARIES))

    def _step(self, boundary: int, out: Outputs) -> None:
        state = self.state
        cells = state.cells_of(self.arriving.take(boundary), boundary)
        cells, late_count = _within(cells, boundary)
        spans = 0 if cells is None else int(cells.count.sum())
        telemetry = Telemetry(self._odd + late_count, spans, self.arriving.left_out_count())
        self._odd = 0
        stepped = state.step(cells, boundary, telemetry)
        self.boundary = boundary
        out.counters["boundaries"] += 1
        out.counters["late"] += late_count
        out.counters.update(stepped.counters)
        out.counters.update(state.structure.counters)
        state.structure.counters.clear()
        publish(state, stepped, boundary, partition=self.partition, out=out)
        out.health.clear()  # nobody reads the graph stage's own
        is_large = state.structure.edges_count > LARGE_EDGES
        if boundary % (LARGE_EVERY_BOUNDARIES if is_large else VIEW_EVERY_BOUNDARIES) == 0:
            out.views.append(view_of(state, boundary))

    def _refold(self, whole: Whole) -> None:
        """The window as it was: what was merged before the snapshot."""
        assert self.boundary is not None
        keys = self.state.traffic.keys
        for part in whole.parts:
            cells, _ = _within(self.state.refolded(part, whole.boundary), self.boundary)
            if cells is not None:
                merged = merge(cells, self.boundary, rank=keys.rank(), in_order=keys.in_order())
                self.state.traffic.windows.merge(merged, self.boundary, is_fed=False)

    def _end_refold(self) -> None:
        if self._refold_until is not None:
            self._refold_until = None
            self.arriving.take_over(self._refolded)
            self._refolded = self._new_arriving()

    def _new_arriving(self) -> Arriving:
        return Arriving(self.partitions_count, wait_ms=self.fallback.source_wait_ms)


class _Sources:
    """Health has no sources of its own; `Arriving` is saved with the rest."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def records(self) -> list[SourceRecord]:
        return []


def _within(cells: Arrived | None, boundary: int) -> tuple[Arrived | None, int]:
    """(cells that the window still holds, requests that it doesn't)."""
    if cells is None or not len(cells.bucket):
        return None, 0
    is_late = cells.bucket < boundary - WINDOW_BUCKETS
    if not is_late.any():
        return cells, 0
    kept = cells.where(~is_late)
    return (kept if len(kept.bucket) else None), int(cells.count[is_late].sum())
