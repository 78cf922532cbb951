"""The loop closed: callers obey the actions, and a key that is well comes back from every state."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.level.drive import DEFAULT, LATCHED, Driver
from tests.level.protocol import Seen
from tests.level.strategies import phases
from tidegate.rules.actions import actions_of
from tidegate.rules.policy import Policy
from tidegate.schemas.level import Level

MINUTES_MAX = 25
"""A sleep of 330 s, three steps of a quiet ramp, twice the longest hysteresis, and some."""


def admitted(driver: Driver) -> tuple[float, float]:
    """(share of calls that pass as requests, probes a second) under the present decision."""
    actions = actions_of(
        driver.now(),
        settings=driver.policy.settings[0],
        ramp_step=int(driver.state.ramp_step[1]),
        slow_over_ms=-1,
        is_slow_caused=False,
        callers=1,
        remaining_boundaries=0,
        jitter=0,
    )
    return actions.admit_ratio, actions.probe_per_s or 0.0


def healthy(driver: Driver, boundary: int, per_s: float) -> Seen:
    """What a boundary of good calls says, `per_s` of them offered."""
    share, probes_per_s = admitted(driver)
    passed = count(boundary, per_s * share)
    return Seen(
        wanted=Level.CLOSED if passed else driver.now(),
        score=1000 if passed else -1,
        requests=passed,
        probes=count(boundary, min(per_s, probes_per_s)),
        fast_requests=int(per_s * share * 5),
        qps=per_s,
    )


def count(boundary: int, per_s: float) -> int:
    """How many of an even stream fall into a boundary."""
    return int((boundary + 1) * per_s / 2) - int(boundary * per_s / 2)


@pytest.mark.parametrize("policy", [DEFAULT, LATCHED], ids=["graded", "latched"])
@settings(max_examples=30, deadline=None)
@given(phases(may_lock=False), st.sampled_from([0.2, 1.0, 7.0, 300.0]))
def test_a_key_that_is_well_comes_back_to_closed_from_every_state(
    policy: Policy, history: list[tuple[int, Seen]], per_s: float
) -> None:
    driver = Driver(policy=policy)
    for boundaries, seen in history:
        driver.hold(boundaries, seen)
    for boundary in range(MINUTES_MAX * 120):
        if driver.now() == Level.CLOSED:
            break
        driver.step(healthy(driver, boundary, per_s))
    assert driver.now() == Level.CLOSED


@settings(max_examples=20, deadline=None)
@given(phases(may_lock=False), st.sampled_from([1.0, 300.0]), st.integers(0, 300))
def test_a_latched_key_comes_back_where_callers_do_not_obey(
    history: list[tuple[int, Seen]], per_s: float, one_in: int
) -> None:
    driver = Driver(policy=LATCHED)
    for boundaries, seen in history:
        driver.hold(boundaries, seen)
    for boundary in range(MINUTES_MAX * 120):
        if driver.now() == Level.CLOSED:
            break
        requests = count(boundary, per_s)
        stray = min(requests, 1) if one_in and boundary % one_in == 0 else 0
        bad = stray if requests > 2 else 0
        driver.step(Seen(requests=requests, bad=bad, fast_requests=int(per_s * 5), qps=per_s))
    assert driver.now() == Level.CLOSED


def test_a_key_that_stays_bad_is_tried_less_and_less_often() -> None:
    driver = Driver()
    opened: list[int] = []
    for boundary in range(20 * 120):
        share, probes_per_s = admitted(driver)
        passed, probes = count(boundary, 20 * share), count(boundary, 2 * probes_per_s)
        before = driver.now()
        driver.step(
            Seen(
                wanted=Level.FORCED_OPEN if passed else before,
                score=0 if passed else -1,
                requests=passed,
                bad=passed,
                probes=probes,
                probes_bad=probes,
                fast_requests=int(20 * share * 5),
                qps=20.0,
            )
        )
        if driver.now() >= Level.OPEN > before:
            opened.append(boundary)
    gaps = [b - a for a, b in itertools.pairwise(opened)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= 60
    assert gaps[-1] >= 600
