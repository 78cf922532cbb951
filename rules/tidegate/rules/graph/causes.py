"""What the graph knows of the keys that the graph stage judges: whether both views of a callee agree, how well a
request that enters is served, which cascades an entry is in, and where what is bad begins."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate.rules.graph.alarms import Cascade
from tidegate.rules.graph.served import Calls, served
from tidegate.rules.graph.structure import SILENT_BOUNDARIES, Structure
from tidegate.rules.graph.suspects import BadCall, Blame, blame
from tidegate.rules.keys import Keys
from tidegate.rules.reason import clock
from tidegate.rules.ruling import Guidance
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import RootCause
from tidegate.schemas.health import IN_L3, IN_L4, IS_STALLED, ON_EVIDENCE
from tidegate.schemas.level import Level
from tidegate.schemas.scope import WHOLE_GRAPH

if TYPE_CHECKING:
    from tidegate.rules.graph.partition import GraphPartition
    from tidegate.rules.policy_types import GraphSettings

__all__ = ["Causes"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SUSPECTS_EVERY_BOUNDARIES = 4
"""Root causes are looked for every 2 s: people read them."""
SUSPECTS_AFTER_BOUNDARIES = 20
"""And named once a graph has been bad for 10 s, two exports of 5 s: callers' spans may come first."""
_KNOWN_REQUESTS = 20.0
_HEALTHY = 800


@dataclass(slots=True)
class _Known:
    """Of all nodes and edges, in the order of names; compact numbers."""

    nodes: Ints
    """Slots in the structure, (n,)."""
    place: Ints
    """By slot: compact number, -1 for none."""
    edges: Ints
    """Slots, sorted by caller's number, (m,) as the next five."""
    caller: Ints
    callee: Ints
    fan_out: Floats
    hard: Floats
    is_live: Mask
    is_heard: Mask
    """Services with requests of late, (n,) as below."""
    inbound_slot: Ints
    """Of all callers' view, in the partition; -1 without."""
    served: Floats


