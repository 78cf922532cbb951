"""The table of topics: names, prefixes, and the settings that exactness depends on."""

import pytest

from tidegate.schemas.topics import Topics


def test_the_names_are_those_of_the_design() -> None:
    assert [spec.name for spec in Topics().specs()] == [
        "otlp_spans",
        "otlp_metrics",
        "tidegate.control",
        "tidegate.partials",
        "tidegate.decisions",
        "tidegate.health",
        "tidegate.pairs",
        "tidegate.graph",
        "tidegate.alerts",
        "tidegate.shadow",
        "tidegate.dlq",
        "tidegate-evaluate-snapshots-changelog",
        "tidegate-evaluate-graph-snapshots-changelog",
    ]


def test_a_prefix_keeps_installations_apart_and_another_spans_topic_is_taken_as_it_is() -> None:
    topics = Topics(prefix="staging.", spans="otel-traces")
    names = [spec.name for spec in topics.specs()]
    assert names[0] == "otel-traces"
    assert names[1] == "staging.otlp_metrics"
    assert all(name.startswith("staging.tidegate") for name in names[2:])
    assert topics.ingest_group == "staging.tidegate-ingest"
    assert topics.evaluate_app_id == "staging.tidegate-evaluate"


@pytest.mark.parametrize("prefix", ["a b", "a/", "ä", "x" * 300])
def test_a_prefix_that_kafka_would_refuse_is_refused_at_once(prefix: str) -> None:
    with pytest.raises(ValueError, match="can't be part of a topic's name; use up to"):
        Topics(prefix=prefix)


def test_topics_whose_append_times_are_read_are_stamped_by_the_broker() -> None:
    stamped = {
        spec.name
        for spec in Topics().specs()
        if spec.config.get("message.timestamp.type") == "LogAppendTime"
    }
    assert stamped == {
        f"tidegate.{name}"
        for name in ("partials", "decisions", "health", "control", "shadow", "pairs")
    }


def test_what_operators_asked_for_is_kept_for_ever() -> None:
    (control,) = (spec for spec in Topics().specs() if spec.name == "tidegate.control")
    assert control.config["retention.ms"] == control.config["retention.bytes"] == "-1"


def test_the_changelog_has_as_many_partitions_as_partials() -> None:
    specs = {spec.name: spec for spec in Topics().specs(partitions_count=5)}
    assert specs["tidegate-evaluate-snapshots-changelog"].partitions_fixed == 5
    assert specs["tidegate.partials"].partitions_count == 5
    assert specs["otlp_spans"].partitions_count == 5
    assert Topics().specs(partitions_count=5, spans_partitions_count=2)[0].partitions_count == 2
