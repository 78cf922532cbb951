"""Several targets of one callee are one edge; what leaves it again takes a copy of its standing along."""

import pytest

from tests.blast_radius.driving import BASE, Call, Load
from tests.facts.driving import Learning, fact
from tidegate.rules.policy import load_policy

A, B, PAY = "10.0.0.1", "10.0.0.2", "pay"
OF_A, OF_B, OF_PAY = (f"edge:shop->{name}" for name in (A, B, PAY))


def shop(*calls: Call, per_s: float = 8.0) -> Load:
    return Load("shop", per_s, calls=calls)


def test_two_targets_of_one_callee_add_up() -> None:
    run, said = Learning(), Learning()
    run.hold(12, shop(Call(A), Call(B)))
    run.tell(A, PAY)
    run.hold(5, shop(Call(A), Call(B)))
    run.tell(B, PAY)
    run.hold(20, shop(Call(A), Call(B)))
    said.hold(37, shop(Call(PAY), Call(PAY)))
    assert run.counts("shop", PAY) == said.counts("shop", PAY)
    assert run.at(OF_PAY).targets == [A, B]
    assert run.names() == [OF_PAY, "service:shop"]
    assert {key for _, key, value in run.published if value is None} == {OF_A, OF_B}


@pytest.mark.parametrize("is_service_first", [True, False])
def test_the_callees_own_name_is_a_target_too(is_service_first: bool) -> None:
    both = (Call(A), Call(PAY))
    run, said = Learning(), Learning()
    run.hold(12, shop(Call(PAY)) if is_service_first else shop(Call(A)))
    run.tell(A, PAY)
    run.hold(20, shop(*both))
    said.hold(12, shop(Call(PAY))).hold(20, shop(Call(PAY), Call(PAY)))
    assert run.counts("shop", PAY) == said.counts("shop", PAY)
    assert run.at(OF_PAY).targets == [A]


@pytest.mark.parametrize("bad", [A, PAY])
def test_the_worse_level_stands(bad: str) -> None:
    good = PAY if bad == A else A
    run = Learning().hold(100, shop(Call(A), Call(PAY)))
    run.hold(12, shop(Call(good), Call(bad, bad=1.0, is_hard=False)))
    worse = run.at(f"edge:shop->{bad}")
    assert worse.level in ("open", "forced_open")
    assert run.level(f"edge:shop->{good}") == "closed"
    run.tell(A, PAY)
    run.step(shop(Call(good), Call(bad, bad=1.0, is_hard=False)))
    merged = run.at(OF_PAY)
    assert (merged.level, merged.since_ms) == (worse.level, worse.since_ms)
    assert merged.backoff == worse.backoff
    assert merged.signals.evidence_since_ms == worse.signals.evidence_since_ms


def test_two_facts_at_one_boundary_are_as_two_in_turn() -> None:
    at_once, in_turn = Learning(), Learning()
    for run in (at_once, in_turn):
        run.hold(10, shop(Call(A), Call(B)))
    at_once.learn(fact(A, PAY), fact(B, PAY))
    in_turn.learn(fact(B, PAY))
    in_turn.learn(fact(A, PAY))
    for run in (at_once, in_turn):
        run.hold(10, shop(Call(A), Call(B)))
    assert at_once.published == in_turn.published
    assert at_once.snapshots[-1].chunks == in_turn.snapshots[-1].chunks


def test_names_that_change_hands_at_one_boundary_do_so_at_once() -> None:
    """`b` is a target that `c` answers, and a service that answers target `a`."""
    run = Learning().hold(10, shop(Call("a"), Call("b", ms=50)))
    of_a, of_b = run.counts("shop", "a"), run.sketch("shop", "b")
    run.learn(fact("a", "b"), fact("b", "c"))
    run.step()
    assert run.names() == ["edge:shop->b", "edge:shop->c", "service:shop"]
    assert run.counts("shop", "b")[1] == of_a[1]
    assert run.sketch("shop", "c") == of_b
    assert run.at("edge:shop->b").targets == ["a"]
    assert run.at("edge:shop->c").targets == ["b"]
    assert {key for _, key, value in run.published if value is None} == {"edge:shop->a"}


def test_what_becomes_a_mesh_goes_back_to_its_own_name_with_its_standing() -> None:
    run = Learning().hold(10, shop(Call(A)))
    run.tell(A, PAY)
    run.hold(90, shop(Call(A))).hold(12, shop(Call(A, bad=1.0)))
    before = run.at(OF_PAY)
    assert before.level in ("open", "forced_open")
    run.tell(A, PAY, "pay-2")
    run.step(shop(Call(A, bad=1.0)))
    after = run.at(OF_A)
    assert (after.level, after.since_ms, after.targets) == (before.level, before.since_ms, [])
    assert after.boundary == BASE + run.half
    assert run.names() == [OF_A, "service:shop"]


def test_callees_of_several_partitions_of_pairing_are_taken_together() -> None:
    """None of them sees all traces: each may know one callee of a mesh."""
    run = Learning().hold(10, shop(Call(A)))
    run.tell(A, "pay-1")
    run.step(shop(Call(A)))
    assert "edge:shop->pay-1" in run.names()
    run.tell(A, "pay-2")
    run.step(shop(Call(A)))
    assert run.names() == [OF_A, "service:shop"]
    run.tell(A, "pay-1")
    run.step(shop(Call(A)))
    assert run.names() == [OF_A, "service:shop"]


def test_a_part_that_leaves_is_not_milder_than_the_whole_was() -> None:
    run = Learning().hold(10, shop(Call(A), Call(B)))
    run.learn(fact(A, PAY), fact(B, PAY))
    run.hold(90, shop(Call(A), Call(B)))
    run.hold(12, shop(Call(A, bad=1.0), Call(B, bad=1.0)))
    whole = run.at(OF_PAY)
    assert whole.level in ("open", "forced_open")
    run.tell(B, PAY, "pay-2")
    run.step(shop(Call(A, bad=1.0), Call(B, bad=1.0)))
    for scope in (OF_PAY, OF_B):
        decision = run.at(scope)
        assert (decision.level, decision.since_ms) == (whole.level, whole.since_ms)
        assert decision.boundary == BASE + run.half
    assert run.at(OF_PAY).targets == [A]
    run.hold(35, shop(Call(A), Call(B)))
    assert run.counts("shop", A if ("shop", A) in _keys(run) else PAY)[1] == [240, 0, 0, 0, 0, 0]
    assert run.counts("shop", B)[1] == [240, 0, 0, 0, 0, 0]


def _keys(run: Learning) -> dict[tuple[str, str], int]:
    return run.evaluator.state.traffic.keys.by_key


def test_renames_take_no_room_and_go_by_the_limits() -> None:
    policy = load_policy("name: small\nlimits: {services_max: 2, keys_max: 4}\n", where="test")
    run = Learning(policy).hold(5, shop(Call(A), Call(B), Call("c")))
    run.learn(*(fact(f"unheard-{i}", PAY) for i in range(10)))
    run.learn(fact(A, PAY))
    run.hold(5, shop(Call(A), Call(B), Call("c"), Call("d")))
    assert len(_keys(run)) <= 5  # with `other`
    assert run.counters["overflow_facts"] == 7
    assert run.counters["overflow_edges"] == 40
