"""What was turned away over 24 hours, against all that was ever added, over sixty hours."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.rules.shed_log import HOURS, ShedLog
from tidegate.schemas.decision import Shed

HOUR = 7_200
START = 3_500_000_000 // HOUR * HOUR
SLOTS = 3


@dataclass(frozen=True)
class Added:
    """Requests merged at a boundary, and what of them passes."""

    at: int
    slot: int
    offered: int
    admit_ratio: float


def run(
    events: Sequence[Added], *, first: int, last: int, asked: Sequence[int]
) -> list[list[Shed | None]]:
    """Boundary by boundary; what is shown by slot, at the boundaries asked for."""
    log, shown = ShedLog(SLOTS), []
    at: dict[int, list[Added]] = defaultdict(list)
    for event in events:
        at[event.at].append(event)
    for boundary in range(first, last + 1):
        log.turn(boundary)
        for event in at.get(boundary, ()):
            log.add(
                np.array([event.slot]),
                np.array([float(event.offered)]),
                np.array([event.admit_ratio]),
                boundary,
            )
        if boundary in asked:
            shown.append([log.shown(slot) for slot in range(SLOTS)])
    return shown


def recomputed(events: Sequence[Added], slot: int, boundary: int) -> Shed | None:
    """The hour of the boundary and the 23 before it."""
    oldest = (boundary // HOUR - HOURS + 1) * HOUR
    mine = [e for e in events if e.slot == slot and oldest <= e.at <= boundary]
    offered = sum(e.offered for e in mine)
    away = sum(e.offered * (1 - Fraction(e.admit_ratio)) for e in mine)
    return Shed(requests=offered, turned_away=int(away + Fraction(1, 2))) if offered else None


OFFSETS = st.integers(0, 60 * HOUR)
NEAR_HOURS = st.builds(
    lambda hour, off: max(0, hour * HOUR + off), st.integers(0, 60), st.integers(-1, 1)
)
EVENTS = st.builds(
    Added,
    at=(OFFSETS | NEAR_HOURS).map(lambda off: START + off),
    slot=st.integers(0, SLOTS - 1),
    offered=st.integers(1, 100_000),
    admit_ratio=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)


@settings(max_examples=20, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=60), st.lists(OFFSETS | NEAR_HOURS, max_size=30))
def test_what_is_shown_is_the_sum_of_the_last_day(events: list[Added], asked: list[int]) -> None:
    times = sorted({START + off for off in asked} | {e.at for e in events})
    shown = run(events, first=START, last=START + 60 * HOUR + 1, asked=times)
    for boundary, by_slot in zip(times, shown, strict=True):
        for slot, found in enumerate(by_slot):
            assert found == recomputed(events, slot, boundary), (boundary - START, slot)


@pytest.mark.parametrize(
    ("added", "shown", "is_there"),
    [
        (0, 24 * HOUR - 1, True),
        (0, 24 * HOUR, False),  # its hour came round again
        (HOUR - 1, 24 * HOUR - 1, True),
        (HOUR, 24 * HOUR, True),
        (HOUR, 25 * HOUR - 1, True),
        (HOUR, 25 * HOUR, False),
    ],
)
def test_an_hour_leaves_when_it_comes_round_again(added: int, shown: int, is_there: bool) -> None:
    event = Added(START + added, 1, 10, 0.0)
    found = run([event], first=START, last=START + shown, asked=[START + shown])[-1]
    assert found == [None, Shed(requests=10, turned_away=10) if is_there else None, None]


def test_parts_of_requests_add_up_to_whole_ones() -> None:
    log = ShedLog(1)
    for boundary in range(START, START + 1000):
        log.turn(boundary)
        log.add(np.zeros(1, np.int64), np.array([0.25]), np.array([0.7]), boundary)
    assert log.shown(0) == Shed(requests=250, turned_away=75)


def test_rows_grow_and_are_forgotten() -> None:
    log = ShedLog(1)
    log.grow(3)
    log.add(np.array([0, 2]), np.array([5.0, 7.0]), np.array([0.0, 0.0]), START)
    log.reset(np.array([0]))
    assert [log.shown(slot) for slot in range(3)] == [None, None, Shed(requests=7, turned_away=7)]
