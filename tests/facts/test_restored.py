"""A log with everything that facts can do, cut at every snapshot, gives the same bytes and snapshots; in any
order of what a boundary hears, too.
"""

import random
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.blast_radius.driving import BASE, Call, Load
from tests.facts.driving import Learning, cut_everywhere, fact, fed
from tests.in_force.driving import override, push
from tidegate.rules.policy import load_policy
from tidegate.schemas.facts import Loop
from tidegate.schemas.partials import decode_partials, encode_aside

A, B, C, PAY = "10.0.0.1", "10.0.0.2", "10.0.0.3", "pay"


def shop(*calls: Call, per_s: float = 6.0, age_ms: int = 0) -> Load:
    return Load("shop", per_s, calls=calls, age_ms=age_ms)


@cache
def eventful() -> Learning:
    """Renames, merges, a mesh and its end, parts that leave while their windows are full, late spans."""
    run = Learning()
    all_three = (Call(A), Call(B, ms=20), Call(C, bad=0.1))
    late = shop(Call(A), Call(B), age_ms=7_000, per_s=2)
    run.hold(11, shop(*all_three), late)
    run.tell(A, PAY)
    run.hold(4, shop(*all_three), late)
    run.learn(fact(B, PAY, second=run.second), loops=[Loop(["a", "b", "a"], "ab" * 16, 5)])
    run.hold(7, shop(*all_three, Call(PAY)), late)
    run.tell(A, PAY, "pay-2")  # leaves, while B and the name itself stay
    run.hold(6, shop(*all_three, Call(PAY)), late)
    run.ask(override("edge:shop->pay", "degraded_1", until_s=45))
    run.ask(push("name: tried\nextends: adaptive\n", rollout="grey", services=["shop"]))
    run.learn(fact(C, "stock", second=run.second), fact("stock", "store", second=run.second))
    run.hold(8, shop(*all_three, Call("stock")), late)
    run.learn(fact(B, second=run.second))  # nobody, any more
    run.hold(12, shop(*all_three, Call("stock"), Call(PAY, bad=1.0)), late)
    run.learn(fact(C, "store", second=run.second + 700))
    run.hold(9, shop(*all_three), late, Load("cart", 2.0, calls=(Call(A),)))
    run.learn(fact(A, "stock", second=run.second, caller="cart"))
    run.learn(fact(B, PAY, second=run.second))
    run.hold(25, shop(*all_three), Load("cart", 2.0, calls=(Call(A),)))
    return run


def test_restored_from_any_snapshot_the_same_bytes_follow() -> None:
    run = eventful()
    assert run.counters["renamed_edges"] >= 8
    assert len(run.snapshots) >= 8
    cut_everywhere(run, every=3)


def test_parts_that_leave_are_told_apart_when_the_window_is_read_again() -> None:
    """The cut lies within 30 s of the split, so the windows are rebuilt from cells of before and after."""
    run = Learning().hold(12, shop(Call(A), Call(B, bad=0.3)))
    run.learn(fact(A, PAY), fact(B, PAY))
    run.hold(8, shop(Call(A), Call(B, bad=0.3)))
    run.tell(B, PAY, "other")
    run.hold(11, shop(Call(A), Call(B, bad=0.3)), shop(Call(B), age_ms=15_000))
    mine = {t: run.counts("shop", t) for t in (PAY, B)}
    snapshot = run.snapshots[-1]
    assert snapshot.boundary > BASE + 41
    _, _, evaluator = fed(run.log, run.policy, snapshot)
    other = Learning()
    other.evaluator = evaluator
    assert {t: other.counts("shop", t) for t in (PAY, B)} == mine
    cut_everywhere(run)


def test_expired_and_restored() -> None:
    policy = load_policy("name: short\ntiming: {key_ttl_s: 600}\n", where="test")
    run = Learning(policy).hold(5, shop(Call(A), Call(B), Call(C), per_s=2))
    run.learn(*(fact(target, PAY, second=5) for target in (A, B, C)))
    run.hold(20, shop(Call(A), Call(B), Call(C), per_s=2))
    for _ in range(7):
        run.tell(B, PAY)
        run.hold(100, shop(Call(A), Call(B), per_s=1))
    assert run.names() == ["edge:shop->10.0.0.1", "edge:shop->pay", "service:shop"]
    cut_everywhere(run, every=10)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_what_a_boundary_hears_may_come_in_any_order(seed: int) -> None:
    """Facts of one boundary shuffled, and each in a record of its own."""
    run, draw = eventful(), random.Random(seed)
    log = []
    for record in run.log:
        read, _ = decode_partials(record.value)
        if not read.facts:
            log.append(record)
            continue
        alone = [encode_aside(partitions_count=1, facts=[one]) for one in read.facts]
        alone += [encode_aside(partitions_count=1, loops=[one]) for one in read.loops]
        draw.shuffle(alone)
        log += [type(record)(value, record.append_ms) for value in alone]
    rows, _, _ = fed(log, run.policy)
    assert rows == run.published
