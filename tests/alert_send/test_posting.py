"""Tries, waits and giving up, against servers that refuse, hang, are busy or lie."""

import asyncio
import itertools
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.alert_send.alerts import SECRETS, alert, setup
from tests.alert_send.receiver import Answer, Receiver
from tests.kafka.certificates import make_authority, make_certificate
from tidegate.streams.alert.posting import Poster, UndeliveredError
from tidegate.streams.alert.settings import Setup, load_channels

QUICK = "{tries_max: 3, wait_first_s: 0.1, wait_max_s: 0.2}"
BUSY = Answer(429, b"slow down", {"Retry-After": "1"})


def post(ready: Setup, name: str) -> tuple[int, list[str]]:
    """(tries, why each but the last failed)."""
    reasons: list[str] = []

    async def run() -> int:
        poster = Poster(
            ready.channels[name], ready.tries, on_retry=lambda reason, _: reasons.append(reason)
        )
        try:
            return await poster.post(alert(), read_s=time.monotonic())
        finally:
            await poster.close()

    return asyncio.run(run()), reasons


def refusal(ready: Setup, name: str) -> UndeliveredError:
    with pytest.raises(UndeliveredError) as caught:
        post(ready, name)
    shown = f"{caught.value}{caught.value!r}{caught.value.__cause__}"
    assert not [secret for secret in SECRETS.values() if secret in shown]
    return caught.value


PASSING: list[tuple[str, Answer, str]] = [
    ("hook", Answer(500, b"oops"), "HTTP 500: oops"),
    ("hook", Answer(503, b""), "HTTP 503:"),
    ("hook", Answer(408, b""), "HTTP 408:"),
    ("hook", BUSY, "HTTP 429: slow down"),
    ("hook", Answer(fault="drop"), "RemoteProtocolError: Server disconnected"),
    ("hook", Answer(fault="hang"), "no answer within 0.5 s"),
    ("hook", Answer(body=b"x" * 50, fault="trickle"), "no answer within 0.5 s"),
    (
        "chat",
        Answer(body=b'{"errcode": 45009, "errmsg": "api freq out of limit"}'),
        "errcode 45009",
    ),
    ("chat", Answer(body=b"<html>log in"), "the answer is no JSON with an errcode"),
    ("ding", Answer(body=b'{"errcode": 130101, "errmsg": "too fast"}'), "errcode 130101: too fast"),
    ("phone", Answer(502, b"bad gateway"), "HTTP 502: bad gateway"),
]


@pytest.mark.parametrize(("name", "answer", "reason"), PASSING)
def test_what_may_pass_is_tried_again(name: str, answer: Answer, reason: str) -> None:
    with Receiver(answer) as receiver:
        tries, reasons = post(setup(receiver.url, tries=QUICK, timeout_s=0.5), name)
        assert (tries, len(receiver.got)) == (2, 2)
    (told,) = reasons
    assert told.startswith(reason)


FINAL: list[tuple[str, Answer, str]] = [
    ("hook", Answer(400, b"bad"), "HTTP 400: bad"),
    ("hook", Answer(404, b""), "HTTP 404:"),
    ("hook", Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), "redirects are not followed"),
    ("am", Answer(400, b'"startsAt: bad"'), "HTTP 400: "),
    ("chat", Answer(body=b'{"errcode": 93000, "errmsg": "invalid webhook url"}'), "errcode 93000"),
    ("ding", Answer(body=b'{"errcode": 310000, "errmsg": "sign not match"}'), "errcode 310000"),
    ("phone", Answer(400, b'{"status": "invalid event"}'), "HTTP 400: "),
]


@pytest.mark.parametrize(("name", "answer", "reason"), FINAL)
def test_what_cannot_pass_is_tried_once(name: str, answer: Answer, reason: str) -> None:
    with Receiver(last=answer) as receiver:
        problem = refusal(setup(receiver.url, tries=QUICK), name)
        assert (problem.tries_count, len(receiver.got)) == (1, 1)
    assert reason in problem.reason


def test_after_the_last_try_it_gives_up_with_the_last_reason() -> None:
    with Receiver(Answer(500), Answer(502), last=Answer(503, b"still ill")) as receiver:
        problem = refusal(setup(receiver.url, tries=QUICK), "hook")
        assert (problem.tries_count, len(receiver.got)) == (3, 3)
    assert problem.reason == "HTTP 503: still ill"


