"""Alerts and channel files for tests."""

from typing import Literal

from msgspec.structs import replace

from tidegate.schemas.alert import Alert, AlertSignals
from tidegate.streams.alert.settings import Setup, load_channels

SINCE_MS = 1_777_863_600_000
"""2026-05-04 03:00:00 UTC."""
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRETS = {
    "WECOM_KEY": "hush-wecom-693a91f6",
    "DING_TOKEN": "hush-token-2f8b",
    "DING_SECRET": "SEChush/secret+9c==",
    "PD_KEY": "hushhushhushhushhushhushhushhush",
    "HOOK_TOKEN": "hush-hook",
    "AM_PASSWORD": "hush-am",
}
Event = Literal["start", "change", "repeat", "resolve"]


def alert(
    event: Event = "start",
    *,
    number: int = 1,
    incident: str = "00c0ffee00c0ffee",
    tier: Literal["P1", "P2"] = "P2",
    silenced: str | None = None,
    after_s: int = 60,
    scope: str = "service:payments",
) -> Alert:
    """An incident of `payments`, so long after it began."""
    at_ms = SINCE_MS + after_s * 1000
    return Alert(
        id=incident,
        number=number,
        event=event,
        tier=tier,
        rule="slo",
        scope=scope,
        since_ms=SINCE_MS,
        at_ms=at_ms,
        boundary=at_ms // 500,
        partition=3,
        title="payments: 0.52 % of requests fail",
        reason="52 of 10000 bad over 5 min, limit 0.3 %",
        level="degraded_1",
        policy="default@1f2e3d",
        signals=AlertSignals(requests=10_000, error_ratio=0.0052),
        exemplars=[TRACE],
        silenced=silenced,
    )


STORY = (
    alert("start", number=1, after_s=60),
    alert("repeat", number=2, tier="P1", after_s=3_660),
    alert("change", number=3, tier="P2", after_s=4_000),
    alert("resolve", number=4, tier="P2", after_s=7_261),
)
"""An incident from its start to its end."""

SHARP = replace(
    alert(),
    title="pay<@all>[x](http://evil)`",
    reason="line\none",
    signals=AlertSignals(requests=7, slow_ratio=0.4, p95_over_ms=1200),
)
"""Its names were chosen by somebody unfriendly."""

LINKS = """\
links:
  trace_url: https://traces.example/t/{trace_id}
  scope_url: https://graphs.example/d/1?var-service={name}
"""


def setup(url: str, *, tries: str = "{}", links: str = LINKS, timeout_s: float = 5.0) -> Setup:
    """All kinds of channels at one server."""
    text = f"""\
{links}
tries: {tries}
tiers:
  P1: [am, chat, ding, hook, phone]
  P2: [am, chat, ding, hook, phone]
channels:
  am: {{type: alertmanager, url: "{url}", timeout_s: {timeout_s},
       username: tide, password_env: AM_PASSWORD}}
  chat: {{type: wecom, url: "{url}/cgi-bin/webhook/send", timeout_s: {timeout_s}, key_env: WECOM_KEY}}
  ding: {{type: dingtalk, url: "{url}/robot/send", timeout_s: {timeout_s},
         token_env: DING_TOKEN, secret_env: DING_SECRET}}
  hook: {{type: webhook, url: "{url}/hook", timeout_s: {timeout_s}, token_env: HOOK_TOKEN}}
  phone: {{type: pagerduty, url: "{url}/v2/enqueue", timeout_s: {timeout_s}, routing_key_env: PD_KEY}}
"""
    return load_channels(text, where="channels.yaml", environ=SECRETS)
