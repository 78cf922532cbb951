"""From cells to records of `tidegate.partials`: blocks by target partition, cut into parts by a fixed
rule, gathered into records below RECORD_BYTES_MAX.

What is in a part depends on the source record's own bytes and the number of partitions alone: after a
restart the same offset must yield the same parts, or evaluate could not tell that it has merged them.
How parts are gathered into records depends on batches and flushes, and is free to.

No Python object per cell or per source record: 1.7 spans a record at 100,000 records/s cost about
0.5 us a record here.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.cutting import SourceRecords, cut_blocks, target_partitions
from tidegate.schemas.cells import Cells
from tidegate.schemas.partials import (
    BLOCK_COLUMNS,
    CELL_COLUMNS,
    EXEMPLAR_COLUMNS,
    INSTANCE_COLUMNS,
    RECORD_BYTES_MAX,
    Blocks,
    Source,
    Watermark,
    encode_partials,
)

__all__ = ["PackedRecord", "Packer", "SourceMark"]

_FIXED_BYTES = 2_000
"""Names and headers of a record's columns, with room to spare."""
_TAIL_BYTES_MAX = 24_000
"""Longer watermark lists go into records of their own."""
_MARKS_PER_RECORD_MAX = 4_000
_REMEMBERED_SERVICES_MAX = 200_000
_ROWS = (CELL_COLUMNS, EXEMPLAR_COLUMNS, INSTANCE_COLUMNS)
_COUNTS = ("cells_count", "exemplars_count", "instances_count")
"""How many of these rows each block owns."""
_KEYS = ("key", "exemplar_key", "instance_key")
Ints = npt.NDArray[np.int64]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PackedRecord:
    """One record to send to a partition of partials."""

    partition: int
    value: bytes


@dataclass(frozen=True, slots=True)
class SourceMark:
    """A watermark to send for a source; see `schemas.partials.Watermark`."""

    source: Source
    epoch: int
    watermark_ms: int
    floor_offset: int


class Packer:
    """Gathers blocks of several batches until `flush`. Sources are numbered by `source_index`."""

    def __init__(self, partitions_count: int) -> None:
        self.partitions_count = partitions_count
        self.cells_count = 0
        """Cells, exemplars and rows of instances held."""
        self.blocks_count = 0
        self._partition_of: dict[str, int] = {}
        self._sources: dict[Source, int] = {}
        self._forget()

    def source_index(self, source: Source) -> int:
        """The number by which `add` knows a source."""
        return self._sources.setdefault(source, len(self._sources))

    def add(
        self,
        cells: Cells,
        *,
        source: npt.NDArray[np.int32],
        offset: Ints,
        kafka_ms: Ints,
    ) -> None:
        """Takes a batch's cells; `source`, `offset` and `kafka_ms` have one element per record of it.

        Raises ValueError where an exemplar or a row of instances belongs to no cell of its record and
        partition.
        """
        if not len(cells.key):
            return
        numbers = _numbers(self._key_numbers, cells.keys)
        names = _numbers(self._instance_numbers, cells.instances.names)
        for partition, blocks in cut_blocks(
            cells,
            SourceRecords(source, offset, kafka_ms),
            target_partitions(cells.keys, self.partitions_count, self._partition_of),
        ):
            blocks.key = numbers[blocks.key]
            blocks.exemplar_key = numbers[blocks.exemplar_key]
            blocks.instance_key = numbers[blocks.instance_key]
            blocks.instance_name = names[blocks.instance_name]
            self._held.setdefault(partition, []).append(blocks)
            self.cells_count += sum(len(getattr(blocks, name)) for name in _KEYS)
            self.blocks_count += len(blocks.offset)

    def flush(
        self,
        marks: Sequence[SourceMark] = (),
        *,
        listed: Sequence[tuple[str, int]] = (),
    ) -> list[PackedRecord]:
        """Everything held, by partition; with `marks` the last record of every partition carries them
        and `listed`, after all blocks."""
        names = _Names.of(self._key_numbers, self._instance_numbers, self._sources)
        tail = _tail_bytes(marks, listed)
        mine = tail if tail <= _TAIL_BYTES_MAX else 0
        out = []
        for partition in range(self.partitions_count) if marks else sorted(self._held):
            held = self._held.get(partition)
            pieces = _pieces(_joined(held), names, spare=mine) if held else []
            if marks and mine and pieces:
                last, used = pieces.pop()
                out += [self._encode(partition, *piece) for piece in pieces]
                out.append(self._encode(partition, last, used, marks, listed))
                continue
            out += [self._encode(partition, *piece) for piece in pieces]
            for at in range(0, len(marks), _MARKS_PER_RECORD_MAX):
                some = marks[at : at + _MARKS_PER_RECORD_MAX]
                out.append(self._encode(partition, Blocks.empty(), [], some, listed))
        self._forget()
        return out

    def forget(self) -> None:
        """Drops what is held and all sources: an owner that lost its partitions starts anew."""
        self._sources = {}
        self._forget()

    def _forget(self) -> None:
        self._held: dict[int, list[Blocks]] = {}
        self._key_numbers: dict[tuple[str, str], int] = {}
        self._instance_numbers: dict[str, int] = {}
        self.cells_count = 0
        self.blocks_count = 0
        if len(self._partition_of) > _REMEMBERED_SERVICES_MAX:
            self._partition_of = {}

    def _encode(
        self,
        partition: int,
        blocks: Blocks,
        sources: list[Source],
        marks: Sequence[SourceMark] = (),
        listed: Sequence[tuple[str, int]] = (),
    ) -> PackedRecord:
        known = {source: number for number, source in enumerate(sources)}
        watermarks = [
            Watermark(
                known.setdefault(mark.source, len(known)),
                mark.epoch,
                mark.watermark_ms,
                mark.floor_offset,
            )
            for mark in marks
        ]
        value = encode_partials(
            blocks,
            sources=list(known),
            watermarks=watermarks,
            listed=list(listed),
            partitions_count=self.partitions_count,
        )
        if len(value) >= RECORD_BYTES_MAX:
            raise ValueError(
                f"a partials record of {len(value)} bytes; the limit is {RECORD_BYTES_MAX}"
            )
        return PackedRecord(partition, value)


