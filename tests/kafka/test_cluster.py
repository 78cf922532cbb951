"""The test broker itself: it comes back on the same ports, freezes, fills up, and never outlives us."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from tests.conftest import KafkaFactory
from tests.kafka import KafkaCluster
from tests.kafka.cluster import cluster_id_of

ROOT = Path(__file__).resolve().parents[2]


def send(cluster: KafkaCluster, topic: str, *, timeout_s: float) -> bool:
    """Whether a record was acknowledged in time."""
    producer = Producer(
        cluster.client_config() | {"message.timeout.ms": str(int(timeout_s * 1000)), "acks": "all"}
    )
    acknowledged: list[bool] = []
    producer.produce(
        topic, b"x" * 1000, on_delivery=lambda error, _: acknowledged.append(error is None)
    )
    producer.flush(timeout_s + 2)
    return acknowledged == [True]


def test_a_topic_can_be_deleted_and_made_anew(
    kafka_cluster: KafkaCluster, topic_prefix: str
) -> None:
    for partitions_count in (2, 3):
        kafka_cluster.create_topic(f"{topic_prefix}again", partitions_count)
        assert send(kafka_cluster, f"{topic_prefix}again", timeout_s=10)
        kafka_cluster.delete_topic(f"{topic_prefix}again")


def test_a_broker_can_be_killed_paused_and_filled(kafka_factory: KafkaFactory) -> None:
    cluster = kafka_factory()
    cluster.create_topic("t")
    assert send(cluster, "t", timeout_s=10)

    cluster.kill()
    assert not send(cluster, "t", timeout_s=1)
    cluster.start()
    assert send(cluster, "t", timeout_s=20)

    cluster.pause()
    assert not send(cluster, "t", timeout_s=2)
    cluster.resume()
    assert send(cluster, "t", timeout_s=20)

    if sys.platform == "linux":
        cluster.fill_disk()
        assert not send(cluster, "t", timeout_s=3)
        assert cluster.wait_ended() != 0
        cluster.start()
        assert send(cluster, "t", timeout_s=20)


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    assert cluster_id_of(bytes([0xF8]) + bytes(15)) == "AAAAAAAAAAAAAAAAAAAAAA"
    assert not cluster_id_of(bytes([0xFB]) * 16).startswith("-")


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.kafka import KafkaCluster
cluster = KafkaCluster(Path(sys.argv[1]))
print(cluster.brokers[0].pid_file.read_text().strip(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_broker_does_not_outlive_a_killed_test_process(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "kafka")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -9, done.stderr
    pid = int(done.stdout)
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s and is_alive(pid):
        time.sleep(0.1)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    """False of a zombie too: containers often have nobody who asks for its status."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_missing_java_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.kafka import jars
    from tests.kafka.problem import KafkaMissingError

    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(
        KafkaMissingError, match=r"`java` is not on the PATH; install a Java runtime"
    ):
        jars.check_java.__wrapped__()


def test_of_three_brokers_one_may_die_and_producers_can_be_throttled(
    kafka_factory: KafkaFactory,
) -> None:
    cluster = kafka_factory(brokers_count=3)
    cluster.create_topic("t")
    cluster.throttle_producers(1_000_000)
    assert send(cluster, "t", timeout_s=10)
    cluster.throttle_producers(None)
    cluster.kill(2)
    assert send(cluster, "t", timeout_s=20)
    cluster.start(2)
    assert send(cluster, "t", timeout_s=20)
