"""PagerDuty, Events API v2: phones. The incident's id is the `dedup_key`, that of a group's first
incident for all of the group, so that an event that is sent again
while the incident is open calls nobody twice.
"""

import msgspec

from tidegate.schemas.alert import Alert
from tidegate.streams.alert.alertmanager import SEVERITIES
from tidegate.streams.alert.channel import Channel, ChannelSettings, Request, json_request
from tidegate.streams.alert.grouped import LISTED_MAX, Grouped
from tidegate.streams.alert.text import alert_lines, headline, rfc3339

__all__ = ["PagerdutySettings", "pagerduty"]

_SUMMARY_CHARS_MAX = 1024


class PagerdutySettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The routing key is the integration key of a service's Events API v2 integration."""

    url: str = "https://events.pagerduty.com/v2/enqueue"
    routing_key_env: str | None = None
    routing_key_file: str | None = None


def pagerduty(
    alert: Alert,
    channel: Channel,
    now_ms: int,  # noqa: ARG001 - as all kinds
    grouped: Grouped | None,
) -> Request:
    """`trigger`, also for change and repeat, which PagerDuty adds to the open incident; or `resolve`."""
    event: dict[str, object] = {
        "routing_key": channel.values["routing_key"],
        "event_action": "resolve" if alert.event == "resolve" else "trigger",
        "dedup_key": alert.id,
        "payload": {
            "summary": headline(alert)[:_SUMMARY_CHARS_MAX],
            "source": alert.scope,
            "severity": SEVERITIES[alert.tier],
            "timestamp": rfc3339(alert.at_ms),
            "component": alert.scope,
            "group": "tidegate",
            "class": alert.rule,
            "custom_details": {
                "reason": alert.reason,
                "level": alert.level,
                "since": rfc3339(alert.since_ms),
                "policy": alert.policy,
                "event": alert.event,
                "number": alert.number,
                "signals": msgspec.to_builtins(alert.signals),
                **_cause(grouped),
            },
        },
        "client": "Tidegate",
    }
    links = [
        {"href": url, "text": f"trace {trace_id}"}
        for trace_id, url in channel.links.of_traces(alert.exemplars)
    ]
    scope_url = channel.links.of_scope(alert.scope)
    if scope_url is not None:
        event["client_url"] = scope_url
        links.insert(0, {"href": scope_url, "text": alert.scope})
    if links:
        event["links"] = links
    return json_request(channel.values["url"], event)


def _cause(grouped: Grouped | None) -> dict[str, object]:
    if grouped is None:
        return {}
    return {
        "cause": grouped.cause,
        "evidence": grouped.reason,
        "alerts": alert_lines(grouped, LISTED_MAX),
    }
