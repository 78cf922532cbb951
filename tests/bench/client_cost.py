"""What the thin client costs its service."""

import resource
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.rows import Row
from tidegate.client.decider import wall_ms
from tidegate.client.testing import FeedClient, decision

__all__ = ["run"]

CALLS = 100_000


def run(folder: Path, *, is_quick: bool) -> list[Row]:
    """decide and admit from memory, and memory at 50,000 scopes."""
    boundary = time.time_ns() // 500_000_000
    client = FeedClient(now_ms=wall_ms)
    shapes = {"closed": 1.0, "degraded_2": 0.7, "open": 0.0}
    for level, ratio in shapes.items():
        client.publish(decision(f"edge:a->{level}", level, boundary=boundary, admit_ratio=ratio))  # type: ignore[arg-type]  # levels by name
    traces = [f"{number:032x}" for number in range(CALLS)]

    def timed(call: Callable[[str], object]) -> float:
        before_s = time.process_time()
        for trace_id in traces:
            call(trace_id)
        return (time.process_time() - before_s) / CALLS * 1e6

    def ask(*scopes: str) -> Callable[[str], object]:
        return lambda trace_id: client.admit(*scopes, trace_id=trace_id)

    shape = f"{CALLS:,} calls"
    rows = [Row("decide", timed(lambda _: client.decide("edge:a->open")), "us", shape)]
    for level, ratio in shapes.items():
        cost_us = timed(ask(f"edge:a->{level}"))
        rows.append(Row(f"admit, {level}", cost_us, "us", f"{shape} at admit_ratio {ratio}"))
    cost_us = timed(ask("b", "edge:a->closed"))
    rows.append(Row("admit, service and edge", cost_us, "us", f"{shape}, the edge closed"))
    scopes = 5_000 if is_quick else 50_000
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before_s = time.process_time()
    for number in range(scopes):
        client.publish(decision(f"service:shop/service-{number:06d}", "closed", boundary=boundary))
    read_us = (time.process_time() - before_s) / scopes * 1e6
    memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1000
    return [
        *rows,
        Row("take a decision", read_us, "us", f"{scopes:,}; making and encoding it included"),
        Row(f"memory of {scopes:,} scopes", memory_mb, "MB", "closed decisions"),
    ]
