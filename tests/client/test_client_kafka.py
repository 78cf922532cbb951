"""The client against a real Kafka: compaction, a broker that dies, a topic that comes, goes and comes."""

import logging
import threading
import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.client.live import SCOPE, lease, now_boundary, publish, until
from tests.conftest import KafkaFactory, SecuredFactory
from tests.kafka import Acl, KafkaCluster, Security
from tidegate.client import Client
from tidegate.client.testing import decision
from tidegate.schemas.decision import Decision
from tidegate.schemas.topics import Topics

COMPACTED = {
    "cleanup.policy": "compact",
    "message.timestamp.type": "LogAppendTime",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "1000",
}


def opened(boundary: int) -> Decision:
    return decision(SCOPE, "open", boundary=boundary, admit_ratio=0.0)


def records_count(config: dict[str, str], topic: str) -> int:
    """Records that are left in partition 0."""
    consumer = Consumer({**config, "group.id": "count", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    count = 0
    while True:
        message = consumer.poll(10)
        assert message is not None
        if message.error() is not None:
            consumer.close()
            return count
        count += 1


def test_a_client_that_comes_after_compaction_knows_what_one_knows_that_was_there(
    kafka_cluster: KafkaCluster, topic_prefix: str
) -> None:
    config, topic = kafka_cluster.client_config(), Topics(prefix=topic_prefix).decisions
    kafka_cluster.create_topic(topic, config=COMPACTED)
    boundary = now_boundary()
    with Client(config, topic_prefix=topic_prefix) as present:
        assert present.wait_ready(30)
        for i in range(40):
            publish(
                config,
                topic,
                *(decision(f"service:s{j}", "closed", boundary=boundary + i) for j in range(20)),
                lease(boundary=boundary + i),
            )
        publish(config, topic, "service:s0", opened(boundary + 50), lease(boundary=boundary + 50))

        def is_compacted() -> bool:
            # A closed segment is cleaned only once another record has begun the next.
            publish(config, topic, lease(boundary=now_boundary() + 200))
            time.sleep(0.5)
            return records_count(config, topic) < 200

        assert until(is_compacted, 60)
        with Client(config, topic_prefix=topic_prefix) as late:
            assert late.wait_ready(30)
            assert until(lambda: present.decide(SCOPE) == late.decide(SCOPE))
            assert late.decide(SCOPE).status == "obeyed"
            assert late.stats()["decisions"] < 200 < present.stats()["decisions"]
            for j in range(20):
                assert present.decide(f"s{j}") == late.decide(f"s{j}")
            assert late.decide("s0").decision is None
            assert late.stats()["scopes"] == 20


def test_a_topic_that_is_missing_is_said_once_and_read_when_it_comes(
    kafka_cluster: KafkaCluster, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="tidegate.client")
    config, topic = kafka_cluster.client_config(), Topics(prefix=topic_prefix).decisions
    with Client(config, topic_prefix=topic_prefix) as client:
        assert not client.wait_ready(4)
        assert client.admit(SCOPE, trace_id="a").passes
        texts = [record.getMessage() for record in caplog.records]
        assert texts == [f"there is no topic {topic} yet; `tidegate topics create` makes it"]
        assert topic not in kafka_cluster.admin().list_topics(timeout=10).topics
        kafka_cluster.create_topic(topic, 2, config=COMPACTED)
        publish(config, topic, opened(now_boundary()), lease())
        assert client.wait_ready(30)
        assert until(lambda: client.decide(SCOPE).status == "obeyed")


def test_a_topic_deleted_and_made_anew_is_read_from_its_beginning(
    kafka_cluster: KafkaCluster, topic_prefix: str
) -> None:
    config, topic = kafka_cluster.client_config(), Topics(prefix=topic_prefix).decisions
    kafka_cluster.create_topic(topic, config=COMPACTED)
    boundary = now_boundary()
    publish(
        config,
        topic,
        *(decision(f"service:s{i}", "closed", boundary=boundary + 9) for i in range(50)),
        opened(boundary + 9),
    )
    with Client(config, topic_prefix=topic_prefix) as client:
        assert client.wait_ready(30)
        assert client.stats()["scopes"] == 51
        kafka_cluster.delete_topic(topic)
        assert not client.admit(SCOPE, trace_id="a").passes  # its lease runs
        kafka_cluster.create_topic(topic, 2, config=COMPACTED)
        # Older boundaries than before: fencing is not for another topic.
        publish(config, topic, decision(SCOPE, "degraded_1", boundary=boundary), lease())
        assert until(lambda: client.decide(SCOPE).level == "degraded_1", 60)
        assert until(lambda: client.stats()["scopes"] == 1)
        publish(config, topic, decision("service:new", "open", boundary=boundary, admit_ratio=0.0))
        assert until(lambda: client.decide("new").level == "open")


def test_a_broker_killed_and_back_costs_no_decision_and_blocks_nobody(
    kafka_factory: KafkaFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="tidegate.client")
    cluster, topic = kafka_factory(), Topics().decisions
    config = cluster.client_config()
    cluster.create_topic(topic, config=COMPACTED)
    boundary = now_boundary()
    publish(config, topic, opened(boundary), lease())
    with Client(config) as client:
        assert client.wait_ready(30)
        cluster.kill()
        assert until(lambda: "Kafka is away" in caplog.text)
        slowest_s = 0.0
        for _ in range(200):
            before_s = time.perf_counter()
            assert not client.admit(SCOPE, trace_id="a").passes
            slowest_s = max(slowest_s, time.perf_counter() - before_s)
            time.sleep(0.005)
        assert slowest_s < 0.2  # bounds a busy machine's scheduling; the broker is away for seconds
        assert caplog.text.count("Kafka is away") == 1
        cluster.start()
        publish(config, topic, decision(SCOPE, "closed", boundary=boundary + 1), lease())
        assert until(lambda: client.decide(SCOPE).level == "closed", 60)
        assert client.decide(SCOPE).status == "obeyed"
        # And the next records are live again.
        publish(config, topic, opened(now_boundary()))
        assert until(lambda: client.decide(SCOPE).level == "open", 30)
        cluster.kill()
        before_s = time.monotonic()
    assert time.monotonic() - before_s < 6
    assert not any(thread.name == "tidegate-client" for thread in threading.enumerate())


@pytest.mark.parametrize("security", [Security.SCRAM])
def test_read_on_the_topic_is_all_that_a_client_needs(
    secured_cluster: SecuredFactory, caplog: pytest.LogCaptureFixture, security: Security
) -> None:
    caplog.set_level(logging.WARNING, logger="tidegate.client")
    topic = Topics().decisions
    cluster = secured_cluster(
        security,
        users={"shop": "shop-secret", "stranger": "stranger-secret"},
        acls=[Acl(user="shop", operation="READ", resource="TOPIC", name=topic)],
    )
    cluster.create_topic(topic, config=COMPACTED)
    publish(cluster.client_config(), topic, opened(now_boundary()), lease())
    with Client(cluster.client_config("shop")) as client:
        assert client.wait_ready(30)
        assert client.decide(SCOPE).level == "open"
        time.sleep(2)
        assert [record.getMessage() for record in caplog.records] == []
    with Client(cluster.client_config("stranger")) as client:
        assert not client.wait_ready(4)
        assert client.admit(SCOPE, trace_id="a").passes
        texts = [record.getMessage() for record in caplog.records]
        assert len(texts) == 1
        assert "authorization failed; a client needs Read on it" in texts[0]
    caplog.clear()
    wrong = {**cluster.client_config("shop"), "sasl.password": "not-this-one"}
    with Client(wrong) as client:
        assert not client.wait_ready(6)
        texts = [record.getMessage() for record in caplog.records]
        assert any("uthenticat" in text for text in texts)
        assert len(texts) == len(set(texts)) <= 3
        assert "not-this-one" not in caplog.text
