"""MetricsIngest against a real broker: points come to their service's partition, whatever is killed, and what
evaluate then remembers is what was sent."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from structlog.testing import capture_logs

from tests.host_metrics.making import Odd, point, request
from tests.host_metrics.running import child, running
from tests.kafka import KafkaCluster
from tests.streams.live import log_of, make_topics, until
from tidegate.rules.host_metrics import HostMetrics
from tidegate.schemas.partials import RECORD_BYTES_MAX, decode_partials
from tidegate.schemas.partitioner import partition_of
from tidegate.schemas.points import Metric, MetricPoint
from tidegate.schemas.topics import Topics
from tidegate.streams import metrics_ingest
from tidegate.streams.commit_note import CommitNote
from tidegate.streams.logs import get_logger
from tidegate.streams.metrics import WorkerMetrics
from tidegate.streams.metrics_ingest import pack_points

PARTITIONS = 3
SERVICES = ("web", "cart", "payments", "ads", "search")


@pytest.fixture
def topics(kafka_cluster: KafkaCluster, topic_prefix: str) -> Topics:
    topics = Topics(prefix=topic_prefix)
    make_topics(kafka_cluster.client_config(), topics, partials=PARTITIONS)
    return topics


class Sender:
    """Produces points of a few services, now, and remembers them."""

    def __init__(self, config: Mapping[str, str], topics: Topics) -> None:
        self._producer = Producer({**config, "acks": "all", "log_level": 0})
        self._topic = topics.otlp_metrics
        self._random = random.Random(1)
        self.sent: list[MetricPoint] = []

    def send(self, records: int) -> None:
        for _ in range(records):
            service = self._random.choice(SERVICES)
            time_ms = int(time.time() * 1000) + len(self.sent)
            value = self._random.randrange(9_000)
            self.raw(request([Odd(value=value, time_ms=time_ms)], service=service))
            self.sent.append(point(Metric.GOROUTINES, time_ms / 1000, value, service=service))

    def raw(self, value: Any, **more: Any) -> None:
        data = value if isinstance(value, bytes) else value.SerializeToString()
        self._producer.produce(self._topic, data, **more)
        assert self._producer.flush(20) == 0


def points_in(config: Mapping[str, str], topics: Topics) -> dict[int, list[MetricPoint]]:
    """By partition, in the log's order; copies stay."""
    out: dict[int, list[MetricPoint]] = defaultdict(list)
    for record in log_of(config, topics.partials):
        assert record.value is not None
        assert len(record.value) < RECORD_BYTES_MAX
        read, blocks = decode_partials(record.value)
        assert read.partitions_count == PARTITIONS
        assert (read.sources, read.watermarks, read.listed, len(blocks.key)) == ([], [], [], 0)
        assert {partition_of(p.service, PARTITIONS) for p in read.points} == {record.partition}
        out[record.partition] += read.points
    return out


def state_of(points: Iterable[MetricPoint]) -> Any:
    """What evaluate remembers of them."""
    metrics = HostMetrics()
    metrics.offer(points, offset=0)
    metrics.merge(int(time.time() + 60) * 2)
    return metrics.state(), metrics.readings


def come(config: Mapping[str, str], topics: Topics, count: int) -> None:
    until(
        lambda: sum(map(len, points_in(config, topics).values())) >= count,
        what=f"{count} points in partials",
        every_s=0.5,
    )


def expected(sent: Iterable[MetricPoint]) -> dict[int, Any]:
    by_partition: dict[int, list[MetricPoint]] = defaultdict(list)
    for one in sent:
        by_partition[partition_of(one.service, PARTITIONS)].append(one)
    return {partition: state_of(points) for partition, points in by_partition.items()}


def found(config: Mapping[str, str], topics: Topics) -> dict[int, Any]:
    return {p: state_of(points) for p, points in points_in(config, topics).items()}


def committed(config: Mapping[str, str], topics: Topics) -> int:
    consumer = Consumer({**config, "group.id": topics.metrics_group})
    [place] = consumer.committed([TopicPartition(topics.otlp_metrics, 0)], timeout=20)
    consumer.close()
    return place.offset


def sample(metrics: WorkerMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"tidegate_{name}_total", labels) or 0.0


