"""What decisions turn away together: the worst first, and no more than `max_shed_share` of what is offered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tidegate.rules.blast_radius import Ceilings, shed_share
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.level import Level

RULES = builtin_policy("default").file.blast_radius
TURNS_AWAY = {
    Level.CLOSED: 0.0,
    Level.DEGRADED_1: 0.0,
    Level.DEGRADED_2: 0.25,
    Level.HALF_OPEN: 0.75,
    Level.OPEN: 1.0,
    Level.FORCED_OPEN: 1.0,
}
"""Binary fractions: sums are exact."""


@dataclass(frozen=True)
class Key:
    """One key, in the order of scopes."""

    wanted: Level = Level.CLOSED
    level: Level = Level.CLOSED
    score: int = 500
    offered: int = 10
    ceiling: Level = Level.LOCKED


def held(
    keys: Sequence[Key], *, share: float = 0.5, keys_min: int = RULES.shed_keys_min
) -> list[int]:
    """Rows that it holds at degraded_1."""
    found = Ceilings(np.array([key.ceiling for key in keys], np.uint8))
    before = found.worst.copy()
    told = shed_share(
        found,
        wanted=np.array([key.wanted for key in keys], np.uint8),
        level=np.array([key.level for key in keys], np.uint8),
        scores=np.array([key.score for key in keys], np.int32),
        offered=np.array([key.offered for key in keys], np.float64),
        turned_now=np.array([TURNS_AWAY[key.level] for key in keys]),
        turned_wanted=np.array([TURNS_AWAY[key.wanted] for key in keys]),
        r=replace(RULES, max_shed_share=share, shed_keys_min=keys_min),
    )
    assert (found.worst <= before).all()
    assert told == len(found.reasons)
    return sorted(found.reasons)


OPENING, WELL = Key(Level.OPEN), Key()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([OPENING] * 10 + [WELL] * 10, []),
        ([OPENING] * 11 + [WELL] * 9, [10]),  # of equal scores the first by scope pass
        ([OPENING] * 20, list(range(10, 20))),
        ([Key(Level.DEGRADED_2)] * 20, []),  # a quarter of everything
        ([Key(Level.DEGRADED_1)] * 20, []),
        ([Key(Level.OPEN, score=s) for s in range(20, 0, -1)], list(range(10))),
        ([OPENING] * 10 + [Key(Level.OPEN, score=100)] + [WELL] * 9, [9]),
        # What is open already counts, and stays: a ceiling is no recovery.
        ([Key(Level.OPEN, Level.OPEN)] * 10 + [OPENING] * 10, list(range(10, 20))),
        ([Key(Level.OPEN, Level.OPEN)] * 20, []),
        ([Key(Level.CLOSED, Level.OPEN)] * 10 + [OPENING] * 10, list(range(10, 20))),
        # Only what it adds counts: half open ones turn three quarters away now.
        ([Key(Level.OPEN, Level.HALF_OPEN)] * 8 + [OPENING] * 12, list(range(10, 20))),
        # Where a worse one has no room, nobody after it has.
        ([Key(Level.OPEN, offered=180), *[OPENING] * 19], list(range(1, 20))),
        ([Key(Level.OPEN, offered=1_000), *[Key(Level.OPEN, score=600)] * 19], list(range(20))),
        ([Key(Level.OPEN, offered=0)] * 3 + [OPENING] * 20, [*range(13, 23)]),
        # Held by another rule: it takes no room.
        ([Key(Level.OPEN, ceiling=Level.DEGRADED_1)] * 10 + [OPENING] * 10, []),
    ],
)
def test_the_worst_scores_are_turned_away_as_far_as_there_is_room(
    keys: list[Key], expected: list[int]
) -> None:
    assert held(keys) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([OPENING] * 19, []),
        ([OPENING] * 19 + [Key(offered=0)] * 5, []),  # silent keys are none
        ([OPENING] * 19 + [WELL], list(range(10, 19))),
    ],
)
def test_of_a_few_keys_each_may_open(keys: list[Key], expected: list[int]) -> None:
    assert held(keys) == expected


def test_the_reason_names_the_limit() -> None:
    found = Ceilings(np.full(20, int(Level.LOCKED), np.uint8))
    ones = np.ones(20)
    shed_share(
        found,
        wanted=np.full(20, int(Level.OPEN), np.uint8),
        level=np.zeros(20, np.uint8),
        scores=np.zeros(20, np.int32),
        offered=ones,
        turned_now=np.zeros(20),
        turned_wanted=ones,
        r=replace(RULES, max_shed_share=0.3),
    )
    assert set(found.reasons.values()) == {
        "held at degraded_1: decisions would turn away more than 30% of all requests together"
    }
    assert len(found.reasons) == 14


# ---- what holds for all input ----

KEYS = st.builds(
    Key,
    wanted=st.sampled_from(list(TURNS_AWAY)),
    level=st.sampled_from(list(TURNS_AWAY)),
    score=st.integers(0, 5).map(lambda n: n * 100),
    offered=st.integers(0, 50),
    ceiling=st.sampled_from([Level.LOCKED, Level.LOCKED, Level.DEGRADED_1]),
)
MANY = st.lists(KEYS, min_size=5, max_size=30)
SHARES = st.sampled_from([0.0, 0.125, 0.5, 0.75, 1.0])


def asks(key: Key) -> bool:
    return key.wanted > Level.DEGRADED_1 and min(key.wanted, key.ceiling) > key.level


@given(MANY, SHARES)
def test_together_no_more_is_turned_away_than_the_share_unless_it_was_so_before(
    keys: list[Key], share: float
) -> None:
    stopped = set(held(keys, share=share, keys_min=1))
    now = sum(key.offered * TURNS_AWAY[key.level] for key in keys)
    after = now
    for row, key in enumerate(keys):
        if asks(key) and key.ceiling > Level.DEGRADED_1 and row not in stopped:
            more = TURNS_AWAY[key.wanted] - TURNS_AWAY[key.level]
            after += key.offered * max(0.0, more)
    assert after <= max(now, share * sum(key.offered for key in keys))


@given(MANY, SHARES)
def test_nobody_passes_while_a_worse_one_is_held(keys: list[Key], share: float) -> None:
    stopped = held(keys, share=share, keys_min=1)
    assert all(asks(keys[row]) for row in stopped)
    passed = [
        (key.score, row)
        for row, key in enumerate(keys)
        if asks(key) and key.ceiling > Level.DEGRADED_1 and row not in stopped
    ]
    if passed and stopped:
        assert max(passed) < min((keys[row].score, row) for row in stopped)


@given(MANY, SHARES)
def test_the_first_that_is_held_had_no_room(keys: list[Key], share: float) -> None:
    stopped = held(keys, share=share, keys_min=1)
    if not stopped:
        return
    first = min(stopped, key=lambda row: (keys[row].score, row))
    taken = sum(key.offered * TURNS_AWAY[key.level] for key in keys)
    for row, key in enumerate(keys):
        counts = row == first or (row not in stopped and key.ceiling > Level.DEGRADED_1)
        if asks(key) and counts:
            more = TURNS_AWAY[key.wanted] - TURNS_AWAY[key.level]
            taken += key.offered * max(0.0, more)
    assert taken > share * sum(key.offered for key in keys)


@given(MANY)
def test_a_share_of_one_holds_nobody(keys: list[Key]) -> None:
    assert held(keys, share=1.0, keys_min=1) == []


@given(MANY)
def test_under_the_least_number_of_keys_nobody_is_held(keys: list[Key]) -> None:
    heard = sum(key.offered > 0 for key in keys)
    assert held(keys, share=0.0, keys_min=heard + 1) == []
