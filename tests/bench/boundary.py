"""Boundary step against the number of keys: what one evaluate partition pays each 500 ms of event time."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.rows import Row
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.packing import Packer, SourceMark
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.cells import Cells, Exemplars
from tidegate.schemas.partials import Source

__all__ = ["StepCost", "measure", "run"]

_START_BUCKET = 3_600_000_000
_SOURCE = Source("bench", 0)


@dataclass(frozen=True, slots=True)
class StepCost:
    """Milliseconds of CPU per boundary, over the boundaries measured."""

    services: int
    edges: int
    cells_per_boundary: int
    step_p50_ms: float
    step_max_ms: float
    take_p50_ms: float
    """Decoding and queueing the boundary's records, before the step."""
    snapshot_ms: float
    snapshot_bytes: int
    rss_mb: float


def measure(
    services: int, edges_each: int, requests_per_key: int, boundaries: int = 100, bad: float = 0.002
) -> StepCost:
    """Every key gets `requests_per_key` requests in every bucket, a share `bad` of them failed."""
    rng = np.random.default_rng(7)
    keys = [(f"shop/service-{i:05d}", "") for i in range(services)]
    keys += [(s, f"target-{j}") for s, _ in keys for j in range(edges_each)]
    evaluator, packer = Evaluator(0, builtin_policy("default"), partitions_count=1), Packer(1)
    source = np.array([packer.source_index(_SOURCE)], np.int32)
    steps, takes, snapshots, snapshot_bytes, offset = [], [], [], 0, 0
    n = len(keys) * requests_per_key
    key = np.repeat(np.arange(len(keys), dtype=np.int32), requests_per_key)
    for i in range(boundaries):
        packer.add(
            Cells(
                np.zeros(n, np.int32),
                key,
                np.full(n, _START_BUCKET + i, np.int64),
                np.where(rng.random(n) < bad, 4, 0).astype(np.uint16),
                np.clip(rng.normal(500, 25, n), 0, 1100).astype(np.uint16),
                np.ones(n, np.int32),
                np.full(n, 64, np.int32),
                keys,
                Exemplars.empty(),
            ),
            source=source,
            offset=np.array([i]),
            kafka_ms=np.array([(_START_BUCKET + i) * 500 + 400]),
        )
        packer.source_index(_SOURCE)
        end_ms = (_START_BUCKET + i + 1) * 500
        records = packer.flush([SourceMark(_SOURCE, 1, end_ms, 0)], listed=[("bench", 1)])
        spent = 0.0
        for record in records:
            before = time.process_time()
            out = evaluator.feed(record.value, offset=offset, append_ms=end_ms + 500)
            last = time.process_time() - before
            spent += last
            offset += 1
            if out.snapshot is not None:
                snapshots.append(last)
                snapshot_bytes = sum(map(len, out.snapshot.chunks))
        takes.append(spent - last)
        if out.snapshot is None:
            steps.append(last)
    half = steps[len(steps) // 2 :]
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return StepCost(
        services,
        services * edges_each,
        n,
        1000 * float(np.median(half)),
        1000 * max(half),
        1000 * float(np.median(takes[len(takes) // 2 :])),
        1000 * (float(np.median(snapshots)) - float(np.median(half))),
        snapshot_bytes,
        rss_mb,
    )


def run(folder: Path, *, is_quick: bool) -> list[Row]:
    """Against the number of keys: one service and five edges each, three requests a key and boundary."""
    measure(100, 5, 2, 12)  # compiles
    out = []
    for services in (100, 1_000) if is_quick else (100, 1_000, 10_000):
        cost = measure(services, 5, 3, 130)
        keys = cost.services + cost.edges
        shape = f"{cost.services:,} services, {cost.edges:,} edges, {cost.cells_per_boundary:,} requests"
        out += [
            Row(f"boundary step, {keys:,} keys, median", cost.step_p50_ms, "ms CPU", shape),
            Row(f"records of a boundary, {keys:,} keys, median", cost.take_p50_ms, "ms CPU", shape),
            Row(
                f"snapshot (every 20th boundary), {keys:,} keys", cost.snapshot_ms, "ms CPU", shape
            ),
            Row(f"snapshot, {keys:,} keys", cost.snapshot_bytes / 1e6, "MB", shape),
            Row(f"memory, {keys:,} keys", cost.rss_mb, "MB peak", shape),
        ]
    return out