def test_points_come_once_to_their_services_partition_and_old_ones_not_at_all(
    kafka_cluster: KafkaCluster, topics: Topics
) -> None:
    config = kafka_cluster.client_config()
    sender = Sender(config, topics)
    sender.send(20)
    old_ms = int((time.time() - 3_700) * 1000)
    sender.raw(request([Odd(time_ms=old_ms), Odd(kind="histogram"), Odd("other")]))
    with running(config, topics) as metrics:
        come(config, topics, 20)
        sender.send(30)
        come(config, topics, 50)
        until(lambda: sample(metrics, "metric_records") == 51)
    everything = [one for points in points_in(config, topics).values() for one in points]
    assert Counter(everything) == Counter(sender.sent)
    assert committed(config, topics) == 51
    assert sample(metrics, "metric_points") == 50
    assert sample(metrics, "metric_oddities", kind="old_points") == 1
    assert sample(metrics, "metric_oddities", kind="wrong_type") == 1
    assert sample(metrics, "metric_restarts") == 0


def test_what_was_read_twice_is_remembered_once(
    kafka_cluster: KafkaCluster, topics: Topics
) -> None:
    """As after a worker that was killed between the delivery and the commit."""
    config = kafka_cluster.client_config()
    sender = Sender(config, topics)
    sender.send(40)
    with running(config, topics):
        come(config, topics, 40)
        until(lambda: committed(config, topics) == 40)
    consumer = Consumer({**config, "group.id": topics.metrics_group})
    consumer.commit(offsets=[TopicPartition(topics.otlp_metrics, 0, 7)], asynchronous=False)
    consumer.close()
    sender.send(10)
    with running(config, topics):
        come(config, topics, 40 + 33 + 10)
    assert found(config, topics) == expected(sender.sent)


@pytest.mark.timeout(150)
def test_a_process_that_is_killed_loses_nothing(
    kafka_cluster: KafkaCluster, topics: Topics
) -> None:
    config = kafka_cluster.client_config()
    sender = Sender(config, topics)
    for wait_s in (1.0, 0.3):
        with child(config, topics):
            sender.send(20)
            come(config, topics, len(sender.sent))
            sender.send(30)
            time.sleep(wait_s)  # somewhere between reading and committing
    with running(config, topics):
        sender.send(5)
        until(lambda: found(config, topics) == expected(sender.sent), every_s=0.5)


def test_what_is_no_metrics_is_dead_lettered_unchanged_and_the_rest_goes_on(
    kafka_cluster: KafkaCluster, topics: Topics
) -> None:
    config = kafka_cluster.client_config()
    sender = Sender(config, topics)
    bad = {b"\xff\xfe garbage": b"k1", b"{ no json": None, b"\x0a\xff": b""}
    sender.send(3)
    for value, key in bad.items():
        sender.raw(value, key=key, headers=[("tenant", b"7")], timestamp=1234567)
    sender.raw(b"")
    sender.send(3)
    with running(config, topics) as metrics:
        come(config, topics, 6)
        until(lambda: len(log_of(config, topics.dlq)) == 3)
        until(lambda: sample(metrics, "dead_lettered_records") == 3)
    assert sample(metrics, "undecodable_records") == 3
    for number, message in enumerate(read(config, topics.dlq, 3), 3):
        headers = dict(message.headers() or [])
        assert headers["tenant"] == b"7"
        assert headers["tidegate.source.topic"] == topics.otlp_metrics.encode()
        assert headers["tidegate.source.partition"] == b"0"
        assert headers["tidegate.source.offset"] == str(number).encode()
        assert headers["tidegate.reason"]
        assert message.timestamp()[1] == 1234567
        assert bad.pop(message.value() or b"") == message.key()
    assert bad == {}
    assert found(config, topics) == expected(sender.sent)


