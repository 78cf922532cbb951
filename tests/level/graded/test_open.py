"""Sleep, and what keeps it shut."""

from dataclasses import replace

from tests.level.graded.traffic import AWFUL, DEAD, SILENT, opened, sleep_on
from tidegate.schemas.level import Level


def test_an_open_breaker_is_probed_after_thirty_seconds() -> None:
    driver = opened()
    slept = driver.boundary - int(driver.state.since_boundary[1])
    assert driver.hold(59 - slept, SILENT) == []
    assert driver.step(SILENT) == ["slept"]
    assert driver.now() == Level.HALF_OPEN


def test_traffic_that_is_still_bad_keeps_it_open() -> None:
    driver = opened()
    assert driver.hold(200, AWFUL) == []
    assert driver.step(replace(AWFUL, wanted=Level.DEGRADED_1, score=601)) == ["slept"]


def test_an_open_breaker_may_become_worse_but_never_better_by_its_score() -> None:
    driver = opened()
    assert driver.hold(20, replace(AWFUL, wanted=Level.CLOSED, score=1000))[:1] == []
    driver = opened()
    assert driver.hold(8, DEAD) == ["worse_confirmed"]
    assert driver.now() == Level.FORCED_OPEN


def test_an_idle_key_ends_closed() -> None:
    driver = opened()
    sleep_on(driver)
    assert driver.step(replace(SILENT, idle=7_200)) == [None]
    assert driver.step(replace(SILENT, idle=7_201)) == ["idle_out"]
    assert driver.now() == Level.CLOSED


def test_a_ceiling_neither_opens_nor_closes_it() -> None:
    driver = opened()
    assert driver.hold(20, replace(DEAD, worst=Level.DEGRADED_1)) == []
    assert driver.now() == Level.OPEN
    driver.until(Level.HALF_OPEN, replace(SILENT, worst=Level.DEGRADED_1, may_worsen=False))


def test_the_panic_guard_holds_forced_open() -> None:
    driver = opened()
    assert driver.hold(20, replace(DEAD, may_worsen=False)) == []
    assert driver.step(DEAD) == ["worse_confirmed"]
    assert driver.now() == Level.FORCED_OPEN
