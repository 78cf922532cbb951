"""`topics create` and `topics check` on a real broker."""

import json

import pytest

from tests.kafka import KafkaCluster
from tests.streams.live import until
from tidegate.schemas.topics import Topics
from tidegate.streams import cli
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.topics_admin import check_topics, create_topics


def test_create_makes_all_topics_and_check_then_finds_nothing(
    kafka_cluster: KafkaCluster, topic_prefix: str
) -> None:
    topics = Topics(prefix=topic_prefix)
    config = kafka_cluster.client_config()
    before = check_topics(config, topics)
    assert {finding.what for finding in before.findings} == {"exists"}
    assert len(before.findings) == len(topics.specs())

    report = create_topics(config, topics, partitions_count=3)
    assert set(report.created) == {spec.name for spec in topics.specs()}
    assert report.findings == ()
    assert check_topics(config, topics).findings == ()
    assert create_topics(config, topics).created == ()  # again does no harm

    made = kafka_cluster.admin().list_topics(timeout=10).topics
    assert len(made[topics.partials].partitions) == 3
    assert len(made[topics.snapshots_changelog].partitions) == 3
    assert len(made[topics.health].partitions) == 1


def test_fix_alters_ours_leaves_the_spans_topic_and_never_touches_partials_partitions(
    kafka_cluster: KafkaCluster, topic_prefix: str
) -> None:
    topics = Topics(prefix=topic_prefix)
    config = kafka_cluster.client_config()
    kafka_cluster.create_topic(topics.otlp_spans, 2, {"cleanup.policy": "compact"})
    kafka_cluster.create_topic(topics.partials, 3, {"retention.ms": "1000"})
    kafka_cluster.create_topic(topics.decisions, 1)
    kafka_cluster.create_topic(topics.snapshots_changelog, 1, {"cleanup.policy": "compact"})

    report = create_topics(config, topics, is_fixing=True)
    fixed = {(finding.topic, finding.what) for finding in report.fixed}
    assert {
        (topics.partials, "retention.ms"),
        (topics.partials, "message.timestamp.type"),
        (topics.decisions, "cleanup.policy"),
        (topics.snapshots_changelog, "partitions"),
    } <= fixed
    # A broker describes what was altered a moment later.
    until(lambda: len(check_topics(config, topics).findings) == 1, every_s=0.5)
    (left,) = check_topics(config, topics).findings
    assert (left.topic, left.what) == (topics.otlp_spans, "cleanup.policy")
    assert "the topic is yours" in left.remedy

    other = check_topics(config, topics, partitions_count=8).findings
    assert any("keys would move" in finding.remedy for finding in other)


def test_the_command_prints_text_or_json_and_its_status_says_whether_all_is_well(
    kafka_cluster: KafkaCluster, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--brokers", kafka_cluster.bootstrap, "--topic-prefix", topic_prefix]
    assert cli.main(["topics", "check", *options, "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["findings"]) == len(Topics().specs())
    assert cli.main(["topics", "create", *options, "--partitions", "2"]) == 0
    assert f"created {topic_prefix}tidegate.partials" in capsys.readouterr().out
    assert cli.main(["topics", "check", *options]) == 0
    assert capsys.readouterr().out == "all topics are as they should be\n"


def test_more_replicas_than_brokers_are_a_usage_error(kafka_cluster: KafkaCluster) -> None:
    with pytest.raises(UsageError, match=r"3 replicas need as many brokers, .* has 1; give at"):
        create_topics(kafka_cluster.client_config(), Topics(prefix="never."), replicas_count=3)


def test_an_unreachable_broker_is_named_with_what_to_check() -> None:
    with pytest.raises(Failure, match=r"127.0.0.1:9: no Kafka broker answered .*check --brokers"):
        check_topics({"bootstrap.servers": "127.0.0.1:9"}, Topics(), timeout_s=1.5)
