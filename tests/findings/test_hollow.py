"""Whole runs: answers that are suddenly far too quick."""

import pytest

from tests.blast_radius.driving import BASE, Run
from tests.findings.scenes import WELL, scene

WEB = "service:web"


def names(run: Run, second: float) -> list[str]:
    return [finding.name for finding in run.at(WEB, second).findings]


@pytest.mark.parametrize("name", ["hollow", "hollow_is_bad"])
def test_a_twentieth_of_the_usual_time_is_found_within_a_fast_window(name: str) -> None:
    run = scene(name)
    first = next(d for d in run.decisions if d.findings)
    # Half of the fast window must be hollow, and a key's turn comes every 5 s.
    assert WELL + 2.5 <= (first.boundary - BASE) / 2 <= WELL + 8
    (found,) = first.findings
    assert (found.name, found.since_ms) == ("hollow", first.window_end_ms)
    assert "P50 2.42 ms, while its quickest twentieth usually takes 28.6 ms" in found.reason


@pytest.mark.parametrize("name", ["hollow", "hollow_is_bad"])
def test_an_alert_begins_with_it_and_resolves_a_minute_after_it(name: str) -> None:
    run = scene(name)
    start, resolve = (a for a in run.alerts if a.rule == "hollow")
    assert (start.event, start.tier, start.scope) == ("start", "P2", WEB)
    assert start.title == "P2 service:web: answers too quick to be true"
    assert "it may be failing without saying so" in start.reason
    over = next(d.boundary for d in run.decisions if d.boundary > start.boundary and not d.findings)
    assert resolve.event == "resolve"
    assert resolve.boundary == over + 60 * 2


def test_it_ends_when_answers_take_their_time_again() -> None:
    run = scene("hollow")
    assert names(run, WELL + 39) == ["hollow"]
    assert names(run, WELL + 40 + 8) == []


def test_by_default_no_level_moves() -> None:
    assert {level for _, level in scene("hollow").levels(WEB)} == {"closed"}


def test_a_policy_may_take_it_for_a_failure() -> None:
    run = scene("hollow_is_bad")
    levels = [level for _, level in run.levels(WEB)]
    assert levels == ["closed", "degraded_2", "forced_open", "half_open", "closed"]
    worst = run.at(WEB, WELL + 38)
    assert (worst.level, worst.score) == ("forced_open", 0.0)
    assert worst.signals.evidence == "sharp"
    assert run.at(WEB).score == 1.0


@pytest.mark.parametrize("name", ["quick_but_not_hollow", "jitter", "drift", "adaptive"])
def test_ordinary_traffic_is_never_hollow(name: str) -> None:
    run = scene(name)
    assert all(f.name != "hollow" for d in run.decisions for f in d.findings)
    assert run.events("hollow") == []
