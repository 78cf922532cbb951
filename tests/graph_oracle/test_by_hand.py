"""The oracle on traces small enough to be counted by hand."""

import pytest

from tests.graph_oracle.cycles import Round, components, rounds
from tests.graph_oracle.edges import (
    EdgeCounts,
    Network,
    NodeCounts,
    amplification,
    edges,
    network,
    nodes,
    quantile_ns,
    reach,
)
from tests.graph_oracle.reading import EVERYTHING, TraceSpan, Window, first_counted, last_30s
from tests.graph_oracle.timeouts import (
    GaveUp,
    Outlived,
    deadline_grows,
    gave_up,
    gives_up_early,
    outlived,
)
from tests.graph_oracle.traces import Traces

MS = 1_000_000
OK, SERVER_ERROR, TIMEOUT = 0, 4, 5


def request(
    service: str,
    span: str,
    parent: str,
    times_ms: tuple[int, int],
    outcome: int = OK,
    trace: str = "t",
) -> TraceSpan:
    start_ms, end_ms = times_ms
    return TraceSpan(service, False, "", outcome, start_ms * MS, end_ms * MS, trace, span, parent)


def call(
    service: str,
    target: str,
    span: str,
    parent: str,
    times_ms: tuple[int, int],
    outcome: int = OK,
    trace: str = "t",
) -> TraceSpan:
    start_ms, end_ms = times_ms
    return TraceSpan(
        service, True, target, outcome, start_ms * MS, end_ms * MS, trace, span, parent
    )


GIVES_UP = Traces(
    [
        request("web", "1", "", (0, 120), SERVER_ERROR),
        call("web", "10.0.0.7", "2", "1", (10, 110), TIMEOUT),
        request("shop", "3", "2", (12, 300)),
        call("shop", "postgresql/goods", "4", "3", (20, 290), TIMEOUT),
    ]
)
"""web waits 100 ms for shop, which goes on for 190 ms more; shop waits 270 ms for its database."""


def test_the_callee_of_an_address_is_who_answered_there() -> None:
    assert set(edges(GIVES_UP, EVERYTHING)) == {("web", "shop"), ("shop", "postgresql/goods")}
    assert GIVES_UP.virtual() == {"postgresql/goods": set()}
    assert GIVES_UP.entries() == {"web"}


def test_counts_stand_in_the_window_in_which_the_caller_saw_the_end() -> None:
    assert edges(GIVES_UP, Window(110, 120)) == {("web", "shop"): EdgeCounts(1, 1, 1, 0)}
    assert edges(GIVES_UP, Window(0, 110)) == {}
    assert edges(GIVES_UP, Window(110, 121))["web", "shop"].fan_out == 1.0
    assert nodes(GIVES_UP, Window(0, 121)) == {"web": NodeCounts(1, 1, 0)}


def test_who_gives_up_and_what_goes_on_for_nobody() -> None:
    assert gave_up(GIVES_UP, EVERYTHING) == {
        ("web", "shop"): GaveUp(1, 100 * MS),
        ("shop", "postgresql/goods"): GaveUp(1, 270 * MS),
    }
    assert outlived(GIVES_UP, EVERYTHING) == {("web", "shop"): Outlived(1, 1, 190 * MS)}
    assert gives_up_early(GIVES_UP, EVERYTHING) == {("web", "shop"): (100 * MS, 288 * MS)}
    assert deadline_grows(GIVES_UP, EVERYTHING) == {
        ("web", "shop", "postgresql/goods"): (100 * MS, 270 * MS)
    }


def test_the_network_is_what_the_callee_does_not_know_of() -> None:
    traces = Traces(
        [
            call("web", "shop", "1", "", (0, 50)),
            request("shop", "2", "1", (10, 40)),
            call("web", "shop", "3", "", (0, 100), trace="u"),
            request("shop", "4", "3", (5, 95), trace="u"),
        ]
    )
    assert network(traces, EVERYTHING) == {("web", "shop"): Network(2, 100 * MS, 90 * MS, 10 * MS)}


