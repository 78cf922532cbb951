"""What pairing tells of a log, and what it forgets."""

import itertools
from dataclasses import replace

import pytest

from tests.pairing.traces import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    PRODUCER,
    SERVER,
    T_MS,
    TRACE,
    Raw,
    as_bytes,
    callees_of,
    oracle,
    pairs_of,
    sampled_traces,
    told_of,
)
from tidegate.rules import answers, pairing
from tidegate.rules.answers import CALLEE_TTL_MS, CALLEES_MAX
from tidegate.rules.pairing import FLUSH_MS, LOOPS_MAX, SETTLE_MS, TRACE_MS, Pairing, Told
from tidegate.schemas.facts import Fact, Loop

WEB = Raw(TRACE, 1, 0, "web", SERVER, end=100)
CALL = Raw(TRACE, 2, 1, "web", CLIENT, "cart.local", start=10, end=60)
CART = Raw(TRACE, 3, 2, "cart", SERVER, start=20, end=50)
TRACES = sampled_traces(1_000)


class Log:
    """A log of pairs, and what was told of it."""

    def __init__(self) -> None:
        self.pairing = Pairing()
        self.told: list[Told] = []
        self.now_ms = T_MS

    def send(self, *spans: Raw, after_ms: int = 0) -> Told:
        """Appends spans so long after the record before, all in one record."""
        self.now_ms += after_ms
        for record in pairs_of([as_bytes(spans)])[0]:
            self.pairing.feed(record, self.now_ms)
        return self.due()

    def due(self, after_ms: int = 0) -> Told:
        self.now_ms += after_ms
        self.told.append(self.pairing.due(self.now_ms))
        return self.told[-1]


def other(spans: tuple[Raw, ...]) -> tuple[Raw, ...]:
    """The same in another trace."""
    trace = next(TRACES)
    return tuple(replace(raw, trace=trace) for raw in spans)


def chain(*services: str) -> tuple[Raw, ...]:
    """Each calls the next; ids count up."""
    out = [Raw(TRACE, 1, 0, services[0], SERVER)]
    for caller, callee in itertools.pairwise(services):
        at = len(out)
        out.append(Raw(TRACE, at + 1, at, caller, CLIENT, callee))
        out.append(Raw(TRACE, at + 2, at + 1, callee, SERVER))
    return tuple(out)


@pytest.mark.parametrize("order", [(WEB, CALL, CART), (CART, WEB, CALL), (CART, CALL, WEB)])
def test_a_call_is_answered_by_the_request_whose_parent_it_is(order: tuple[Raw, ...]) -> None:
    log = Log()
    for raw in order:
        log.send(raw, after_ms=700)
    assert [fact for told in log.told for fact in told.facts] == [
        Fact("web", "cart.local", ["cart"], T_MS + 50, 1)
    ]
    assert callees_of(log.told) == oracle(order)


def test_who_answers_is_told_at_once_the_rest_every_five_seconds() -> None:
    log = Log()
    assert log.send(WEB, CALL, CART).facts == [Fact("web", "cart.local", ["cart"], T_MS + 50, 1)]
    assert not log.send(*other((CALL, CART)), after_ms=1_000)
    assert log.send(*other((CALL, replace(CART, service="cart2"))), after_ms=500).facts == [
        Fact("web", "cart.local", ["cart", "cart2"], T_MS + 50, 2)
    ]
    third = other((CALL, replace(CART, service="cart3", end=55)))
    assert not log.send(*third, after_ms=500)
    assert not log.due(FLUSH_MS - 2_001)
    assert log.due(1).facts == [Fact("web", "cart.local", ["cart", "cart2", "cart3"], T_MS + 55, 1)]
    assert not log.due(FLUSH_MS)


def test_a_span_that_comes_again_counts_once_and_a_shared_id_is_two_spans() -> None:
    log = Log()
    shared = (WEB, replace(CALL, id=2), replace(CART, id=2, parent=1))
    log.send(*shared)
    log.send(*shared)
    assert log.pairing.counters["duplicate_spans"] == 3
    assert [(f.callees, f.pairs) for told in log.told for f in told.facts] == [(["cart"], 1)]


