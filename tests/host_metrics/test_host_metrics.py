"""Series: what is newer, what is reset, what waits, and that neither order nor copies matter."""

import random
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host_metrics.making import point
from tidegate.rules import host_metrics
from tidegate.rules.host_metrics import SERIES_TTL_MS, HostMetrics, Reading
from tidegate.schemas.points import Metric, MetricPoint, Temporality

OOPS = Metric.KERNEL_OOPS
CUMULATIVE, DELTA, NOW = Temporality.CUMULATIVE, Temporality.DELTA, Temporality.NOW


def oops(
    time_s: float, value: int, *, start_s: float = 0, temporality: Temporality = CUMULATIVE
) -> MetricPoint:
    return point(OOPS, time_s, value, start_s=start_s, temporality=temporality)


def increases(points: list[MetricPoint], *, boundary: int = 100) -> list[int]:
    metrics = HostMetrics()
    metrics.feed(points, boundary)
    return [reading.increase for reading in metrics.readings]


COUNTED: list[tuple[str, list[MetricPoint], list[int]]] = [
    ("since when the first point counts is unknown", [oops(1, 5)], [0]),
    ("a sum rises", [oops(1, 5), oops(2, 7), oops(3, 7)], [0, 2, 0]),
    ("a smaller sum was reset", [oops(1, 5), oops(2, 3)], [0, 3]),
    ("one that began later was reset", [oops(1, 5), oops(5, 6, start_s=4)], [0, 6]),
    (
        "a beginning that wavers is no reset",
        [oops(1, 5, start_s=0.5), oops(5, 6, start_s=0.501), oops(6, 6, start_s=0.499)],
        [0, 1, 0],
    ),
    (
        "a reset to nothing adds nothing",
        [oops(1, 5, start_s=0.5), oops(5, 0, start_s=4)],
        [0, 0],
    ),
    (
        "deltas are what they say, from the first on",
        [oops(1, 5, temporality=DELTA), oops(2, 5, start_s=1, temporality=DELTA)],
        [5, 5],
    ),
    (
        "a producer that changes its mind begins anew",
        [oops(1, 5, temporality=DELTA), oops(2, 9), oops(3, 10), oops(4, 2, temporality=DELTA)],
        [5, 0, 1, 2],
    ),
    (
        "a level never counts",
        [point(Metric.GOROUTINES, 1, 5), point(Metric.GOROUTINES, 2, 9)],
        [0, 0],
    ),
    ("a sum of an hour ago is forgotten", [oops(1, 5), oops(3_602, 7), oops(3_603, 8)], [0, 0, 1]),
]


