"""Reading partitions in step, and where to begin reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.streams.commit_note import CommitNote, Committed, plan_start
from tidegate.streams.in_step import AHEAD_MAX_MS, Batch, InStep

NOW_MS = 1_000_000


def batch(rows: list[tuple[int, int, int]]) -> Batch[str]:
    """(partition, offset, Kafka time)."""
    return Batch(
        [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [f"{r}" for r in rows]
    )


def rows(passed: Batch[str]) -> list[tuple[int, int, int]]:
    return list(zip(passed.partition, passed.offset, passed.kafka_ms, strict=True))


def test_nothing_passes_before_every_partition_has_shown_its_time() -> None:
    step: InStep[str] = InStep()
    step.assign(0, 0, None)
    step.assign(1, 0, None)
    assert rows(step.take(batch([(0, 0, 1000)]), [], NOW_MS)) == []
    assert step.held_partitions() == [0]
    assert rows(step.take(batch([(1, 0, 2000)]), [], NOW_MS)) == [(0, 0, 1000), (1, 0, 2000)]


def test_an_empty_partition_holds_nobody() -> None:
    step: InStep[str] = InStep()
    step.assign(0, 0, None)
    step.assign(1, 7, None)
    step.take(batch([(0, 0, 1000), (0, 1, 500_000)]), [], NOW_MS)
    assert rows(step.take(batch([]), [(1, 7)], NOW_MS)) == [(0, 0, 1000), (0, 1, 500_000)]
    assert not step.readings[1].is_behind


def test_a_gap_in_the_slowest_lets_nobody_run_ahead_of_the_others() -> None:
    step: InStep[str] = InStep()
    step.assign(0, 0, None)
    step.assign(1, 0, None)
    got = step.take(batch([(0, 0, 1), (0, 1, 900_000), (1, 0, 5), (1, 1, 12_000)]), [], NOW_MS)
    assert (0, 1, 900_000) not in rows(got)
    assert (1, 1, 12_000) in rows(got)
    assert rows(step.take(batch([]), [(1, 2)], NOW_MS)) == [(0, 1, 900_000)]


def test_a_record_without_a_time_counts_as_now() -> None:
    step: InStep[str] = InStep()
    step.assign(0, 0, None)
    assert rows(step.take(batch([(0, 0, -1)]), [], NOW_MS)) == [(0, 0, -1)]
    assert step.readings[0].time_ms == NOW_MS


@given(
    st.lists(
        st.lists(st.integers(1, 120_000), min_size=1, max_size=25).map(sorted),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_every_record_passes_once_in_order_and_none_runs_ahead(
    logs: list[list[int]], random: object
) -> None:
    step: InStep[str] = InStep()
    for partition in range(len(logs)):
        step.assign(partition, 0, None)
    at = [0] * len(logs)
    seen: list[tuple[int, int, int]] = []
    ended = [False] * len(logs)
    for _ in range(10_000):
        if all(ended):
            break
        free = [p for p in range(len(logs)) if not ended[p] and not step.readings[p].held]
        partition = random.choice(free)  # type: ignore[attr-defined]  # Hypothesis's Random
        some = logs[partition][at[partition] : at[partition] + random.randint(1, 9)]  # type: ignore[attr-defined]  # Hypothesis's Random
        fetched = [(partition, at[partition] + i, ms) for i, ms in enumerate(some)]
        at[partition] += len(some)
        ended[partition] = at[partition] == len(logs[partition])
        ends = [(partition, at[partition])] if ended[partition] else []
        for row in rows(step.take(batch(fetched), ends, NOW_MS)):
            seen.append(row)
            unread = [
                log[sum(1 for s in seen if s[0] == p)]
                for p, log in enumerate(logs)
                if sum(1 for s in seen if s[0] == p) < len(log)
            ]
            assert not unread or row[2] <= min(*unread, row[2]) + AHEAD_MAX_MS
    assert sorted(seen) == [(p, i, ms) for p, log in enumerate(logs) for i, ms in enumerate(log)]
    assert all(not r.is_behind and not r.held for r in step.readings.values())
    for p, log in enumerate(logs):
        assert [s[1] for s in seen if s[0] == p] == list(range(len(log)))


def note(epoch: int = 1, topic_id: str = "", incarnation: int = 0) -> CommitNote:
    return CommitNote(epoch=epoch, topic_id=topic_id, incarnation=incarnation)


@pytest.mark.parametrize(
    ("case", "topic_id", "committed", "ends", "source_id", "start", "expired"),
    [
        ("first start", "ID", {}, {0: (0, 9), 1: (3, 5)}, "ID", {0: 0, 1: 3}, 0),
        ("goes on", "ID", {0: (7, note(3, "ID"))}, {0: (0, 9), 1: (0, 0)}, "ID", {0: 7, 1: 0}, 0),
        ("retention", "ID", {0: (7, note(3, "ID"))}, {0: (8, 9), 1: (0, 0)}, "ID", {0: 8, 1: 0}, 1),
        (
            "made anew",
            "NEW",
            {0: (7, note(3, "ID"))},
            {0: (0, 9), 1: (0, 0)},
            "NEW",
            {0: 0, 1: 0},
            0,
        ),
        (
            "truncated",
            "ID",
            {0: (7, note(3, "ID"))},
            {0: (0, 2), 1: (0, 0)},
            "ID#1",
            {0: 0, 1: 0},
            0,
        ),
        ("no id", "", {0: (7, note(3))}, {0: (0, 9), 1: (0, 0)}, "spans#0", {0: 7, 1: 0}, 0),
        (
            "no id, made anew, seen on the other partition",
            "",
            {0: (7, note(3)), 1: (6, note(2))},
            {0: (0, 9), 1: (0, 1)},
            "spans#1",
            {0: 0, 1: 0},
            0,
        ),
        (
            "no id, another worker saw it first",
            "",
            {0: (0, note(4, "", 1)), 1: (6, note(2))},
            {0: (0, 9), 1: (0, 8)},
            "spans#1",
            {0: 0, 1: 0},
            0,
        ),
    ],
)
def test_reading_begins(
    case: str,
    topic_id: str,
    committed: dict[int, tuple[int, CommitNote]],
    ends: dict[int, tuple[int, int]],
    source_id: str,
    start: dict[int, int],
    expired: int,
) -> None:
    known = {p: Committed(offset=o, note=n) for p, (o, n) in committed.items()}
    plan = plan_start("spans", topic_id, known, ends, [0, 1])
    assert (plan.source_id, plan.start, plan.expired) == (source_id, start, expired), case


def test_a_note_reads_back_and_a_strangers_text_is_epoch_zero() -> None:
    one = CommitNote(epoch=3, topic_id="x", incarnation=2, read_ms=5)
    assert CommitNote.read(one.text()) == one
    assert CommitNote.read("reset by hand").epoch == 0
    assert CommitNote.read(None).epoch == 0
