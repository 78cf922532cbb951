"""Whole runs in which a finding told the wrong thing, or for too short or too long."""

import pytest

from tests.blast_radius.driving import Load, Run
from tests.findings.scenes import HOLLOW_BAD, WELL
from tidegate.rules.policy import load_policy
from tidegate.schemas.control import Relearn

WEB = "service:web"


def well(text: str = "name: t\n", per_s: float = 8) -> Run:
    return Run(load_policy(text, where="t")).hold(WELL, Load("web", per_s, ms=40))


def is_hollow(run: Run, second: float | None = None) -> bool:
    return "hollow" in [finding.name for finding in run.at(WEB, second).findings]


def test_hollow_answers_do_not_teach_themselves_as_usual() -> None:
    run = well().hold(300, Load("web", 8, ms=2))
    assert is_hollow(run)
    run.hold(15, Load("web", 8, ms=40))
    assert not is_hollow(run)


def test_what_stays_quick_for_half_an_hour_is_learned_anew() -> None:
    """Somebody made it quicker: nobody is called about it again."""
    text = "name: t\nfindings: {chronic_after_s: 120}\n"
    run = well(text).hold(115, Load("web", 8, ms=2))
    assert is_hollow(run)
    run.hold(120, Load("web", 8, ms=2))
    assert not is_hollow(run)
    assert [event for _, event, _ in run.events("hollow")] == ["start", "resolve"]
    assert run.at(WEB).signals.target_ms is None or run.at(WEB).signals.target_ms == 100


def test_who_fails_openly_is_not_hollow() -> None:
    run = well().hold(40, Load("web", 8, ms=2, bad=0.95))
    assert run.events("hollow") == []
    assert not is_hollow(run)


@pytest.mark.parametrize("per_s", [1, 2, 4, 8])
def test_callers_that_obey_let_a_key_recover_that_was_taken_for_hollow(per_s: float) -> None:
    """What was hollow before the sleep judges nobody who answers after it."""
    run, opened = well(HOLLOW_BAD, per_s), False
    for half in range(600):
        asked = run.at(WEB).actions
        opened |= asked.admit_ratio == 0.0
        if opened and run.at(WEB).level == "closed":
            return
        ms, loads = (2 if half < 60 else 40), []
        if asked.admit_ratio > 0:
            loads.append(Load("web", per_s * asked.admit_ratio, ms=ms))
        if asked.probe_per_s is not None:
            loads.append(Load("web", min(per_s, asked.probe_per_s), ms=ms, effect="probe"))
        run.step(*loads)
    pytest.fail(f"{run.at(WEB).level} after five minutes: {run.levels(WEB)}")


def test_what_is_relearned_is_published_without_its_findings() -> None:
    run = well().hold(10, Load("web", 8, ms=2))
    assert is_hollow(run)
    run.ask(Relearn(by="ada", reason="new cache", asked_ms=0, scope=WEB))
    run.hold(1, Load("web", 8, ms=2))
    assert not is_hollow(run)
    assert run.at(WEB).signals.target_ms is None


def test_no_reason_depends_on_what_another_key_asks_for() -> None:
    """A chronic key that is well again is held by nothing, whoever else fails."""
    text = "name: t\nfindings: {chronic_after_s: 60}\n"

    def told(other: float) -> list[str]:
        run = Run(load_policy(text, where="t")).hold(90, Load("bad", 4, bad=1.0), Load("x", 4))
        run.hold(15, Load("bad", 4), Load("x", 4, bad=other))
        return [d.reason for d in run.decisions if d.scope == "service:bad"]

    assert told(0.0) == told(0.9)