class Causes:
    """Recomputed at every boundary from the structure and from what is judged here; root causes stay until
    they are looked for again."""

    def __init__(self) -> None:
        self.suspects: dict[int, list[RootCause]] = {}
        """By slot of a whole graph's key."""
        self.bad_since: dict[int, int] = {}
        """Since which boundary, by slot."""
        self.circling: set[str] = set()
        """Services that requests were seen to come back to."""
        self.cascades: dict[int, Cascade] = {}
        self._served: npt.NDArray[np.int32] = np.empty(0, np.int32)
        """Thousandths, by slot of a node, of the newest boundary."""
        self._order: Ints | None = None
        self._version = -1
        self._node: Ints = np.empty(0, np.int64)
        self._is_whole: Mask = np.empty(0, np.bool_)

    def step(self, state: "GraphPartition", live: Ints, boundary: int) -> Guidance:
        """Told to the judgement of this boundary's live keys."""
        node, is_whole = self.places(state, live)
        known = self._known(state, boundary)
        structure, levels = state.structure, state.judgement.levels.level
        out = Guidance.nothing(len(live))
        place = np.where(node >= 0, known.place[node], -1)
        is_heard = (place >= 0) & known.is_heard[place]
        own_level = np.where(is_heard, structure.rows.level[node], np.uint8(0)).astype(np.uint8)
        mild = np.uint8(Level.DEGRADED_1)
        inbound = ~is_whole
        # Who recovers asks nothing of the other view.
        is_worse = inbound & (own_level != np.uint8(Level.HALF_OPEN))
        out.floor[is_worse] = np.minimum(own_level[is_worse], mild)
        alone = inbound & is_heard & (own_level <= mild)
        out.limit(alone, "held at degraded_1: callers see it fail, it says it is well")
        out.raised = "its own view is worse"
        whole = np.flatnonzero(is_whole & (place >= 0))
        self._served = np.zeros(len(structure.names), np.int32)
        self._served[known.nodes] = (known.served * 1000.0 + 0.5).astype(np.int32)
        out.scores[whole] = self._served[node[whole]]
        inbound_slot = known.inbound_slot[place[whole]]
        inbound_level = np.where(inbound_slot >= 0, levels[inbound_slot], np.uint8(0))
        worse = np.maximum(own_level[whole], inbound_level)
        calm = np.zeros(len(live), np.bool_)
        calm[whole] = worse <= mild
        out.limit(calm, "held at degraded_1: requests that enter here are served as yet")
        self._note_circles(state, node, inbound, out)
        self.cascades = self._cascades(state, known, boundary)
        if boundary % SUSPECTS_EVERY_BOUNDARIES == 0:
            self._look_for_suspects(state, known, live, whole, boundary, out)
        return out

    def places(self, state: "GraphPartition", slots: Ints) -> tuple[Ints, Mask]:
        """(node in the structure, -1 without; whether it is a whole graph's key). Shapes kept."""
        self._look_up(state)
        return self._node[slots], self._is_whole[slots]

    def served(self, node: int) -> float:
        """How likely a request that enters at a node is served well."""
        return int(self._served[node]) / 1000

    # ---- snapshots ----

    def save(self, keys: Keys) -> Any:
        """By service."""

        def name(slot: int) -> str:
            return (keys.names[slot] or ("", ""))[0]

        return {
            "suspects": sorted(
                (name(slot), [[c.name, c.share, c.reason] for c in causes])
                for slot, causes in self.suspects.items()
            ),
            "circling": sorted(self.circling),
            "bad_since": sorted((name(slot), since) for slot, since in self.bad_since.items()),
        }

    def load(self, saved: Any, keys: Keys) -> None:
        """The opposite."""
        self.suspects = {
            keys.by_key[service, WHOLE_GRAPH]: [
                RootCause(name=name, share=share, reason=reason) for name, share, reason in causes
            ]
            for service, causes in saved["suspects"]
        }
        self.circling = set(saved["circling"])
        self.bad_since = {
            keys.by_key[service, WHOLE_GRAPH]: since for service, since in saved["bad_since"]
        }

    # ---- inside ----

    def _look_up(self, state: "GraphPartition") -> None:
        """Which node each key belongs to; anew where keys or nodes have come or gone."""
        keys, structure = state.traffic.keys, state.structure
        order = keys.in_order()
        if order is self._order and structure.version == self._version:
            return
        self._order, self._version = order, structure.version
        self._node = np.full(keys.capacity, -1, np.int64)
        self._is_whole = np.zeros(keys.capacity, np.bool_)
        for slot in order.tolist():
            service, target = keys.names[slot] or ("", "")
            self._node[slot] = structure.node(service)
            self._is_whole[slot] = target == WHOLE_GRAPH

    def _known(self, state: "GraphPartition", boundary: int) -> _Known:
        structure, s = state.structure, state.policy.file.graph
        rows, nodes, edges = structure.rows, structure.nodes(), structure.edges()
        place = np.full(len(structure.names) + 1, -1, np.int64)
        place[nodes] = np.arange(len(nodes))
        # By (caller, callee) in the order of names: so by caller's number, too.
        is_live = structure.is_live(edges, boundary)
        usual = rows.calls_usual[edges] / np.maximum(rows.requests_usual[edges], 1e-9)
        callers = rows.caller[edges]
        now = rows.qps[edges] / np.maximum(rows.qps[callers], 1)
        is_known = rows.requests_usual[edges] >= _KNOWN_REQUESTS
        hard = np.maximum(rows.hard[edges] / 1000.0, s.optional_cost)
        inbound_slot = np.full(len(nodes), -1, np.int64)
        of_inbound = np.flatnonzero((self._node >= 0) & ~self._is_whole)
        inbound_slot[place[self._node[of_inbound]]] = of_inbound
        known = _Known(
            nodes=nodes,
            place=place,
            edges=edges,
            caller=place[callers],
            callee=place[rows.callee[edges]],
            fan_out=np.where(is_known, usual, now),
            hard=hard,
            is_live=is_live,
            is_heard=rows.is_service[nodes]
            & (boundary - rows.heard[nodes] <= SILENT_BOUNDARIES)
            & (rows.heard[nodes] >= 0),
            inbound_slot=inbound_slot,
            served=np.ones(len(nodes)),
        )
        own = np.where(known.is_heard & (rows.score[nodes] >= 0), rows.score[nodes] / 1000.0, 1.0)
        inbound = self._inbound_scores(state, known)
        score = np.where(rows.score[edges] >= 0, rows.score[edges] / 1000.0, 1.0)
        score = np.where(rows.marks[edges] & IS_STALLED, 0.0, score)
        score = np.where(is_live, np.minimum(score, inbound[known.callee]), 1.0)
        if (own < 1.0).any() or (score < 1.0).any():
            order = np.argsort(known.caller, kind="stable")
            calls = Calls(
                known.caller[order],
                known.callee[order],
                score[order],
                known.fan_out[order],
                hard[order],
            )
            known.served = served(own, calls)
        return known

    def _inbound_scores(self, state: "GraphPartition", known: _Known) -> Floats:
        """All callers' view of each node; 1 where nothing is known."""
        scores = state.judgement.standing.score[known.inbound_slot]
        has = (known.inbound_slot >= 0) & (scores >= 0)
        return np.where(has, scores / 1000.0, 1.0)

    def _note_circles(
        self, state: "GraphPartition", node: Ints, inbound: Mask, out: Guidance
    ) -> None:
        """A service that joins or leaves a circle is told so."""
        now = {name for path in state.observed.loops for name in path}
        moved = now ^ self.circling
        self.circling = now
        if moved:
            slots = np.array(sorted(state.structure.node(name) for name in moved), np.int64)
            out.is_changed |= inbound & (node >= 0) & np.isin(node, slots)

    # ---- cascades ----

    def _cascades(
        self, state: "GraphPartition", known: _Known, boundary: int
    ) -> dict[int, Cascade]:
        """Whole graphs of entries that can't do without a service in a cascade (L4)."""
        structure, rows = state.structure, state.structure.rows
        nodes = known.nodes
        in_l4 = nodes[((rows.marks[nodes] & IN_L4) > 0) & structure.is_live(nodes, boundary)]
        found: dict[int, Cascade] = {}
        for slot in in_l4.tolist():
            name = structure.name(slot)
            mine = known.edges[known.caller == known.place[slot]]
            failing = [structure.name(e) for e in mine.tolist() if rows.marks[e] & IN_L3]
            cascade = Cascade(name, tuple(sorted(failing)))
            settings = state.policy.settings[state.policy.settings_for(name, "")]
            share = settings.incidents.l4.hard_share
            for reached in self._needing(known, int(known.place[slot]), share):
                entry = int(nodes[reached])
                if rows.is_entry[entry]:
                    key = state.traffic.keys.by_key.get((structure.name(entry), WHOLE_GRAPH))
                    if key is not None:
                        found.setdefault(key, cascade)
        return found

    def _needing(self, known: _Known, node: int, share: float) -> list[int]:
        """Nodes whose requests fail with more than this probability when the node's do, as far as is known."""
        best = {node: 1.0}
        frontier = [node]
        while frontier:
            reached = frontier.pop()
            for i in np.flatnonzero(known.callee == reached).tolist():
                caller = int(known.caller[i])
                likely = best[reached] * float(known.hard[i]) * min(1.0, float(known.fan_out[i]))
                if likely > share and likely > best.get(caller, 0.0):
                    best[caller] = likely
                    frontier.append(caller)
        return sorted(best)

    # ---- root causes ----

    def _look_for_suspects(
        self,
        state: "GraphPartition",
        known: _Known,
        live: Ints,
        whole: Ints,
        boundary: int,
        out: Guidance,
    ) -> None:
        structure, rows, before = state.structure, state.structure.rows, self.suspects
        self.suspects = {}
        calls: dict[int, list[BadCall]] | None = None
        bad: Floats | None = None
        for row in whole.tolist():
            slot, node = int(live[row]), int(self._node[live[row]])
            if not rows.is_entry[node]:
                continue
            if out.scores[row] >= _HEALTHY:
                self.bad_since.pop(slot, None)
            elif boundary - self.bad_since.setdefault(slot, boundary) >= SUSPECTS_AFTER_BOUNDARIES:
                if calls is None or bad is None:
                    bad, calls = self._bad(state, known)
                place = int(known.place[node])
                blamed = blame(place, bad, calls) if bad[place] > 0 or place in calls else []
                causes = self._told(state, known, blamed, structure.name(node), calls)
                if causes:
                    self.suspects[slot] = causes
            names = [cause.name for cause in self.suspects.get(slot, [])]
            out.is_changed[row] |= names[:1] != [cause.name for cause in before.get(slot, [])][:1]

    def _bad(
        self, state: "GraphPartition", known: _Known
    ) -> tuple[Floats, dict[int, list[BadCall]]]:
        """Share of bad requests by node, as it sees itself; and bad calls by caller."""
        rows = state.structure.rows
        bad = np.where(
            known.is_heard, (rows.error[known.nodes] + rows.slow[known.nodes]) / 1000.0, 0.0
        )
        inbound_bad = 1.0 - self._inbound_scores(state, known)
        edges, marks = known.edges, rows.marks[known.edges]
        hard = np.where(rows.hard[edges] >= 0, known.hard, 1.0)
        weight = rows.error[edges] / 1000.0 * hard + rows.slow[edges] / 1000.0
        is_thin = (marks & ON_EVIDENCE) == 0
        weight = np.where(is_thin, inbound_bad[known.callee], weight)
        weight = np.minimum(1.0, weight * np.maximum(known.fan_out, 1e-3))
        weight = np.where((marks & IS_STALLED) > 0, 1.0, weight)
        weight = np.where(known.is_live, weight, 0.0)
        calls: dict[int, list[BadCall]] = {}
        for i in np.flatnonzero(weight > 0.0).tolist():
            call = BadCall(int(edges[i]), int(known.callee[i]), float(weight[i]))
            calls.setdefault(int(known.caller[i]), []).append(call)
        for front, behind in sorted(state.structure.answering().items()):
            into = [i for i in np.flatnonzero(known.callee == known.place[front]) if weight[i] > 0]
            if not into:
                continue
            # Nobody sees these calls but those who answer them: their own view says who fails.
            seen_by = int(edges[max(into, key=lambda i: float(weight[i]))])
            for node in sorted(int(known.place[one]) for one in behind):
                if bad[node] > 0:
                    call = BadCall(seen_by, node, min(1.0, float(bad[node])))
                    calls.setdefault(int(known.place[front]), []).append(call)
        return bad, calls

    def _told(
        self,
        state: "GraphPartition",
        known: _Known,
        blamed: list[Blame],
        entry: str,
        calls: dict[int, list[BadCall]],
    ) -> list[RootCause]:
        s: GraphSettings = state.policy.file.graph
        return [
            RootCause(
                name=state.structure.name(int(known.nodes[one.node])),
                share=int(one.begins * 1000 + 0.5) / 1000,
                reason=_evidence(state.structure, known, one, entry, bool(calls.get(one.node))),
            )
            for one in blamed[: s.suspects_max]
            if one.begins >= s.suspect_share
        ]


