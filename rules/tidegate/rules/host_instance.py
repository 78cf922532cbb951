"""What is remembered of one instance, and whether L2 (local overload) and L5 (infrastructure) hold at it.

Everything is judged in event time: how long something lasts, and how long silence is no answer. Points that
came in one boundary or in several lead to the same conditions.
"""

import msgspec

from tidegate.rules.host_metrics import SERIES_TTL_MS, Reading
from tidegate.rules.policy_types import Incidents, InfrastructureIncident, OverloadIncident
from tidegate.schemas.points import Metric

__all__ = ["Instance", "judge", "named", "overload_text", "take"]

_QUIET_MS_MIN = 120_000
"""Twice the interval at which SDKs export metrics by default: one export may be lost."""
_TIMES_MAX = 100
"""The most points that a policy may ask for."""
_MEMORY_STEPS = 16
"""Memory is remembered at so many moments of the time in which it must grow."""
_MIB = 1 << 20
_COUNTS: tuple[tuple[Metric, str, str], ...] = (
    (Metric.MEMORY_HIGH, "memory_high", "memory.events high rose by {:,}"),
    (Metric.MEMORY_MAX, "memory_max", "memory.events max rose by {:,}"),
    (Metric.OOM_KILL, "oom_kill", "memory.events oom_kill rose by {:,}"),
    (Metric.KERNEL_OOPS, "kernel_oops", "kernel oopses rose by {:,}"),
)
"""What counts events, its switch in the policy, and how its reason is told."""
_PLACE = {int(metric): place for place, (metric, _, _) in enumerate(_COUNTS)}


class Instance(msgspec.Struct, array_like=True):
    """Times are -1 where nothing is known."""

    seen_ms: int = -1
    due_ms: int = 0
    """From when on it must be judged again, even without a point."""
    first_ms: int = -1
    """Of goroutines."""
    goroutines_ms: int = -1
    goroutines: int = 0
    limit: int = -1
    above_ms: int = -1
    """Time of the first of the points in a row above `limit`."""
    times: list[int] = []
    """Of the points within the condition's time before the newest, that one included."""
    memory_ms: int = -1
    memory: int = 0
    memory_steps: list[tuple[int, int]] = []
    """(time, bytes); the first is the newest from before the condition's time, once there is one."""
    growth: int = 0
    """Of memory, when the overload began; 0 where none was asked for."""
    panic_ms: int = -1
    panic_on_oops: int = 0
    rises: list[tuple[int, int]] = msgspec.field(default_factory=lambda: [(-1, 0)] * len(_COUNTS))
    """(time, increase), in the order of _COUNTS."""
    full_ms: int = -1
    full_milli: int = 0
    full_before_milli: int = 0
    is_overloaded: bool = False
    """L2 holds."""
    broken: str = ""
    """Why L5 holds; empty where it doesn't."""
    seldom: str = ""
    """Why L2 can't be told."""


def take(one: Instance, reading: Reading, incidents: Incidents) -> None:
    """One point, newer than its series' last. Of one time memory's comes before goroutines'."""
    l2, l5 = incidents.l2, incidents.l5
    metric, time_ms, value = reading.metric, reading.time_ms, reading.value
    one.seen_ms = max(one.seen_ms, time_ms)
    if metric == Metric.GOROUTINES:
        _take_goroutines(one, time_ms, value, l2)
    elif metric == Metric.GO_MEMORY_BYTES:
        _take_memory(one, time_ms, value, l2)
    elif metric == Metric.PANIC_ON_OOPS:
        one.panic_ms, one.panic_on_oops = time_ms, value
    elif metric == Metric.MEMORY_FULL_MILLI:
        is_in_a_row = one.full_ms >= 0 and time_ms - one.full_ms <= _quiet_ms(l5.hold_s)
        one.full_before_milli = one.full_milli if is_in_a_row else 0
        one.full_ms, one.full_milli = time_ms, value
    elif reading.increase > 0 and metric in _PLACE:
        before_ms, before = one.rises[_PLACE[metric]]
        is_standing = before_ms >= 0 and time_ms - before_ms < l5.hold_s * 1000
        increase = reading.increase + (before if is_standing else 0)
        one.rises[_PLACE[metric]] = (time_ms, increase)


def judge(one: Instance, name: str, incidents: Incidents, now_ms: int) -> None:
    """Sets what holds now, and when that must be asked again."""
    until_ms = [one.seen_ms + SERIES_TTL_MS + 1]
    until_ms.append(_judge_overload(one, name, incidents.l2, now_ms))
    until_ms += _judge_host(one, incidents.l5, now_ms)
    one.due_ms = min(until for until in until_ms if until > now_ms)


def overload_text(one: Instance, name: str) -> str:
    """The numbers by which L2 holds."""
    for_s = (one.goroutines_ms - one.above_ms) // 1000
    grown = f", memory up {one.growth // _MIB:,} MiB," if one.growth else ""
    return (
        f"goroutines {one.goroutines:,} over {one.limit:,} for {for_s:,} s{grown} on {named(name)}"
    )


def named(name: str) -> str:
    """An instance for people."""
    return name or "an instance without service.instance.id"


def _quiet_ms(seconds: int) -> int:
    """After this silence the last points say nothing any more."""
    return min(max(2_000 * seconds, _QUIET_MS_MIN), SERIES_TTL_MS)


