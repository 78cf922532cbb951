"""Cells that wait for their boundary, by bucket, and where in the log each bucket began."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules.window import WINDOW_BUCKETS, Merged
from tidegate.schemas.cells import CODES_COUNT

__all__ = ["KEYS_MAX", "Arrived", "Pending", "Renamer", "merge"]

_RANK_BITS, _CODE_BITS, _BIN_BITS = 20, (CODES_COUNT - 1).bit_length(), 11
KEYS_MAX = 1 << _RANK_BITS
"""Merging sorts cells by one packed number of 47 bits: age, rank, code, bin."""


Renamer = Callable[[npt.NDArray[np.integer[Any]]], npt.NDArray[np.int64]]
"""From slots and codes to others. Shape kept."""


@dataclass(slots=True)
class Arrived:
    """n cells as they came, keys replaced by slots."""

    slot: npt.NDArray[np.int32]
    """Or, until a boundary takes them, a code of `aliases`."""
    bucket: npt.NDArray[np.int64]
    code: npt.NDArray[np.uint16]
    bin: npt.NDArray[np.uint16]
    count: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int32]
    lag: npt.NDArray[np.uint8]
    """(Kafka time - bucket) in buckets, 0..63: how old the span was when it arrived."""

    def where(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Arrived":
        """Those of an index or mask."""
        return Arrived(*(getattr(self, name)[index] for name in self.__slots__))

    @classmethod
    def concatenate(cls, parts: "list[Arrived]") -> "Arrived":
        """All of several, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__slots__))


class Pending:
    """Holds cells until a boundary takes them. The caller bounds how far ahead they may lie."""

    def __init__(self) -> None:
        self._by_bucket: dict[int, list[Arrived]] = {}
        self._first_offset: dict[int, int] = {}

    def add(self, cells: Arrived, *, offset: int) -> None:
        """Takes the cells of the partials record at this log offset."""
        if not len(cells.bucket):
            return
        first, last = int(cells.bucket.min()), int(cells.bucket.max())
        if first == last:
            self._put(first, cells, offset)
            return
        if last - first < 1 << 16:  # numpy sorts 16-bit numbers by radix: 0.1 ms for 24,000
            order = np.argsort((cells.bucket - first).astype(np.uint16), kind="stable")
        else:
            order = np.argsort(cells.bucket, kind="stable")
        ordered = cells.where(order)
        edges = np.flatnonzero(np.diff(ordered.bucket)) + 1
        starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(order)]
        for start, end in zip(starts, ends, strict=True):
            part = Arrived(*(getattr(ordered, n)[start:end] for n in Arrived.__slots__))
            self._put(int(part.bucket[0]), part, offset)

    def note(self, buckets: npt.NDArray[np.int64], *, offset: int) -> None:
        """Remembers where buckets began whose cells went straight into the window."""
        for bucket in np.unique(buckets).tolist():
            self._first_offset[bucket] = min(offset, self._first_offset.get(bucket, offset))

    def _put(self, bucket: int, cells: Arrived, offset: int) -> None:
        self._by_bucket.setdefault(bucket, []).append(cells)
        self._first_offset[bucket] = min(offset, self._first_offset.get(bucket, offset))

    def buckets(self) -> list[int]:
        """Buckets with cells that no boundary has taken, ascending."""
        return sorted(self._by_bucket)

    def slots(self) -> set[int]:
        """Slots for which cells wait (codes, where targets have other names)."""
        waiting = (cells for parts in self._by_bucket.values() for cells in parts)
        return {slot for cells in waiting for slot in np.unique(cells.slot).tolist()}

    def rewrite(self, renamed: Renamer) -> None:
        """Puts other slots and codes in place of those that cells wait under."""
        for parts in self._by_bucket.values():
            for cells in parts:
                cells.slot = renamed(cells.slot).astype(np.int32)

    def last_bucket(self) -> int | None:
        """The newest bucket with cells, None without any."""
        return max(self._by_bucket, default=None)

    def start_offset(self, boundary: int, otherwise: int) -> int:
        """From where the log must be read again to have all cells of the window and beyond."""
        oldest = boundary - WINDOW_BUCKETS
        self._first_offset = {b: o for b, o in self._first_offset.items() if b >= oldest}
        return min(self._first_offset.values(), default=otherwise)

    def take(self, boundary: int) -> tuple[Arrived | None, int]:
        """All cells of buckets below `boundary`, and how many requests were too late for the window."""
        parts: list[Arrived] = []
        late_count = 0
        for bucket in [b for b in self._by_bucket if b < boundary]:
            cells = self._by_bucket.pop(bucket)
            if bucket < boundary - WINDOW_BUCKETS:
                late_count += sum(int(c.count.sum()) for c in cells)
                self._first_offset.pop(bucket, None)
            else:
                parts += cells
        return (Arrived.concatenate(parts) if parts else None), late_count


def merge(
    cells: Arrived,
    boundary: int,
    *,
    rank: npt.NDArray[np.int64],
    in_order: npt.NDArray[np.int64],
) -> Merged:
    """Adds up equal cells and sorts them by (age, scope, code, bin): the order of arrival is gone."""
    age = boundary - 1 - cells.bucket
    packed = (
        ((age << _RANK_BITS | rank[cells.slot]) << _CODE_BITS | cells.code.astype(np.int64))
        << _BIN_BITS
    ) | cells.bin.astype(np.int64)
    is_plain = bool((cells.count == 1).all()) and bool((cells.weight == cells.weight[0]).all())
    if is_plain:
        packed = np.sort(packed)
        starts = np.flatnonzero(np.concatenate(([True], packed[1:] != packed[:-1])))
        count = np.diff(np.append(starts, len(packed)))
        weight = np.full(len(starts), cells.weight[0], np.int64)
    else:
        order = np.lexsort((cells.weight, packed))
        packed, by_weight = packed[order], cells.weight[order].astype(np.int64)
        is_start = (packed[1:] != packed[:-1]) | (by_weight[1:] != by_weight[:-1])
        starts = np.flatnonzero(np.concatenate(([True], is_start)))
        count = np.add.reduceat(cells.count[order].astype(np.int64), starts)
        weight = by_weight[starts]
    cell = packed[starts]
    return Merged(
        slot=in_order[(cell >> (_BIN_BITS + _CODE_BITS)) & (KEYS_MAX - 1)],
        age=cell >> (_BIN_BITS + _CODE_BITS + _RANK_BITS),
        code=(cell >> _BIN_BITS) & ((1 << _CODE_BITS) - 1),
        bin=cell & ((1 << _BIN_BITS) - 1),
        count=count.astype(np.int64),
        weight=weight,
    )
