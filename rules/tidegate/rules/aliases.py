"""Targets that are called by the name of who answers them, and where their cells go.

Cells that wait keep the target that their spans said, as a *code* in place of a slot: which name it has is asked
when a boundary takes them. Every target of a named edge has a code, the callee's own name too (once others go by
it): so whatever leaves the edge again can be told from what stays. Without facts there is no code at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules.facts import Key
from tidegate.rules.pending import Arrived
from tidegate.rules.window import WINDOW_BUCKETS
from tidegate.schemas.cells import EFFECT_SHIFT, SELF_TIME

__all__ = ["UNPLACED", "Aliases", "Former"]

Ints = npt.NDArray[np.int64]
UNPLACED = -1
"""In place of a slot or code: there is none yet."""
_FIRST_CODE = -2
"""Code of number n: -2 - n."""


@dataclass(slots=True)
class Former:
    """Cells of a target that was part of an edge and left it: the windows keep what was merged there."""

    key: Key
    slot: int
    boundary: int
    """The last one stepped while it was: what it merged lies below, ..."""
    offset: int
    """... and came with a record up to this one."""


class Aliases:
    """Numbers of targets, and their columns (shape (numbers,))."""

    def __init__(self) -> None:
        self.codes: dict[Key, int] = {}
        """Code by what spans say; UNPLACED while its edge has no slot."""
        self.slot = np.full(64, -1, np.int64)
        """Of the edge that it is part of."""
        self.calls = np.zeros(64, np.int64)
        """Calls merged since its fact was last seen, own effects left out."""
        self.is_said = np.zeros(64, np.bool_)
        """Whether anything of it was merged: then it is part of its edge, and shown."""
        self.is_told = np.zeros(64, np.bool_)
        """Whether a fact says who answers it; else it is the name that facts give others."""
        self.last_boundary = np.full(64, -1, np.int64)
        """The last one that merged anything of it, or made it."""
        self.number: dict[Key, int] = {}
        self.of_caller: dict[str, dict[str, int]] = {}
        """Caller -> target -> number."""
        self.formers: list[Former] = []
        """In the order of their boundaries."""
        self.stepped_boundary, self.stepped_offset = -1, -1
        """The newest boundary that was stepped, and the record with which it was."""
        self._by_slot: dict[int, set[int]] = {}
        self._keys: list[Key] = [("", "")] * 64
        self._free = list(range(63, -1, -1))

    def __len__(self) -> int:
        return len(self.number)

    # ---- numbers ----

    def add(self, key: Key, *, is_said: bool, boundary: int) -> int:
        """A number for a target, without an edge yet."""
        if not self._free:
            self._grow()
        number = self._free.pop()
        self.number[key] = number
        self.of_caller.setdefault(key[0], {})[key[1]] = number
        self._keys[number] = key
        self.codes[key] = UNPLACED
        self.slot[number], self.calls[number] = -1, 0
        self.is_said[number], self.last_boundary[number] = is_said, boundary
        return number

    def remove(self, key: Key) -> None:
        """Frees a target's number. Nothing may wait under its code any more."""
        number = self.number.pop(key)
        self.place(number, -1)
        self.is_told[number] = self.is_said[number] = False
        del self.codes[key]
        del self.of_caller[key[0]][key[1]]
        if not self.of_caller[key[0]]:
            del self.of_caller[key[0]]
        self._free.append(number)

    def place(self, number: int, slot: int) -> None:
        """Makes a target part of the edge in this slot; -1 of none."""
        before = int(self.slot[number])
        if before >= 0:
            self._by_slot[before].discard(number)
            if not self._by_slot[before]:
                del self._by_slot[before]
        self.slot[number] = slot
        if slot >= 0:
            self._by_slot.setdefault(slot, set()).add(number)
        self.codes[self._keys[number]] = UNPLACED if slot < 0 else self.code(number)

    @staticmethod
    def code(number: int) -> int:
        """What stands in place of a slot where cells wait."""
        return _FIRST_CODE - number

    def said(self, slot: int) -> list[Key]:
        """What was merged of an edge, by the targets that spans said, sorted; empty for one that has its
        own name and no other."""
        numbers = self._by_slot.get(slot, ())
        return sorted(self._keys[number] for number in numbers if self.is_said[number])

    def is_answered(self, slots: Ints, capacity: int) -> npt.NDArray[np.bool_]:
        """Edges of which a part has a callee that is known. Shape kept."""
        answered = np.zeros(capacity, np.bool_)
        answered[self.slot[self.is_told & self.is_said & (self.slot >= 0)]] = True
        out: npt.NDArray[np.bool_] = answered[slots]
        return out

    # ---- cells ----

    def take(self, cells: Arrived, boundary: int) -> set[int]:
        """Puts slots in place of codes and counts calls; gives the slots of edges that have a target more."""
        coded = np.flatnonzero(cells.slot <= _FIRST_CODE)
        if not len(coded):
            return set()
        number = _FIRST_CODE - cells.slot[coded].astype(np.int64)
        code = cells.code[coded]
        is_call = ((code & SELF_TIME) == 0) & (((code >> EFFECT_SHIFT) & 7) == 0)
        np.add.at(self.calls, number[is_call], cells.count[coded][is_call])
        seen = np.unique(number)
        self.last_boundary[seen] = boundary
        new = seen[~self.is_said[seen]]
        self.is_said[new] = True
        cells.slot = self.resolved(cells.slot).astype(np.int32)
        return set(self.slot[new].tolist())

    def resolved(self, slots: npt.NDArray[np.integer[Any]]) -> Ints:
        """Slots in place of codes."""
        wide = slots.astype(np.int64)
        coded = wide <= _FIRST_CODE
        if coded.any():
            wide[coded] = self.slot[_FIRST_CODE - wide[coded]]
        return wide

    def slots_of(self, values: Iterable[int]) -> set[int]:
        """The same of a few."""
        return {
            int(self.slot[_FIRST_CODE - value]) if value <= _FIRST_CODE else value
            for value in values
        }

    # ---- what left ----

    def note_left(self, key: Key, slot: int) -> None:
        """A target leaves the edge in this slot, whose windows keep what it merged."""
        self.formers.append(Former(key, slot, self.stepped_boundary, self.stepped_offset))

    def recall(
        self,
        keys: list[Key],
        key: npt.NDArray[np.int32],
        bucket: Ints,
        slot: npt.NDArray[np.int32],
        offset: int,
    ) -> None:
        """In a refold: puts cells of a record into the windows that had merged them. In place."""
        late = [former for former in reversed(self.formers) if offset <= former.offset]
        if not late:
            return
        place = {name: i for i, name in enumerate(keys)}
        for former in late:  # the earliest last, and it wins
            i = place.get(former.key, -1)
            if i >= 0:
                slot[(key == i) & (bucket < former.boundary)] = former.slot

    def forget_formers(self, boundary: int) -> None:
        """Drops those of which the window holds nothing any more."""
        if self.formers:
            oldest = boundary - WINDOW_BUCKETS
            self.formers = [former for former in self.formers if former.boundary > oldest]

    def end(self, slots: Iterable[int]) -> None:
        """Edges end: their targets go on without having said anything."""
        ended = set(slots)
        for slot in ended & self._by_slot.keys():
            self.is_said[list(self._by_slot[slot])] = False
        if self.formers:
            self.formers = [former for former in self.formers if former.slot not in ended]

    def unplace(self, slot: int) -> None:
        """Its slot is free now: the next cells give their edge another."""
        for number in sorted(self._by_slot.get(slot, ())):
            self.place(number, -1)

    # ---- snapshots ----

    def save(self, place: dict[int, int]) -> dict[str, Any]:
        """Plain values. place: number of each saved slot."""
        return {
            "numbers": [
                [
                    *key,
                    place.get(int(self.slot[number]), -1),
                    int(self.calls[number]),
                    bool(self.is_said[number]),
                    bool(self.is_told[number]),
                    int(self.last_boundary[number]),
                ]
                for key, number in sorted(self.number.items())
            ],
            "formers": [
                [*former.key, place[former.slot], former.boundary, former.offset]
                for former in self.formers
                if former.slot in place
            ],
        }

    def load(self, saved: dict[str, Any], slots: Ints) -> None:
        """Fills an empty one."""
        for caller, target, place, calls, is_said, is_told, last_boundary in saved["numbers"]:
            number = self.add((caller, target), is_said=is_said, boundary=last_boundary)
            self.calls[number], self.is_told[number] = calls, is_told
            self.place(number, int(slots[place]) if place >= 0 else -1)
        self.formers = [
            Former((caller, target), int(slots[place]), boundary, offset)
            for caller, target, place, boundary, offset in saved["formers"]
        ]

    def _grow(self) -> None:
        old = len(self.slot)
        self.slot = np.concatenate((self.slot, np.full(old, -1, np.int64)))
        self.calls = np.concatenate((self.calls, np.zeros(old, np.int64)))
        self.is_said = np.concatenate((self.is_said, np.zeros(old, np.bool_)))
        self.is_told = np.concatenate((self.is_told, np.zeros(old, np.bool_)))
        self.last_boundary = np.concatenate((self.last_boundary, np.full(old, -1, np.int64)))
        self._keys += [("", "")] * old
        self._free = list(range(2 * old - 1, old - 1, -1))
