"""What each level asks of callers, in numbers, and what a decision says about why."""

from typing import Any

import pytest

from tidegate.rules.actions import actions_of, backoff_of
from tidegate.rules.level import PROTOCOLS, SWITCHES
from tidegate.rules.policy import builtin_policy
from tidegate.rules.reason import Moved, reason_of
from tidegate.schemas.decision import Actions, Backoff, Signals
from tidegate.schemas.level import LEVEL_NAMES, Level

SETTINGS = builtin_policy("default").settings[0]


def asked(level: Level, **other: Any) -> Actions:
    given: dict[str, Any] = {
        "settings": SETTINGS,
        "ramp_step": 0,
        "slow_over_ms": -1,
        "is_slow_caused": False,
        "callers": 3,
        "remaining_boundaries": 0,
        "jitter": 0,
    }
    return actions_of(level, **(given | other))


@pytest.mark.parametrize(
    ("level", "ramp_step", "admit_ratio"),
    [
        (Level.CLOSED, 0, 1.0),
        (Level.DEGRADED_1, 0, 1.0),
        (Level.DEGRADED_2, 0, 0.7),
        (Level.HALF_OPEN, 0, 0.0),
        (Level.HALF_OPEN, 1, 0.25),
        (Level.HALF_OPEN, 2, 0.5),
        (Level.HALF_OPEN, 3, 1.0),
        (Level.COOLING, 0, 0.0),
        (Level.OPEN, 0, 0.0),
        (Level.FORCED_OPEN, 0, 0.0),
        (Level.LOCKED, 0, 0.0),
    ],
)
def test_how_much_passes(level: Level, ramp_step: int, admit_ratio: float) -> None:
    assert asked(level, ramp_step=ramp_step).admit_ratio == admit_ratio


def test_retries_are_a_tenth_until_requests_are_turned_away_then_none() -> None:
    ratios = {level.name: asked(level).retry_ratio_max for level in Level}
    assert {name for name, ratio in ratios.items() if ratio > 0} == {"CLOSED", "DEGRADED_1"}
    assert ratios["CLOSED"] == 0.1


def test_a_fallback_is_asked_for_wherever_something_is_turned_away() -> None:
    assert {level.name for level in Level if not asked(level).fallback} == {"CLOSED", "DEGRADED_1"}


def test_only_what_is_slow_gets_a_deadline_and_only_while_degraded() -> None:
    slow = {"slow_over_ms": 400, "is_slow_caused": True}
    with_deadline = {level for level in Level if asked(level, **slow).slow_over_ms is not None}
    assert with_deadline == {Level.DEGRADED_1, Level.DEGRADED_2}
    assert asked(Level.DEGRADED_1, slow_over_ms=400).slow_over_ms is None
    assert asked(Level.DEGRADED_1, is_slow_caused=True).slow_over_ms is None
    assert asked(Level.DEGRADED_1, **slow).shed_if_no_deadline == 0.1


def test_probes_are_for_the_whole_fleet_and_name_who_shares_them() -> None:
    half_open = asked(Level.HALF_OPEN)
    assert (half_open.probe_per_s, half_open.probe_ratio, half_open.callers) == (1.0, 0.05, 3)
    assert asked(Level.HALF_OPEN, ramp_step=1).probe_per_s is None
    cooling = asked(Level.COOLING)
    assert (cooling.probe_per_s, cooling.probe_ratio, cooling.callers) == (1.0, None, 3)
    probed = {level for level in Level if asked(level).probe_per_s is not None}
    assert probed == {Level.HALF_OPEN, Level.COOLING}


def test_heartbeats_pass_a_forced_breaker_and_while_it_is_probed() -> None:
    assert {level for level in Level if asked(level).heartbeats_pass} == {
        Level.FORCED_OPEN,
        Level.HALF_OPEN,
        Level.COOLING,
    }


def test_nothing_at_all_passes_a_locked_breaker() -> None:
    locked = asked(Level.LOCKED)
    assert (locked.admit_ratio, locked.probe_per_s, locked.probe_ratio) == (0.0, None, None)
    assert not locked.heartbeats_pass


def test_retry_after_covers_the_sleep_and_differs_between_scopes() -> None:
    waits = [
        asked(Level.OPEN, remaining_boundaries=59, jitter=jitter).retry_after_s
        for jitter in range(20)
    ]
    assert min(w for w in waits if w is not None) >= 30
    assert len(set(waits)) > 5
    assert asked(Level.OPEN, remaining_boundaries=-5).retry_after_s is not None


def test_a_sleep_is_told_while_it_lasts() -> None:
    assert backoff_of(Level.OPEN, 2, 7_000) == Backoff(attempt=2, until_ms=3_500_000)
    asleep = {level for level in Level if backoff_of(level, 1, 1) is not None}
    assert asleep == {Level.OPEN, Level.FORCED_OPEN}


def signals(**other: Any) -> Signals:
    given: dict[str, Any] = {
        "requests": 410,
        "window_s": 5.0,
        "error_ratio": 0.62,
        "own_error_ratio": 0.62,
        "p50_ms": 20.0,
        "p95_ms": 84.0,
        "self_p95_ms": None,
        "target_ms": 100.0,
        "qps": 412.0,
        "shed": 0,
        "evidence": "sharp",
        "evidence_since_ms": 43_384_000,
    }
    return Signals(**(given | other))


def test_a_reason_names_the_terms_and_the_rule_that_moved_the_level() -> None:
    told = reason_of(
        score=390,
        signals=signals(),
        moved=Moved("worse_confirmed", "closed", "degraded_2"),
        level="degraded_2",
    )
    assert told == (
        "score 0.39: error ratio 0.62 of 410 requests in 5 s (sharp evidence since 12:03:04), "
        "p95 84 ms, 412 qps; closed -> degraded_2: worse score confirmed"
    )


@pytest.mark.parametrize(
    ("other", "part"),
    [
        ({"p95_ms": 840.0}, "p95 840 ms over the target of 100 ms"),
        ({"p95_ms": None}, "in 5 s (sharp evidence since 12:03:04), 412 qps"),
        ({"evidence": "none", "evidence_since_ms": None}, "of 410 requests in 5 s, p95"),
        ({"shed": 17}, "412 qps, 17 shed in 30 s"),
        ({"qps": 0.1}, "0.1 qps"),
        ({"evidence_since_ms": 86_399_999 + 86_400_000 * 20_000}, "since 23:59:59"),
    ],
)
def test_a_reason_says_what_matters_and_leaves_out_what_is_not_known(
    other: dict[str, Any], part: str
) -> None:
    told = reason_of(
        score=390,
        signals=signals(**other),
        moved=None,
        level="open",
    )
    assert part in told
    assert ";" not in told


def test_an_unknown_score_is_called_so() -> None:
    told = reason_of(score=-1, signals=signals(), moved=None, level="closed")
    assert told.startswith("score unknown: ")


def test_every_transition_can_be_told() -> None:
    tables = (*PROTOCOLS.values(), *SWITCHES.values())
    for t in (t for table in tables for t in table):
        told = reason_of(
            score=500,
            signals=signals(),
            moved=Moved(t.guard, LEVEL_NAMES[t.state], LEVEL_NAMES[t.to]),
            level=LEVEL_NAMES[t.to],
        )
        assert told.endswith(t.text)
