"""A fact ends where it would have been seen again, and never while its edge is in trouble."""

import pytest

from tests.blast_radius.driving import Call, Load
from tests.facts.driving import Learning, fact
from tidegate.rules.facts import CALLS_MIN
from tidegate.rules.policy import load_policy

A, B, PAY = "10.0.0.1", "10.0.0.2", "pay"
OF_A, OF_B, OF_PAY = (f"edge:shop->{name}" for name in (A, B, PAY))


def shop(per_s: float, *calls: Call) -> Load:
    return Load("shop", per_s, calls=calls or (Call(A),))


def test_unseen_for_ten_minutes_under_traffic_the_name_goes_back() -> None:
    run = Learning().hold(5, shop(1))
    run.tell(A, PAY)
    run.hold(590, shop(1))
    assert OF_PAY in run.names()
    run.hold(50, shop(1))
    assert run.names() == [OF_A, "service:shop"]
    assert run.at(OF_A).targets == []
    slot = run.slot("shop", A)
    assert not run.evaluator.state.is_answered(run.evaluator.state.traffic.keys.in_order()).any()
    assert run.evaluator.state.judgement.baselines.p95_us[slot] > 0


def test_seen_again_it_goes_on() -> None:
    run = Learning().hold(5, shop(1))
    run.tell(A, PAY)
    run.hold(590, shop(1))
    run.tell(A, PAY)
    run.hold(100, shop(1))
    assert OF_PAY in run.names()


def test_with_few_calls_nobody_can_say_that_it_is_no_longer_so() -> None:
    """One call in ten seconds: 160 take 27 minutes."""
    run = Learning().hold(20, shop(0.1))
    run.tell(A, PAY)
    run.hold((CALLS_MIN - 3) * 10, shop(0.1))
    assert OF_PAY in run.names()
    run.hold(90, shop(0.1))
    assert OF_A in run.names()


def test_a_dead_callee_keeps_its_name_until_its_edge_is_well() -> None:
    run = Learning().hold(5, shop(2))
    run.tell(A, PAY)
    run.hold(90, shop(2)).hold(700, shop(2, Call(A, bad=1.0)))
    assert run.level(OF_PAY) != "closed"
    assert run.names() == [OF_PAY, "service:shop"]
    run.hold(150, shop(2))
    assert run.level(OF_PAY if OF_PAY in run.names() else OF_A) == "closed"
    run.hold(60, shop(2))
    assert run.names() == [OF_A, "service:shop"]


def test_of_two_targets_one_may_leave() -> None:
    run = Learning().hold(5, shop(2, Call(A), Call(B)))
    run.learn(fact(A, PAY, second=5), fact(B, PAY, second=5))
    run.hold(300, shop(2, Call(A), Call(B)))
    run.tell(B, PAY)
    run.hold(380, shop(2, Call(A), Call(B)))
    assert run.names() == [OF_A, OF_PAY, "service:shop"]
    assert run.at(OF_PAY).targets == [B]
    assert run.counts("shop", A)[1][0] == run.counts("shop", PAY)[1][0] == 60


def test_a_target_that_nobody_calls_any_more_is_forgotten() -> None:
    """Addresses come and go with every deployment: they must not pile up."""
    policy = load_policy("name: short\ntiming: {key_ttl_s: 600}\n", where="test")
    run = Learning(policy).hold(5, shop(1, Call(A), Call(B)))
    run.learn(fact(A, PAY, second=5), fact(B, PAY, second=5))
    run.hold(20, shop(1, Call(A), Call(B)))
    assert run.at(OF_PAY).targets == [A, B]
    for _ in range(7):
        run.tell(B, PAY)
        run.hold(100, shop(1, Call(B)))
    assert run.at(OF_PAY).targets == [B]
    assert run.names() == [OF_PAY, "service:shop"]
    assert set(run.evaluator.state.traffic.facts.known) == {("shop", B)}
    assert ("shop", A) not in run.evaluator.state.traffic.aliases.number


@pytest.mark.parametrize("is_known_first", [True, False])
def test_an_edge_that_ends_takes_its_facts_along(is_known_first: bool) -> None:
    policy = load_policy("name: short\ntiming: {key_ttl_s: 600}\n", where="test")
    other = Load("steady", 1)
    run = Learning(policy).hold(2, other)
    if is_known_first:
        run.tell(A, PAY)
    run.hold(5, shop(1), other)
    run.tell(A, PAY)
    run.hold(690, other)
    assert run.names() == ["service:steady"]
    assert not run.evaluator.state.traffic.facts.known
    assert not run.evaluator.state.traffic.aliases
    run.hold(5, shop(1), other)
    assert run.names() == [OF_A, "service:shop", "service:steady"]
