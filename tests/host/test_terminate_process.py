"""`terminate` in real processes: the exit's status, the file, a kill in the middle, and no opt-in."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client.live import lease, publish
from tests.host.feeding import SERVICE, now_ms, telling_to_end
from tests.kafka import KafkaCluster
from tidegate.client.host import HostReporter
from tidegate.client.terminate import MARGIN_MS
from tidegate.schemas.otlp.metrics import decode_metrics
from tidegate.schemas.points import Metric
from tidegate.schemas.topics import Topics

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


@contextmanager
def child(path: Path, **more: Any) -> "Iterator[subprocess.Popen[str]]":
    """A service that is ready; killed if it is still there in the end."""
    arguments = json.dumps({"path": str(path), "size": 3 * MIB, **more})
    running = subprocess.Popen(
        [sys.executable, "-m", "tests.host.child", arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def feed(running: "subprocess.Popen[str]", boundary: int = 0) -> None:
    assert running.stdin is not None
    running.stdin.write(f"{boundary}\n")
    running.stdin.flush()


def told(running: "subprocess.Popen[str]") -> str:
    """What it wrote to its log until it ended."""
    assert running.stderr is not None
    return running.stderr.read()


def is_old_or_new(path: Path) -> bool:
    data = path.read_bytes()
    return data in (b"old", b"n" * 3 * MIB)


def test_it_writes_the_whole_snapshot_and_exits_with_137(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    with child(path) as running:
        feed(running)
        assert running.wait(30) == 137
        assert "pay-1 of service:shop/pay ends itself" in told(running)
    assert path.read_bytes() == b"n" * 3 * MIB
    assert [each.name for each in tmp_path.iterdir()] == ["state.bin"]


def test_without_the_opt_in_it_lives(tmp_path: Path) -> None:
    with child(tmp_path / "state.bin", opt_in=False) as running:
        for boundary in (0, 1, 2):
            feed(running, boundary)
            assert running.stdout is not None
            assert running.stdout.readline() == "lives\n"
        assert running.poll() is None
    assert list(tmp_path.iterdir()) == []


def test_killed_in_the_middle_of_writing_it_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    with child(path, file_bytes_max=MIB, dies=True) as running:
        feed(running)
        assert running.wait(30) == -signal.SIGXFSZ
    assert path.read_bytes() == b"old"
    (beside,) = [each for each in tmp_path.iterdir() if each != path]
    assert beside.stat().st_size == MIB  # so it was in the middle
    assert beside.name.startswith(".state.bin.")


def test_a_full_disk_costs_the_snapshot_and_not_the_exit(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    with child(path, file_bytes_max=MIB) as running:
        feed(running)
        assert running.wait(30) == 137
        log = told(running)
    assert "File too large" in log
    assert f"no snapshot in {path}" in log
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["state.bin"]


def test_killed_at_any_moment_it_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    for delay_s in (0.0, 0.001, 0.002, 0.004, 0.008):
        path.write_bytes(b"old")
        with child(path) as running:
            feed(running)
            time.sleep(delay_s)
            running.send_signal(signal.SIGKILL)
            assert running.wait(30) in (-signal.SIGKILL, 137)
        assert is_old_or_new(path)


# ---- on Kafka ----


def test_a_decision_on_kafka_ends_it_once_and_the_one_that_follows_it_lives(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    kafka_cluster.create_topic(topics.decisions, config={"cleanup.policy": "compact"})
    path = tmp_path / "state.bin"
    more = {"config": config, "topic_prefix": topic_prefix}
    boundary = now_ms() // 500
    with child(path, **more) as running, child(tmp_path / "b", opt_in=False, **more) as without:
        since_ms = now_ms() + 2 * MARGIN_MS
        other = telling_to_end("pay-2", since_ms=since_ms, boundary=boundary)
        advice = telling_to_end("pay-1", since_ms=since_ms, boundary=boundary + 1, enforce=False)
        publish(config, topics.decisions, lease(boundary=boundary), other, advice)
        time.sleep(1)
        assert running.poll() is None
        order = telling_to_end("pay-1", since_ms=since_ms, boundary=boundary + 2)
        publish(config, topics.decisions, order)
        assert running.wait(30) == 137
        assert path.read_bytes() == b"n" * 3 * MIB
        path.unlink()
        # Its supervisor starts it again; the same incident is still there, and is published again.
        time.sleep(max(0, since_ms - now_ms()) / 1000)
        with child(path, **more) as again:
            order = telling_to_end("pay-1", since_ms=since_ms, boundary=now_ms() // 500)
            publish(config, topics.decisions, order)
            time.sleep(2)
            assert again.poll() is None
            assert not path.exists()
            # Another incident, later in its life.
            order = telling_to_end("pay-1", since_ms=now_ms() + MARGIN_MS, boundary=now_ms() // 500)
            publish(config, topics.decisions, order)
            assert again.wait(30) == 137
            assert path.read_bytes() == b"n" * 3 * MIB
            log = told(again)
        assert log.count("is not obeyed: L5 began before this process") == 1
        assert without.poll() is None
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("partitions_count", [3])
def test_readings_of_this_machine_reach_workers_by_kafka(
    kafka_cluster: KafkaCluster, topic_prefix: str, partitions_count: int
) -> None:
    from confluent_kafka import Consumer

    config, topic = kafka_cluster.client_config(), Topics(prefix=topic_prefix).otlp_metrics
    kafka_cluster.create_topic(topic, partitions_count)
    with HostReporter(
        config, service=SERVICE, instance="pay-1", topic_prefix=topic_prefix, every_s=0.2
    ):
        consumer = Consumer({**config, "group.id": topic, "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        messages = consumer.consume(3, 30)
    consumer.close()
    assert len(messages) == 3
    assert len({message.partition() for message in messages}) == 1
    assert {message.key() for message in messages} == {SERVICE.encode()}
    batch = decode_metrics([message.value() or b"" for message in messages])
    assert not batch.record_errors
    assert not batch.counters
    points = [point for _, point in batch.points]
    assert {(point.service, point.instance) for point in points} == {(SERVICE, "pay-1")}
    panic = int(Path("/proc/sys/kernel/panic_on_oops").read_text())
    assert [p.value for p in points if p.metric == Metric.PANIC_ON_OOPS] == [int(panic > 0)] * 3
    assert all(abs(point.time_ms - now_ms()) < 60_000 for point in points)
