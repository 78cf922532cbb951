"""Cuts a batch's cells into blocks, one per source record and target partition, and large blocks into
parts. A part is a function of the source record's bytes and the number of partitions, nothing else.

The rule: a block's items are its cells in order, then its exemplars; a part takes items while it has at
most PART_CELLS_MAX of them and at most PART_BYTES_MAX bytes in the widest form columns have, the names
of its keys included. (Cells alone don't bound bytes: every cell may have a key of its own, with names
of 400 characters.)
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
"""Leaves room in a record below 512,000 bytes for headers, sources and watermarks. Block format 1."""
_CELL_BYTES = 24
_EXEMPLAR_BYTES = 32
_KEY_BYTES = 18
"""Beside its two names: their msgpack headers and its two indexes."""
Ints = npt.NDArray[np.int64]


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
    `cells.keys` (`Blocks.keys` is left empty), sources those of `records`.

    Raises ValueError where an exemplar belongs to no cell of its record and partition.
    """
    partition = partition_of_key[cells.key]
    order = np.argsort(partition, kind="stable")
    offered_partition = partition_of_key[cells.exemplars.key]
    offered_order = np.argsort(offered_partition, kind="stable")
    key_bytes = np.array(
        [len(s.encode()) + len(t.encode()) + _KEY_BYTES for s, t in cells.keys], np.int64
    )
    ends = np.cumsum(np.bincount(partition, minlength=1))
    offered = np.bincount(offered_partition, minlength=len(ends))
    if len(offered) > len(ends):
        raise ValueError("an exemplar without a cell of its key")
    offered_ends = np.cumsum(offered)
    at = offered_at = 0
    for number, (end, offered_end) in enumerate(
        zip(ends.tolist(), offered_ends.tolist(), strict=True)
    ):
        if end > at:
            mine, offers = order[at:end], offered_order[offered_at:offered_end]
            yield number, _blocks(cells, records, mine, offers, key_bytes)
        elif offered_end > offered_at:
            raise ValueError("an exemplar without a cell of its key")
        at, offered_at = end, offered_end


def _blocks(
    cells: Cells, records: SourceRecords, mine: Ints, offers: Ints, key_bytes: Ints
) -> Blocks:
    """Blocks of one partition, from its cells (ascending by record) and exemplars."""
    offered = cells.exemplars
    record = cells.record[mine]
    starts = np.flatnonzero(np.concatenate(([True], record[1:] != record[:-1])))
    of_block = record[starts]
    cells_count = np.diff(np.append(starts, len(record)))
    block_of_offer = np.searchsorted(of_block, offered.record[offers])
    inside = np.minimum(block_of_offer, len(of_block) - 1)
    if not np.array_equal(of_block[inside], offered.record[offers]):
        raise ValueError("an exemplar without a cell in its record")
    exemplars_count = np.bincount(block_of_offer, minlength=len(of_block))
    key, offered_key = cells.key[mine], offered.key[offers]
    part = np.zeros(len(of_block), np.int32)
    parts = np.ones(len(of_block), np.int32)
    block = np.arange(len(of_block))
    # No Python per block but for the few that may not fit as they are.
    cell_bytes = np.add.reduceat(key_bytes[key], starts) + _CELL_BYTES * cells_count
    offer_bytes = np.bincount(
        block_of_offer, key_bytes[offered_key] + _EXEMPLAR_BYTES, len(of_block)
    )
    large = (cell_bytes + offer_bytes > PART_BYTES_MAX) | (
        cells_count + exemplars_count > PART_CELLS_MAX
    )
    if large.any():
        offers_at = np.concatenate(([0], np.cumsum(exemplars_count)))
        counts, more = [], []
        for i in np.flatnonzero(large).tolist():
            items = np.concatenate(
                (
                    key[starts[i] : starts[i] + cells_count[i]],
                    offered_key[offers_at[i] : offers_at[i + 1]],
                )
            )
            cuts = _cuts(items, int(cells_count[i]), key_bytes)
            counts.append((i, cuts))
            more.append(len(cuts) - 1)
        repeats = np.ones(len(of_block), np.int64)
        repeats[large] = more
        block = np.repeat(block, repeats)
        part = np.zeros(len(block), np.int32)
        parts = np.repeat(repeats, repeats).astype(np.int32)
        first = np.concatenate(([0], np.cumsum(repeats)))
        whole, cells_count, exemplars_count = (
            cells_count,
            cells_count[block],
            exemplars_count[block],
        )
        for i, cuts in counts:
            into = slice(int(first[i]), int(first[i + 1]))
            part[into] = np.arange(len(cuts) - 1)
            cells_count[into] = np.diff(np.minimum(cuts, whole[i]))
            exemplars_count[into] = np.diff(np.maximum(cuts, whole[i]))
    of_block = of_block[block]
    return Blocks(
        source=records.source[of_block],
        offset=records.offset[of_block],
        part=part,
        parts=parts,
        kafka_ms=records.kafka_ms[of_block],
        cells_count=cells_count.astype(np.int32),
        exemplars_count=exemplars_count.astype(np.int32),
        keys=[],
        key=key,
        bucket=cells.bucket[mine],
        code=cells.code[mine],
        bin=cells.bin[mine],
        count=cells.count[mine],
        weight=cells.weight[mine],
        exemplar_key=offered_key,
        exemplar_bucket=offered.bucket[offers],
        exemplar_code=offered.code[offers],
        exemplar_bin=offered.bin[offers],
        exemplar_trace_hi=offered.trace_hi[offers],
        exemplar_trace_lo=offered.trace_lo[offers],
    )


def _cuts(items: npt.NDArray[np.int32], cells_count: int, key_bytes: Ints) -> Ints:
    """Where parts begin, and the end: each takes as many items as its two limits let in."""
    cuts = [0]
    while cuts[-1] < len(items):
        at = cuts[-1]
        some = items[at : at + PART_CELLS_MAX]
        cost = np.where(np.arange(at, at + len(some)) < cells_count, _CELL_BYTES, _EXEMPLAR_BYTES)
        first = np.unique(some, return_index=True)[1]
        cost[first] += key_bytes[some[first]]
        fits = int(np.searchsorted(np.cumsum(cost), PART_BYTES_MAX, side="right"))
        cuts.append(at + max(1, fits))
    return np.array(cuts, np.int64)
