"""Probes, the ramp, and what sends a key back."""

from dataclasses import replace

from tests.level.drive import Driver
from tests.level.graded.traffic import AWFUL, PROBES_BAD, PROBES_GOOD, SILENT, half_open
from tidegate.schemas.level import Level


def test_good_probes_lead_up_the_ramp_to_closed() -> None:
    driver = half_open()
    assert driver.hold(3, PROBES_GOOD) == ["probes_good"]
    assert driver.state.ramp_step[1] == 1
    guards = driver.hold(18, PROBES_GOOD)
    assert guards == ["ramp_held", "ramp_held", "ramp_done"]
    assert driver.now() == Level.CLOSED


def test_a_step_of_the_ramp_lasts_longer_by_the_age_of_the_evidence() -> None:
    driver = half_open()
    old = replace(PROBES_GOOD, age=10)
    driver.hold(3, old)
    assert driver.hold(15, old) == []
    assert driver.step(old) == ["ramp_held"]


def test_a_thin_ramp_goes_on_after_a_minute() -> None:
    driver = half_open()
    driver.hold(3, PROBES_GOOD)
    assert driver.hold(119, SILENT) == []
    assert driver.step(SILENT) == ["ramp_held"]


def test_bad_probes_open_again_with_the_sleep_doubled_up_to_five_minutes() -> None:
    driver = half_open()
    sleeps = []
    for _ in range(6):
        assert driver.hold(3, PROBES_BAD) == ["probes_bad"]
        assert driver.now() == Level.OPEN
        sleeps.append(int(driver.state.sleep[1]))
        while driver.now() != Level.HALF_OPEN:
            driver.step(SILENT)
    assert sleeps == [120, 240, 480, 600, 600, 600]
    assert driver.state.attempt[1] == 7


def test_bad_requests_on_the_ramp_open_again() -> None:
    driver = half_open()
    driver.hold(3, PROBES_GOOD)
    assert driver.hold(3, PROBES_BAD) == ["probes_bad"]
    assert driver.state.ramp_step[1] == 0


def test_undecided_probes_end_in_degraded_2() -> None:
    driver = half_open()
    mixed = replace(PROBES_GOOD, probes=10, probes_bad=2)
    assert driver.hold(9, mixed) == []
    assert driver.step(mixed) == ["undecided"]
    assert driver.now() == Level.DEGRADED_2


def test_without_answers_it_stays_half_open() -> None:
    driver = half_open()
    assert driver.hold(500, SILENT) == []
    assert driver.now() == Level.HALF_OPEN


def test_sleeps_are_spread_over_scopes_once_they_are_doubled() -> None:
    driver = Driver(keys=8)
    for _ in range(14):
        driver.step(*[AWFUL] * 8)
    while driver.now() != Level.HALF_OPEN:
        driver.step(*[SILENT] * 8)
    assert len(set(driver.state.until_boundary[1:9].tolist())) == 1
    for _ in range(3):
        driver.step(*[PROBES_BAD] * 8)
    assert len(set(driver.state.until_boundary[1:9].tolist())) > 3


def test_a_ramp_whose_answers_are_mixed_neither_closes_nor_goes_on() -> None:
    driver = half_open()
    driver.hold(3, PROBES_GOOD)
    mixed = replace(SILENT, requests=5, bad=1)
    assert driver.hold(119, mixed) == []
    assert driver.state.ramp_step[1] == 1
    assert driver.step(mixed) == ["undecided"]
    assert driver.now() == Level.DEGRADED_2


def test_a_mixed_step_of_the_ramp_goes_on_once_its_answers_are_good() -> None:
    driver = half_open()
    driver.hold(3, PROBES_GOOD)
    driver.hold(10, replace(SILENT, requests=2, bad=0))
    assert driver.state.ramp_step[1] == 2
    driver.step(replace(SILENT, requests=8, bad=2))
    well = replace(SILENT, requests=1, bad=0)
    assert driver.hold(4, well) == []  # 2 bad of 20 are not less than a tenth
    assert driver.step(well) == ["ramp_held"]


def test_answers_to_calls_made_before_the_probes_do_not_judge() -> None:
    driver = half_open()
    assert driver.hold(60, replace(SILENT, requests=20, bad=20, old_requests=20)) == []
    assert driver.now() == Level.HALF_OPEN


def test_few_answers_are_no_verdict_and_end_in_degraded_2() -> None:
    driver = half_open()
    assert driver.hold(9, replace(SILENT, probes=1, probes_bad=1)) == []
    assert driver.hold(111, SILENT) == ["undecided"]
    assert driver.now() == Level.DEGRADED_2


def test_a_hundred_undecided_requests_on_the_ramp_are_no_hundred_probes() -> None:
    driver = half_open()
    driver.hold(3, PROBES_GOOD)
    assert driver.hold(20, replace(SILENT, requests=50, bad=10)) == []
    assert driver.now() == Level.HALF_OPEN


def test_an_idle_key_ends_closed() -> None:
    driver = half_open()
    assert driver.step(replace(SILENT, idle=7_201)) == ["idle_out"]
    assert driver.now() == Level.CLOSED


def test_neither_the_panic_guard_nor_a_ceiling_keeps_bad_probes_from_opening() -> None:
    driver = half_open()
    held = replace(PROBES_BAD, may_worsen=False, worst=Level.DEGRADED_1)
    assert driver.hold(3, held) == ["probes_bad"]


def test_evidence_is_cleared_where_it_closes_and_nowhere_else() -> None:
    driver = half_open()
    driver.hold(3, PROBES_BAD)
    driver.until(Level.HALF_OPEN, SILENT)
    driver.until(Level.CLOSED, PROBES_GOOD)
    driver.hold(14, AWFUL)
    assert driver.cleared == ["ramp_done"]
