"""What must hold between a policy's settings, beyond the range of each."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from tidegate.rules.policy_types import Points, PolicyFile, Rule, Settings

__all__ = ["CURVE_POINTS_MAX", "RULES_MAX", "broken_laws"]

CURVE_POINTS_MAX = 16
RULES_MAX = 1000
"""Rules under `services`: each is a row of columns, and new keys try them in order."""

Broken = Iterator[tuple[str, str]]
"""(path, message)."""


def broken_laws(policy: PolicyFile) -> list[tuple[str, str]]:
    """Every law that the policy breaks, as (path, message)."""
    found = [item for law in LAWS for item in law(policy)]
    found += _settings(policy.settings, "settings")
    for number, rule in enumerate(policy.services):
        at = f"services[{number}]"
        own = _settings(rule.settings, at)
        common = {message for _, message in _settings(policy.settings, at)}
        found += [(path, message) for path, message in own if message not in common]
    return found


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
    if e.p0_min > e.p0_max:
        yield "evidence.p0_min", f"{e.p0_min} is above evidence.p0_max ({e.p0_max})"
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


def _bands(policy: PolicyFile) -> Broken:
    bands = policy.profiles.bands
    if any(a <= b for a, b in pairwise(bands)):
        yield "profiles.bands", f"{list(bands)} must fall: closed, degraded_1, degraded_2, open"
    if any(round(edge * 1000) / 1000 != edge for edge in bands):
        yield (
            "profiles.bands",
            f"{list(bands)} has an edge finer than thousandths, as scores are kept",
        )


def _weights(policy: PolicyFile) -> Broken:
    for name, p in (("reference", policy.profiles.reference), ("guarded", policy.profiles.guarded)):
        total = p.error_weight + p.latency_weight + p.traffic_weight
        if abs(total - 1) > 1e-9:
            yield (
                f"profiles.{name}",
                f"error_weight, latency_weight and traffic_weight add up to {total:g}; they must to 1",
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
    if len(policy.services) > RULES_MAX:
        yield "services", f"{len(policy.services)} rules; give at most {RULES_MAX}"
        return
    for number, rule in enumerate(policy.services):
        for earlier, before in enumerate(policy.services[:number]):
            if _covers(before, rule):
                yield (
                    f"services[{number}].match",
                    f"is never reached: services[{earlier}] matches first; put the narrower rule above",
                )
                break


def _covers(before: Rule, rule: Rule) -> bool:
    """Whether `before` certainly matches all that `rule` does (equal patterns and `*` are seen)."""
    services = before.match.service in ("*", rule.match.service)
    targets = before.match.target is None or (
        rule.match.target is not None and before.match.target in ("*", rule.match.target)
    )
    return services and targets


LAWS: tuple[Callable[[PolicyFile], Broken], ...] = (
    _leases,
    _limits,
    _evidence,
    _bands,
    _weights,
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
    for low, high in _ORDERED:
        a, b = getattr(level, low), getattr(level, high)
        if a > b:
            found.append((f"{path}.{low}", f"{a} is above {high} ({b})"))
    return found


_ORDERED: tuple[tuple[str, str], ...] = (
    ("hysteresis_s", "hysteresis_max_s"),
    ("sleep_s", "sleep_max_s"),
    ("ramp_step_s", "ramp_patience_s"),
    ("probe_requests_min", "probe_patience_requests"),
)
