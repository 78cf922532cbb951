"""Dumps of the internal log, and what comparing published decisions with recomputed ones finds."""

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from tests.tools.published import B, decision, health
from tidegate.rules.policy import builtin_policy, load_policy
from tidegate.schemas.alert import Alert, encode_alert
from tidegate.schemas.control import ControlEntry, OverrideSet, PolicyPush, encode_control
from tidegate.schemas.decision import Decision, Lease, encode_decision, encode_lease
from tidegate.schemas.graph import GraphView, encode_view
from tidegate.schemas.health import encode_control_for_graph
from tidegate.schemas.partials import Blocks, Source, Watermark, encode_partials
from tidegate.schemas.points import Metric, MetricPoint, Temporality
from tidegate.schemas.topics import Topics
from tidegate.streams.cli import main
from tidegate.streams.comparison import Appended, Name, Published, Recomputed, appended_of, compare
from tidegate.streams.dump import DumpHeader, internal_log, read_dump, write_dump
from tidegate.streams.dump_lines import line_of
from tidegate.streams.embedded import EmbeddedBroker
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_log import LogRecord, Span
from tidegate.streams.recompute import recompute

TOPICS = Topics()
POLICY = builtin_policy("default")
Captured = pytest.CaptureFixture[bytes]


def header(
    decisions_end: int, *, partials: int = 1, alerts_low: int = 0, graphs_end: int = 0
) -> DumpHeader:
    spans = [Span(TOPICS.decisions, 0, 0, decisions_end)]
    spans += [Span(TOPICS.alerts, 0, alerts_low, 100), Span(TOPICS.health, 0, 0, 10)]
    spans += [Span(TOPICS.graph, 0, 0, graphs_end)] if graphs_end else []
    spans += [Span(TOPICS.partials, number, 0, 10) for number in range(partials)]
    return DumpHeader(
        partials=TOPICS.partials,
        decisions=TOPICS.decisions,
        alerts=TOPICS.alerts,
        shadow=TOPICS.shadow,
        health=TOPICS.health,
        graph=TOPICS.graph,
        control=TOPICS.control,
        snapshots=TOPICS.snapshots_changelog,
        graph_snapshots=TOPICS.graph_snapshots_changelog,
        spans=spans,
    )


def published(*decisions: Decision | str, gaps: int = 0) -> Published:
    """Records of the decisions topic; a text is a tombstone of that scope."""
    records = []
    for offset, one in enumerate(decisions, start=gaps):
        key = one if isinstance(one, str) else one.scope
        value = None if isinstance(one, str) else encode_decision(one)
        records.append(LogRecord(TOPICS.decisions, 0, offset, 0, key.encode(), value))
    return Published(decisions=records)


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
    why: str, log: Published, follows: Recomputed, differences: list[str]
) -> None:
    found = compare(header(len(log.decisions)), follows, log).differences
    assert len(found) == len(differences), (why, found)
    for text, expected in zip(found, differences, strict=True):
        assert expected in text


def test_what_a_partition_has_not_published_yet_is_no_difference() -> None:
    result = compare(header(1), recomputed(A1, A2), published(A1))
    assert (result.differences, result.pending) == ([], 1)


def test_a_partition_that_publishes_nothing_is_all_pending_and_that_is_said() -> None:
    result = compare(header(0), recomputed(A1, A2), Published())
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
    log = Published(decisions=[LogRecord(TOPICS.decisions, 0, 0, 0, b"service:a", b"{}")])
    assert "is no decision" in compare(header(1), recomputed(), log).differences[0]


def test_the_kill_switch_is_an_operators_and_follows_from_no_log() -> None:
    switch = decision("override:*", "closed", boundary=B + 3)
    assert compare(header(3), recomputed(A1), published(A1, switch, "override:*")).differences == []


# ---- alerts, shadow, health ----


def alert(number: int, boundary: int, *, name: str = "f00d", reason: str = "errors") -> LogRecord:
    value = encode_alert(
        Alert(
            id=name,
            number=number,
            event="start" if number == 1 else "repeat",
            tier="P1",
            rule="slo",
            scope="service:a",
            since_ms=0,
            at_ms=boundary * 500,
            boundary=boundary,
            partition=0,
            title="a fails",
            reason=reason,
            level="open",
            policy="test@1",
        )
    )
    return LogRecord(TOPICS.alerts, 0, number, 0, name.encode(), value)


def tried(boundary: int, *, score: float = 0.5) -> LogRecord:
    shown = decision("service:a", "open", boundary=boundary, score=score)
    return LogRecord(TOPICS.shadow, 0, 0, 0, b"service:a", encode_decision(shown))


