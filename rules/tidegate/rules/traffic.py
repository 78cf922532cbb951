"""What a partition has heard: keys, windows, ages, exemplars. It judges nothing, so that two policies can be
applied to the same traffic, side by side.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules import hardness, services
from tidegate.rules.aliases import Aliases
from tidegate.rules.exemplars import Exemplars
from tidegate.rules.facts import Facts
from tidegate.rules.hardness import Hardness
from tidegate.rules.host_metrics import HostMetrics
from tidegate.rules.instances import Instances
from tidegate.rules.keys import Keys
from tidegate.rules.pending import Arrived, Pending, merge
from tidegate.rules.services import Services
from tidegate.rules.state_columns import StateColumns
from tidegate.rules.window import Merged, Windows
from tidegate.schemas.cells import EFFECT_SHIFT, WEIGHT_ONE
from tidegate.schemas.outcome import Effect
from tidegate.schemas.scope import OTHER

__all__ = ["NOTHING", "SHED_EFFECTS", "Seen", "Traffic"]

Ints = npt.NDArray[np.int64]


class Seen(StateColumns):
    """When a key was heard of, by slot."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "last_boundary": (np.int64, -1, 0),
        "made_boundary": (np.int64, -1, 0),
    }
    last_boundary: Ints
    """The last boundary that merged anything of the key; -1: its cells are still waiting, so for all
    that is published it does not exist yet."""
    made_boundary: Ints
    """The first boundary after the key got its slot."""