def _tail_bytes(marks: Sequence[SourceMark], listed: Sequence[tuple[str, int]]) -> int:
    sources = sum(len(mark.source.topic_id.encode()) + 45 for mark in marks)
    return sources + sum(len(topic.encode()) + 15 for topic, _ in listed)


def _numbers(known: dict[Name, int], names: list[Name]) -> npt.NDArray[np.int32]:
    """Number of each name, given out in the order of first use."""
    found = list(map(known.get, names))
    if None in found:
        found = [known.setdefault(name, len(known)) for name in names]
    return np.array(found, np.int32)


@dataclass(slots=True)
class _Names:
    """What the indexes of held blocks stand for, and how many bytes each name takes in msgpack."""

    keys: list[tuple[str, str]]
    instances: list[str]
    sources: list[Source]
    key_bytes: Ints
    """With its two indexes."""
    instance_bytes: Ints
    source_bytes: Ints

    @classmethod
    def of(
        cls, keys: Iterable[tuple[str, str]], instances: Iterable[str], sources: Iterable[Source]
    ) -> "_Names":
        """Of names in the order of their numbers."""
        keys, instances, sources = list(keys), list(instances), list(sources)
        return cls(
            keys,
            instances,
            sources,
            np.array([len(s.encode()) + len(t.encode()) + 18 for s, t in keys], np.int64),
            np.array([len(name.encode()) + 5 for name in instances], np.int64),
            np.array([len(s.topic_id.encode()) + 15 for s in sources], np.int64),
        )


def _joined(held: list[Blocks]) -> Blocks:
    if len(held) == 1:
        return held[0]
    columns = {
        name: np.concatenate([getattr(blocks, name) for blocks in held])
        for columns in (BLOCK_COLUMNS, *_ROWS)
        for name in columns
    }
    return Blocks(**columns, keys=[], instances=[])


