"""The graph stage is a function of its log: cut at every snapshot, fed again, out of step or repeated, it
publishes the same bytes."""

import msgspec
import pytest

from tests.exactness.driving import LogRecord, Published
from tests.goldens.incidents import BASE_MS
from tests.graph.driving import PARTITIONS, POLICY, health_log, published, run
from tidegate.rules.graph.evaluator import GraphEvaluator
from tidegate.rules.outputs import Outputs
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import ControlEntry, OverrideSet, encode_control
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.health import decode_health, encode_control_for_graph

FACTS = (
    (40, Fact("web", "mesh:15001", ["cart", "catalog", "price"], BASE_MS + 20_000, 12)),
    (90, Fact("web", "mesh:15001", ["cart", "catalog", "price"], BASE_MS + 45_000, 12, 4, 900)),
)
LOOPS = ((60, Loop(["cart", "price", "cart"], "ab" * 16, BASE_MS + 30_000)),)


def mesh() -> list[LogRecord]:
    log = list(health_log("mesh", facts=FACTS, loops=LOOPS))
    override = OverrideSet(
        asked_ms=BASE_MS + 100_000,
        by="ann",
        reason="rehearsal",
        scope="inbound:mesh:15001",
        level="open",
        until_ms=BASE_MS + 130_000,
    )
    entry = ControlEntry(
        "control", 0, (BASE_MS + 100_000) // BUCKET_MS, encode_control(override), b""
    )
    at = len(log) // 3
    record = LogRecord(encode_control_for_graph([entry]), log[at].append_ms)
    return [*log[:at], record, *log[at:]]


def rows_of(outputs: list[Outputs], after: int = -1) -> Published:
    return [row for out in outputs for row in published(out) if row[0] > after]


@pytest.fixture(scope="module")
def straight() -> tuple[list[LogRecord], list[Outputs]]:
    log = mesh()
    outputs, counters = run(log)
    assert counters["undecodable_health"] == 0
    return log, outputs


def test_cut_at_every_snapshot_it_publishes_the_same_bytes(
    straight: tuple[list[LogRecord], list[Outputs]],
) -> None:
    log, outputs = straight
    snapshots = [(i, out.snapshot) for i, out in enumerate(outputs) if out.snapshot is not None]
    assert len(snapshots) > 10
    for _, snapshot in snapshots[:-1:3]:
        restored = GraphEvaluator.restore(
            POLICY, snapshot.manifest, snapshot.chunks, partitions_count=PARTITIONS
        )
        first = snapshot.start_offset
        again, _ = run(log[first:], restored, first=first)
        assert rows_of(again) == rows_of(outputs, snapshot.boundary)
        newest = next(out.snapshot for out in reversed(again) if out.snapshot is not None)
        assert newest == next(out.snapshot for out in reversed(outputs) if out.snapshot is not None)


CHAIN_FACTS = tuple(
    (number, Fact(caller, f"{callee}.svc.local", [callee], BASE_MS + 30_000, 5))
    for number, (caller, callee) in ((80, ("web", "a")), (95, ("a", "b")), (130, ("b", "c")))
)


def test_cut_just_after_edges_got_other_names_the_window_is_whole() -> None:
    """What was merged under the old name is still in its window."""
    log = list(health_log("chain", facts=CHAIN_FACTS))
    outputs, _ = run(log)
    scopes = {d.scope for out in outputs for d in out.decisions}
    assert {"inbound:a.svc.local", "inbound:a", "inbound:c.svc.local", "inbound:c"} <= scopes
    snapshots = [out.snapshot for out in outputs if out.snapshot is not None]
    moments = [s for s in snapshots if 0 < s.boundary * BUCKET_MS - BASE_MS < 110_000]
    assert len(moments) > 5
    for snapshot in moments:
        restored = GraphEvaluator.restore(
            POLICY, snapshot.manifest, snapshot.chunks, partitions_count=PARTITIONS
        )
        windows = restored.state.traffic.windows
        first, last = snapshot.start_offset, snapshot.offset
        run(log[first : last + 1], restored, first=first)
        straight = GraphEvaluator(POLICY, partitions_count=PARTITIONS)
        run(log[: last + 1], straight)
        expected = straight.state.traffic
        for name, slot in expected.keys.by_key.items():
            mine = restored.state.traffic.keys.by_key[name]
            assert (windows.window[mine] == expected.windows.window[slot]).all(), name