ZIPKIN = (
    Raw(TRACE, 1, 0, "gateway", CLIENT, "web.local"),
    Raw(TRACE, 1, 0, "web", SERVER),
    Raw(TRACE, 2, 1, "web", CLIENT, "cart.local"),
    Raw(TRACE, 2, 1, "cart", SERVER),
)
ZIPKIN_CALLEES = {("gateway", "web.local"): {"web"}, ("web", "cart.local"): {"cart"}}


def test_with_shared_ids_a_request_is_not_taken_for_the_answer_to_the_call_before() -> None:
    assert oracle(ZIPKIN) == ZIPKIN_CALLEES
    assert callees_of([told_of(ZIPKIN)]) == ZIPKIN_CALLEES


def test_a_service_that_was_seen_to_share_ids_is_waited_for() -> None:
    """cart's request comes before its call, when only the gateway's call could be its parent."""
    gateway, web, call, cart = ZIPKIN
    log = Log()
    log.send(*ZIPKIN)
    gateway, web, call, cart = other(ZIPKIN)
    for raw in (gateway, cart, call, web):
        log.send(raw, after_ms=100)
    log.due(TRACE_MS)
    assert callees_of(log.told) == ZIPKIN_CALLEES
    plain = other((CALL, CART))  # called by somebody who shares no ids
    assert not log.send(*plain, after_ms=FLUSH_MS)
    assert log.due(SETTLE_MS).facts == [Fact("web", "cart.local", ["cart"], T_MS + 50, 1)]


def test_both_halves_must_come_within_a_minute() -> None:
    for wait_ms, is_found in ((TRACE_MS - 1, True), (TRACE_MS, False)):
        log = Log()
        log.send(CALL)
        log.send(CART, after_ms=wait_ms)
        log.due(TRACE_MS)
        assert bool(callees_of(log.told)) == is_found
        assert len(log.pairing) == log.pairing.spans_count == 0


def test_an_address_in_front_of_three_services_is_answered_by_all_of_them() -> None:
    log = Log()
    for number in range(30):
        log.send(*other((CALL, replace(CART, service=f"cart{number % 3}"))), after_ms=400)
    assert log.told[-1].facts or log.due(FLUSH_MS).facts
    assert callees_of(log.told) == {("web", "cart.local"): {"cart0", "cart1", "cart2"}}


@pytest.mark.parametrize(
    ("shift_ms", "callees"),
    [(CALLEE_TTL_MS - 1, ["cart", "old"]), (CALLEE_TTL_MS, ["cart"])],
)
def test_a_callee_that_answers_no_more_is_left_out_after_ten_minutes(
    shift_ms: int, callees: list[str]
) -> None:
    log = Log()
    log.send(*other((CALL, replace(CART, service="old"))))
    log.send(*other((replace(CALL, target="db"), CART)), after_ms=shift_ms - 50_000)
    later = (
        replace(CALL, start=10 + shift_ms, end=60 + shift_ms),
        replace(CART, start=20 + shift_ms, end=50 + shift_ms),
    )
    (fact,) = log.send(*other(later), after_ms=49_999).facts
    assert (fact.callees, fact.seen_ms) == (callees, T_MS + shift_ms + 50)


def test_a_dead_callee_makes_no_fact_and_takes_none_back() -> None:
    log = Log()
    log.send(*other((CALL, CART)))
    for _ in range(100):
        assert not log.send(*other((replace(CALL, status=504),)), after_ms=1_000).facts


def test_a_message_is_answered_by_its_consumers_and_internal_spans_by_nobody() -> None:
    produced = Raw(TRACE, 2, 1, "web", PRODUCER, "kafka:orders", end=5)
    consumers = [Raw(TRACE, 3 + i, 2, f"worker{i}", CONSUMER, end=9_000) for i in range(2)]
    inside = Raw(TRACE, 9, 2, "web", INTERNAL)
    (fact,) = told_of([WEB, produced, *consumers, inside]).facts
    assert fact == Fact("web", "kafka:orders", ["worker0", "worker1"], T_MS + 5_000, 2)