def _take_goroutines(one: Instance, time_ms: int, value: int, l2: OverloadIncident) -> None:
    _heed_limit(one, l2.goroutines_over)
    if one.first_ms < 0:
        one.first_ms = time_ms
    was_quiet = one.goroutines_ms >= 0 and time_ms - one.goroutines_ms > _quiet_ms(l2.for_s)
    if was_quiet or value <= one.limit:
        one.above_ms, one.is_overloaded = -1, False
    if value > one.limit and one.above_ms < 0:
        one.above_ms = time_ms
    one.goroutines_ms, one.goroutines = time_ms, value
    oldest_ms = time_ms - l2.for_s * 1000
    one.times = [t for t in (*one.times, time_ms) if t >= oldest_ms][-_TIMES_MAX:]
    _begin_overload(one, l2)


def _heed_limit(one: Instance, limit: int) -> None:
    """Under a policy with a higher limit a row begins anew with the newest point; points above it are above
    a lower one too."""
    if limit == one.limit:
        return
    if one.above_ms < 0 or limit > one.limit:
        one.above_ms = one.goroutines_ms if one.goroutines > limit else -1
        one.is_overloaded = False
    one.limit = limit


def _take_memory(one: Instance, time_ms: int, value: int, l2: OverloadIncident) -> None:
    for_ms = l2.for_s * 1000
    if time_ms - one.memory_ms > _quiet_ms(l2.for_s) or l2.memory_growth_over_mib is None:
        one.memory_steps = []
    one.memory_ms, one.memory = time_ms, value
    if l2.memory_growth_over_mib is None:
        return
    steps = one.memory_steps
    if not steps or time_ms - steps[-1][0] >= for_ms // _MEMORY_STEPS:
        steps.append((time_ms, value))
    while len(steps) > 1 and steps[1][0] <= time_ms - for_ms:
        del steps[0]
    _begin_overload(one, l2)


def _begin_overload(one: Instance, l2: OverloadIncident) -> None:
    """L2 begins: above the limit from the beginning of the time on, told by enough points."""
    from_ms = one.goroutines_ms - l2.for_s * 1000
    if one.is_overloaded or not 0 <= one.above_ms <= from_ms:
        return
    if _count(one, from_ms) < l2.points_min:
        return
    growth = 0
    if l2.memory_growth_over_mib is not None:
        growth = _growth(one, l2)
        if growth <= l2.memory_growth_over_mib * _MIB:
            return
    one.growth, one.is_overloaded = growth, True


def _count(one: Instance, from_ms: int) -> int:
    return sum(time_ms >= from_ms for time_ms in one.times)


def _growth(one: Instance, l2: OverloadIncident) -> int:
    """Of memory within the condition's time; 0 where nobody knows."""
    from_ms = one.memory_ms - l2.for_s * 1000
    is_old = one.goroutines_ms - one.memory_ms > _quiet_ms(l2.for_s)
    if is_old or not one.memory_steps or one.memory_steps[0][0] > from_ms:
        return 0
    return one.memory - one.memory_steps[0][1]


def _judge_overload(one: Instance, name: str, l2: OverloadIncident, now_ms: int) -> int:
    """Until when what it says stands."""
    _heed_limit(one, l2.goroutines_over)
    _begin_overload(one, l2)
    quiet_from_ms = one.goroutines_ms + _quiet_ms(l2.for_s) + 1
    if one.goroutines_ms < 0 or now_ms >= quiet_from_ms:
        one.is_overloaded = False
    forgotten_from_ms = one.goroutines_ms + SERIES_TTL_MS + 1
    from_ms = one.goroutines_ms - l2.for_s * 1000
    count = _count(one, from_ms)
    knows_interval = 0 <= one.first_ms <= from_ms and now_ms < forgotten_from_ms
    one.seldom = ""
    if knows_interval and count < l2.points_min and not one.is_overloaded:
        one.seldom = (
            f"L2 can't be told: {l2.points_min} points of goroutines within {l2.for_s} s are needed, "
            f"{count} came; set OTEL_METRIC_EXPORT_INTERVAL to at most "
            f"{l2.for_s * 1000 // l2.points_min} on {named(name)}"
        )
    return quiet_from_ms if one.is_overloaded else forgotten_from_ms


def _judge_host(one: Instance, l5: InfrastructureIncident, now_ms: int) -> list[int]:
    """Each condition that is on is told with its number. Until when they stand."""
    quiet_ms, hold_ms = _quiet_ms(l5.hold_s), l5.hold_s * 1000
    found: list[tuple[str, int]] = []
    if l5.panic_on_oops and one.panic_on_oops > 0:
        found.append(("panic_on_oops is 1", one.panic_ms + quiet_ms + 1))
    for (_, switch, text), (rose_ms, increase) in zip(_COUNTS, one.rises, strict=True):
        if getattr(l5, switch) and rose_ms >= 0:
            found.append((text.format(increase), rose_ms + hold_ms))
    over_milli = round(l5.memory_full_over * 1000)
    if over_milli > 0 and min(one.full_milli, one.full_before_milli) > over_milli:
        text = f"all tasks waited for memory {one.full_milli / 10:g} % of the time"
        found.append((f"{text} (over {over_milli / 10:g} %)", one.full_ms + quiet_ms + 1))
    standing = [(text, until_ms) for text, until_ms in found if now_ms < until_ms]
    one.broken = ", ".join(text for text, _ in standing)
    return [until_ms for _, until_ms in standing]
