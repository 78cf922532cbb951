"""Deepest first: which edge holds a service at degraded_1, what its reason says, and until when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules.blast_radius import Ceilings, Suspect, deepest_first
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.level import Level

RULES = builtin_policy("default").file.blast_radius
NOW = 7_000_000
WAIT = RULES.deepest_wait_s * 2
KEYS = 12


@dataclass(frozen=True)
class Edge:
    """An edge on evidence. `row`: its place in the order of scopes."""

    row: int
    parent: int = 0
    failed: float = 0.0
    slow: float = 0.0
    level: Level = Level.OPEN
    since: int = NOW - WAIT + 1


@dataclass(frozen=True)
class Parent:
    """A service that asks for more than degraded_1."""

    row: int = 0
    failed: float = 0.0
    inherited: float = 0.0
    slow: float = 0.0
    is_own_evident: bool = False
    is_self_slow: bool = False


def ceilings(parents: Sequence[Parent], edges: Sequence[Edge]) -> Ceilings:
    def of(things: Sequence[Parent] | Sequence[Edge], name: str, dtype: type) -> np.ndarray:
        return np.array([getattr(thing, name) for thing in things], dtype)

    suspect = Suspect(
        rows=of(parents, "row", np.int64),
        failed=of(parents, "failed", np.float64),
        slow=of(parents, "slow", np.float64),
        inherited=of(parents, "inherited", np.float64),
        is_own_evident=of(parents, "is_own_evident", np.bool_),
        is_self_slow=of(parents, "is_self_slow", np.bool_),
        edges=of(edges, "row", np.int64),
        parent=of(edges, "parent", np.int64),
        edge_failed=of(edges, "failed", np.float64),
        edge_slow=of(edges, "slow", np.float64),
        edge_level=of(edges, "level", np.uint8),
        edge_since=of(edges, "since", np.int64),
    )
    out = Ceilings(np.full(KEYS, int(Level.LOCKED), np.uint8))
    deepest_first(suspect, out, lambda row: f"edge-{row}", RULES, NOW)
    return out


def held(parent: Parent, *edges: Edge) -> str | None:
    """Why the only service is held, None where it isn't."""
    found = ceilings([parent], edges)
    assert set(found.reasons) <= {parent.row}
    assert (found.worst[parent.row] == Level.DEGRADED_1) == (parent.row in found.reasons)
    return found.reasons.get(parent.row)


@pytest.mark.parametrize(
    ("parent", "edge", "share"),
    [
        (Parent(failed=10, inherited=8), Edge(5, failed=6), "60%"),
        (Parent(failed=10, inherited=8), Edge(5, failed=20), "80%"),  # more calls than requests
        (Parent(failed=10, inherited=10), Edge(5, failed=5), None),  # half is not more than half
        (Parent(failed=100, inherited=100), Edge(5, failed=51), "51%"),
        (Parent(failed=10, inherited=0), Edge(5, failed=10), None),  # no failed request had it
        (Parent(slow=10), Edge(5, slow=7), "70%"),
        (Parent(slow=10), Edge(5, slow=70), "100%"),
        (Parent(slow=10, is_self_slow=True), Edge(5, slow=10), None),
        (Parent(failed=4, inherited=4, slow=16), Edge(5, failed=4, slow=4), None),  # 8 of 20
        (Parent(failed=4, inherited=4, slow=16), Edge(5, failed=4, slow=8), "60%"),
        (Parent(failed=12, inherited=12, slow=8, is_self_slow=True), Edge(5, failed=12), "60%"),
    ],
)
def test_an_edge_that_explains_more_than_half_holds_its_service(
    parent: Parent, edge: Edge, share: str | None
) -> None:
    expected = None if share is None else f"held at degraded_1: edge-5 explains {share} of it"
    assert held(parent, edge) == expected


@pytest.mark.parametrize(
    ("level", "waited", "is_own_evident", "is_held"),
    [
        (Level.OPEN, WAIT, True, False),
        (Level.OPEN, WAIT - 1, True, True),
        (Level.OPEN, WAIT, False, True),
        (Level.DEGRADED_2, WAIT, True, False),
        (Level.HALF_OPEN, WAIT, True, False),
        (Level.FORCED_OPEN, WAIT, True, False),
        (Level.DEGRADED_1, 10 * WAIT, True, True),  # turns nobody away
        (Level.CLOSED, 10 * WAIT, True, True),
    ],
)
def test_a_service_follows_once_the_edge_has_acted_and_it_fails_by_itself(
    level: Level, waited: int, is_own_evident: bool, is_held: bool
) -> None:
    parent = Parent(failed=10, inherited=8, is_own_evident=is_own_evident)
    edge = Edge(5, failed=8, level=level, since=NOW - waited)
    assert (held(parent, edge) is not None) == is_held