def test_a_snapshot_that_is_not_whole_is_refused(
    straight: tuple[list[LogRecord], list[Outputs]],
) -> None:
    _, outputs = straight
    snapshot = next(out.snapshot for out in outputs if out.snapshot is not None)
    with pytest.raises(ValueError, match="0 of 1 chunks"):
        GraphEvaluator.restore(POLICY, snapshot.manifest, [], partitions_count=PARTITIONS)


def test_what_evaluate_says_again_changes_nothing(
    straight: tuple[list[LogRecord], list[Outputs]],
) -> None:
    """A partition that was rebuilt publishes its last boundaries again."""
    log, outputs = straight
    at = len(log) // 2
    doubled = [*log[:at], *log[at - 40 : at], *log[at:]]
    again, counters = run(doubled)
    assert counters["repeated_health"] > 30
    assert [row for row in rows_of(again) if row[1] != "x"] == rows_of(outputs)


def test_a_partition_that_is_late_holds_the_others_up_and_loses_nothing(
    straight: tuple[list[LogRecord], list[Outputs]],
) -> None:
    log, outputs = straight
    at = len(log) // 2
    until = at + 60
    slow: list[LogRecord] = []
    others: list[LogRecord] = []
    for record in log[at:until]:
        read = decode_health(record.value)
        (slow if read.partition == 1 else others).append(record)
    end_ms = log[until].append_ms
    held = [LogRecord(record.value, end_ms) for record in [*others, *slow]]
    again, counters = run([*log[:at], *held, *log[until:]])
    assert counters["late"] == 0
    assert [row for row in rows_of(again) if row[2] is not None] == [
        row for row in rows_of(outputs) if row[2] is not None
    ]


def test_a_partition_that_is_silent_for_20_s_is_left_out_and_counts_when_it_is_back(
    straight: tuple[list[LogRecord], list[Outputs]],
) -> None:
    log, _ = straight
    reads = [decode_health(record.value) for record in log]
    begin = reads[len(log) // 2].boundary
    kept: list[LogRecord] = []
    held: list[LogRecord] = []
    for record, read in zip(log, reads, strict=True):
        is_held = read.partition == 2 and begin <= read.boundary < begin + 80
        (held if is_held else kept).append(record)
    back = next(
        i for i, record in enumerate(kept) if decode_health(record.value).boundary >= begin + 80
    )
    again, counters = run([*kept[:back], *held, *kept[back:]])
    stepped = {row[0] for row in rows_of(again)}
    assert max(stepped) >= begin + 80
    assert counters["boundaries"] >= len({read.boundary for read in reads}) - 1


def test_garbage_is_counted_and_the_rest_is_processed(
    straight: tuple[list[LogRecord], list[Outputs]],
) -> None:
    log, outputs = straight
    broken = msgspec.msgpack.encode({"format": 99})
    reads = (decode_health(record.value) for record in log)
    short = msgspec.structs.replace(next(read for read in reads if read.keys), numbers={})
    bad = [b"", b"\xc1", broken, msgspec.msgpack.encode(short)]
    mixed = [
        *log[:10],
        *(LogRecord(value, log[10].append_ms) for value in bad),
        *log[10:],
    ]
    again, counters = run(mixed)
    assert counters["undecodable_health"] == len(bad)
    assert rows_of(again) == rows_of(outputs)


def test_an_override_of_all_callers_view_is_in_force_for_its_time(
    straight: tuple[list[LogRecord], list[Outputs]],
) -> None:
    _, outputs = straight
    told = [
        (d.override is not None, d.level)
        for out in outputs
        for d in out.decisions
        if d.scope == "inbound:mesh:15001"
        and BASE_MS + 99_000 < d.window_end_ms < BASE_MS + 131_000
    ]
    assert told[0] == (True, "open")
    assert told[-1][0] is False