@pytest.mark.parametrize(
    ("why", "status", "call", "request_", "outlived"),
    [
        ("the callee ended in time", 504, (0, 100), (10, 90), None),
        ("the caller had its answer: the span ends with the body's last byte", 200, (0, 100), (10, 400), None),
        ("so had one that was turned away", 429, (0, 100), (10, 400), None),
        ("the caller gave up, the callee worked on", 504, (0, 100), (10, 400), 300),
        ("under a millisecond is no difference", 504, (0, 100), (10, 100.9), None),
        ("it began only after the caller had left: all of it is waste", 504, (0, 100), (150, 400), 250),
        ("a clock that is behind: moved to begin with the call", 504, (0, 100), (-5_000, -4_950), None),
        ("behind, and longer than the call", 504, (0, 100), (-5_000, -4_700), 200),
        ("a clock far ahead: never more than the callee's own time", 504, (0, 100), (9_000, 9_050), 50),
    ],
)  # fmt: skip
def test_work_that_goes_on_after_the_caller_left(
    why: str,
    status: int,
    call: tuple[float, float],
    request_: tuple[float, float],
    outlived: int | None,
) -> None:
    (fact,) = told_of(
        [
            replace(CALL, start=call[0], end=call[1], status=status),
            replace(CART, start=request_[0], end=request_[1]),
        ]
    ).facts
    assert (fact.outlived, fact.outlived_ms) == ((0, 0) if outlived is None else (1, outlived)), why


def test_messages_are_not_waited_for() -> None:
    (fact,) = told_of(
        [replace(CALL, kind=PRODUCER, status=504), replace(CART, kind=CONSUMER, end=900)]
    ).facts
    assert fact.outlived == 0


@pytest.mark.parametrize(
    ("shift_ms", "seen_ms"),
    [(-86_400_000, T_MS + 10 + 30), (86_400_000, T_MS + 5_000), (3, T_MS + 53)],
)
def test_a_callees_wrong_clock_does_not_make_its_fact_old_or_last_for_ever(
    shift_ms: int, seen_ms: int
) -> None:
    cart = replace(CART, start=20 + shift_ms, end=50 + shift_ms)
    (fact,) = told_of([CALL, cart]).facts
    assert fact.seen_ms == seen_ms


def loops(*spans: Raw) -> list[list[str]]:
    return [loop.path for loop in told_of(spans).loops]


def test_a_request_that_goes_round_is_a_loop_with_its_trace() -> None:
    told = told_of(chain("a", "b", "c", "a"))
    assert told.loops == [Loop(["a", "b", "c", "a"], f"{TRACE:032x}", T_MS + 10)]


def test_what_is_no_loop() -> None:
    assert loops(*chain("a", "b", "c")) == []
    assert loops(*chain("a", "a")) == []  # it calls itself: nothing stands between
    two_ways = (*chain("a", "b"), *other(chain("b", "a")))  # two independent paths
    assert loops(*two_ways) == []
    called_twice = (
        *chain("a", "b"),
        Raw(TRACE, 8, 1, "a", CLIENT, "b"),
        Raw(TRACE, 9, 8, "b", SERVER),
    )
    assert loops(*called_twice) == []


def test_a_way_back_through_internal_spans_and_shared_ids_is_found() -> None:
    way = [
        Raw(TRACE, 1, 0, "a", SERVER),
        Raw(TRACE, 2, 1, "a", INTERNAL),
        Raw(TRACE, 3, 2, "a", INTERNAL),
        Raw(TRACE, 4, 3, "a", CLIENT, "b"),
        Raw(TRACE, 4, 3, "b", SERVER),
        Raw(TRACE, 5, 4, "b", CLIENT, "a"),
        Raw(TRACE, 6, 5, "a", SERVER),
    ]
    assert loops(*way) == [["a", "b", "a"]]
    assert loops(*(raw for raw in way if raw.id != 5)) == []  # a hole in the way


def test_inner_and_outer_loops_are_told_each() -> None:
    assert loops(*chain("a", "b", "a", "b")) == [["a", "b", "a"], ["b", "a", "b"]]
    assert loops(*chain("a", "b", "c", "b", "a")) == [["a", "b", "c", "b", "a"], ["b", "c", "b"]]


