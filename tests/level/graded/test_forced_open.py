"""The worst a score can ask for: sleeps as open does, and gets no worse."""

from dataclasses import replace

from tests.level.graded.traffic import DEAD, GOOD, SILENT, opened, sleep_on
from tidegate.rules.level import OperatorEvent
from tidegate.schemas.level import Level


def test_forced_open_sleeps_likewise() -> None:
    driver = opened(DEAD)
    assert driver.now() == Level.FORCED_OPEN
    assert driver.hold(60, SILENT) == ["slept"]


def test_nothing_makes_it_worse() -> None:
    driver = opened(DEAD)
    assert driver.hold(200, replace(DEAD, operator=OperatorEvent.LOCK)) == []
    assert driver.refused_count == 200


def test_a_better_score_alone_moves_nothing_before_the_sleep_is_over() -> None:
    driver = opened(DEAD)
    sleep_on(driver)
    assert driver.hold(200, GOOD) == []


def test_traffic_that_is_still_bad_keeps_it_shut() -> None:
    driver = opened(DEAD)
    assert driver.hold(200, DEAD) == []
    assert driver.step(replace(DEAD, wanted=Level.DEGRADED_1, score=601)) == ["slept"]


def test_an_idle_key_ends_closed() -> None:
    driver = opened(DEAD)
    sleep_on(driver)
    assert driver.step(replace(SILENT, idle=7_201)) == ["idle_out"]
    assert driver.now() == Level.CLOSED