@pytest.mark.parametrize(("_", "points", "expected"), COUNTED, ids=[row[0] for row in COUNTED])
@pytest.mark.parametrize("is_split", [False, True])
def test_what_a_series_rose_by(
    _: str, points: list[MetricPoint], expected: list[int], is_split: bool
) -> None:
    if not is_split:
        assert increases(points, boundary=7_202) == expected
        return
    metrics = HostMetrics()
    found = []
    for one in points:
        metrics.feed([one], one.time_ms // 500 + 1)
        found += [reading.increase for reading in metrics.readings]
    assert found == expected


def test_what_is_not_newer_than_its_series_is_dropped_and_counted() -> None:
    metrics = HostMetrics()
    metrics.feed([oops(2, 5), oops(2, 4), oops(1, 3)], 10)
    assert [(r.time_ms, r.value) for r in metrics.readings] == [(1_000, 3), (2_000, 5)]
    metrics.feed([oops(1.5, 4), oops(2, 9)], 11)
    assert metrics.readings == []
    assert metrics.counters == {"stale_points": 3}


def test_a_series_is_a_service_an_instance_and_a_metric() -> None:
    metrics = HostMetrics()
    names = [("a", "1"), ("a", "2"), ("b", "1"), ("", "")]
    metrics.feed([point(OOPS, 1, 1, service=s, instance=i) for s, i in names], 10)
    metrics.feed([point(Metric.MEMORY_MAX, 1, 9, service="a", instance="1")], 11)
    metrics.feed([point(OOPS, 2, 3, service=s, instance=i) for s, i in names], 12)
    assert metrics.readings == [Reading(s, i, OOPS, 2_000, 3, 2) for s, i in sorted(names)]


def test_points_wait_for_the_boundary_that_passes_them() -> None:
    metrics = HostMetrics()
    metrics.offer([oops(4.999, 1), oops(5, 2), oops(5.001, 3)], offset=7)
    metrics.offer([oops(5, 2)], offset=9)
    assert [metrics.start_offset(otherwise) for otherwise in (100, 7, 3)] == [7, 7, 3]
    metrics.merge(10)
    assert [r.value for r in metrics.readings] == [1]
    metrics.merge(11)
    assert [r.value for r in metrics.readings] == [2, 3]
    assert metrics.start_offset(100) == 100
    metrics.merge(12)
    assert metrics.readings == []
    assert not metrics.counters


def test_points_older_than_an_hour_and_of_metrics_to_come_are_counted() -> None:
    metrics = HostMetrics()
    boundary = 20_000
    old_ms = boundary * 500 - SERIES_TTL_MS
    metrics.feed([oops((old_ms - 1) / 1000, 1), oops(old_ms / 1000, 2)], boundary)
    assert [r.value for r in metrics.readings] == [2]
    metrics.offer([MetricPoint("pay", "a", 99, 0, 0, 1_000, 5)], offset=1)
    assert metrics.start_offset(100) == 100
    assert metrics.counters == {"old_points": 1, "unknown_metrics": 1}


def test_a_series_unseen_for_an_hour_ends() -> None:
    metrics = HostMetrics()
    metrics.feed([oops(1, 5), point(OOPS, 1_000, 5, instance="b")], 2_001)
    for boundary in range(2_002, 10_000):
        metrics.merge(boundary)
        ended = boundary * 500 - 1_000 > SERIES_TTL_MS + 60_000
        if ended:
            assert list(metrics.series) == [("pay", "b", OOPS)]
            break
    metrics.feed([oops(boundary / 2, 9)], boundary)
    assert [r.increase for r in metrics.readings] == [0]


def test_series_have_a_limit_which_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_metrics, "SERIES_MAX", 3)
    metrics = HostMetrics()
    some = [point(OOPS, 1, 1, instance=f"{i}") for i in range(5)]
    random.Random(1).shuffle(some)
    metrics.feed(some, 10)
    assert sorted(instance for _, instance, _ in metrics.series) == ["0", "1", "2"]
    metrics.feed([point(OOPS, 2, 5, instance=f"{i}") for i in range(5)], 11)
    assert [r.increase for r in metrics.readings] == [4, 4, 4]
    assert metrics.counters == {"overflow_series": 4}


METRICS = [Metric.GOROUTINES, Metric.KERNEL_OOPS, Metric.MEMORY_MAX]
POINTS = st.builds(
    MetricPoint,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", "1"]),
    st.sampled_from([int(m) for m in METRICS]),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 12).map(lambda s: s * 1_000),
    st.integers(0, 12).map(lambda s: s * 1_000),
    st.integers(0, 5),
)


@given(st.lists(POINTS, max_size=40), st.integers(0, 10_000))
def test_neither_order_nor_copies_matter(points: list[MetricPoint], seed: int) -> None:
    """Within a boundary points come in any order; copies of what was taken come at any boundary."""
    rng = random.Random(seed)
    plain, mixed = HostMetrics(), HostMetrics()
    plain.offer(points, offset=1)
    again = [*points, *rng.choices(points, k=10)] if points else []
    rng.shuffle(again)
    half = rng.randrange(len(again) + 1)
    mixed.offer(again[:half], offset=1)
    mixed.offer(again[half:], offset=2)
    for boundary in range(1, 28):
        plain.merge(boundary)
        mixed.merge(boundary)
        assert mixed.readings == plain.readings
        taken = [p for p in points if p.time_ms < boundary * 500]
        mixed.offer(rng.sample(taken, min(3, len(taken))), offset=boundary)
        assert msgspec.msgpack.encode(mixed.state()) == msgspec.msgpack.encode(plain.state())
    assert plain.readings == []