def _evidence(
    structure: Structure, known: _Known, one: Blame, entry: str, has_bad_calls: bool
) -> str:
    """`inventory-db: its callers see p95 2.1 s since 12:03:04, its own dependencies are healthy, 84 % of what is
    bad in checkout passes through it`."""
    rows, slot = structure.rows, int(known.nodes[one.node])
    told = []
    if one.by >= 0:
        told.append(f"its callers see {_seen(structure, one.by)}")
    if known.is_heard[one.node]:
        if rows.level[slot] or rows.error[slot] or rows.slow[slot]:
            told.append(f"it sees {_seen(structure, slot)} itself")
        else:
            told.append("it sees nothing bad itself")
    elif rows.is_service[slot]:
        told.append("it has fallen silent")
    if has_bad_calls:
        told.append(f"its dependencies explain {one.explained * 100:.0f} %")
    elif (known.caller == one.node).any():
        told.append("its own dependencies are healthy")
    if one.by >= 0:
        told.append(f"{one.passes * 100:.0f} % of what is bad in {entry} passes through it")
    return f"{structure.name(slot)}: {', '.join(told)}"


def _seen(structure: Structure, slot: int) -> str:
    rows = structure.rows
    since = f" since {clock(int(rows.since[slot]) * BUCKET_MS)}" if rows.level[slot] else ""
    if rows.marks[slot] & IS_STALLED:
        return f"calls that don't end{since}"
    seen = []
    if rows.error[slot]:
        seen.append(f"error ratio {rows.error[slot] / 1000:.2f}")
    if rows.p95_us[slot] >= 0 and (rows.slow[slot] or not seen):
        p95_ms = rows.p95_us[slot] / 1000
        seen.append(f"p95 {p95_ms / 1000:.1f} s" if p95_ms >= 1000 else f"p95 {p95_ms:.0f} ms")
    return f"{', '.join(seen) or 'nothing bad'}{since}"
