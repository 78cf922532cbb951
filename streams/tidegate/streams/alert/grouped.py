"""Alerts of one cause as channels show them: one message that names the cause and lists what it explains."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from tidegate.schemas.alert import Alert, AlertSignals

__all__ = ["Grouped", "GroupedAlert", "composed"]

LISTED_MAX = 200
_NAMED_MAX = 3
_EXEMPLARS_MAX = 5


class GroupedAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    id: str
    scope: str
    rule: str
    tier: Literal["P1", "P2"]
    title: str
    since_ms: int
    is_over: bool


class Grouped(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert is said to come of."""

    key: str
    """Of the group: the incident that opened it."""
    cause: str
    """A service or virtual node."""
    reason: str
    """The evidence; empty where it isn't known any more."""
    count: int = 0
    """Alerts in the group; 0: the event is told by itself."""
    alerts: list[GroupedAlert] = []
    """Up to 200 of them, those that stand first."""


def composed(
    event: Literal["start", "change", "repeat", "resolve"],
    newest: Alert,
    members: Sequence[tuple[Alert, bool]],
    *,
    grouped: Grouped,
    cause_scope: str,
    number: int,
    tier: Literal["P1", "P2"],
) -> tuple[Alert, Grouped]:
    """The message of a group that an event of it leads to: (an alert with the group's key as its id, the list).

    members: (newest event, whether it is over), in the order in which they joined.
    """
    ordered = sorted(members, key=lambda one: one[1])
    listed = [
        GroupedAlert(
            id=alert.id,
            scope=alert.scope,
            rule=alert.rule,
            tier=alert.tier,
            title=alert.title,
            since_ms=alert.since_ms,
            is_over=is_over,
        )
        for alert, is_over in ordered[:LISTED_MAX]
    ]
    whole = replace(grouped, count=len(members), alerts=listed)
    told = replace(newest, id=grouped.key, number=number, event=event, tier=tier)
    if len(members) > 1:
        traces = dict.fromkeys(trace for alert, _ in ordered for trace in alert.exemplars)
        told = replace(
            told,
            rule="cause",
            scope=cause_scope,
            since_ms=min(alert.since_ms for alert, _ in members),
            title=_title(grouped.cause, [alert for alert, _ in ordered]),
            reason=grouped.reason,
            signals=AlertSignals(),
            exemplars=list(traces)[:_EXEMPLARS_MAX],
        )
    return told, whole


def _title(cause: str, alerts: Sequence[Alert]) -> str:
    scopes = list(dict.fromkeys(alert.scope for alert in alerts))
    named = ", ".join(scopes[:_NAMED_MAX])
    more = f" and {len(scopes) - _NAMED_MAX} more" if len(scopes) > _NAMED_MAX else ""
    return f"{cause}: {len(alerts)} alerts of one cause ({named}{more})"
