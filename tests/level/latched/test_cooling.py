"""The health check: probes in a row, none bad."""

from dataclasses import replace

import pytest

from tests.level.latched.traffic import (
    FAILED,
    GOOD,
    LOCK,
    PROBE_BAD,
    PROBE_GOOD,
    RESET,
    SILENT,
    cooling,
    half_open,
)
from tidegate.schemas.level import Level


def test_ten_good_probes_close() -> None:
    driver = cooling()
    assert driver.hold(9, PROBE_GOOD) == []
    assert driver.step(PROBE_GOOD) == ["health_check_good"]
    assert driver.now() == Level.CLOSED


def test_they_may_come_all_at_once() -> None:
    assert cooling().step(replace(PROBE_GOOD, probes=10)) == ["health_check_good"]


def test_silence_between_them_changes_nothing() -> None:
    driver = cooling()
    driver.hold(9, PROBE_GOOD)
    assert driver.hold(300, SILENT) == []
    assert driver.step(PROBE_GOOD) == ["health_check_good"]


def test_a_bad_probe_starts_the_count_anew() -> None:
    driver = cooling()
    driver.hold(9, PROBE_GOOD)
    assert driver.step(PROBE_BAD) == [None]
    assert driver.hold(9, PROBE_GOOD) == []
    assert driver.step(PROBE_GOOD) == ["health_check_good"]


def test_one_bad_probe_among_many_of_a_bucket_is_enough_for_that() -> None:
    assert cooling().hold(300, replace(PROBE_GOOD, probes=100, probes_bad=1)) == []


def test_bad_probes_keep_it_cooling_and_open_nothing() -> None:
    driver = cooling()
    assert driver.hold(500, PROBE_BAD) == []
    assert driver.now() == Level.COOLING
    assert driver.state.attempt[1] == 1


@pytest.mark.parametrize(
    ("bad", "boundaries"), [(0, 10), (10, 10), (11, None), (20, None)], ids=str
)
def test_requests_of_callers_that_do_not_obey_are_one_answer_a_boundary(
    bad: int, boundaries: int | None
) -> None:
    driver = cooling()
    seen = replace(FAILED, bad=bad)
    if boundaries is None:
        assert driver.hold(300, seen) == []
    else:
        assert driver.until(Level.CLOSED, seen) == boundaries


def test_a_failed_request_of_them_starts_the_count_anew_too() -> None:
    driver = cooling()
    driver.hold(9, PROBE_GOOD)
    driver.step(replace(FAILED, requests=1, bad=1))
    assert driver.hold(9, PROBE_GOOD) == []
    assert driver.step(PROBE_GOOD) == ["health_check_good"]


def test_calls_from_before_it_cooled_judge_nothing() -> None:
    driver = cooling()
    assert driver.hold(300, replace(GOOD, old_requests=20)) == []
    driver.hold(9, PROBE_GOOD)
    assert driver.step(replace(FAILED, old_requests=20)) == [None]
    assert driver.step(PROBE_GOOD) == ["health_check_good"]


def test_the_panic_guard_does_not_hold_a_recovery() -> None:
    held = replace(PROBE_GOOD, probes=10, may_worsen=False, worst=Level.CLOSED)
    assert cooling().step(held) == ["health_check_good"]


def test_an_operator_locks_it_even_as_it_recovers() -> None:
    driver = cooling()
    assert driver.step(replace(PROBE_GOOD, probes=10, operator=LOCK.operator)) == ["operator_lock"]
    assert driver.now() == Level.LOCKED


def test_a_reset_is_refused_and_counted() -> None:
    driver = cooling()
    assert driver.step(RESET) == [None]
    assert driver.refused_count == 1


def test_an_idle_key_ends_closed() -> None:
    driver = cooling()
    assert driver.step(replace(SILENT, idle=7_201)) == ["idle_out"]
    assert driver.now() == Level.CLOSED


def test_evidence_is_cleared_by_a_good_health_check_but_not_by_one_good_answer() -> None:
    driver = half_open()
    driver.step(PROBE_GOOD)
    driver.until(Level.HALF_OPEN, FAILED)
    driver.until(Level.OPEN, PROBE_BAD)
    driver.until(Level.COOLING, SILENT)
    assert driver.cleared == []
    driver.until(Level.CLOSED, PROBE_GOOD)
    assert driver.cleared == ["health_check_good"]
