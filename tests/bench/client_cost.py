"""What the thin client costs its service."""

import resource
import time
from pathlib import Path

from tests.bench.rows import Row
from tidegate.client.testing import FeedClient, decision

__all__ = ["run"]

CALLS = 100_000


def run(folder: Path, *, is_quick: bool) -> list[Row]:
    """decide and admit from memory, and memory at 50,000 scopes."""
    now_ms = time.time_ns() // 1_000_000
    client = FeedClient(now_ms=lambda: now_ms)
    boundary = now_ms // 500
    client.publish(decision("edge:a->b", "degraded_2", boundary=boundary, admit_ratio=0.7))

    def timed(call: object) -> float:
        before = time.process_time()
        for number in range(CALLS):
            call(number)  # type: ignore[operator]  # a callable
        return (time.process_time() - before) / CALLS * 1e6

    decide_us = timed(lambda _number: client.decide("edge:a->b"))
    admit_us = timed(lambda number: client.admit("edge:a->b", trace_id=str(number)))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scopes = 5_000 if is_quick else 50_000
    for number in range(scopes):
        client.publish(decision(f"service:shop/service-{number:06d}", "closed", boundary=boundary))
    memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1000
    return [
        Row("decide", decide_us, "us", f"{CALLS:,} calls"),
        Row("admit", admit_us, "us", f"{CALLS:,} calls at admit_ratio 0.7"),
        Row(f"memory of {scopes:,} scopes", memory_mb, "MB", "closed decisions"),
    ]
