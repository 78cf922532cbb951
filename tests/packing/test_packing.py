"""Blocks of a batch, against a plain Python oracle that walks cells one by one."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.rules.cutting import PART_BYTES_MAX
from tidegate.rules.packing import PackedRecord, Packer, SourceMark
from tidegate.schemas.bins import BINS_COUNT
from tidegate.schemas.cells import CODES_COUNT, Cells, Exemplars, Instances
from tidegate.schemas.partials import (
    PART_CELLS_MAX,
    RECORD_BYTES_MAX,
    Source,
    decode_partials,
)
from tidegate.schemas.partitioner import partition_of

PARTITIONS = 3
Cell = tuple[tuple[str, str], int, int, int, int, int]
Offer = tuple[tuple[str, str], int, int, int, int, int]
Row = tuple[tuple[str, str], int, str, int, int]
"""Key, bucket, instance, requests, failed."""
Record = tuple[list[Cell], list[Offer], list[Row]]
Part = tuple[int, int, list[Cell], list[Offer], list[Row]]


def cells_of(records: list[Record]) -> Cells:
    numbers: dict[tuple[str, str], int] = {}
    rows = [
        (i, numbers.setdefault(c[0], len(numbers)), *c[1:])
        for i, (cells, _, _) in enumerate(records)
        for c in cells
    ]
    offers = [(i, numbers[o[0]], *o[1:]) for i, (_, some, _) in enumerate(records) for o in some]
    names: dict[str, int] = {}
    seen = [
        (i, numbers[s[0]], s[1], names.setdefault(s[2], len(names)), *s[3:])
        for i, (_, _, some) in enumerate(records)
        for s in some
    ]

    def column(table: list[Any], at: int, dtype: type) -> Any:
        return np.array([row[at] for row in table], dtype)

    return Cells(
        record=column(rows, 0, np.int32),
        key=column(rows, 1, np.int32),
        bucket=column(rows, 2, np.int64),
        code=column(rows, 3, np.uint16),
        bin=column(rows, 4, np.uint16),
        count=column(rows, 5, np.int32),
        weight=column(rows, 6, np.int32),
        keys=list(numbers),
        exemplars=Exemplars(
            record=column(offers, 0, np.int32),
            key=column(offers, 1, np.int32),
            bucket=column(offers, 2, np.int64),
            code=column(offers, 3, np.uint16),
            bin=column(offers, 4, np.uint16),
            trace_hi=column(offers, 5, np.uint64),
            trace_lo=column(offers, 6, np.uint64),
        ),
        instances=Instances(
            record=column(seen, 0, np.int32),
            key=column(seen, 1, np.int32),
            bucket=column(seen, 2, np.int64),
            name=column(seen, 3, np.int32),
            requests=column(seen, 4, np.int32),
            failed=column(seen, 5, np.int32),
            names=list(names),
        ),
    )


def oracle(record: Record) -> dict[int, list[Part]]:
    """Partition -> (part, parts, cells, exemplars, rows of instances) by the rule, item by item."""
    by_partition: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    kinds: tuple[list[Any], ...] = record
    for kind, items in enumerate(kinds):
        for item in items:
            by_partition[partition_of(item[0][0], PARTITIONS)].append((kind, item))
    out = {}
    for partition, mine in by_partition.items():
        parts: list[tuple[list[Any], ...]] = [([], [], [])]
        size = 0
        names: set[object] = set()
        for kind, item in mine:
            for _ in range(2):
                cost = (24, 32, 24)[kind]
                if item[0] not in names:
                    cost += len(item[0][0].encode()) + len(item[0][1].encode()) + 18
                if kind == 2 and item[2] not in names:
                    cost += len(item[2].encode()) + 5
                count = sum(map(len, parts[-1]))
                if count < PART_CELLS_MAX and size + cost <= PART_BYTES_MAX:
                    break
                parts.append(([], [], []))
                size, names = 0, set()
            parts[-1][kind].append(item)
            size += cost
            names |= {item[0], item[2]} if kind == 2 else {item[0]}
        out[partition] = [(i, len(parts), c, o, r) for i, (c, o, r) in enumerate(parts)]
    return out


def unpacked(records: list[PackedRecord]) -> dict[tuple[int, Source, int, int], Part]:
    """What was sent, by (partition, source, offset, part); every block once."""
    out: dict[tuple[int, Source, int, int], Part] = {}
    for record in records:
        assert len(record.value) < RECORD_BYTES_MAX
        read, b = decode_partials(record.value)
        cell = exemplar = row = 0
        for i in range(len(b.offset)):
            cells = [
                (
                    b.keys[b.key[j]],
                    *(int(c[j]) for c in (b.bucket, b.code, b.bin, b.count, b.weight)),
                )
                for j in range(cell, cell + b.cells_count[i])
            ]
            offers = [
                (
                    b.keys[b.exemplar_key[j]],
                    *(
                        int(c[j])
                        for c in (
                            b.exemplar_bucket,
                            b.exemplar_code,
                            b.exemplar_bin,
                            b.exemplar_trace_hi,
                            b.exemplar_trace_lo,
                        )
                    ),
                )
                for j in range(exemplar, exemplar + b.exemplars_count[i])
            ]
            rows = [
                (
                    b.keys[b.instance_key[j]],
                    int(b.instance_bucket[j]),
                    b.instances[b.instance_name[j]],
                    int(b.instance_requests[j]),
                    int(b.instance_failed[j]),
                )
                for j in range(row, row + b.instances_count[i])
            ]
            cell, exemplar, row = cell + len(cells), exemplar + len(offers), row + len(rows)
            name = (record.partition, read.sources[b.source[i]], int(b.offset[i]), int(b.part[i]))
            assert name not in out
            assert int(b.kafka_ms[i]) == 1000 + int(b.offset[i])
            out[name] = (int(b.part[i]), int(b.parts[i]), cells, offers, rows)
    return out


def packed(records: list[Record], *, batch: int, flush_every: int = 10**9) -> list[PackedRecord]:
    packer, out = Packer(PARTITIONS), []
    sources = [Source("topic", 0), Source("topic", 1)]
    for at in range(0, len(records), batch):
        some = records[at : at + batch]
        offsets = np.arange(at, at + len(some), dtype=np.int64)
        index = np.array([packer.source_index(sources[o % 2]) for o in offsets], np.int32)
        packer.add(cells_of(some), source=index, offset=offsets, kafka_ms=offsets + 1000)
        if at // batch % flush_every == flush_every - 1:
            out += packer.flush()
    return out + packer.flush()


def expected(records: list[Record]) -> dict[tuple[int, Source, int, int], Part]:
    return {
        (partition, Source("topic", offset % 2), offset, part[0]): part
        for offset, record in enumerate(records)
        for partition, parts in oracle(record).items()
        for part in parts
    }


KEYS = [
    ("cart", ""),
    ("cart", "redis"),
    ("päyments", ""),
    ("web", ""),
    ("web", "cart"),
    ("ads", ""),
]
cell = st.tuples(
    st.sampled_from(KEYS),
    st.integers(3_000_000_000, 3_000_000_060) | st.integers(0, 36_893_488_147),
    st.integers(0, CODES_COUNT - 1),
    st.integers(0, BINS_COUNT - 1),
    st.just(1) | st.integers(1, 9),
    st.just(64) | st.integers(1, 65_536 * 64),
)


counted = st.sampled_from([(1, 0), (1, 1), (7, 3), (100_000, 100_000)])


@st.composite
def some_records(draw: st.DrawFn) -> list[Record]:
    records = []
    for cells in draw(st.lists(st.lists(cell, max_size=6), max_size=12)):
        offers = [
            (c[0], c[1], c[2], c[3], draw(st.integers(0, 2**64 - 1)), 7)
            for c in cells
            if draw(st.booleans())
        ]
        rows = [
            (c[0], c[1], draw(st.sampled_from(["a", "b", "zürich-1"])), *draw(counted))
            for c in cells
            if draw(st.booleans())
        ]
        records.append((cells, offers, rows))
    return records


@settings(max_examples=150, deadline=None)
@given(some_records(), st.integers(1, 12), st.integers(1, 5))
def test_whatever_the_batching_the_blocks_are_the_same(
    records: list[Record], batch: int, flush_every: int
) -> None:
    assert unpacked(packed(records, batch=batch, flush_every=flush_every)) == expected(records)


@pytest.mark.parametrize(
    ("cells_count", "keys_count", "name_chars", "instances_count"),
    [
        (60_000, 3, 4, 0),
        (5_000, 5_000, 200, 0),
        (30_000, 25_000, 40, 10),
        (PART_CELLS_MAX, 1, 3, 0),
        (PART_CELLS_MAX - 1, 1, 3, 2),
        (100, 1, 100, 8_000),
        (1, 1, 150, 2_200),  # by the names of its instances alone
        (30_000, 1, 3, 30_000),
    ],
)
def test_a_large_block_is_cut_by_its_own_content(
    cells_count: int, keys_count: int, name_chars: int, instances_count: int
) -> None:
    names = [("shop", f"{i:x}" * 9 + "t" * name_chars) for i in range(keys_count)]
    cells: list[Cell] = [
        (names[i % keys_count], i % 50, 4, i % 900, 1, 64) for i in range(cells_count)
    ]
    offers: list[Offer] = [(names[i], 3, 4, i % 900, i, i) for i in range(min(keys_count, 4_000))]
    rows: list[Row] = [
        (names[i % keys_count], i % 3, f"{i if i % 3 else 0}" + "ü" * name_chars, 3, 1)
        for i in range(instances_count)
    ]
    small: Record = ([(("shop", "x"), 1, 1, 1, 1, 64)], [], [(("shop", "x"), 1, "i", 1, 0)])
    records = [small, (cells, offers, rows), small]
    found = unpacked(packed(records, batch=3))
    assert found == expected(records)
    assert unpacked(packed(records, batch=1, flush_every=1)) == found


def test_many_services_stay_below_the_record_limit() -> None:
    records: list[Record] = [
        ([((f"service-{i}-{'n' * 150}", f"{i}" * 30), 100 + i % 60, 0, i % 700, 1, 64)], [], [])
        for i in range(20_000)
    ]
    assert unpacked(packed(records, batch=5_000)) == expected(records)


def test_many_instances_stay_below_the_record_limit() -> None:
    key = ("shop", "")
    records: list[Record] = [
        ([(key, 100, 0, i % 700, 1, 64)], [], [(key, 100, f"{i}-{'ü' * 190}", 1, i % 2)])
        for i in range(5_000)
    ]
    assert unpacked(packed(records, batch=2_500)) == expected(records)


def test_watermarks_come_last_in_every_partition() -> None:
    packer = Packer(PARTITIONS)
    source = Source("topic", 0)
    records: list[Record] = [
        ([((f"cart-{i}" * 20, f"{'t' * 190}{i}"), 9, 0, 5, 1, 64)], [], []) for i in range(4_000)
    ]
    packer.add(
        cells_of(records),
        source=np.full(4_000, packer.source_index(source), np.int32),
        offset=np.arange(4_000, dtype=np.int64),
        kafka_ms=np.zeros(4_000, np.int64),
    )
    marks = [SourceMark(Source("other", 3), 7, 123_000, 5), SourceMark(source, 2, 124_000, 9)]
    sent = packer.flush(marks, listed=[("topic", 1), ("other", 4)])
    assert {record.partition for record in sent} == set(range(PARTITIONS))
    for partition in range(PARTITIONS):
        mine = [decode_partials(r.value)[0] for r in sent if r.partition == partition]
        assert [bool(read.watermarks) for read in mine] == [False] * (len(mine) - 1) + [True]
        last = mine[-1]
        assert last.listed == [("topic", 1), ("other", 4)]
        assert [
            (last.sources[w.source], w.epoch, w.watermark_ms, w.floor_offset)
            for w in last.watermarks
        ] == [(m.source, m.epoch, m.watermark_ms, m.floor_offset) for m in marks]
    assert packer.flush(marks) != []
    assert packer.flush() == []


def test_thousands_of_watermarks_go_into_records_of_their_own() -> None:
    packer = Packer(1)
    marks = [SourceMark(Source("a-topic-id-of-22-chars", p), 1, 9, 0) for p in range(9_000)]
    sent = packer.flush(marks, listed=[("a-topic-id-of-22-chars", 9_000)])
    assert all(len(record.value) < RECORD_BYTES_MAX for record in sent)
    read = [decode_partials(record.value)[0] for record in sent]
    assert sum(len(r.watermarks) for r in read) == 9_000


def test_an_exemplar_of_no_cell_is_refused() -> None:
    cells = cells_of([([(("cart", ""), 9, 0, 5, 1, 64)], [], []), ([], [], [])])
    cells.exemplars = Exemplars(
        record=np.array([1], np.int32),
        key=np.array([0], np.int32),
        bucket=np.array([9]),
        code=np.array([0], np.uint16),
        bin=np.array([5], np.uint16),
        trace_hi=np.array([1], np.uint64),
        trace_lo=np.array([1], np.uint64),
    )
    with pytest.raises(ValueError, match="exemplar"):
        Packer(1).add(
            cells,
            source=np.zeros(2, np.int32),
            offset=np.arange(2),
            kafka_ms=np.zeros(2, np.int64),
        )


@pytest.mark.parametrize(("record", "key"), [(1, 0), (0, 1)])
def test_a_row_of_instances_of_no_cell_is_refused(record: int, key: int) -> None:
    cells = cells_of([([(("cart", ""), 9, 0, 5, 1, 64)], [], []), ([], [], [])])
    cells.keys.append(("web", ""))
    cells.instances = Instances(
        record=np.array([record], np.int32),
        key=np.array([key], np.int32),
        bucket=np.array([9]),
        name=np.array([0], np.int32),
        requests=np.array([1], np.int32),
        failed=np.array([0], np.int32),
        names=["cart-1"],
    )
    with pytest.raises(ValueError, match="instance"):
        Packer(PARTITIONS).add(
            cells,
            source=np.zeros(2, np.int32),
            offset=np.arange(2),
            kafka_ms=np.zeros(2, np.int64),
        )
