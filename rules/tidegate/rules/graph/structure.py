"""The live dependency graph: nodes, edges, what each was last heard to be, and what is usual of its calls.

A row (slot) for every node, key (NAME, ""), and for every edge, key (CALLER, CALLEE); both kinds share one
numbering, as in evaluate. Everything here follows from health records, in the order of boundaries.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.graph.arriving import HealthPart
from tidegate.rules.logs import half_life_factor
from tidegate.rules.policy_types import GraphSettings
from tidegate.rules.standing import dense, sparse
from tidegate.rules.state_columns import StateColumns
from tidegate.schemas.cells import BUCKET_MS, EFFECT_SHIFT, SELF_TIME, WEIGHT_ONE
from tidegate.schemas.facts import Fact
from tidegate.schemas.health import NUMBERS
from tidegate.schemas.outcome import Effect, Outcome

__all__ = ["QUIET_BOUNDARIES", "SILENT_BOUNDARIES", "TICK_BOUNDARIES", "Rows", "Structure"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

TICK_BOUNDARIES = 60
"""How often what is usual decays, and entries are looked for anew: every 30 s."""
SILENT_BOUNDARIES = 24
"""A service that merged nothing for 12 s, two exports of 5 s and their way, has nothing to say of itself."""
QUIET_BOUNDARIES = 60
"""Health shows a key when it merged something; what was last shown holds no longer than the window."""
DEADLINES_MAX = 32
"""Durations of time-outs that are remembered for an edge: the newest."""
BEHIND_MAX = 1_000
_START_CAPACITY = 256
_UNKNOWN = ("usual_qps", "p99_us", "target_ms", "hard")


class Rows(StateColumns):
    """By slot. Times are boundaries, -1 never."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "made": (np.int64, -1, 0),
        "seen": (np.int64, -1, 0),
        "heard": (np.int64, -1, 0),
        "caller": (np.int64, -1, 0),
        "callee": (np.int64, -1, 0),
        "is_service": (np.bool_, 0, 0),
        "is_entry": (np.bool_, 0, 0),
        "score": (np.int32, -1, 0),
        "level": (np.uint8, 0, 0),
        "p95_us": (np.int64, -1, 0),
        **{
            name: (np.dtype(d).type, -1 if name in _UNKNOWN else 0, 0)
            for name, d in NUMBERS.items()
        },
        "requests_usual": (np.float64, 0.0, 0),
        "calls_usual": (np.float64, 0.0, 0),
        "calls": (np.float64, 0.0, 0),
        "deadlines": (np.int16, -1, DEADLINES_MAX),
        "deadlines_next": (np.int64, 0, 0),
        "amplified_since": (np.int64, -1, 0),
        "amplified_moves": (np.int64, -1, 0),
        "network_since": (np.int64, -1, 0),
        "network_moves": (np.int64, -1, 0),
        "outlived_from": (np.int64, -1, 0),
        "outlived_seen": (np.int64, -1, 0),
        "outlived": (np.float64, 0.0, 0),
        "outlived_ms": (np.float64, 0.0, 0),
    }
    made: Ints
    seen: Ints
    """When health last told of it."""
    heard: Ints
    """When it last merged anything."""
    caller: Ints
    """Slots of an edge's two nodes; -1 for a node."""
    callee: Ints
    is_service: Mask
    """A node that was heard itself; else it is virtual."""
    is_entry: Mask
    score: npt.NDArray[np.int32]
    level: npt.NDArray[np.uint8]
    p95_us: Ints
    since: Ints
    requests: npt.NDArray[np.int32]
    qps: Ints
    usual_qps: Ints
    error: npt.NDArray[np.int16]
    own_error: npt.NDArray[np.int16]
    slow: npt.NDArray[np.int16]
    timeout: npt.NDArray[np.int16]
    p99_us: Ints
    target_ms: Ints
    hard: npt.NDArray[np.int16]
    marks: npt.NDArray[np.uint16]
    """These twelve: `schemas.health.NUMBERS`."""
    requests_usual: Floats
    """Fading, adjusted: a node's requests; an edge's caller's requests while the edge was closed."""
    calls_usual: Floats
    """Fading: an edge's calls in that time."""
    calls: Floats
    """Fading: all of an edge's calls."""
    deadlines: npt.NDArray[np.int16]
    """Bins of the durations of the newest calls that timed out, a ring; -1 empty."""
    deadlines_next: Ints
    amplified_since: Ints
    """Since when the finding stands, and since when the opposite holds."""
    amplified_moves: Ints
    network_since: Ints
    network_moves: Ints
    outlived_from: Ints
    outlived_seen: Ints
    """When a callee was first and last seen to outlive its caller; how many did since, and by how much."""
    outlived: Floats
    outlived_ms: Floats


