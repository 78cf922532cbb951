"""The first answers decide: good ones close, bad ones open."""

from dataclasses import replace

import pytest

from tests.level.drive import Driver
from tests.level.latched.traffic import (
    FAILED,
    GOOD,
    LOCK,
    PROBE_BAD,
    PROBE_GOOD,
    RESET,
    SILENT,
    half_open,
)
from tests.level.protocol import Seen
from tidegate.rules.policy import load_policy
from tidegate.schemas.level import Level

TEN_ANSWERS = load_policy(
    "{name: slow, settings: {protocol: latched, latched: {half_open_requests: 10}}}", where="slow"
)


@pytest.mark.parametrize("seen", [PROBE_GOOD, GOOD])
def test_a_good_answer_closes(seen: Seen) -> None:
    driver = half_open()
    assert driver.step(seen) == ["answer_good"]
    assert driver.now() == Level.CLOSED
    assert driver.state.attempt[1] == 0


@pytest.mark.parametrize("seen", [PROBE_BAD, FAILED])
def test_a_bad_answer_opens(seen: Seen) -> None:
    driver = half_open()
    assert driver.step(seen) == ["answer_bad"]
    assert driver.now() == Level.OPEN
    assert driver.state.attempt[1] == 1


@pytest.mark.parametrize(
    ("requests", "bad", "guard"),
    [(2, 1, "answer_good"), (3, 2, "answer_bad"), (1000, 3, "answer_good")],
)
def test_of_several_answers_at_once_the_share_decides(requests: int, bad: int, guard: str) -> None:
    assert half_open().step(replace(FAILED, requests=requests, bad=bad)) == [guard]


def test_requests_and_probes_answer_together() -> None:
    assert half_open().step(replace(GOOD, requests=2, probes=3, probes_bad=3)) == ["answer_bad"]


def test_answers_to_calls_made_before_do_not_judge() -> None:
    driver = half_open()
    assert driver.hold(60, replace(FAILED, old_requests=20)) == []
    assert driver.now() == Level.HALF_OPEN


def test_without_answers_it_stays() -> None:
    assert half_open().hold(500, SILENT) == []


def test_a_policy_may_wait_for_more_answers() -> None:
    driver = Driver(policy=TEN_ANSWERS)
    driver.until(Level.HALF_OPEN, FAILED)
    assert driver.hold(4, PROBE_BAD) == []
    assert driver.hold(5, PROBE_GOOD) == []
    assert driver.step(PROBE_GOOD) == ["answer_good"]


def test_bad_answers_open_whatever_the_panic_guard_and_a_ceiling_say() -> None:
    held = replace(PROBE_BAD, may_worsen=False, worst=Level.CLOSED)
    assert half_open().step(held) == ["answer_bad"]


def test_an_operator_locks_it_before_an_answer_closes_it() -> None:
    driver = half_open()
    assert driver.step(replace(PROBE_GOOD, operator=LOCK.operator)) == ["operator_lock"]
    assert driver.now() == Level.LOCKED


def test_a_reset_is_refused_and_counted() -> None:
    driver = half_open()
    assert driver.step(RESET) == [None]
    assert driver.refused_count == 1


def test_an_idle_key_ends_closed() -> None:
    driver = half_open()
    assert driver.step(replace(SILENT, idle=7_200)) == [None]
    assert driver.step(replace(SILENT, idle=7_201)) == ["idle_out"]
    assert driver.now() == Level.CLOSED
