"""`tidegate run` as its user meets it: refusals, waiting, metrics, health, exit statuses, logs."""

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.kafka import KafkaCluster
from tests.streams.live import Traffic, Worker, log_of, make_topics, until
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.topics import Topics
from tidegate.streams.cli import main
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.logs import configure_logs, get_logger
from tidegate.streams.metrics import MetricsServer, WorkerMetrics
from tidegate.streams.worker_settings import WorkerSettings, check_timing

REFUSALS = {
    "--role grap": "'ingest', 'evaluate', 'graph'",
    "--session-timeout-s 0": "--session-timeout-s 0: give at least 1",
    "--session-timeout-s nan": "--session-timeout-s nan: give at least 1",
    "--session-timeout-s 16": "give at most 15",
    "--session-timeout-s 20": "give at most 17.5",
    "--metrics-port 70000": "is no port",
    "--data-dir /no/such/folder": "--data-dir /no/such/folder: is no folder",
    "--rolle ingest": "did you mean --role?",
    "--policy nowhere.yaml": "nowhere.yaml",
}


@pytest.mark.parametrize(("options", "text"), REFUSALS.items())
def test_wrong_use_is_refused_with_one_line_that_says_what_to_do(
    options: str, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--brokers", "localhost:1", *options.split()]) == 2
    out = capfd.readouterr()
    assert out.out == ""
    assert len(out.err.splitlines()) == 1
    assert text in out.err


def test_a_session_timeout_must_fit_the_lease_and_the_wait_for_sources() -> None:
    policy = builtin_policy("default")
    settings = WorkerSettings(kafka={"bootstrap.servers": "x"}, session_timeout_ms=15_000)
    check_timing(settings, policy)
    for bad in (15_001, 5_000):
        with pytest.raises(UsageError):
            check_timing(
                WorkerSettings(kafka=settings.kafka, session_timeout_ms=bad, heartbeat_ms=3_000),
                policy,
            )


def test_a_worker_waits_for_its_broker_and_topics_and_ends_in_order(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    port = free_port()
    options = ("--metrics-port", str(port), "--metrics-host", "127.0.0.1", "--log-format", "json")
    with Worker(config, topics, tmp_path, *options, name="a") as worker:
        worker.wait_for("tidegate topics create")
        assert ask(port, "/healthz") == (200, "ok\n")
        assert ask(port, "/readyz") == (503, "topics: not ready\n")
        make_topics(config, topics)
        traffic = Traffic(config, topics.otlp_spans)
        traffic.run(1)
        until(lambda: ask(port, "/readyz")[0] == 200, what="/readyz")
        # A second worker on the same machine.
        with Worker(config, topics, tmp_path, name="b") as other:
            other.wait_for("partitions rebuilt")
            traffic.run(2)
            assert other.stop() == 0
        until(lambda: ask(port, "/readyz")[0] == 200, what="/readyz")
        traffic.run(2)
        published = 'tidegate_decisions_total{stage="evaluate"}'
        until(lambda: value_of(port, published) > 0, what="decisions")
        assert value_of(port, "tidegate_ingest_records_total") > 0
        delay = 'tidegate_watermark_delay_seconds{partition="0",stage="evaluate"}'
        until(lambda: 0 < value_of(port, delay) < 5, what="a small delay")
        assert value_of(port, 'tidegate_boundary_step_seconds_count{stage="evaluate"}') > 0
        assert ask(port, "/other")[0] == 404
        began_s = time.monotonic()
        worker.process.send_signal(signal.SIGINT)
        assert worker.process.wait(20) == 0
        assert time.monotonic() - began_s < 10
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert sum("missing topics" in line["event"] for line in lines) == 1
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    health = log_of(config, topics.health)
    assert {record.key for record in health} == {b"0", b"1", b"2"}


def test_topics_that_do_not_fit_end_the_worker_with_a_failure(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, leave_out=(topics.snapshots_changelog,))
    kafka_cluster.create_topic(topics.snapshots_changelog, 2)
    with Worker(config, topics, tmp_path) as worker:
        assert worker.process.wait(30) == 1
        assert "has 2 partitions and" in worker.log
        assert "`tidegate topics check`" in worker.log


def test_a_taken_port_is_a_failure_that_names_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = MetricsServer(WorkerMetrics(), host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(Failure, match="--metrics-port"):
            server.start()


def test_counters_of_evaluate_have_metrics_of_their_own() -> None:
    metrics = WorkerMetrics()
    metrics.count({"late": 2, "skewed": 3, "overflow_edges": 5, "duplicate_blocks": 1, "shed": 0})
    read = metrics.registry.get_sample_value
    assert read("tidegate_late_spans_total") == 2
    assert read("tidegate_skewed_spans_total") == 3
    assert read("tidegate_overflow_spans_total", {"limit": "edges"}) == 5
    assert read("tidegate_duplicate_blocks_total") == 1
    assert read("tidegate_evaluate_total", {"kind": "late"}) == 2


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_never_reach_a_log(log_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(log_format)
    log = get_logger("test")
    log.warning(
        "connecting with sasl.password=hunter2, and ssl.key.password: 'hunter2'",
        config={"sasl.username": "bob", "sasl.password": "hunter2", "ssl.key.pem": "hunter2"},
        password="hunter2",
        sasl_jaas="hunter2",
    )
    log.info("and {'sasl.password': 'hunter2'}")
    err = capfd.readouterr().err
    assert "bob" in err
    assert "hunter2" not in err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as problem:
        return problem.code, problem.read().decode()


def value_of(port: int, name: str) -> float:
    for line in ask(port, "/metrics")[1].splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0
