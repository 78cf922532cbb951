"""`tidegate watch` as a process, on the broker inside the test."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import Queue

import pytest
from confluent_kafka import Producer

from tests.tools.published import B, decision
from tidegate.schemas.decision import Decision, encode_decision
from tidegate.schemas.topics import Topics
from tidegate.streams.embedded import EmbeddedBroker

TOPICS = Topics()
LINE_S = 30.0


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    specs = TOPICS.specs(partitions_count=2)
    with EmbeddedBroker({spec.name: spec.partitions_count for spec in specs}) as running:
        yield running


def publish(broker: EmbeddedBroker, *published: Decision) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 2})
    for one in published:
        producer.produce(TOPICS.decisions, encode_decision(one), key=one.scope)
    assert producer.flush(10) == 0


class Watch:
    """The running command and its lines."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tidegate.streams.cli", "watch", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "160"},
        )
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self) -> str:
        return self._lines.get(timeout=LINE_S)

    def rest(self) -> tuple[int, str, str]:
        """Exit status, what was left of stdout, stderr."""
        status = self.process.wait(LINE_S)
        assert self.process.stderr is not None
        error = self.process.stderr.read()
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return status, "".join(lines), error


def test_json_gives_the_newest_of_each_scope_and_then_every_new_decision(
    broker: EmbeddedBroker,
) -> None:
    publish(
        broker,
        decision("service:web", "degraded_2", boundary=B),
        decision("edge:web->pay", "open", boundary=B),
        decision("service:web", "closed", boundary=B + 4),
    )
    watch = Watch("--brokers", broker.bootstrap, "--json")
    first = [json.loads(watch.line()) for _ in range(2)]
    assert [(d["scope"], d["level"]) for d in first] == [
        ("edge:web->pay", "open"),
        ("service:web", "closed"),
    ]
    news = decision("edge:web->pay", "half_open", boundary=B + 9)
    publish(broker, decision("edge:web->pay", "open", boundary=B), news)
    assert watch.line().encode() == encode_decision(news) + b"\n"
    watch.process.send_signal(signal.SIGINT)
    assert watch.rest() == (130, "", "")


def test_scopes_are_chosen_by_a_pattern(broker: EmbeddedBroker) -> None:
    publish(broker, decision("service:web", "open"), decision("edge:web->pay", "open"))
    watch = Watch("--brokers", broker.bootstrap, "--json", "--once", "--scope", "edge:*")
    status, out, error = watch.rest()
    assert (status, error) == (0, "")
    assert [json.loads(line)["scope"] for line in out.splitlines()] == ["edge:web->pay"]


def test_without_a_terminal_changes_come_as_lines_of_text(broker: EmbeddedBroker) -> None:
    publish(broker, decision("service:web", "open", score=0.31))
    watch = Watch("--brokers", broker.bootstrap)
    assert "service:web open (score 0.31) score 0.31: because of a test" in watch.line()
    publish(broker, decision("service:web", "closed", score=0.97, boundary=B + 8))
    assert "service:web closed (score 0.97)" in watch.line()
    watch.process.send_signal(signal.SIGINT)
    assert watch.rest()[0] == 130


def test_once_prints_the_table_worst_first(broker: EmbeddedBroker) -> None:
    publish(broker, decision("service:a", "closed"), decision("service:b", "forced_open"))
    status, out, _ = Watch("--brokers", broker.bootstrap, "--once").rest()
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == [
        "scope",
        "level",
        "score",
        "errors",
        "p95",
        "req/s",
        "pass",
        "since",
        "reason",
    ]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["service:b", "forced_open"],
        ["service:a", "closed"],
    ]


def test_once_on_a_silent_installation_says_so(broker: EmbeddedBroker) -> None:
    status, out, _ = Watch("--brokers", broker.bootstrap, "--once").rest()
    assert (status, out) == (0, "no decision was published yet\n")


def test_records_that_are_no_decision_are_named_and_skipped(broker: EmbeddedBroker) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 2})
    producer.produce(TOPICS.decisions, b"garbage", key="service:a")
    producer.flush(10)
    publish(broker, decision("service:b", "open"))
    status, out, error = Watch("--brokers", broker.bootstrap, "--json", "--once").rest()
    assert status == 0
    assert json.loads(out)["scope"] == "service:b"
    assert "tidegate.decisions[0] offset 0" in error


def test_a_reader_that_goes_away_ends_it_quietly(broker: EmbeddedBroker) -> None:
    publish(broker, decision("service:a", "open"))
    command = (
        f"{sys.executable} -m tidegate.streams.cli watch --brokers {broker.bootstrap} --json"
        " | head -n 1"
    )
    pipe = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert pipe.stdout is not None
    assert b"service:a" in pipe.stdout.readline()
    for i in range(40):  # written to a pipe that nobody reads
        publish(broker, decision("service:a", "open", boundary=B + 1 + i))
        if pipe.poll() is not None:
            break
    _, error = pipe.communicate(timeout=LINE_S)
    assert error == b""


def test_a_broker_that_does_not_answer_is_a_failure_in_one_line() -> None:
    status, out, error = Watch("--brokers", "127.0.0.1:1").rest()
    assert (status, out) == (1, "")
    assert error.count("\n") == 1
    assert error.startswith("tidegate: 127.0.0.1:1: ")
