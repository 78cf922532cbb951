"""P(request fails given the call fails): what is fed, how it fades, when it is proven; and that windows
count calls as before.
"""

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.rules import window_kernel as kernel
from tidegate.rules.hardness import TICK_S, Hardness, feed, is_hard, lower_bound, tick
from tidegate.rules.pending import Arrived, merge
from tidegate.rules.window import Merged, Windows
from tidegate.schemas.cells import CODES_COUNT, HAS_CALLS, HAS_PARENT, INHERITED, PARENT_FAILED
from tidegate.schemas.outcome import Outcome

SLOTS, START = 5, 1_000_000
TIMEOUT = int(Outcome.TIMEOUT)
Cell = tuple[int, int, int, int]
"""Slot, bucket, code, count."""


def merged(cells: list[Cell], boundary: int = START + 5, *, weight: int = 64) -> Merged:
    columns = np.array(cells, np.int64).reshape(-1, 4).T
    slot, bucket, code, count = columns
    arrived = Arrived(
        slot.astype(np.int32),
        bucket,
        code.astype(np.uint16),
        np.full(len(cells), 7, np.uint16),
        count.astype(np.int32),
        np.full(len(cells), weight, np.int32),
        np.zeros(len(cells), np.uint8),
    )
    return merge(arrived, boundary, rank=np.arange(SLOTS), in_order=np.arange(SLOTS))


def test_only_failed_calls_with_a_known_request_are_fed() -> None:
    state = Hardness(SLOTS)
    feed(
        state,
        merged(
            [
                (0, START, TIMEOUT | HAS_PARENT | PARENT_FAILED, 3),
                (0, START + 1, TIMEOUT | HAS_PARENT, 2),
                (0, START + 1, int(Outcome.SERVER_ERROR) | HAS_PARENT | PARENT_FAILED, 4),
                (0, START, TIMEOUT, 100),
                (1, START, TIMEOUT | INHERITED | HAS_CALLS, 100),  # a request
                (2, START, TIMEOUT | HAS_PARENT, 5),
            ],
            weight=640,
        ),
    )
    assert state.calls.tolist() == [9, 0, 5, 0, 0]
    assert state.requests_failed.tolist() == [7, 0, 0, 0, 0]


def test_a_boundary_without_any_changes_nothing() -> None:
    state = Hardness(SLOTS)
    feed(state, merged([(0, START, TIMEOUT, 100)]))
    assert not state.calls.any()


cells = st.lists(
    st.tuples(
        st.integers(0, SLOTS - 1),
        st.integers(START, START + 4),
        st.sampled_from([TIMEOUT | HAS_PARENT | bit for bit in (0, PARENT_FAILED)]),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(cells, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_neither_order_nor_slots_leave_a_trace(
    boundaries: list[list[Cell]], chance: object
) -> None:
    """Bit for bit: as what fades is never a whole number, sums in another order would differ."""
    one, other = Hardness(SLOTS), Hardness(SLOTS)
    every = np.arange(SLOTS)
    for rows in boundaries:
        shuffled = [(SLOTS - 1 - slot, b, c, n) for slot, b, c, n in rows]
        chance.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis's Random
        feed(one, merged(rows))
        feed(other, merged(shuffled))
        tick(one, every, 3_600)
        tick(other, every, 3_600)
    assert one.calls.tobytes() == other.calls[::-1].tobytes()
    assert one.requests_failed.tobytes() == other.requests_failed[::-1].tobytes()


def test_half_is_left_after_a_half_life() -> None:
    state = Hardness(SLOTS)
    state.calls[:], state.requests_failed[:] = 64, 32
    for _ in range(3_600 // TICK_S):
        tick(state, np.array([1, 3]), 3_600)
    assert state.calls.tolist() == pytest.approx([64, 32, 64, 32, 64])
    assert state.requests_failed.tolist() == pytest.approx([32, 16, 32, 16, 32])


def wilson(k: int, n: int) -> Fraction:
    """The lower bound, from whole numbers."""
    z = Fraction("1.645")
    inside = Fraction(k * (n - k), n) + z * z / 4
    root = (
        Fraction(isqrt(inside.numerator * inside.denominator * 10**60), inside.denominator) / 10**30
    )
    return (k + z * z / 2 - z * root) / (n + z * z)


@pytest.mark.parametrize(
    ("calls", "failed", "share", "hard"),
    [
        (0, 0, 0.0, False),
        (0, 0, 0.5, False),
        (1, 1, 0.5, False),  # the bound is 0.27
        (2, 2, 0.5, False),  # 0.43
        (3, 3, 0.5, True),  # 0.53
        (100, 50, 0.5, False),
        (100, 58, 0.5, False),
        (100, 59, 0.5, True),
        (10, 0, 0.0, False),
        (10_000, 5_082, 0.5, False),  # either side of the bound
        (10_000, 5_083, 0.5, True),
        (40, 39, 0.9, False),
        (40, 40, 0.9, True),
    ],
)
def test_an_edge_is_hard_where_the_lower_bound_says_so(
    calls: int, failed: int, share: float, hard: bool
) -> None:
    state = Hardness(SLOTS)
    state.calls[2], state.requests_failed[2] = calls, failed
    assert is_hard(state, np.array([0, 2]), share).tolist() == [False, hard]
    shares = np.array([share, share])
    assert is_hard(state, np.array([0, 2]), shares).tolist() == [False, hard]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 1), st.integers(0, 1_000))
def test_the_bound_is_wilsons(calls: int, part: float, per_mille: int) -> None:
    failed = round(calls * part)
    bound = wilson(failed, calls)
    share = per_mille / 1_000
    if abs(bound - Fraction(share)) < Fraction(1, 10**9):
        return
    state = Hardness(1)
    state.calls[0], state.requests_failed[0] = calls, failed
    assert is_hard(state, np.array([0]), share).tolist() == [bound > share]
    assert abs(lower_bound(state, np.array([0]))[0] - bound) < 1e-12


def test_a_call_inherits_nothing_and_windows_count_it_as_before() -> None:
    plain = [(0, START + i, TIMEOUT, 2) for i in range(4)]
    bits = [0, HAS_PARENT, HAS_PARENT | PARENT_FAILED, 0]
    known = [(s, b, c | bit, n) for (s, b, c, n), bit in zip(plain, bits, strict=True)]
    both = []
    for rows in (plain, known):
        windows = Windows(SLOTS)
        windows.advance(START + 5)
        windows.merge(merged(rows), START + 5)
        quantile = windows.sketches.quantile_bins(
            np.arange(SLOTS), 950, which=kernel.WINDOW, failed_too=True
        )
        both.append((windows.window.tolist(), windows.long.tolist(), quantile.tolist()))
    assert both[0] == both[1]
    inherited = slice(kernel.INHERITED_BY_OUTCOME, kernel.INHERITED_BY_OUTCOME + kernel.OUTCOMES)
    assert not windows.window[:, inherited].any()


def test_a_request_still_inherits() -> None:
    windows = Windows(SLOTS)
    windows.advance(START + 5)
    windows.merge(merged([(0, START, TIMEOUT | INHERITED | HAS_CALLS, 2)]), START + 5)
    assert windows.window[0, kernel.INHERITED_BY_OUTCOME + TIMEOUT] == 128


def test_every_code_survives_the_merge() -> None:
    rows = [(3, START, code, 1) for code in range(CODES_COUNT)]
    found = merged(rows)
    assert sorted(found.code.tolist()) == list(range(CODES_COUNT))
    assert set(found.slot.tolist()) == {3}
    assert set(found.age.tolist()) == {4}
