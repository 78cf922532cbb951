"""Locked by an operator only, left by an operator's reset only."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.level.drive import Driver
from tests.level.latched.traffic import (
    FAILED,
    LOCK,
    PROBE_BAD,
    PROBE_GOOD,
    RESET,
    SILENT,
    closed,
    cooling,
    half_open,
    locked,
    opened,
)
from tests.level.protocol import Seen
from tests.level.strategies import seen
from tidegate.rules.level import OperatorEvent
from tidegate.schemas.level import Level


@settings(max_examples=40, deadline=None)
@given(st.lists(seen(), min_size=1, max_size=60))
def test_nothing_but_a_reset_leaves_it(sequence: list[Seen]) -> None:
    driver = locked()
    for x in sequence:
        driver.step(replace(x, operator=OperatorEvent.NONE))
    assert driver.now() == Level.LOCKED
    assert driver.step(RESET) == ["operator_reset"]
    assert driver.now() == Level.CLOSED
    assert driver.cleared == ["operator_reset"]


@pytest.mark.parametrize("idle", [7_201, 10**9])
def test_a_locked_key_stays_however_long_it_is_idle(idle: int) -> None:
    assert locked().hold(10, replace(SILENT, idle=idle)) == []


@pytest.mark.parametrize("stands", [closed, half_open, opened, cooling])
def test_a_reset_undoes_a_lock_from_every_level_and_all_that_was_remembered(
    stands: Callable[[], Driver],
) -> None:
    driver = stands()
    driver.step(LOCK)
    driver.step(RESET)
    assert driver.now() == Level.CLOSED
    row = {name: column[1] for name, column in driver.state.columns().items()}
    assert (row["attempt"], row["sleep"], row["until_boundary"]) == (0, 0, -1)
    driver.until(Level.HALF_OPEN, FAILED)
    driver.until(Level.OPEN, PROBE_BAD)
    assert driver.state.until_boundary[1] - driver.boundary == 60


def test_what_is_locked_cannot_be_locked_again() -> None:
    driver = locked()
    assert driver.step(LOCK) == [None]
    assert driver.refused_count == 1


def test_a_locked_key_whose_score_is_held_asks_for_nothing() -> None:
    driver = locked()
    assert driver.hold(5, replace(SILENT, wanted=Level.LOCKED, score=-1)) == []
    assert driver.refused_count == 0


def test_a_reset_begins_anew_what_counts() -> None:
    driver = locked()
    driver.step(RESET)
    assert driver.hold(20, replace(FAILED, old_requests=20)) == []
    assert driver.hold(5, FAILED) == ["failures_in_row"]
    assert driver.step(PROBE_GOOD) == ["answer_good"]
