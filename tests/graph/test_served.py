"""Graph health: the properties that its formula promises, as laws."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules.graph.served import ROUNDS_MAX, Calls, served

OPTIONAL_COST = 0.02
SCORES = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


@st.composite
def graphs(draw: st.DrawFn, *, may_circle: bool = True) -> tuple[np.ndarray, Calls]:
    """(own scores, calls) of up to 8 nodes."""
    n = draw(st.integers(1, 8))
    own = np.array(draw(st.lists(SCORES, min_size=n, max_size=n)))
    pairs = [(a, b) for a in range(n) for b in range(n) if (a < b or (may_circle and a != b))]
    chosen = sorted(draw(st.sets(st.sampled_from(pairs), max_size=12))) if pairs else []
    return own, calls_of(draw, chosen)


def calls_of(draw: st.DrawFn, pairs: list[tuple[int, int]]) -> Calls:
    m = len(pairs)
    return Calls(
        np.array([a for a, _ in pairs], np.int64),
        np.array([b for _, b in pairs], np.int64),
        np.array(draw(st.lists(SCORES, min_size=m, max_size=m)), np.float64),
        np.array(draw(st.lists(st.floats(0.1, 20), min_size=m, max_size=m)), np.float64),
        np.array(draw(st.lists(st.floats(OPTIONAL_COST, 1), min_size=m, max_size=m)), np.float64),
    )


def slowly(own: list[float], calls: Calls, node: int) -> float:
    """The formula as it is written, for graphs without circles."""
    product = 1.0
    for i in range(len(calls.caller)):
        if calls.caller[i] == node:
            best = min(float(calls.score[i]), slowly(own, calls, int(calls.callee[i])))
            lost = min(1.0, float(calls.fan_out[i]) * (1.0 - best))
            product *= 1.0 - float(calls.hard[i]) * lost
    return min(own[node], product)


@given(graphs(may_circle=False))
def test_it_is_the_formula_as_written(graph: tuple[np.ndarray, Calls]) -> None:
    own, calls = graph
    expected = [slowly(own.tolist(), calls, node) for node in range(len(own))]
    assert np.allclose(served(own, calls), expected, atol=1e-5)


@given(graphs())
def test_it_lies_within_0_and_what_the_node_says_of_itself(
    graph: tuple[np.ndarray, Calls],
) -> None:
    own, calls = graph
    found = served(own, calls)
    assert ((found >= 0.0) & (found <= own)).all()


@given(graphs(), st.data())
def test_whoever_gets_better_makes_nobody_worse(
    graph: tuple[np.ndarray, Calls], data: st.DataObject
) -> None:
    own, calls = graph
    more = np.array(data.draw(st.lists(SCORES, min_size=len(own), max_size=len(own))))
    m = len(calls.score)
    better = np.array(data.draw(st.lists(SCORES, min_size=m, max_size=m)), np.float64)
    improved = replace(calls, score=np.maximum(calls.score, better))
    assert (served(np.maximum(own, more), improved) >= served(own, calls) - 1e-4).all()


@given(graphs())
def test_it_is_1_exactly_where_all_that_is_reached_is_1(graph: tuple[np.ndarray, Calls]) -> None:
    own, calls = graph
    found = served(own, calls)
    for node in range(len(own)):
        reached, waiting, is_well = {node}, [node], True
        while waiting:
            at = waiting.pop()
            is_well &= own[at] == 1.0
            for i in np.flatnonzero(calls.caller == at).tolist():
                is_well &= calls.score[i] == 1.0
                if int(calls.callee[i]) not in reached:
                    reached.add(int(calls.callee[i]))
                    waiting.append(int(calls.callee[i]))
        # What is bad far away reaches little of it: 1e-6 is where going round ends.
        assert (found[node] == 1.0) == is_well or found[node] > 1.0 - 1e-4


@given(SCORES)
def test_a_graph_of_one_is_its_services_own_score(score: float) -> None:
    none = np.empty(0, np.int64)
    alone = Calls(none, none, *(np.empty(0, np.float64) for _ in range(3)))
    assert served(np.array([score]), alone).tolist() == [score]


def one_call(*, fan_out: float, hard: float) -> Calls:
    return Calls(
        np.array([0]), np.array([1]), np.array([0.0]), np.array([fan_out]), np.array([hard])
    )


def test_a_dead_optional_callee_with_a_fallback_costs_little_and_one_that_all_need_everything() -> (
    None
):
    own = np.ones(2)
    assert served(own, one_call(fan_out=1.0, hard=OPTIONAL_COST))[0] == 1.0 - OPTIONAL_COST
    assert served(own, one_call(fan_out=1.0, hard=1.0))[0] == 0.0
    assert served(own, one_call(fan_out=0.25, hard=1.0))[0] == 0.75  # one request in four needs it


def test_a_long_chain_is_followed_to_its_end_and_a_circle_ends() -> None:
    n = ROUNDS_MAX
    own = np.ones(n)
    own[-1] = 0.0
    line = Calls(np.arange(n - 1), np.arange(1, n), np.ones(n - 1), np.ones(n - 1), np.ones(n - 1))
    assert served(own, line)[0] == 0.0
    around = Calls(np.arange(n), (np.arange(n) + 1) % n, np.ones(n), np.ones(n), np.full(n, 0.5))
    found = served(own, around)
    assert found[-1] == 0.0
    assert found[-2] == 0.5
