"""Requests and failures by instance over the 30 s window: which one instance makes a service fail.

Window content: rebuilt from the log after a restart, never saved. So every answer is a function of the
rows that the window holds, not of the order in which they came; the bounds too. Whole buckets fall out
of them, since a bucket's rows are all read again, or none of them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.rules.window import WINDOW_BUCKETS
from tidegate.schemas.partials import Blocks

__all__ = ["BUCKET_INSTANCES_MAX", "SERVICE_INSTANCES_MAX", "InstanceRows", "Instances", "rows_of"]

SERVICE_INSTANCES_MAX = 1_000
"""A service with more of them in the window has no dominant one."""
BUCKET_INSTANCES_MAX = 10_000
"""Of all services together. A bucket with more is dropped whole, and nobody has a dominant instance until
it has left the window: at most 600,000 names are held, where every bucket brings new ones."""
_COMPACT_FROM = 1_000

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class InstanceRows:
    """Requests by instance, m rows, keys replaced by slots."""

    slot: Ints
    bucket: Ints
    name: npt.NDArray[np.int32]
    """Index into `names`."""
    requests: npt.NDArray[np.int32]
    failed: npt.NDArray[np.int32]
    names: list[str]

    def where(self, mask: npt.NDArray[np.bool_]) -> "InstanceRows":
        """Those of a mask."""
        return InstanceRows(
            self.slot[mask],
            self.bucket[mask],
            self.name[mask],
            self.requests[mask],
            self.failed[mask],
            self.names,
        )


def rows_of(blocks: Blocks, slot_of_key: Ints, chosen: npt.NDArray[np.bool_]) -> InstanceRows:
    """Those of the chosen ones (mask over the record's rows of instances)."""
    return InstanceRows(
        slot_of_key[blocks.instance_key[chosen]],
        blocks.instance_bucket[chosen],
        blocks.instance_name[chosen],
        blocks.instance_requests[chosen],
        blocks.instance_failed[chosen],
        blocks.instances,
    )


class Instances:
    """Sums by (slot, instance), and what waits for its boundary.

    For each record of partials: `offer` the rows of new blocks, without skewed ones and those whose key
    has no slot. At every boundary: `merge(boundary)`, once, before `dominant` is asked. While memory is
    rebuilt: `offer` alike, then `merge` with the restored boundary, as often as one likes.
    """

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, int]] = {}
        """Slot -> instance -> row."""
        self._requests = np.zeros(64, np.int64)
        self._failed = np.zeros(64, np.int64)
        self._names: list[tuple[int, str]] = [(-1, "")] * 64
        """(slot, instance) by row."""
        self._free = list(range(63, -1, -1))
        self._buckets: dict[int, _Bucket] = {}
        self._waiting: list[InstanceRows] = []

    def offer(self, rows: InstanceRows) -> None:
        """Keeps them until a boundary passes their bucket."""
        if len(rows.slot):
            self._waiting.append(rows)

    def merge(self, boundary: int) -> int:
        """Lets buckets leave, and takes what lies below the boundary and still in its window. Returns how many
        instances were beyond a bound."""
        self.advance(boundary)
        waiting, self._waiting = self._waiting, []
        taken, over = [], 0
        for rows in waiting:
            due = rows.bucket < boundary
            if not due.all():
                self.offer(rows.where(~due))
            taken.append(rows.where(due & (rows.bucket >= boundary - WINDOW_BUCKETS)))
        found = [rows for rows in taken if len(rows.slot)]
        if not found:
            return 0
        row = []
        for rows in found:
            numbers, beyond = self._numbers(rows)
            row.append(numbers)
            over += beyond
        columns = [
            np.concatenate([getattr(rows, name) for rows in found]).astype(np.int64)
            for name in ("bucket", "requests", "failed")
        ]
        return over + self._add(np.concatenate(row), *columns)

    def advance(self, boundary: int) -> None:
        """Lets the buckets leave that are older than the window."""
        left = [b for b in self._buckets if b < boundary - WINDOW_BUCKETS]
        self._subtract([self._buckets.pop(number) for number in left])

    def dominant(
        self, slot: int, *, share: float, instances_min: int, failures_min: int
    ) -> str | None:
        """The instance with more than this share of a service's failures, if there are enough of both; None
        where two have as many, or where what is known is not all."""
        mine = self._rows.get(slot)
        if mine is None or not instances_min <= len(mine) <= SERVICE_INSTANCES_MAX:
            return None
        if any(bucket.is_over for bucket in self._buckets.values()):
            return None
        failed = self._failed[list(mine.values())]
        total, most = int(failed.sum()), int(failed.max())
        if total < failures_min or most <= share * total or int((failed == most).sum()) > 1:
            return None
        return list(mine)[int(failed.argmax())]

    def waiting_slots(self) -> set[int]:
        """Slots for which something waits."""
        return {slot for rows in self._waiting for slot in np.unique(rows.slot).tolist()}

    def forget(self, slots: Ints) -> None:
        """Drops what the window holds of keys that ended."""
        ended = [row for slot in slots.tolist() for row in self._rows.get(slot, {}).values()]
        if not ended:
            return
        for bucket in self._buckets.values():
            bucket.drop(np.array(ended, np.int64))
        self._requests[ended] = 0
        self._release(ended)

    def _numbers(self, rows: InstanceRows) -> tuple[Ints, int]:
        """(row of each, how many new ones their service had no room for)."""
        count = len(rows.names)
        pairs, place = np.unique(rows.slot * count + rows.name, return_inverse=True)
        numbers, over = [], 0
        for pair in pairs.tolist():
            slot, name = pair // count, rows.names[pair % count]
            mine = self._rows.setdefault(slot, {})
            if name not in mine:
                over += len(mine) >= SERVICE_INSTANCES_MAX
                mine[name] = self._new_row(slot, name)
            numbers.append(mine[name])
        return np.array(numbers, np.int64)[place], over

    def _new_row(self, slot: int, name: str) -> int:
        if not self._free:
            count = len(self._names)
            self._requests = np.concatenate((self._requests, np.zeros(count, np.int64)))
            self._failed = np.concatenate((self._failed, np.zeros(count, np.int64)))
            self._names += [(-1, "")] * count
            self._free = list(range(2 * count - 1, count - 1, -1))
        row = self._free.pop()
        self._names[row] = (slot, name)
        return row

    def _add(self, row: Ints, bucket: Ints, requests: Ints, failed: Ints) -> int:
        """Into the sums and each bucket; returns how many instances of too full buckets were dropped."""
        order = np.argsort(bucket, kind="stable")
        edges = np.flatnonzero(np.diff(bucket[order])) + 1
        over = []
        for part in np.split(order, edges):
            held = self._buckets.setdefault(int(bucket[part[0]]), _Bucket())
            chunk = _summed(row[part], requests[part], failed[part])
            self._requests[chunk.row] += chunk.requests
            self._failed[chunk.row] += chunk.failed
            held.add(chunk)
            if held.is_over:
                over.append(held)
        dropped = sum(len(chunk.row) for held in over for chunk in held.chunks)
        self._subtract(over)
        return dropped

    def _subtract(self, buckets: "list[_Bucket]") -> None:
        """Takes all of these buckets out of the sums; instances that nobody else has are gone."""
        chunks = [chunk for bucket in buckets for chunk in bucket.chunks]
        for chunk in chunks:
            self._requests[chunk.row] -= chunk.requests
            self._failed[chunk.row] -= chunk.failed
        for bucket in buckets:
            bucket.chunks = []
        if chunks:
            rows = np.unique(np.concatenate([chunk.row for chunk in chunks]))
            self._release(rows[self._requests[rows] == 0].tolist())

    def _release(self, rows: list[int]) -> None:
        for row in rows:
            slot, name = self._names[row]
            del self._rows[slot][name]
            if not self._rows[slot]:
                del self._rows[slot]
            self._names[row] = (-1, "")
            self._failed[row] = 0
            self._free.append(row)