@pytest.mark.parametrize(
    ("edges", "named"),
    [
        ([Edge(3, failed=6), Edge(7, failed=9)], 7),
        ([Edge(7, failed=9), Edge(3, failed=6)], 7),
        ([Edge(7, failed=9), Edge(3, failed=9)], 3),  # as much: the first by scope
        ([Edge(3, failed=9), Edge(7, failed=9)], 3),
        # Of those that hold: one that has acted is no reason any more.
        ([Edge(3, failed=9, since=0), Edge(7, failed=6)], 7),
        ([Edge(3, failed=4), Edge(7, failed=6)], 7),
    ],
)
def test_the_edge_is_named_that_explains_most(edges: list[Edge], named: int) -> None:
    told = held(Parent(failed=10, inherited=10, is_own_evident=True), *edges)
    assert told is not None
    assert f"edge-{named} explains" in told


def test_no_single_edge_of_several_needs_to_hold_if_each_explains_little() -> None:
    edges = [Edge(row, failed=4) for row in (3, 5, 7)]
    assert held(Parent(failed=12, inherited=12), *edges) is None


def test_each_service_is_held_by_its_own_edges_only() -> None:
    parents = [Parent(1, failed=10, inherited=10), Parent(4, failed=10, inherited=10)]
    edges = [Edge(2, parent=0, failed=9), Edge(5, parent=1, failed=2)]
    assert set(ceilings(parents, edges).reasons) == {1}


# ---- what holds for all input ----

COUNTS = st.integers(0, 40).map(float)


@st.composite
def suspects(draw: st.DrawFn) -> tuple[list[Parent], list[Edge]]:
    rows = draw(st.permutations(range(KEYS)))
    parents = []
    for row in rows[: draw(st.integers(1, 3))]:
        failed = draw(COUNTS)
        parents.append(
            Parent(
                row,
                failed=failed,
                inherited=min(failed, draw(COUNTS)),
                slow=draw(COUNTS),
                is_own_evident=draw(st.booleans()),
                is_self_slow=draw(st.booleans()),
            )
        )
    edges = [
        Edge(
            row,
            parent=draw(st.integers(0, len(parents) - 1)),
            failed=draw(COUNTS),
            slow=draw(COUNTS),
            level=draw(st.sampled_from(Level)),
            since=NOW - draw(st.sampled_from([0, WAIT - 1, WAIT, 10 * WAIT])),
        )
        for row in rows[3 : 3 + draw(st.integers(1, 6))]
    ]
    return parents, edges


def by_hand(parent: Parent, edges: Sequence[Edge]) -> str | None:
    best, most = None, 0.0
    for edge in sorted(edges, key=lambda e: e.row):
        explained = min(edge.failed, parent.inherited)
        explained += 0 if parent.is_self_slow else min(edge.slow, parent.slow)
        share = explained / max(1, parent.failed + parent.slow)
        has_acted = edge.level >= Level.DEGRADED_2 and NOW - edge.since >= WAIT
        if share > 0.5 and not (has_acted and parent.is_own_evident) and share > most:
            best, most = edge, share
    if best is None:
        return None
    return f"held at degraded_1: edge-{best.row} explains {most:.0%} of it"


@given(suspects())
def test_what_is_held_and_why_is_as_recomputed_edge_by_edge(
    case: tuple[list[Parent], list[Edge]],
) -> None:
    parents, edges = case
    expected = {
        parent.row: told
        for i, parent in enumerate(parents)
        if (told := by_hand(parent, [e for e in edges if e.parent == i])) is not None
    }
    assert ceilings(parents, edges).reasons == expected


@given(suspects(), st.randoms(use_true_random=False))
def test_the_order_in_which_keys_are_looked_at_says_nothing(
    case: tuple[list[Parent], list[Edge]], draw: object
) -> None:
    parents, edges = case
    order = list(range(len(parents)))
    draw.shuffle(order)  # type: ignore[attr-defined] # a random.Random
    shuffled = [replace(e, parent=order.index(e.parent)) for e in edges]
    draw.shuffle(shuffled)  # type: ignore[attr-defined] # a random.Random
    one, other = ceilings(parents, edges), ceilings([parents[i] for i in order], shuffled)
    assert (one.reasons, one.worst.tolist()) == (other.reasons, other.worst.tolist())


@given(
    st.lists(st.sampled_from(Level), min_size=KEYS, max_size=KEYS),
    st.lists(st.lists(st.integers(0, KEYS - 1), unique=True), max_size=4),
)
def test_a_ceiling_is_never_raised_and_the_first_reason_stays(
    levels: list[Level], limits: list[list[int]]
) -> None:
    found = Ceilings(np.array(levels, np.uint8))
    for number, rows in enumerate(limits):
        before = found.worst.copy()
        found.limit(np.array(rows, np.int64), lambda row, number=number: f"{number} of {row}")  # type: ignore[misc] # bound at once
        assert (found.worst <= before).all()
        assert (found.worst[rows] <= Level.DEGRADED_1).all()
        untouched = np.setdiff1d(np.arange(KEYS), rows)
        assert (found.worst[untouched] == before[untouched]).all()
    for row in {row for rows in limits for row in rows}:
        first = next(n for n, rows in enumerate(limits) if row in rows)
        assert found.reasons[row] == f"{first} of {row}"
