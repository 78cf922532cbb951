"""Prometheus Alertmanager, API v2. An alert there is its labels, and `severity` must be one of them so that
routes can use it: so each event also ends the alert that the incident had under its other tier.
"""

from base64 import b64encode
from typing import Annotated

from msgspec import Meta

from tidegate.schemas.alert import Alert
from tidegate.streams.alert.channel import Channel, ChannelSettings, Request, json_request
from tidegate.streams.alert.grouped import Grouped
from tidegate.streams.alert.text import headline, rfc3339

__all__ = ["AlertmanagerSettings", "alertmanager"]

SEVERITIES = {"P1": "critical", "P2": "warning"}
_PATH = "/api/v2/alerts"


class AlertmanagerSettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address of an Alertmanager, and how to log in where it asks."""

    url: str | None = None
    """Without the API's path: `http://alertmanager:9093`."""
    url_env: str | None = None
    url_file: str | None = None
    username: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    token_env: str | None = None
    token_file: str | None = None
    hold_s: Annotated[int, Meta(ge=60, le=30 * 86_400)] = 14_400
    """Alertmanager ends an alert by itself this long after the last event: more than the policy's repeat_s."""


def alertmanager(
    alert: Alert,
    channel: Channel,
    now_ms: int,  # noqa: ARG001 - as all kinds
    grouped: Grouped | None,
) -> Request:
    """Both tiers' alerts: this event's fires (or has ended), the other has ended."""
    settings = channel.settings
    assert isinstance(settings, AlertmanagerSettings)
    ended_ms = max(alert.at_ms, alert.since_ms)
    ends_ms = ended_ms if alert.event == "resolve" else ended_ms + settings.hold_s * 1000
    posted = [_alert(alert, channel, grouped, alert.tier, ends_ms)]
    if alert.event != "start":
        other = "P2" if alert.tier == "P1" else "P1"
        posted.append(_alert(alert, channel, grouped, other, ended_ms))
    url = channel.values["url"].rstrip("/")
    return json_request(
        url if url.endswith(_PATH) else url + _PATH, posted, headers=_login(settings, channel)
    )


def _alert(
    alert: Alert, channel: Channel, grouped: Grouped | None, tier: str, ends_ms: int
) -> dict[str, object]:
    annotations = {
        "summary": headline(alert),
        "description": alert.reason,
        "level": alert.level,
        "policy": alert.policy,
        "incident": alert.id,
    }
    traces = channel.links.of_traces(alert.exemplars)
    if traces:
        annotations["traces"] = " ".join(url for _, url in traces)
    if grouped is not None and grouped.reason:
        annotations["cause"] = grouped.reason
    posted: dict[str, object] = {
        "labels": {
            "alertname": f"tidegate_{alert.rule}",
            "scope": alert.scope,
            "rule": alert.rule,
            "severity": SEVERITIES[tier],
            "tier": tier,
            **_service(alert.scope),
            **({"cause": grouped.cause} if grouped is not None else {}),
        },
        "annotations": annotations,
        "startsAt": rfc3339(alert.since_ms),
        "endsAt": rfc3339(ends_ms),
    }
    generator_url = channel.links.of_scope(alert.scope)
    if generator_url is not None:
        posted["generatorURL"] = generator_url
    return posted


def _service(scope: str) -> dict[str, str]:
    kind, _, name = scope.partition(":")
    return {"service": name} if kind == "service" else {}


def _login(settings: AlertmanagerSettings, channel: Channel) -> dict[str, str]:
    token, password = channel.values.get("token"), channel.values.get("password")
    if token is not None:
        return {"Authorization": f"Bearer {token}"}
    if password is not None:
        pair = b64encode(f"{settings.username or ''}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {}