def read(config: Mapping[str, str], topic: str, count: int) -> list[Message]:
    consumer = Consumer({**config, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = [consumer.poll(10) for _ in range(count)]
    consumer.close()
    return [message for message in messages if message is not None]


@pytest.fixture(autouse=True)
def _fresh_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that other tests have not bound to their own settings already: lines are looked at here."""
    monkeypatch.setattr(metrics_ingest, "log", get_logger("metrics"))


@pytest.mark.timeout(150)
def test_a_topic_that_is_missing_or_goes_away_is_said_once_and_waited_for(
    kafka_cluster: KafkaCluster, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_ingest, "MISSING_S", 0.5)
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, partials=PARTITIONS, leave_out=(topics.otlp_metrics,))
    with capture_logs() as logs, running(config, topics):
        until(lambda: logs)
        time.sleep(2)
        [entry] = logs
        assert entry["event"].startswith(f"missing topics: {topics.otlp_metrics}; no metrics")
        kafka_cluster.create_topic(topics.otlp_metrics, 2)
        sender = Sender(config, topics)
        sender.send(10)
        come(config, topics, 10)
        kafka_cluster.delete_topic(topics.otlp_metrics)
        until(lambda: sum("missing topics" in entry["event"] for entry in logs) == 2)
        kafka_cluster.create_topic(topics.otlp_metrics, 1)
        again = Sender(config, topics)
        again.send(10)
        come(config, topics, 20)
    assert found(config, topics) == expected([*sender.sent, *again.sent])


def test_a_topic_made_anew_is_read_from_its_beginning(
    kafka_cluster: KafkaCluster, topics: Topics
) -> None:
    """With more records than had been committed, so that no offset tells."""
    config = kafka_cluster.client_config()
    sender = Sender(config, topics)
    sender.send(5)
    with running(config, topics):
        until(lambda: committed(config, topics) == 5)
    old = CommitNote(epoch=0, topic_id="AnotherTopicsId1234567").text()
    consumer = Consumer({**config, "group.id": topics.metrics_group})
    place = TopicPartition(topics.otlp_metrics, 0, 4, metadata=old)
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()
    with running(config, topics):
        come(config, topics, 10)
        until(lambda: committed(config, topics) == 5)
    assert found(config, topics) == expected(sender.sent)


@pytest.mark.timeout(150)
def test_what_could_not_be_delivered_is_read_again(
    kafka_cluster: KafkaCluster, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead-letter topic goes away and comes back."""
    monkeypatch.setattr(metrics_ingest, "MISSING_S", 0.5)
    config = kafka_cluster.client_config()
    sender = Sender(config, topics)
    with running(config, topics, delivery_timeout_ms=3_000) as metrics:
        sender.send(5)
        come(config, topics, 5)
        kafka_cluster.delete_topic(topics.dlq)
        sender.raw(b"\xff\xff")
        sender.send(5)
        until(lambda: sample(metrics, "metric_restarts") >= 1)
        assert committed(config, topics) <= 5
        kafka_cluster.create_topic(topics.dlq, 1)
        until(lambda: committed(config, topics) == 11)
    assert [record.value for record in log_of(config, topics.dlq)] == [b"\xff\xff"]
    assert found(config, topics) == expected(sender.sent)


def test_without_a_broker_it_waits_says_so_once_and_stops_when_told() -> None:
    with capture_logs() as logs:
        with running({"bootstrap.servers": "127.0.0.1:1"}, Topics()) as metrics:
            until(lambda: logs)
        assert ["the broker does not answer; waiting for it" in e["event"] for e in logs] == [True]
    assert sample(metrics, "metric_restarts") == 0


def test_settings_that_kafka_refuses_end_nothing_here() -> None:
    with capture_logs() as logs:
        with running({"bootstrap.servers": "127.0.0.1:1", "no.such.setting": "1"}, Topics()):
            until(lambda: logs)
        assert [entry["event"] for entry in logs] == ["metrics can't be read; trying again"]


@pytest.mark.parametrize("length", [1, 200])
def test_records_stay_below_their_limit_whatever_names_are_long(length: int) -> None:
    points = [
        MetricPoint("ä" * (length - 1) + chr(97 + i % 26), "ö" * length, 5, 2, 1 << 43, i, 1 << 53)
        for i in range(30_000)
    ]
    records = pack_points(points, PARTITIONS)
    assert len(records) > PARTITIONS
    assert max(len(record.value) for record in records) < RECORD_BYTES_MAX
    back: list[MetricPoint] = []
    for record in records:
        read_back, _ = decode_partials(record.value)
        assert {partition_of(p.service, PARTITIONS) for p in read_back.points} == {record.partition}
        back += read_back.points
    assert Counter(back) == Counter(points)
    assert pack_points([], PARTITIONS) == []
