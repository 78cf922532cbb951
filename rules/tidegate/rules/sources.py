"""What an evaluate partition has heard of its source partitions: merged blocks and watermarks.

All of it is a function of the partials log: the only times are watermarks that ingest wrote and append
times that the broker stamped.
"""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.schemas.partials import Blocks, Source, Watermark

__all__ = ["FORGET_AFTER_MS", "SourceRecord", "Sources"]

FORGET_AFTER_MS = 600_000
"""Sources unheard for ten minutes are forgotten, their bitmaps with them."""


class SourceRecord(msgspec.Struct, frozen=True, array_like=True):
    """A source as a manifest carries it."""

    topic_id: str
    partition: int
    epoch: int
    watermark_ms: int | None
    heard_ms: int
    floor_offset: int
    base: int
    merged: bytes
    """Bit i (numpy.packbits order): offset base + i was merged."""
    merged_count: int
    """Length of `merged` in bits."""
    parts: list[tuple[int, list[int]]]
    """Of offsets cut into parts: which parts were merged so far."""


@dataclass(slots=True)
class _Source:
    epoch: int
    watermark_ms: int | None
    heard_ms: int
    floor_offset: int = 0
    base: int = 0
    """Offset of merged[0]; at least floor_offset."""
    merged: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    parts: dict[int, set[int]] = field(default_factory=dict)

    def raise_floor(self, floor_offset: int) -> None:
        """Every smaller offset was delivered: its bit is needed no more."""
        if floor_offset > self.floor_offset:
            self.floor_offset = floor_offset
            if floor_offset > self.base:
                self.merged = self.merged[floor_offset - self.base :].copy()
                self.base = floor_offset
            self.parts = {o: p for o, p in self.parts.items() if o >= floor_offset}

    def admit(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of these offsets (one part each, strictly increasing) are new; marks them merged."""
        is_new = offsets >= self.floor_offset
        above = offsets[is_new]
        if len(above):
            self._cover(int(above[0]), int(above[-1]))
            index = above - self.base
            is_new[is_new] = ~self.merged[index]
            self.merged[index] = True
        return is_new

    def admit_part(self, offset: int, part: int, parts: int) -> bool:
        """The same for one part of a block that was cut."""
        if offset < self.floor_offset:
            return False
        self._cover(offset, offset)
        if self.merged[offset - self.base]:
            return False
        seen = self.parts.setdefault(offset, set())
        if part in seen:
            return False
        seen.add(part)
        if len(seen) == parts:
            del self.parts[offset]
            self.merged[offset - self.base] = True
        return True

    def _cover(self, first: int, last: int) -> None:
        if not len(self.merged):
            self.base = first
        if first < self.base:  # 95 after 96: two owners, each in order, not in order together
            front = np.zeros(self.base - first, np.bool_)
            self.merged = np.concatenate((front, self.merged))
            self.base = first
        if last - self.base >= len(self.merged):
            grown = np.zeros(max(1024, last - self.base + 1, 2 * len(self.merged)), np.bool_)
            grown[: len(self.merged)] = self.merged
            self.merged = grown


class Sources:
    """State by source (topic id, partition). `grace_ms` and `source_wait_ms` come from the policy."""

    def __init__(self, *, grace_ms: int, source_wait_ms: int) -> None:
        self.grace_ms = grace_ms
        self.source_wait_ms = source_wait_ms
        self.now_ms = 0
        """Largest append time seen: the log's own clock."""
        self.stale_epochs_count = 0
        self._sources: dict[tuple[str, int], _Source] = {}

    def hear(self, *, listed: list[tuple[str, int]], append_ms: int) -> None:
        """Moves the log's clock and expects every listed source from now on."""
        self.now_ms = max(self.now_ms, append_ms)
        expected = {(topic, p) for topic, count in listed for p in range(count)}
        for key in sorted(expected):
            if key not in self._sources:
                self._sources[key] = _Source(-1, None, self.now_ms)
        for key, source in list(self._sources.items()):
            if self.now_ms - source.heard_ms > FORGET_AFTER_MS and key not in expected:
                del self._sources[key]

    def admit(self, sources: list[Source], blocks: Blocks) -> npt.NDArray[np.bool_]:
        """Mask over blocks: True for those never merged before. Marks them merged."""
        is_new = np.zeros(len(blocks.offset), np.bool_)
        for number, name in enumerate(sources):
            mine = np.flatnonzero(blocks.source == number)
            if not len(mine):
                continue
            source = self._sources.setdefault(
                (name.topic_id, name.partition), _Source(-1, None, self.now_ms)
            )
            offsets = blocks.offset[mine]
            is_plain = bool((blocks.parts[mine] == 1).all()) and bool((np.diff(offsets) > 0).all())
            if is_plain:
                is_new[mine] = source.admit(offsets)
            else:
                is_new[mine] = [
                    source.admit_part(int(o), int(p), int(n))
                    for o, p, n in zip(offsets, blocks.part[mine], blocks.parts[mine], strict=True)
                ]
        return is_new

    def advance(self, sources: list[Source], watermark: Watermark, append_ms: int) -> None:
        """Takes one watermark. Clamped to the record's append time minus grace: one fast clock must not
        close everybody's buckets. Those of an older owner epoch are ignored: a frozen ingest that wakes
        must not close buckets either."""
        name = sources[watermark.source]
        source = self._sources.setdefault(
            (name.topic_id, name.partition), _Source(-1, None, self.now_ms)
        )
        source.raise_floor(watermark.floor_offset)
        if watermark.epoch < source.epoch:
            self.stale_epochs_count += 1
            return
        value = min(watermark.watermark_ms, append_ms - self.grace_ms)
        if watermark.epoch > source.epoch or source.watermark_ms is None:
            source.watermark_ms = value
        else:
            source.watermark_ms = max(source.watermark_ms, value)
        source.epoch = watermark.epoch
        source.heard_ms = max(source.heard_ms, append_ms)

    def watermark_ms(self) -> int | None:
        """The minimum over all sources that were heard of in the last `source_wait_ms` of append time.
        None while one of these has sent none yet, or nothing is known at all."""
        marks = [s.watermark_ms for s in self._sources.values() if not self._is_left_out(s)]
        known = [mark for mark in marks if mark is not None]
        return min(known) if known and len(known) == len(marks) else None

    def forced_watermark_ms(self, until_ms: int) -> int | None:
        """For when too many future buckets are held: the watermark up to `until_ms` after the sources
        that are furthest behind are left out. None where no source is that far."""
        marks = [
            s.watermark_ms
            for s in self._sources.values()
            if not self._is_left_out(s)
            and s.watermark_ms is not None
            and s.watermark_ms >= until_ms
        ]
        return until_ms if marks else None

    def left_out_count(self) -> int:
        """Sources that are known but were not heard of for too long."""
        return sum(self._is_left_out(s) for s in self._sources.values())

    def forget_merged(self) -> None:
        """For logs in which nothing comes twice: raises every floor above what was merged."""
        for source in self._sources.values():
            if source.merged.any():
                source.raise_floor(source.base + int(np.flatnonzero(source.merged)[-1]) + 1)

    def records(self) -> list[SourceRecord]:
        """For the manifest, in order of name."""
        out = []
        for (topic_id, partition), s in sorted(self._sources.items()):
            used = int(np.flatnonzero(s.merged)[-1]) + 1 if s.merged.any() else 0
            out.append(
                SourceRecord(
                    topic_id,
                    partition,
                    s.epoch,
                    s.watermark_ms,
                    s.heard_ms,
                    s.floor_offset,
                    s.base,
                    np.packbits(s.merged[:used]).tobytes(),
                    used,
                    [(o, sorted(p)) for o, p in sorted(s.parts.items())],
                )
            )
        return out

    def restore(self, records: list[SourceRecord], now_ms: int) -> None:
        """Takes over what a manifest says."""
        self.now_ms = now_ms
        self._sources = {
            (r.topic_id, r.partition): _Source(
                r.epoch,
                r.watermark_ms,
                r.heard_ms,
                r.floor_offset,
                r.base,
                np.unpackbits(np.frombuffer(r.merged, np.uint8), count=r.merged_count).astype(bool),
                {o: set(p) for o, p in r.parts},
            )
            for r in records
        }

    def _is_left_out(self, source: _Source) -> bool:
        return self.now_ms - source.heard_ms > self.source_wait_ms
