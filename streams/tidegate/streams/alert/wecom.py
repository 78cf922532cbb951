"""A group robot of WeCom (企业微信): markdown by webhook, at most 20 messages a minute."""

from urllib.parse import quote

from tidegate.schemas.alert import Alert
from tidegate.streams.alert.channel import (
    Channel,
    ChannelSettings,
    Refusal,
    Request,
    json_request,
)
from tidegate.streams.alert.grouped import Grouped
from tidegate.streams.alert.robot import message_lines, refusal_of
from tidegate.streams.alert.text import headline, shortened

__all__ = ["WecomSettings", "wecom"]

_CONTENT_BYTES_MAX = 4096
_PASSING = frozenset(
    {
        -1,  # the system is busy
        45009,  # more than 20 messages a minute
        45033,  # too many calls at the same time
    }
)


class WecomSettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key stands in the address that WeCom shows: what follows `?key=`."""

    url: str = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send"
    key_env: str | None = None
    key_file: str | None = None


def wecom(
    alert: Alert,
    channel: Channel,
    now_ms: int,  # noqa: ARG001 - as all kinds
    grouped: Grouped | None,
) -> Request:
    """One markdown message."""
    color = "info" if alert.event == "resolve" else "warning"
    head = f'**<font color="{color}">{headline(alert)}</font>**'
    content = "\n".join([head, *(f"> {line}" for line in message_lines(alert, channel, grouped))])
    return json_request(
        f"{channel.values['url']}?key={quote(channel.values['key'], safe='')}",
        {"msgtype": "markdown", "markdown": {"content": shortened(content, _CONTENT_BYTES_MAX)}},
        refusal=_refusal,
    )


def _refusal(body: bytes) -> Refusal | None:
    return refusal_of(body, _PASSING)
