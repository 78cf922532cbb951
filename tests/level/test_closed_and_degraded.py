"""Worse after confirmation, several levels at once; better one level at a time, after it has stood."""

from dataclasses import replace

import pytest

from tests.level.drive import Driver
from tests.level.protocol import Seen
from tidegate.schemas.level import Level

GOOD = Seen(wanted=Level.CLOSED, score=1000, requests=20, fast_requests=100, qps=40.0)
POOR = Seen(wanted=Level.DEGRADED_1, score=700, requests=20, bad=3, fast_requests=100, qps=40.0)
BAD = Seen(wanted=Level.DEGRADED_2, score=500, requests=20, bad=8, fast_requests=100, qps=40.0)
AWFUL = Seen(wanted=Level.OPEN, score=300, requests=20, bad=16, fast_requests=100, qps=40.0)


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


def test_a_relapse_within_a_minute_doubles_the_wait_up_to_five_minutes() -> None:
    driver = Driver()
    waits = []
    for _ in range(8):
        driver.hold(2, POOR)
        assert driver.now() == Level.DEGRADED_1
        n = 0
        while driver.now() != Level.CLOSED:
            driver.step(GOOD)
            n += 1
        waits.append(n - 1)
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]
    driver.hold(600, GOOD)
    driver.hold(2, POOR)
    assert driver.hold(11, GOOD) == ["better_stood"]


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


def test_a_key_all_of_whose_calls_are_cut_has_no_requests() -> None:
    driver = Driver()
    driver.hold(2, POOR)
    cut = replace(POOR, requests=0, bad=0, idle=0)  # its spans arrive, as own effects
    assert driver.hold(119, cut) == []
    assert driver.step(cut) == ["idle_minute"]
    assert driver.now() == Level.CLOSED


def test_one_relapse_doubles_once_however_deep_it_goes() -> None:
    driver = Driver()
    driver.hold(2, POOR)
    driver.hold(11, GOOD)
    assert driver.now() == Level.CLOSED
    driver.hold(2, POOR)
    driver.hold(2, BAD)
    driver.hold(8, AWFUL)
    assert driver.now() == Level.OPEN
    assert driver.state.hysteresis[1] == 20