@dataclass(slots=True)
class _Chunk:
    """What a bucket got at one boundary; every row once."""

    row: Ints
    requests: Ints
    failed: Ints


class _Bucket:
    """Its chunks. Late rows make a few more of them; those of the same instances are added up in time."""

    __slots__ = ("_compact_from", "_rows_count", "chunks", "is_over")

    def __init__(self) -> None:
        self.chunks: list[_Chunk] = []
        self.is_over = False
        """It has more than BUCKET_INSTANCES_MAX instances, for good."""
        self._rows_count = 0
        self._compact_from = _COMPACT_FROM

    def add(self, chunk: _Chunk) -> None:
        self.chunks.append(chunk)
        self._rows_count += len(chunk.row)
        if self._rows_count <= min(self._compact_from, BUCKET_INSTANCES_MAX):
            return
        self.chunks = [
            _summed(
                *(
                    np.concatenate([getattr(c, name) for c in self.chunks])
                    for name in _Chunk.__slots__
                )
            )
        ]
        self._rows_count = len(self.chunks[0].row)
        self._compact_from = max(_COMPACT_FROM, 2 * self._rows_count)
        self.is_over |= self._rows_count > BUCKET_INSTANCES_MAX

    def drop(self, rows: Ints) -> None:
        for chunk in self.chunks:
            kept = ~np.isin(chunk.row, rows)
            chunk.row, chunk.requests = chunk.row[kept], chunk.requests[kept]
            chunk.failed = chunk.failed[kept]


def _summed(row: Ints, requests: Ints, failed: Ints) -> _Chunk:
    """Equal rows added up."""
    order = np.argsort(row, kind="stable")
    ordered = row[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return _Chunk(
        ordered[starts],
        np.add.reduceat(requests[order], starts),
        np.add.reduceat(failed[order], starts),
    )
