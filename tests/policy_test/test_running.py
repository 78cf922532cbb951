"""Whole cases: the same every time, open and closed loop, and a rule that breaks."""

from dataclasses import replace

import pytest

from tests.policy_test.files import WELL, one_case
from tidegate.rules.pipeline import Offline
from tidegate.schemas.decision import encode_decision
from tidegate.streams.policy_test import running
from tidegate.streams.policy_test.history import History
from tidegate.streams.policy_test.running import play, run_case

FAULT = "40rps p50=20ms p95=60ms for 20s; then errors=9/10 for 45s"


def decisions(history: History) -> list[bytes]:
    return [
        encode_decision(view.decision)
        for scope in history.scopes()
        for at_ms in history.moments
        if (view := history.view(scope, at_ms)) is not None
    ]


def test_a_case_ends_alike_every_time() -> None:
    case = one_case(
        f"traffic:\n  pay: {FAULT}\n  shop -> pay: 9rps errors=5% for 40s\n"
        "expect:\n  - at 45s: service:pay level>=open"
    )
    assert decisions(play(case)) == decisions(play(case))
    assert decisions(play(replace(case, seed=2))) != decisions(play(case))


def test_every_boundary_of_a_case_is_stepped_to_its_very_end() -> None:
    case = one_case(f"traffic:\n  pay: {WELL}\nexpect:\n  - at 90s: service:pay level=closed")
    moments = play(case).moments
    assert moments == list(range(500, 90_001, 500))


@pytest.mark.parametrize("obeys", [True, False])
def test_only_clients_that_obey_turn_requests_away(obeys: bool) -> None:
    case = one_case(
        f"obey: {str(obeys).lower()}\ntraffic:\n  shop -> pay: {FAULT}\n"
        "expect:\n  - at 20s: edge:shop->pay level>=open within 12s"
    )
    history = play(case)
    view = history.view("edge:shop->pay", 32_000)
    assert view is not None
    assert view.decision.actions.admit_ratio == 0.0
    # A policy's mode is what it was: obeying is the case's own wish.
    assert view.decision.mode == "observe"
    views = [history.view("edge:shop->pay", at_ms) for at_ms in history.moments]
    assert any(view.decision.signals.shed for view in views if view is not None) == obeys


def test_an_action_comes_between_the_records_of_its_time() -> None:
    case = one_case(
        f"traffic:\n  pay: {WELL}\noperator:\n  - at 20s: override service:pay open for 10s\n"
        "expect:\n"
        "  - at 500ms..19500ms: service:pay level=closed\n"
        "  - at 20s..29500ms: service:pay level=open and overridden\n"
        "  - at 30s..60s: service:pay level=closed\n"
    )
    result = run_case(case)
    assert result.failures == ()
    assert result.has_passed
    assert result.event_s == 60.0


def test_a_rule_that_breaks_is_the_cases_result(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Offline):
        def feed(self, records: object) -> None:  # type: ignore[override]  # it never returns
            raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr(running, "Offline", Broken)
    result = run_case(one_case(f"traffic:\n  pay: {WELL}\nexpect:\n  - never: alert"))
    assert not result.has_passed
    assert "ZeroDivisionError: nothing to divide by" in result.error
