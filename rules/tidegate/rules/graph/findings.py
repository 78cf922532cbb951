"""What is wrong with how services call each other: circles, retries that multiply, deadlines that don't fit.

Each rule is a function from the structure to findings; those that swing need to hold for a time, and as long to
end. None of them moves a level.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import rustworkx

from tidegate.rules.graph.structure import Structure
from tidegate.rules.pairs import SAMPLED_ONE_IN
from tidegate.rules.policy_types import GraphSettings
from tidegate.rules.reason import clock
from tidegate.schemas.bins import BIN_VALUE_NS
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.graph import GraphFinding

__all__ = ["RULES", "Observed", "Seen", "circles", "deadlines_of", "move"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LOOPS_MAX = 1_000
_TIMEOUTS_MAX = 50
"""Thousandths: with more time-outs the P95 is the deadline."""
_HOLDS_SHARE = 0.75
"""A finding that stands ends below this part of what began it."""


class Observed:
    """What pairing saw of single requests: those that went round, and work for nobody."""

    def __init__(self) -> None:
        self.loops: dict[tuple[str, ...], tuple[int, int, str]] = {}
        """Path to (first seen, last seen in ms, a trace id)."""

    def hear(self, loops: list[Loop], facts: list[Fact], structure: Structure) -> None:
        """Of one partition at one boundary."""
        for loop in loops:
            path = tuple(loop.path)
            first = self.loops.get(path, (loop.seen_ms, 0, ""))[0]
            if path in self.loops or len(self.loops) < LOOPS_MAX:
                self.loops[path] = (first, loop.seen_ms, loop.trace_id)
        for fact in facts:
            if not fact.outlived:
                continue
            callee = fact.callees[0] if len(fact.callees) == 1 else fact.target
            slot = structure.by_key.get((fact.caller, callee))
            if slot is not None:
                if structure.rows.outlived_from[slot] < 0:
                    structure.rows.outlived_from[slot] = fact.seen_ms // BUCKET_MS
                structure.rows.outlived_seen[slot] = fact.seen_ms // BUCKET_MS
                structure.rows.outlived[slot] += fact.outlived
                structure.rows.outlived_ms[slot] += fact.outlived_ms

    def forget(self, structure: Structure, boundary: int, s: GraphSettings) -> None:
        """What was not seen for `observed_ttl_s`."""
        ttl_ms = s.observed_ttl_s * 1000
        oldest_ms = boundary * BUCKET_MS - ttl_ms
        self.loops = {path: seen for path, seen in self.loops.items() if seen[1] >= oldest_ms}
        rows = structure.rows
        over = (rows.outlived_seen >= 0) & (rows.outlived_seen * BUCKET_MS < oldest_ms)
        rows.outlived_from[over] = rows.outlived_seen[over] = -1
        rows.outlived[over] = rows.outlived_ms[over] = 0.0

    def save(self) -> list[tuple[list[str], list[int | str]]]:
        """By path."""
        return [(list(path), list(seen)) for path, seen in sorted(self.loops.items())]

    def load(self, saved: list[tuple[list[str], list[int | str]]]) -> None:
        """The opposite."""
        self.loops = {tuple(path): (int(a), int(b), str(t)) for path, (a, b, t) in saved}


def move(structure: Structure, boundary: int, s: GraphSettings) -> None:
    """One boundary for the findings that need to stand."""
    rows, edges = structure.rows, structure.edges()
    if not len(edges):
        return
    live = structure.is_live(edges, boundary) & (rows.requests[edges] >= s.amplification_calls_min)
    callers, callees = rows.caller[edges], rows.callee[edges]
    now = rows.qps[edges] / np.maximum(rows.qps[callers], 1)
    usual = rows.calls_usual[edges] / np.maximum(rows.requests_usual[edges], 1e-9)
    known = rows.requests_usual[edges] >= s.amplification_calls_min
    stands = rows.amplified_since[edges] >= 0
    ease = np.where(stands, _HOLDS_SHARE, 1.0)
    is_amplified = live & known & (rows.qps[callers] > 0)
    is_amplified &= now >= s.amplification_factor * usual * ease
    is_amplified &= now - usual >= s.amplification_more * ease
    wait = s.stands_s * 1000 // BUCKET_MS
    _stand(rows.amplified_since, rows.amplified_moves, edges, is_amplified, boundary, wait)
    more_us = rows.p95_us[edges] - rows.p95_us[callees]
    heard = structure.is_live(callees, boundary) & rows.is_service[callees]
    ease = np.where(rows.network_since[edges] >= 0, _HOLDS_SHARE, 1.0)
    is_far = live & heard & (rows.p95_us[callees] >= 0) & (rows.p95_us[edges] >= 0)
    # Who waits for nothing waits until the deadline: that is no network.
    is_far &= rows.timeout[edges] < _TIMEOUTS_MAX
    is_far &= more_us >= s.network_ms * 1000 * ease
    is_far &= more_us >= s.network_share * rows.p95_us[edges] * ease
    _stand(rows.network_since, rows.network_moves, edges, is_far, boundary, wait)


def _stand(since: Ints, moves: Ints, slots: Ints, holds: Mask, boundary: int, wait: int) -> None:
    """Changes once the opposite has held for `wait` boundaries."""
    stands = since[slots] >= 0
    differs = holds != stands
    began = np.where(differs, np.where(moves[slots] < 0, boundary, moves[slots]), -1)
    turns = differs & (boundary - began >= wait)
    since[slots] = np.where(turns, np.where(stands, -1, began), since[slots])
    moves[slots] = np.where(turns, -1, began)


def deadlines_of(structure: Structure, timeouts_min: int) -> dict[int, float]:
    """By slot of an edge, after how many ms its caller gives up: the median of the newest calls that timed
    out. In the order of names."""
    edges = structure.edges()
    has = structure.rows.deadlines_next[edges] >= timeouts_min
    found = {}
    for slot in edges[has].tolist():
        bins = structure.rows.deadlines[slot]
        bins = np.sort(bins[bins >= 0])
        found[slot] = float(BIN_VALUE_NS[int(bins[len(bins) // 2])]) / 1e6
    return found


# ---- rules ----


@dataclass(frozen=True, slots=True)
class Seen:
    """What rules look at."""

    structure: Structure
    observed: Observed
    settings: GraphSettings
    deadlines: dict[int, float]
    """See `deadlines_of`."""


def circles(structure: Structure) -> list[list[str]]:
    """Strongly connected components of the live graph with more than one node, or a node that calls itself;
    sorted names."""
    nodes, edges = structure.nodes(), structure.edges()
    place = np.full(len(structure.names), -1, np.int64)
    place[nodes] = np.arange(len(nodes))
    graph = rustworkx.PyDiGraph(multigraph=False)
    graph.add_nodes_from(range(len(nodes)))
    ends = zip(
        place[structure.rows.caller[edges]].tolist(),
        place[structure.rows.callee[edges]].tolist(),
        strict=True,
    )
    pairs = list(ends)
    graph.add_edges_from_no_data(pairs)
    own = {a for a, b in pairs if a == b}
    found = [
        sorted(structure.name(int(nodes[i])) for i in component)
        for component in rustworkx.strongly_connected_components(graph)
        if len(component) > 1 or component[0] in own
    ]
    return sorted(found)


def _cycles(at: Seen) -> Iterator[GraphFinding]:
    """Circles of the graph, told apart: those that requests were seen to go round, and those that are only
    drawn by several requests."""
    structure = at.structure
    members = [(set(names), names) for names in circles(at.structure)]
    for names, ordered in members:
        seen = [
            (path, times) for path, times in sorted(at.observed.loops.items()) if set(path) <= names
        ]
        if not seen:
            made = min(
                int(structure.rows.made[slot])
                for key, slot in structure.by_key.items()
                if key[1] and key[0] in names and key[1] in names
            )
            yield GraphFinding(
                name="cycle",
                path=[*ordered, ordered[0]],
                since_ms=made * BUCKET_MS,
                reason=(
                    f"{' and '.join(ordered)} depend on each other; no request was seen to go round, "
                    "but retries on both sides would feed each other"
                ),
            )
        for path, (first_ms, last_ms, trace) in seen:
            yield GraphFinding(
                name="cycle",
                path=list(path),
                since_ms=first_ms,
                reason=(
                    f"requests go round: {' -> '.join(path)}, last seen at {clock(last_ms)}; "
                    "retries multiply with every round"
                ),
                exemplars=[trace],
            )


def _amplification(at: Seen) -> Iterator[GraphFinding]:
    structure, rows = at.structure, at.structure.rows
    for slot in structure.edges()[rows.amplified_since[structure.edges()] >= 0].tolist():
        caller, callee = structure.names[slot]
        now = rows.qps[slot] / max(1, int(rows.qps[rows.caller[slot]]))
        usual = rows.calls_usual[slot] / max(1e-9, float(rows.requests_usual[slot]))
        yield GraphFinding(
            name="amplification",
            path=[caller, callee],
            since_ms=int(rows.amplified_since[slot]) * BUCKET_MS,
            reason=(
                f"{caller} makes {now:.1f} calls to {callee} for each request, {usual:.1f} are usual: "
                "retries multiply the load"
            ),
        )


def _gives_up_early(at: Seen) -> Iterator[GraphFinding]:
    structure, rows = at.structure, at.structure.rows
    for slot, deadline in at.deadlines.items():
        caller, callee = structure.names[slot]
        node = int(rows.callee[slot])
        p99_ms = float(rows.p99_us[node]) / 1000
        if not rows.is_service[node] or p99_ms <= deadline:
            continue
        lost = rows.timeout[slot] / 1000 * rows.qps[slot] / 1000 * 60 * deadline / 1000
        yield GraphFinding(
            name="gives_up_early",
            path=[caller, callee],
            since_ms=int(rows.made[slot]) * BUCKET_MS,
            waste_s_per_min=round(float(lost), 1),
            reason=(
                f"{caller} gives up on {callee} after {deadline:.0f} ms, but one answer in a hundred takes "
                f"more than {p99_ms:.0f} ms"
            ),
        )


def _deadline_grows(at: Seen) -> Iterator[GraphFinding]:
    structure, rows, known = at.structure, at.structure.rows, at.deadlines
    by_caller: dict[int, list[int]] = {}
    for slot in known:
        by_caller.setdefault(int(rows.caller[slot]), []).append(slot)
    for slot, deadline in known.items():
        caller, middle = structure.names[slot]
        for inner in by_caller.get(int(rows.callee[slot]), []):
            if known[inner] > deadline:
                callee = structure.names[inner][1]
                yield GraphFinding(
                    name="deadline_grows",
                    path=[caller, middle, callee],
                    since_ms=int(max(rows.made[slot], rows.made[inner])) * BUCKET_MS,
                    reason=(
                        f"{caller} waits {deadline:.0f} ms for {middle}, which waits {known[inner]:.0f} ms "
                        f"for {callee}: who asked is gone before the answer comes"
                    ),
                )


def _outlives(at: Seen) -> Iterator[GraphFinding]:
    structure, rows = at.structure, at.structure.rows
    edges = structure.edges()
    for slot in edges[rows.outlived[edges] >= at.settings.outlived_min].tolist():
        caller, callee = structure.names[slot]
        count, ms = float(rows.outlived[slot]), float(rows.outlived_ms[slot])
        first, last = int(rows.outlived_from[slot]), int(rows.outlived_seen[slot])
        minutes = max(1.0, (last - first) * BUCKET_MS / 60_000)
        per_min = ms / 1000 * SAMPLED_ONE_IN / minutes
        yield GraphFinding(
            name="outlives",
            path=[caller, callee],
            since_ms=first * BUCKET_MS,
            waste_s_per_min=round(per_min, 1),
            reason=(
                f"{callee} goes on after {caller} has left: {count:.0f} times in sampled traces, "
                f"{ms / count:.0f} ms each"
            ),
        )


def _network(at: Seen) -> Iterator[GraphFinding]:
    structure, rows = at.structure, at.structure.rows
    edges = structure.edges()
    for slot in edges[rows.network_since[edges] >= 0].tolist():
        caller, callee = structure.names[slot]
        theirs = float(rows.p95_us[slot]) / 1000
        own = float(rows.p95_us[rows.callee[slot]]) / 1000
        if theirs <= own:
            continue  # it is about to end
        yield GraphFinding(
            name="network",
            path=[caller, callee],
            since_ms=int(rows.network_since[slot]) * BUCKET_MS,
            reason=(
                f"{caller} waits {theirs:.0f} ms (p95) for {callee}, which answers in {own:.0f} ms: the rest "
                "is network or queues between them"
            ),
        )


RULES: tuple[Callable[[Seen], Iterator[GraphFinding]], ...] = (
    _cycles,
    _amplification,
    _gives_up_early,
    _deadline_grows,
    _outlives,
    _network,
)
"""A new finding is a function here and a name in `schemas.graph`."""
