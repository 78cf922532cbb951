"""Cuts a batch's cells into blocks, one per source record and target partition, and large blocks into
parts. A part is a function of the source record's bytes and the number of partitions, nothing else.

The rule: a block's items are its cells in order, then its exemplars, then its rows of instances; a part
takes items while it has at most PART_CELLS_MAX of them and at most PART_BYTES_MAX bytes in the widest
form columns have, the names of its keys and instances included. (Cells alone don't bound bytes: every
cell may have a key of its own, with names of 400 characters.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.schemas.cells import Cells
from tidegate.schemas.partials import PART_CELLS_MAX, Blocks
from tidegate.schemas.partitioner import partition_of

__all__ = ["PART_BYTES_MAX", "SourceRecords", "cut_blocks", "target_partitions"]

PART_BYTES_MAX = 470_000
"""Leaves room in a record below 512,000 bytes for headers, sources and watermarks. Block format 2."""
_ROW_BYTES = (24, 32, 24)
"""Of a cell, an exemplar, a row of instances."""
_KEY_BYTES = 18
"""Beside its two names: their msgpack headers and its two indexes."""
_NAME_BYTES = 5
"""Beside an instance's name: its msgpack header."""
Ints = npt.NDArray[np.int64]
Index = npt.NDArray[np.int32]


@dataclass(slots=True)
class SourceRecords:
    """The records of a batch, one element each."""

    source: npt.NDArray[np.int32]
    offset: Ints
    kafka_ms: Ints


def target_partitions(
    keys: list[tuple[str, str]], partitions_count: int, memo: dict[str, int]
) -> npt.NDArray[np.uint16]:
    """Target partition of each key: that of its service. `memo` is the caller's, by service."""
    found = [memo.get(service, -1) for service, _ in keys]
    if -1 in found:
        for service, _ in keys:
            if service not in memo:
                memo[service] = partition_of(service, partitions_count)
        found = [memo[service] for service, _ in keys]
    return np.array(found, np.uint16)  # 16 bits: numpy then sorts by radix


def cut_blocks(
    cells: Cells, records: SourceRecords, partition_of_key: npt.NDArray[np.uint16]
) -> Iterator[tuple[int, Blocks]]:
    """(partition, blocks) for every partition that gets any, ascending. Keys stay indexes into
    `cells.keys`, instances into `cells.instances.names` (the lists of `Blocks` are left empty), sources
    those of `records`.

    Raises ValueError where an exemplar or a row of instances belongs to no cell of its record and partition.
    """
    sizes = _Sizes.of(cells)
    tables = (cells, cells.exemplars, cells.instances)
    mine, *others = (_by_partition(partition_of_key[table.key]) for table in tables)
    if any(number not in mine for rows in others for number in rows):
        raise ValueError("an exemplar or instance without a cell in its partition")
    none = np.empty(0, np.int64)
    for number, rows in mine.items():
        yield number, _blocks(cells, records, [rows, *(o.get(number, none) for o in others)], sizes)


@dataclass(slots=True)
class _Sizes:
    """Bytes that names take, where they come first in a part."""

    of_key: Ints
    of_instance: Ints
    """The last one is of index -1, no instance at all."""

    @classmethod
    def of(cls, cells: Cells) -> "_Sizes":
        keys, names = cells.keys, cells.instances.names
        return cls(
            np.array([len(s.encode()) + len(t.encode()) + _KEY_BYTES for s, t in keys], np.int64),
            np.array([*(len(name.encode()) + _NAME_BYTES for name in names), 0], np.int64),
        )


def _by_partition(partition: npt.NDArray[np.uint16]) -> dict[int, Ints]:
    """Rows of every partition that has any, in their order."""
    order = np.argsort(partition, kind="stable")
    ends = np.cumsum(np.bincount(partition)).tolist()
    bounds = enumerate(zip([0, *ends], ends, strict=False))
    return {number: order[start:end] for number, (start, end) in bounds if end > start}


