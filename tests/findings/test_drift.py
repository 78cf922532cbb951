"""Drift: what is usual lately has moved away from what is usual over a day."""

import numpy as np
import pytest

from tests.blast_radius.driving import BASE
from tests.findings.habit import TICK_S, Habit
from tests.findings.scenes import scene

HOUR = 3600 // TICK_S
WEB = "service:web"


def test_a_habit_that_grows_quickly_within_hours_drifts_and_its_target_is_held() -> None:
    habit = Habit()
    habit.hold(20 * HOUR, ms=40)
    steady = habit.target_ms
    assert not habit.is_drifting()
    assert 180 < steady < 220  # five times the P50
    for step in range(2 * HOUR):
        habit.hold(1, ms=40 * 25.0 ** (step / (2 * HOUR)))
    habit.hold(HOUR // 2, ms=1_000)
    assert habit.is_drifting()
    held = habit.target_ms
    assert held < 5 * habit.p50_ms  # what the shorter baseline alone would give
    habit.hold(6 * HOUR, ms=40)
    assert not habit.is_drifting()
    assert 180 < habit.target_ms < 260


def test_a_habit_that_doubles_in_a_day_does_not_drift() -> None:
    habit = Habit()
    habit.hold(10 * HOUR, ms=40)
    for step in range(24 * HOUR):
        habit.hold(1, ms=40 * 2.0 ** (step / (24 * HOUR)))
        assert not habit.is_drifting()
    assert 300 < habit.target_ms < 440


@pytest.mark.parametrize("ms", [0.5, 3, 15])
def test_below_the_floor_nothing_drifts(ms: float) -> None:
    habit = Habit()
    habit.hold(HOUR, ms=ms / 5)
    habit.hold(HOUR, ms=ms)
    assert not habit.is_drifting()
    assert habit.target_ms == 100


def test_a_drifting_key_is_told_and_stays_closed() -> None:
    run = scene("drift")
    assert {level for _, level in run.levels(WEB)} == {"closed"}
    (shown,) = (d for d in run.decisions if d.findings)
    assert 600 < (shown.boundary - BASE) / 2 < 1_020
    (found,) = shown.findings
    assert (found.name, found.since_ms) == ("drift", shown.window_end_ms)
    assert "has moved away from the day's: the target stays at 3 times" in found.reason
    assert run.at(WEB).findings == []


def test_a_policy_may_have_people_told_of_it() -> None:
    (start, began, scope), (end, ended, _) = scene("drift").events("drift")
    assert (began, ended, scope) == ("start", "resolve", WEB)
    assert start < end


def test_the_same_habit_is_the_same_in_any_row() -> None:
    one, other = Habit(row=0), Habit(row=3)
    for habit in (one, other):
        habit.hold(HOUR, ms=40)
        habit.hold(HOUR, ms=70)
    assert one.target_ms == other.target_ms
    for name, column in one.baselines.columns().items():
        assert np.array_equal(column[0], getattr(other.baselines, name)[3]), name
