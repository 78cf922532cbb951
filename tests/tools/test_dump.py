"""Dumps of the internal log, and what comparing published decisions with recomputed ones finds."""

import io
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.tools.published import B, decision
from tidegate.schemas.decision import Decision, encode_decision
from tidegate.schemas.topics import Topics
from tidegate.streams.dump import DumpHeader, internal_log, read_dump, write_dump
from tidegate.streams.embedded import EmbeddedBroker
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_log import LogRecord, Span
from tidegate.streams.recompute import Recomputed, compare

TOPICS = Topics()


def header(decisions_end: int, *, partials: int = 1) -> DumpHeader:
    spans = [Span(TOPICS.decisions, 0, 0, decisions_end)]
    spans += [Span(TOPICS.partials, number, 0, 10) for number in range(partials)]
    return DumpHeader(
        partials=TOPICS.partials,
        decisions=TOPICS.decisions,
        snapshots=TOPICS.snapshots_changelog,
        spans=spans,
    )


def published(*decisions: Decision | str, gaps: int = 0) -> list[LogRecord]:
    """Records of the decisions topic; a text is a tombstone of that scope."""
    records = []
    for offset, one in enumerate(decisions, start=gaps):
        key = one if isinstance(one, str) else one.scope
        value = None if isinstance(one, str) else encode_decision(one)
        records.append(LogRecord(TOPICS.decisions, 0, offset, 0, key.encode(), value))
    return records


def recomputed(*decisions: Decision, tombstones: frozenset[str] = frozenset()) -> Recomputed:
    values = {(d.scope, d.boundary): encode_decision(d) for d in decisions}
    return Recomputed(decisions=list(decisions), values=values, tombstones=set(tombstones))


A1 = decision("service:a", "open", boundary=B)
A2 = decision("service:a", "closed", boundary=B + 9)
B1 = decision("service:b", "open", boundary=B + 5)


@pytest.mark.parametrize(
    ("why", "log", "follows", "differences"),
    [
        ("equal", published(A1, B1, A2), recomputed(A1, B1, A2), []),
        ("written again by a successor", published(A1, A1, B1, A1, A2), recomputed(A1, B1, A2), []),
        (
            "never follows",
            published(A1, B1, A2),
            recomputed(A1, A2),
            ["offset 1: service:b: boundary"],
        ),
        ("lost", published(A1, A2), recomputed(A1, B1, A2), ["service:b: boundary"]),
        (
            "other bytes",
            published(decision("service:a", "open", boundary=B, score=0.4), B1, A2),
            recomputed(A1, B1, A2),
            [f"offset 0: service:a: boundary {B} differs"],
        ),
        (
            "second writing differs",
            published(A1, decision("service:a", "open", boundary=B, score=0.4), A2),
            recomputed(A1, A2),
            [f"offset 1: service:a: boundary {B} differs"],
        ),
        (
            "tombstone",
            published(A1, A2, "service:a"),
            recomputed(A1, A2, tombstones=frozenset({"service:a"})),
            [],
        ),
        (
            "tombstone too many",
            published(A1, A2, "service:a"),
            recomputed(A1, A2),
            ["a tombstone that does not follow"],
        ),
        (
            "tombstone lost",
            published(A1, A2),
            recomputed(A1, A2, tombstones=frozenset({"service:a"})),
            ["its tombstone was not published"],
        ),
    ],
)
def test_comparing_finds_every_difference_and_nothing_else(
    why: str, log: list[LogRecord], follows: Recomputed, differences: list[str]
) -> None:
    found = compare(header(len(log)), follows, log).differences
    assert len(found) == len(differences), (why, found)
    for text, expected in zip(found, differences, strict=True):
        assert expected in text


def test_what_a_partition_has_not_published_yet_is_no_difference() -> None:
    result = compare(header(1), recomputed(A1, A2), published(A1))
    assert (result.differences, result.pending) == ([], 1)


def test_a_partition_that_publishes_nothing_is_all_pending_and_that_is_said() -> None:
    result = compare(header(0), recomputed(A1, A2), [])
    assert (result.compared, result.pending) == (0, 2)