def test_a_loop_is_told_when_its_trace_has_settled_and_once_for_each_path() -> None:
    log = Log()
    round_trip = chain("a", "b", "a")
    log.send(*round_trip[:-1])
    log.send(round_trip[-1], after_ms=FLUSH_MS)
    assert not log.due(SETTLE_MS - FLUSH_MS - 1).loops
    (loop,) = log.due(1).loops
    assert (loop.path, loop.trace_id) == (["a", "b", "a"], f"{TRACE:032x}")
    for _ in range(5):
        log.send(*other(round_trip))
    assert len(log.due(SETTLE_MS).loops) == 1
    for _ in range(12):
        assert not log.due(FLUSH_MS).loops  # nothing new came


def test_what_comes_late_to_a_trace_may_close_a_loop_when_it_leaves() -> None:
    log = Log()
    round_trip = chain("a", "b", "a")
    log.send(*round_trip[:-1])
    log.send(round_trip[-1], after_ms=SETTLE_MS + 1)
    log.due(TRACE_MS)
    assert [loop.path for told in log.told for loop in told.loops] == [["a", "b", "a"]]


def test_parents_in_a_circle_end_the_walk() -> None:
    circle = [Raw(TRACE, i, i % 9 + 1, f"s{i}", INTERNAL) for i in range(1, 10)]
    assert loops(*circle, Raw(TRACE, 99, 1, "z", SERVER)) == []
    assert loops(Raw(TRACE, 1, 1, "z", SERVER), Raw(TRACE, 2, 2, "z", CLIENT, "z")) == []


def test_at_most_a_few_loops_are_told_at_a_time() -> None:
    log = Log()
    for number in range(LOOPS_MAX + 5):
        log.send(*other(chain("a", f"b{number}", "a")))
    told = log.due(SETTLE_MS)
    assert len(told.loops) == LOOPS_MAX
    assert log.pairing.counters["loops_left_out"] == 5


def test_bytes_that_are_no_record_are_counted_and_the_rest_goes_on() -> None:
    log = Log()
    for value in (b"", b"\xff" * 40):
        log.pairing.feed(value, T_MS)
    assert log.send(CALL, CART).facts
    assert log.pairing.counters["undecodable_pairs"] == 2


def test_spans_are_bounded_and_the_oldest_traces_leave_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairing, "SPANS_MAX", 10)
    monkeypatch.setattr(pairing, "TRACE_SPANS_MAX", 4)
    log = Log()
    first = other((CALL, CART))
    log.send(first[0])
    for _ in range(5):
        log.send(*other((WEB, CALL)))
    assert log.pairing.spans_count == 10
    assert log.pairing.counters["crowded_out_spans"] == 1
    log.send(first[1])  # its call is gone
    assert callees_of(log.told) == {}
    log.send(*other((WEB, CALL, CART, replace(CART, id=4), replace(CART, id=5, service="x"))))
    assert log.pairing.counters["trace_overflow_spans"] == 1
    assert callees_of(log.told) == {("web", "cart.local"): {"cart"}}
    log.due(2 * TRACE_MS)
    assert log.pairing.spans_count == len(log.pairing) == 0


def test_answers_are_bounded_and_the_one_heard_longest_ago_leaves_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "ANSWERS_MAX", 3)
    log = Log()
    for number in (0, 1, 2, 0, 3):
        log.send(*other((replace(CALL, target=f"t{number}"), CART)))
    assert log.pairing.counters["answers_left_out"] == 1
    told = log.due(FLUSH_MS)
    assert [fact.target for fact in told.facts] == ["t0"]  # the others were news
    log.send(*other((replace(CALL, target="t1"), CART)))
    assert log.told[-1].facts == [Fact("web", "t1", ["cart"], T_MS + 50, 1)]  # known no more


def test_callees_of_a_target_are_bounded() -> None:
    log = Log()
    for number in range(CALLEES_MAX + 2):
        log.send(*other((CALL, replace(CART, service=f"cart{number}", end=50 + number))))
    (fact,) = log.due(FLUSH_MS).facts
    assert fact.callees == [f"cart{number}" for number in range(2, CALLEES_MAX + 2)]
    assert log.pairing.counters["callees_left_out"] == 2


def test_facts_come_sorted() -> None:
    spans = [
        raw
        for name in ("z", "b", "ä", "a")
        for raw in other((replace(CALL, service=name), replace(CART, service=f"of-{name}")))
    ]
    assert [fact.caller for fact in told_of(spans).facts] == ["a", "b", "z", "ä"]
