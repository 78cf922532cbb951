"""Every level that an operator can set, on a service and on an edge, over whatever blast radius decided."""

from functools import cache

import pytest

from tests.blast_radius.driving import BASE, Call, Load, Run
from tests.goldens.incidents import BASE_MS
from tidegate.rules.actions import with_override
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.control import OverrideClear, OverrideSet
from tidegate.schemas.level import LEVEL_NAMES, Level

SETTINGS = builtin_policy("default").settings[0]
WEB, EDGE, OTHER = "service:web", "edge:web->pay", "service:shop"
EACH_S = 4
FIRST = 115
"""By then `web` is held by its edge, and an instance of `shop` is named."""


def step(run: Run, seconds: float) -> None:
    bad = run.second >= 95
    run.hold(
        seconds,
        Load("web", 6, calls=(Call("pay", bad=0.8 if bad else 0.0),)),
        Load("shop", 12, instances=("i-1", "i-2", "i-3"), bad_instances=("i-2",) if bad else ()),
    )


@cache
def run(*, is_overridden: bool) -> Run:
    """Each level in turn for `EACH_S`, on all three; the last one is cleared, others run out."""
    made = Run()
    step(made, FIRST)
    for level in LEVEL_NAMES:
        if is_overridden:
            ends = made.second + (3600 if level == LEVEL_NAMES[-1] else EACH_S)
            for scope in (WEB, EDGE, "service:sh*"):
                made.ask(
                    OverrideSet(
                        by="ada",
                        reason="drill",
                        asked_ms=0,
                        scope=scope,
                        level=level,  # type: ignore[arg-type] # a name of the same closed set
                        until_ms=BASE_MS + round(ends * 1000),
                    )
                )
        step(made, EACH_S)
    if is_overridden:
        for scope in (WEB, EDGE, "service:sh*"):
            made.ask(OverrideClear(by="ada", reason="over", asked_ms=0, scope=scope))
    step(made, 10)
    return made


@pytest.mark.parametrize("scope", [WEB, EDGE, OTHER])
@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_the_level_that_was_set_is_published_with_its_own_actions(level: str, scope: str) -> None:
    number = LEVEL_NAMES.index(level)
    second = FIRST + number * EACH_S
    told = run(is_overridden=True).at(scope, second + EACH_S - 0.5)
    assert (told.boundary - BASE) / 2 >= second  # of this override, not of the one before
    assert (told.level, told.mode) == (level, "enforce")
    assert told.override is not None
    assert told.override.level == level
    assert told.override.scope == ("service:sh*" if scope == OTHER else scope)
    assert told.actions == with_override(Level(number), SETTINGS, 1)
    assert told.actions.eject == []
    assert told.reason.startswith(f"override {level} by ada until ")
    beneath = run(is_overridden=False).at(scope, second + EACH_S - 0.5)
    assert f": drill; else {beneath.level}: score " in told.reason


@pytest.mark.parametrize("scope", [WEB, EDGE, OTHER])
def test_beneath_it_everything_goes_on_and_is_told_when_it_ends(scope: str) -> None:
    after, undisturbed = run(is_overridden=True).at(scope), run(is_overridden=False).at(scope)
    assert after.override is None
    assert (after.level, after.mode, after.score) == (
        undisturbed.level,
        "observe",
        undisturbed.score,
    )
    assert after.actions.admit_ratio == undisturbed.actions.admit_ratio
    assert after.actions.eject == undisturbed.actions.eject
    assert after.backoff == undisturbed.backoff
    assert after.since_ms == undisturbed.since_ms


def test_what_was_held_or_named_beneath_is_so_again() -> None:
    made = run(is_overridden=True)
    assert "edge:web->pay explains" in made.at(WEB).reason
    assert made.at(OTHER).actions.eject == ["i-2"]
    assert made.at(EDGE).level == "open"


def test_scopes_that_do_not_match_are_left_alone() -> None:
    one, other = run(is_overridden=True), run(is_overridden=False)
    assert {d.scope for d in one.decisions if d.override is not None} == {WEB, EDGE, OTHER}
    assert {d.scope for d in one.decisions} == {d.scope for d in other.decisions}
