"""What a boundary does with what was learned of names: edges move to their callees' names, and back.

A target's calls are *part of* the edge that has its callee's name. Where all that was merged of an edge gets one
new name, its standing goes there whole, and is merged with what is there. A part that leaves takes a copy of the
standing along (levels, evidence, baselines), since a rename must never make a level milder; its windows stay.
Callers are independent of each other, and all that is renamed at a boundary is renamed at once: nothing here
depends on the order in which facts came, nor on how far ahead the cells are that wait.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules import alerts
from tidegate.rules.alerts import AlertEvent
from tidegate.rules.aliases import UNPLACED
from tidegate.rules.facts import CALLS_MIN, FACT_TTL_MS, Key, Known
from tidegate.rules.judgement import Judgement
from tidegate.rules.pending import Arrived
from tidegate.rules.traffic import Traffic
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import SilenceSet

__all__ = ["Renamed", "Renaming", "expire"]

EXPIRE_EVERY_BOUNDARIES = 60
assert FACT_TTL_MS % (EXPIRE_EVERY_BOUNDARIES * BUCKET_MS) == 0


@dataclass(slots=True)
class Renamed:
    """What came of a boundary's renames."""

    gone: list[str] = field(default_factory=list)
    """Scopes that nobody has any more, of edges that were published."""
    ended: list[tuple[str, AlertEvent, str]] = field(default_factory=list)
    """(scope, event, why) of alerts that go on, if they do, under another name."""
    slots: set[int] = field(default_factory=set)
    """Edges that have another name or other targets."""
    counters: Counter[str] = field(default_factory=Counter)


def expire(
    traffic: Traffic, judgements: Sequence[Judgement], boundary: int, ttl_boundaries: int
) -> tuple[list[Key], set[int]]:
    """Ends facts that would have been seen again if they were still true; sorted. And the slots of edges that
    have a target less.

    A dead callee answers nobody, and must not lose its name in the middle of its incident: so only facts about
    edges that are quiet end. And a fact about a target that is seldom called isn't seen often either: so only
    after so many calls that one of them would have shown it. A target that nobody calls any more ends like a key.
    """
    if boundary % EXPIRE_EVERY_BOUNDARIES:
        return [], set()
    aliases = traffic.aliases
    less: set[int] = set()

    def may_end(key: Key, _: Known) -> bool:
        number = aliases.number[key]
        slot = int(aliases.slot[number])
        if slot >= 0 and not all(judgement.is_quiet(slot) for judgement in judgements):
            return False
        if boundary - int(aliases.last_boundary[number]) > ttl_boundaries:
            aliases.is_said[number] = False  # it leaves nothing behind, not even a copy
            less.add(slot)
            return True
        return int(aliases.calls[number]) >= CALLS_MIN

    return traffic.facts.expire(boundary, may_end), less - {UNPLACED}