def test_what_compaction_may_have_removed_is_no_difference_but_the_newest_must_be_there() -> None:
    log = published(B1, A2, gaps=1)  # offset 0 is gone
    result = compare(header(3), recomputed(A1, B1, A2), log)
    assert (result.differences, result.compacted) == ([], 1)
    later = decision("service:a", "open", boundary=B + 7)
    newest_gone = compare(header(3), recomputed(B1, A2, later), published(B1, A2, gaps=1))
    assert newest_gone.compacted == 1
    lost = decision("service:c", "open", boundary=B + 3)
    assert compare(header(3), recomputed(B1, A2, lost), log).differences


def test_what_was_published_before_the_snapshot_is_not_compared() -> None:
    follows = recomputed(A2)
    follows.begins_after = {0: B + 5}
    result = compare(header(3), follows, published(A1, B1, A2))
    assert (result.differences, result.before, result.compared) == ([], 2, 1)


def test_bytes_that_are_no_decision_are_a_difference() -> None:
    log = [LogRecord(TOPICS.decisions, 0, 0, 0, b"service:a", b"{}")]
    assert "is no decision" in compare(header(1), recomputed(), log).differences[0]


RECORDS = [
    LogRecord(TOPICS.partials, 0, 0, 5, None, b"\x00\xff" * 1_000),
    LogRecord(TOPICS.decisions, 0, 0, 6, b"service:a", None),
    LogRecord(TOPICS.partials, 0, 1, 7, b"k", b""),
]


def dumped() -> bytes:
    out = io.BytesIO()
    assert write_dump(out, header(1), iter(RECORDS)) == len(RECORDS)
    return out.getvalue()


def test_a_dump_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.dump"
    path.write_bytes(dumped())
    read, records = read_dump(str(path))
    assert read == header(1)
    assert list(records) == RECORDS


@pytest.mark.parametrize("keep", [20, -1, -10])
def test_half_a_dump_is_refused_and_never_compared(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.dump"
    path.write_bytes(dumped()[:keep])
    with pytest.raises(Failure, match=r"make the dump anew"):
        list(read_dump(str(path))[1])


def test_what_is_no_dump_is_wrong_usage(tmp_path: Path) -> None:
    path = tmp_path / "x.dump"
    path.write_bytes(b"tidegate dump 2\nfrom the future")
    with pytest.raises(UsageError, match="no dump of format 1"):
        read_dump(str(path))
    with pytest.raises(UsageError, match="No such file"):
        read_dump(str(tmp_path / "missing"))


def test_the_log_of_a_broker_is_read_to_where_it_ended() -> None:
    specs = TOPICS.specs(partitions_count=2)
    with EmbeddedBroker({spec.name: spec.partitions_count for spec in specs}) as broker:
        config = {"bootstrap.servers": broker.bootstrap}
        producer = Producer({**config, "log_level": 2})
        for number in range(2_000):
            producer.produce(TOPICS.partials, b"%d" % number, partition=number % 2)
        producer.produce(TOPICS.decisions, encode_decision(A1), key="service:a")
        assert producer.flush(20) == 0
        found, records = internal_log(config, TOPICS)
        producer.produce(TOPICS.partials, b"too late", partition=0)
        assert producer.flush(20) == 0
        by_place: dict[tuple[str, int], list[LogRecord]] = {}
        for record in records:
            by_place.setdefault((record.topic, record.partition), []).append(record)
    assert [(s.topic, s.partition, s.low, s.end) for s in found.spans] == [
        (TOPICS.decisions, 0, 0, 1),
        (TOPICS.partials, 0, 0, 1_000),
        (TOPICS.partials, 1, 0, 1_000),
    ]
    for partition in (0, 1):
        mine = by_place[TOPICS.partials, partition]
        assert [record.offset for record in mine] == list(range(1_000))
        assert [record.value for record in mine[:2]] == [b"%d" % partition, b"%d" % (partition + 2)]
    assert by_place[TOPICS.decisions, 0][0].value == encode_decision(A1)


def test_a_missing_topic_is_a_failure_that_names_it() -> None:
    with (
        EmbeddedBroker({TOPICS.partials: 1}) as broker,
        pytest.raises(Failure, match="topic wrong-tidegate"),
    ):
        config = {"bootstrap.servers": broker.bootstrap, "allow.auto.create.topics": "false"}
        internal_log(config, Topics(prefix="wrong-"))
