"""A group robot of DingTalk (钉钉): markdown by webhook, its address signed with the time, at most 20 messages
a minute.
"""

import hashlib
import hmac
from base64 import b64encode
from urllib.parse import urlencode

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

__all__ = ["DingtalkSettings", "dingtalk", "signature"]

_TEXT_BYTES_MAX = 16_000
_PASSING = frozenset(
    {
        -1,  # the system is busy
        90030,  # webhook over limit
        130101,  # more than 20 messages a minute
        410100,  # likewise
    }
)


class DingtalkSettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token stands in the address that DingTalk shows, after `access_token=`; the secret (`SEC…`)
    where the robot's security setting is a signature."""

    url: str = "https://oapi.dingtalk.com/robot/send"
    token_env: str | None = None
    token_file: str | None = None
    secret_env: str | None = None
    secret_file: str | None = None


def dingtalk(alert: Alert, channel: Channel, now_ms: int, grouped: Grouped | None) -> Request:
    """One markdown message. A signature holds for an hour, so each try has its own."""
    query = {"access_token": channel.values["token"]}
    secret = channel.values.get("secret")
    if secret is not None:
        query |= {"timestamp": str(now_ms), "sign": signature(now_ms, secret)}
    title = headline(alert)
    lines = [f"#### {title}", *(f"> {line}" for line in message_lines(alert, channel, grouped))]
    text = shortened("\n\n".join(lines), _TEXT_BYTES_MAX)
    return json_request(
        f"{channel.values['url']}?{urlencode(query)}",
        {"msgtype": "markdown", "markdown": {"title": title, "text": text}},
        refusal=_refusal,
    )


def signature(now_ms: int, secret: str) -> str:
    """DingTalk's: Base64 of HMAC-SHA256 over the time, a newline and the secret, keyed with the secret."""
    signed = hmac.new(secret.encode(), f"{now_ms}\n{secret}".encode(), hashlib.sha256)
    return b64encode(signed.digest()).decode()


def _refusal(body: bytes) -> Refusal | None:
    return refusal_of(body, _PASSING)
