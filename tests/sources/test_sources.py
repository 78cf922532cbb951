"""What was merged, and how far time has come: bitmaps, owner epochs, watermarks by append time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules.sources import FORGET_AFTER_MS, Sources
from tidegate.schemas.partials import Blocks, Source, Watermark

NAMES = [Source("topic", 0), Source("topic", 1)]
LISTED = [("topic", 2)]


def fresh() -> Sources:
    return Sources(grace_ms=500, source_wait_ms=20_000)


def blocks(offsets: list[int], *, source: int = 0, part: int = 0, parts: int = 1) -> Blocks:
    out = Blocks.empty()
    n = len(offsets)
    out.offset = np.array(offsets, np.int64)
    out.source = np.full(n, source, np.int32)
    out.part, out.parts = np.full(n, part, np.int32), np.full(n, parts, np.int32)
    return out


def admit(sources: Sources, offsets: list[int], **names: int) -> list[bool]:
    return list(map(bool, sources.admit(NAMES, blocks(offsets, **names))))


def mark(
    sources: Sources, source: int, ms: int, *, epoch: int = 1, at: int, floor: int = 0
) -> None:
    sources.hear(listed=LISTED, append_ms=at)
    sources.advance(NAMES, Watermark(source, epoch, ms, floor), at)


def test_ninety_six_may_come_before_ninety_five() -> None:
    sources = fresh()
    assert admit(sources, [96, 97]) == [True, True]
    assert admit(sources, [95, 96, 98]) == [True, False, True]
    assert admit(sources, [95, 96, 97, 98]) == [False] * 4


@given(st.lists(st.lists(st.integers(0, 400), unique=True, max_size=30), max_size=12))
def test_every_offset_counts_once_whatever_the_order(deliveries: list[list[int]]) -> None:
    sources, merged = fresh(), set()
    for offsets in deliveries:
        ordered = sorted(offsets)
        expected = [offset not in merged for offset in ordered]
        assert admit(sources, ordered) == expected
        merged |= set(offsets)


def test_a_block_cut_into_parts_counts_each_part_once() -> None:
    sources = fresh()
    assert admit(sources, [7], part=0, parts=3) == [True]
    assert admit(sources, [7], part=2, parts=3) == [True]
    assert admit(sources, [7], part=0, parts=3) == [False]
    assert admit(sources, [7], part=1, parts=3) == [True]
    assert admit(sources, [7], part=1, parts=3) == [False]


def test_below_the_floor_everything_came_before() -> None:
    sources = fresh()
    assert admit(sources, [10, 11, 12]) == [True] * 3
    mark(sources, 0, 1_000, at=2_000, floor=12)
    assert admit(sources, [9, 11, 12, 13]) == [False, False, False, True]


def test_time_goes_by_the_slowest_source() -> None:
    sources = fresh()
    mark(sources, 0, 100_000, at=101_000)
    assert sources.watermark_ms() is None  # the other one is listed, and was not heard yet
    mark(sources, 1, 90_000, at=101_000)
    assert sources.watermark_ms() == 90_000


def test_a_source_far_behind_is_waited_for_but_not_a_silent_one() -> None:
    sources = fresh()
    mark(sources, 0, 100_000, at=101_000)
    mark(sources, 1, 10_000, at=101_000)
    for at in range(102_000, 121_001, 1_000):
        mark(sources, 0, at - 500, at=at)
    assert sources.watermark_ms() == 10_000
    mark(sources, 0, 121_500, at=122_000)
    assert sources.watermark_ms() == 121_500
    assert sources.left_out_count() == 1


def test_a_fast_clock_is_held_to_the_append_time() -> None:
    sources = fresh()
    mark(sources, 0, 103_500, at=101_000)
    mark(sources, 1, 200_000, at=101_000)
    assert sources.watermark_ms() == 100_500


def test_a_frozen_owner_that_wakes_closes_no_bucket() -> None:
    sources = fresh()
    mark(sources, 1, 500_000, at=500_500)
    mark(sources, 0, 100_000, epoch=4, at=500_500)
    mark(sources, 0, 90_000, epoch=5, at=500_500)  # a new owner begins further back
    assert sources.watermark_ms() == 90_000
    mark(sources, 0, 400_000, epoch=4, at=500_500)
    assert sources.watermark_ms() == 90_000
    assert sources.stale_epochs_count == 1
    mark(sources, 0, 95_000, epoch=5, at=500_500)
    mark(sources, 0, 94_000, epoch=5, at=500_500)
    assert sources.watermark_ms() == 95_000


def test_a_topic_made_anew_is_another_source() -> None:
    sources = fresh()
    assert admit(sources, [0, 1]) == [True, True]
    anew = sources.admit([Source("topic-anew", 0)], blocks([0, 1]))
    assert anew.tolist() == [True, True]


def test_sources_unheard_for_ten_minutes_are_forgotten_once_they_are_not_listed() -> None:
    sources = fresh()
    mark(sources, 0, 1_000, at=2_000)
    sources.hear(listed=[("other", 1)], append_ms=2_000 + FORGET_AFTER_MS + 1)
    assert [r.topic_id for r in sources.records()] == ["other"]


@given(
    st.lists(st.integers(0, 300), unique=True, max_size=40), st.integers(0, 200), st.integers(0, 3)
)
def test_what_is_saved_and_restored_is_the_same(offsets: list[int], floor: int, epoch: int) -> None:
    sources = fresh()
    admit(sources, sorted(offsets))
    admit(sources, [500], part=1, parts=4)
    mark(sources, 0, 5_000, epoch=epoch, at=9_000, floor=floor)
    other = fresh()
    other.restore(sources.records(), sources.now_ms)
    assert other.records() == sources.records()
    again = sorted({*offsets, 3, 77, 299, 301})
    assert admit(other, again) == admit(sources, again)
    assert admit(other, [500], part=1, parts=4) == admit(sources, [500], part=1, parts=4)


def test_the_furthest_behind_is_left_out_when_too_much_waits() -> None:
    sources = fresh()
    mark(sources, 0, 200_000, at=201_000)
    mark(sources, 1, 10_000, at=201_000)
    assert sources.forced_watermark_ms(80_000) == 80_000
    assert sources.forced_watermark_ms(300_000) is None


@pytest.mark.parametrize("append_ms", [5, 10_000])
def test_the_logs_clock_never_goes_back(append_ms: int) -> None:
    sources = fresh()
    sources.hear(listed=[], append_ms=10_000)
    sources.hear(listed=[], append_ms=append_ms)
    assert sources.now_ms == 10_000
