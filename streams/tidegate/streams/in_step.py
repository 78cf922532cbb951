"""Keeps the partitions that a worker reads in step: none more than ten seconds of Kafka time ahead of the
slowest one that has a backlog.

evaluate holds 120 s of future buckets. A worker that read one partition's backlog to its end before the
next one's would push the slower out of the watermark, and call its spans late.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["AHEAD_MAX_MS", "Batch", "InStep", "Reading"]

AHEAD_MAX_MS = 10_000
Item = TypeVar("Item")


@dataclass(slots=True)
class Batch(Generic[Item]):
    """Records of several partitions, each partition's in order."""

    partition: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    kafka_ms: list[int] = field(default_factory=list)
    """Kafka timestamp as it is; 0 or less where the record has none."""
    item: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class Reading(Generic[Item]):
    """How far one partition was read."""

    read_to: int
    """Offset after the last record that was let through, or the end that was seen after it."""
    time_ms: int | None
    """Kafka time, at most the clock's, of the last record let through; None before the first."""
    is_behind: bool = True
    """Whether there may be more to read: its end has not been seen yet."""
    held: list[tuple[int, int, Item | None]] = field(default_factory=list)
    """(offset, Kafka timestamp, record) that wait for slower partitions, the next one last. The end of
    the partition is a None among them."""

    def bound_ms(self, now_ms: int) -> int | None:
        """No record that is still to come, held or not fetched, should be older; None: unknown."""
        while self.held and self.held[-1][2] is None:
            self.read_to = max(self.read_to, self.held.pop()[0])
            self.is_behind = bool(self.held)
        return _clamped(self.held[-1][1], now_ms) if self.held else self.time_ms


class InStep(Generic[Item]):
    """Records go in as they come from Kafka; they come out, in order by partition, when in step."""

    def __init__(self) -> None:
        self.readings: dict[int, Reading[Item]] = {}

    def assign(self, partition: int, offset: int, time_ms: int | None) -> None:
        """Begins a partition, at its next offset, with the time it had come to before."""
        self.readings[partition] = Reading(offset, time_ms)

    def clear(self) -> None:
        """Nothing is owned any more; what is held is dropped."""
        self.readings = {}

    def held_partitions(self) -> list[int]:
        """Partitions that should not be fetched for now."""
        return [partition for partition, reading in self.readings.items() if reading.held]

    def take(self, batch: Batch[Item], ends: Iterable[tuple[int, int]], now_ms: int) -> Batch[Item]:
        """Takes fetched records and the ends (partition, offset) seen after them; returns those that may
        pass. All partitions must be owned."""
        if self._are_all_in_step(batch, now_ms):
            for partition, i in dict(
                zip(batch.partition, range(len(batch.offset)), strict=True)
            ).items():
                reading = self.readings[partition]
                reading.read_to = batch.offset[i] + 1
                reading.time_ms = _clamped(batch.kafka_ms[i], now_ms)
            for partition, offset in ends:
                reading = self.readings[partition]
                reading.read_to = max(reading.read_to, offset)
                reading.is_behind = False
            return batch
        fresh: dict[int, list[tuple[int, int, Item | None]]] = {}
        for partition, offset, kafka_ms, item in zip(
            batch.partition, batch.offset, batch.kafka_ms, batch.item, strict=True
        ):
            fresh.setdefault(partition, []).append((offset, kafka_ms, item))
        for partition, offset in ends:
            fresh.setdefault(partition, []).append((offset, 0, None))
        for partition, rows in fresh.items():
            reading = self.readings[partition]
            reading.held = rows[::-1] + reading.held
        return self._released(now_ms)

    def _are_all_in_step(self, batch: Batch[Item], now_ms: int) -> bool:
        times = []
        for reading in self.readings.values():
            if reading.held:
                return False
            if reading.is_behind:
                if reading.time_ms is None:
                    return False
                times.append(reading.time_ms)
        newest = max(batch.kafka_ms, default=0)
        oldest = min(batch.kafka_ms, default=0)
        newest = now_ms if oldest <= 0 else min(newest, now_ms)
        return not times or newest <= min(times) + AHEAD_MAX_MS

    def _released(self, now_ms: int) -> Batch[Item]:
        out: Batch[Item] = Batch()
        while True:
            bounds = [(reading.bound_ms(now_ms), reading) for reading in self.readings.values()]
            waits = [bound for bound, r in bounds if r.held or r.is_behind]
            known = [bound for bound in waits if bound is not None]
            if len(known) < len(waits) or not known:
                return out
            limit = min(known) + AHEAD_MAX_MS
            passed = 0
            for partition, reading in self.readings.items():
                held = reading.held
                while held and held[-1][2] is not None:
                    if _clamped(held[-1][1], now_ms) > limit:
                        break
                    offset, kafka_ms, item = held.pop()
                    assert item is not None
                    out.partition.append(partition)
                    out.offset.append(offset)
                    out.kafka_ms.append(kafka_ms)
                    out.item.append(item)
                    reading.read_to = offset + 1
                    reading.time_ms = _clamped(kafka_ms, now_ms)
                    passed += 1
            if not passed:
                return out


def _clamped(kafka_ms: int, now_ms: int) -> int:
    """A producer's clock may be ahead, and a record may carry no time at all."""
    return min(kafka_ms, now_ms) if kafka_ms > 0 else now_ms
