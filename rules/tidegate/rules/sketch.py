"""Dense sketches of durations by key: DDSketch bins (Masson et al., VLDB 2019), merge = add.

Rows are given out when a key first needs them: most keys never fail, so most have one row of two.
"""

import numpy as np
import numpy.typing as npt

from tidegate.rules import window_kernel as kernel
from tidegate.schemas.bins import BINS_COUNT
from tidegate.schemas.cells import CODES_COUNT, EFFECT_SHIFT, OUTCOME_MASK, SELF_TIME
from tidegate.schemas.outcome import FAILED_OUTCOMES

__all__ = ["SketchPool"]

_CODES = np.arange(CODES_COUNT)
_FAILED_CODES = np.isin(_CODES & OUTCOME_MASK, [int(o) for o in FAILED_OUTCOMES])
_IS_EFFECT = ((_CODES >> EFFECT_SHIFT) & 7) > 0
_IS_SELF = (_CODES & SELF_TIME) > 0
_GROWTH = 1.5


class SketchPool:
    """counts (rows, 2, bins) int32: planes WINDOW and FAST; in quarters of a request."""

    def __init__(self, capacity: int) -> None:
        self.counts = np.zeros((64, 2, BINS_COUNT), np.int32)
        self.ok_row = np.full(capacity, -1, np.int64)
        self.failed_row = np.full(capacity, -1, np.int64)
        self.self_row = np.full(capacity, -1, np.int64)
        self._free = list(range(63, -1, -1))

    def grow(self, capacity: int) -> None:
        """More slots, without rows yet."""
        for name in ("ok_row", "failed_row", "self_row"):
            old = getattr(self, name)
            more = np.full(capacity - len(old), -1, np.int64)
            setattr(self, name, np.concatenate((old, more)))

    def cover(
        self, slot: npt.NDArray[np.int64], code: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Gives rows to the slots of these cells: for failed, for not failed, for self times. Returns the
        slots that got a row for self times: what the window holds already is theirs to be filled in."""
        counted = ~_IS_EFFECT[code]
        is_self = _IS_SELF[code]
        failed = _FAILED_CODES[code]
        self._give(self.ok_row, slot[counted & ~failed & ~is_self])
        self._give(self.failed_row, slot[counted & failed & ~is_self])
        return self._give(self.self_row, slot[is_self & counted])

    def free(self, slots: npt.NDArray[np.int64]) -> None:
        """Takes the rows of these slots back."""
        for rows in (self.ok_row, self.failed_row, self.self_row):
            mine = rows[slots]
            mine = mine[mine >= 0]
            self.counts[mine] = 0
            self._free += mine.tolist()
            rows[slots] = -1

    def take_over(self, source: int, to: int) -> None:
        """Adds one slot's rows to another's, and frees them."""
        for rows in (self.ok_row, self.failed_row, self.self_row):
            mine = int(rows[source])
            if mine < 0:
                continue
            if rows[to] < 0:
                rows[to] = mine
            else:
                self.counts[rows[to]] += self.counts[mine]
                self.counts[mine] = 0
                self._free.append(mine)
            rows[source] = -1

    def quantile_bins(
        self, slots: npt.NDArray[np.int64], per_mille: int, *, which: int, failed_too: bool
    ) -> npt.NDArray[np.int32]:
        """Bin of a quantile by slot, -1 without any request."""
        out = np.empty(len(slots), np.int32)
        none = np.full(len(slots), -1, np.int64)
        second = self.failed_row[slots] if failed_too else none
        kernel.quantile_bins(self.counts, which, self.ok_row[slots], second, per_mille, out)
        return out

    def self_quantile_bins(
        self, slots: npt.NDArray[np.int64], per_mille: int
    ) -> npt.NDArray[np.int32]:
        """The same of self times, over the 30 s window. A key that never made a call inside has no self
        times of its own: its durations are its self times."""
        out = np.empty(len(slots), np.int32)
        has_self = self.self_row[slots] >= 0
        first = np.where(has_self, self.self_row[slots], self.ok_row[slots])
        second = np.where(has_self, -1, self.failed_row[slots])
        kernel.quantile_bins(self.counts, kernel.WINDOW, first, second, per_mille, out)
        return out

    def slow_units(
        self, slots: npt.NDArray[np.int64], target_bin: npt.NDArray[np.int64], *, which: int
    ) -> npt.NDArray[np.int64]:
        """Not-failed requests slower than the target, in sketch units, by slot."""
        out = np.empty(len(slots), np.int64)
        kernel.bin_above(self.counts, which, self.ok_row[slots], target_bin, out)
        return out

    def self_slow_share(
        self, slots: npt.NDArray[np.int64], target_bin: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Of the requests slower than the target in the 30 s window, the share whose self time alone is;
        0 where none is slow. Requests whose calls lie in other records count as slow by themselves."""
        own, slow = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64)
        has_self = self.self_row[slots] >= 0
        row = np.where(has_self, self.self_row[slots], self.ok_row[slots])
        kernel.bin_above(self.counts, kernel.WINDOW, row, target_bin, own)
        kernel.bin_above(self.counts, kernel.WINDOW, self.ok_row[slots], target_bin, slow)
        share: npt.NDArray[np.float64] = own / np.maximum(slow, 1)
        return share

    def _give(
        self, rows: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        given = np.unique(slots[rows[slots] < 0])
        for slot in given.tolist():
            if not self._free:
                old = len(self.counts)
                more = max(64, int(old * (_GROWTH - 1)))
                pad = np.zeros((more, 2, BINS_COUNT), np.int32)
                self.counts = np.concatenate((self.counts, pad))
                self._free = list(range(old + more - 1, old - 1, -1))
            rows[slot] = self._free.pop()
        return given
