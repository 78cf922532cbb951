"""An edge goes by its callee's name as soon as that is known, with all it had."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.blast_radius.driving import BASE, Call, Load
from tests.facts.driving import Learning, fact, scopes_at
from tests.in_force.driving import override
from tests.in_force.driving import push as pushed
from tidegate.rules.policy import load_policy
from tidegate.schemas.decision import Decision, decode_decision
from tidegate.schemas.facts import Loop

ADDRESS = "10.0.0.7"
OLD, NEW = f"edge:shop->{ADDRESS}", "edge:shop->pay"


def shop(bad: float = 0.0, target: str = ADDRESS, per_s: float = 8.0, ms: float = 5.0) -> Load:
    return Load("shop", per_s, calls=(Call(target, bad=bad, ms=ms),))


def test_the_new_name_is_published_before_the_old_one_ends() -> None:
    run = Learning().hold(10, shop())
    run.tell(ADDRESS, "pay")
    run.hold(5, shop())
    at = BASE + 21
    rows = [(b, key, value is None) for b, key, value in run.published if key in (OLD, NEW)]
    assert [row for row in rows if row[1] == OLD and row[2]] == [(at, OLD, True)]
    assert next(row for row in rows if row[1] == NEW) == (at, NEW, False)
    assert run.names() == [NEW, "service:shop"]
    assert run.counters["renamed_edges"] == 1


def test_records_of_one_boundary_say_the_new_name_first() -> None:
    run = Learning().hold(10, shop())
    run.tell(ADDRESS, "pay")
    outputs = run.listen()
    run.step(shop())
    keys = [(key.decode(), value is None) for out in outputs for key, value in out.records()]
    assert [row for row in keys if row[0].startswith("edge:")] == [(NEW, False), (OLD, True)]


def test_counts_and_sketches_are_those_of_one_edge() -> None:
    run, said = Learning(), Learning()
    run.hold(12, shop(0.2))
    run.tell(ADDRESS, "pay")
    run.hold(10, shop(0.2))
    said.hold(22, shop(0.2, "pay"))
    assert run.counts("shop", "pay") == said.counts("shop", "pay")
    assert run.sketch("shop", "pay") == said.sketch("shop", "pay")
    assert ("shop", ADDRESS) not in run.evaluator.state.traffic.keys.by_key


def test_known_before_any_call_all_is_as_if_spans_had_said_it() -> None:
    run, said = Learning(), Learning()
    run.tell(ADDRESS, "pay")
    for traffic in (shop(), shop(0.9), shop()):
        run.hold(90, traffic)
    for traffic in (shop(target="pay"), shop(0.9, "pay"), shop(target="pay")):
        said.hold(90, traffic)
    assert [_without_targets(d) for d in run.decisions] == said.decisions
    assert run.at(NEW).targets == [ADDRESS]


def _without_targets(decision: Decision) -> Decision:
    fields = {name: getattr(decision, name) for name in Decision.__struct_fields__}
    return Decision(**fields | {"targets": []})


@pytest.mark.parametrize("name", ["closed", "degraded_1", "degraded_2", "open", "forced_open"])
def test_at_every_level_it_keeps_level_since_sleep_and_evidence(name: str) -> None:
    bad = {"closed": 0.0, "degraded_1": 0.12, "degraded_2": 0.4, "open": 0.8, "forced_open": 1.0}
    run = Learning().hold(100, shop())
    for _ in range(240):
        run.step(shop(bad[name]))
        if run.level(OLD) == name and run.half > 240:
            break
    assert run.level(OLD) == name
    _keeps_all(run, shop(bad[name]))


@pytest.mark.parametrize("step", ["half_open", "ramp"])
def test_on_its_way_back_too(step: str) -> None:
    run = Learning().hold(100, shop()).hold(20, shop(1.0))
    for _ in range(240):
        run.step(shop())
        decision = run.at(OLD)
        if decision.level == "half_open" and (step == "half_open" or _is_ramp(decision)):
            break
    assert run.level(OLD) == "half_open"
    _keeps_all(run, shop())
    run.hold(120, shop())
    assert run.level(NEW) == "closed"


def _is_ramp(decision: Decision) -> bool:
    return decision.actions.admit_ratio >= 0.25


def _keeps_all(run: Learning, load: Load) -> None:
    """After the rename everything stands as in a run of the same log that learned nothing."""
    other = Learning(run.policy)
    other.log += run.log
    run.tell(ADDRESS, "pay")
    run.step(load)
    other.log.append(run.log[-1])
    other.half = run.half
    other.catch_up()
    slot, before = run.slot("shop", "pay"), other.slot("shop", ADDRESS)
    mine, theirs = run.evaluator.state.judgement, other.evaluator.state.judgement
    for one, another in (
        (mine.levels, theirs.levels),
        (mine.alarms.incidents, theirs.alarms.incidents),
        (mine.findings, theirs.findings),
    ):
        for name, column in one.columns().items():
            assert column[slot] == another.columns()[name][before], name
    for name in ("on_sharp", "on_mild", "since_boundary", "sharp_sum", "mild_sum", "threshold"):
        assert getattr(mine.evidence, name)[slot] == getattr(theirs.evidence, name)[before], name
    assert mine.standing.score[slot] == theirs.standing.score[before]
    at = run.at(NEW)
    assert (at.boundary, at.level) == (BASE + run.half, other.level(OLD))


def test_policy_of_the_new_name_holds() -> None:
    text = "name: rules\nservices:\n  - match: {service: shop, target: pay}\n    mode: enforce\n"
    run = Learning(load_policy(text, where="test")).hold(10, shop())
    assert run.at(OLD).mode == "observe"
    run.tell(ADDRESS, "pay")
    run.step(shop())
    assert run.at(NEW).mode == "enforce"


def test_an_override_of_the_new_name_takes_hold_at_once() -> None:
    run = Learning().hold(10, shop())
    run.ask(override(NEW, "open", until_s=60))
    run.hold(5, shop())
    assert run.level(OLD) == "closed"
    run.tell(ADDRESS, "pay")
    run.step(shop())
    assert run.level(NEW) == "open"
    assert run.at(NEW).boundary == BASE + run.half
    run.hold(50, shop())
    assert run.level(NEW) == "closed"


def test_an_override_of_the_old_name_ends_with_it() -> None:
    run = Learning().hold(10, shop())
    run.ask(override(OLD, "open", until_s=60))
    run.hold(5, shop())
    assert run.level(OLD) == "open"
    run.tell(ADDRESS, "pay")
    run.step(shop())
    assert run.level(NEW) == "closed"


def test_a_candidate_judges_it_under_the_new_name_as_well() -> None:
    run = Learning().hold(100, shop())
    run.ask(pushed("name: tried\nextends: adaptive\n", rollout="shadow"))
    run.hold(20, shop(0.5))
    run.tell(ADDRESS, "pay")
    run.hold(5, shop(0.5))
    tried = run.evaluator.state.candidate
    assert tried is not None
    slot = run.slot("shop", "pay")
    assert tried.judgement.levels.level[slot] > 0
    shadow = {key for b, key, _ in run.published if key.startswith("shadow:") and b > BASE + 240}
    assert f"shadow:{NEW}" in shadow
    assert f"shadow:{OLD}" not in shadow


def test_what_people_were_told_ends_under_the_old_name_and_begins_under_the_new_one() -> None:
    run = Learning().hold(100, shop())
    hanging = Load("shop", 8.0, calls=(Call(ADDRESS, ms=2.0),))
    run.hold(60, hanging)
    said = [(s, e) for s, e, scope in run.events("hollow") if scope == OLD]
    before = len(said)
    run.tell(ADDRESS, "pay")
    run.hold(5, hanging)
    for scope in (OLD, NEW):
        starts = [e for _, e, at in run.events("hollow") if at == scope and e == "start"]
        ends = [e for _, e, at in run.events("hollow") if at == scope and e == "resolve"]
        assert len(ends) == (len(starts) if scope == OLD else 0)
    assert before == len([1 for _, e, at in run.events("hollow") if at == OLD and e != "resolve"])


def test_a_callee_of_the_targets_own_name_renames_nothing_and_counts_as_answered() -> None:
    run = Learning().hold(10, shop(target="pay"))
    assert not run.evaluator.state.is_answered(_slots(run)).any()
    run.tell("pay", "pay")
    run.hold(5, shop(target="pay"))
    assert run.counters["renamed_edges"] == 0
    assert run.evaluator.state.is_answered(_slots(run)).all()
    assert run.at(NEW).targets == []


def _slots(run: Learning) -> npt.NDArray[np.int64]:
    return np.array([run.slot("shop", "pay")], np.int64)


def test_calls_to_oneself_are_an_edge_to_oneself() -> None:
    run = Learning().hold(10, shop())
    run.tell(ADDRESS, "shop")
    run.hold(2, shop())
    assert run.names() == ["edge:shop->shop", "service:shop"]


@pytest.mark.parametrize("callee", ["", "(all callers)", "(whole graph)", "(other)"])
def test_reserved_names_answer_nobody(callee: str) -> None:
    run = Learning().hold(10, shop())
    run.tell(ADDRESS, callee)
    run.hold(2, shop())
    assert run.names() == [OLD, "service:shop"]


def test_facts_and_loops_go_on_to_health_at_their_boundary() -> None:
    run = Learning().hold(3, shop())
    known = fact(ADDRESS, "pay", second=2)
    loop = Loop(["shop", "pay", "shop"], "ab" * 16, BASE * 500)
    run.learn(known, loops=[loop])
    outputs = run.listen()
    run.hold(2, shop())
    seen = [(health.facts, health.loops) for out in outputs for health in out.health]
    assert seen == [([known], [loop]), *([([], [])] * 3)]


def test_the_topic_never_shows_neither_name() -> None:
    run = Learning().hold(10, shop())
    run.tell(ADDRESS, "pay")
    run.hold(3, shop())
    for boundary in range(BASE + 2, BASE + run.half + 1):
        held = scopes_at(run.published, boundary)
        assert (OLD in held) != (NEW in held), boundary - BASE
    assert decode_decision(
        next(v for _, k, v in run.published if k == NEW and v is not None)
    ).targets == [ADDRESS]
