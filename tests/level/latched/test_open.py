"""The backoff: how long, how it grows, and that nothing shortens it."""

from dataclasses import replace

import pytest

from tests.level.drive import Driver
from tests.level.latched.traffic import (
    FAILED,
    GOOD,
    LOCK,
    PROBE_BAD,
    PROBE_GOOD,
    RESET,
    SILENT,
    opened,
)
from tests.level.protocol import Seen
from tidegate.rules.actions import backoff_of
from tidegate.schemas.decision import Backoff
from tidegate.schemas.level import Level


def again(driver: Driver) -> None:
    """From open through a good health check to open."""
    driver.until(Level.COOLING, SILENT)
    driver.until(Level.CLOSED, PROBE_GOOD)
    driver.until(Level.HALF_OPEN, FAILED)
    driver.until(Level.OPEN, PROBE_BAD)


@pytest.mark.parametrize("seen", [SILENT, GOOD, FAILED, PROBE_GOOD, PROBE_BAD])
def test_after_thirty_seconds_it_cools_whatever_was_seen(seen: Seen) -> None:
    driver = opened()
    assert driver.hold(59, seen) == []
    assert driver.step(seen) == ["backoff_over"]
    assert driver.now() == Level.COOLING


def test_each_reopening_doubles_the_backoff_up_to_five_minutes() -> None:
    driver = opened()
    backoffs = []
    for _ in range(6):
        backoffs.append(int(driver.state.until_boundary[1]) - driver.boundary)
        again(driver)
    assert backoffs == [60, 120, 240, 480, 600, 600]


def test_a_reopening_long_after_the_last_one_is_the_first_again() -> None:
    driver = opened()
    driver.until(Level.COOLING, SILENT)
    driver.until(Level.CLOSED, PROBE_GOOD)
    driver.hold(600, GOOD)
    driver.until(Level.HALF_OPEN, FAILED)
    driver.until(Level.OPEN, PROBE_BAD)
    assert driver.state.until_boundary[1] - driver.boundary == 60
    assert driver.state.attempt[1] == 1


def test_doubled_backoffs_are_longer_by_up_to_a_tenth_and_spread_over_scopes() -> None:
    driver = opened(keys=8)
    first = driver.state.until_boundary[1:9] - driver.boundary
    assert set(first.tolist()) == {60}
    again(driver)
    second = driver.state.until_boundary[1:9] - driver.boundary
    assert second.min() >= 120
    assert second.max() <= 132
    assert len(set(second.tolist())) > 3


def test_attempt_and_end_of_the_backoff_travel_in_the_decision() -> None:
    driver = opened()
    again(driver)
    told = backoff_of(
        driver.now(), int(driver.state.attempt[1]), int(driver.state.until_boundary[1])
    )
    assert told == Backoff(attempt=2, until_ms=(driver.boundary + 120) * 500)


def test_an_operator_locks_it() -> None:
    driver = opened()
    assert driver.step(LOCK) == ["operator_lock"]
    assert driver.now() == Level.LOCKED
    assert driver.state.until_boundary[1] == -1


def test_a_reset_is_refused_and_counted() -> None:
    driver = opened()
    assert driver.step(RESET) == [None]
    assert driver.refused_count == 1


def test_an_idle_key_ends_closed() -> None:
    driver = opened()
    assert driver.step(replace(SILENT, idle=7_201)) == ["idle_out"]
    assert driver.now() == Level.CLOSED
