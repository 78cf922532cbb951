"""What must hold between a policy's settings, beyond the range of each."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from operator import attrgetter

from tidegate.rules.policy_columns import PROFILE_NAMES
from tidegate.rules.policy_rules import RuleMatcher
from tidegate.rules.policy_types import Points, PolicyFile, Settings

__all__ = ["CURVE_POINTS_MAX", "broken_laws"]

CURVE_POINTS_MAX = 16

Broken = Iterator[tuple[str, str]]
"""(path, message)."""


def broken_laws(policy: PolicyFile) -> list[tuple[str, str]]:
    """Every law that the policy breaks, as (path, message)."""
    found = [item for law in LAWS for item in law(policy)]
    found += _settings(policy.settings, "settings")
    common = {message for _, message in found}
    for number, rule in enumerate(policy.services):
        own = _settings(rule.settings, f"services[{number}]")
        found += [(path, message) for path, message in own if message not in common]
    return found


def _entries(policy: PolicyFile) -> Broken:
    g = policy.graph
    if g.entry_leave_share > g.entry_share:
        yield (
            "graph.entry_leave_share",
            (
                f"{g.entry_leave_share:g} is more than graph.entry_share ({g.entry_share:g}): an entry "
                "would come and go at every boundary; give less"
            ),
        )


def _leases(policy: PolicyFile) -> Broken:
    t = policy.timing
    if t.lease_ms < 2 * t.source_wait_ms:
        yield (
            "timing.lease_ms",
            (
                f"{t.lease_ms} is less than twice timing.source_wait_ms ({t.source_wait_ms}), which a "
                f"takeover may take; give at least {2 * t.source_wait_ms}"
            ),
        )
    if t.lease_ms < 2000 * t.lease_every_s:
        yield (
            "timing.lease_every_s",
            (
                f"{t.lease_every_s} s leaves less than two leases in timing.lease_ms ({t.lease_ms}); "
                f"give at most {t.lease_ms // 2000}"
            ),
        )


def _limits(policy: PolicyFile) -> Broken:
    if policy.limits.keys_max < policy.limits.services_max:
        yield (
            "limits.keys_max",
            (
                f"{policy.limits.keys_max} is less than limits.services_max "
                f"({policy.limits.services_max}); keys are services and edges together"
            ),
        )


def _evidence(policy: PolicyFile) -> Broken:
    e = policy.evidence
    for low, high in (
        ("p0_min", "p0_max"),
        ("mild_p1_min", "sharp_p1_min"),
        ("mild_end_share", "sharp_end_share"),
    ):
        a, b = getattr(e, low), getattr(e, high)
        if a > b:
            yield f"evidence.{low}", f"{a} is above evidence.{high} ({b})"
    for name, p1_min, factor in (
        ("sharp", e.sharp_p1_min, e.sharp_factor),
        ("mild", e.mild_p1_min, e.mild_factor),
    ):
        if factor <= 1:
            yield (
                f"evidence.{name}_factor",
                f"{factor} looks for a share that is normal; give more than 1",
            )
        if not 0 < max(p1_min, factor * e.p0_max) < 1:
            yield (
                f"evidence.{name}_p1_min",
                (
                    f"max({p1_min}, {factor} x p0_max {e.p0_max}) is no share to look for; it must lie "
                    "above 0 and below 1"
                ),
            )


def _half_lives(policy: PolicyFile) -> Broken:
    b = policy.baseline
    if b.half_life_s > b.day_half_life_s:
        yield (
            "baseline.half_life_s",
            f"{b.half_life_s} is above day_half_life_s ({b.day_half_life_s}), which is to outlast it",
        )


def _bands(policy: PolicyFile) -> Broken:
    for name in PROFILE_NAMES:
        bands, path = getattr(policy.profiles, name).bands, f"profiles.{name}.bands"
        if any(a < b for a, b in pairwise(bands)):
            yield path, f"{list(bands)} must fall: closed, degraded_1, degraded_2, open"
        if any(round(edge * 1000) / 1000 != edge for edge in bands):
            yield path, f"{list(bands)} has an edge finer than thousandths, as scores are kept"


def _weights(policy: PolicyFile) -> Broken:
    for name in PROFILE_NAMES:
        p = getattr(policy.profiles, name)
        total = p.error_weight + p.latency_weight + p.traffic_weight
        if abs(total - 1) > 1e-9:
            yield (
                f"profiles.{name}",
                f"error_weight, latency_weight and traffic_weight add up to {total:g}; they must to 1",
            )


def _traffic(policy: PolicyFile) -> Broken:
    a = policy.profiles.adaptive
    if a.traffic_free >= a.traffic_zero:
        yield (
            "profiles.adaptive.traffic_free",
            f"{a.traffic_free} is not below traffic_zero ({a.traffic_zero})",
        )


def _curves(policy: PolicyFile) -> Broken:
    g = policy.profiles.guarded
    yield from _curve("profiles.guarded.error_cap", g.error_cap, 0.0, 1.0)
    yield from _curve("profiles.guarded.latency_cap", g.latency_cap, 1.0, 1000.0)


def _curve(path: str, points: Points, low: float, high: float) -> Broken:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if not 2 <= len(points) <= CURVE_POINTS_MAX:
        yield path, f"{len(points)} points; give 2 to {CURVE_POINTS_MAX} pairs [x, score]"
    elif any(a >= b for a, b in pairwise(xs)) or xs[0] < low or xs[-1] > high:
        yield path, f"x goes {xs}; it must rise within {low:g} to {high:g}"
    elif any(a < b for a, b in pairwise(ys)) or ys[0] > 1 or ys[-1] < 0:
        yield (
            path,
            f"scores go {ys}; they must fall within 1 to 0: worse signals never score better",
        )


def _shadowed(policy: PolicyFile) -> Broken:
    for number, earlier in RuleMatcher([rule.match for rule in policy.services]).unreached():
        yield (
            f"services[{number}].match",
            f"is never reached: services[{earlier}] matches first; put the narrower rule above",
        )


LAWS: tuple[Callable[[PolicyFile], Broken], ...] = (
    _leases,
    _entries,
    _limits,
    _evidence,
    _half_lives,
    _bands,
    _weights,
    _traffic,
    _curves,
    _shadowed,
)
"""A new law is a function here and a refused file in the tests."""


def _settings(s: Settings, at: str) -> list[tuple[str, str]]:
    """Laws of what may differ by service. Pairs are checked as they are after laying over."""
    level, path = s.level, f"{at}.level"
    found = []
    ramp = level.ramp
    if not ramp or ramp[-1] != 1 or ramp[0] <= 0 or any(a >= b for a, b in pairwise(ramp)):
        found.append((f"{path}.ramp", f"{list(ramp)} must rise from above 0 to 1"))
    if level.probe_bad_share < 1 - level.probe_good_share:
        found.append(
            (
                f"{path}.probe_bad_share",
                (
                    f"{level.probe_bad_share} is below 1 - probe_good_share "
                    f"({1 - level.probe_good_share:g}): the same probes would be good and bad"
                ),
            )
        )
    for section, low, high in _ORDERED:
        inner = attrgetter(section)(s)
        a, b = attrgetter(low)(inner), attrgetter(high)(inner)
        if a > b:
            found.append((f"{at}.{section}.{low}", f"{a} is above {high} ({b})"))
    return found


_ORDERED: tuple[tuple[str, str, str], ...] = (
    ("level", "hysteresis_s", "hysteresis_max_s"),
    ("level", "sleep_s", "sleep_max_s"),
    ("level", "ramp_step_s", "ramp_patience_s"),
    ("level", "probe_requests_min", "probe_patience_requests"),
    ("latched", "backoff_s", "backoff_max_s"),
    ("alerts", "p2.p95_over_ms", "p1.p95_over_ms"),
    ("alerts", "p2.error_ratio_over", "p1.error_ratio_over"),
    ("alerts", "resolve_after_s", "repeat_s"),
)
