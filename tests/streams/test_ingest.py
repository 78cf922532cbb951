"""ingest against a real broker: what lies in partials, once each block is counted once, is what was sent."""

import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.kafka import KafkaCluster
from tests.streams.live import Traffic, Worker, log_of, make_topics, merged, until, watermarks
from tidegate.schemas.topics import Topics


@pytest.fixture
def topics(kafka_cluster: KafkaCluster, topic_prefix: str) -> Topics:
    topics = Topics(prefix=topic_prefix)
    make_topics(kafka_cluster.client_config(), topics)
    return topics


def blocks_come_to(config: dict[str, str], topics: Topics, spans: int) -> None:
    """Waits until so many spans have been packed."""
    until(
        lambda: merged(log_of(config, topics.partials)).spans.total() >= spans,
        what=f"{spans} spans in partials",
        every_s=0.5,
    )


@pytest.mark.timeout(150)
def test_killed_moved_and_restarted_workers_lose_and_add_no_span(
    kafka_cluster: KafkaCluster, topics: Topics, tmp_path: Path
) -> None:
    config = kafka_cluster.client_config()
    traffic = Traffic(config, topics.otlp_spans)
    ingest = ("--role", "ingest")
    with Worker(config, topics, tmp_path, *ingest, name="a") as a:
        a.wait_for("partitions assigned")
        traffic.run(4)
        with Worker(config, topics, tmp_path, *ingest, name="b") as b:
            b.wait_for("partitions assigned")
            traffic.run(2)
            a.kill()  # in the middle of things; its partitions move after the session
            traffic.run(9)
            b.kill()
            traffic.run(1)
    with (
        Worker(config, topics, tmp_path, *ingest, name="c") as c,
        Worker(config, topics, tmp_path, *ingest, name="d") as d,
    ):
        c.wait_for("partitions assigned")
        d.wait_for("partitions assigned")
        traffic.run(2)
        assert c.stop() == 0
        traffic.run(3)
        blocks_come_to(config, topics, traffic.produced.total())
        assert d.stop() == 0
    found = merged(log_of(config, topics.partials))
    assert found.spans == traffic.produced
    assert sum(map(len, found.offsets.values())) == traffic.records
    # Each assignment has a larger epoch than all before it.
    assert all(epochs == sorted(epochs) for epochs in found.epochs.values())
    assert all(len(epochs) >= 3 for epochs in found.epochs.values())


def test_watermarks_follow_the_clock_without_any_span_and_reach_every_partition(
    kafka_cluster: KafkaCluster, topics: Topics, tmp_path: Path
) -> None:
    config = kafka_cluster.client_config()
    with Worker(config, topics, tmp_path, "--role", "ingest") as worker:
        worker.wait_for("partitions assigned")
        time.sleep(4)
        assert worker.stop() == 0
    log = log_of(config, topics.partials)
    for partition in range(3):
        marks = list(watermarks(log, partition))
        assert {source for _, _, source, _, _ in marks} == {0, 1, 2, 3}
        flushes = {record.offset for record, *_ in marks}
        assert 6 <= len(flushes) <= 10
        for record, _, _, _, watermark_ms in marks[8:]:
            # Half a second of grace, sent at the half second.
            assert 500 <= record.append_ms - watermark_ms < 800
            assert watermark_ms % 500 < 300


def test_what_cannot_be_decoded_is_dead_lettered_unchanged(
    kafka_cluster: KafkaCluster, topics: Topics, tmp_path: Path
) -> None:
    config = kafka_cluster.client_config()
    producer = Producer({**config, "message.max.bytes": 2_000_000})
    bad = {b"\xff\xfe garbage": b"k1", b"{ no json": None, b"\x0a\xff": b""}
    for value, key in bad.items():
        producer.produce(
            topics.otlp_spans,
            value,
            key,
            partition=2,
            headers=[("tenant", b"7")],
            timestamp=1234567,
        )
    assert producer.flush(20) == 0
    traffic = Traffic(config, topics.otlp_spans)
    with Worker(config, topics, tmp_path, "--role", "ingest") as worker:
        traffic.run(2)
        blocks_come_to(config, topics, traffic.produced.total())
        assert worker.stop() == 0
    consumer = Consumer({**config, "group.id": "reader", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topics.dlq, 0, 0)])
    found = {}
    for number in range(len(bad)):
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        pairs = message.headers()
        assert isinstance(pairs, list)
        headers = dict(pairs)
        assert headers["tenant"] == b"7"
        assert headers["tidegate.source.topic"] == topics.otlp_spans.encode()
        assert headers["tidegate.source.partition"] == b"2"
        assert headers["tidegate.source.offset"] == str(number).encode()
        assert headers["tidegate.reason"]
        assert message.timestamp()[1] == 1234567
        found[message.value()] = message.key()
    end = consumer.poll(10)
    consumer.close()
    assert end is not None
    assert end.error() is not None  # no more of them, although partition 2 was read to its end
    assert found == bad


