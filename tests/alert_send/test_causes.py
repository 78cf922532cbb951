"""Which cause an alert has: one that it reaches along bad calls, and no other."""

import pytest

from tests.alert_send.graphs import CALLS, DB, DB_SCOPES, view
from tidegate.rules.graph.grouping import Explained, cause_of

DEAD_DB = view(("web", "db", 0.9))


@pytest.mark.parametrize("scope", DB_SCOPES)
def test_what_lies_before_a_dead_database_has_it_as_its_cause(scope: str) -> None:
    cause = cause_of(scope, DEAD_DB)
    assert cause is not None
    assert (cause.name, cause.scope, cause.reason) == ("db", "inbound:db", DB)


@pytest.mark.parametrize(
    "scope",
    [
        *("service:search", "edge:web->search", "inbound:index", "edge:search->index"),
        *("service:admin", "graph:admin", "service:unheard-of", "partition:3", "nonsense"),
    ],
)
def test_what_lies_beside_it_has_not(scope: str) -> None:
    assert cause_of(scope, DEAD_DB) is None


def test_calls_that_are_well_carry_no_cause() -> None:
    bad = tuple(call for call in CALLS if call != ("checkout", "stock"))
    graph = view(("web", "stock", 0.8), bad=bad)
    assert cause_of("service:checkout", graph) is None
    stock = cause_of("inbound:stock", graph)
    assert stock is not None
    assert stock.scope == "service:stock"
    entry = cause_of("graph:web", graph)
    assert entry is not None
    assert entry.name == "stock"


def test_calls_too_few_to_be_judged_carry_the_cause_that_they_go_to() -> None:
    thin = (("cart", "db"), ("web", "checkout"))
    graph = view(("web", "db", 0.8), thin=thin)
    assert cause_of("service:cart", graph) is not None
    assert cause_of("service:web", graph) is None


def test_a_first_suspect_with_less_than_half_is_no_cause() -> None:
    assert cause_of("service:cart", view(("web", "db", 0.49))) is None
    assert cause_of("service:cart", view(("web", "db", 0.5))) is not None


def test_two_causes_stay_apart_and_who_reaches_both_goes_with_the_larger() -> None:
    graph = view(("web", "db", 0.6), ("admin", "index", 0.9))
    names = {
        scope: cause.name
        for scope in ("service:cart", "service:search", "service:web", "graph:web", "graph:admin")
        if (cause := cause_of(scope, graph)) is not None
    }
    assert names == {
        "service:cart": "db",
        "service:search": "index",
        "service:web": "index",
        "graph:web": "db",
        "graph:admin": "index",
    }


def test_only_what_is_in_the_graph_can_come_to_have_a_cause() -> None:
    known = Explained(view())
    for scope in ("service:cart", "edge:cart->db", "edge:cart->elsewhere", "graph:web"):
        assert known.knows(scope)
    for scope in ("service:elsewhere", "partition:3", "cart"):
        assert not known.knows(scope)
