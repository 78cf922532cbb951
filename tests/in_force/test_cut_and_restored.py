"""A log with everything operators can ask for, cut at every snapshot: what is restored gives the same bytes,
and the same snapshots, as the run that was never cut.
"""

import msgspec
import pytest

from tests.exactness.driving import LogRecord, Published, published_of
from tests.goldens.incidents import BASE_MS
from tests.in_force.driving import Asked, goroutines, log_with, override, push, with_points
from tests.in_force.test_overrides import clear, latch
from tests.in_force.test_policies import STRICT, abort, promote
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.policy import builtin_policy
from tidegate.rules.standing import Snapshot
from tidegate.schemas.control import Relearn, SilenceSet
from tidegate.schemas.points import Metric, MetricPoint, Temporality

EVERYTHING = [
    Asked(push("name: one\nsettings: {mode: enforce}\n"), 20, 22),
    Asked(override("service:web", "degraded_2", until_s=66), 30, 32),
    Asked(
        SilenceSet(
            by="ada",
            reason="deploy",
            asked_ms=0,
            scope="*",
            from_ms=BASE_MS + 40_000,
            until_ms=BASE_MS + 90_000,
        ),
        35,
        36,
    ),
    Asked(push(STRICT, rollout="grey", share=0.5, services=["pay"]), 50, 55),
    Asked(Relearn(by="ada", reason="moved", asked_ms=0, scope="edge:web->cart"), 58, 59),
    Asked(override("edge:*", "closed", until_s=85), 60, 78),  # waits for long: over two snapshots
    Asked(promote(), 95, 96),
    Asked(push("name: latched\nsettings: {protocol: latched}\n"), 110, 112),
    Asked(latch("service:web", "lock"), 120, 122),
    Asked(push("name: tried\nextends: adaptive\n", rollout="shadow"), 130, 131),
    Asked(latch("service:web", "reset"), 140, 142),
    Asked(override("*", "closed", until_s=170), 150, 151),
    Asked(clear("*"), 155, 156),
    Asked(abort(), 165, 166),
]


def _fed(
    evaluator: Evaluator, log: list[LogRecord], start: int
) -> tuple[Published, list[Snapshot]]:
    rows, snapshots = [], []
    for offset in range(start, len(log)):
        record = log[offset]
        out = evaluator.feed(record.value, offset=offset, append_ms=record.append_ms)
        rows += published_of(out)
        if out.snapshot is not None:
            snapshots.append(out.snapshot)
    return rows, snapshots


@pytest.mark.parametrize("pack", ["default", "reference"])
def test_restored_from_any_snapshot_the_same_bytes_follow(pack: str) -> None:
    asked = EVERYTHING if pack == "default" else EVERYTHING[1:8]
    # Overloaded from second 40 to 75, and a killed process; each point comes late, some twice.
    points = [(s + 3.2, goroutines(s, 6000 if 40 <= s <= 75 else 80)) for s in range(10, 190, 5)]
    points += points[5:9]
    killed = MetricPoint("web", "web-2", Metric.OOM_KILL, Temporality.CUMULATIVE, 1, BASE_MS, 3)
    more = msgspec.structs.replace(killed, time_ms=BASE_MS + 98_000, value=4)
    log = with_points(log_with(asked), [*points, (12.0, killed), (99.0, more)])
    straight, snapshots = _fed(Evaluator(0, builtin_policy(pack), partitions_count=1), log, 0)
    assert len(snapshots) >= 18
    assert len({d[1] for d in straight if d[1].startswith("shadow:")}) > 2
    told = [d[2] or b"" for d in straight if d[1] == "service:web"]
    assert any(b'"rule":"L2"' in value for value in told)
    assert any(b'"terminate":["web-2"]' in value for value in told)
    assert {key for _, key, _ in straight if key.startswith("alert:")}
    same = {s.boundary: s for s in snapshots}
    for number, snapshot in enumerate(snapshots[:-1]):
        # Up to the next snapshot: it is equal to the byte, so what follows is, by induction; some go on
        # to the end all the same.
        until = snapshots[number + 1].offset + 1 if number % 7 else len(log)
        evaluator = Evaluator.restore(
            0, builtin_policy(pack), snapshot.manifest, snapshot.chunks, partitions_count=1
        )
        rows, taken = _fed(evaluator, log[:until], snapshot.start_offset)
        assert taken
        assert all(one == same[one.boundary] for one in taken), snapshot.boundary
        after = [row for row in rows if row[0] > snapshot.boundary]
        last = snapshots[-1].boundary if until == len(log) else snapshots[number + 1].boundary
        expected = [row for row in straight if snapshot.boundary < row[0] <= last]
        assert [row for row in after if row[0] <= last] == expected, snapshot.boundary
