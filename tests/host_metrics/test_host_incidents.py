"""L2 and L5: when they begin, what they say, when they end, under both packs; and that what is remembered is
a function of the points."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host_metrics.making import point
from tidegate.rules.host_incidents import HostIncident, HostIncidents
from tidegate.rules.host_metrics import SERIES_TTL_MS, HostMetrics
from tidegate.rules.policy import builtin_policy
from tidegate.rules.policy_types import Settings
from tidegate.schemas.points import Metric, MetricPoint, Temporality

DEFAULT = builtin_policy("default").settings[0]
REFERENCE = builtin_policy("reference").settings[0]
MIB = 1 << 20


def changed(base: Settings, **parts: dict[str, Any]) -> Settings:
    """The settings with some of l2, l5 replaced."""
    incidents = base.incidents
    for name, values in parts.items():
        section = msgspec.structs.replace(getattr(incidents, name), **values)
        incidents = msgspec.structs.replace(incidents, **{name: section})
    return msgspec.structs.replace(base, incidents=incidents)


GROWTH = changed(DEFAULT, l2={"memory_growth_over_mib": 100})
HIGH_ON = changed(DEFAULT, l5={"memory_high": True, "panic_on_oops": True})


@dataclass
class Host:
    """Metrics and incidents of a partition under one policy."""

    settings: Settings = DEFAULT
    boundary: int = 0

    def __post_init__(self) -> None:
        self.metrics, self.incidents = HostMetrics(), HostIncidents()

    def to(self, time_s: float, points: Iterable[MetricPoint] = ()) -> "Host":
        """Steps each boundary up to this time; the points are there from the beginning."""
        self.metrics.offer(points, offset=0)
        while self.boundary < time_s * 2:
            self.boundary += 1
            self.metrics.merge(self.boundary)
            self.incidents.step(self.metrics, lambda _: self.settings, self.boundary)
        return self

    def active(self, service: str = "pay") -> list[tuple[str, str]]:
        return [(one.rule, one.reason) for one in self.incidents.active(service)]

    def saved(self) -> Any:
        return msgspec.msgpack.decode(
            msgspec.msgpack.encode([self.metrics.state(), self.incidents.state()])
        )

    def restored(self) -> "Host":
        other = Host(self.settings, self.boundary)
        metrics, incidents = self.saved()
        other.metrics.load(metrics)
        other.incidents.load(incidents)
        return other


def goroutines(*pairs: tuple[float, int], instance: str = "pay-1") -> list[MetricPoint]:
    return [point(Metric.GOROUTINES, t, value, instance=instance) for t, value in pairs]


def every(seconds: float, value: int, *, begin_s: float, end_s: float) -> list[MetricPoint]:
    count = int((end_s - begin_s) / seconds) + 1
    return goroutines(*((begin_s + i * seconds, value) for i in range(count)))


def memory(*pairs: tuple[float, int]) -> list[MetricPoint]:
    return [point(Metric.GO_MEMORY_BYTES, t, mib * MIB) for t, mib in pairs]


UP = 6_120
SHORT = "goroutines 6,120 over 5,000 for 10 s on pay-1"
L2: list[tuple[str, Settings, list[MetricPoint], float, str | None]] = [
    ("above for the time", DEFAULT, goroutines((1, UP), (6, UP), (11, UP)), 12, SHORT),
    ("not yet", DEFAULT, goroutines((1, UP), (6, UP), (10.9, UP)), 12, None),
    ("at the limit is not above", DEFAULT, every(5, 5_000, begin_s=1, end_s=31), 32, None),
    (
        "one point below within",
        DEFAULT,
        goroutines((1, UP), (6, 5_000), (11, UP), (16, UP)),
        17,
        None,
    ),
    (
        "the time begins anew after a point below",
        DEFAULT,
        goroutines((1, UP), (6, 100), (11, UP), (16, UP), (21, UP)),
        22,
        SHORT,
    ),
    (
        "it is told for how long",
        DEFAULT,
        every(5, UP, begin_s=1, end_s=61),
        62,
        "goroutines 6,120 over 5,000 for 60 s on pay-1",
    ),
    (
        "ends at the limit",
        DEFAULT,
        [*every(5, UP, begin_s=1, end_s=31), *goroutines((36, 5_000))],
        37,
        None,
    ),
    ("stands in silence", DEFAULT, goroutines((1, UP), (6, UP), (11, UP)), 131, SHORT),
    ("ends after two minutes of it", DEFAULT, goroutines((1, UP), (6, UP), (11, UP)), 131.5, None),
    ("after silence the time begins anew", DEFAULT, goroutines((1, UP), (140, UP)), 141, None),
    ("a point a minute is no proof", DEFAULT, every(60, UP, begin_s=1, end_s=301), 302, None),
    (
        "but a slower beat doesn't end it",
        DEFAULT,
        goroutines((1, UP), (6, UP), (11, UP), (71, UP), (131, UP)),
        132,
        "goroutines 6,120 over 5,000 for 130 s on pay-1",
    ),
    (
        "published: without a minimum two points a minute apart will do",
        REFERENCE,
        goroutines((1, UP), (61, UP)),
        62,
        "goroutines 6,120 over 5,000 for 60 s on pay-1",
    ),
    ("published: one point lasts no time", REFERENCE, goroutines((1, UP)), 30, None),
    (
        "without a name",
        DEFAULT,
        goroutines((1, UP), (6, UP), (11, UP), instance=""),
        12,
        "goroutines 6,120 over 5,000 for 10 s on an instance without service.instance.id",
    ),
    (
        "a longer time",
        changed(DEFAULT, l2={"for_s": 300, "goroutines_over": 10}),
        every(60, 11, begin_s=1, end_s=301),
        302,
        "goroutines 11 over 10 for 300 s on pay-1",
    ),
    (
        "growth is asked for and there",
        GROWTH,
        [*goroutines((1, UP), (6, UP), (11, UP)), *memory((1, 200), (6, 250), (11, 301))],
        12,
        "goroutines 6,120 over 5,000 for 10 s, memory up 101 MiB, on pay-1",
    ),
    (
        "growth is asked for and not enough",
        GROWTH,
        [*goroutines((1, UP), (6, UP), (11, UP)), *memory((1, 200), (6, 250), (11, 300))],
        12,
        None,
    ),
    (
        "of one time memory is read first",
        GROWTH,
        [*goroutines((1, UP), (6, UP), (11, UP)), *memory((0.5, 200), (10.5, 301), (11, 200))],
        12,
        None,
    ),
    ("growth is asked for and unknown", GROWTH, every(5, UP, begin_s=1, end_s=61), 62, None),
    (
        "growth that took longer doesn't count",
        GROWTH,
        [
            *every(5, UP, begin_s=1, end_s=61),
            *memory(*((1 + 5 * i, 200 + 40 * i) for i in range(13))),
        ],
        62,
        None,
    ),
    (
        "it goes on when memory stops to grow",
        GROWTH,
        [
            *every(5, UP, begin_s=1, end_s=61),
            *memory((1, 200), (6, 250), (11, 301), (16, 301), (21, 301), (61, 100)),
        ],
        62,
        "goroutines 6,120 over 5,000 for 60 s, memory up 101 MiB, on pay-1",
    ),
]


@pytest.mark.parametrize(("_", "policy", "points", "at_s", "reason"), L2, ids=[r[0] for r in L2])
@pytest.mark.parametrize("is_split", [False, True])
def test_overload(
    _: str,
    policy: Settings,
    points: list[MetricPoint],
    at_s: float,
    reason: str | None,
    is_split: bool,
) -> None:
    """As the points come, and all in one boundary."""
    host = Host(policy)
    if not is_split:
        host.boundary = round(at_s * 2) - 1
    host.to(at_s, points)
    assert host.active() == ([] if reason is None else [("L2", reason)])


def count(
    metric: Metric, *pairs: tuple[float, int], temporality: Temporality = Temporality.CUMULATIVE
) -> list[MetricPoint]:
    return [point(metric, t, value, temporality=temporality) for t, value in pairs]


PANIC, HIGH, MAX, OOM, OOPS, FULL = (
    Metric.PANIC_ON_OOPS,
    Metric.MEMORY_HIGH,
    Metric.MEMORY_MAX,
    Metric.OOM_KILL,
    Metric.KERNEL_OOPS,
    Metric.MEMORY_FULL_MILLI,
)


def level(metric: Metric, *pairs: tuple[float, int]) -> list[MetricPoint]:
    return [point(metric, t, value) for t, value in pairs]


L5: list[tuple[str, Settings, list[MetricPoint], float, str | None]] = [
    ("kubelet sets it everywhere", DEFAULT, level(PANIC, (1, 1)), 2, None),
    ("published: panic_on_oops", REFERENCE, level(PANIC, (1, 1)), 2, "panic_on_oops is 1 on pay-1"),
    ("published: 0 is off", REFERENCE, level(PANIC, (1, 1), (60, 0)), 61, None),
    ("published: it stands while told", REFERENCE, level(PANIC, (1, 1)), 121, "panic_on_oops is 1 on pay-1"),
    ("published: and not for ever", REFERENCE, level(PANIC, (1, 1)), 121.5, None),
    ("high is expected", DEFAULT, count(HIGH, (1, 3), (2, 9)), 3, None),
    ("published: high", REFERENCE, count(HIGH, (1, 3), (2, 9)), 3, "memory.events high rose by 6 on pay-1"),
    ("published: no other event", REFERENCE, [p for m in (MAX, OOM, OOPS) for p in count(m, (1, 3), (2, 9))], 3, None),
    ("max", DEFAULT, count(MAX, (1, 3), (2, 4)), 3, "memory.events max rose by 1 on pay-1"),
    ("oom_kill", DEFAULT, count(OOM, (1, 3), (2, 4)), 3, "memory.events oom_kill rose by 1 on pay-1"),
    ("a kernel oops", DEFAULT, count(OOPS, (1, 0), (2, 1)), 3, "kernel oopses rose by 1 on pay-1"),
    ("the first of a sum says nothing", DEFAULT, count(OOPS, (1, 3)), 3, None),
    ("a sum that stays", DEFAULT, count(OOPS, (1, 3), (2, 3)), 3, None),
    ("after a reset all is new", DEFAULT, count(OOPS, (1, 3), (2, 2)), 3, "kernel oopses rose by 2 on pay-1"),
    ("a first delta", DEFAULT, count(OOM, (1, 2), temporality=Temporality.DELTA), 2, "memory.events oom_kill rose by 2 on pay-1"),
    ("an empty delta", DEFAULT, count(OOM, (1, 0), temporality=Temporality.DELTA), 2, None),
    ("it stands for a minute", DEFAULT, count(MAX, (1, 3), (2, 4)), 61.5, "memory.events max rose by 1 on pay-1"),
    ("and no longer", DEFAULT, count(MAX, (1, 3), (2, 4)), 62, None),
    ("while it stands it adds up", DEFAULT, count(MAX, (1, 3), (2, 4), (61, 1_004)), 100, "memory.events max rose by 1,001 on pay-1"),
    ("after that it begins anew", DEFAULT, count(MAX, (1, 3), (2, 4), (62, 6)), 100, "memory.events max rose by 2 on pay-1"),
    ("several are told together", DEFAULT, [*count(MAX, (1, 0), (2, 3)), *count(OOM, (1, 0), (2, 1))], 3,
     "memory.events max rose by 3, memory.events oom_kill rose by 1 on pay-1"),
    ("pressure on two points in a row", DEFAULT, level(FULL, (1, 341), (11, 342)), 12,
     "all tasks waited for memory 34.2 % of the time (over 20 %) on pay-1"),
    ("on one point", DEFAULT, level(FULL, (1, 341)), 12, None),
    ("on one and another", DEFAULT, level(FULL, (1, 341), (2, 200), (3, 341)), 12, None),
    ("on two, and then not", DEFAULT, level(FULL, (1, 341), (2, 341), (3, 200)), 12, None),
    ("too far apart to be in a row", DEFAULT, level(FULL, (1, 341), (122, 341)), 123, None),
    ("pressure in silence", DEFAULT, level(FULL, (1, 341), (2, 341)), 122.5, None),
    ("published: no pressure", REFERENCE, level(FULL, (1, 999), (2, 999)), 3, None),
]  # fmt: skip


@pytest.mark.parametrize(("_", "policy", "points", "at_s", "reason"), L5, ids=[r[0] for r in L5])
@pytest.mark.parametrize("is_split", [False, True])
def test_infrastructure(
    _: str,
    policy: Settings,
    points: list[MetricPoint],
    at_s: float,
    reason: str | None,
    is_split: bool,
) -> None:
    host = Host(policy)
    if not is_split:
        host.boundary = round(at_s * 2) - 1
    host.to(at_s, points)
    assert host.active() == ([] if reason is None else [("L5", reason)])


def test_an_incident_tells_since_when_and_all_instances_and_a_service_changes_only_then() -> None:
    points = [
        *goroutines((1, 7_000), (6, 7_000), (11, 7_000), (16, 7_000), (21, 10)),
        *goroutines(
            (3, 6_000), (8, 6_000), (13, 6_000), (18, 6_000), (23, 6_000), instance="pay-0"
        ),
        *goroutines((1, 9), (6, 9), (11, 9), instance="pay-2"),
        *(point(Metric.GOROUTINES, t, 9_000, service="web", instance="") for t in (1, 6, 11)),
    ]
    host = Host()
    seen: list[tuple[int, set[str], tuple[HostIncident, ...]]] = []
    host.metrics.offer(points, offset=0)
    for boundary in range(1, 60):
        host.to(boundary / 2)
        if host.incidents.changed:
            seen.append((boundary, host.incidents.changed, host.incidents.active("pay")))
    first, second, third = (
        HostIncident("L2", 23, names, f"goroutines {text}")
        for names, text in (
            (("pay-1",), "7,000 over 5,000 for 10 s on pay-1"),
            (("pay-0", "pay-1"), "7,000 over 5,000 for 10 s on pay-1 and 1 more"),
            (("pay-0",), "6,000 over 5,000 for 15 s on pay-0"),
        )
    )
    assert seen == [
        (23, {"pay", "web"}, (first,)),
        (27, {"pay"}, (second,)),
        (43, {"pay"}, (third,)),
    ]
    [web] = host.incidents.active("web")
    assert web.instances == ()
    assert host.incidents.active("nobody") == ()
    assert host.incidents.unknown("nobody") is None


def test_with_an_export_a_minute_overload_is_unknown_and_the_remedy_is_told() -> None:
    host = Host().to(60, every(60, 20, begin_s=1, end_s=181))
    assert host.incidents.unknown("pay") is None  # one point says nothing of how often they come
    host.to(62)
    assert host.incidents.unknown("pay") == (
        "L2 can't be told: 2 points of goroutines within 10 s are needed, 1 came; "
        "set OTEL_METRIC_EXPORT_INTERVAL to at most 5000 on pay-1"
    )
    host.incidents.changed.clear()
    host.to(300)
    assert host.incidents.changed == set()
    host.to(310, goroutines((305, 20), (309, 20)))
    assert host.incidents.unknown("pay") is None
    assert host.active() == []


def test_what_is_unknown_is_forgotten_after_an_hour_and_not_asked_where_no_minimum_is() -> None:
    points = every(60, UP, begin_s=1, end_s=121)
    host = Host().to(121 + SERIES_TTL_MS / 1000, points)
    assert host.incidents.unknown("pay") is not None
    host.to(122 + SERIES_TTL_MS / 1000)
    assert host.incidents.unknown("pay") is None
    assert host.incidents.state() == {"instances": [], "since": []}
    reference = Host(REFERENCE).to(130, points)
    assert reference.incidents.unknown("pay") is None
    assert reference.active() == [("L2", "goroutines 6,120 over 5,000 for 120 s on pay-1")]


def test_another_policy_is_heeded_once_it_is_told() -> None:
    host = Host().to(30, [*every(5, UP, begin_s=1, end_s=26), *level(PANIC, (26, 1))])
    assert [rule for rule, _ in host.active()] == ["L2"]
    host.settings = changed(HIGH_ON, l2={"goroutines_over": 6_120})
    host.to(30.5)
    assert [rule for rule, _ in host.active()] == ["L2"]
    host.incidents.reconsider()
    host.to(31)
    assert host.active() == [("L5", "panic_on_oops is 1 on pay-1")]
    host.settings = changed(DEFAULT, l2={"goroutines_over": 6_000})
    host.incidents.reconsider()
    host.to(32, goroutines((31.5, UP)))
    assert host.active() == []  # the row above the new limit is of one point
    host.to(42, goroutines((36.5, UP), (36.6, UP), (41.5, UP)))
    assert host.active() == [("L2", "goroutines 6,120 over 6,000 for 15 s on pay-1")]


def test_a_lower_limit_keeps_what_was_above_the_higher_one() -> None:
    host = Host().to(30, every(5, UP, begin_s=1, end_s=26))
    host.settings = changed(DEFAULT, l2={"goroutines_over": 100})
    host.incidents.reconsider()
    host.to(31)
    assert host.active() == [("L2", "goroutines 6,120 over 100 for 25 s on pay-1")]


def test_services_differ_by_their_own_settings() -> None:
    by_service = {"pay": DEFAULT, "web": changed(DEFAULT, l2={"goroutines_over": 7_000})}
    metrics, incidents = HostMetrics(), HostIncidents()
    points = every(5, UP, begin_s=1, end_s=16)
    metrics.feed([*points, *(msgspec.structs.replace(p, service="web") for p in points)], 34)
    incidents.step(metrics, by_service.__getitem__, 34)
    assert [bool(incidents.active(name)) for name in ("pay", "web")] == [True, False]


PACKS = [DEFAULT, REFERENCE, GROWTH, HIGH_ON]
VALUES = {
    Metric.GOROUTINES: [10, 5_000, 5_001, 9_000],
    Metric.GO_MEMORY_BYTES: [MIB, 120 * MIB, 300 * MIB],
    PANIC: [0, 1],
    FULL: [100, 200, 201, 900],
    MAX: [0, 1, 5],
    OOPS: [0, 1],
    HIGH: [0, 3],
}


def some_points(rng: random.Random, *, end_s: int) -> list[MetricPoint]:
    """Of a few instances, at a few speeds, with pauses."""
    out = []
    for instance in ("", "a", "b"):
        for metric in rng.sample(sorted(VALUES), 4):
            time_s = rng.uniform(0, 10)
            while time_s < end_s:
                value = rng.choice(VALUES[metric])
                out += [
                    point(metric, time_s + i * 2, value, instance=instance)
                    for i in range(rng.choice([1, 1, 6]))
                ]
                time_s += rng.choice([5, 13, 60, 130])
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(PACKS), st.integers(1, 599))
def test_order_copies_and_a_restart_anywhere_change_nothing(
    seed: int, policy: Settings, cut: int
) -> None:
    rng = random.Random(seed)
    points = some_points(rng, end_s=300)
    plain, mixed = Host(policy), Host(policy)
    plain.to(0, points)
    again = [*points, *rng.sample(points, 9)]
    rng.shuffle(again)
    mixed.to(0, again)
    for boundary in range(1, 601):
        plain.to(boundary / 2)
        mixed.to(boundary / 2)
        if boundary == cut:
            mixed = mixed.restored()
            mixed.to(0, [p for p in again if p.time_ms >= boundary * 500])
        assert mixed.incidents.changed == plain.incidents.changed or boundary == cut
        assert mixed.incidents.active("pay") == plain.incidents.active("pay")
        assert mixed.incidents.unknown("pay") == plain.incidents.unknown("pay")
        assert boundary % 50 or mixed.saved() == plain.saved()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(PACKS))
def test_points_that_come_late_in_one_boundary_lead_to_the_same(
    seed: int, policy: Settings
) -> None:
    points = some_points(random.Random(seed), end_s=100)
    steady, late = Host(policy), Host(policy)
    steady.to(110, points)
    late.boundary = 219
    late.to(110, points)
    assert late.active() == steady.active()
    assert late.incidents.unknown("pay") == steady.incidents.unknown("pay")
    assert late.metrics.state() == steady.metrics.state()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, 5, 10, 11, 60, 119, 121]), st.sampled_from([10, 5_000, 5_001])
        ),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from([DEFAULT, REFERENCE]),
)
def test_overload_equals_a_plain_reading_of_its_sentence(
    steps: list[tuple[int, int]], policy: Settings
) -> None:
    """At each point, from all points so far: every point of the last `for_s`, and the one before as its
    beginning, above; enough of them within; until one at or below, or two minutes of silence."""
    host, l2 = Host(policy), policy.incidents.l2
    seen: list[tuple[int, int]] = []
    time_s, holds = 0, False
    for gap_s, value in steps:
        if gap_s > 120:
            seen, holds = [], False
        time_s += gap_s
        seen.append((time_s, value))
        within = [v for t, v in seen if t >= time_s - l2.for_s]
        before = [v for t, v in seen if t <= time_s - l2.for_s][-1:]
        if value <= l2.goroutines_over:
            holds = False
        elif before and min(before + within) > 5_000 and len(within) >= l2.points_min:
            holds = True
        host.to(time_s + 0.5, goroutines((time_s, value)))
        assert bool(host.active()) == holds
    host.to(time_s + 121)
    assert host.active() == []
