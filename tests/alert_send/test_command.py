"""`tidegate alert check`, `test` and `--dry-run` as processes, the last on the broker inside the test."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.alert_send.alerts import SECRETS, STORY, alert
from tests.alert_send.receiver import Answer, Receiver
from tidegate.schemas.alert import encode_alert
from tidegate.schemas.topics import Topics
from tidegate.streams.embedded import EmbeddedBroker

TOPICS = Topics()


def write(folder: Path, url: str) -> str:
    """A file of two channels, one for each tier."""
    path = folder / "channels.yaml"
    path.write_text(f"""\
tiers: {{P1: [hook], P2: [ding]}}
channels:
  hook: {{type: webhook, url: "{url}/hook", token_env: HOOK_TOKEN}}
  ding: {{type: dingtalk, url: "{url}/robot/send", token_env: DING_TOKEN, secret_env: DING_SECRET}}
""")
    return str(path)


def tidegate(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit status, stdout, stderr of `tidegate alert`."""
    ended = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(SECRETS if environ is None else environ)},
    )
    shown = ended.stdout + ended.stderr
    assert not [secret for secret in SECRETS.values() if secret in shown]
    return ended.returncode, ended.stdout, ended.stderr


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tidegate.streams.cli", "alert", *arguments]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--brokers", "k:1"], "no --channels FILE given; docs/alerts.md shows one"),
        (["--channels", "c.yaml"], "no broker given; use --brokers HOST:PORT"),
        (["--brokers", "k:1", "--channels", "/no/file"], "/no/file: No such file or directory"),
        (["check", "/no/file"], "/no/file: No such file or directory"),
        (["check"], "FILE"),
        (["test", "c.yaml"], "--channel"),
        (["--dry-rn"], "unknown option --dry-rn; did you mean --dry-run?"),
        (["--brokers", "k:1", "--channels", "c", "--metrics-port", "99999"], "is no port"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_do(arguments: list[str], says: str) -> None:
    status, out, error = tidegate(*arguments)
    assert (status, out) == (2, "")
    assert error.startswith("tidegate: ")
    assert says in error


def test_check_shows_who_is_told_or_what_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9")
    assert tidegate("check", path) == (0, "P1: hook (webhook)\nP2: ding (dingtalk)\n", "")
    status, out, error = tidegate("check", path, environ={})
    assert (status, out) == (2, "")
    assert error.startswith("tidegate: ")
    for setting in ("hook.token_env", "ding.token_env", "ding.secret_env"):
        assert f"channels.{setting}: the variable that it names is not set" in error
    assert tidegate("check", path, "--without-secrets", environ={})[0] == 0


def test_a_test_alert_says_so_and_ends(tmp_path: Path) -> None:
    with Receiver() as receiver:
        path = write(tmp_path, receiver.url)
        status, out, error = tidegate("test", path, "--channel", "hook", "--tier", "P1")
        assert (status, out, error) == (0, "hook: start taken\nhook: resolve taken\n", "")
        start, end = (got.json["data"] for got in receiver.got)
    assert (start["event"], end["event"]) == ("start", "resolve")
    assert start["id"] == end["id"]
    assert start["title"].startswith("TEST: ")


def test_a_test_that_is_not_taken_is_a_failure_after_one_try(tmp_path: Path) -> None:
    refusing = Answer(body=b'{"errcode": 310000, "errmsg": "sign not match"}')
    with Receiver(last=refusing) as receiver:
        path = write(tmp_path, receiver.url)
        status, out, error = tidegate("test", path, "--channel", "ding")
        assert len(receiver.got) == 1
    assert (status, out) == (1, "")
    assert error.startswith("tidegate: ding: start was not taken: errcode 310000: sign not match;")


def test_a_channel_that_is_none_is_met_with_a_suggestion(tmp_path: Path) -> None:
    status, _, error = tidegate("test", write(tmp_path, "http://h"), "--channel", "hok")
    assert status == 2
    assert "--channel hok: is no channel of" in error
    assert "did you mean hook?" in error


def test_a_dry_run_prints_requests_without_secrets_and_sends_nothing(tmp_path: Path) -> None:
    with (
        EmbeddedBroker({TOPICS.alerts: 1, TOPICS.dlq: 1}) as broker,
        Receiver() as receiver,
    ):
        produce(broker.bootstrap, *map(encode_alert, STORY), b"garbage")
        silenced = alert(incident="b" * 16, silenced="ops: upgrade")
        produce(broker.bootstrap, encode_alert(STORY[0]), encode_alert(silenced))
        path = write(tmp_path, receiver.url)
        process = subprocess.Popen(
            command("--brokers", broker.bootstrap, "--channels", path, "--dry-run"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(8)]
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
        assert (process.returncode, out, error) == (130, "", "")
        assert receiver.got == []
    text = json.dumps(lines)
    assert not [secret for secret in SECRETS.values() if secret in text]
    assert [told(line) for line in lines] == [
        ("start", "ding"),
        ("repeat", "hook"),
        ("change", "ding"),
        ("resolve", "ding"),
        ("resolve", "hook"),
        (None, lines[5]["dead_letter"]),
        ("start", "duplicate"),
        ("start", "silenced"),
    ]
    assert lines[0]["url"].startswith(f"{receiver.url}/robot/send?access_token=REDACTED&timestamp=")
    assert lines[1]["headers"]["Authorization"] == "Bearer REDACTED"
    assert lines[1]["body"]["data"]["number"] == 2


def told(line: dict[str, Any]) -> tuple[str | None, str]:
    return line.get("event"), line.get("channel") or line.get("skipped") or line["dead_letter"]


def produce(bootstrap: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
    for value in values:
        producer.produce(TOPICS.alerts, value)
    assert producer.flush(10) == 0
