"""Running sums over event time: fast window (5 s), window (30 s), long window (5 min) for every slot.

Dense running sums per key, sparse cells per bucket: added when merged, subtracted when the bucket
leaves. Everything is an integer, so what is subtracted is exactly what was added.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.rules import window_kernel as kernel
from tidegate.rules.sketch import SketchPool
from tidegate.rules.window_kernel import COUNTS

__all__ = [
    "FAST_BUCKETS",
    "LONG_SUMS",
    "WINDOW_BUCKETS",
    "Chunk",
    "Merged",
    "Windows",
]

WINDOW_BUCKETS = 60
FAST_BUCKETS = 10
LONG_SUMS = 10
"""The long window: ten sums of 30 s, the newest still growing."""
SPARSE_BELOW = 20
"""Long-window sketches are kept only for keys with fewer requests than this in the window."""


@dataclass(slots=True)
class Merged:
    """Cells merged at one boundary, equal ones added up; sorted by (age, rank of the scope, code, bin)."""

    slot: npt.NDArray[np.int64]
    age: npt.NDArray[np.int64]
    """boundary - 1 - bucket: 0 is the newest bucket."""
    code: npt.NDArray[np.int64]
    bin: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    weight: npt.NDArray[np.int64]

    def where(self, index: npt.NDArray[np.intp] | slice) -> "Merged":
        """Those of an index or slice."""
        return Merged(
            self.slot[index],
            self.age[index],
            self.code[index],
            self.bin[index],
            self.count[index],
            self.weight[index],
        )


@dataclass(slots=True)
class Chunk:
    """What one bucket got at one boundary, in small types: these make up most of the memory."""

    slot: npt.NDArray[np.int32]
    code: npt.NDArray[np.uint16]
    bin: npt.NDArray[np.uint16]
    count: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int32]


class Windows:
    """Sums and sketches by slot, as of `boundary`: the window is buckets [boundary - 60, boundary)."""

    def __init__(self, capacity: int) -> None:
        self.boundary: int | None = None
        self.fast = np.zeros((capacity, COUNTS), np.int64)
        self.window = np.zeros((capacity, COUNTS), np.int64)
        self.long = np.zeros((capacity, COUNTS), np.int64)
        self.long_sums = np.zeros((LONG_SUMS, capacity, COUNTS), np.int64)
        self.sketches = SketchPool(capacity)
        self.long_cells: dict[int, list[Chunk]] = {}
        """By number of the 30 s sum: cells of keys with little traffic."""
        self._chunks: dict[int, list[Chunk]] = {}

    def grow(self, capacity: int) -> None:
        """Adds empty rows up to `capacity`."""
        more = capacity - len(self.fast)
        for name in ("fast", "window", "long"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate((old, np.zeros((more, COUNTS), np.int64))))
        pad = np.zeros((LONG_SUMS, more, COUNTS), np.int64)
        self.long_sums = np.concatenate((self.long_sums, pad), axis=1)
        self.sketches.grow(capacity)

    def reset(self, slots: npt.NDArray[np.int64]) -> None:
        """Frees rows of keys unseen for longer than the long window."""
        for sums in (self.fast, self.window, self.long):
            sums[slots] = 0
        self.long_sums[:, slots] = 0
        self.sketches.free(slots)

    def take_over(self, homes: dict[int, int]) -> None:
        """Adds rows to others (row -> which), all at once, and frees them."""
        for source, to in homes.items():
            for sums in (self.fast, self.window, self.long):
                sums[to] += sums[source]
            self.long_sums[:, to] += self.long_sums[:, source]
            self.sketches.take_over(source, to)
        place = np.arange(len(self.window), dtype=np.int32)
        place[list(homes)] = list(homes.values())
        for held in (self._chunks, self.long_cells):
            for chunks in held.values():
                for chunk in chunks:
                    chunk.slot = place[chunk.slot]
        self.reset(np.array(list(homes), np.int64))

    def advance(self, boundary: int) -> None:
        """Lets buckets leave. Call before `merge` of that boundary."""
        if self.boundary is None:
            self.boundary = boundary
            return
        for step in range(self.boundary + 1, boundary + 1):
            for chunk in self._chunks.get(step - 1 - FAST_BUCKETS, ()):
                self._apply(self.fast, kernel.FAST, chunk, -1)
            for chunk in self._chunks.pop(step - 1 - WINDOW_BUCKETS, ()):
                self._apply(self.window, kernel.WINDOW, chunk, -1)
            if (step - 1) % WINDOW_BUCKETS == 0:
                self._turn_long((step - 1) // WINDOW_BUCKETS)
        self.boundary = boundary

    def merge(self, merged: Merged, boundary: int, *, is_fed: bool = True) -> None:
        """Adds cells. Those that are only folded (`is_fed` False, when memory is rebuilt from the log)
        do not touch the long window, which the snapshot carries."""
        if not len(merged.slot):
            return
        self._fill_self_times(self.sketches.cover(merged.slot, merged.code))
        low = self.window[:, : kernel.OUTCOMES].sum(axis=1) < SPARSE_BELOW if is_fed else None
        edges = np.flatnonzero(np.diff(merged.age)) + 1
        starts = [0, *edges.tolist()]
        ends = [*edges.tolist(), len(merged.slot)]
        for start, end in zip(starts, ends, strict=True):
            part = slice(start, end)
            bucket = boundary - 1 - int(merged.age[start])
            chunk = Chunk(
                merged.slot[part].astype(np.int32),
                merged.code[part].astype(np.uint16),
                merged.bin[part].astype(np.uint16),
                merged.count[part].astype(np.int32),
                merged.weight[part].astype(np.int32),
            )
            self._chunks.setdefault(bucket, []).append(chunk)
            self._apply(self.window, kernel.WINDOW, chunk, 1)
            if bucket >= boundary - FAST_BUCKETS:
                self._apply(self.fast, kernel.FAST, chunk, 1)
            if low is not None:
                self._merge_long(chunk, bucket // WINDOW_BUCKETS, low)

    def _fill_self_times(self, slots: npt.NDArray[np.int64]) -> None:
        """A key's first call inside a request makes its self times differ from its durations: the row that
        now begins takes over what the window holds."""
        if not len(slots):
            return
        rows = np.full(len(self.window), -1, np.int64)
        rows[slots] = self.sketches.self_row[slots]
        for chunks in self._chunks.values():
            for chunk in chunks:
                kernel.add_self_times(
                    self.sketches.counts,
                    rows,
                    chunk.slot,
                    chunk.code,
                    chunk.bin,
                    chunk.count,
                    chunk.weight,
                )

    def _merge_long(self, chunk: Chunk, number: int, low: npt.NDArray[np.bool_]) -> None:
        kernel.add_counts(
            self.long_sums[number % LONG_SUMS], chunk.slot, chunk.code, chunk.count, chunk.weight, 1
        )
        kernel.add_counts(self.long, chunk.slot, chunk.code, chunk.count, chunk.weight, 1)
        kept = low[chunk.slot]
        if kept.any():
            self.long_cells.setdefault(number, []).append(
                Chunk(
                    chunk.slot[kept],
                    chunk.code[kept],
                    chunk.bin[kept],
                    chunk.count[kept],
                    chunk.weight[kept],
                )
            )

    def _turn_long(self, number: int) -> None:
        """A new 30 s sum begins: the one ten turns ago leaves."""
        sums = self.long_sums[number % LONG_SUMS]
        self.long -= sums
        sums[:] = 0
        self.long_cells.pop(number - LONG_SUMS, None)

    def _apply(self, sums: npt.NDArray[np.int64], which: int, chunk: Chunk, sign: int) -> None:
        kernel.add_counts(sums, chunk.slot, chunk.code, chunk.count, chunk.weight, sign)
        kernel.add_sketch(
            self.sketches.counts,
            which,
            self.sketches.ok_row,
            self.sketches.failed_row,
            self.sketches.self_row,
            chunk.slot,
            chunk.code,
            chunk.bin,
            chunk.count,
            chunk.weight,
            sign,
        )

    def long_durations(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Sketches of the long window for these slots, shape (m, 2, bins): not failed, failed; in sketch
        units. Only what was kept: keys with little traffic."""
        place = np.full(len(self.window), -1, np.int64)
        place[slots] = np.arange(len(slots))
        out = np.zeros((len(slots), 2, self.sketches.counts.shape[2]), np.int64)
        for number in sorted(self.long_cells):
            for chunk in self.long_cells[number]:
                kernel.gather_sketch(
                    out, place, chunk.slot, chunk.code, chunk.bin, chunk.count, chunk.weight
                )
        return out
