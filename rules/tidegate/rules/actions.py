"""What a decision asks of callers, in numbers: from level, step of the ramp and settings."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tidegate.rules.policy_types import Settings
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import Actions, Backoff, Incident
from tidegate.schemas.level import Level

__all__ = ["actions_of", "backoff_of", "with_incidents", "with_override"]


def actions_of(
    level: Level,
    *,
    settings: Settings,
    ramp_step: int,
    slow_over_ms: int,
    is_slow_caused: bool,
    callers: int,
    remaining_boundaries: int,
    jitter: int,
) -> Actions:
    """remaining_boundaries: of the sleep. jitter: stable hash of the scope."""
    s = settings.level
    if level == Level.CLOSED:
        return Actions(admit_ratio=1.0, retry_ratio_max=s.retry_ratio_closed)
    deadline = slow_over_ms if slow_over_ms > 0 and is_slow_caused else None
    if level == Level.DEGRADED_1:
        return Actions(
            admit_ratio=1.0,
            slow_over_ms=deadline,
            shed_if_no_deadline=s.degraded_1_shed,
            retry_ratio_max=s.retry_ratio_degraded_1,
        )
    if level == Level.DEGRADED_2:
        return Actions(
            admit_ratio=s.degraded_2_admit,
            slow_over_ms=deadline,
            retry_ratio_max=0.0,
            fallback=True,
        )
    if level == Level.HALF_OPEN and ramp_step > 0:
        return Actions(
            admit_ratio=s.ramp[min(ramp_step, len(s.ramp)) - 1], retry_ratio_max=0.0, fallback=True
        )
    if level == Level.HALF_OPEN:
        return Actions(
            admit_ratio=0.0,
            probe_ratio=s.probe_ratio,
            probe_per_s=s.probe_per_s,
            callers=callers,
            heartbeats_pass=True,
            retry_ratio_max=0.0,
            fallback=True,
        )
    if level == Level.COOLING:
        return Actions(
            admit_ratio=0.0,
            probe_per_s=settings.latched.cooling_probe_per_s,
            callers=callers,
            heartbeats_pass=True,
            retry_ratio_max=0.0,
            retry_after_s=1 + jitter % s.retry_jitter_s,
            fallback=True,
        )
    sleep_s = -(-max(0, remaining_boundaries) * BUCKET_MS // 1000)
    return Actions(
        admit_ratio=0.0,
        heartbeats_pass=level == Level.FORCED_OPEN,
        retry_ratio_max=0.0,
        retry_after_s=sleep_s + 1 + jitter % s.retry_jitter_s,
        fallback=True,
    )


def with_override(level: Level, settings: Settings, callers: int) -> Actions:
    """What an operator's level asks of callers: the level's own actions, without a memory of how it came."""
    return actions_of(
        level,
        settings=settings,
        ramp_step=0,
        slow_over_ms=-1,
        is_slow_caused=False,
        callers=callers,
        remaining_boundaries=0,
        jitter=0,
    )


def with_incidents(
    actions: Actions,
    incidents: Sequence[Incident],
    settings: Settings,
    *,
    callers: int,
    eject: str,
    terminate: Sequence[str],
) -> Actions:
    """The strictest of the level's actions and those of the incidents that hold."""
    rules = {incident.rule for incident in incidents}
    if not rules and not eject:
        return actions
    more: dict[str, Any] = {}
    if "L1" in rules:
        more["cache"] = True
    if "L2" in rules:
        more |= {"qps_max": settings.incidents.l2.qps_max, "relax_gc": True}
    if "L3" in rules:
        more["failover"] = True
    if "L4" in rules:
        l4 = settings.incidents.l4
        more |= {
            "reject": True,
            "admit_ratio": 0.0,
            "retry_ratio_max": 0.0,
            "retry_after_s": max(l4.retry_after_s, actions.retry_after_s or 0),
            "probe_per_s": l4.probe_per_s,
            "callers": callers,
            "fallback": True,
        }
    if "L5" in rules:
        more["terminate"] = list(terminate)
    if eject:
        more["eject"] = [eject]
    return msgspec.structs.replace(actions, **more)


def backoff_of(level: Level, attempt: int, until_boundary: int) -> Backoff | None:
    """The sleep of an open breaker, None for any other level."""
    if level not in (Level.OPEN, Level.FORCED_OPEN):
        return None
    return Backoff(attempt=attempt, until_ms=until_boundary * BUCKET_MS)
