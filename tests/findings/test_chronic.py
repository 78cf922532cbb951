"""Whole runs: what has failed since ever is told apart from what fails for long, and may be called again."""

import pytest

from tests.blast_radius.driving import BASE
from tests.findings.scenes import scene
from tidegate.rules.policy import builtin_policy

AFTER_S = builtin_policy("default").file.findings.chronic_after_s
ENDS = 2_100
DEAD, HALF, EDGE, ILL = "service:dead", "service:half", "edge:web->gone", "service:ill"


def begins(scope: str) -> float:
    return next(
        (d.boundary - BASE) / 2
        for d in scene("chronic").decisions
        if d.scope == scope and d.findings
    )


@pytest.mark.parametrize("scope", [DEAD, HALF, EDGE])
def test_half_an_hour_after_evidence_began_it_is_chronic(scope: str) -> None:
    run = scene("chronic")
    first = next(d for d in run.decisions if d.scope == scope and d.findings)
    (found,) = first.findings
    assert first.signals.evidence_since_ms is not None
    assert found.since_ms - first.signals.evidence_since_ms == AFTER_S * 1000
    assert (found.name, found.since_ms) == ("chronic", first.window_end_ms)
    assert found.reason.startswith("bad for so long that it is usual")


@pytest.mark.parametrize(
    ("scope", "before"), [(DEAD, "forced_open"), (HALF, "degraded_2"), (EDGE, "forced_open")]
)
def test_it_was_worse_until_then_and_is_at_most_degraded_1_from_then_on(
    scope: str, before: str
) -> None:
    run, since = scene("chronic"), begins(scope)
    assert run.at(scope, since - 0.5).level == before
    assert [level for _, level in run.levels(scope, since=since)] == ["degraded_1", "closed"]
    told = run.at(scope, since)
    assert f"{before} -> degraded_1: it was never well: that is how it is" in told.reason
    assert told.actions.admit_ratio == 1.0
    assert run.at(scope, ENDS).level == "degraded_1"
    assert "held at degraded_1: it has been bad for long (chronic)" in run.at(scope, ENDS).reason


def test_people_are_told_once_and_when_it_is_over() -> None:
    told = scene("chronic").events("chronic")
    assert [t for t in told if t[2] == DEAD] == [
        (begins(DEAD), "start", DEAD),
        (pytest.approx(ENDS + 90, abs=40), "resolve", DEAD),
    ]
    assert {scope for _, _, scope in told} == {DEAD, HALF, EDGE}


def test_what_was_well_once_is_no_chronic_case_however_long_it_fails() -> None:
    run = scene("chronic")
    assert run.at(ILL, ENDS).level == "forced_open"
    assert not [d for d in run.decisions if d.scope == ILL and d.findings]


def test_it_ends_when_the_key_is_well_and_the_level_recovers() -> None:
    run = scene("chronic")
    for scope in (DEAD, HALF, EDGE, ILL):
        assert run.at(scope).level == "closed"
    findings = run.evaluator.state.judgement.findings
    assert findings.chronic_since[run.slot("dead")] == -1


def test_what_is_usual_was_learned_anew() -> None:
    run = scene("chronic")
    baselines = run.evaluator.state.judgement.baselines
    since = BASE + round(begins(DEAD) * 2)
    # From the boundary on which it began: until then nothing was learned of it.
    assert baselines.first_boundary[run.slot("dead")] in range(since, since + 2)
    assert run.at(DEAD, ENDS).signals.target_ms == pytest.approx(5 * 20, rel=0.1)


def test_its_caller_is_never_touched() -> None:
    assert {level for _, level in scene("chronic").levels("service:web")} == {"closed"}
