"""Worse only if it stands; better one level at a time."""

from dataclasses import replace

from tests.level.drive import Driver
from tests.level.graded.traffic import AWFUL, BAD, GOOD, POOR, SILENT
from tidegate.schemas.level import Level


def test_open_needs_the_score_to_stand_for_three_seconds() -> None:
    driver = Driver()
    driver.hold(6, AWFUL)
    assert driver.now() == Level.DEGRADED_2
    # The confirmation of degraded_2 began a new count.
    driver.hold(6, AWFUL)
    assert driver.now() == Level.OPEN


def test_open_needs_ten_requests_in_that_time() -> None:
    driver = Driver()
    thin = replace(AWFUL, requests=1, bad=0, qps=6.0)
    driver.hold(9, thin)
    assert driver.now() == Level.DEGRADED_2


def test_five_bad_in_a_row_open_a_slow_key_at_once() -> None:
    driver = Driver()
    rare = replace(AWFUL, requests=1, bad=1, qps=0.1)
    driver.hold(20, replace(rare, requests=0, bad=0))
    assert driver.step(rare) == ["worse_confirmed"]
    assert driver.now() == Level.DEGRADED_2
    driver.hold(4, rare)
    assert driver.now() == Level.DEGRADED_2
    driver.step(rare)
    assert driver.now() == Level.OPEN


def test_better_comes_one_level_at_a_time_after_five_seconds() -> None:
    driver = Driver()
    driver.hold(2, BAD)
    assert driver.hold(10, GOOD) == []
    assert driver.step(GOOD) == ["better_stood"]
    assert driver.now() == Level.DEGRADED_1
    assert driver.hold(10, GOOD) == []
    assert driver.step(GOOD) == ["better_stood"]
    assert driver.now() == Level.CLOSED


def test_a_degraded_key_without_requests_steps_one_better_a_minute() -> None:
    driver = Driver()
    driver.hold(2, BAD)
    moved = []
    for i in range(1, 260):
        idle = replace(BAD, requests=0, bad=0, fast_requests=0, idle=i)
        if driver.step(idle)[0]:
            moved.append(i)
    assert moved == [120, 240]
    assert driver.now() == Level.CLOSED


def test_old_failures_that_arrive_late_do_not_open() -> None:
    driver = Driver()
    driver.hold(2, AWFUL)
    assert driver.now() == Level.DEGRADED_2
    assert driver.hold(30, replace(AWFUL, old_requests=20)) == []
    assert driver.hold(6, AWFUL) == []
    assert driver.step(AWFUL) == ["worse_confirmed"]
    assert driver.now() == Level.OPEN


def test_old_failures_make_no_bad_run_of_a_slow_key() -> None:
    driver = Driver()
    rare = replace(AWFUL, requests=1, bad=1, qps=0.1)
    driver.step(rare)
    assert driver.now() == Level.DEGRADED_2
    assert driver.hold(20, replace(rare, old_requests=1)) == []


def test_silence_holds_the_level_and_the_time_that_a_better_score_has_stood() -> None:
    driver = Driver()
    driver.hold(2, BAD)
    assert driver.step(GOOD) == [None]
    assert driver.hold(40, replace(GOOD, requests=0, fast_requests=0)) == []
    assert driver.step(GOOD) == ["better_stood"]


def test_getting_better_is_never_held() -> None:
    driver = Driver()
    driver.hold(2, BAD)
    assert driver.hold(22, replace(GOOD, may_worsen=False)) == ["better_stood", "better_stood"]
    assert driver.now() == Level.CLOSED


def test_a_ceiling_below_it_neither_mends_nor_worsens_it() -> None:
    driver = Driver()
    driver.hold(2, BAD)
    under = replace(AWFUL, worst=Level.DEGRADED_1)
    assert driver.hold(200, under) == []
    assert driver.now() == Level.DEGRADED_2
    assert driver.hold(11, replace(POOR, worst=Level.DEGRADED_1)) == ["better_stood"]


def test_the_panic_guard_holds_what_would_open() -> None:
    driver = Driver()
    driver.hold(2, BAD)
    assert driver.hold(60, replace(AWFUL, may_worsen=False)) == []
    assert driver.step(AWFUL) == ["worse_confirmed"]
    assert driver.now() == Level.OPEN


def test_an_idle_key_closes_in_one_step() -> None:
    driver = Driver()
    driver.hold(2, BAD)
    driver.state.since_boundary[1] = driver.oracles[0].since = driver.boundary + 10**6
    assert driver.step(replace(SILENT, idle=7_201)) == ["idle_out"]
    assert driver.now() == Level.CLOSED
