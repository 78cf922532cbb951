"""A boundary of the graph stage against the number of services and edges: what one worker pays each 500 ms."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.rows import Row
from tidegate.rules.graph.evaluator import GraphEvaluator
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.cells import WEIGHT_ONE
from tidegate.schemas.health import NUMBERS, Health, encode_health
from tidegate.schemas.level import Level

__all__ = ["GraphCost", "measure", "run"]

_START = 3_600_000_000
_PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class GraphCost:
    """Milliseconds of CPU per boundary, over the boundaries measured."""

    services: int
    edges: int
    bad_edges: int
    step_p50_ms: float
    step_max_ms: float
    snapshot_ms: float
    snapshot_bytes: int


def measure(services: int, edges_each: int, *, bad: int, boundaries: int = 90) -> GraphCost:
    """A layered graph in which every key merges a few requests in every boundary; `bad` edges fail."""
    rng = np.random.default_rng(7)
    names = [f"shop/service-{i:05d}" for i in range(services)]
    keys: list[list[tuple[str, str]]] = [[] for _ in range(_PARTITIONS)]
    for i, name in enumerate(names):
        mine = keys[i % _PARTITIONS]
        mine.append((name, ""))
        callees = {(i + 1 + int(j)) for j in rng.integers(0, services // 10, edges_each)}
        mine += [(name, names[j]) for j in sorted(callees) if j < services]
    failing = set(rng.choice(services, bad, replace=False).tolist())
    failing_names = {names[i] for i in failing}
    evaluator = GraphEvaluator(builtin_policy("default"), partitions_count=_PARTITIONS)
    spent: list[float] = []
    snapshots: list[float] = []
    snapshot_bytes = offset = 0
    for boundary in range(_START, _START + boundaries):
        records = []
        for partition in range(_PARTITIONS):
            records += encode_health(
                _health(sorted(keys[partition]), partition, boundary, failing_names, rng)
            )
        took, is_snapshot = 0.0, False
        for record in records:
            before = time.process_time()
            out = evaluator.feed(record, offset=offset, append_ms=(boundary + 1) * 500)
            took += time.process_time() - before
            offset += 1
            if out.snapshot is not None:
                is_snapshot = True
                snapshot_bytes = sum(map(len, out.snapshot.chunks))
        (snapshots if is_snapshot else spent).append(took * 1000)
    steady = spent[30:]
    rows = evaluator.state.structure
    return GraphCost(
        services=rows.nodes_count,
        edges=rows.edges_count,
        bad_edges=bad,
        step_p50_ms=float(np.median(steady)),
        step_max_ms=max(steady),
        snapshot_ms=float(np.median(snapshots[1:])),
        snapshot_bytes=snapshot_bytes,
    )


def _health(
    keys: list[tuple[str, str]],
    partition: int,
    boundary: int,
    failing: set[str],
    rng: np.random.Generator,
) -> Health:
    k = len(keys)
    is_bad = np.array([callee in failing for _, callee in keys])
    key = np.repeat(np.arange(k, dtype=np.uint32), 2)
    n = len(key)
    numbers = {name: np.zeros(k, dtype) for name, dtype in NUMBERS.items()}
    numbers["qps"][:] = 4_000
    numbers["requests"][:] = 120
    numbers["error"] = np.where(is_bad, 900, 0)
    numbers["marks"] = np.where(is_bad, 1, 0)
    numbers["hard"] = np.where(is_bad, 900, -1)
    code = np.where(np.repeat(is_bad, 2), 4, 0)
    return Health(
        partition=partition,
        boundary=boundary,
        policy="default",
        keys=keys,
        score=np.where(is_bad, 200, 1000),
        level=np.where(is_bad, int(Level.OPEN), 0).astype(np.uint8),
        findings=np.zeros(k, np.uint8),
        p95_us=np.where(rng.random(k) < 0.1, 20_000, -1),
        key=key,
        age=np.zeros(n, np.uint16),
        code=code.astype(np.uint16),
        bin=np.clip(rng.normal(500, 25, n), 0, 1100).astype(np.uint16),
        count=np.ones(n, np.int32),
        weight=np.full(n, WEIGHT_ONE, np.int32),
        numbers=numbers,
        partitions=_PARTITIONS,
    )


def run(folder: Path, *, is_quick: bool) -> list[Row]:
    """The goal's size, well and with failing services; and a fifth of it."""
    rows: list[Row] = []
    for services, bad in ((1_000, 0),) if is_quick else ((1_000, 0), (5_000, 0), (5_000, 50)):
        cost = measure(services, 5, bad=bad)
        shape = f"{cost.services} services, {cost.edges} edges, {bad} of them failing"
        rows.append(Row("graph boundary", cost.step_p50_ms, "ms", shape))
        rows.append(Row("graph boundary, max", cost.step_max_ms, "ms", shape))
        rows.append(Row("graph boundary with snapshot", cost.snapshot_ms, "ms", shape))
    return rows