class Traffic:
    """Everything that is the same under every policy. Rows of all columns grow together with `keys`."""

    def __init__(self, *, services_max: int, keys_max: int) -> None:
        self.keys = Keys(services_max=services_max, keys_max=keys_max)
        capacity = self.keys.capacity
        self.windows = Windows(capacity)
        self.services = Services(capacity)
        self.seen = Seen(capacity)
        self.hardness = Hardness(capacity)
        self.exemplars = Exemplars()
        self.instances = Instances()
        self.metrics = HostMetrics()
        self.pending = Pending()
        self.facts = Facts()
        self.aliases = Aliases()
        self.overflow_instances = 0
        """Of the newest boundary."""
        self.other_slot = -1

    def slot_of(self, service: str, target: str, *, may_add: bool = True) -> tuple[int, bool]:
        """(slot or code, is_overflow), of what spans say. Keys beyond a limit share the slot `other`, which is
        never judged."""
        number = self.aliases.number.get((service, target))
        if number is None:
            return self.slot_named(service, target, may_add=may_add)
        called = self.facts.callee((service, target)) or target
        slot, is_overflow = self.slot_named(service, called, may_add=may_add)
        if is_overflow:
            return slot, True
        self.aliases.place(number, slot)
        return self.aliases.code(number), False

    def slot_named(self, service: str, target: str, *, may_add: bool = True) -> tuple[int, bool]:
        """(slot, is_overflow), of the key that has this name."""
        if not may_add:
            known = self.keys.by_key.get((service, target))
            return (self._other(), True) if known is None else (known, False)
        before = len(self.keys)
        slot = self.keys.slot_of(service, target)
        if slot < 0:
            return self._other(), True
        if len(self.keys) != before:
            self._settle_new(slot, service)
        return slot, False

    def restore_key(self, service: str, target: str) -> int:
        """A slot for a key of a snapshot, whatever the limits are now."""
        slot = self.keys.reserve(service, target)
        self._settle_new(slot, service)
        return slot

    def merge(self, cells: Arrived | None, boundary: int) -> Merged:
        """Lets old buckets leave and adds what fell due: equal cells added up, in the order of scopes."""
        self.windows.advance(boundary)
        self.overflow_instances = self.instances.merge(boundary)
        self.metrics.merge(boundary)
        if cells is None:
            return NOTHING
        merged = merge(cells, boundary, rank=self.keys.rank(), in_order=self.keys.in_order())
        services.feed(
            self.services.lags,
            self.services.seen_from,
            self.services.seen_last,
            self.keys.service_slot,
            cells.slot,
            cells.bucket,
            cells.lag,
            cells.count,
            boundary,
        )
        self.windows.merge(merged, boundary)
        hardness.feed(self.hardness, merged)
        return merged

    def live(self, merged: Merged, boundary: int) -> Ints:
        """Slots of keys that merged something now or before, but `other`, in the order of scopes. When a
        key's cells arrive depends on how far ahead its source is; when they are merged doesn't."""
        in_order, seen = self.keys.in_order(), self.seen
        seen.last_boundary[merged.slot] = boundary
        new = in_order[seen.made_boundary[in_order] < 0]
        seen.made_boundary[new] = boundary
        is_live = (seen.last_boundary[in_order] >= 0) & (in_order != self.other_slot)
        live: Ints = in_order[is_live]
        return live

    def shed_merged(self, merged: Merged, slots: Ints) -> npt.NDArray[np.float64]:
        """Requests that clients turned away, merged at this boundary, by slot. Shape kept."""
        is_shed = np.isin((merged.code >> EFFECT_SHIFT) & 7, SHED_EFFECTS)
        by_slot = np.zeros(self.keys.capacity)
        weight = merged.count[is_shed] * merged.weight[is_shed] / WEIGHT_ONE
        np.add.at(by_slot, merged.slot[is_shed], weight)
        out: npt.NDArray[np.float64] = by_slot[slots]
        return out

    def ended_unseen(self, boundary: int, ttl_boundaries: int) -> Ints:
        """Slots of keys all of whose cells were too late."""
        slots = self.keys.in_order()
        never = (self.seen.last_boundary[slots] < 0) & (slots != self.other_slot)
        ended: Ints = slots[never & (boundary - self.seen.made_boundary[slots] > ttl_boundaries)]
        return ended

    def forget(self, ends: Ints) -> None:
        """Frees the rows of keys that end."""
        self.windows.reset(ends)
        self.exemplars.forget(ends)
        self.seen.reset(ends)
        self.hardness.reset(ends)
        self.instances.forget(ends)
        ended_services = np.unique(self.keys.service_slot[ends])
        # Cells of later buckets may have come for a key that ends here (a job that runs once an hour):
        # it keeps its slot, and begins anew when they are merged.
        self.aliases.end(ends.tolist())
        waiting = self.aliases.slots_of(self.waiting()) | self.instances.waiting_slots()
        for slot in ends.tolist():
            if slot not in waiting:
                self.aliases.unplace(slot)
                self.keys.remove(slot)
        in_order = self.keys.in_order()
        seen = in_order[self.seen.last_boundary[in_order] >= 0]
        self.services.reset(np.setdiff1d(ended_services, self.keys.service_slot[seen]))

    def waiting(self) -> set[int]:
        """Slots and codes under which cells or exemplars wait."""
        return self.pending.slots() | self.exemplars.waiting_slots()

    def take_over(self, homes: dict[int, int]) -> None:
        """Adds everything that is a sum of some edges to others' (slot -> whose), and frees their slots."""
        seen = self.seen
        for source, to in homes.items():
            for column in self.hardness.columns().values():
                column[to] += column[source]
            self.exemplars.take_over(source, to)
            seen.last_boundary[to] = max(seen.last_boundary[to], seen.last_boundary[source])
            made = (int(seen.made_boundary[slot]) for slot in (source, to))
            seen.made_boundary[to] = min((m for m in made if m >= 0), default=-1)
        self.windows.take_over(homes)
        for former in self.aliases.formers:
            former.slot = homes.get(former.slot, former.slot)
        self.release(list(homes))

    def release(self, slots: list[int]) -> None:
        """Frees slots of edges that have no name or no traffic any more."""
        ends = np.array(slots, np.int64)
        self.seen.reset(ends)
        self.hardness.reset(ends)
        self.exemplars.forget(ends)
        self.instances.forget(ends)
        for slot in slots:
            self.keys.remove(slot)

    def _other(self) -> int:
        if self.other_slot < 0:
            self.other_slot = self.keys.reserve(OTHER, "")
            self._settle_new(self.other_slot, OTHER)
        return self.other_slot

    def _settle_new(self, slot: int, service: str) -> None:
        if self.keys.capacity > len(self.seen.last_boundary):
            for state in (self.services, self.seen, self.hardness, self.windows):
                state.grow(self.keys.capacity)
        if service == OTHER:
            self.other_slot = slot


SHED_EFFECTS = (int(Effect.SHED), int(Effect.FALLBACK))
_EMPTY = np.empty(0, np.int64)
NOTHING = Merged(_EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY)
