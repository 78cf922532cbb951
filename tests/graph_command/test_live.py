"""`tidegate graph` and `tidegate findings` on Kafka: a real one, and the broker inside the test."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Queue

import pytest
from confluent_kafka import Producer

from tests.graph_command import views
from tests.graph_command.command import COMMAND, environment, tidegate
from tests.kafka import KafkaCluster
from tidegate.schemas.graph import GraphView, decode_view, parts_of
from tidegate.schemas.topics import Topics
from tidegate.streams.embedded import EmbeddedBroker
from tidegate.streams.graph_reading import Assembly
from tidegate.streams.kafka_log import LogRecord
from tidegate.streams.topics_admin import create_topics

LINE_S = 30.0
B = views.T_MS // 500


def publish(brokers: str, topic: str, view: GraphView, *, parts: Sequence[int] = ()) -> None:
    """All parts, or those named."""
    producer = Producer({"bootstrap.servers": brokers, "log_level": 2})
    for number, part in enumerate(parts_of(view)):
        if not parts or number in parts:
            producer.produce(topic, part, key=f"part:{number}")
    assert producer.flush(10) == 0


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.schemas.graph.PART_BYTES_MAX", 1_000)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({Topics().graph: 1}) as running:
        yield running


class Following:
    """The running command and its lines."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self) -> str:
        return self._lines.get(timeout=LINE_S)

    def end(self) -> tuple[int, list[str]]:
        """Exit status and what was left of stdout."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(LINE_S)
        left = []
        while not self._lines.empty():
            left.append(self._lines.get())
        return status, left


def test_on_a_real_kafka_the_newest_graph_is_put_together_from_its_parts(
    kafka_cluster: KafkaCluster, topic_prefix: str, small_parts: None
) -> None:
    topics = Topics(prefix=topic_prefix)
    create_topics(kafka_cluster.client_config(), topics)
    options = ("--brokers", kafka_cluster.bootstrap, "--topic-prefix", topic_prefix)
    status, out, error = tidegate("graph", *options, "--wait", "1s")
    assert (status, out) == (1, "")
    assert f"topic {topics.graph}: holds no graph yet (waited 1s); check that a worker" in error
    assert error.count("\n") == 1

    publish(kafka_cluster.bootstrap, topics.graph, views.wide(40, boundary=B))
    publish(kafka_cluster.bootstrap, topics.graph, views.shop(boundary=B + 60))
    status, out, error = tidegate("graph", *options, "--format", "json")
    assert status == 0
    shop = views.shop(boundary=B + 60)
    assert sorted(decode_view(out.encode()).nodes, key=str) == sorted(shop.nodes, key=str)
    assert "this graph is" in error
    assert "old: no worker with the role graph seems to run" in error

    status, out, _ = tidegate("findings", *options, "--json")
    assert status == 0
    assert [json.loads(line)["name"] for line in out.splitlines()] == [
        "gives_up_early",
        "outlives",
        "cycle",
    ]


def test_followed_it_is_printed_anew_only_when_something_else_than_the_time_changes(
    broker: EmbeddedBroker,
) -> None:
    topic = Topics().graph
    publish(broker.bootstrap, topic, views.shop())
    follow = Following("graph", "--brokers", broker.bootstrap, "--follow", "--format", "json")
    assert decode_view(follow.line().encode()).boundary == B
    publish(broker.bootstrap, topic, views.shop(boundary=B + 2))
    publish(broker.bootstrap, topic, views.wide(3, boundary=B + 4))
    assert decode_view(follow.line().encode()).boundary == B + 4
    publish(broker.bootstrap, topic, views.shop(boundary=B + 1))  # a frozen worker wakes
    publish(broker.bootstrap, topic, views.wide(2, boundary=B + 6))
    assert decode_view(follow.line().encode()).boundary == B + 6
    assert follow.end() == (130, [])


def test_followed_text_goes_on_when_an_entry_goes_away(broker: EmbeddedBroker) -> None:
    topic = Topics().graph
    publish(broker.bootstrap, topic, views.shop())
    follow = Following("graph", "admin", "--brokers", broker.bootstrap, "--follow")
    while not follow.line().endswith("says more\n"):
        pass
    publish(broker.bootstrap, topic, views.wide(3, boundary=B + 4))
    assert follow.process.stderr is not None
    problems = iter(follow.process.stderr.readline, "")
    assert any("admin: this graph has no such node" in problem for problem in problems)
    publish(broker.bootstrap, topic, views.shop(boundary=B + 6))
    assert follow.line() == "\n"
    assert follow.line().startswith("graph of ")
    assert follow.end()[0] == 130


def test_a_followed_picture_is_a_file_that_is_written_anew(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    topic, target = Topics().graph, tmp_path / "graph.svg"
    publish(broker.bootstrap, topic, views.shop())
    follow = Following(
        "graph", "--brokers", broker.bootstrap, "--follow", "--format", "svg", "--out", str(target)
    )
    for view, name in ((None, "inventory-db"), (views.wide(2, boundary=B + 4), "db-s0001")):
        if view is not None:
            publish(broker.bootstrap, topic, view)
        waited = threading.Event()
        for _ in range(int(LINE_S / 0.1)):
            if target.exists() and name in target.read_text():
                break
            waited.wait(0.1)
        else:
            pytest.fail(f"no {name} in {target}")
    assert follow.end() == (130, [])


def test_followed_findings_come_as_lines_when_they_are_new_or_change(
    broker: EmbeddedBroker,
) -> None:
    topic, path = Topics().graph, ["web", "checkout"]
    nodes = [views.node("web"), views.node("checkout")]

    def found(boundary: int, waste: float) -> GraphView:
        findings = [views.finding("cycle", ["a", "b", "a"])]
        findings.append(views.finding("outlives", path, waste=waste))
        return views.view(nodes, [views.edge(*path)], [], findings, boundary=boundary)

    publish(broker.bootstrap, topic, found(B, 3.0))
    follow = Following("findings", "--brokers", broker.bootstrap, "--follow", "--json")
    assert [json.loads(follow.line())["name"] for _ in range(2)] == ["outlives", "cycle"]
    publish(broker.bootstrap, topic, found(B + 2, 4.0))
    assert json.loads(follow.line())["waste_s_per_min"] == 4.0
    assert follow.end() == (130, [])


def test_a_missing_topic_is_a_failure_that_names_it(broker: EmbeddedBroker) -> None:
    status, out, error = tidegate(
        "graph", "--brokers", broker.bootstrap, "--topic-prefix", "other."
    )
    assert (status, out) == (1, "")
    assert "topic other.tidegate.graph: " in error
    assert "`tidegate topics check` tells more" in error


def record(value: bytes | None, *, offset: int = 0) -> LogRecord:
    return LogRecord("tidegate.graph", 0, offset, views.T_MS, b"part:0", value)


def test_a_graph_of_which_a_part_is_missing_is_not_shown(small_parts: None) -> None:
    old, new = (parts_of(views.shop(boundary=boundary)) for boundary in (B, B + 2))
    assert len(old) > 2
    assembly = Assembly()
    for part in old[:-1]:
        assembly.apply(record(part))
        assert assembly.view is None
    assembly.apply(record(old[-1]))
    assert assembly.view is not None
    assert assembly.view.boundary == B
    for part in new[:-1]:
        assembly.apply(record(part))
        assert assembly.view.boundary == B, "what is whole stays until the next is"
    assembly.apply(record(new[-1]))
    assert assembly.view.boundary == B + 2
    for part in old:
        assembly.apply(record(part))
    assert assembly.view.boundary == B + 2
    assert assembly.view.nodes == views.shop().nodes


def test_records_that_are_no_graph_are_named_and_skipped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assembly = Assembly()
    assembly.apply(record(b"garbage", offset=7))
    assembly.apply(record(None))
    assert "tidegate.graph[0] offset 7: " in capsys.readouterr().err
    assembly.apply(record(parts_of(views.shop())[0]))
    assert assembly.view == views.shop()
