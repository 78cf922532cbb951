"""Whole runs: thirty keys worsen together, with odd telemetry and without."""

import pytest

from tests.blast_radius.driving import BASE, Run
from tests.blast_radius.scenes import MANY, WELL, scene

SCOPES = [f"service:s{n:02d}" for n in range(MANY)]
HELD = "levels are held: telemetry is suspect"


def changes(run: Run) -> list[float]:
    """When any level left `closed`, or moved later."""
    return sorted(s for scope in SCOPES for s, _ in run.levels(scope, since=60) if s > 60)


def halves(run: Run, name: str) -> list[float]:
    return [s for s, event, _ in run.events("telemetry") if event == name]


@pytest.mark.parametrize(
    ("name", "begins"), [("suspect", WELL), ("unheard", WELL + 30)], ids=["late", "missing"]
)
def test_levels_are_held_for_thirty_seconds(name: str, begins: float) -> None:
    run = scene(name)
    (since,) = halves(run, "start")
    assert begins < since <= begins + 3
    assert min(changes(run)) == since + 30
    worst = {run.at(scope, since + 40).level for scope in SCOPES}
    assert worst == {"open", "degraded_1"}  # half of them: no more is turned away together


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("suspect", "spans late, skewed or undecodable"),
        ("unheard", "1 source partitions are missing"),
    ],
)
def test_an_alert_says_that_telemetry_is_suspect_until_it_is_over(name: str, why: str) -> None:
    run = scene(name)
    start, resolve = (a for a in run.alerts if a.rule == "telemetry")
    assert (start.event, start.tier, start.scope) == ("start", "P1", "partition:0")
    assert start.title == "P1 partition:0: telemetry is suspect, levels are held"
    assert why in start.reason
    assert "of 30 keys worsen within 5 s" in start.reason
    assert (resolve.event, resolve.id) == ("resolve", start.id)
    assert resolve.boundary - start.boundary == (30 + 60) * 2


def test_it_does_not_begin_again_while_telemetry_stays_odd() -> None:
    run = scene("suspect")
    assert len(halves(run, "start")) == 1
    assert run.counters["late"] > 1_000


def test_it_ends_as_soon_as_telemetry_is_in_order() -> None:
    run = scene("suspect_for_a_moment")
    (since,) = halves(run, "start")
    in_order = WELL + 10 + 5 - 0.5  # the last late span is seen for 5 s
    assert since < WELL + 10
    assert min(changes(run)) == in_order + 0.5


def test_getting_better_is_never_held() -> None:
    run = scene("well_while_suspect")
    (since,) = halves(run, "start")
    for scope in SCOPES[:8]:
        later = [(s, level) for s, level in run.levels(scope, since=since) if s > since]
        assert [level for _, level in later] == ["degraded_1", "closed"]
        assert all(s < since + 30 for s, _ in later)
    for scope in SCOPES[8:]:
        assert run.at(scope, since + 28).level == "closed"


def test_decisions_say_that_levels_are_held() -> None:
    run = scene("well_while_suspect")
    (since,) = halves(run, "start")
    assert {HELD in d.reason for d in run.decisions if d.boundary > BASE + since * 2} == {True}
    assert not any(HELD in d.reason for d in run.decisions if d.boundary < BASE + since * 2)


def test_in_good_telemetry_levels_move_at_once() -> None:
    run = scene("all_fail")
    assert run.events("telemetry") == []
    assert min(changes(run)) <= WELL + 3
    assert not any(HELD in d.reason for d in run.decisions)