def _blocks(cells: Cells, records: SourceRecords, rows: list[Ints], sizes: _Sizes) -> Blocks:
    """Blocks of one partition, from rows of cells (ascending by record), exemplars and instances."""
    mine, offers, tallies = rows
    offered, instances = cells.exemplars, cells.instances
    record = cells.record[mine]
    starts = np.flatnonzero(np.concatenate(([True], record[1:] != record[:-1])))
    of_block = record[starts]
    key = [cells.key[mine], offered.key[offers], instances.key[tallies]]
    name = instances.name[tallies]
    count = [np.diff(np.append(starts, len(record)))]
    # No Python per block but for the few that may not fit as they are.
    bytes_max = np.add.reduceat(sizes.of_key[key[0]], starts) + _ROW_BYTES[0] * count[0]
    for of_record, cost in (
        (offered.record[offers], sizes.of_key[key[1]] + _ROW_BYTES[1]),
        (
            instances.record[tallies],
            sizes.of_key[key[2]] + sizes.of_instance[name] + _ROW_BYTES[2],
        ),
    ):
        block = _block_of(of_record, of_block)
        count.append(np.bincount(block, minlength=len(of_block)))
        bytes_max = bytes_max + np.bincount(block, cost, len(of_block))
    large = np.flatnonzero((bytes_max > PART_BYTES_MAX) | (sum(count) > PART_CELLS_MAX))
    part = np.zeros(len(of_block), np.int32)
    parts = np.ones(len(of_block), np.int32)
    if len(large):
        named = [np.full(len(k), -1, np.int32) for k in key[:2]] + [name]
        cuts = _cuts_of(large, count, key, named, sizes)
        of_block, part, parts, count = _parted(of_block, large, cuts, count)
    return Blocks(
        source=records.source[of_block],
        offset=records.offset[of_block],
        part=part,
        parts=parts,
        kafka_ms=records.kafka_ms[of_block],
        cells_count=count[0].astype(np.int32),
        exemplars_count=count[1].astype(np.int32),
        instances_count=count[2].astype(np.int32),
        keys=[],
        instances=[],
        key=key[0],
        bucket=cells.bucket[mine],
        code=cells.code[mine],
        bin=cells.bin[mine],
        count=cells.count[mine],
        weight=cells.weight[mine],
        exemplar_key=key[1],
        exemplar_bucket=offered.bucket[offers],
        exemplar_code=offered.code[offers],
        exemplar_bin=offered.bin[offers],
        exemplar_trace_hi=offered.trace_hi[offers],
        exemplar_trace_lo=offered.trace_lo[offers],
        instance_key=key[2],
        instance_bucket=instances.bucket[tallies],
        instance_name=name,
        instance_requests=instances.requests[tallies],
        instance_failed=instances.failed[tallies],
    )


def _block_of(record: Index, of_block: Index) -> Ints:
    """Which block each row goes to."""
    block = np.searchsorted(of_block, record)
    if not np.array_equal(of_block[np.minimum(block, len(of_block) - 1)], record):
        raise ValueError("an exemplar or instance without a cell in its record")
    return block


def _cuts_of(
    large: Ints, count: list[Ints], key: list[Index], name: list[Index], sizes: _Sizes
) -> list[Ints]:
    """Where the parts of these blocks begin, in items of the block, and its end."""
    bounds = [np.concatenate(([0], np.cumsum(c))) for c in count]
    out = []
    for i in large.tolist():
        of_kind = [slice(int(b[i]), int(b[i + 1])) for b in bounds]
        out.append(
            _cuts(
                np.concatenate([k[mine] for k, mine in zip(key, of_kind, strict=True)]),
                np.concatenate([n[mine] for n, mine in zip(name, of_kind, strict=True)]),
                np.repeat(_ROW_BYTES, [int(c[i]) for c in count]),
                sizes,
            )
        )
    return out


def _cuts(key: Index, name: Index, row_bytes: Ints, sizes: _Sizes) -> Ints:
    """Each part takes as many items as its two limits let in."""
    cuts = [0]
    while cuts[-1] < len(key):
        some = slice(cuts[-1], cuts[-1] + PART_CELLS_MAX)
        cost = row_bytes[some].copy()
        for index, name_bytes in ((key[some], sizes.of_key), (name[some], sizes.of_instance)):
            first = np.unique(index, return_index=True)[1]
            cost[first] += name_bytes[index[first]]
        fits = int(np.searchsorted(np.cumsum(cost), PART_BYTES_MAX, side="right"))
        cuts.append(cuts[-1] + max(1, fits))
    return np.array(cuts, np.int64)


def _parted(
    of_block: Index, large: Ints, cuts: list[Ints], count: list[Ints]
) -> tuple[Index, Index, Index, list[Ints]]:
    """(record, part, parts, items of each kind) of every part."""
    parts = np.ones(len(of_block), np.int64)
    parts[large] = [len(c) - 1 for c in cuts]
    ends = np.cumsum(parts)
    starts = ends - parts
    out = [np.repeat(c, parts) for c in count]
    for i, cut in zip(large.tolist(), cuts, strict=True):
        end = 0
        for whole, by_part in zip(count, out, strict=True):
            start, end = end, end + int(whole[i])
            by_part[starts[i] : ends[i]] = np.diff(np.clip(cut, start, end))
    part = np.arange(len(out[0])) - np.repeat(starts, parts)
    repeated = np.repeat(parts, parts).astype(np.int32)
    return np.repeat(of_block, parts), part.astype(np.int32), repeated, out
