"""Bytes that are no partials record of this format: each is refused with what is wrong, none is believed."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packing.test_packing import Record, cells_of
from tidegate.rules.packing import Packer
from tidegate.schemas.bins import BINS_COUNT
from tidegate.schemas.cells import CODES_COUNT
from tidegate.schemas.partials import BLOCK_FORMAT, Source, decode_partials, encode_partials

KEY = ("shop", "")
RECORDS: list[Record] = [
    ([(KEY, 9, 4, 5, 1, 64), (KEY, 9, 0, 7, 2, 64)], [(KEY, 9, 4, 5, 1, 1)], [(KEY, 9, "i", 3, 1)]),
    ([(("shop", "db"), 9, 0, 5, 1, 64)], [], []),
]
SOURCE = Source("topic", 0)


def packed() -> bytes:
    packer = Packer(1)
    index = np.full(2, packer.source_index(SOURCE), np.int32)
    packer.add(cells_of(RECORDS), source=index, offset=np.arange(2), kafka_ms=np.arange(2))
    return packer.flush()[0].value


def rewritten(change: Callable[[Any], None]) -> bytes:
    """The record with its blocks changed, encoded again."""
    read, blocks = decode_partials(packed())
    change(blocks)
    return encode_partials(
        blocks, sources=read.sources, watermarks=[], listed=[], partitions_count=1
    )


def test_what_is_whole_is_read() -> None:
    read, blocks = decode_partials(rewritten(lambda blocks: None))
    assert read.format == BLOCK_FORMAT
    assert blocks.instances == ["i"]
    assert (blocks.instance_requests.tolist(), blocks.instance_failed.tolist()) == ([3], [1])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("source", [0, 1]),
        ("source", [0, -1]),
        ("key", [0, 0, 2]),
        ("key", [0, -1, 1]),
        ("code", [CODES_COUNT, 0, 0]),
        ("bin", [0, 0, BINS_COUNT]),
        ("exemplar_key", [2]),
        ("exemplar_key", [-1]),
        ("exemplar_code", [65_535]),
        ("exemplar_bin", [BINS_COUNT]),
        ("instance_key", [2]),
        ("instance_key", [-1]),
        ("instance_name", [1]),
        ("instance_name", [-1]),
        ("cells_count", [3, 1]),
        ("cells_count", [4, -1]),
        ("exemplars_count", [0, 0]),
        ("exemplars_count", [2, -1]),
        ("instances_count", [0, 0]),
        ("instances_count", [1, 1]),
        ("instances_count", [2, -1]),
        ("instance_requests", [0]),
        ("instance_requests", [-3]),
        ("instance_failed", [4]),
        ("instance_failed", [-1]),
    ],
)
def test_numbers_that_point_nowhere_are_refused(column: str, values: list[int]) -> None:
    def change(blocks: Any) -> None:
        old = getattr(blocks, column)
        assert len(old) == len(values)
        setattr(blocks, column, np.array(values, old.dtype))

    with pytest.raises(ValueError, match="partials record"):
        decode_partials(rewritten(change))


@pytest.mark.parametrize("longer", [True, False])
def test_a_column_of_another_length_is_refused(longer: bool) -> None:
    read = msgspec.msgpack.decode(packed())
    for name in read["columns"]:
        if name.startswith("key_"):
            continue  # the dictionary's own
        broken = {**read, "columns": dict(read["columns"])}
        raw = broken["columns"][name]
        width = 8 if raw[:1] in (b"r", b"w") else int(raw[1:2])
        broken["columns"][name] = raw + raw[-width:] if longer else raw[:-width]
        with pytest.raises(ValueError, match="partials record"):
            decode_partials(msgspec.msgpack.encode(broken))


def test_a_column_that_is_missing_is_refused() -> None:
    read = msgspec.msgpack.decode(packed())
    constant = {"part", "parts", "count", "weight", "instance_requests", "instance_failed"}
    for name in read["columns"]:
        columns = {key: raw for key, raw in read["columns"].items() if key != name}
        broken = msgspec.msgpack.encode({**read, "columns": columns})
        if name in constant:
            continue
        with pytest.raises(ValueError, match=name):
            decode_partials(broken)


def test_an_older_format_is_refused_by_name() -> None:
    read = msgspec.msgpack.decode(packed())
    with pytest.raises(ValueError, match="block format 1; this version reads 2"):
        decode_partials(msgspec.msgpack.encode({**read, "format": 1}))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000))
def test_any_byte_may_be_wrong(at: int, byte: int, cut: int) -> None:
    """Read or refused, nothing else; what is read points within its own record."""
    data = bytearray(packed())
    data[at % len(data)] = byte
    try:
        _, blocks = decode_partials(bytes(data[: max(1, cut % (2 * len(data)))]))
    except ValueError:
        return
    assert all(0 <= k < len(blocks.keys) for k in blocks.key.tolist())
    assert all(0 <= k < len(blocks.keys) for k in blocks.instance_key.tolist())
    assert all(0 <= n < len(blocks.instances) for n in blocks.instance_name.tolist())
    assert len(np.repeat(blocks.kafka_ms, blocks.instances_count)) == len(blocks.instance_key)
