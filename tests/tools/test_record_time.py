"""The time of records that no broker stamped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules.record_time import CONFIRM_RECORDS, JUMP_MS, RecordTime, p90_end_ms
from tidegate.schemas.columns import SpanColumns

T = 1_700_000_000_000
FAR = T + 3 * JUMP_MS


def settle(ends_ms: list[int]) -> list[int]:
    clock = RecordTime()
    times = [time_ms for end_ms in ends_ms for time_ms in clock.step(end_ms)]
    return times + clock.finish()


def columns(ends_ns: list[list[int]]) -> SpanColumns:
    ends = [end for record in ends_ns for end in record]
    n = len(ends)
    ints = np.zeros(n, np.int32)
    record = np.repeat(np.arange(len(ends_ns), dtype=np.int32), [len(r) for r in ends_ns])
    longs = np.zeros(n, np.uint64)
    small = np.zeros(n, np.uint8)
    return SpanColumns(
        records_count=len(ends_ns), record=record, service=ints, instance=ints, kind=small,
        outcome=small, effect=small, start_ns=longs, end_ns=np.array(ends, np.uint64),
        trace_hi=longs, trace_lo=longs, span_id=longs, parent_id=longs, target=ints, weight=ints,
        services=["a"], instances=[], targets=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("why", "ends", "times"),
    [
        ("steps are taken as they are", [T, T + 500, T - 900], [T, T + 500, T - 900]),
        ("one jump is refuted", [T, FAR, T + 1], [T, T, T + 1]),
        ("four jumps are refuted", [T] + [FAR] * 4 + [T + 1], [T] * 5 + [T + 1]),
        ("five confirm each other", [T] + [FAR] * 5, [T] + [FAR] * 5),
        ("a jump back counts alike", [FAR] + [T] * 5, [FAR] + [T] * 5),
        ("jumps elsewhere confirm nothing", [T, FAR, FAR, FAR, FAR, 2 * T, T], [T] * 7),
        ("an unconfirmed end takes the time before", [T, FAR, FAR], [T, T, T]),
        ("a wrong first record is left behind", [FAR] + [T] * 6, [FAR] + [T] * 6),
        ("nothing has no time", [], []),
    ],
)
def test_a_jump_counts_only_once_five_records_confirm_it(
    why: str, ends: list[int], times: list[int]
) -> None:
    assert settle(ends) == times, why


@given(ends=st.lists(st.integers(0, 10 * JUMP_MS)))
def test_every_record_gets_a_time_and_few_are_held(ends: list[int]) -> None:
    clock = RecordTime()
    settled = 0
    for number, end_ms in enumerate(ends, start=1):
        settled += len(clock.step(end_ms))
        assert number - settled < CONFIRM_RECORDS
    assert settled + len(clock.finish()) == len(ends)


@given(
    ends=st.lists(st.lists(st.integers(1, 2**63 - 1), max_size=25), max_size=6),
)
def test_the_percentile_is_the_nearest_rank_of_the_sorted_ends(ends: list[list[int]]) -> None:
    def by_hand(record: list[int]) -> int:
        ordered = sorted(end // 1_000_000 for end in record)
        return next(
            (end for i, end in enumerate(ordered, start=1) if 10 * i >= 9 * len(ordered)), -1
        )

    assert p90_end_ms(columns(ends)).tolist() == [by_hand(record) for record in ends]


def test_spans_without_an_end_or_beyond_int64_have_no_say() -> None:
    assert p90_end_ms(columns([[0, 0, 0, 5_000_000], [2**64 - 1], [0]])).tolist() == [5, -1, -1]