@given(st.lists(POINTS, max_size=40))
def test_readings_equal_a_plain_recomputation(points: list[MetricPoint]) -> None:
    metrics = HostMetrics()
    metrics.feed(points, 100)
    by_series: dict[tuple[str, str, int], list[MetricPoint]] = defaultdict(list)
    for p in points:
        by_series[p.service, p.instance, p.metric].append(p)
    expected = []
    for key in sorted(by_series):
        last: MetricPoint | None = None
        for time_ms in sorted({p.time_ms for p in by_series[key]}):
            best = [p for p in by_series[key] if p.time_ms == time_ms]
            best = [p for p in best if p.start_ms == max(q.start_ms for q in best)]
            best = [p for p in best if p.value == max(q.value for q in best)]
            now = min(best, key=lambda p: p.temporality)
            increase = 0
            if now.temporality == 1:
                increase = now.value
            elif now.temporality == 2 and last is not None and last.temporality == 2:
                is_reset = now.value < last.value or now.start_ms > last.time_ms
                increase = now.value if is_reset else now.value - last.value
            expected.append(Reading(*key, time_ms, now.value, increase))
            last = now
    assert metrics.readings == expected


def log(rng: random.Random) -> list[tuple[list[MetricPoint], int | None]]:
    """Records in order, some of which have a boundary stepped: points come early, late, again."""
    out: list[tuple[list[MetricPoint], int | None]] = []
    sent: list[MetricPoint] = []
    boundary = 0
    for turn in range(60):
        now_s = turn / 2
        some = [
            MetricPoint(
                rng.choice("ab"),
                rng.choice("12"),
                int(rng.choice(METRICS)),
                rng.choice([0, 2, 2]),
                0,
                max(0, round((now_s + rng.uniform(-6, 5)) * 1000)),
                rng.randrange(9),
            )
            for _ in range(rng.randrange(4))
        ]
        sent += some
        again = rng.sample(sent, min(2, len(sent)))
        boundary += rng.choice([0, 1, 1, 3])
        is_stepped = rng.random() < 0.7
        out.append((some + again, boundary if is_stepped else None))
    return out


def run(
    metrics: HostMetrics,
    records: list[tuple[list[MetricPoint], int | None]],
    *,
    first: int,
    boundary: int,
    refold_until: int,
) -> tuple[int, list[tuple[int, list[Reading]]]]:
    """(last boundary, readings of each). Up to `refold_until` only what was waiting waits again."""
    out = []
    for offset, (points, until) in enumerate(records[first:], first):
        is_refold = offset <= refold_until
        metrics.offer(
            [p for p in points if not is_refold or p.time_ms >= boundary * 500], offset=offset
        )
        if is_refold:
            continue
        while until is not None and boundary < until:
            boundary += 1
            metrics.merge(boundary)
            out.append((boundary, metrics.readings))
    return boundary, out


def steps_at(
    records: list[tuple[list[MetricPoint], int | None]], index: int, until: int | None
) -> bool:
    return until is not None and until > max((u or 0 for _, u in records[:index]), default=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 59), st.sampled_from([3, 1_000]))
def test_saved_and_restored_anywhere_all_that_follows_is_the_same(
    seed: int, cut: int, waiting_max: int
) -> None:
    before, host_metrics.WAITING_MAX = host_metrics.WAITING_MAX, waiting_max
    try:
        records = log(random.Random(seed))
        stepping = [i for i, (_, until) in enumerate(records) if steps_at(records, i, until)]
        cut = stepping[cut % len(stepping)]  # snapshots are taken where a boundary is crossed
        whole = HostMetrics()
        at, _ = run(whole, records[: cut + 1], first=0, boundary=0, refold_until=-1)
        saved: Any = msgspec.msgpack.decode(msgspec.msgpack.encode(whole.state()))
        start = whole.start_offset(cut + 1)
        _, expected = run(whole, records, first=cut + 1, boundary=at, refold_until=-1)
        restored = HostMetrics()
        restored.load(saved)
        _, found = run(restored, records, first=start, boundary=at, refold_until=cut)
        assert found == expected
        assert restored.state() == whole.state()
    finally:
        host_metrics.WAITING_MAX = before


def test_what_waits_has_a_limit_and_the_newest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_metrics, "WAITING_MAX", 5)
    metrics = HostMetrics()
    for time_s in (3, 9, 1, 7, 5, 8, 2, 6, 4, 10, 11, 12):
        metrics.offer([point(Metric.GOROUTINES, time_s, time_s)], offset=time_s)
    metrics.merge(100)
    assert [r.value for r in metrics.readings] == [8, 9, 10, 11, 12]
    assert metrics.counters == {"waiting_overflow": 7}


def test_levels_of_now_and_unknown_numbers_are_no_counts() -> None:
    assert increases([oops(1, 1, temporality=NOW), oops(2, 9, temporality=NOW)]) == [0, 0]
    assert increases([oops(1, 1, temporality=NOW), oops(2, 9)]) == [0, 0]
