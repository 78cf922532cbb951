"""The pure rules of leases: the fallback's ramp and its jitter."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.lease import (
    FALLBACKS,
    JITTER_MS,
    RAMP_MS,
    FallbackLevel,
    PartitionLease,
    blend,
    is_late,
    jitter_ms,
    ramp,
)
from tidegate.schemas.decision import Actions

ACTIONS = st.builds(
    Actions,
    admit_ratio=st.floats(0, 1),
    retry_ratio_max=st.floats(0, 1),
    shed_if_no_deadline=st.none() | st.floats(0, 1),
    slow_over_ms=st.none() | st.integers(1, 1_000),
)
LEVELS: st.SearchStrategy[FallbackLevel] = st.sampled_from(sorted(FALLBACKS))


@pytest.mark.parametrize(
    ("over_ms", "begins_ms", "expected"),
    [
        (0, 0, 0.0),
        (1, 0, 1 / 30_000),
        (15_000, 0, 0.5),
        (30_000, 0, 1.0),
        (99_000, 0, 1.0),
        (4_000, 4_000, 0.0),
        (3_000, 4_000, 0.0),
        (19_000, 4_000, 0.5),
        (34_000, 4_000, 1.0),
    ],
)
def test_the_ramp_takes_thirty_seconds_from_its_begin(
    over_ms: int, begins_ms: int, expected: float
) -> None:
    assert ramp(over_ms, begins_ms) == expected


def test_a_fleet_begins_its_ramps_spread_over_ten_seconds() -> None:
    begins = [jitter_ms(f"client-{i}", 3) for i in range(2_000)]
    assert all(0 <= ms < JITTER_MS for ms in begins)
    in_second = [sum(ms // 1_000 == s for ms in begins) for s in range(10)]
    assert min(in_second) > 150
    assert max(in_second) < 250
    assert jitter_ms("client-7", 3) == jitter_ms("client-7", 3) != jitter_ms("client-7", 4)


def test_a_fleet_never_admits_much_more_from_one_second_to_the_next() -> None:
    begins = [jitter_ms(f"client-{i}", 0) for i in range(500)]
    shares = [
        sum(ramp(ms, begin) for begin in begins) / 500
        for ms in range(0, RAMP_MS + JITTER_MS + 1_000, 1_000)
    ]
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert max(b - a for a, b in pairwise(shares)) < 0.036


@given(ACTIONS, LEVELS, st.floats(0, 1), st.floats(0, 1))
def test_the_way_back_is_monotone_and_ends_at_the_fallback(
    actions: Actions, level: FallbackLevel, one: float, other: float
) -> None:
    fallback, (early, late) = FALLBACKS[level], sorted((one, other))
    assert blend(actions, fallback, 0.0) is actions
    assert blend(actions, fallback, 1.0) is fallback
    first, second = blend(actions, fallback, early), blend(actions, fallback, late)
    for name in ("admit_ratio", "retry_ratio_max"):
        rises = getattr(fallback, name) >= getattr(actions, name)
        low, high = (first, second) if rises else (second, first)
        assert getattr(low, name) <= getattr(high, name) + 1e-12
        assert -1e-12 <= getattr(first, name) <= 1 + 1e-12


@pytest.mark.parametrize(
    ("kafka_ms", "expected"), [(100_000, False), (145_000, False), (145_001, True)]
)
def test_late_is_what_was_appended_more_than_a_lease_after_its_window(
    kafka_ms: int, expected: bool
) -> None:
    assert is_late(kafka_ms=kafka_ms, window_end_ms=100_000, lease_ms=45_000) is expected


@given(st.lists(st.integers(1, 500_000), min_size=1))
def test_a_sign_of_life_never_shortens_a_lease(heard: list[int]) -> None:
    lease, until_ms = PartitionLease(), 0
    for heard_ms in heard:
        lease.extend(heard_ms, 45_000, is_live=True)
        assert lease.until_ms >= until_ms
        until_ms = lease.until_ms
    assert until_ms == max(heard) + 45_000
