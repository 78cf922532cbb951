"""The panic guard: many keys worsen at once *and* telemetry is odd; then levels hold, but not for long."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules.blast_radius import Panic
from tidegate.rules.policy import builtin_policy

RULES = builtin_policy("default").file.blast_radius
START = 7_000_000
WITHIN, HOLD = RULES.panic_within_s * 2, RULES.panic_hold_s * 2


@dataclass(frozen=True)
class Seen:
    """What a boundary says."""

    asking: int = 0
    active: int = 30
    odd: int = 0
    spans: int = 100
    missing: int = 0
    worsened: int = 0


MANY = Seen(asking=10)
ODD = Seen(odd=50)
BOTH = Seen(asking=10, odd=50)


def steps(seen: Sequence[Seen], panic: Panic | None = None, *, start: int = START) -> list[bool]:
    """Whether worsening is held, by boundary."""
    panic = Panic() if panic is None else panic
    out = []
    for boundary, x in enumerate(seen, start=start):
        held = panic.step(
            asking=x.asking,
            active=x.active,
            odd=(x.odd, x.spans),
            sources_missing=x.missing,
            r=RULES,
            boundary=boundary,
        )
        panic.note(0 if held else x.worsened, boundary)
        out.append(held)
    return out


@pytest.mark.parametrize(
    ("seen", "is_held"),
    [
        (BOTH, True),
        (MANY, False),
        (ODD, False),
        (Seen(asking=9, odd=5), False),  # 30 % are not more than 30 %
        (Seen(asking=6, active=19, odd=5), False),  # too few keys to say
        (Seen(asking=7, active=20, odd=5), True),
        (Seen(asking=10, odd=1, spans=99), False),  # one in a hundred is not more
        (Seen(asking=10, odd=1, spans=98), True),
        (Seen(asking=10, odd=1, spans=0), True),
        (Seen(asking=10, missing=1), True),
        (Seen(asking=10, spans=0), False),  # silence is not odd by itself
    ],
)
def test_it_begins_with_many_and_odd_only(seen: Seen, is_held: bool) -> None:
    assert steps([seen]) == [is_held]


def test_keys_that_worsened_in_the_last_seconds_count_with_those_about_to() -> None:
    ago = [Seen(worsened=6)] + [Seen()] * (WITHIN - 2)
    assert steps([*ago, Seen(asking=4, odd=50)])[-1]
    assert not steps([*ago, Seen(), Seen(asking=4, odd=50)])[-1]


def test_what_was_odd_in_the_last_seconds_counts() -> None:
    quiet = [Seen(spans=0)] * (WITHIN - 2)
    assert steps([Seen(odd=5, spans=50), *quiet, MANY])[-1]
    assert not steps([Seen(odd=5, spans=50), *quiet, Seen(spans=0), MANY])[-1]
    assert not steps([Seen(odd=1, spans=50), *quiet, MANY])[-1]  # 1 of 151


def test_it_holds_for_its_time_and_not_again_while_telemetry_stays_odd() -> None:
    assert steps([BOTH] * (3 * HOLD)) == [True] * HOLD + [False] * (2 * HOLD)


def test_it_ends_at_once_when_telemetry_is_in_order() -> None:
    seen = [BOTH] * 10 + [MANY] * (WITHIN + 5)
    held = steps(seen)
    # The last odd spans leave what is looked at after WITHIN boundaries.
    assert held == [True] * (9 + WITHIN) + [False] * 6
    missing = [Seen(asking=10, missing=1)] * 10 + [MANY] * 5
    assert steps(missing) == [True] * 10 + [False] * 5


def test_it_goes_on_although_no_key_asks_any_more() -> None:
    assert steps([BOTH, *[ODD] * 20]) == [True] * 21


def test_after_telemetry_was_in_order_it_may_begin_again() -> None:
    spent = [BOTH] * (HOLD + 5)
    calm = [Seen()] * WITHIN
    assert steps([*spent, *calm, BOTH])[-1]
    assert not steps([*spent, *calm[:-1], BOTH])[-1]


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (
            Seen(asking=12, odd=5, spans=95),
            "while 5 of 100 spans late, skewed or undecodable: levels are held for at most 30 s",
        ),
        (
            Seen(asking=12, missing=2),
            "while 2 source partitions are missing: levels are held for at most 30 s",
        ),
    ],
)
def test_the_reason_names_the_numbers(seen: Seen, told: str) -> None:
    panic = Panic()
    steps([seen], panic)
    assert panic.reason == f"12 of 30 keys worsen within 5 s {told}"


# ---- what holds for all input ----

SEEN = st.builds(
    Seen,
    asking=st.sampled_from([0, 0, 2, 10, 30]),
    active=st.sampled_from([19, 30, 30]),
    odd=st.sampled_from([0, 0, 0, 1, 5]),
    spans=st.sampled_from([0, 60, 400]),
    missing=st.sampled_from([0, 0, 0, 0, 1]),
    worsened=st.sampled_from([0, 0, 3, 12]),
)
RUNS = st.lists(st.tuples(SEEN, st.integers(1, 2 * HOLD)), min_size=1, max_size=12).map(
    lambda phases: [seen for seen, count in phases for _ in range(count)]
)


def is_odd(seen: Sequence[Seen], at: int) -> bool:
    recent = seen[max(0, at - WITHIN + 1) : at + 1]
    odd = sum(x.odd for x in recent)
    return bool(seen[at].missing) or odd > 0.01 * max(1, odd + sum(x.spans for x in recent))


def is_many(seen: Sequence[Seen], held: Sequence[bool], at: int) -> bool:
    first = max(0, at - WITHIN + 1)
    before = sum(x.worsened for x, h in zip(seen[first:at], held[first:at], strict=True) if not h)
    return seen[at].active >= 20 and seen[at].asking + before > 0.3 * seen[at].active


@given(RUNS)
def test_every_boundary_is_as_recomputed_from_all_before_it(seen: list[Seen]) -> None:
    held = steps(seen)
    since, is_spent = None, False
    for at, now in enumerate(held):
        odd = is_odd(seen, at)
        if since is not None and (at - since == HOLD or not odd):
            since, is_spent = None, odd
        is_spent = is_spent and odd
        if since is None and odd and not is_spent and is_many(seen, held, at):
            since = at
        assert now == (since is not None), at


@given(RUNS)
def test_it_never_holds_longer_than_it_may_nor_twice_without_order_between(
    seen: list[Seen],
) -> None:
    held = steps(seen)
    run, spent_at = 0, None
    for at, now in enumerate(held):
        if spent_at is not None and not is_odd(seen, at):
            spent_at = None
        assert not (now and spent_at is not None)
        run = run + 1 if now else 0
        assert run <= HOLD
        if run == HOLD:
            spent_at = at


@given(RUNS, st.data())
def test_saved_and_loaded_anywhere_it_goes_on_the_same(
    seen: list[Seen], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(seen)))
    one, other = Panic(), Panic()
    before = steps(seen[:cut], one)
    other.load(msgspec.msgpack.decode(msgspec.msgpack.encode(one.save())))
    assert other == one
    after = steps(seen[cut:], other, start=START + cut)
    assert before + after == steps(seen)
    assert steps(seen[cut:], one, start=START + cut) == after
    assert other == one