def health_of(boundary: int, *, ok: int = 7) -> LogRecord:
    shown = health(boundary=boundary, keys=[("a", "")], ok=ok)
    return LogRecord(TOPICS.health, 0, 0, 0, b"0", msgspec.msgpack.encode(shown))


def graph_of(boundary: int, *, part: int = 0, version: int = 1) -> LogRecord:
    view = GraphView(
        version=version, boundary=boundary, window_end_ms=boundary * 500, part=part, parts=part + 1
    )
    return LogRecord(TOPICS.graph, 0, 0, 0, f"part:{part}".encode(), encode_view(view))


def appended(*records: LogRecord) -> list[Appended]:
    return [appended_of(header(0), record) for record in records]


def follows_of(*records: LogRecord, ends: tuple[int, ...] = (B, B + 5, B + 9)) -> Recomputed:
    out = recomputed(A1, A2)
    out.appended = {one.name: one for one in appended(*records)}
    out.ends = {0: list(ends)}
    return out


@pytest.mark.parametrize(
    ("why", "log", "follows", "differences"),
    [
        (
            "equal",
            [alert(1, B), tried(B), health_of(B), alert(2, B + 4)],
            [alert(1, B), tried(B), health_of(B), alert(2, B + 4)],
            [],
        ),
        ("written again", [alert(1, B), tried(B), alert(1, B)], [alert(1, B), tried(B)], []),
        ("never follows", [alert(1, B), tried(B)], [alert(1, B)], ["service:a: boundary"]),
        ("lost", [tried(B)], [alert(1, B), tried(B)], [f"f00d: boundary {B}, number 1 was not"]),
        (
            "another number",
            [alert(2, B)],
            [alert(1, B)],
            ["number 2 does not follow", "number 1 was not published"],
        ),
        ("another boundary", [tried(B)], [tried(B + 1)], ["does not follow", "not published"]),
        (
            "another text",
            [alert(1, B, reason="slow")],
            [alert(1, B)],
            ["number 1 differs\n  published  {"],
        ),
        (
            "second writing differs",
            [tried(B), tried(B, score=0.4)],
            [tried(B)],
            ["tidegate.shadow[0] offset 0: service:a"],
        ),
        (
            "other cells",
            [health_of(B, ok=6)],
            [health_of(B)],
            [f"tidegate.health[0] offset 0: 0: boundary {B}, number 0 differs"],
        ),
    ],
)
def test_alerts_shadow_and_health_are_compared_by_their_names(
    why: str, log: list[LogRecord], follows: list[LogRecord], differences: list[str]
) -> None:
    shown = published(A1, A2)
    shown.appended = appended(*log)
    found = compare(header(2), follows_of(*follows), shown).differences
    assert len(found) == len(differences), (why, found)
    for text, expected in zip(found, differences, strict=True):
        assert expected in text


@pytest.mark.parametrize(
    ("boundary", "is_lost"), [(B + 5, True), (B + 6, False), (B + 9, False), (B + 12, False)]
)
def test_what_the_newest_published_record_caused_beside_decisions_may_be_on_its_way(
    boundary: int, is_lost: bool
) -> None:
    """The newest decision is of B + 9, whose record stepped B + 6 to B + 9."""
    result = compare(header(2), follows_of(alert(1, boundary)), published(A1, A2))
    assert (len(result.differences), result.pending) == ((1, 0) if is_lost else (0, 1))


def test_what_retention_has_removed_of_an_append_only_topic_is_no_difference() -> None:
    follows = follows_of(alert(1, B), alert(2, B + 1), alert(3, B + 3), alert(4, B + 4))
    log = published(A1, A2)
    log.appended = appended(alert(2, B + 1), alert(4, B + 4))
    result = compare(header(2, alerts_low=2), follows, log)
    assert result.expired == 1
    assert result.differences == [
        f"tidegate.alerts: f00d: boundary {B + 3}, number 3 was not published"
    ]
    assert len(compare(header(2), follows, log).differences) == 2
    log.appended = []
    assert compare(header(2, alerts_low=2), follows, log).expired == 4


def test_what_was_published_beside_decisions_before_the_snapshot_is_not_compared() -> None:
    follows = follows_of(alert(2, B + 9))
    del follows.values[A1.scope, A1.boundary]
    follows.begins_after = {0: B + 5}
    log = published(A2)
    log.appended = appended(alert(1, B + 5), alert(2, B + 9))
    result = compare(header(1), follows, log)
    assert (result.differences, result.before, result.compared) == ([], 1, 2)


