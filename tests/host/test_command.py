"""`python -m tidegate.client.host`, as a sidecar runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.test_reporter import read
from tests.host.trees import events, plant
from tidegate.client.host import read_host
from tidegate.client.host.command import main
from tidegate.streams.embedded import EmbeddedBroker

COMMAND = [sys.executable, "-m", "tidegate.client.host"]
HIDDEN = ("TIDEGATE_", "OTEL_")


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({"otlp_metrics": 1}) as running:
        yield running


def environ(**more: str) -> dict[str, str]:
    return {key: text for key, text in os.environ.items() if not key.startswith(HIDDEN)} | more


def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ(**more),
    )


def test_once_and_json_show_what_can_be_read_and_need_no_kafka() -> None:
    done = run("--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found.pop("time_ms") > 1_700_000_000_000
    here = read_host()
    assert found["panic_on_oops"] == here.panic_on_oops
    assert found["notes"] == here.notes


def test_one_reading_is_delivered_and_the_status_says_so(broker: EmbeddedBroker) -> None:
    done = run("--once", "--brokers", broker.bootstrap, "--service", "pay", "--instance", "i")
    assert done.returncode == 0, done.stderr
    ((key, _, points),) = read(broker.bootstrap, 1)
    assert key == b"pay"
    assert {(p.service, p.instance) for p in points} == {("pay", "i")}


def test_a_reading_that_is_not_delivered_is_a_failure(tmp_path: Path) -> None:
    done = run("--once", "--service", "pay", TIDEGATE_BROKERS="127.0.0.1:9")
    assert done.returncode == 1
    assert "readings wait" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sidecar_sends_until_it_is_told_to_stop(
    broker: EmbeddedBroker, number: signal.Signals
) -> None:
    variables = {
        "TIDEGATE_BROKERS": broker.bootstrap,
        "OTEL_SERVICE_NAME": "pay",
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop,service.instance.id=pay-7",
    }
    with subprocess.Popen(
        [*COMMAND, "--every", "100ms"],
        stderr=subprocess.PIPE,
        text=True,
        env=environ(**variables),
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == (
            "INFO host: pay-7 of shop/pay to otlp_metrics every 0.1 s\n"
        )
        records = read(broker.bootstrap, 3)
        assert len(records) >= 3
        assert {p.instance for *_, points in records for p in points} == {"pay-7"}
        running.send_signal(number)
        assert running.wait(20) == 0


def test_a_pods_group_is_found_by_its_uid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path, {"kubepods/podu-1/memory.events": events(7, 6, 5)})
    arguments = ["--once", "--json", "--pod-uid", "u-1", "--cgroups", str(tmp_path)]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["memory_events"] == {"high": 7, "max": 6, "oom_kill": 5}
    group = str(tmp_path / "kubepods/podu-1")
    assert main(["--once", "--json", "--cgroup", group]) == 0
    assert json.loads(capsys.readouterr().out)["memory_events"] == found["memory_events"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--service", "pay"], "no broker given; use --brokers"),
        (["--brokers", "a:1"], "service: no name"),
        (["--brokers", "a", "--service", "pay"], "'a' is not HOST:PORT"),
        (["--every", "0"], "--every: '0' is no time between 100ms and 60s"),
        (["--every", "2m"], "--every: '2m' is no time"),
        (["--every", "5 s"], "--every: '5 s' is no time"),
        (["--every", "nan"], "--every: 'nan' is no time"),
        (["--cgroup", "/nowhere"], "--cgroup: there is no folder /nowhere"),
        (["--pod-uid", "u", "--cgroups", "/nowhere"], "no control group of pod u below /nowhere"),
        (["--pod-uid", "u", "--cgroup", "/"], "give one of them"),
        (["--kafka-config", "/nowhere", "--service", "pay"], "/nowhere: can't be read"),
        (["--brokers", "a:1", "--service", "p", "--topic-prefix", "a b"], "prefix 'a b' can't be"),
    ],
)
def test_wrong_usage_is_told_with_status_two(
    arguments: list[str], text: str, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(HIDDEN)]:
        monkeypatch.delenv(name)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("tidegate-host: ")
    assert text in told


def test_without_the_extra_the_remedy_is_told(tmp_path: Path) -> None:
    plant(tmp_path, {"opentelemetry/proto/__init__.py": "raise ImportError('no such thing')\n"})
    plant(tmp_path, {"opentelemetry/__init__.py": ""})
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = run("--once", "--json", PYTHONPATH=path)
    assert done.returncode == 1
    assert re.search(r"pip install 'tidegate-client\[host\]'", done.stderr)


def test_help_names_every_option_that_the_docs_name() -> None:
    done = run("--help")
    assert done.returncode == 0
    docs = (Path(__file__).resolve().parents[2] / "docs" / "host.md").read_text()
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", done.stdout)) - {"--help"}
    assert {option for option in named if f"{option}" not in docs} == set()