def _pieces(blocks: Blocks, names: _Names, *, spare: int) -> list[tuple[Blocks, list[Source]]]:
    """Runs of blocks, each with its own dictionaries, whose encoding stays below the limit.

    The widths a column needs over all blocks bound those it needs in any run of them.
    """
    budget = RECORD_BYTES_MAX - _FIXED_BYTES - spare
    rows_at = [
        np.concatenate(([0], np.cumsum(getattr(blocks, name), dtype=np.int64))) for name in _COUNTS
    ]
    plain = np.arange(len(blocks.offset) + 1) * _width(blocks, BLOCK_COLUMNS)
    for starts, columns in zip(rows_at, _ROWS, strict=True):
        plain = plain + starts * _width(blocks, columns)
    dictionaries = (
        *((column, starts, names.key_bytes) for column, starts in zip(_KEYS, rows_at, strict=True)),
        ("instance_name", rows_at[2], names.instance_bytes),
        ("source", np.arange(len(blocks.offset) + 1), names.source_bytes),
    )
    out = []
    at = 0
    while at < len(blocks.offset):
        end = int(np.searchsorted(plain, plain[at] + budget, side="right")) - 1
        end = min(max(end, at + 1), len(blocks.offset))
        size = plain[at + 1 : end + 1] - plain[at]
        for name, rows, cost in dictionaries:
            index = getattr(blocks, name)[int(rows[at]) : int(rows[end])]
            size = size + _first_bytes(index, cost)[rows[at + 1 : end + 1] - rows[at]]
        # At least one part: `cutting` has seen to it that one alone fits.
        end = at + max(1, int(np.searchsorted(size, budget, side="right")))
        out.append(_piece(blocks, at, end, rows_at, names))
        at = end
    return out


def _first_bytes(index: npt.NDArray[np.int32], cost: Ints) -> Ints:
    """Running sum, shape (n + 1,), of the cost of each index at its first occurrence."""
    paid = np.zeros(len(index) + 1, np.int64)
    first = _first(index, len(cost))
    paid[first + 1] = cost[index[first]]
    return np.cumsum(paid)


def _first(index: npt.NDArray[np.int32], names_count: int) -> Ints:
    """Where each index occurs first, ascending; linear, which np.unique is not."""
    place = np.full(names_count, -1, np.int64)
    place[index[::-1]] = np.arange(len(index) - 1, -1, -1)
    return np.sort(place[place >= 0])


def _piece(
    blocks: Blocks, at: int, end: int, rows_at: list[Ints], names: _Names
) -> tuple[Blocks, list[Source]]:
    columns = {name: getattr(blocks, name)[at:end] for name in BLOCK_COLUMNS}
    for mine, bounds in zip(_ROWS, rows_at, strict=True):
        rows = slice(int(bounds[at]), int(bounds[end]))
        columns |= {name: getattr(blocks, name)[rows] for name in mine}
    keys, used = _renumbered(np.concatenate([columns[name] for name in _KEYS]), len(names.keys))
    ends = np.cumsum([len(columns[name]) for name in _KEYS])
    columns |= dict(zip(_KEYS, np.split(keys, ends[:-1]), strict=True))
    columns["instance_name"], present = _renumbered(columns["instance_name"], len(names.instances))
    columns["source"], writers = _renumbered(columns["source"], len(names.sources))
    return (
        Blocks(
            **columns,
            keys=[names.keys[number] for number in used.tolist()],
            instances=[names.instances[number] for number in present.tolist()],
        ),
        [names.sources[number] for number in writers.tolist()],
    )


def _renumbered(
    index: npt.NDArray[np.int32], names_count: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """(index into the names that are used, in the order of their first use; those names' numbers)."""
    used = index[_first(index, names_count)]
    number = np.zeros(names_count, np.int32)
    number[used] = np.arange(len(used), dtype=np.int32)
    return number[index], used


def _width(blocks: Blocks, names: Iterable[str]) -> int:
    """Bytes that one row of these columns takes at most."""
    return sum(_column_width(getattr(blocks, name)) for name in names)


def _column_width(column: npt.NDArray[np.generic]) -> int:
    if column.dtype == np.uint64 or not len(column):
        return 8
    span = int(column.max()) - int(column.min())
    return next((width for width in (1, 2, 4) if span < 1 << (8 * width)), 8)
