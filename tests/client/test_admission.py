"""Admission as a pure function: who passes, in which order, how many."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.client.admission import (
    Priority,
    Request,
    Verdict,
    admit,
    nothing_known,
    priority_named,
    ratio_of,
    strictest,
)
from tidegate.client.hashing import position_of
from tidegate.client.state import SHARES_WINDOW_MS, AdmissionState, first_state
from tidegate.client.testing import decision
from tidegate.schemas.decision import Decision

SCOPE = "edge:web->payments"
START_MS = 1_800_000_000_000
KEYS = [f"trace-{i}" for i in range(20_000)]
REQUESTS = st.builds(
    Request,
    trace_id=st.sampled_from(KEYS[:200]) | st.just(""),
    session=st.sampled_from(["", "ann", "bob"]),
    priority=st.sampled_from(Priority),
    is_retry=st.booleans(),
    is_heartbeat=st.booleans(),
    can_set_deadline=st.booleans(),
)
RATIOS = st.floats(0, 1, allow_subnormal=False)


def run(
    said: Decision,
    requests: Iterable[Request],
    *,
    state: AdmissionState | None = None,
    at_ms: int = START_MS,
    step_ms: int = 0,
) -> list[Verdict]:
    """The verdicts on requests that come one after the other."""
    state, verdicts = state or AdmissionState(), []
    for i, request in enumerate(requests):
        verdict, state = admit(said, request, state, at_ms + i * step_ms)
        verdicts.append(verdict)
    return verdicts


def said_half_open(**actions: Any) -> Decision:
    """As the protocol publishes it, since START_MS."""
    asks = {"admit_ratio": 0.0, "retry_ratio_max": 0.0, "heartbeats_pass": True, **actions}
    return msgspec.structs.replace(decision(SCOPE, "half_open", **asks), since_ms=START_MS)


# ---- the share ----


@given(RATIOS, RATIOS, st.lists(REQUESTS, max_size=20), REQUESTS)
def test_what_passes_at_a_small_ratio_passes_at_a_larger_one_from_every_state(
    one: float, other: float, before: list[Request], request: Request
) -> None:
    small, large = sorted((one, other))
    _, state = AdmissionState(), AdmissionState()
    for earlier in before:
        _, state = admit(decision(SCOPE, "degraded_2", admit_ratio=0.5), earlier, state, START_MS)
    at_small, _ = admit(decision(SCOPE, "degraded_2", admit_ratio=small), request, state, START_MS)
    at_large, _ = admit(decision(SCOPE, "degraded_2", admit_ratio=large), request, state, START_MS)
    assert at_large.passes or not at_small.passes


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("has_key", [True, False])
def test_as_many_pass_as_the_ratio_says_with_a_key_or_without(ratio: float, has_key: bool) -> None:
    requests = [Request(trace_id=key if has_key else "") for key in KEYS]
    verdicts = run(decision(SCOPE, "degraded_2", admit_ratio=ratio), requests)
    assert sum(v.passes for v in verdicts) / len(KEYS) == pytest.approx(ratio, abs=0.01)


def test_one_trace_is_treated_alike_by_every_client() -> None:
    said = decision(SCOPE, "degraded_2", admit_ratio=0.5)
    requests = [Request(trace_id=key) for key in KEYS[:500]]
    one = run(said, requests, state=first_state("one", SCOPE))
    other = run(said, requests[::-1], state=first_state("other", SCOPE))[::-1]
    assert [v.passes for v in one] == [v.passes for v in other]
    assert 0.4 < sum(v.passes for v in one) / 500 < 0.6


def test_a_session_is_treated_alike_whatever_its_trace() -> None:
    said = decision(SCOPE, "degraded_2", admit_ratio=0.5)
    verdicts = run(said, [Request(trace_id=f"t{i}", session="ann") for i in range(50)])
    assert {v.passes for v in verdicts} == {position_of("ann") < 0.5}


# ---- priorities ----


def mixed(shares: dict[Priority, int], count: int = 12_000) -> list[Request]:
    """Requests whose priorities come in turn, as often as `shares` says."""
    turn = [priority for priority, often in shares.items() for _ in range(often)]
    return [Request(trace_id=f"m{i}", priority=turn[(i * 7) % len(turn)]) for i in range(count)]


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.9, {"sheddable": 0.6, "sheddable_plus": 1.0, "critical": 1.0, "critical_plus": 1.0}),
        (0.7, {"sheddable": 0.0, "sheddable_plus": 0.8, "critical": 1.0, "critical_plus": 1.0}),
        (0.25, {"sheddable": 0.0, "sheddable_plus": 0.0, "critical": 0.375, "critical_plus": 1.0}),
        (0.05, {"sheddable": 0.0, "sheddable_plus": 0.0, "critical": 0.0, "critical_plus": 0.5}),
    ],
)
def test_lower_priorities_are_shed_first_and_the_whole_ratio_holds(
    ratio: float, expected: dict[str, float]
) -> None:
    """Of 20 requests 5 are sheddable, 5 a little less so, 8 critical, 2 above all."""
    shares = dict(zip(Priority, (5, 5, 8, 2), strict=True))
    # Shares below are per class: 25 %, 25 %, 40 %, 10 %.
    requests = mixed(shares)
    verdicts = run(decision(SCOPE, "degraded_2", admit_ratio=ratio), requests)
    through = {p: [0, 0] for p in Priority}
    for request, verdict in list(zip(requests, verdicts, strict=True))[2_000:]:
        through[request.priority][0] += verdict.passes
        through[request.priority][1] += 1
    for priority, (passed, asked) in through.items():
        assert passed / asked == pytest.approx(expected[priority.name.lower()], abs=0.04)
    whole = sum(passed for passed, _ in through.values()) / 10_000
    assert whole == pytest.approx(ratio, abs=0.015)


@given(
    st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any),
    RATIOS,
)
def test_a_priority_never_passes_less_than_a_lower_one(counts: list[int], ratio: float) -> None:
    state = AdmissionState(counts=tuple(counts))
    ratios = [ratio_of(p, ratio, state) for p in Priority if counts[p]]
    assert ratios == sorted(ratios)
    whole = sum(ratio_of(p, ratio, state) * counts[p] for p in Priority if counts[p])
    assert whole / sum(counts) == pytest.approx(ratio, abs=1e-9)


def test_shares_of_priorities_are_those_of_the_last_seconds() -> None:
    said, state = decision(SCOPE, "degraded_2", admit_ratio=0.5), AdmissionState()
    for i in range(100):
        _, state = admit(
            said, Request(trace_id=f"{i}", priority=Priority.SHEDDABLE), state, START_MS + i
        )
    assert state.count(Priority.SHEDDABLE) == 100
    for windows, expected in ((1, 100), (2, 0)):
        _, later = admit(said, Request(), state, START_MS + windows * SHARES_WINDOW_MS + 50)
        assert (later.count(Priority.SHEDDABLE), later.count(Priority.CRITICAL)) == (expected, 1)
    _, back = admit(said, Request(), state, START_MS - 3_600_000)
    assert back.count(Priority.SHEDDABLE) == 0


@pytest.mark.parametrize(
    ("name", "priority"),
    [
        ("sheddable", Priority.SHEDDABLE),
        ("SHEDDABLE_PLUS", Priority.SHEDDABLE_PLUS),
        (" critical ", Priority.CRITICAL),
        ("critical_plus", Priority.CRITICAL_PLUS),
        ("", Priority.CRITICAL),
        ("urgent!", Priority.CRITICAL),
    ],
)
def test_a_priority_from_baggage_is_critical_unless_it_says_otherwise(
    name: str, priority: Priority
) -> None:
    assert priority_named(name) is priority


# ---- deadlines ----


@pytest.mark.parametrize(
    ("actions", "can_set", "share", "deadline_ms"),
    [
        ({"slow_over_ms": 250, "shed_if_no_deadline": 0.1}, True, 1.0, 250),
        ({"slow_over_ms": 250, "shed_if_no_deadline": 0.1}, False, 0.9, None),
        ({"slow_over_ms": None, "shed_if_no_deadline": 0.1}, True, 0.9, None),  # errors, not slow
        ({"slow_over_ms": 250, "admit_ratio": 0.7}, True, 0.7, 250),
        ({"shed_if_no_deadline": 0.1, "admit_ratio": 0.7}, False, 0.7, None),
    ],
)
def test_callers_give_up_in_time_or_are_shed_a_share(
    actions: dict[str, Any], can_set: bool, share: float, deadline_ms: int | None
) -> None:
    said = decision(SCOPE, "degraded_1", **actions)
    requests = [Request(trace_id=key, can_set_deadline=can_set) for key in KEYS]
    verdicts = run(said, requests)
    assert sum(v.passes for v in verdicts) / len(KEYS) == pytest.approx(share, abs=0.01)
    assert {v.deadline_ms for v in verdicts if v.passes} == {deadline_ms}
    assert {v.deadline_ms for v in verdicts if not v.passes} <= {None}


# ---- probes ----


def probes_of_fleet(said: Decision, clients: int, seconds: int, per_s: int) -> list[int]:
    """Probes in each second, of a fleet whose clients each make `per_s` requests a second."""
    in_second = [0] * seconds
    step_ms = 1_000 // per_s
    for client in range(clients):
        requests = [Request(trace_id=f"{client}/{i}") for i in range(seconds * per_s)]
        state = first_state(f"client-{client}", SCOPE)
        for i, verdict in enumerate(run(said, requests, state=state, step_ms=step_ms)):
            in_second[i * step_ms // 1_000] += verdict.passes
            assert verdict.effect == ("probe" if verdict.passes else "shed")
    return in_second


@pytest.mark.parametrize("clients", [1, 4, 50])
def test_the_fleet_shares_its_probes_per_second(clients: int) -> None:
    said = said_half_open(probe_per_s=2.0, probe_ratio=0.0, callers=clients)
    in_second = probes_of_fleet(said, clients, seconds=100, per_s=5)
    assert sum(in_second) == pytest.approx(200, abs=clients * 0.6 + 2)


def test_a_fleet_of_hundreds_does_not_begin_with_hundreds_of_probes() -> None:
    said = said_half_open(probe_per_s=1.0, probe_ratio=0.0, callers=400)
    in_second = probes_of_fleet(said, 400, seconds=10, per_s=2)
    assert max(in_second) <= 8
    assert sum(in_second) == pytest.approx(10, abs=9)


@pytest.mark.parametrize(
    ("per_s", "probe_ratio", "expected_per_s"),
    [(10, 0.05, 1.0), (200, 0.05, 10.0), (20, 0.05, 1.0), (100, 0.0, 1.0), (100, 0.2, 20.0)],
)
def test_the_larger_of_probe_ratio_and_probes_per_second_passes(
    per_s: int, probe_ratio: float, expected_per_s: float
) -> None:
    """Not their sum; where both are alike, something between."""
    said = said_half_open(probe_per_s=1.0, probe_ratio=probe_ratio, callers=1)
    requests = [Request(trace_id=key) for key in KEYS[: per_s * 60]]
    through = sum(v.passes for v in run(said, requests, step_ms=1_000 // per_s))
    assert expected_per_s * 0.85 <= through / 60 <= expected_per_s * 1.35


def test_a_caller_with_a_request_in_ten_seconds_probes_with_its_first() -> None:
    said = said_half_open(probe_per_s=1.0, probe_ratio=0.05, callers=1)
    state = msgspec.structs.replace(first_state("a", SCOPE), phase=0.0)
    verdicts = run(
        said,
        [Request(trace_id=key) for key in KEYS[:5]],
        state=state,
        at_ms=START_MS + 3_000,
        step_ms=10_000,
    )
    assert all(v.passes for v in verdicts)


def test_tokens_of_an_earlier_half_open_are_not_carried_over() -> None:
    first = said_half_open(probe_per_s=0.1, probe_ratio=0.0, callers=1)
    _, state = admit(first, Request(), AdmissionState(phase=0.0), START_MS)
    second = msgspec.structs.replace(first, since_ms=START_MS + 3_600_000)
    verdict, _ = admit(second, Request(), state, START_MS + 3_600_000)
    assert not verdict.passes


def test_what_passes_on_the_ramp_is_no_probe_but_evidence() -> None:
    verdicts = run(said_half_open(admit_ratio=0.25), [Request(trace_id=k) for k in KEYS[:1_000]])
    assert {v.effect for v in verdicts if v.passes} == {None}
    assert {v.effect for v in verdicts if not v.passes} == {"shed"}


@pytest.mark.parametrize(
    ("level", "actions", "passes", "effect"),
    [
        ("forced_open", {"admit_ratio": 0.0, "heartbeats_pass": True}, True, "probe"),
        ("half_open", {"admit_ratio": 0.0, "heartbeats_pass": True}, True, "probe"),
        ("open", {"admit_ratio": 0.0}, False, "shed"),
        ("closed", {"admit_ratio": 1.0}, True, "probe"),
        ("degraded_2", {"admit_ratio": 1e-9}, False, "shed"),
    ],
)
def test_heartbeats_pass_where_the_decision_says_so_and_are_marked(
    level: Any, actions: dict[str, Any], passes: bool, effect: str
) -> None:
    said = decision(SCOPE, level, **{"retry_ratio_max": 0.0, **actions})
    verdict, state = admit(
        said, Request(trace_id="a", is_heartbeat=True), AdmissionState(), START_MS
    )
    assert (verdict.passes, verdict.effect) == (passes, effect)
    assert state == AdmissionState()


def test_nothing_but_a_heartbeat_passes_in_forced_open() -> None:
    said = decision(SCOPE, "forced_open", admit_ratio=0.0, heartbeats_pass=True)
    assert not any(v.passes for v in run(said, [Request(trace_id=k) for k in KEYS[:2_000]]))


# ---- retries ----


@given(
    st.lists(st.booleans(), max_size=300),
    st.sampled_from([0.0, 0.05, 0.1, 0.25, 1.0]),
)
@settings(deadline=None)
def test_retries_never_exceed_their_ratio_of_requests_and_one(
    is_retry: list[bool], ratio: float
) -> None:
    said = decision(SCOPE, "closed", retry_ratio_max=ratio)
    tries = retries = 0
    state = AdmissionState()
    for each in is_retry:
        verdict, state = admit(said, Request(trace_id="a", is_retry=each), state, START_MS)
        if each:
            retries += verdict.passes
            assert verdict.passes or verdict.rule == "retry_budget"
        else:
            tries += 1
            assert verdict.passes
        assert retries <= ratio * tries + (ratio > 0) + 1e-9


def test_the_whole_budget_of_retries_can_be_used() -> None:
    said, state, retries = decision(SCOPE, "closed", retry_ratio_max=0.1), AdmissionState(), 0
    for key in KEYS[:5_000]:
        _, state = admit(said, Request(trace_id=key), state, START_MS)
        verdict, state = admit(said, Request(trace_id=key, is_retry=True), state, START_MS)
        retries += verdict.passes
    assert retries == 501


def test_a_quiet_time_saves_up_ten_retries_at_most() -> None:
    said = decision(SCOPE, "closed", retry_ratio_max=0.1)
    requests = [Request(trace_id=k) for k in KEYS[:5_000]]
    requests += [Request(trace_id=k, is_retry=True) for k in KEYS[:50]]
    assert sum(v.passes for v in run(said, requests)[5_000:]) == 10


def test_no_retry_passes_from_degraded_2_on_and_none_is_left_over_afterwards() -> None:
    bad = decision(SCOPE, "degraded_2", admit_ratio=1.0, retry_ratio_max=0.0)
    good = decision(SCOPE, "closed", retry_ratio_max=0.1)
    retry = Request(trace_id="a", is_retry=True)
    verdict, state = admit(bad, retry, AdmissionState(), START_MS)
    assert (verdict.passes, verdict.rule, verdict.effect) == (False, "retry_budget", "shed")
    _, state = admit(bad, Request(trace_id="a"), state, START_MS)
    assert not admit(good, retry, state, START_MS)[0].passes


def test_a_retry_that_the_share_refuses_costs_nothing() -> None:
    said = decision(SCOPE, "degraded_2", admit_ratio=1e-9, retry_ratio_max=0.1)
    _, state = admit(said, Request(trace_id="a", is_retry=True), AdmissionState(), START_MS)
    assert state.retry_tokens == AdmissionState().retry_tokens


# ---- what a verdict says ----


@pytest.mark.parametrize(
    ("actions", "request_", "rule", "text"),
    [
        ({"admit_ratio": 0.0}, Request(trace_id="a"), "shut", "nothing passes"),
        ({"admit_ratio": 1e-6}, Request(trace_id="a"), "admit_ratio", "0% of requests pass"),
        (
            {"shed_if_no_deadline": 0.999999},
            Request(trace_id="a", can_set_deadline=False),
            "no_deadline",
            "100% of callers without deadline",
        ),
        (
            {"admit_ratio": 0.0, "probe_per_s": 1e-6, "callers": 1},
            Request(trace_id="a"),
            "probe",
            "only probes pass",
        ),
        (
            {"retry_ratio_max": 0.0},
            Request(trace_id="a", is_retry=True),
            "retry_budget",
            "at most 0 retries per request",
        ),
    ],
)
def test_a_refusal_says_by_which_rule_policy_and_boundary(
    actions: dict[str, Any], request_: Request, rule: str, text: str
) -> None:
    said = decision(SCOPE, "open", boundary=9, retry_after_s=7, fallback=True, **actions)
    said = msgspec.structs.replace(said, since_ms=START_MS)
    verdict, _ = admit(said, request_, AdmissionState(), START_MS)
    assert not verdict
    assert (verdict.rule, verdict.policy, verdict.boundary) == (rule, "test@0", 9)
    assert (verdict.scope, verdict.level, verdict.retry_after_s) == (SCOPE, "open", 7)
    assert verdict.fallback
    assert text in verdict.reason
    assert said.reason in verdict.reason


@given(REQUESTS, RATIOS, st.booleans(), st.none() | st.integers(1, 5_000))
def test_advice_says_what_would_have_been_and_lets_everything_pass(
    request: Request, ratio: float, heartbeats: bool, slow_over_ms: int | None
) -> None:
    actions: dict[str, Any] = {
        "admit_ratio": ratio,
        "heartbeats_pass": heartbeats,
        "slow_over_ms": slow_over_ms,
        "cache": True,
    }
    obeyed, moved = admit(
        decision(SCOPE, "degraded_2", **actions), request, AdmissionState(), START_MS
    )
    advice, same = admit(
        decision(SCOPE, "degraded_2", enforce=False, **actions),
        request,
        AdmissionState(),
        START_MS,
    )
    assert advice.passes
    assert advice.would_pass is obeyed.passes
    assert (advice.rule, advice.reason) == (obeyed.rule, obeyed.reason)
    assert (advice.deadline_ms, advice.cache) == (None, False)
    assert advice.effect == ("probe" if obeyed.passes and request.is_heartbeat else None)
    assert same == moved


def test_a_local_cache_is_asked_for_while_requests_pass() -> None:
    verdict, _ = admit(decision(SCOPE, "closed", cache=True), Request(), AdmissionState(), START_MS)
    assert (verdict.passes, verdict.cache) == (True, True)


@pytest.mark.parametrize(
    ("verdict", "when", "effect"),
    [
        (Verdict(passes=False, would_pass=False, effect="shed"), {}, "shed"),
        (Verdict(passes=False, would_pass=False, effect="shed"), {"is_fallback": True}, "fallback"),
        (Verdict(passes=True, would_pass=True, deadline_ms=50), {"is_cut": True}, "cut"),
        (Verdict(passes=True, would_pass=True, deadline_ms=50), {}, None),
        (Verdict(passes=True, would_pass=True), {"is_cut": True}, None),  # not our deadline
        (Verdict(passes=True, would_pass=True, effect="probe"), {"is_fallback": True}, "probe"),
    ],
)
def test_the_mark_for_the_span_follows_what_was_done(
    verdict: Verdict, when: dict[str, bool], effect: str | None
) -> None:
    assert verdict.effect_when(**when) == effect


def test_the_strictest_of_several_verdicts_is_the_refusal_else_the_shortest_deadline() -> None:
    def passed(**more: Any) -> Verdict:
        return Verdict(passes=True, would_pass=True, rule="all_pass", **more)

    refused = Verdict(passes=False, would_pass=False, scope="b")
    assert strictest([passed(), refused, nothing_known("c")]).scope == "b"
    advice = Verdict(passes=True, would_pass=False, scope="d")
    assert strictest([passed(deadline_ms=9), advice]).scope == "d"
    assert strictest([passed(deadline_ms=9), passed(deadline_ms=5)]).deadline_ms == 5
    both = strictest([passed(effect="probe"), passed(deadline_ms=5)])
    assert (both.effect, both.deadline_ms) == ("probe", 5)
    assert strictest([nothing_known("c"), passed(scope="e")]).scope == "e"


@given(st.lists(REQUESTS, max_size=60), RATIOS, st.floats(0, 5), st.floats(0, 1))
@settings(deadline=None)
def test_admission_is_a_function_of_its_arguments(
    requests: list[Request], ratio: float, per_s: float, probe_ratio: float
) -> None:
    said = said_half_open(
        admit_ratio=ratio,
        probe_per_s=per_s,
        probe_ratio=probe_ratio,
        callers=3,
        retry_ratio_max=0.1,
    )
    first = run(said, requests, step_ms=37)
    assert run(said, requests, step_ms=37) == first