def test_nobody_listening_is_tried_again_too() -> None:
    problem = refusal(setup("http://127.0.0.1:9", tries=QUICK), "hook")
    assert problem.tries_count == 3
    assert problem.reason.startswith("ConnectError: ")


def test_waits_grow_and_retry_after_is_kept() -> None:
    quick = "{tries_max: 4, wait_first_s: 0.1, wait_max_s: 10}"
    with Receiver(Answer(500), Answer(500), BUSY) as receiver:
        post(setup(receiver.url, tries=quick), "hook")
        at_s = [got.at_s for got in receiver.got]
    waits_s = [later - earlier for earlier, later in itertools.pairwise(at_s)]
    for wait_s, least_s in zip(waits_s, (0.1, 0.2, 1.0), strict=True):
        assert least_s <= wait_s < least_s + 3  # 3 s: a machine that stalls


def test_a_date_in_retry_after_is_kept_too() -> None:
    until = datetime.now(UTC) + timedelta(seconds=2)
    busy = Answer(503, b"", {"Retry-After": format_datetime(until, usegmt=True)})
    with Receiver(busy) as receiver:
        post(setup(receiver.url, tries=QUICK), "hook")
        first, second = receiver.got
    assert second.at_s - first.at_s > 0.8  # dates have whole seconds


@pytest.mark.parametrize("value", ["soon", "-5", "", "9" * 400, "Mon, 99 Foo 99999 00:00:00 GMT"])
def test_nonsense_in_retry_after_does_no_harm(value: str) -> None:
    with Receiver(Answer(429, b"", {"Retry-After": value})) as receiver:
        ready = setup(receiver.url, tries=QUICK)
        if value.isdecimal():
            assert refusal(ready, "hook").tries_count == 1
        else:
            assert post(ready, "hook")[0] == 2


def test_a_server_that_asks_for_more_time_than_there_is_has_been_tried_in_vain() -> None:
    with Receiver(Answer(429, b"", {"Retry-After": "3600"})) as receiver:
        began_s = time.monotonic()
        problem = refusal(setup(receiver.url, tries="{total_s: 60}"), "hook")
    assert problem.tries_count == 1
    assert time.monotonic() - began_s < 30


def test_the_time_for_all_tries_is_bounded() -> None:
    bounded = "{tries_max: 100, wait_first_s: 0.1, wait_max_s: 0.1, total_s: 1}"
    with Receiver(last=Answer(500)) as receiver:
        problem = refusal(setup(receiver.url, tries=bounded), "hook")
    assert 2 <= problem.tries_count <= 11


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("chat", b'{"errcode": 93000, "errmsg": "no robot has hush-wecom-693a91f6"}'),
        ("ding", b'{"errcode": 310000, "errmsg": "SEChush%2Fsecret%2B9c%3D%3D hush-token-2f8b"}'),
    ],
)
def test_secrets_that_a_server_repeats_are_blotted_out(name: str, body: bytes) -> None:
    with Receiver(last=Answer(body=body)) as receiver:
        assert "***" in refusal(setup(receiver.url), name).reason


def test_an_endless_answer_is_cut() -> None:
    with Receiver(last=Answer(400, b"no\n" * 1_000_000)) as receiver:
        reason = refusal(setup(receiver.url), "hook").reason
    assert len(reason) <= 300
    assert reason.startswith("HTTP 400: no no no")
    assert "\n" not in reason


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "authority"
    make_authority(folder)
    make_certificate(folder, "server")
    return folder


def test_a_certificate_is_checked_and_its_authority_can_be_named(authority: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority / "server.pem", authority / "server.key")
    with Receiver(tls=tls) as receiver:
        problem = refusal(setup(receiver.url, tries="{tries_max: 1}"), "hook")
        assert "CERTIFICATE_VERIFY_FAILED" in problem.reason
        assert receiver.got == []
        text = f"""\
tiers: {{P1: [hook], P2: []}}
channels:
  hook: {{type: webhook, url: "{receiver.url}", ca_file: "{authority / "ca.pem"}"}}
"""
        assert post(load_channels(text, where="c.yaml", environ={}), "hook") == (1, [])
