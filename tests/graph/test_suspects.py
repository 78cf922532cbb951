"""Where what is bad begins: badness flows along bad calls, and stays where nothing explains it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules.graph.suspects import BadCall, Blame, blame


def calls(*triples: tuple[int, int, float]) -> dict[int, list[BadCall]]:
    found: dict[int, list[BadCall]] = {}
    for edge, (caller, callee, weight) in enumerate(triples):
        found.setdefault(caller, []).append(BadCall(edge, callee, weight))
    return found


def begins(found: list[Blame]) -> dict[int, float]:
    return {one.node: round(one.begins, 6) for one in found if one.begins > 1e-9}


def test_callers_of_a_dead_silent_callee_keep_nothing() -> None:
    bad = np.array([1.0, 1.0, 1.0, 0.0])  # 3 says nothing
    found = blame(0, bad, calls((0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0)))
    assert begins(found) == {3: 1.0}
    assert [(one.node, one.by) for one in found[:1]] == [(3, 2)]


def test_who_has_healthy_dependencies_keeps_all() -> None:
    assert begins(blame(0, np.array([0.6]), {})) == {0: 1.0}


def test_a_dependency_that_explains_half_gets_half() -> None:
    found = blame(0, np.array([0.8, 0.4]), calls((0, 1, 0.4)))
    assert begins(found) == {0: 0.5, 1: 0.5}
    assert [one.node for one in found] == [0, 1]  # ties in the order of names


def test_two_legs_share_by_what_they_explain_and_meet_again_below() -> None:
    found = blame(
        0,
        np.array([1.0, 1.0, 1.0, 1.0]),
        calls((0, 1, 0.75), (0, 2, 0.25), (1, 3, 1.0), (2, 3, 1.0)),
    )
    assert begins(found) == {3: 1.0}
    assert found[0].passes == pytest.approx(1.0)


def test_in_a_circle_nothing_is_lost() -> None:
    found = blame(0, np.array([1.0, 1.0, 1.0]), calls((0, 1, 1.0), (1, 2, 0.5), (2, 1, 0.5)))
    assert sum(one.begins for one in found) == pytest.approx(1.0, abs=1e-3)
    assert {one.node for one in found if one.begins > 0.1} == {1, 2}


@given(
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0.01, 1)), max_size=12).map(
        lambda edges: list({(a, b): (a, b, w) for a, b, w in edges}.values())
    ),
)
def test_what_begins_somewhere_adds_up_to_all(
    bad: list[float], edges: list[tuple[int, int, float]]
) -> None:
    found = blame(0, np.array(bad), calls(*edges))
    assert sum(one.begins for one in found) == pytest.approx(1.0, abs=0.02)
    assert all(0.0 <= one.begins <= 1.0 + 1e-9 for one in found)
    assert found == sorted(found, key=lambda one: (-one.begins, one.node))
