"""The graph stage's memory, and one boundary of it: all callers' view of each callee, and whole graphs, judged as
evaluate judges services and edges, but told what only the graph knows.

Keys: (NAME, ALL_CALLERS) gets the cells of all edges to NAME; (NAME, WHOLE_GRAPH) those of NAME's own requests,
for every service, since what a key holds must not depend on when it became an entry; published of entries only.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules.graph.alarms import GraphAlarms
from tidegate.rules.graph.arriving import HealthPart, Whole
from tidegate.rules.graph.causes import Causes
from tidegate.rules.graph.findings import Observed, move
from tidegate.rules.graph.structure import TICK_BOUNDARIES, Structure, merged_of
from tidegate.rules.partition import Partition
from tidegate.rules.pending import Arrived
from tidegate.rules.policy import Policy
from tidegate.rules.ruling import Guidance
from tidegate.schemas.cells import HAS_CALLS, SELF_TIME
from tidegate.schemas.decision import Finding, RootCause
from tidegate.schemas.scope import ALL_CALLERS, WHOLE_GRAPH

__all__ = ["GraphPartition"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class GraphPartition(Partition):
    """State of the graph stage."""

    alarms = GraphAlarms

    def __init__(self, number: int, policy: Policy, *, partitions_count: int) -> None:
        super().__init__(number, policy, partitions_count=partitions_count)
        self.structure = Structure()
        self.observed = Observed()
        self.causes = Causes()
        self._judged_of: Ints = np.empty(0, np.int64)
        self._judged_order: Ints | None = None
        self._judged_version = -1
        self.arriving: Any = None
        """What is known of evaluate's partitions, while a snapshot is taken or read."""
        self.exemplars: dict[tuple[str, str], list[str]] = {}
        """Of keys that aren't closed, as health last told."""

    # ---- a boundary ----

    def cells_of(self, wholes: list[Whole], boundary: int) -> Arrived | None:
        """Takes what arrived up to a boundary into the structure; the cells of the keys judged here."""
        structure, s = self.structure, self.policy.file.graph
        merged = np.zeros(len(structure.names))
        arrived = []
        self.exemplars = {}
        for whole in wholes:
            for part in whole.parts:
                structure.rename(part.facts)
                structure.end(part.ended)
                slots = structure.hear(part, boundary, s)
                if len(merged) < len(structure.names):
                    more = np.zeros(len(structure.names) - len(merged))
                    merged = np.concatenate((merged, more))
                known = slots >= 0
                merged[slots[known]] += merged_of(part)[known]
                for number, traces in part.exemplars.items():
                    self.exemplars[part.keys[number]] = traces
                self.observed.hear(part.loops, part.facts, structure)
                cells = self.pooled(part, slots, whole.boundary)
                if cells is not None:
                    arrived.append(cells)
        structure.learn(merged)
        if boundary % TICK_BOUNDARIES == 0:
            structure.tick(boundary, s)
            self.observed.forget(structure, boundary, s)
        move(structure, boundary, s)
        return Arrived.concatenate(arrived) if arrived else None

    def refolded(self, part: HealthPart, boundary: int) -> Arrived | None:
        """A part's cells, of a boundary that the snapshot has: keys that aren't in it had no room. Edges may
        have another name by now, or have ended: what is judged is found by the name they had."""
        unknown = np.full(len(part.keys), -1, np.int64)
        return self.pooled(part, unknown, boundary, may_add=False)

    def pooled(
        self, part: HealthPart, slots: Ints, boundary: int, *, may_add: bool = True
    ) -> Arrived | None:
        """A part's cells under the keys that are judged here. slots: of its keys in the structure."""
        if not len(part.key):
            return None
        judged = self._judged(part.keys, slots, may_add=may_add)
        slot = judged[part.key]
        is_whole = np.array([not callee for _, callee in part.keys], np.bool_)[part.key]
        kept = (slot >= 0) & ~(is_whole & ((part.code & SELF_TIME) > 0))
        code = np.where(is_whole, part.code & ~np.uint16(HAS_CALLS), part.code)
        index = np.flatnonzero(kept)
        return Arrived(
            slot[index].astype(np.int32),
            boundary - 1 - part.age[index],
            code[index].astype(np.uint16),
            part.bin[index],
            part.count[index],
            part.weight[index],
            np.zeros(len(index), np.uint8),
        )

    def _judged(self, names: list[tuple[str, str]], slots: Ints, *, may_add: bool) -> Ints:
        """The keys that edges and nodes are judged under; -1 without. slots: theirs in the structure, -1
        where they have none. Shape kept."""
        keys, structure = self.traffic.keys, self.structure
        order = keys.in_order()
        if order is not self._judged_order or structure.version != self._judged_version:
            self._judged_of = np.full(len(structure.names), -1, np.int64)
            self._judged_order, self._judged_version = order, structure.version
        found = np.where(slots >= 0, self._judged_of[slots], -1)
        for number in np.flatnonzero(found < 0).tolist():
            service, callee = names[number]
            name = (callee, ALL_CALLERS) if callee else (service, WHOLE_GRAPH)
            key, is_over = self.traffic.slot_of(*name, may_add=may_add)
            found[number] = -1 if is_over else key
            if slots[number] >= 0:
                self._judged_of[slots[number]] = found[number]
        return found

    # ---- what the graph knows ----

    def guidance(self, live: Ints, boundary: int) -> Guidance:
        """Two views, scores of graphs, cascades, root causes."""
        found = self.causes.step(self, live, boundary)
        for judgement in self.judgements():
            assert isinstance(judgement.alarms, GraphAlarms)
            judgement.alarms.cascades = self.causes.cascades
        return found

    def is_hidden(self, slots: Ints) -> Mask:
        """Graphs of services that are no entry are judged and not published. Shape kept."""
        node, is_whole = self.causes.places(self, slots)
        hidden: Mask = is_whole & ((node < 0) | ~self.structure.rows.is_entry[node])
        return hidden

    def root_causes(self, slot: int) -> list[RootCause]:
        """Of a graph that isn't well."""
        return self.causes.suspects.get(slot, [])

    def findings_of(self, slot: int) -> list[Finding]:
        """Of all callers' view of a service: requests that come back to it."""
        service, target = self.traffic.keys.names[slot] or ("", "")
        if target != ALL_CALLERS:
            return []
        return [
            Finding(
                name="cycle", since_ms=first_ms, reason=f"requests go round: {' -> '.join(path)}"
            )
            for path, (first_ms, _, _) in sorted(self.observed.loops.items())
            if service in path
        ]

    def callers_of(self, slots: Ints) -> Ints:
        """Among how many callers probes are shared: the edges to a callee; one for a graph."""
        structure = self.structure
        into = np.bincount(structure.rows.callee[structure.edges()], minlength=len(structure.names))
        counts = []
        for slot in slots.tolist():
            service, target = self.traffic.keys.names[slot] or ("", "")
            node = structure.node(service)
            counts.append(int(into[node]) if target == ALL_CALLERS and node >= 0 else 1)
        return np.maximum(np.array(counts, np.int64), 1)

    def traces_of(self, slot: int, boundary: int) -> list[str]:  # noqa: ARG002 - as the base class
        """Exemplars, as evaluate has told them."""
        service, target = self.traffic.keys.names[slot] or ("", "")
        if target == WHOLE_GRAPH:
            return self.exemplars.get((service, ""), [])
        mine = (t for (_, callee), t in sorted(self.exemplars.items()) if callee == service)
        return sorted({trace for traces in mine for trace in traces})[:5]

    # ---- snapshots ----

    def save_more(self) -> Any:
        """What only this stage has."""
        return {
            "structure": self.structure.save(),
            "observed": self.observed.save(),
            "causes": self.causes.save(self.traffic.keys),
            "arriving": self.arriving,
        }

    def load_more(self, saved: Any) -> None:
        """The opposite."""
        self.structure.load(saved["structure"])
        self.observed.load(saved["observed"])
        self.causes.load(saved["causes"], self.traffic.keys)
        self.arriving = saved["arriving"]
