"""Worse after confirmation, several levels at once; the deadline is frozen when it leaves closed."""

from dataclasses import replace

import pytest

from tests.level.drive import Driver
from tests.level.graded.traffic import (
    AWFUL,
    BAD,
    DEAD,
    GOOD,
    POOR,
    PROBES_BAD,
    PROBES_GOOD,
    SILENT,
    half_open,
)
from tests.level.protocol import Seen
from tidegate.rules.level import OperatorEvent
from tidegate.schemas.level import Level


def test_one_bad_boundary_moves_nothing_two_in_a_row_do() -> None:
    driver = Driver()
    assert driver.hold(5, GOOD) == []
    assert driver.step(BAD) == [None]
    assert driver.step(GOOD) == [None]
    assert driver.step(BAD) == [None]
    assert driver.step(BAD) == ["worse_confirmed"]
    assert driver.now() == Level.DEGRADED_2


def test_boundaries_without_requests_neither_confirm_nor_interrupt() -> None:
    driver = Driver()
    silent = replace(BAD, requests=0, bad=0)
    assert driver.step(BAD) == [None]
    assert driver.hold(4, silent) == []
    assert driver.step(BAD) == ["worse_confirmed"]


def test_under_one_request_a_second_one_boundary_is_enough() -> None:
    driver = Driver()
    assert driver.step(replace(BAD, requests=1, bad=1, qps=0.1)) == ["worse_confirmed"]


def test_what_both_boundaries_agree_on_is_taken() -> None:
    driver = Driver()
    driver.step(BAD)
    driver.step(POOR)
    assert driver.now() == Level.DEGRADED_1


def test_a_blip_of_a_second_does_not_open() -> None:
    driver = Driver()
    driver.hold(2, AWFUL)
    assert driver.now() == Level.DEGRADED_2
    driver.hold(2, GOOD)
    assert driver.now() == Level.DEGRADED_2


@pytest.mark.parametrize(
    ("p90", "target", "frozen"), [(400, 100, 400), (80, 100, 100), (-1, -1, -1)]
)
def test_the_deadline_is_frozen_when_the_level_leaves_closed(
    p90: int, target: int, frozen: int
) -> None:
    driver = Driver()
    driver.hold(2, replace(POOR, p90_ms=p90, target_ms=target))
    assert driver.state.slow_over_ms[1] == frozen
    driver.hold(3, replace(BAD, p90_ms=9_000, target_ms=5_000))
    assert driver.state.slow_over_ms[1] == frozen
    driver.hold(40, GOOD)
    assert driver.state.slow_over_ms[1] == -1


def test_five_minutes_closed_forget_the_doubled_sleep() -> None:
    driver = half_open()
    driver.hold(3, PROBES_BAD)
    while driver.now() != Level.HALF_OPEN:
        driver.step(SILENT)
    driver.hold(30, PROBES_GOOD)
    assert driver.now() == Level.CLOSED
    assert driver.state.sleep[1] == 120
    driver.hold(600, replace(PROBES_GOOD, wanted=Level.CLOSED, score=1000))
    assert driver.state.sleep[1] == 0


@pytest.mark.parametrize("wanted", [AWFUL, BAD, POOR])
def test_the_panic_guard_holds_but_confirmation_goes_on(wanted: Seen) -> None:
    driver = Driver()
    assert driver.hold(12, replace(wanted, may_worsen=False)) == []
    assert driver.step(wanted) == ["worse_confirmed"]
    assert driver.now() == wanted.wanted


def test_a_run_that_was_interrupted_while_held_begins_anew() -> None:
    driver = Driver()
    driver.hold(5, replace(BAD, may_worsen=False))
    driver.step(replace(GOOD, may_worsen=False))
    assert driver.step(BAD) == [None]
    assert driver.step(BAD) == ["worse_confirmed"]


@pytest.mark.parametrize(
    ("worst", "reached"),
    [
        (Level.CLOSED, Level.CLOSED),
        (Level.DEGRADED_1, Level.DEGRADED_1),
        (Level.DEGRADED_2, Level.DEGRADED_2),
        (Level.HALF_OPEN, Level.DEGRADED_2),
        (Level.COOLING, Level.DEGRADED_2),
        (Level.OPEN, Level.OPEN),
        (Level.FORCED_OPEN, Level.FORCED_OPEN),
    ],
)
def test_a_score_makes_it_no_worse_than_the_ceiling(worst: Level, reached: Level) -> None:
    driver = Driver()
    driver.hold(40, replace(DEAD, worst=worst))
    assert driver.now() == reached


def test_once_the_ceiling_is_lifted_worse_is_confirmed_anew() -> None:
    driver = Driver()
    driver.hold(40, replace(BAD, worst=Level.CLOSED))
    assert driver.step(BAD) == [None]
    assert driver.step(BAD) == ["worse_confirmed"]


def test_a_score_cannot_lock() -> None:
    driver = Driver()
    driver.hold(40, replace(DEAD, wanted=Level.LOCKED))
    assert driver.now() == Level.DEGRADED_2
    assert driver.refused_count == 32  # from the boundary on where open would have been confirmed


@pytest.mark.parametrize("operator", [OperatorEvent.LOCK, OperatorEvent.RESET])
def test_locks_and_resets_are_refused_and_counted(operator: OperatorEvent) -> None:
    driver = Driver()
    driver.hold(5, GOOD)
    assert driver.step(replace(GOOD, operator=operator)) == [None]
    assert driver.refused_count == 1
    assert driver.step(replace(BAD, operator=operator)) == [None]
    assert driver.refused_count == 2
