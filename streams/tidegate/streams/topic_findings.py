"""Compares topics as they are with topics as they should be. Pure: what was found comes in, findings go out."""

from enum import StrEnum

import msgspec

from tidegate.schemas.topics import TopicSpec

__all__ = ["Finding", "FoundTopic", "Rule", "compare"]

RETENTION_UNLIMITED = "-1"


class Rule(StrEnum):
    """How a setting may differ from the table without harm."""

    EXACT = "exactly"
    AT_LEAST = "at least"
    AT_MOST = "at most"


RULES = {
    "cleanup.policy": Rule.EXACT,
    "message.timestamp.type": Rule.EXACT,
    "retention.ms": Rule.AT_LEAST,
    "retention.bytes": Rule.AT_LEAST,
    "delete.retention.ms": Rule.AT_LEAST,
    "max.message.bytes": Rule.AT_LEAST,
    "min.insync.replicas": Rule.AT_LEAST,
    "segment.ms": Rule.AT_MOST,
    "segment.bytes": Rule.AT_MOST,
    "min.cleanable.dirty.ratio": Rule.AT_MOST,
    "max.compaction.lag.ms": Rule.AT_MOST,
}


class FoundTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as the cluster describes it."""

    partitions_count: int
    replicas_min_count: int
    """Of the partition with the fewest."""
    config: dict[str, str]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which a topic is not as it should be."""

    topic: str
    what: str
    """`exists`, `partitions`, `replicas`, or a topic setting's name."""
    found: str
    expected: str
    remedy: str
    """The exact command, or the steps where no command does it."""
    is_fixable: bool
    """Whether `tidegate topics create --fix` does it."""


def compare(spec: TopicSpec, found: FoundTopic | None, *, replicas_count: int) -> list[Finding]:
    """All deviations of one topic; `found` is None where there is none of this name."""
    if found is None:
        return [
            Finding(
                topic=spec.name,
                what="exists",
                found="no such topic",
                expected=f"{spec.partitions_count} partitions for {spec.purpose}",
                remedy="`tidegate topics create` makes it",
                is_fixable=True,
            )
        ]
    findings = [*_partitions(spec, found), *_replicas(spec, found, replicas_count)]
    for key, expected in spec.config.items():
        finding = _setting(spec, key, found.config.get(key, "unknown"), expected)
        if finding is not None:
            findings.append(finding)
    return findings


def _partitions(spec: TopicSpec, found: FoundTopic) -> list[Finding]:
    expected_count = spec.partitions_fixed
    if expected_count in (0, found.partitions_count):
        return []
    is_fixable = found.partitions_count < expected_count
    remedy = (
        f"`tidegate topics create --fix` adds {expected_count - found.partitions_count}"
        if is_fixable
        else "Kafka can't take partitions away: stop the workers, delete the topic "
        f"(kafka-topics.sh --delete --topic {spec.name}), run `tidegate topics create`, start the "
        "workers; they rebuild it"
    )
    return [
        Finding(
            topic=spec.name,
            what="partitions",
            found=str(found.partitions_count),
            expected=str(expected_count),
            remedy=remedy,
            is_fixable=is_fixable,
        )
    ]


def _replicas(spec: TopicSpec, found: FoundTopic, replicas_count: int) -> list[Finding]:
    if not spec.is_ours or found.replicas_min_count >= replicas_count:
        return []
    return [
        Finding(
            topic=spec.name,
            what="replicas",
            found=str(found.replicas_min_count),
            expected=f"at least {replicas_count}",
            remedy="a broker's death would stop it: raise the number with "
            "kafka-reassign-partitions.sh, or accept it with "
            f"--replication-factor {found.replicas_min_count}",
            is_fixable=False,
        )
    ]


def _setting(spec: TopicSpec, key: str, found: str, expected: str) -> Finding | None:
    rule = RULES[key]
    if _holds(rule, key, found, expected):
        return None
    command = (
        f"kafka-configs.sh --alter --entity-type topics --entity-name {spec.name} "
        f"--add-config {key}={expected}"
    )
    remedy = (
        f"`tidegate topics create --fix` sets it (or: {command})"
        if spec.is_ours
        else f"the topic is yours, so --fix leaves it alone: {command}"
    )
    return Finding(
        topic=spec.name,
        what=key,
        found=found,
        expected=expected if rule is Rule.EXACT else f"{rule.value} {expected}",
        remedy=remedy,
        is_fixable=spec.is_ours,
    )


def _holds(rule: Rule, key: str, found: str, expected: str) -> bool:
    if rule is Rule.EXACT:
        return found == expected
    if RETENTION_UNLIMITED in (found, expected) and key.startswith("retention."):
        return found == RETENTION_UNLIMITED
    try:
        found_number = float(found)
    except ValueError:
        return False
    wanted = float(expected)
    return found_number >= wanted if rule is Rule.AT_LEAST else found_number <= wanted
