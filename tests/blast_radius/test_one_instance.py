"""Whole runs: one bad instance of several is named, and nobody else is turned away for it."""

import pytest

from tests.blast_radius.scenes import WELL, scene

WEB = "service:web"


def test_the_one_bad_instance_is_named_and_the_service_stays_at_most_degraded_1() -> None:
    run = scene("one_of_three")
    assert {level for _, level in run.levels(WEB)} == {"closed", "degraded_1"}
    told = run.at(WEB, WELL + 35)
    assert told.level == "degraded_1"
    assert told.actions.eject == ["i-2"]
    assert told.actions.admit_ratio == 1.0
    assert "held at degraded_1: nearly all failures come from instance i-2" in told.reason


def test_it_is_named_within_seconds_and_no_longer_once_it_is_well() -> None:
    run = scene("one_of_three")
    named = [d.boundary / 2 for d in run.decisions if d.actions.eject]
    start = run.decisions[0].boundary / 2 - 0.5
    assert named[0] - start <= WELL + 5
    assert run.at(WEB).level == "closed"
    assert run.at(WEB).actions.eject == []
    assert "instance" not in run.at(WEB).reason


@pytest.mark.parametrize("name", ["two_of_four", "the_only_one", "unnamed"])
def test_where_it_is_not_one_of_several_nobody_is_named(name: str) -> None:
    run = scene(name)
    assert all(d.actions.eject == [] for d in run.decisions)
    assert {"degraded_2", "open"} & {level for _, level in run.levels(WEB)}
