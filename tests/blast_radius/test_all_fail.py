"""Whole runs: all keys fail together, and no more than a share of everything is turned away."""

from collections import Counter

import numpy as np
import pytest

from tests.blast_radius.driving import BASE, Load, Run
from tests.blast_radius.scenes import MANY, WELL, many, scene
from tidegate.rules.policy import load_policy
from tidegate.schemas.level import LEVEL_NAMES

SCOPES = [f"service:s{n:02d}" for n in range(MANY)]


def turned_away(run: Run, second: float) -> float:
    """Share of all requests: the services are equally busy."""
    shares = [1.0 - run.at(scope, second).actions.admit_ratio for scope in SCOPES]
    return sum(shares) / len(shares)


@pytest.mark.parametrize(("name", "share"), [("all_fail", 0.5), ("quarter_may", 0.25)])
def test_never_more_than_the_share_is_turned_away(name: str, share: float) -> None:
    run = scene(name)
    seconds = np.arange(WELL, WELL + 30, 0.5)
    found = [turned_away(run, second) for second in seconds.tolist()]
    assert max(found) <= share + 1e-9
    assert found[-1] > share - 1 / MANY  # and no less than there is room for


def test_those_that_are_held_say_why_and_the_others_open() -> None:
    run = scene("all_fail")
    told = {scope: run.at(scope, WELL + 55) for scope in SCOPES}
    assert Counter(d.level for d in told.values()) == {"open": 15, "degraded_1": 15}
    for decision in told.values():
        is_held = "held at degraded_1: decisions would turn away more than 50%" in decision.reason
        assert is_held == (decision.level == "degraded_1")


def test_of_equally_bad_ones_the_first_by_scope_open() -> None:
    run = scene("all_fail")
    opened = [scope for scope in SCOPES if run.at(scope, WELL + 55).level == "open"]
    assert opened == SCOPES[:15]


def test_worse_ones_open_before_those_that_are_less_bad() -> None:
    bad = [Load(f"s{n:02d}", bad=0.6 if n < 15 else 1.0) for n in range(MANY)]
    run = Run().hold(WELL, *many()).hold(40, *bad)
    opened = {scope for scope in SCOPES if LEVEL_NAMES.index(run.at(scope).level) >= 5}
    assert opened == set(SCOPES[15:])


def test_of_a_few_keys_all_may_open() -> None:
    few = [Load(f"s{n:02d}") for n in range(10)]
    run = Run().hold(WELL, *few).hold(20, *(Load(load.service, bad=0.9) for load in few))
    assert {run.at(scope).level for scope in SCOPES[:10]} == {"open"}


def test_all_come_back_when_they_are_well() -> None:
    run = scene("all_fail")
    assert {run.at(scope).level for scope in SCOPES} == {"closed"}


def test_what_was_turned_away_is_summed_up() -> None:
    run = scene("all_fail")
    opened, held = (run.at(scope, WELL + 58) for scope in (SCOPES[0], SCOPES[-1]))
    for decision in (opened, held):
        assert decision.shed_24h is not None
        since = next(s for s, level in run.levels(decision.scope) if level != "closed")
        offered = 4 * ((decision.boundary - BASE) / 2 - since)  # four requests a second
        assert offered <= decision.shed_24h.requests <= offered + 2
    assert opened.shed_24h is not None
    assert held.shed_24h is not None
    # Two seconds of degraded_2, then open; six seconds of degraded_2, then held at degraded_1.
    assert opened.shed_24h.requests - 8 < opened.shed_24h.turned_away < opened.shed_24h.requests
    assert held.shed_24h.turned_away == pytest.approx(0.3 * 4 * 6, abs=1)


def test_a_policy_may_permit_everything() -> None:
    policy = load_policy("name: t\nblast_radius: {max_shed_share: 1.0}\n", where="t")
    run = Run(policy).hold(WELL, *many()).hold(20, *many(MANY, bad=0.9))
    assert {run.at(scope).level for scope in SCOPES} == {"open"}
