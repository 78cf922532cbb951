"""Any receiver of CloudEvents 1.0 over HTTP, in structured JSON mode: the alert itself is the data."""

import msgspec

from tidegate.schemas.alert import Alert
from tidegate.streams.alert.channel import (
    Channel,
    ChannelSettings,
    Request,
    json_request,
    key_of,
)
from tidegate.streams.alert.grouped import Grouped
from tidegate.streams.alert.text import rfc3339

__all__ = ["WebhookSettings", "webhook"]

_SOURCE = "/tidegate/alerts"


class WebhookSettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to post. An address that is a secret by itself comes from url_env or url_file."""

    url: str | None = None
    url_env: str | None = None
    url_file: str | None = None
    token_env: str | None = None
    token_file: str | None = None


def webhook(
    alert: Alert,
    channel: Channel,
    now_ms: int,  # noqa: ARG001 - as all kinds
    grouped: Grouped | None,
) -> Request:
    """One event; its id, and the header for receivers that know no CloudEvents, stay the same when it is
    sent again."""
    headers = {"Idempotency-Key": key_of(alert)}
    token = channel.values.get("token")
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    data = msgspec.to_builtins(alert)
    event = {
        "specversion": "1.0",
        "id": key_of(alert),
        "source": _SOURCE,
        "type": f"tidegate.alert.{alert.event}",
        "subject": alert.scope,
        "time": rfc3339(alert.at_ms),
        "datacontenttype": "application/json",
        "data": data,
    }
    if grouped is not None:
        event["cause"] = grouped.cause
        data["group"] = msgspec.to_builtins(grouped)
    return json_request(
        channel.values["url"],
        event,
        headers=headers,
        content_type="application/cloudevents+json",
    )
