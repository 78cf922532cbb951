"""The graph stage beside everything else: what operators ask of it, and installations that have no topics for it."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.control.commands import run
from tests.graph_stage.shop import Shop
from tests.kafka import KafkaCluster
from tests.streams.live import Traffic, Worker, log_of, make_topics, until
from tests.streams.test_worker import free_port
from tidegate.schemas.decision import Decision, decode_decision
from tidegate.schemas.graph import decode_view
from tidegate.schemas.topics import Topics

PARTITIONS = 2


@contextmanager
def load(config: Mapping[str, str], topics: Topics) -> Iterator[None]:
    """Healthy requests and calls, until the end."""
    ended = threading.Event()
    traffic = Traffic(config, topics.otlp_spans, partitions=1)

    def serve() -> None:
        while not ended.is_set():
            traffic.run(0.5, per_s=20, error_ratio=0.0)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


def decisions(config: Mapping[str, str], topics: Topics) -> dict[str, Decision]:
    """The newest of each scope."""
    return {
        key: decode_decision(record.value)
        for record in log_of(config, topics.decisions)
        if record.value is not None
        for key in [(record.key or b"").decode()]
        if not key.startswith("lease:")
    }


def ask(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as problem:
        return problem.code, problem.read()


@contextmanager
def shop_of_today(config: Mapping[str, str], topics: Topics) -> Iterator[None]:
    """Four minutes at once, then as time goes on: what operators ask for counts from now."""
    ended = threading.Event()
    shop = Shop(config, topics, partitions=PARTITIONS)

    def serve() -> None:
        while not ended.wait(0.1):
            shop.write((time.time() * 1000 - shop.now_ms) / 1000)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


def test_an_override_of_a_callee_or_a_graph_reaches_its_decision(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=1, partials=PARTITIONS)
    brokers = ("--brokers", kafka_cluster.bootstrap, "--topic-prefix", topics.prefix)
    port = free_port()
    options = ("--metrics-port", str(port), "--metrics-host", "127.0.0.1")
    with (
        shop_of_today(config, topics),
        Worker(config, topics, tmp_path, "--role", "evaluate", name="evaluate") as evaluate,
        Worker(config, topics, tmp_path, "--role", "graph", *options, name="graph") as graph,
    ):
        until(lambda: {"inbound:db", "graph:web"} <= decisions(config, topics).keys(), every_s=0.5)
        for scope in ("inbound:db", "graph:web"):
            told = run(
                *("override", "set", scope, "open", "--for", "10m", "--by", "kim"),
                *("--reason", "a test", *brokers),
            )
            assert told.status == 0, told.err
            assert f"confirmed by {scope}" in told.out
            shown = decisions(config, topics)[scope]
            assert (shown.level, shown.partition) == ("open", PARTITIONS)
            assert shown.override is not None
            assert shown.override.by == "kim"
        assert decisions(config, topics)["service:web"].override is None
        status, body = ask(port, "/graph")
        assert status == 200
        assert [entry.entry for entry in decode_view(body).entries] == ["web"]
        assert "policy of the graph: default@" in ask(port, "/healthz")[1].decode()
        metrics = ask(port, "/metrics")[1].decode()
        assert 'tidegate_decisions_total{stage="graph"}' in metrics
        assert 'tidegate_graph_total{kind="boundaries"}' in metrics
        assert graph.stop() == 0
        assert evaluate.stop() == 0
    out = tmp_path / "differences"
    told = run("replay", "--internal", "--compare", "--out", str(out), *brokers)
    assert told.status == 0, told.err + out.read_text()[:3_000]
    dump = tmp_path / "log.dump"
    assert run("dump", "--out", str(dump), *brokers).status == 0
    assert run("replay", "--internal", "--compare", str(dump), "--out", str(out)).status == 0
    assert run("dump", "--json", str(dump), "--out", str(out)).status == 0
    lines = [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]
    by_topic = {
        name: [n for n in lines if n["topic"] == name] for name in {n["topic"] for n in lines}
    }
    assert all("problem" not in line for line in lines)
    health = [line["value"] for line in by_topic[topics.health]]
    # The sequencer says them again after a rebalance.
    asked = {(e["seq"], e["record"]["scope"]) for v in health for e in v.get("control", [])}
    assert asked == {(0, "inbound:db"), (1, "graph:web")}
    assert any(key["requests"] for v in health for key in v.get("keys", []))
    assert by_topic[topics.graph][-1]["value"]["schema"] == 1


def test_an_installation_of_an_older_version_goes_on_without_the_stage(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    newer = (topics.pairs, topics.graph, topics.graph_snapshots_changelog)
    make_topics(config, topics, spans=1, partials=PARTITIONS, leave_out=newer)
    port = free_port()
    options = ("--metrics-port", str(port), "--metrics-host", "127.0.0.1")
    with load(config, topics), Worker(config, topics, tmp_path, *options) as worker:
        until(lambda: "service:web" in decisions(config, topics), within_s=90)
        until(lambda: ask(port, "/readyz")[0] == 200, what="/readyz")
        for topic in newer:
            assert f"topic {topic} is missing" in worker.log
        assert (
            "goes on without the graph stage; make it with `tidegate topics create`" in worker.log
        )
        assert ask(port, "/graph")[0] == 404
        # One that has nothing else to do waits for them.
        with Worker(config, topics, tmp_path, "--role", "graph", name="graph") as alone:
            alone.wait_for("missing topics")
            make = ("topics", "create", "--brokers", kafka_cluster.bootstrap)
            run(*make, "--topic-prefix", topics.prefix, "--partitions", str(PARTITIONS))
            alone.wait_for("graph stage rebuilt")
            until(lambda: "inbound:db" in decisions(config, topics), every_s=0.5)
            assert alone.stop() == 0
        assert worker.stop() == 0
    told = run(
        *("replay", "--internal", "--compare", "--out", str(tmp_path / "differences")),
        *("--brokers", kafka_cluster.bootstrap, "--topic-prefix", topics.prefix),
    )
    assert told.status == 0, told.err


def test_snapshots_with_another_number_of_partitions_than_health_end_the_worker(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, leave_out=(topics.graph_snapshots_changelog,))
    kafka_cluster.create_topic(topics.graph_snapshots_changelog, 2)
    with Worker(config, topics, tmp_path, "--role", "graph") as worker:
        assert worker.process.wait(30) == 1
        assert f"{topics.health} has 1" in worker.log
        assert "`tidegate topics check`" in worker.log