def test_an_address_that_several_answer_stays_a_node_and_leads_to_all_of_them() -> None:
    traces = Traces(
        [
            request("web", "0", "", (0, 90)),
            call("web", "mesh", "1", "0", (0, 50)),
            request("cart", "2", "1", (10, 40)),
            call("web", "mesh", "3", "0", (50, 80)),
            request("price", "4", "3", (55, 75)),
        ]
    )
    assert traces.virtual() == {"mesh": {"cart", "price"}}
    found = edges(traces, EVERYTHING)
    assert found == {("web", "mesh"): EdgeCounts(2, 0, 0, 1)}
    assert reach(traces, "web", found) == {"web", "mesh", "cart", "price"}
    assert reach(traces, "cart", found) == {"cart"}


def test_retries_are_calls_of_the_same_request() -> None:
    spans = [
        request("web", "a", "", (0, 10)),
        call("web", "shop", "b", "a", (1, 9)),
        request("web", "c", "", (1000, 1040), trace="u"),
        call("web", "shop", "d", "c", (1001, 1010), SERVER_ERROR, trace="u"),
        call("web", "shop", "e", "c", (1015, 1020), SERVER_ERROR, trace="u"),
        call("web", "shop", "f", "c", (1025, 1039), trace="u"),
    ]
    found = amplification(Traces(spans), Window(1000, 2000), Window(0, 1000))
    assert found["web", "shop"].factor == 3.0


def test_a_request_goes_round_only_where_it_comes_back_to_where_it_was() -> None:
    traces = Traces(
        [
            request("orders", "1", "", (0, 90)),
            call("orders", "stock", "2", "1", (1, 80)),
            request("stock", "3", "2", (2, 79)),
            call("stock", "orders", "4", "3", (3, 70)),
            request("orders", "5", "4", (4, 69)),
            request("users", "6", "", (0, 9), trace="u"),
            call("users", "groups", "7", "6", (1, 8), trace="u"),
            request("groups", "8", "7", (2, 7), trace="u"),
            request("groups", "9", "", (0, 9), trace="v"),
            call("groups", "users", "a", "9", (1, 8), trace="v"),
            request("users", "b", "a", (2, 7), trace="v"),
        ]
    )
    assert components(edges(traces, EVERYTHING)) == {
        frozenset({"orders", "stock"}),
        frozenset({"users", "groups"}),
    }
    assert rounds(traces, EVERYTHING) == [Round(("orders", "stock", "orders"), "t", 69 * MS)]
    assert rounds(traces, Window(0, 69)) == []


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        pytest.param([("a", "b"), ("b", "c")], set(), id="chain"),
        pytest.param([("a", "a"), ("a", "b")], set(), id="calls itself"),
        pytest.param(
            [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")], {"abc"}, id="ring and a tail"
        ),
        pytest.param(
            [("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")], {"ab", "cd"}, id="two"
        ),
    ],
)
def test_components(edges: list[tuple[str, str]], expected: set[str]) -> None:
    assert components(edges) == {frozenset(names) for names in expected}


def test_quantiles_by_nearest_rank() -> None:
    assert quantile_ns([4, 1, 3, 2], 50) == 2
    assert quantile_ns(list(range(1, 101)), 95) == 95
    assert quantile_ns([7], 99) == 7


def test_a_record_counts_from_the_first_boundary_that_was_not_closed_when_it_came() -> None:
    times_ms = [3_000, 3_200, 3_400, 3_500, 3_501, 6_000, 6_100]
    assert first_counted(times_ms, grace_ms=500) == [
        2_500,  # the first one: whatever its time closes
        3_000,
        3_000,
        3_000,  # closes 3,000, and counts in it
        3_500,
        3_500,  # closes all up to 5,500; 3,500 is the first of them
        6_000,  # by the end of the recording
    ]
    assert first_counted([], grace_ms=500) == []
    assert last_30s(31_000) == Window(1_000, 31_000)
