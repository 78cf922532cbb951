"""Operators' overrides and events, as an evaluator obeys and shows them."""

from itertools import pairwise

import pytest

from tests.goldens.incidents import BASE_MS
from tests.in_force.driving import BASE, Asked, override, push, run
from tidegate.schemas.control import LatchReset, OverrideClear, Relearn

PAY, EDGE, WEB = "service:pay", "edge:web->pay", "service:web"


def clear(scope: str) -> OverrideClear:
    return OverrideClear(by="bob", reason="over", asked_ms=0, scope=scope)


def latch(scope: str, action: str) -> LatchReset:
    return LatchReset(by="bob", reason="mended", asked_ms=0, scope=scope, action=action)  # type: ignore[arg-type] # names of actions


def test_an_override_is_published_at_its_boundary_and_ends_by_itself() -> None:
    found = run([Asked(override(WEB, "open", until_s=60), 30, 32)])
    assert found.at(WEB, 31).level == "closed"
    during = found.at(WEB, 32)
    assert (during.boundary, during.level, during.mode) == (BASE + 64, "open", "enforce")
    assert during.actions.admit_ratio == 0.0
    assert during.override is not None
    assert (during.override.by, during.override.reason) == ("ada", "drill")
    assert during.override.until_ms == BASE_MS + 60_000
    assert during.reason.startswith("override open by ada until ")
    assert "drill; else closed: score 1.00" in during.reason
    ended = found.at(WEB, 60)
    assert (ended.boundary, ended.level, ended.mode) == (BASE + 120, "closed", "observe")
    assert ended.override is None


def test_an_overridden_scope_is_published_again_within_its_turn() -> None:
    found = run([Asked(override(WEB, "open", until_s=120), 20, 22)])
    seconds = [s for s, level, _ in found.of(WEB) if level == "open"]
    assert len(seconds) >= 4
    assert max(b - a for a, b in pairwise(seconds)) <= 30


def test_a_closed_override_lets_pass_what_the_score_would_turn_away() -> None:
    found = run([Asked(override(PAY, "closed", until_s=120), 70, 72)])
    assert "degraded" in " ".join(level for _, level, _ in run().of(PAY))
    assert {found.at(PAY, s).level for s in (80, 90, 100, 119)} == {"closed"}
    assert found.at(PAY, 90).actions.admit_ratio == 1.0
    assert "; else " in found.at(PAY, 90).reason
    assert found.at(PAY, 90).score is not None


def test_levels_beneath_an_override_go_on_as_without_it() -> None:
    found, undisturbed = run([Asked(override(PAY, "closed", until_s=90), 70, 72)]), run()
    for second in (92, 95, 120, 199):
        assert found.at(PAY, second).level == undisturbed.at(PAY, second).level, second


def test_an_override_is_cleared_by_its_scope() -> None:
    found = run([Asked(override(WEB, "open", until_s=120), 30, 32), Asked(clear(WEB), 40, 42)])
    assert found.at(WEB, 41.5).level == "open"
    assert found.at(WEB, 42).level == "closed"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", {PAY, EDGE, WEB}),
        ("service:*", {PAY, WEB}),
        ("edge:web->*", {EDGE}),
        ("edge:*->pay", {EDGE}),
        ("service:p?y", {PAY}),
        ("service:nobody", set()),
    ],
)
def test_a_pattern_is_for_all_scopes_that_match(pattern: str, expected: set[str]) -> None:
    found = run([Asked(override(pattern, "degraded_2", until_s=50), 30, 32)])
    scopes = {d.scope for d in found.decisions if d.override is not None}
    assert scopes & {PAY, EDGE, WEB} == expected


def test_of_several_overrides_the_newest_wins_and_then_the_one_before() -> None:
    found = run(
        [
            Asked(override("*", "degraded_2", until_s=120), 30, 32),
            Asked(override(WEB, "open", until_s=50), 40, 42),
        ]
    )
    assert [found.at(WEB, s).level for s in (41, 43, 51)] == ["degraded_2", "open", "degraded_2"]
    assert found.at(PAY, 43).level == "degraded_2"


def test_what_is_relearned_has_no_target_until_it_is_known_again() -> None:
    record = Relearn(by="ada", reason="new hardware", asked_ms=0, scope=EDGE)
    asked = [Asked(record, 110, 112), Asked(override("*", "closed", until_s=115), 112, 113)]
    found = run(asked)
    assert run([asked[1]]).at(EDGE, 113).signals.target_ms is not None
    assert found.at(EDGE, 113).signals.target_ms is None
    assert found.at(WEB, 113).signals.target_ms is not None


def test_a_latched_breaker_is_locked_and_reset_by_operators_only() -> None:
    latched = push("name: latched\nsettings: {protocol: latched}\n")
    found = run(
        [
            Asked(latched, 20, 22),
            Asked(latch(WEB, "lock"), 30, 32),
            Asked(latch(WEB, "reset"), 50, 52),
        ]
    )
    assert [found.at(WEB, s).level for s in (31, 33, 51, 52)] == [
        "closed",
        "locked",
        "locked",
        "closed",
    ]
    assert found.at(WEB, 33).protocol == "latched"
    assert found.at(WEB, 33).actions.admit_ratio == 0.0
    assert not found.at(WEB, 33).actions.heartbeats_pass


def test_a_graded_key_cannot_be_locked_and_the_refusal_is_counted() -> None:
    found = run([Asked(latch(WEB, "lock"), 30, 32)])
    assert found.at(WEB, 40).level == "closed"
    assert found.counters["refused_events"] == 1
