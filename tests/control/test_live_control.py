"""From an operator's command to a worker's decisions and back, with real workers; and without a control topic."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.control.commands import Kafka
from tests.kafka import KafkaCluster
from tests.streams.live import Traffic, Worker, log_of, until
from tidegate.schemas.decision import Decision, decode_decision


@contextmanager
def traffic(kafka: Kafka) -> Iterator[None]:
    """Healthy spans until the end."""
    stop = threading.Event()

    def run() -> None:
        spans = Traffic(kafka.config, kafka.topics.otlp_spans, partitions=1)
        while not stop.is_set():
            spans.run(0.5, per_s=20, error_ratio=0.0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def decisions(kafka: Kafka) -> dict[str, Decision]:
    """The newest of each service."""
    found: dict[str, Decision] = {}
    for record in log_of(kafka.config, kafka.topics.decisions):
        if record.value and (record.key or b"").startswith(b"service:"):
            said = decode_decision(record.value)
            found[said.scope] = said
    return found


def test_what_operators_ask_for_is_decided_by_workers_and_outlives_them(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    kafka = Kafka(kafka_cluster, topic_prefix)
    policy = tmp_path / "shop.yaml"
    policy.write_text("name: shop\nsettings:\n  mode: enforce\n")
    with traffic(kafka), Worker(kafka.config, kafka.topics, tmp_path, name="first") as first:
        until(lambda: "service:web" in decisions(kafka), what="a decision")
        told = kafka.run(
            "override", "set", "web", "open", "--for", "10m", "--by", "kim", "--reason", "a test"
        )
        assert told.status == 0, told.err
        assert "confirmed by service:web" in told.out
        said = decisions(kafka)["service:web"]
        assert said.override is not None
        assert (said.level, said.mode, said.override.by) == ("open", "enforce", "kim")
        assert said.actions.admit_ratio == 0.0
        assert decisions(kafka)["service:cart"].override is None
        assert kafka.run("policy", "push", str(policy), "--reason", "x").status == 0
        until(
            lambda: decisions(kafka)["service:web"].policy.startswith("shop@"),
            what="the policy in a decision",
        )
        first.kill()
        with Worker(kafka.config, kafka.topics, tmp_path, name="second") as second:
            second.wait_for("control records in force were sent")
            told = kafka.run("override", "clear", "web", "--reason", "over")
            assert told.status == 0, told.err
            assert "confirmed by service:web" in told.out
            said = decisions(kafka)["service:web"]
            assert (said.override, said.level) == (None, "closed")
            assert said.policy.startswith("shop@")


def test_an_override_ends_by_itself_and_its_worker_says_so(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    kafka = Kafka(kafka_cluster, topic_prefix)
    with traffic(kafka), Worker(kafka.config, kafka.topics, tmp_path):
        until(lambda: "service:web" in decisions(kafka), what="a decision")
        began_s = time.monotonic()
        told = kafka.run("override", "set", "web", "open", "--for", "8s", "--reason", "a test")
        assert told.status == 0, told.err
        until(lambda: decisions(kafka)["service:web"].override is None, within_s=30, what="its end")
        assert time.monotonic() - began_s > 7.0


@pytest.mark.parametrize("is_there", [True, False])
def test_without_records_or_without_a_control_topic_workers_run_on_the_policy_they_were_started_with(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path, is_there: bool
) -> None:
    kafka = Kafka(kafka_cluster, topic_prefix, leave_out=() if is_there else ("control",))
    with traffic(kafka), Worker(kafka.config, kafka.topics, tmp_path) as worker:
        until(lambda: "service:web" in decisions(kafka), what="a decision")
        assert decisions(kafka)["service:web"].policy.startswith("default@")
        assert ("tidegate.control is missing" in worker.log) is not is_there
        assert worker.stop() == 0


def test_a_bad_policy_changes_nothing_in_a_running_worker_and_a_late_one_counts_as_late(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    """Late: it was pushed while no worker ran, so every partition gets it after its boundary."""
    from tests.control.asked import bad_push, push
    from tests.control.sequencing import ask_all

    kafka = Kafka(kafka_cluster, topic_prefix)
    ask_all(kafka.config, kafka.topics, push("good"))
    time.sleep(3)  # its boundary passes: lead and more
    with traffic(kafka), Worker(kafka.config, kafka.topics, tmp_path) as worker:
        until(
            lambda: (
                "service:web" in decisions(kafka)
                and decisions(kafka)["service:web"].policy.startswith("good@")
            ),
            what="the policy",
        )
        assert "late=True" in worker.log
        ask_all(kafka.config, kafka.topics, bad_push())
        worker.wait_for("a control record was refused; what was in force stays")
        time.sleep(3)  # a boundary that it would have had passes
        assert "settings.mood" in worker.log
        assert decisions(kafka)["service:web"].policy.startswith("good@")
        assert worker.stop() == 0
