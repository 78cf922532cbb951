"""Laws over random streams: whenever facts come, in the end all is as if spans had said the name at once."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.blast_radius.driving import BASE, Call, Load
from tests.facts.driving import Learning, fact, scopes_at

TARGETS = ("10.0.0.1", "10.0.0.2", "pay")
CALLEES = {"10.0.0.1": "pay", "10.0.0.2": "pay", "pay": "pay"}


@dataclass(frozen=True)
class Phase:
    """Some seconds of one kind of traffic."""

    seconds: int
    targets: tuple[str, ...]
    bad: float
    learns: tuple[str, ...]
    """Targets whose callee is told when it begins."""


PHASES = st.lists(
    st.builds(
        Phase,
        seconds=st.integers(1, 8),
        targets=st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3, unique=True).map(tuple),
        bad=st.sampled_from([0.0, 1.0]),
        learns=st.lists(st.sampled_from(TARGETS), max_size=3, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=8,
)


def load(phase: Phase, *, is_said: bool) -> Load:
    names = [CALLEES[target] if is_said else target for target in phase.targets]
    return Load("shop", 6.0, calls=tuple(Call(name, bad=phase.bad) for name in names))


@settings(max_examples=8, deadline=None)
@given(phases=PHASES)
def test_whenever_facts_come_counts_and_levels_end_as_if_spans_had_said_it(
    phases: list[Phase],
) -> None:
    learning, said = Learning(), Learning()
    for run, is_said in ((learning, False), (said, True)):
        run.hold(1, load(Phase(1, TARGETS, 0.0, ()), is_said=is_said))
        for phase in phases:
            if not is_said:
                run.learn(*(fact(t, CALLEES[t], second=run.second) for t in phase.learns))
            run.hold(phase.seconds, load(phase, is_said=is_said))
        if not is_said:
            run.learn(*(fact(t, CALLEES[t], second=run.second) for t in TARGETS))
        run.hold(5, load(Phase(5, TARGETS, 0.0, ()), is_said=is_said))
        if not is_said:
            assert run.names() == ["edge:shop->pay", "service:shop"]
    assert learning.counts("shop", "pay") == said.counts("shop", "pay")
    assert sum(learning.sketch("shop", "pay")) == sum(said.sketch("shop", "pay"))
    assert learning.at("edge:shop->pay").targets == ["10.0.0.1", "10.0.0.2"]
    for run, is_said in ((learning, False), (said, True)):
        run.hold(150, load(Phase(150, TARGETS, 0.0, ()), is_said=is_said))
    assert learning.level("edge:shop->pay") == said.level("edge:shop->pay") == "closed"


FACTS = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.sampled_from(("a", "b", "c")),
        st.lists(st.sampled_from(("a", "b", "x", "y")), max_size=2, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=12, deadline=None)
@given(told=FACTS, bad=st.sampled_from(["a", "b", "c"]))
def test_no_call_is_lost_or_counted_twice_and_names_are_never_without_a_decision(
    told: list[tuple[int, str, tuple[str, ...]]], bad: str
) -> None:
    """Whatever facts say, chains and exchanges of names included."""
    run = Learning()
    calls = tuple(Call(t, bad=1.0 if t == bad else 0.0, is_hard=False) for t in ("a", "b", "c"))
    outputs = run.listen()
    traffic = Load("shop", 4.0, calls=calls)
    run.hold(2, traffic)
    for seconds, target, callees in told:
        run.tell(target, *callees)
        run.hold(seconds, traffic)
    state = run.evaluator.state
    edges = [slot for (_, t), slot in state.traffic.keys.by_key.items() if t]
    windows = state.traffic.windows
    merged = 3 * 2 * min(run.half, 60)
    assert int(windows.window[edges, :6].sum()) == merged
    assert int(windows.fast[edges, :6].sum()) == 3 * 2 * min(run.half, 10)
    in_health: Counter[int] = Counter()
    for health in (h for out in outputs for h in out.health):
        is_edge = [bool(target) for _, target in health.keys]
        in_health[health.boundary] += sum(
            int(n) for k, n in zip(health.key, health.count, strict=True) if is_edge[k]
        )
    assert set(in_health.values()) == {6}
    said = {t for slot in edges for _, t in state.traffic.aliases.said(slot)}
    plain = {
        t
        for (_, t) in state.traffic.keys.by_key
        if t and ("shop", t) not in state.traffic.aliases.number
    }
    assert said | plain == {"a", "b", "c"}
    held = set(scopes_at(run.published, BASE + run.half))
    live = {
        state.traffic.keys.scopes[slot]
        for slot in state.traffic.keys.by_key.values()
        if state.traffic.seen.last_boundary[slot] >= 0
    }
    assert held == live