LEASE = LogRecord(
    TOPICS.decisions,
    0,
    2,
    0,
    b"lease:1",
    encode_lease(Lease(partition=1, boundary=B + 9, window_end_ms=0, lease_ms=1)),
)


@pytest.mark.parametrize(
    ("why", "log", "end", "differences"),
    [
        ("equal", [graph_of(B), graph_of(B + 5), graph_of(B + 5, part=1)], 3, []),
        (
            "written again",
            [graph_of(B), graph_of(B + 5), graph_of(B), graph_of(B + 5, part=1)],
            4,
            [],
        ),
        ("compacted", [graph_of(B + 5), graph_of(B + 5, part=1)], 3, []),
        ("lost", [graph_of(B + 5), graph_of(B + 5, part=1)], 2, ["part:0: boundary"]),
        ("its newest lost", [graph_of(B)], 9, ["part:0: boundary", "part:1: boundary"]),
        (
            "another one",
            [graph_of(B, version=2), graph_of(B + 5), graph_of(B + 5, part=1)],
            3,
            ["tidegate.graph[0] offset 0: part:0: boundary"],
        ),
    ],
)
def test_graphs_are_compared_by_part_and_boundary_and_may_be_compacted(
    why: str, log: list[LogRecord], end: int, differences: list[str]
) -> None:
    """The graph stage's number is 1 here: its lease says how far it has come."""
    head = header(3, graphs_end=end)
    follows = recomputed(A1, A2)
    records = [graph_of(B), graph_of(B + 5), graph_of(B + 5, part=1)]
    follows.appended = {one.name: one for one in (appended_of(head, r) for r in records)}
    follows.ends = {1: [B, B + 5, B + 9]}
    follows.values["lease:1", B + 9] = LEASE.value or b""
    shown = published(A1, A2)
    shown.decisions.append(LEASE)
    shown.appended = [appended_of(head, record) for record in log]
    found = compare(head, follows, shown).differences
    assert len(found) == len(differences), (why, found)
    for text, expected in zip(found, differences, strict=True):
        assert expected in text


def test_what_the_sequencer_writes_into_health_is_no_work_of_evaluate() -> None:
    asked = encode_control_for_graph([entry(PUSHED, 3)])
    record = LogRecord(TOPICS.health, 0, 0, 0, None, asked)
    _, found = recompute(header(0), [record], POLICY)
    assert (found.appended, found.undecodable) == ([], [])
    line = msgspec.json.decode(line_of(header(0), record))
    assert [shown["seq"] for shown in line["value"]["control"]] == [3]


def test_bytes_that_are_no_alert_are_a_difference() -> None:
    log = [LogRecord(TOPICS.alerts, 0, 7, 0, b"f00d", b"{}")]
    _, found = recompute(header(0), log, POLICY)
    assert found.undecodable == [
        "tidegate.alerts[0] offset 7: can't be read (Object missing required field `boundary`)"
    ]
    assert compare(header(0), recomputed(), found).differences == found.undecodable


def test_an_alert_is_named_by_incident_and_number_and_health_by_boundary_and_part() -> None:
    assert [one.name for one in appended(alert(2, B), tried(B), health_of(B))] == [
        Name(TOPICS.alerts, "f00d", B, 2),
        Name(TOPICS.shadow, "service:a", B, 0),
        Name(TOPICS.health, "0", B, 0),
    ]


# ---- what follows from a log with control entries and points ----


def partials(offset: int, **more: Any) -> LogRecord:
    """A record that holds nothing but what is given."""
    value = encode_partials(
        Blocks.empty(), sources=[], watermarks=[], listed=[], partitions_count=1, **more
    )
    return LogRecord(TOPICS.partials, 0, offset, B * 500, None, value)


def entry(text: str, seq: int) -> ControlEntry:
    asked = PolicyPush(by="ada", reason="try", asked_ms=0, text="", where="shop.yaml")
    content = load_policy(text, where="shop.yaml").content()
    return ControlEntry("control-id", seq, B + 4, encode_control(asked), content)


POINT = MetricPoint("pay", "i-1", Metric.GOROUTINES, Temporality.NOW, 0, B * 500, 1_234)
PUSHED = "name: shop\nsettings:\n  mode: enforce\n"


def test_records_of_nothing_but_control_entries_or_points_are_fed_like_all_others() -> None:
    log = [partials(0, control=[entry(PUSHED, 3)]), partials(1, points=[POINT])]
    source, topic_id = Source("spans", 0), "spans"
    for offset in range(2, 14):
        mark = Watermark(0, 1, (B + offset) * 500, 0)
        value = encode_partials(
            Blocks.empty(),
            sources=[source],
            watermarks=[mark],
            listed=[(topic_id, 1)],
            partitions_count=1,
        )
        append_ms = (B + offset + 2) * 500
        log.append(LogRecord(TOPICS.partials, 0, offset, append_ms, None, value))
    out, _ = recompute(header(0), log, POLICY)
    assert out.counters["control_entries"] == 1
    assert out.counters["control_late"] == out.counters["undecodable_partials"] == 0
    assert {name.boundary for name in out.appended} == set(range(B + 2, B + 14))
    assert out.ends == {0: list(range(B + 2, B + 14))}


