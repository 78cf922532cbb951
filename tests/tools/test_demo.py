"""The demo from its start to its end, and every way to end it early. Nothing it starts may be left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from tests.kafka import KafkaCluster

READY_S = 150.0
"""The first worker on a machine compiles its kernels."""
END_S = 40.0


class Demo:
    """The running command."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tidegate.streams.cli", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")},
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.children: list[psutil.Process] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Iterator[str], lines: list[str]) -> None:
        lines.extend(stream)

    def wait_until_ready(self) -> None:
        """Until something was judged; the worker is known then."""
        until_s = time.monotonic() + READY_S
        while not any("Ready after" in line for line in [*self.lines, *self.errors]):
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < until_s, self.errors
            time.sleep(0.2)
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        assert self.children

    def wait(self, seconds: float) -> int:
        """Exit status."""
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return status

    def left(self) -> list[psutil.Process]:
        """What it started and is still there after some time to end."""
        _, alive = psutil.wait_procs(self.children, timeout=END_S)
        return alive


@pytest.fixture
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    running = Demo(*getattr(request, "param", ()))
    yield running
    if running.process.poll() is None:
        running.process.kill()
    for child in running.children:
        if child.is_running():
            child.kill()


@pytest.mark.slow
@pytest.mark.timeout(READY_S + 75 + END_S)
@pytest.mark.parametrize("demo", [("--json", "--seconds", "75")], indirect=True)
def test_a_fault_opens_and_everything_is_closed_again_before_the_end(demo: Demo) -> None:
    demo.wait_until_ready()
    assert demo.wait(75 + END_S) == 0, "".join(demo.errors)
    assert demo.left() == []
    levels: dict[str, list[str]] = {}
    for line in demo.lines:
        decision = json.loads(line)
        levels.setdefault(decision["scope"], []).append(decision["level"])
    assert {f"service:{name}" for name in ("web", "cart", "inventory", "payments")} <= set(levels)
    assert {"open", "forced_open"} & set(levels["edge:web->payments"])
    assert "half_open" in levels["edge:web->payments"]
    assert "degraded_2" in levels["edge:web->inventory"]
    assert set(levels["service:cart"]) == {"closed"}, "what works is left alone"
    assert {scope: seen[-1] for scope, seen in levels.items() if seen[-1] != "closed"} == {}
    assert "All levels are back to closed" in "".join(demo.errors)


@pytest.mark.slow
@pytest.mark.timeout(READY_S + 2 * END_S)
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_however_the_demo_is_ended_its_worker_ends_too(
    demo: Demo, number: signal.Signals, status: int
) -> None:
    demo.wait_until_ready()
    demo.process.send_signal(number)
    assert demo.wait(END_S) == status
    assert demo.left() == []
    assert "Traceback" not in "".join(demo.errors)


@pytest.mark.slow
@pytest.mark.timeout(READY_S + END_S)
def test_a_worker_that_dies_ends_the_demo_with_its_last_words(demo: Demo) -> None:
    demo.wait_until_ready()
    for child in demo.children:
        child.kill()
    assert demo.wait(END_S) == 1
    assert "the worker ended with exit status -9; its last words:" in "".join(demo.errors)


@pytest.mark.slow
@pytest.mark.timeout(READY_S + 2 * END_S)
def test_on_a_real_broker_it_makes_its_topics_and_deletes_them(kafka_cluster: KafkaCluster) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_cluster.bootstrap})
    demo = Demo("--brokers", kafka_cluster.bootstrap)
    try:
        demo.wait_until_ready()
        assert [name for name in admin.list_topics().topics if name.startswith("tidegate-demo-")]
        demo.process.send_signal(signal.SIGINT)
        assert demo.wait(END_S) == 130
        assert demo.left() == []
        assert demo.errors == []
        names = admin.list_topics().topics
        assert [name for name in names if name.startswith("tidegate-demo-")] == []
    finally:
        demo.process.kill()
