"""An alert's event in words: who reads it at night knows nothing but this. Only for events, which are few."""

import hashlib
from collections.abc import Sequence

from tidegate.rules.alerts import AlertEvent
from tidegate.rules.policy_types import AlertSettings
from tidegate.rules.slo_window import SLOW_SHARE
from tidegate.schemas.alert import Alert, AlertSignals
from tidegate.schemas.cells import BUCKET_MS

__all__ = ["TITLES", "alert_of", "incident_id", "slo_reason", "title_of"]

TITLES = {
    "slo": "slow or failing over 5 min",
    "L2": "overloaded (L2)",
    "L3": "calls time out or hang (L3)",
    "L4": "cascade: several dependencies at fault (L4)",
    "L5": "host at fault (L5)",
    "chronic": "bad for so long that it is how it is",
    "drift": "its recent habit is far from the day's",
    "hollow": "answers too quick to be true",
    "telemetry": "telemetry is suspect, levels are held",
}
"""By rule."""
_NO_SIGNALS = AlertSignals()


def alert_of(
    event: AlertEvent,
    *,
    scope: str,
    boundary: int,
    partition: int,
    level: str,
    policy: str,
    reason: str,
    signals: AlertSignals = _NO_SIGNALS,
    exemplars: Sequence[str] = (),
) -> Alert:
    """What is published of an event."""
    since_ms = event.since_boundary * BUCKET_MS
    return Alert(
        id=incident_id(scope, event.rule, since_ms),
        number=event.number,
        event=event.event,
        tier=event.tier,
        rule=event.rule,
        scope=scope,
        since_ms=since_ms,
        at_ms=boundary * BUCKET_MS,
        boundary=boundary,
        partition=partition,
        title=title_of(event, scope),
        reason=reason,
        level=level,
        policy=policy,
        signals=signals,
        exemplars=list(exemplars),
        silenced=event.silenced,
    )


def incident_id(scope: str, rule: str, since_ms: int) -> str:
    """16 hex characters, the same from an incident's start to its end, on any worker."""
    return hashlib.sha256(f"{scope}|{rule}|{since_ms}".encode()).hexdigest()[:16]


def title_of(event: AlertEvent, scope: str) -> str:
    """E.g. `P1 service:payments: slow or failing over 5 min`, `resolved: service:payments: ...`."""
    told = "resolved:" if event.event == "resolve" else event.tier
    return f"{told} {scope}: {TITLES[event.rule]}"


def slo_reason(signals: AlertSignals, tier: str, settings: AlertSettings) -> str:
    """E.g. `error ratio 2.1 % of 410 requests in 5 min, limit 1 %; 12 % slower than 1200 ms, limit 5 % (P95)`.
    signals: by `slo_window.slo_signals`."""
    if not signals.requests or signals.error_ratio is None or signals.slow_ratio is None:
        return "no request in 5 min"
    limits = settings.p1 if tier == "P1" else settings.p2
    failed = (
        f"error ratio {_percent(signals.error_ratio)} of {signals.requests} requests in 5 min, "
        f"limit {_percent(limits.error_ratio_over)}"
    )
    slow = (
        f"{_percent(signals.slow_ratio)} slower than {limits.p95_over_ms} ms, "
        f"limit {_percent(SLOW_SHARE)} (P95)"
    )
    return f"{failed}; {slow}"


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.3g} %"
