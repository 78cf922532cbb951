"""Failures in a row, or too many in the window; a score, a ceiling and the panic guard open nothing."""

from dataclasses import replace

import pytest

from tests.level.drive import LATCHED, Driver
from tests.level.latched.traffic import (
    FAILED,
    GOOD,
    LOCK,
    MIXED,
    PROBE_GOOD,
    RESET,
    SILENT,
    closed,
    cooling,
    half_open,
)
from tests.level.protocol import Seen
from tidegate.schemas.level import Level


def test_five_buckets_in_a_row_with_nothing_but_failures_half_open() -> None:
    driver = closed()
    assert driver.hold(4, FAILED) == []
    assert driver.step(FAILED) == ["failures_in_row"]
    assert driver.now() == Level.HALF_OPEN


@pytest.mark.parametrize("requests", [1, 3, 10_000])
def test_how_many_failures_a_bucket_holds_does_not_matter(requests: int) -> None:
    driver = closed()
    bucket = replace(FAILED, requests=requests, bad=requests)
    assert driver.hold(4, bucket) == []
    assert driver.step(bucket) == ["failures_in_row"]


def test_one_good_request_starts_the_row_anew() -> None:
    driver = closed()
    driver.hold(4, FAILED)
    driver.step(replace(FAILED, bad=19))
    assert driver.hold(4, FAILED) == []
    assert driver.step(FAILED) == ["failures_in_row"]


def test_silence_neither_adds_to_the_row_nor_breaks_it() -> None:
    driver = closed()
    driver.hold(4, FAILED)
    assert driver.hold(300, SILENT) == []
    assert driver.step(FAILED) == ["failures_in_row"]


def test_an_error_ratio_above_half_over_the_window_half_opens() -> None:
    driver = closed()
    assert driver.step(MIXED) == ["error_ratio_high"]
    assert driver.now() == Level.HALF_OPEN


@pytest.mark.parametrize(
    "seen",
    [
        replace(MIXED, window_error_ratio=0.5),
        replace(MIXED, window_requests=9.9),
        replace(MIXED, bad=0),
        replace(MIXED, requests=0, bad=0),
    ],
    ids=["half itself", "under ten requests", "no failure was merged", "nothing was merged"],
)
def test_these_error_ratios_open_nothing(seen: Seen) -> None:
    assert closed().hold(100, seen) == []


def test_ten_requests_are_enough_for_a_ratio() -> None:
    assert closed().step(replace(MIXED, window_requests=10.0)) == ["error_ratio_high"]


def test_after_a_recovery_the_window_must_have_begun_since() -> None:
    driver = half_open()
    assert driver.step(PROBE_GOOD) == ["answer_good"]
    assert driver.hold(59, MIXED) == []
    assert driver.step(MIXED) == ["error_ratio_high"]


def test_after_a_recovery_five_failed_buckets_need_not_wait_for_the_window() -> None:
    driver = half_open()
    driver.step(PROBE_GOOD)
    assert driver.hold(5, FAILED) == ["failures_in_row"]


def test_failures_from_before_the_recovery_that_arrive_late_do_not_count() -> None:
    driver = half_open()
    driver.step(PROBE_GOOD)
    assert driver.hold(30, replace(FAILED, old_requests=20)) == []
    assert driver.hold(5, replace(FAILED, old_requests=19)) == ["failures_in_row"]


@pytest.mark.parametrize("wanted", list(Level)[:-1])
def test_a_score_moves_nothing(wanted: Level) -> None:
    driver = closed()
    assert driver.hold(200, replace(GOOD, wanted=wanted, score=0, bad=10)) == []
    assert driver.refused_count == 0


def test_whatever_but_an_operator_asks_to_lock_is_refused_and_counted() -> None:
    driver = closed()
    assert driver.hold(3, replace(GOOD, wanted=Level.LOCKED)) == []
    assert driver.refused_count == 3


def test_an_operator_locks_it() -> None:
    driver = closed()
    assert driver.step(LOCK) == ["operator_lock"]
    assert driver.now() == Level.LOCKED
    assert driver.refused_count == 0


def test_an_operator_is_heard_on_a_key_that_nothing_else_stirs() -> None:
    driver = Driver(3, LATCHED)
    for _ in range(3):
        driver.step(GOOD, GOOD, GOOD)
    assert driver.step(GOOD, replace(GOOD, operator=LOCK.operator), GOOD) == [
        None,
        "operator_lock",
        None,
    ]


def test_a_reset_of_what_is_not_locked_is_refused_and_counted() -> None:
    driver = closed()
    assert driver.step(RESET) == [None]
    assert driver.refused_count == 1


@pytest.mark.parametrize(
    ("seen", "guard"), [(FAILED, "failures_in_row"), (MIXED, "error_ratio_high")]
)
def test_the_panic_guard_holds_while_the_row_goes_on(seen: Seen, guard: str) -> None:
    driver = closed()
    assert driver.hold(30, replace(seen, may_worsen=False)) == []
    assert driver.step(seen) == [guard]


@pytest.mark.parametrize("seen", [FAILED, MIXED])
@pytest.mark.parametrize("worst", [Level.CLOSED, Level.DEGRADED_1, Level.DEGRADED_2])
def test_a_ceiling_below_half_open_holds_it_closed(seen: Seen, worst: Level) -> None:
    assert closed().hold(60, replace(seen, worst=worst)) == []


def test_a_ceiling_of_half_open_does_not() -> None:
    assert closed().hold(5, replace(FAILED, worst=Level.HALF_OPEN)) == ["failures_in_row"]


def test_five_minutes_closed_forget_how_often_it_opened() -> None:
    driver = cooling()
    driver.until(Level.CLOSED, PROBE_GOOD)
    assert driver.hold(599, GOOD) == []
    assert (driver.state.attempt[1], driver.state.sleep[1]) == (1, 60)
    driver.step(GOOD)
    assert (driver.state.attempt[1], driver.state.sleep[1]) == (0, 0)