@pytest.mark.timeout(150)
def test_a_topic_made_anew_is_read_from_its_beginning_under_its_new_id(
    kafka_cluster: KafkaCluster, topics: Topics, tmp_path: Path
) -> None:
    """Twice: with fewer records than were committed, and while the worker lives, with more."""
    config = kafka_cluster.client_config()
    traffic = Traffic(config, topics.otlp_spans)

    def make_anew() -> None:
        kafka_cluster.delete_topic(topics.otlp_spans)
        kafka_cluster.create_topic(topics.otlp_spans, 4)

    with Worker(config, topics, tmp_path, "--role", "ingest", name="a") as worker:
        worker.wait_for("partitions assigned")
        traffic.run(2)
        blocks_come_to(config, topics, traffic.produced.total())
        make_anew()
        traffic.run(4)
        worker.wait_for("partitions assigned", times=2)
        blocks_come_to(config, topics, traffic.produced.total())
        assert worker.stop() == 0
    make_anew()
    traffic.run(1)
    with Worker(config, topics, tmp_path, "--role", "ingest", name="b") as worker:
        worker.wait_for("partitions assigned")
        blocks_come_to(config, topics, traffic.produced.total())
        assert worker.stop() == 0
    found = merged(log_of(config, topics.partials))
    assert found.spans == traffic.produced
    assert len({topic_id for topic_id, _ in found.offsets}) == 3


@pytest.mark.timeout(150)
def test_a_failed_delivery_ends_watermarks_and_begins_again_with_a_new_epoch(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    """The dead-letter topic goes away; what was read meanwhile is read again when it is back."""
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics)
    traffic = Traffic(config, topics.otlp_spans)
    producer = Producer(config)
    options = ("--role", "ingest", "--delivery-timeout-s", "3")
    with Worker(config, topics, tmp_path, *options) as worker:
        worker.wait_for("partitions assigned")
        traffic.run(2)
        blocks_come_to(config, topics, traffic.produced.total())
        kafka_cluster.delete_topic(topics.dlq)
        producer.produce(topics.otlp_spans, b"\xff\xff", partition=0)
        assert producer.flush(20) == 0
        traffic.run(2)
        worker.wait_for("beginning again from the committed offsets")
        worker.wait_for(f"missing topics: {topics.dlq}")
        traffic.run(1)
        kafka_cluster.create_topic(topics.dlq, 1)
        worker.wait_for("partitions assigned", times=2)
        traffic.run(1)
        blocks_come_to(config, topics, traffic.produced.total())
        assert worker.stop() == 0
    found = merged(log_of(config, topics.partials))
    assert found.spans == traffic.produced
    assert all(len(epochs) == 2 for epochs in found.epochs.values())
    assert [record.value for record in log_of(config, topics.dlq)] == [b"\xff\xff"]


@pytest.mark.timeout(100)
def test_a_broker_without_topic_ids_is_read_too(tmp_path: Path) -> None:
    """librdkafka's mock cluster; sources go by the topic's name and an incarnation."""
    from tidegate.streams.embedded import EmbeddedBroker

    topics = Topics()
    names = {spec.name: spec.partitions_count for spec in topics.specs(partitions_count=2)}
    with EmbeddedBroker(names) as broker:
        config = {"bootstrap.servers": broker.bootstrap}
        traffic = Traffic(config, topics.otlp_spans, partitions=2)
        with Worker(config, topics, tmp_path, "--role", "ingest") as worker:
            worker.wait_for("partitions assigned")
            traffic.run(3)
            blocks_come_to(config, topics, traffic.produced.total())
            assert worker.stop() == 0
        found = merged(log_of(config, topics.partials))
    assert found.spans == traffic.produced
    assert {topic_id for topic_id, _ in found.offsets} == {"otlp_spans#0"}