class Structure:
    """All nodes and edges. Slot numbers depend on the order of arrival, so nothing published may: sort by
    name."""

    def __init__(self) -> None:
        self.version = 0
        """Grows when a node or edge comes or goes."""
        self.by_key: dict[tuple[str, str], int] = {}
        self.names: list[tuple[str, str]] = [("", "")] * _START_CAPACITY
        self.rows = Rows(_START_CAPACITY)
        self.nodes_count = 0
        self.edges_count = 0
        self.counters: Counter[str] = Counter()
        self._free = list(range(_START_CAPACITY - 1, -1, -1))
        self._edges: Ints | None = None
        self._nodes: Ints | None = None
        self._callees: dict[int, list[int]] | None = None
        self.behind: dict[tuple[str, str], tuple[tuple[str, ...], int]] = {}
        """By caller and name: who answers for a virtual node (a mesh, a gateway), and when that was last seen
        in ms."""

    # ---- rows ----

    def node(self, name: str) -> int:
        """Slot of a node, -1 where there is none."""
        return self.by_key.get((name, ""), -1)

    def edges(self) -> Ints:
        """Slots of all edges, by (caller, callee)."""
        if self._edges is None:
            keys = sorted(key for key in self.by_key if key[1])
            self._edges = np.array([self.by_key[key] for key in keys], np.int64)
        return self._edges

    def nodes(self) -> Ints:
        """Slots of all nodes, by name."""
        if self._nodes is None:
            keys = sorted(key for key in self.by_key if not key[1])
            self._nodes = np.array([self.by_key[key] for key in keys], np.int64)
        return self._nodes

    def name(self, slot: int) -> str:
        """Of a node; of an edge, its callee's."""
        service, callee = self.names[slot]
        return callee or service

    def is_live(self, slots: Ints, boundary: int) -> Mask:
        """Told of within the window, or not closed. Shape kept."""
        rows = self.rows
        live: Mask = (boundary - rows.seen[slots] <= QUIET_BOUNDARIES) | (rows.level[slots] > 0)
        return live

    def reached(self, slot: int) -> set[int]:
        """Nodes that requests at a node may come to, itself too."""
        if self._callees is None:
            edges = self.edges()
            self._callees = {}
            pairs = zip(
                self.rows.caller[edges].tolist(), self.rows.callee[edges].tolist(), strict=True
            )
            for caller, callee in pairs:
                self._callees.setdefault(caller, []).append(callee)
            for front, names in self.answering().items():
                self._callees.setdefault(front, []).extend(names)
        seen, waiting = {slot}, [slot]
        while waiting:
            for callee in self._callees.get(waiting.pop(), ()):
                if callee not in seen:
                    seen.add(callee)
                    waiting.append(callee)
        return seen

    # ---- a boundary ----

    def rename(self, facts: Iterable[Fact]) -> None:
        """Edges whose callee is known from now on keep what was learned of them under their new name; who
        stands behind a name that several answer to is remembered."""
        for fact in facts:
            if len(fact.callees) > 1:
                self._set_behind((fact.caller, fact.target), tuple(fact.callees), fact.seen_ms)
                continue
            if not fact.callees or fact.callees[0] == fact.target:
                continue
            old = self.by_key.get((fact.caller, fact.target))
            if old is None:
                continue
            new = (fact.caller, fact.callees[0])
            if new in self.by_key:
                self._end(old)
                continue
            self._make_node(new[1], int(self.rows.made[old]))
            del self.by_key[fact.caller, fact.target]
            self.by_key[new] = old
            self.names[old] = new
            self.rows.callee[old] = self.by_key[new[1], ""]
            self._changed()
            self._end_if_alone(fact.target)

    def end(self, keys: Iterable[tuple[str, str]]) -> None:
        """Edges that evaluate has dropped, or calls otherwise by now."""
        for key in keys:
            slot = self.by_key.get(key)
            if slot is not None and key[1]:
                self._end(slot)

    def hear(self, part: HealthPart, boundary: int, s: GraphSettings) -> Ints:
        """Takes a part of one partition's health; the slots of its keys, -1 beyond a limit. Shape (k,)."""
        get = self.by_key.get
        slots = np.array([get(key, -1) for key in part.keys], np.int64)
        for number in np.flatnonzero(slots < 0).tolist():
            slots[number] = self._make(part.keys[number], boundary, s)
        known = np.flatnonzero(slots >= 0)
        mine, rows = slots[known], self.rows
        rows.seen[mine] = boundary
        rows.score[mine] = part.score[known]
        rows.level[mine] = part.level[known]
        for name in NUMBERS:
            if name != "p99_us":
                getattr(rows, name)[mine] = part.numbers[name][known]
        for name, column in (("p95_us", part.p95_us), ("p99_us", part.numbers["p99_us"])):
            told: Ints = column[known].astype(np.int64)
            has = told >= 0
            getattr(rows, name)[mine[has]] = told[has]
        rows.is_service[mine[rows.caller[mine] < 0]] = True
        spoke = slots[np.unique(part.key)]
        rows.heard[spoke[spoke >= 0]] = boundary
        self._count(part, slots)
        return slots

    def learn(self, merged: Floats) -> None:
        """What is usual: requests of nodes, and, of closed edges under closed callers, calls a request.
        merged: requests and calls merged at this boundary, by slot."""
        rows, edges, nodes = self.rows, self.edges(), self.nodes()
        rows.requests_usual[nodes] += merged[nodes]
        callers = rows.caller[edges]
        rows.calls[edges] += merged[edges]
        is_calm = (rows.level[edges] == 0) & (rows.level[callers] == 0)
        is_calm &= rows.amplified_since[edges] < 0
        rows.requests_usual[edges] += np.where(is_calm, merged[callers], 0.0)
        rows.calls_usual[edges] += np.where(is_calm, merged[edges], 0.0)

    def tick(self, boundary: int, s: GraphSettings) -> None:
        """At every TICK_BOUNDARIES: lets what is usual fade, ends what nobody called, and looks anew who is
        an entry."""
        rows = self.rows
        factor = half_life_factor(
            max(1, s.fan_out_half_life_s * 1000 // BUCKET_MS // TICK_BOUNDARIES)
        )
        for name in ("requests_usual", "calls_usual", "calls"):
            setattr(rows, name, getattr(rows, name) * factor)
        self._age(boundary, s)
        oldest_ms = boundary * BUCKET_MS - s.observed_ttl_s * 1000
        self.behind = {name: b for name, b in self.behind.items() if b[1] >= oldest_ms}
        nodes = self.nodes()
        total = np.maximum(rows.requests_usual[nodes], 1e-9)
        outside = (rows.requests_usual[nodes] - self._calls_into()[nodes]) / total
        least = np.where(rows.is_entry[nodes], s.entry_leave_share, s.entry_share)
        is_old = boundary - rows.made[nodes] >= s.entry_after_s * 1000 // BUCKET_MS
        is_entry = rows.is_service[nodes] & is_old & (outside >= least)
        is_entry &= rows.is_entry[nodes] | (rows.requests_usual[nodes] >= s.entry_requests_min)
        self.version += bool((is_entry != rows.is_entry[nodes]).any())
        rows.is_entry[nodes] = is_entry

    def answering(self) -> dict[int, list[int]]:
        """Slots of the services behind virtual nodes, by the node's."""
        found: dict[int, set[int]] = {}
        for (_, front), (names, _) in self.behind.items():
            if (slot := self.node(front)) >= 0:
                found.setdefault(slot, set()).update(map(self.node, names))
        return {slot: sorted(nodes - {-1, slot}) for slot, nodes in found.items()}

    def answered_by(self, name: str) -> list[str]:
        """Who answers for a virtual node, whoever calls; sorted."""
        mine = (names for (_, front), (names, _) in self.behind.items() if front == name)
        return sorted({one for names in mine for one in names})

    # ---- snapshots ----

    def save(self) -> dict[str, Any]:
        """By key, in the order of names."""
        keys = sorted(self.by_key)
        slots = np.array([self.by_key[key] for key in keys], np.int64)
        place = np.full(len(self.names) + 1, -1, np.int64)
        place[slots] = np.arange(len(slots))
        columns = {n: c[slots] for n, c in self.rows.columns().items()}
        for name in ("caller", "callee"):
            columns[name] = place[columns[name]]
        return {
            "version": self.version,
            "behind": sorted((*name, *behind) for name, behind in self.behind.items()),
            "keys": keys,
            "columns": {name: sparse(column) for name, column in columns.items()},
        }

    def load(self, saved: dict[str, Any]) -> None:
        """The opposite, into an empty one."""
        slots = np.array([self._add(key) for key in map(tuple, saved["keys"])], np.int64)
        columns = {name: dense(column) for name, column in saved["columns"].items()}
        for name, column in columns.items():
            is_slot = name in ("caller", "callee") and len(slots)
            getattr(self.rows, name)[slots] = (
                np.where(column >= 0, slots[column], -1) if is_slot else column
            )
        self.version = saved["version"]
        self.behind = {(c, front): (tuple(names), ms) for c, front, names, ms in saved["behind"]}

    # ---- inside ----

    def _set_behind(self, name: tuple[str, str], names: tuple[str, ...], seen_ms: int) -> None:
        known = self.behind.get(name)
        if known is None or known[0] != names:
            self._changed()
        if known is not None or len(self.behind) < BEHIND_MAX:
            self.behind[name] = (names, seen_ms)

    def _calls_into(self) -> Floats:
        """Calls of known callers to each node, fading. Those to a name that several answer to count for each
        of them: nobody knows how they are shared, and who gets no more is called from nowhere else."""
        rows, edges = self.rows, self.edges()
        into = np.bincount(rows.callee[edges], rows.calls[edges], minlength=len(rows.made))
        for front, behind in sorted(self.answering().items()):
            into[behind] += into[front]
        calls: Floats = into.astype(np.float64)
        return calls

    def _make(self, key: tuple[str, str], boundary: int, s: GraphSettings) -> int:
        service, callee = key
        caller = self._make_node(service, boundary, s)
        if not callee:
            return caller
        into = self._make_node(callee, boundary, s)
        if caller < 0 or into < 0 or self.edges_count >= s.edges_max:
            self.counters["overflow_graph_edges"] += 1
            return -1
        if key in self.by_key:
            return self.by_key[key]
        slot = self._add(key)
        self.rows.made[slot] = boundary
        self.rows.caller[slot], self.rows.callee[slot] = caller, into
        return slot

    def _make_node(self, name: str, boundary: int, s: GraphSettings | None = None) -> int:
        slot = self.by_key.get((name, ""))
        if slot is not None:
            return slot
        if s is not None and self.nodes_count >= s.nodes_max:
            self.counters["overflow_graph_nodes"] += 1
            return -1
        slot = self._add((name, ""))
        self.rows.made[slot] = boundary
        return slot

    def _add(self, key: tuple[str, str]) -> int:
        if not self._free:
            old = len(self.names)
            self.names += [("", "")] * old
            self.rows.grow(2 * old)
            self._free = list(range(2 * old - 1, old - 1, -1))
        slot = self._free.pop()
        self.by_key[key] = slot
        self.names[slot] = key
        self._changed()
        self._count_keys(key, 1)
        return slot

    def _end(self, slot: int) -> None:
        key = self.names[slot]
        del self.by_key[key]
        self.names[slot] = ("", "")
        self.rows.reset(np.array([slot]))
        self._free.append(slot)
        self._changed()
        self._count_keys(key, -1)
        if key[1]:
            self._end_if_alone(key[1])

    def _end_if_alone(self, name: str) -> None:
        """A virtual node without edges is nothing."""
        slot = self.node(name)
        if slot < 0 or self.rows.is_service[slot]:
            return
        edges = self.edges()
        if not ((self.rows.callee[edges] == slot) | (self.rows.caller[edges] == slot)).any():
            self._end(slot)

    def _age(self, boundary: int, s: GraphSettings) -> None:
        """Edges that nobody called for long, then nodes that nobody heard of and that have no edges."""
        rows, oldest = self.rows, boundary - s.edge_ttl_s * 1000 // BUCKET_MS
        edges = self.edges()
        for slot in edges[(rows.seen[edges] < oldest) & (rows.level[edges] == 0)].tolist():
            self._end(slot)
        nodes, edges = self.nodes(), self.edges()
        has_edge = np.zeros(len(rows.made), np.bool_)
        has_edge[rows.caller[edges]] = has_edge[rows.callee[edges]] = True
        is_old = (rows.seen[nodes] < oldest) & (rows.made[nodes] < oldest) & ~has_edge[nodes]
        for slot in nodes[is_old & (rows.level[nodes] == 0)].tolist():
            self._end(slot)

    def _count(self, part: HealthPart, slots: Ints) -> None:
        """Remembers how long the calls were that timed out."""
        outcome, effect = part.code & 0b111, (part.code >> EFFECT_SHIFT) & 7
        index = np.flatnonzero(
            (outcome == Outcome.TIMEOUT) & (effect == Effect.NONE) & ((part.code & SELF_TIME) == 0)
        )
        rows = self.rows
        for i in index.tolist():
            slot = int(slots[part.key[i]])
            if slot < 0 or rows.caller[slot] < 0:
                continue
            for _ in range(min(int(part.count[i]), DEADLINES_MAX)):
                rows.deadlines[slot, rows.deadlines_next[slot] % DEADLINES_MAX] = part.bin[i]
                rows.deadlines_next[slot] += 1

    def _changed(self) -> None:
        self.version += 1
        self._edges = self._nodes = self._callees = None

    def _count_keys(self, key: tuple[str, str], by: int) -> None:
        if key[1]:
            self.edges_count += by
        else:
            self.nodes_count += by


def merged_of(part: HealthPart) -> Floats:
    """Requests that a part's keys merged, adjusted, own effects but probes too (offered). Shape (k,)."""
    effect = (part.code >> EFFECT_SHIFT) & 7
    counts = ((part.code & SELF_TIME) == 0) & (effect != Effect.PROBE)
    weight = part.count * part.weight / WEIGHT_ONE
    merged: Floats = np.bincount(
        part.key, np.where(counts, weight, 0.0), minlength=len(part.keys)
    ).astype(np.float64)
    return merged
