"""The vectorised step equals the scalar oracle, whatever comes, and takes only transitions of the table."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.level.drive import Driver
from tests.level.protocol import Seen
from tidegate.rules.level import TRANSITIONS, diagram
from tidegate.schemas.level import Level

JUDGED = (Level.CLOSED, Level.DEGRADED_1, Level.DEGRADED_2, Level.OPEN, Level.FORCED_OPEN)
REPRESENTATIVE = {
    Level.CLOSED: 900,
    Level.DEGRADED_1: 700,
    Level.DEGRADED_2: 500,
    Level.OPEN: 300,
    Level.FORCED_OPEN: 100,
}


@st.composite
def seen(draw: st.DrawFn) -> Seen:
    wanted = draw(st.sampled_from(JUDGED))
    requests = draw(st.sampled_from([0, 1, 2, 6, 30]))
    bad = draw(st.integers(0, requests))
    probes = draw(st.sampled_from([0, 0, 1, 5, 12, 60]))
    return Seen(
        wanted=wanted,
        score=REPRESENTATIVE[wanted],
        requests=requests,
        bad=draw(st.sampled_from([bad, requests, 0])),
        old_requests=draw(st.sampled_from([0, 0, requests // 2, requests])),
        probes=probes,
        probes_bad=draw(st.sampled_from([0, probes // 5, probes])),
        fast_requests=draw(st.sampled_from([0, 40])),
        qps=draw(st.sampled_from([0.2, 3.0, 50.0])),
        idle=draw(st.sampled_from([0, 0, 0, 119, 120, 9_000])),
        age=draw(st.sampled_from([0, 1, 10])),
        p90_ms=draw(st.sampled_from([-1, 80, 400])),
        target_ms=draw(st.sampled_from([-1, 100])),
    )


phases = st.lists(st.tuples(st.integers(1, 140), seen()), min_size=1, max_size=14)


@settings(max_examples=120, deadline=None)
@given(phases, phases)
def test_the_step_equals_the_oracle_for_any_history(
    one: list[tuple[int, Seen]], other: list[tuple[int, Seen]]
) -> None:
    driver = Driver(keys=2)
    first = [x for n, x in one for _ in range(n)]
    second = [x for n, x in other for _ in range(n)]
    for a, b in zip(first, second, strict=False):
        driver.step(a, b)


@settings(max_examples=60, deadline=None)
@given(st.lists(seen(), min_size=1, max_size=300))
def test_and_for_any_sequence_of_boundaries(sequence: list[Seen]) -> None:
    driver = Driver()
    for x in sequence:
        driver.step(x)


def test_every_state_but_those_of_other_protocols_can_be_left() -> None:
    left = {t.state for t in TRANSITIONS}
    assert left == set(Level) - {Level.COOLING, Level.LOCKED}
    assert {t.to for t in TRANSITIONS} == left


def test_open_is_entered_only_by_confirmation_or_bad_probes_and_left_only_through_half_open() -> (
    None
):
    into = {(t.state, t.guard) for t in TRANSITIONS if t.to == Level.OPEN}
    assert {guard for _, guard in into} == {"worse_confirmed", "probes_bad"}
    out = {t.to for t in TRANSITIONS if t.state == Level.OPEN and t.guard != "idle_out"}
    assert out == {Level.FORCED_OPEN, Level.HALF_OPEN}


def test_the_diagram_names_every_transition() -> None:
    assert diagram().count("-->") == len(TRANSITIONS) + 1