class Renaming:
    """Of one boundary, before anything is merged there."""

    def __init__(
        self,
        traffic: Traffic,
        judgements: Sequence[Judgement],
        cells: Arrived | None,
        silences: Sequence[SilenceSet],
        boundary: int,
    ) -> None:
        """cells: those that this boundary will merge. judgements: that in force first."""
        self.traffic, self.judgements, self.cells = traffic, judgements, cells
        self.silences, self.boundary = silences, boundary
        self.out = Renamed()
        self._homes: dict[int, int] = {}
        """Slots of edges that were merged -> with whom."""
        self._empty: list[int] = []
        """Slots of edges that had no traffic yet and are no more."""
        self._rewritten: list[tuple[int, int]] = []
        """(slot or code under which cells wait, which takes its place), one after the other."""
        self._waiting: set[int] | None = None

    def run(self, changed: Sequence[Key]) -> Renamed:
        """Moves everything of these targets to the names that the facts now give them."""
        by_caller: dict[str, set[str]] = defaultdict(set)
        for caller, target in changed:
            by_caller[caller].add(target)
        for caller in sorted(by_caller):
            self._rename(caller, by_caller[caller])
        self._rewrite()
        traffic = self.traffic
        if self._homes:
            traffic.take_over(self._homes)
        if self._empty:
            traffic.release(self._empty)
        for judgement in self.judgements:
            judgement.grow(traffic.keys.capacity)
            judgement.reset(np.array([*self._homes, *self._empty], np.int64))
        if self.out.gone:
            slots = [slot for slot in traffic.keys.by_key.values() if self._is_seen(slot)]
            live = {traffic.keys.scopes[slot] for slot in slots}
            self.out.gone = sorted(set(self.out.gone) - live)
        self.out.slots -= set(self._homes)
        return self.out

    # ---- one caller ----

    def _rename(self, caller: str, changed: set[str]) -> None:
        aliases, keys = self.traffic.aliases, self.traffic.keys
        numbers = dict(aliases.of_caller.get(caller, {}))
        called = {t: self._called(caller, t) for t in numbers.keys() | changed}
        for name in set(called.values()) - called.keys():
            called[name] = self._called(caller, name)
        plain = {
            t: slot
            for t in called.keys() - numbers.keys()
            if (slot := keys.by_key.get((caller, t))) is not None
        }
        said = {
            t: int(aliases.slot[n])
            for t, n in numbers.items()
            if aliases.is_said[n] and aliases.slot[n] >= 0
        }
        said |= {t: slot for t, slot in plain.items() if self._is_seen(slot)}
        self._move(caller, said, called)
        self._settle(caller, set(said), called, plain)

    def _called(self, caller: str, target: str) -> str:
        return self.traffic.facts.callee((caller, target)) or target

    def _is_seen(self, slot: int) -> bool:
        return int(self.traffic.seen.last_boundary[slot]) >= 0

    def _move(self, caller: str, said: dict[str, int], called: dict[str, str]) -> None:
        """Standings, and names of slots. said: slot by target."""
        keys = self.traffic.keys
        parts: dict[int, list[str]] = defaultdict(list)
        for target in sorted(said):
            parts[said[target]].append(target)
        whole: list[tuple[int, str]] = []
        copies: list[tuple[str, int]] = []
        for slot in sorted(parts, key=keys.scopes.__getitem__):
            own = (keys.names[slot] or ("", ""))[1]
            leaving = [t for t in parts[slot] if called[t] != own]
            if not leaving:
                continue
            self.out.slots.add(slot)
            self.out.counters["renamed_edges"] += len(leaving)
            first = None
            if len(leaving) == len(parts[slot]):
                first = called[leaving[0]]
                whole.append((slot, first))
            copies += [(t, slot) for t in leaving if called[t] != first]
        for slot, _ in whole:
            self._end_alerts(slot)
            self.out.gone.append(keys.scopes[slot])
            keys.unname(slot)
        for slot, name in whole:
            self._move_whole(caller, slot, name)
        for target, slot in copies:
            source = self._homes.get(slot, slot)
            self.traffic.aliases.note_left((caller, target), source)
            self._copy(caller, source, called[target])

    def _move_whole(self, caller: str, slot: int, name: str) -> None:
        keys = self.traffic.keys
        there = keys.by_key.get((caller, name))
        if there is not None and not self._is_seen(there):
            self._dissolve(there)
            there = None
        if there is None:
            keys.rename(slot, name)
            for judgement in self.judgements:
                judgement.readdress(slot)
            return
        for judgement in self.judgements:
            judgement.move(slot, there, is_new=False, adds=True)
        self._homes[slot] = there
        self.out.slots.add(there)

    def _copy(self, caller: str, source: int, name: str) -> None:
        traffic = self.traffic
        slot, is_overflow = traffic.slot_named(caller, name)
        if is_overflow:
            return
        is_new = not self._is_seen(slot)
        for judgement in self.judgements:
            judgement.grow(traffic.keys.capacity)
            judgement.move(source, slot, is_new=is_new, adds=False)
            judgement.readdress(source)
        if is_new:
            traffic.seen.copy(source, slot)
            traffic.hardness.copy(source, slot)
        self.out.slots |= {source, slot}

    def _dissolve(self, slot: int) -> None:
        """Of an edge that has had no traffic: what waits for it will go elsewhere."""
        keys = self.traffic.keys
        if slot not in self._empty:
            self._empty.append(slot)
            keys.unname(slot)

    # ---- targets and what waits ----

    def _settle(
        self,
        caller: str,
        said: set[str],
        called: dict[str, str],
        plain: dict[str, int],
    ) -> None:
        """Numbers of targets: of those that facts name, and of the names that these give."""
        aliases, facts = self.traffic.aliases, self.traffic.facts
        told = {t for t in called if facts.callee((caller, t)) is not None}
        needed = told | {called[t] for t in told}
        numbers = aliases.of_caller.get(caller, {})
        for target in sorted(needed - numbers.keys()):
            number = aliases.add((caller, target), is_said=target in said, boundary=self.boundary)
            if target in plain:
                self._now(plain[target], aliases.code(number))
                if target not in said and called[target] != target:
                    self._dissolve(plain[target])
        for target, number in sorted(aliases.of_caller.get(caller, {}).items()):
            slot = self._slot_for(caller, called[target], aliases.code(number))
            if target in needed:
                aliases.is_told[number] = target in told
                aliases.place(number, slot)
                continue
            if slot != UNPLACED:
                self._now(aliases.code(number), slot)
            aliases.remove((caller, target))

    def _slot_for(self, caller: str, name: str, code: int) -> int:
        """Of the edge with this name; made where cells wait for it, if there is room."""
        slot = self.traffic.keys.by_key.get((caller, name))
        if slot is not None:
            return slot
        if not self._waits(code):
            return UNPLACED
        slot, is_overflow = self.traffic.slot_named(caller, name)
        if is_overflow:
            self._now(code, slot)
            return UNPLACED
        return slot

    def _now(self, old: int, new: int) -> None:
        """What waits under one slot or code waits under another from here on."""
        self._rewritten.append((old, new))
        if self._waiting is not None:
            self._follow(old, new)

    def _waits(self, value: int) -> bool:
        if self._waiting is None:
            self._waiting = self.traffic.waiting()
            if self.cells is not None:
                self._waiting |= set(np.unique(self.cells.slot).tolist())
            for old, new in self._rewritten:
                self._follow(old, new)
        return value in self._waiting

    def _follow(self, old: int, new: int) -> None:
        assert self._waiting is not None
        if old in self._waiting:
            self._waiting.discard(old)
            self._waiting.add(new)

    def _rewrite(self) -> None:
        if not self._rewritten:
            return
        final: dict[int, int] = {}
        for old, new in reversed(self._rewritten):
            final[old] = final.get(new, new)
        lowest = min(
            *final, *final.values(), self.traffic.aliases.code(len(self.traffic.aliases.slot))
        )
        table = np.arange(lowest, self.traffic.keys.capacity)
        for old, new in final.items():
            table[old - lowest] = new

        def renamed(slots: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
            return table[slots.astype(np.int64) - lowest]

        self.traffic.pending.rewrite(renamed)
        self.traffic.exemplars.rewrite(renamed)
        if self.cells is not None:
            self.cells.slot = renamed(self.cells.slot).astype(np.int32)

    # ---- alerts ----

    def _end_alerts(self, slot: int) -> None:
        """Whoever was told under the old name is told of its end; what still holds begins anew."""
        keys = self.traffic.keys
        slots = np.array([slot], np.int64)
        for number, judgement in enumerate(self.judgements):
            state = judgement.alarms.alerts
            events = alerts.end(
                state, slots, self.boundary, scopes=keys.scopes, silences=self.silences
            )
            if number == 0:
                scope = keys.scopes[slot]
                self.out.ended += [(scope, event, "goes on under another name") for event in events]
