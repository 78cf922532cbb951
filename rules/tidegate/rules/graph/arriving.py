"""Health records as they arrive: parts are put together, repetitions are known, and the boundary up to which
every partition has been heard is found."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.health import HealthRecord, cells_of, numbers_of

__all__ = ["Arriving", "HealthPart", "Whole", "part_of"]


@dataclass(slots=True)
class HealthPart:
    """A record's columns: k keys, n cells."""

    keys: list[tuple[str, str]]
    score: npt.NDArray[np.int32]
    level: npt.NDArray[np.uint8]
    p95_us: npt.NDArray[np.int64]
    numbers: dict[str, npt.NDArray[np.generic]]
    exemplars: dict[int, list[str]]
    key: npt.NDArray[np.int64]
    """Index into `keys`."""
    age: npt.NDArray[np.int64]
    """boundary - 1 - bucket."""
    code: npt.NDArray[np.uint16]
    bin: npt.NDArray[np.uint16]
    count: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int32]
    facts: list[Fact]
    loops: list[Loop]
    ended: list[tuple[str, str]]


@dataclass(slots=True)
class Whole:
    """All parts of one partition's boundary."""

    partition: int
    boundary: int
    parts: list[HealthPart]


def part_of(record: HealthRecord) -> HealthPart:
    """Raises ValueError where columns don't fit together."""
    cells: dict[str, Any] = cells_of(record)
    return HealthPart(
        keys=record.keys,
        score=np.array(record.score, np.int32),
        level=np.array(record.level, np.uint8),
        p95_us=np.array(record.p95_us, np.int64),
        numbers=numbers_of(record),
        exemplars=record.exemplars,
        key=cells["key"].astype(np.int64),
        age=cells["age"].astype(np.int64),
        code=cells["code"],
        bin=cells["bin"],
        count=cells["count"],
        weight=cells["weight"],
        facts=record.facts,
        loops=record.loops,
        ended=record.ended,
    )


class Arriving:
    """What has come of each evaluate partition. Times are the log's append times."""

    def __init__(self, partitions_count: int, *, wait_ms: int) -> None:
        self.partitions_count = partitions_count
        self.wait_ms = wait_ms
        """After so long without a record a partition is left out, until it is heard again."""
        self.now_ms = 0
        self.newest: dict[int, int] = {}
        """The last whole boundary of each partition."""
        self.counters: Counter[str] = Counter()
        self._first_ms: int | None = None
        self._heard_ms: dict[int, int] = {}
        self.parts: dict[tuple[int, int], dict[int, HealthPart]] = {}
        self.waiting: dict[tuple[int, int], Whole] = {}
        self.first_offset: dict[int, int] = {}
        """By boundary: where in the log the first record of it came."""

    def hear(
        self, record: HealthRecord, part: HealthPart, *, offset: int, append_ms: int
    ) -> Whole | None:
        """Takes a record and its columns; the whole boundary that it completes."""
        self.now_ms = max(self.now_ms, append_ms)
        if self._first_ms is None:
            self._first_ms = self.now_ms
        self._heard_ms[record.partition] = self.now_ms
        if record.boundary <= self.newest.get(record.partition, -1):
            self.counters["repeated_health"] += 1
            return None
        first = self.first_offset.get(record.boundary, offset)
        self.first_offset[record.boundary] = min(offset, first)
        name = (record.partition, record.boundary)
        parts = self.parts.setdefault(name, {})
        parts[record.part] = part
        if len(parts) < record.parts:
            return None
        # What a worker that died has left of earlier boundaries never becomes whole.
        self.parts = {n: p for n, p in self.parts.items() if n[0] != name[0] or n[1] > name[1]}
        self.newest[record.partition] = record.boundary
        return Whole(*name, [parts[number] for number in sorted(parts)])

    def wait(self, whole: Whole) -> None:
        """Keeps it until a boundary takes it."""
        self.waiting[whole.partition, whole.boundary] = whole

    def take(self, boundary: int) -> list[Whole]:
        """Everything up to a boundary, by (boundary, partition)."""
        names = sorted((b, p) for p, b in self.waiting if b <= boundary)
        return [self.waiting.pop((p, b)) for b, p in names]

    def first_waiting(self) -> int | None:
        """The oldest boundary that nobody has taken."""
        return min((boundary for _, boundary in self.waiting), default=None)

    def until(self) -> int | None:
        """The boundary up to which every partition has been heard, or was left out; None before that."""
        if self._first_ms is None:
            return None
        missing = self.partitions_count - len(self.newest)
        if missing and self.now_ms - self._first_ms < self.wait_ms:
            return None
        known = [b for p, b in self.newest.items() if not self._is_left_out(p)]
        return min(known, default=None)

    def left_out_count(self) -> int:
        """Partitions that nothing was heard of for too long, or ever."""
        missing = self.partitions_count - len(self.newest)
        return missing + sum(self._is_left_out(p) for p in self.newest)

    def start_offset(self, boundary: int, otherwise: int) -> int:
        """From where the log must be read again to have all health after a boundary."""
        self.first_offset = {b: o for b, o in self.first_offset.items() if b > boundary}
        return min(self.first_offset.values(), default=otherwise)

    def save(self) -> dict[str, Any]:
        """What is known of the partitions; what waits is in the log."""
        return {
            "first_ms": self._first_ms,
            "newest": sorted(self.newest.items()),
            "heard_ms": sorted(self._heard_ms.items()),
        }

    def load(self, saved: dict[str, Any], now_ms: int) -> None:
        """The opposite."""
        self.now_ms, self._first_ms = now_ms, saved["first_ms"]
        self.newest = dict(map(tuple, saved["newest"]))
        self._heard_ms = dict(map(tuple, saved["heard_ms"]))

    def take_over(self, refolded: "Arriving") -> None:
        """Goes on with what reading again has brought: what waits, and parts that aren't whole yet."""
        self.parts, self.waiting = refolded.parts, refolded.waiting
        self.first_offset = refolded.first_offset

    def _is_left_out(self, partition: int) -> bool:
        return self.now_ms - self._heard_ms[partition] >= self.wait_ms
