"""Whole runs: whose fault it is when a service and its dependency are bad together."""

import pytest

from tests.blast_radius.driving import Run
from tests.blast_radius.scenes import WELL, scene
from tidegate.schemas.level import LEVEL_NAMES

WEB, EDGE = "service:web", "edge:web->pay"


def severities(run: Run, scope: str, since: float, until: float) -> set[str]:
    return {name for second, name in run.levels(scope, since=since) if second <= until}


def first(run: Run, scope: str, at_least: str) -> float:
    worse = LEVEL_NAMES[LEVEL_NAMES.index(at_least) :]
    return next(second for second, name in run.levels(scope) if name in worse)


@pytest.mark.parametrize("name", ["dead_dependency", "slow_dependency"])
def test_the_edge_acts_and_its_caller_stays_at_most_degraded_1(name: str) -> None:
    run = scene(name)
    assert run.at(EDGE, WELL + 40).level == "open"
    assert severities(run, WEB, 0, WELL + 40) == {"closed", "degraded_1"}
    told = run.at(WEB, WELL + 40)
    assert told.level == "degraded_1"
    assert "held at degraded_1: edge:web->pay explains 100% of it" in told.reason
    assert told.signals.evidence == "sharp"


@pytest.mark.parametrize("name", ["dead_dependency", "slow_dependency"])
def test_what_a_caller_does_itself_opens_it_later(name: str) -> None:
    run = scene(name)
    opened = first(run, WEB, "open")
    assert WELL + 40 < opened < WELL + 40 + 35  # slow requests take seconds to be seen
    assert "held at degraded_1" not in run.at(WEB, opened).reason


def test_a_caller_that_fails_with_its_dependency_waits_until_the_edge_has_acted() -> None:
    run = scene("both_at_once")
    opened = first(run, EDGE, "open")
    followed = first(run, WEB, "degraded_2")
    # The edge's level of then, `open`, has been in force for 15 s.
    assert opened + 15 <= followed <= opened + 16
    assert "edge:web->pay explains" in run.at(WEB, followed - 0.5).reason
    assert first(run, WEB, "open") <= followed + 4


def test_a_caller_that_fails_by_itself_is_held_by_nobody() -> None:
    run = scene("own_failure")
    assert run.at(EDGE).level == "closed"
    assert first(run, WEB, "open") <= WELL + 8
    assert all("held at" not in d.reason for d in run.decisions)
