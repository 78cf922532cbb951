"""What each kind of channel posts, whole: path, headers that matter, body."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from tests.alert_send.alerts import LINKS, SECRETS, SHARP, SINCE_MS, STORY, TRACE, alert, setup
from tests.alert_send.receiver import Got, Receiver
from tidegate.schemas.alert import Alert
from tidegate.streams.alert.channels import CHANNELS
from tidegate.streams.alert.dingtalk import signature
from tidegate.streams.alert.posting import Poster
from tidegate.streams.alert.text import facts, rfc3339, shortened

GRAPH = "https://graphs.example/d/1?var-service=payments"
TRACE_URL = f"https://traces.example/t/{TRACE}"
HEADLINES = (
    "P2 started: payments: 0.52 % of requests fail",
    "P1 lasts: payments: 0.52 % of requests fail",
    "P2 changed: payments: 0.52 % of requests fail",
    "P2 resolved: payments: 0.52 % of requests fail",
)
AT = (
    "2026-05-04T03:01:00.000Z",
    "2026-05-04T04:01:00.000Z",
    "2026-05-04T04:06:40.000Z",
    "2026-05-04T05:01:01.000Z",
)
SINCE = "2026-05-04T03:00:00.000Z"
LASTED = ("1 min", "1 h 1 min", "1 h 6 min", "2 h 1 min")
HELD = ("2026-05-04T07:01:00.000Z", "2026-05-04T08:01:00.000Z", "2026-05-04T08:06:40.000Z")
"""Four hours after each event but the last."""


def alertmanager_alert(i: int, tier: str, ends: str) -> dict[str, Any]:
    return {
        "labels": {
            "alertname": "tidegate_slo",
            "scope": "service:payments",
            "service": "payments",
            "rule": "slo",
            "severity": {"P1": "critical", "P2": "warning"}[tier],
            "tier": tier,
        },
        "annotations": {
            "summary": HEADLINES[i],
            "description": "52 of 10000 bad over 5 min, limit 0.3 %",
            "level": "degraded_1",
            "policy": "default@1f2e3d",
            "incident": "00c0ffee00c0ffee",
            "traces": TRACE_URL,
        },
        "startsAt": SINCE,
        "endsAt": ends,
        "generatorURL": GRAPH,
    }


def wecom_body(i: int) -> dict[str, Any]:
    color = "info" if i == 3 else "warning"
    content = (
        f'**<font color="{color}">{HEADLINES[i]}</font>**\n'
        "> service:payments, rule slo, level degraded_1\n"
        f"> since 2026-05-04 03:00:00 UTC ({LASTED[i]})\n"
        "> over 5 min: errors 0.52%, 10000 requests\n"
        "> 52 of 10000 bad over 5 min, limit 0.3 %\n"
        f"> [slo dashboard]({GRAPH}) [0af76519]({TRACE_URL})\n"
        f"> incident 00c0ffee00c0ffee, event {i + 1}"
    )
    return {"msgtype": "markdown", "markdown": {"content": content}}


def dingtalk_body(i: int) -> dict[str, Any]:
    text = (
        f"#### {HEADLINES[i]}\n\n"
        "> service:payments, rule slo, level degraded_1\n\n"
        f"> since 2026-05-04 03:00:00 UTC ({LASTED[i]})\n\n"
        "> over 5 min: errors 0.52%, 10000 requests\n\n"
        "> 52 of 10000 bad over 5 min, limit 0.3 %\n\n"
        f"> [slo dashboard]({GRAPH}) [0af76519]({TRACE_URL})\n\n"
        f"> incident 00c0ffee00c0ffee, event {i + 1}"
    )
    return {"msgtype": "markdown", "markdown": {"title": HEADLINES[i], "text": text}}


def cloud_event(i: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"00c0ffee00c0ffee-{i + 1}",
        "source": "/tidegate/alerts",
        "type": f"tidegate.alert.{STORY[i].event}",
        "subject": "service:payments",
        "time": AT[i],
        "datacontenttype": "application/json",
        "data": msgspec.to_builtins(STORY[i]),
    }


def pagerduty_event(i: int) -> dict[str, Any]:
    return {
        "routing_key": SECRETS["PD_KEY"],
        "event_action": "resolve" if i == 3 else "trigger",
        "dedup_key": "00c0ffee00c0ffee",
        "payload": {
            "summary": HEADLINES[i],
            "source": "service:payments",
            "severity": "critical" if i == 1 else "warning",
            "timestamp": AT[i],
            "component": "service:payments",
            "group": "tidegate",
            "class": "slo",
            "custom_details": {
                "reason": "52 of 10000 bad over 5 min, limit 0.3 %",
                "level": "degraded_1",
                "since": SINCE,
                "policy": "default@1f2e3d",
                "event": STORY[i].event,
                "number": i + 1,
                "signals": {
                    "requests": 10_000,
                    "error_ratio": 0.0052,
                    "slow_ratio": None,
                    "p95_over_ms": None,
                },
            },
        },
        "client": "Tidegate",
        "client_url": GRAPH,
        "links": [
            {"href": GRAPH, "text": "service:payments"},
            {"href": TRACE_URL, "text": f"trace {TRACE}"},
        ],
    }


AM_BODIES = [
    [alertmanager_alert(0, "P2", HELD[0])],
    [alertmanager_alert(1, "P1", HELD[1]), alertmanager_alert(1, "P2", AT[1])],
    [alertmanager_alert(2, "P2", HELD[2]), alertmanager_alert(2, "P1", AT[2])],
    [alertmanager_alert(3, "P2", AT[3]), alertmanager_alert(3, "P1", AT[3])],
]
BASIC = "Basic " + base64.b64encode(b"tide:hush-am").decode()
BEARER = f"Bearer {SECRETS['HOOK_TOKEN']}"
JSON = {"Content-Type": "application/json"}
WECOM_PATH = f"/cgi-bin/webhook/send?key={SECRETS['WECOM_KEY']}"
TABLE: list[tuple[str, int, str, dict[str, str], Any]] = [
    *(("am", i, "/api/v2/alerts", JSON | {"Authorization": BASIC}, AM_BODIES[i]) for i in range(4)),
    *(("chat", i, WECOM_PATH, JSON, wecom_body(i)) for i in range(4)),
    *(("ding", i, "", JSON, dingtalk_body(i)) for i in range(4)),  # its path has a test of its own
    *(
        (
            "hook",
            i,
            "/hook",
            {
                "Content-Type": "application/cloudevents+json",
                "Idempotency-Key": f"00c0ffee00c0ffee-{i + 1}",
                "Authorization": BEARER,
            },
            cloud_event(i),
        )
        for i in range(4)
    ),
    *(("phone", i, "/v2/enqueue", JSON, pagerduty_event(i)) for i in range(4)),
]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def posted(receiver: Receiver, name: str, event: Alert, *, links: str = LINKS) -> Got:
    """What arrives when the event is posted to the channel."""

    async def post() -> None:
        ready = setup(receiver.url, links=links)
        poster = Poster(ready.channels[name], ready.tries, on_retry=lambda *_: None)
        assert await poster.post(event, read_s=time.monotonic()) == 1
        await poster.close()

    receiver.got.clear()
    asyncio.run(post())
    (got,) = receiver.got
    return got


@pytest.mark.parametrize(
    ("name", "i", "path", "headers", "body"),
    TABLE,
    ids=[f"{name}-{STORY[i].event}" for name, i, *_ in TABLE],
)
def test_each_kind_posts_exactly_this(
    receiver: Receiver, name: str, i: int, path: str, headers: dict[str, str], body: object
) -> None:
    got = posted(receiver, name, STORY[i])
    assert got.json == body
    assert got.path == path or name == "ding"
    assert {key: got.headers.get(key) for key in headers} == headers
    assert got.headers["User-Agent"].startswith("tidegate/")
    assert posted(receiver, name, STORY[i]).body == got.body  # a double is known by its bytes


def test_every_kind_has_rows() -> None:
    kinds = {channel.kind.name for channel in setup("http://x").channels.values()}
    assert {kind.name for kind in CHANNELS} == kinds
    assert {name for name, *_ in TABLE} == setup("http://x").channels.keys()


def test_dingtalks_address_is_signed_with_the_time_of_the_try(receiver: Receiver) -> None:
    before_ms = time.time_ns() // 1_000_000
    parts = urlsplit(posted(receiver, "ding", STORY[0]).path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    secret = SECRETS["DING_SECRET"].encode()
    signed = hmac.new(secret, f"{query['timestamp']}\n".encode() + secret, hashlib.sha256)
    assert parts.path == "/robot/send"
    assert query == {
        "access_token": SECRETS["DING_TOKEN"],
        "timestamp": query["timestamp"],
        "sign": base64.b64encode(signed.digest()).decode(),
    }
    assert before_ms <= int(query["timestamp"]) <= time.time_ns() // 1_000_000


def test_the_signature_is_what_openssl_makes_of_it() -> None:
    # printf '1577808000000\nthis is secret' | openssl dgst -sha256 -hmac 'this is secret' -binary | base64
    assert (
        signature(1_577_808_000_000, "this is secret")
        == "ijHEivi6YiCNPZOq4hZstmvZ3sPfbioAiMhP30ae7W0="
    )


def test_without_links_there_are_none(receiver: Receiver) -> None:
    assert "generatorURL" not in posted(receiver, "am", STORY[0], links="").json[0]
    phone = posted(receiver, "phone", STORY[0], links="").json
    assert phone.keys().isdisjoint({"links", "client_url"})
    assert "](" not in posted(receiver, "chat", STORY[0], links="").json["markdown"]["content"]


def test_names_from_spans_are_no_markup_and_call_nobody(receiver: Receiver) -> None:
    content = posted(receiver, "chat", SHARP, links="").json["markdown"]["content"]
    assert "P2 started: pay‹@all>(x)(http://evil)'" in content
    assert "<@" not in content
    assert "> line one\n" in content
    assert "slower than 1200 ms 40.00%, 7 requests" in content


def test_a_message_that_is_too_long_for_wecom_is_cut(receiver: Receiver) -> None:
    long = msgspec.structs.replace(STORY[0], reason="数" * 4000)
    content = posted(receiver, "chat", long).json["markdown"]["content"]
    assert 4090 < len(content.encode()) <= 4096
    assert content.endswith("数…")


@pytest.mark.parametrize(
    ("text", "bytes_max", "expected"),
    [("abc", 3, "abc"), ("abcdef", 5, "ab…"), ("ééé", 5, "é…"), ("", 3, "")],
)
def test_text_is_cut_between_characters(text: str, bytes_max: int, expected: str) -> None:
    assert shortened(text, bytes_max) == expected


def test_a_scope_that_is_no_service_has_no_service_label(receiver: Receiver) -> None:
    (posted_alert,) = posted(receiver, "am", alert(scope="partition:3")).json
    assert "service" not in posted_alert["labels"]
    assert posted_alert["labels"]["scope"] == "partition:3"


def test_times_and_durations() -> None:
    assert rfc3339(SINCE_MS + 7) == "2026-05-04T03:00:00.007Z"
    assert "(59 s)" in facts(alert(after_s=59))[1]
    assert "(0 s)" in facts(alert(after_s=-5))[1]
