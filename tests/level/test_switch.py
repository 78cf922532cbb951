"""A policy that changes a key's protocol finds it anywhere: it must not be stuck there."""

import pytest
from hypothesis import given, settings

from tests.level.drive import DEFAULT, LATCHED, Driver
from tests.level.graded.traffic import PROBES_GOOD, half_open
from tests.level.protocol import Seen
from tests.level.strategies import phases
from tidegate.rules.level import PROTOCOLS, OperatorEvent
from tidegate.rules.policy import Policy
from tidegate.schemas.level import Level

SILENT = Seen()
LOCK = Seen(operator=OperatorEvent.LOCK)
RESET = Seen(operator=OperatorEvent.RESET)


@pytest.mark.parametrize(
    ("policy", "state", "to"),
    [
        (LATCHED, Level.DEGRADED_1, Level.CLOSED),
        (LATCHED, Level.DEGRADED_2, Level.CLOSED),
        (LATCHED, Level.FORCED_OPEN, Level.OPEN),
        (DEFAULT, Level.COOLING, Level.HALF_OPEN),
        (DEFAULT, Level.LOCKED, Level.OPEN),
    ],
)
def test_a_level_that_the_new_protocol_lacks_is_left_at_once(
    policy: Policy, state: Level, to: Level
) -> None:
    driver = Driver(policy=policy)
    driver.step(SILENT)
    driver.put(state)
    assert driver.step(SILENT) == ["protocol_changed"]
    assert driver.now() == to


def test_a_locked_key_that_becomes_graded_sleeps_before_it_is_probed() -> None:
    driver = Driver(policy=DEFAULT)
    driver.step(SILENT)
    driver.put(Level.LOCKED)
    driver.step(SILENT)
    assert driver.hold(59, SILENT) == []
    assert driver.step(SILENT) == ["slept"]


def test_bad_probes_double_a_sleep_that_never_was() -> None:
    driver = Driver(policy=DEFAULT)
    driver.step(SILENT)
    driver.put(Level.COOLING)
    driver.step(SILENT)
    assert driver.step(Seen(probes=10, probes_bad=10)) == ["probes_bad"]
    assert driver.state.sleep[1] == 120


def test_a_ramp_and_a_frozen_deadline_do_not_outlive_the_switch() -> None:
    driver = half_open()
    driver.hold(3, PROBES_GOOD)
    driver.state.slow_over_ms[1] = 400
    assert driver.state.ramp_step[1] == 1
    driver.policy = LATCHED
    driver.unchecked(SILENT)
    assert driver.now() == Level.HALF_OPEN
    assert (driver.state.ramp_step[1], driver.state.slow_over_ms[1]) == (0, -1)


@pytest.mark.parametrize("state", [Level.DEGRADED_1, Level.DEGRADED_2, Level.FORCED_OPEN])
def test_a_lock_that_comes_with_the_switch_is_not_lost(state: Level) -> None:
    driver = Driver(policy=LATCHED)
    driver.step(SILENT)
    driver.put(state)
    assert driver.step(LOCK) == ["operator_lock"]
    assert driver.now() == Level.LOCKED


@pytest.mark.parametrize(("old", "new"), [(DEFAULT, LATCHED), (LATCHED, DEFAULT)])
@settings(max_examples=10, deadline=None)
@given(phases())
def test_after_any_history_a_switched_key_stands_in_its_new_protocol_and_comes_back(
    old: Policy, new: Policy, history: list[tuple[int, Seen]]
) -> None:
    driver = Driver(policy=old)
    for boundaries, seen in history:
        driver.hold(boundaries, seen)
    driver.policy = new
    driver.unchecked(SILENT)
    assert driver.now() in {t.to for t in PROTOCOLS[new.settings[0].protocol]}
    well = Seen(requests=5, probes=2, fast_requests=50)
    for _ in range(20 * 120):
        if driver.now() == Level.CLOSED:
            break
        driver.unchecked(RESET if driver.now() == Level.LOCKED else well)
    for _ in range(5 * 120):
        driver.unchecked(well)
    assert driver.now() == Level.CLOSED
    row = {name: column[1] for name, column in driver.state.columns().items()}
    assert (row["until_boundary"], row["attempt"], row["ramp_step"]) == (-1, 0, 0)
