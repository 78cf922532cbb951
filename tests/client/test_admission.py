"""Admission as a pure function: who passes, in which order, how many."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.admission import AdmissionState, Priority, Request, admit, share_of
from tidegate.client.testing import decision

VECTORS = Path(__file__).parent / "vectors.json"
SCOPE = "edge:web->payments"


def passed(keys: list[str], **actions: Any) -> set[str]:
    """Keys that pass, each asked once."""
    state, said = AdmissionState(), decision(SCOPE, "degraded_2", **actions)
    return {k for k in keys if admit(said, Request(trace_id=k), state, 0).passes}


KEYS = [f"trace-{i}" for i in range(20_000)]


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_what_passes_at_a_small_ratio_passes_at_a_larger_one(one: float, other: float) -> None:
    small, large = sorted((one, other))
    keys = KEYS[:300]
    assert {k for k in keys if share_of(k) < small} <= {k for k in keys if share_of(k) < large}


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.7, 0.95])
def test_as_many_pass_as_the_ratio_says(ratio: float) -> None:
    assert len(passed(KEYS, admit_ratio=ratio)) / len(KEYS) == pytest.approx(ratio, abs=0.012)


def test_one_trace_is_treated_alike_at_every_hop() -> None:
    assert passed(KEYS[:500], admit_ratio=0.5) == passed(KEYS[:500], admit_ratio=0.5)


def test_a_session_is_treated_alike_whatever_its_trace() -> None:
    state, said = AdmissionState(), decision(SCOPE, "degraded_2", admit_ratio=0.5)
    verdicts = {
        admit(said, Request(trace_id=f"t{i}", session="ann"), state, 0).passes for i in range(50)
    }
    assert len(verdicts) == 1


def test_lower_priorities_are_shed_first_and_the_whole_ratio_holds() -> None:
    state, said = AdmissionState(), decision(SCOPE, "degraded_2", admit_ratio=0.7)
    asked = dict.fromkeys(Priority, 0)
    through = dict.fromkeys(Priority, 0)
    for i, key in enumerate(KEYS):
        priority = (
            Priority.CRITICAL,
            Priority.CRITICAL,
            Priority.SHEDDABLE,
            Priority.SHEDDABLE_PLUS,
        )[i % 4]
        verdict = admit(said, Request(trace_id=key, priority=priority), state, 0)
        if i > 1_000:
            asked[priority] += 1
            through[priority] += verdict.passes
    assert through[Priority.SHEDDABLE] == 0
    assert through[Priority.CRITICAL] == asked[Priority.CRITICAL]
    assert through[Priority.SHEDDABLE_PLUS] / asked[Priority.SHEDDABLE_PLUS] == pytest.approx(
        0.8, abs=0.03
    )


def test_a_deadline_is_given_where_one_can_be_set_else_a_tenth_is_shed() -> None:
    said = decision(SCOPE, "degraded_1", slow_over_ms=250, shed_if_no_deadline=0.1)
    state = AdmissionState()
    verdicts = [admit(said, Request(trace_id=k), state, 0) for k in KEYS[:1_000]]
    assert {v.deadline_ms for v in verdicts} == {250}
    assert all(v.passes for v in verdicts)
    shed = [admit(said, Request(trace_id=k, can_set_deadline=False), state, 0).passes for k in KEYS]
    assert shed.count(False) / len(KEYS) == pytest.approx(0.1, abs=0.01)


def test_the_fleet_shares_its_probes() -> None:
    said = decision(
        SCOPE, "half_open", admit_ratio=0.0, probe_per_s=1.0, probe_ratio=0.0, callers=4
    )
    probes = 0
    for client in range(4):
        state = AdmissionState()
        for ms in range(0, 60_000, 20):
            verdict = admit(said, Request(trace_id=f"{client}/{ms}"), state, ms + 1)
            probes += verdict.passes
            assert verdict.effect == ("probe" if verdict.passes else "shed")
    assert 60 <= probes <= 64 + 4


def test_a_large_service_is_probed_by_its_share() -> None:
    said = decision(
        SCOPE, "half_open", admit_ratio=0.0, probe_per_s=1.0, probe_ratio=0.05, callers=1
    )
    state = AdmissionState()
    through = sum(admit(said, Request(trace_id=k), state, i).passes for i, k in enumerate(KEYS))
    assert through / len(KEYS) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(
    ("level", "heartbeats", "passes"), [("forced_open", True, True), ("open", False, False)]
)
def test_heartbeats_pass_where_the_decision_says_so(
    level: str, heartbeats: bool, passes: bool
) -> None:
    said = decision(SCOPE, level, admit_ratio=0.0, heartbeats_pass=heartbeats, retry_ratio_max=0.0)  # type: ignore[arg-type]
    verdict = admit(said, Request(trace_id="a", is_heartbeat=True), AdmissionState(), 0)
    assert verdict.passes is passes
    assert verdict.effect == ("probe" if passes else "shed")
    assert not admit(said, Request(trace_id="a"), AdmissionState(), 0).passes


def test_retries_stay_within_their_budget() -> None:
    said, state = decision(SCOPE, "closed", retry_ratio_max=0.1), AdmissionState()
    retries = 0
    for key in KEYS[:5_000]:
        assert admit(said, Request(trace_id=key), state, 0).passes
        retries += admit(said, Request(trace_id=key, is_retry=True), state, 0).passes
    assert retries == pytest.approx(500, abs=12)


def test_no_retry_passes_from_degraded_2_on() -> None:
    said, state = (
        decision(SCOPE, "degraded_2", admit_ratio=1.0, retry_ratio_max=0.0),
        AdmissionState(),
    )
    assert admit(said, Request(trace_id="a"), state, 0).passes
    assert admit(said, Request(trace_id="a", is_retry=True), state, 0).rule == "retry_budget"


def test_advice_is_reported_and_not_obeyed() -> None:
    said = decision(SCOPE, "open", enforce=False, admit_ratio=0.0, retry_after_s=7)
    verdict = admit(said, Request(trace_id="a"), AdmissionState(), 0)
    assert verdict.passes
    assert not verdict.would_pass
    assert verdict.effect is None


def test_a_refusal_says_why() -> None:
    said = decision(SCOPE, "open", boundary=9, admit_ratio=0.0, retry_after_s=7, fallback=True)
    verdict = admit(said, Request(trace_id="a"), AdmissionState(), 0)
    assert (verdict.passes, verdict.effect, verdict.fallback) == (False, "shed", True)
    assert (verdict.rule, verdict.policy, verdict.boundary) == ("open", "test@0", 9)
    assert verdict.retry_after_s == 7
    assert verdict.reason == said.reason


@given(st.floats(0, 1))
def test_a_client_that_falls_back_lets_that_share_pass(relaxed: float) -> None:
    said, state = decision(SCOPE, "open", admit_ratio=0.0, retry_ratio_max=0.0), AdmissionState()
    keys = KEYS[:2_000]
    through = sum(admit(said, Request(trace_id=k), state, 0, relaxed=relaxed).passes for k in keys)
    assert through / len(keys) == pytest.approx(relaxed, abs=0.04)


def test_the_hash_is_the_one_that_other_languages_have() -> None:
    rows = json.loads(VECTORS.read_text())
    assert len(rows) >= 5
    for row in rows:
        digest = hashlib.sha256(row["key"].encode()).digest()
        assert share_of(row["key"]) == row["share"]
        assert (int.from_bytes(digest[:8], "big") >> 11) == row["bits"]
