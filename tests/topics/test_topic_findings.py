"""What counts as a deviation, and the remedy it comes with."""

import msgspec
import pytest

from tidegate.schemas.topics import Topics, TopicSpec
from tidegate.streams.topic_findings import RULES, FoundTopic, compare

SPECS = {spec.name: spec for spec in Topics().specs(partitions_count=4)}
PARTIALS = SPECS["tidegate.partials"]


def as_made(spec: TopicSpec) -> FoundTopic:
    return FoundTopic(
        partitions_count=spec.partitions_count, replicas_min_count=3, config=dict(spec.config)
    )


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_topic_as_the_table_has_it_is_fine(spec: TopicSpec) -> None:
    assert compare(spec, as_made(spec), replicas_count=3) == []


def test_every_setting_of_the_table_has_a_rule() -> None:
    assert {key for spec in SPECS.values() for key in spec.config} <= RULES.keys()


@pytest.mark.parametrize(
    ("name", "key", "value", "expected"),
    [
        ("tidegate.partials", "message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("tidegate.partials", "retention.ms", "60000", "at least 21600000"),
        ("tidegate.partials", "max.message.bytes", "1000", "at least 1048576"),
        ("tidegate.decisions", "cleanup.policy", "delete", "compact"),
        ("tidegate.decisions", "cleanup.policy", "compact,delete", "compact"),
        ("tidegate.decisions", "segment.ms", "604800000", "at most 600000"),
        ("otlp_spans", "cleanup.policy", "compact", "delete"),
        ("tidegate.partials", "retention.ms", "unknown", "at least 21600000"),
    ],
)
def test_a_setting_that_does_harm_is_found_with_the_command_that_mends_it(
    name: str, key: str, value: str, expected: str
) -> None:
    found = as_made(SPECS[name])
    found = msgspec.structs.replace(found, config=found.config | {key: value})
    (finding,) = compare(SPECS[name], found, replicas_count=3)
    assert (finding.topic, finding.what, finding.found) == (name, key, value)
    assert finding.expected == expected
    assert f"--entity-name {name} --add-config {key}={SPECS[name].config[key]}" in finding.remedy
    assert finding.is_fixable == (name != "otlp_spans")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("tidegate.partials", "retention.ms", "86400000"),
        ("tidegate.partials", "retention.ms", "-1"),
        ("tidegate.partials", "max.message.bytes", "10000000"),
        ("tidegate.decisions", "segment.ms", "60000"),
        ("tidegate.decisions", "min.cleanable.dirty.ratio", "0.01"),
    ],
)
def test_a_setting_that_is_only_more_generous_is_fine(name: str, key: str, value: str) -> None:
    found = as_made(SPECS[name])
    found = msgspec.structs.replace(found, config=found.config | {key: value})
    assert compare(SPECS[name], found, replicas_count=3) == []


@pytest.mark.parametrize(("count", "is_fixable"), [(2, True), (9, False)])
def test_partitions_can_be_added_and_never_taken_away(count: int, is_fixable: bool) -> None:
    spec = SPECS["tidegate-evaluate-snapshots-changelog"]
    found = msgspec.structs.replace(as_made(spec), partitions_count=count)
    (finding,) = compare(spec, found, replicas_count=3)
    assert (finding.what, finding.expected) == ("partitions", "4")
    assert finding.is_fixable is is_fixable


def test_too_few_replicas_are_found_and_may_be_accepted() -> None:
    found = msgspec.structs.replace(as_made(PARTIALS), replicas_min_count=1)
    (finding,) = compare(PARTIALS, found, replicas_count=3)
    assert finding.what == "replicas"
    assert "--replication-factor 1" in finding.remedy
    assert compare(PARTIALS, found, replicas_count=1) == []


def test_a_missing_topic_is_one_finding() -> None:
    (finding,) = compare(PARTIALS, None, replicas_count=3)
    assert (finding.what, finding.is_fixable) == ("exists", True)
