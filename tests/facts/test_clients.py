"""A client that knows a target by what its own spans call it finds the decision under the callee's name."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.blast_radius.driving import BASE, Call, Load
from tests.facts.driving import Learning
from tidegate.client.store import Store
from tidegate.client.testing import decision
from tidegate.schemas.decision import Decision, encode_decision

ADDRESS = "10.0.0.7:8080"
OLD, NEW = f"edge:shop->{ADDRESS}", "edge:shop->pay"
NOW_MS = 1_800_000_000_000


def told(store: Store, said: Decision) -> None:
    store.apply(
        said.scope.encode(),
        encode_decision(said),
        kafka_ms=said.window_end_ms,
        now_ms=said.window_end_ms,
        is_live=True,
    )


def ended(store: Store, scope: str) -> None:
    store.apply(scope.encode(), None, kafka_ms=NOW_MS, now_ms=NOW_MS, is_live=True)


def said(scope: str, boundary: int, *targets: str, level: str = "open") -> Decision:
    made = decision(scope, level, boundary=boundary)  # type: ignore[arg-type]  # names of levels
    fields = {name: getattr(made, name) for name in Decision.__struct_fields__}
    return Decision(**fields | {"targets": list(targets)})


def scope_of(store: Store, scope: str) -> str | None:
    found = store.answer(scope, NOW_MS).decision
    return None if found is None else found.scope


def test_the_edge_of_a_target_is_answered_by_the_decision_that_lists_it() -> None:
    store = Store()
    told(store, said(NEW, 10, ADDRESS))
    assert scope_of(store, OLD) == NEW
    assert scope_of(store, "edge:cart->10.0.0.7:8080") is None
    assert scope_of(store, "edge:shop->10.0.0.8:8080") is None


def test_its_own_decision_comes_first() -> None:
    store = Store()
    told(store, said(OLD, 9))
    told(store, said(NEW, 10, ADDRESS))
    assert scope_of(store, OLD) == OLD
    ended(store, OLD)
    assert scope_of(store, OLD) == NEW


def test_what_is_no_longer_listed_or_ends_is_forgotten() -> None:
    store = Store()
    told(store, said(NEW, 10, ADDRESS, "b"))
    told(store, said(NEW, 11, "b"))
    assert scope_of(store, OLD) is None
    assert scope_of(store, "edge:shop->b") == NEW
    ended(store, NEW)
    assert scope_of(store, "edge:shop->b") is None
    assert not store._called


def test_a_target_that_moves_belongs_to_whoever_listed_it_last() -> None:
    store = Store()
    told(store, said(NEW, 10, ADDRESS))
    told(store, said("edge:shop->a", 11, ADDRESS))
    assert scope_of(store, OLD) == "edge:shop->a"
    told(store, said(NEW, 11))
    assert scope_of(store, OLD) == "edge:shop->a"
    ended(store, "edge:shop->a")
    assert scope_of(store, OLD) is None


def test_a_client_that_wants_only_the_target_keeps_the_decision_while_it_lists_it() -> None:
    store = Store(wanted=lambda scope: scope == OLD)
    told(store, said(NEW, 10, ADDRESS))
    assert scope_of(store, OLD) == NEW
    told(store, said(NEW, 11))
    assert store.scopes() == []


def test_targets_are_bounded() -> None:
    store = Store(scopes_max=3)
    told(store, said(NEW, 10, *"abcde"))
    assert store.counters["overflow_targets"] == 2
    assert [scope_of(store, f"edge:shop->{t}") for t in "abcde"] == [NEW, NEW, NEW, None, None]
    told(store, said(NEW, 11, "e"))
    assert [scope_of(store, f"edge:shop->{t}") for t in "ae"] == [None, NEW]


STEPS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.none() | st.lists(st.sampled_from("abc"), unique=True)),
    max_size=20,
)


@settings(deadline=None)
@given(steps=STEPS)
def test_whatever_comes_and_goes_answers_are_those_of_the_decisions_held(
    steps: list[tuple[str, list[str] | None]],
) -> None:
    store, held = Store(), dict[str, list[str]]()
    for boundary, (name, targets) in enumerate(steps):
        scope = f"edge:shop->{name}"
        if targets is None:
            ended(store, scope)
            held.pop(scope, None)
        else:
            told(store, said(scope, 100 + boundary, *targets))
            held[scope] = targets
    for target in "abc":
        holders = {scope for scope, targets in held.items() if target in targets}
        found = scope_of(store, f"edge:shop->{target}")
        assert found in holders if holders else found is None


def test_with_real_decisions_an_open_edge_stays_open_through_its_rename() -> None:
    run, store = Learning(), Store()
    outputs = run.listen()
    name = "10.0.0.7"
    by_address = f"edge:shop->{name}"

    def hear() -> list[str]:
        """The level by the address after each record."""
        seen: list[str] = []
        for out in outputs:
            for key, value in out.records():
                at_ms = (BASE + run.half) * 500
                store.apply(key, value, kafka_ms=at_ms, now_ms=at_ms, is_live=True)
                seen.append(store.answer(by_address, at_ms).level)
        outputs.clear()
        return seen

    run.hold(100, Load("shop", 8.0, calls=(Call(name),)))
    hear()
    failing = Load("shop", 8.0, calls=(Call(name, bad=1.0),))
    run.hold(15, failing)
    hear()
    level = run.level(by_address)
    assert level in ("open", "forced_open")
    run.tell(name, "pay")
    run.hold(3, failing)
    assert set(hear()) == {level}
    assert store.newest(by_address) is None
    assert store.newest(NEW) is not None
