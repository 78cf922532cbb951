"""What `adaptive` and `hollow` compare with: the usual load, and the quickest twentieth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.findings.habit import SETTINGS, TICK_S, Habit
from tidegate.rules import baseline
from tidegate.rules.baseline import Baselines
from tidegate.rules.logs import half_life_factor

QPS_TICKS = SETTINGS.qps_half_life_s // TICK_S


def known(count: int) -> Baselines:
    baselines = Baselines(count)
    baselines.p50_us[:] = 40_000
    return baselines


def ticked(baselines: Baselines, slots: list[int], qps: list[float]) -> list[float]:
    baseline.tick_qps(baselines, np.array(slots, np.int64), np.array(qps, np.float64), SETTINGS)
    return [float(x) for x in baselines.qps]


def test_the_first_load_is_taken_as_it_is_once_the_baseline_is_known() -> None:
    baselines = known(3)
    baselines.p50_us[1] = -1
    assert ticked(baselines, [0, 1], [7.0, 8.0]) == [7.0, -1.0, -1.0]


@pytest.mark.parametrize("load", [0.0, 5.0, 20.0])
def test_after_a_half_life_half_of_a_change_is_learned(load: float) -> None:
    baselines = known(1)
    ticked(baselines, [0], [10.0])
    for _ in range(QPS_TICKS):
        ticked(baselines, [0], [load])
    assert baselines.qps[0] == pytest.approx((10.0 + load) / 2)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=50),
    st.sampled_from([30, 60, 1800, 86_400]),
)
def test_the_usual_load_is_a_decayed_mean_within_what_was_seen(
    loads: list[float], half_life_s: int
) -> None:
    baselines, s = known(1), replace(SETTINGS, qps_half_life_s=half_life_s)
    expected = loads[0]
    keep = half_life_factor(half_life_s // 30)
    for number, load in enumerate(loads):
        baseline.tick_qps(baselines, np.zeros(1, np.int64), np.array([load]), s)
        expected = expected * keep + load * (1 - keep) if number else load
    assert baselines.qps[0] == pytest.approx(expected, abs=1e-6)
    assert min(loads) - 1e-6 <= baselines.qps[0] <= max(loads) + 1e-6


@given(st.permutations(range(5)))
def test_rows_are_learned_each_for_itself(order: list[int]) -> None:
    baselines, loads = known(5), [1.0, 2.0, 3.0, 4.0, 5.0]
    assert ticked(baselines, order, [loads[slot] for slot in order]) == loads


def test_the_quickest_twentieth_is_known_with_the_rest_and_not_before() -> None:
    habit = Habit()
    habit.hold(2, ms=40)
    assert habit.baselines.p05_us[0] == -1
    habit.hold(1, ms=40)  # a minute after the first
    p05, p50, p95 = (int(getattr(habit.baselines, f"p{q}_us")[0]) for q in ("05", "50", "95"))
    assert 26_000 < p05 < 33_000  # a fifth takes 32 ms; bins are 17 % wide
    assert 38_000 < p50 < 42_000
    assert 46_000 < p95 < 52_000


@pytest.mark.parametrize(("quick_share", "is_quick"), [(0.03, False), (0.2, True)])
def test_a_few_quick_answers_do_not_move_it(quick_share: float, is_quick: bool) -> None:
    habit = Habit()
    for _ in range(10):
        habit.feed(40, 1_000)
        habit.feed(1, round(1_000 * quick_share))
        habit.tick()
    assert (habit.baselines.p05_us[0] < 2_000) == is_quick


def test_quick_failures_count_a_tenth() -> None:
    habit = Habit()
    for _ in range(10):
        habit.feed(40, 1_000)
        habit.feed(1, 400, failed=True)
        habit.tick()
    assert habit.baselines.p05_us[0] > 25_000


def test_nothing_becomes_known_by_waiting() -> None:
    habit = Habit()
    habit.hold(2, ms=40)
    for _ in range(20):
        habit.feed(40, 100, is_calm=False)
        habit.tick()
    assert habit.baselines.p95_us[0] == -1


def test_what_is_not_calm_teaches_nothing() -> None:
    one, other = Habit(), Habit()
    for habit in (one, other):
        habit.hold(10, ms=40)
    before = {n: c.copy() for n, c in one.baselines.columns().items() if c.ndim == 1}
    for _ in range(20):
        one.feed(400, 1_000, is_calm=False)
        one.tick()
    for name, column in before.items():
        assert np.array_equal(column, getattr(one.baselines, name)), name