# ---- lines to read ----


def test_a_record_is_shown_as_a_line_of_json_with_what_operators_asked_and_points_in_it() -> None:
    line = msgspec.json.decode(line_of(header(0), partials(4, control=[entry(PUSHED, 3)])))
    assert (line["topic"], line["offset"], line["append_ms"]) == (TOPICS.partials, 4, B * 500)
    (shown,) = line["value"]["control"]
    assert (shown["seq"], shown["effective_boundary"]) == (3, B + 4)
    assert shown["policy"] == load_policy(PUSHED, where="x").label
    assert (shown["record"]["kind"], shown["record"]["by"]) == ("policy", "ada")
    line = msgspec.json.decode(line_of(header(0), partials(5, points=[POINT])))
    assert line["value"] == {
        "points": [
            {
                "service": "pay",
                "instance": "i-1",
                "metric": "goroutines",
                "temporality": "now",
                "start_ms": 0,
                "time_ms": B * 500,
                "value": 1_234,
            }
        ]
    }


def test_every_topic_has_lines_of_its_own() -> None:
    asked = OverrideSet(
        by="kim", reason="x", asked_ms=1, scope="service:a", level="open", until_ms=2
    )
    shown = {
        record.topic: msgspec.json.decode(line_of(header(0), record))["value"]
        for record in (
            alert(1, B),
            tried(B),
            health_of(B),
            *published(A1).decisions,
            LogRecord(TOPICS.control, 0, 0, 1, None, encode_control(asked)),
            LogRecord(TOPICS.snapshots_changelog, 0, 0, 1, b"0/8/00000", b"\x00\xff"),
        )
    }
    assert shown[TOPICS.alerts]["tier"] == "P1"
    assert shown[TOPICS.shadow]["level"] == shown[TOPICS.decisions]["level"] == "open"
    (key,) = shown[TOPICS.health]["keys"]
    assert (key["service"], key["score"], key["level"]) == ("a", 900, "closed")
    assert shown[TOPICS.control]["scope"] == "service:a"
    assert shown[TOPICS.snapshots_changelog] == {"bytes": 2}


@pytest.mark.parametrize("topic", [TOPICS.partials, TOPICS.health, TOPICS.alerts, TOPICS.control])
@pytest.mark.parametrize("value", [b"", b"\xff\x00", b"{}x", b"\x81\xa1a\x01"])
def test_what_cannot_be_decoded_is_shown_as_a_problem(topic: str, value: bytes) -> None:
    line = msgspec.json.decode(line_of(header(0), LogRecord(topic, 0, 1, 2, b"\xff", value)))
    assert line["bytes"] == len(value)
    assert line["problem"]
    tombstone = msgspec.json.decode(line_of(header(0), LogRecord(topic, 0, 1, 2, None, None)))
    assert (tombstone["key"], tombstone["value"]) == (None, None)


def test_a_dump_is_shown_without_a_broker(tmp_path: Path, capfdbinary: Captured) -> None:
    path = tmp_path / "x.dump"
    path.write_bytes(dumped())
    assert main(["dump", "--json", str(path)]) == 0
    lines = [msgspec.json.decode(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [(line["topic"], line["offset"]) for line in lines] == [
        (record.topic, record.offset) for record in RECORDS
    ]
    assert main(["dump", str(path)]) == 2
    assert main(["dump", "--brokers", "localhost:1"]) == 2
    said = capfdbinary.readouterr().err.decode().splitlines()
    assert "with --json" in said[0]
    assert "--out FILE, or --json" in said[1]


# ---- files ----


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
    path.write_bytes(b"tidegate dump 4\nfrom the future")
    with pytest.raises(UsageError, match="no dump of format 3"):
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
        kept = [s for s in found.spans if s.topic in (TOPICS.decisions, TOPICS.partials)]
        producer.produce(TOPICS.partials, b"too late", partition=0)
        assert producer.flush(20) == 0
        by_place: dict[tuple[str, int], list[LogRecord]] = {}
        for record in records:
            by_place.setdefault((record.topic, record.partition), []).append(record)
    assert [(s.topic, s.partition, s.low, s.end) for s in kept] == [
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
