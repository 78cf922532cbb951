"""The way back to closed: a better score that has stood, longer after each relapse, or a minute of silence."""

from dataclasses import replace

from tests.level.drive import Driver
from tests.level.graded.traffic import AWFUL, BAD, GOOD, POOR, SILENT
from tidegate.schemas.level import Level


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


def test_an_idle_key_closes() -> None:
    driver = Driver()
    driver.hold(2, POOR)
    driver.state.since_boundary[1] = driver.oracles[0].since = driver.boundary + 10**6
    assert driver.step(replace(SILENT, idle=7_201)) == ["idle_out"]
    assert driver.now() == Level.CLOSED


def test_a_ceiling_below_it_makes_it_no_better() -> None:
    driver = Driver()
    driver.hold(2, POOR)
    assert driver.hold(200, replace(POOR, worst=Level.CLOSED)) == []
    assert driver.hold(11, replace(GOOD, worst=Level.CLOSED)) == ["better_stood"]
