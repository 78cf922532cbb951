"""Records of `tidegate.partials`: blocks of many source records, packed as dictionary-coded columns,
and, in the last record of a flush, the watermarks of the source partitions an ingest worker owns.

msgpack outside, little-endian column bytes inside: a block of one span (1 to 5 spans a record are
normal) must not cost a Python object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.schemas.bins import BINS_COUNT
from tidegate.schemas.cells import CODES_COUNT, WEIGHT_ONE
from tidegate.schemas.control import ControlEntry
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.points import MetricPoint

__all__ = [
    "BLOCK_COLUMNS",
    "BLOCK_FORMAT",
    "CELL_COLUMNS",
    "EXEMPLAR_COLUMNS",
    "INSTANCE_COLUMNS",
    "PART_CELLS_MAX",
    "RECORD_BYTES_MAX",
    "Blocks",
    "PartialsRecord",
    "Source",
    "Watermark",
    "decode_partials",
    "encode_aside",
    "encode_partials",
]

BLOCK_FORMAT = 2
"""2: rows of instances, and calls that know their parent. Older records are not read."""
RECORD_BYTES_MAX = 512_000
PART_CELLS_MAX = 24_576
"""A source record's cells for one target partition are cut into parts of this many, in order. With at
most 20 bytes a cell, a part stays below RECORD_BYTES_MAX together with its dictionary."""


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A partition of a source topic."""

    topic_id: str
    """Kafka's topic id, or `NAME#INCARNATION` where the broker gives none."""
    partition: int


class Watermark(msgspec.Struct, frozen=True, array_like=True):
    """No block older than `watermark_ms` will come from this source (but late ones)."""

    source: int
    """Index into the record's `sources`."""
    epoch: int
    """Owner epoch of the ingest worker for this source."""
    watermark_ms: int
    floor_offset: int
    """Blocks of all smaller offsets were delivered before this record: duplicates, if they come again."""


class PartialsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The wire form. Use `encode_partials` and `decode_partials` for the columns."""

    format: int = BLOCK_FORMAT
    sources: list[Source]
    listed: list[tuple[str, int]]
    """(topic id, partitions count) of every source topic: who must be heard before the first step."""
    watermarks: list[Watermark]
    partitions_count: int
    """Partitions of the partials topic, as the writer sees them."""
    services: list[str]
    targets: list[str]
    """targets[0] is always ""."""
    columns: dict[str, bytes]
    instances: list[str] = []
    """Their names."""
    points: list[MetricPoint] = []
    """Points of metrics; such a record carries nothing else."""
    control: list[ControlEntry] = []
    """Control entries, ascending by `seq`; such a record carries nothing else."""
    facts: list[Fact] = []
    """About callers of this partition; such a record carries nothing but facts and loops."""
    loops: list[Loop] = []
    """Of services of this partition: the first of the path."""


@dataclass(slots=True)
class Blocks:
    """b blocks and their cells (n), exemplars (m) and rows of instances (r), flat; block i owns the next
    cells_count[i] cells, and so on."""

    source: npt.NDArray[np.int32]
    """Index into the record's `sources`, shape (b,)."""
    offset: npt.NDArray[np.int64]
    part: npt.NDArray[np.int32]
    parts: npt.NDArray[np.int32]
    """Into how many parts the source record's block for this partition was cut."""
    kafka_ms: npt.NDArray[np.int64]
    """Kafka timestamp of the source record."""
    cells_count: npt.NDArray[np.int32]
    exemplars_count: npt.NDArray[np.int32]
    instances_count: npt.NDArray[np.int32]
    keys: list[tuple[str, str]]
    """(service, target)."""
    instances: list[str]
    """Names of instances."""
    key: npt.NDArray[np.int32]
    """Index into `keys`, shape (n,)."""
    bucket: npt.NDArray[np.int64]
    code: npt.NDArray[np.uint16]
    bin: npt.NDArray[np.uint16]
    count: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int32]
    exemplar_key: npt.NDArray[np.int32]
    """Shape (m,), as the next five."""
    exemplar_bucket: npt.NDArray[np.int64]
    exemplar_code: npt.NDArray[np.uint16]
    exemplar_bin: npt.NDArray[np.uint16]
    exemplar_trace_hi: npt.NDArray[np.uint64]
    exemplar_trace_lo: npt.NDArray[np.uint64]
    instance_key: npt.NDArray[np.int32]
    """Shape (r,), as all below."""
    instance_bucket: npt.NDArray[np.int64]
    instance_name: npt.NDArray[np.int32]
    """Index into `instances`."""
    instance_requests: npt.NDArray[np.int32]
    instance_failed: npt.NDArray[np.int32]

    @classmethod
    def empty(cls) -> "Blocks":
        """No block at all, for a record of watermarks."""
        none: dict[str, Any] = {name: np.empty(0, dtype) for name, dtype in _DTYPES.items()}
        return cls(**none, keys=[], instances=[])


BLOCK_COLUMNS: dict[str, type] = {
    "source": np.int32,
    "offset": np.int64,
    "part": np.int32,
    "parts": np.int32,
    "kafka_ms": np.int64,
    "cells_count": np.int32,
    "exemplars_count": np.int32,
    "instances_count": np.int32,
}
CELL_COLUMNS: dict[str, type] = {
    "key": np.int32,
    "bucket": np.int64,
    "code": np.uint16,
    "bin": np.uint16,
    "count": np.int32,
    "weight": np.int32,
}
EXEMPLAR_COLUMNS: dict[str, type] = {
    "exemplar_key": np.int32,
    "exemplar_bucket": np.int64,
    "exemplar_code": np.uint16,
    "exemplar_bin": np.uint16,
    "exemplar_trace_hi": np.uint64,
    "exemplar_trace_lo": np.uint64,
}
INSTANCE_COLUMNS: dict[str, type] = {
    "instance_key": np.int32,
    "instance_bucket": np.int64,
    "instance_name": np.int32,
    "instance_requests": np.int32,
    "instance_failed": np.int32,
}
_DTYPES = BLOCK_COLUMNS | CELL_COLUMNS | EXEMPLAR_COLUMNS | INSTANCE_COLUMNS
_LENGTH_OF = {
    name: first
    for first, names in (
        ("offset", BLOCK_COLUMNS),
        ("key", CELL_COLUMNS),
        ("exemplar_key", EXEMPLAR_COLUMNS),
        ("instance_key", INSTANCE_COLUMNS),
    )
    for name in names
}
"""The column that says how long a column is."""
_CONSTANT_DEFAULT = {
    "count": 1,
    "weight": WEIGHT_ONE,
    "part": 0,
    "parts": 1,
    "instance_requests": 1,
    "instance_failed": 0,
}
"""Columns that are left out of the record when they hold nothing else."""
_NARROW = tuple((np.dtype(f"<u{width}"), (1 << 8 * width) - 1) for width in (1, 2, 4))
"""Types of offsets, each with the largest it holds."""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PartialsRecord)


def encode_partials(
    blocks: Blocks,
    *,
    sources: list[Source],
    watermarks: list[Watermark],
    listed: list[tuple[str, int]],
    partitions_count: int,
    points: Sequence[MetricPoint] = (),
    control: Sequence[ControlEntry] = (),
    facts: Sequence[Fact] = (),
    loops: Sequence[Loop] = (),
) -> bytes:
    """Deterministic bytes of one record. The caller keeps it below RECORD_BYTES_MAX."""
    services: dict[str, int] = {}
    targets: dict[str, int] = {"": 0}
    key_service = np.empty(len(blocks.keys), np.int64)
    key_target = np.empty(len(blocks.keys), np.int64)
    for i, (service, target) in enumerate(blocks.keys):
        key_service[i] = services.setdefault(service, len(services))
        key_target[i] = targets.setdefault(target, len(targets))
    columns = {"key_service": _pack(key_service), "key_target": _pack(key_target)}
    for name in _DTYPES:
        column = getattr(blocks, name)
        if name in _CONSTANT_DEFAULT and bool((column == _CONSTANT_DEFAULT[name]).all()):
            continue
        columns[name] = _pack(column)
    return _encoder.encode(
        PartialsRecord(
            sources=sources,
            listed=listed,
            watermarks=watermarks,
            partitions_count=partitions_count,
            services=list(services),
            targets=list(targets),
            columns=columns,
            instances=blocks.instances,
            points=list(points),
            control=list(control),
            facts=list(facts),
            loops=list(loops),
        )
    )


def encode_aside(
    *,
    partitions_count: int,
    points: Sequence[MetricPoint] = (),
    control: Sequence[ControlEntry] = (),
    facts: Sequence[Fact] = (),
    loops: Sequence[Loop] = (),
) -> bytes:
    """A record without blocks and watermarks: points of metrics, control entries, or facts and loops."""
    return encode_partials(
        Blocks.empty(),
        sources=[],
        watermarks=[],
        listed=[],
        partitions_count=partitions_count,
        points=points,
        control=control,
        facts=facts,
        loops=loops,
    )


def decode_partials(data: bytes) -> tuple[PartialsRecord, Blocks]:
    """Raises ValueError (msgspec.DecodeError is one) where the bytes are no partials record of this format."""
    record = _decoder.decode(data)
    if record.format != BLOCK_FORMAT:
        raise ValueError(f"block format {record.format}; this version reads {BLOCK_FORMAT}")
    columns = record.columns
    try:
        arrays: dict[str, Any] = {
            name: _unpack(columns[name], dtype)
            for name, dtype in _DTYPES.items()
            if name in columns or name not in _CONSTANT_DEFAULT
        }
        for name, value in _CONSTANT_DEFAULT.items():
            if name not in arrays:
                arrays[name] = np.full(len(arrays[_LENGTH_OF[name]]), value, _DTYPES[name])
        key_service = _unpack(columns["key_service"], np.int32).tolist()
        key_target = _unpack(columns["key_target"], np.int32).tolist()
        keys = [
            (record.services[s], record.targets[t])
            for s, t in zip(key_service, key_target, strict=True)
        ]
    except (KeyError, IndexError) as problem:
        raise ValueError(f"partials record lacks {problem}") from problem
    blocks = Blocks(**arrays, keys=keys, instances=record.instances)
    _check(blocks, len(record.sources))
    return record, blocks


def _check(blocks: Blocks, sources_count: int) -> None:
    """What else would read or write beside an array, or end in an error far from here."""
    for name, first in _LENGTH_OF.items():
        if len(getattr(blocks, name)) != len(getattr(blocks, first)):
            raise ValueError(f"partials record: column {name} has a wrong length")
    for name, end in (
        ("source", sources_count),
        ("cells_count", len(blocks.key) + 1),
        ("exemplars_count", len(blocks.exemplar_key) + 1),
        ("instances_count", len(blocks.instance_key) + 1),
        ("key", len(blocks.keys)),
        ("code", CODES_COUNT),
        ("bin", BINS_COUNT),
        ("exemplar_key", len(blocks.keys)),
        ("exemplar_code", CODES_COUNT),
        ("exemplar_bin", BINS_COUNT),
        ("instance_key", len(blocks.keys)),
        ("instance_name", len(blocks.instances)),
    ):
        column = getattr(blocks, name)
        # One pass: without its sign, a negative number is the largest.
        if len(column) and int(column.view(f"u{column.itemsize}").max()) >= end:
            raise ValueError(
                f"partials record: column {name} holds what is not within 0..{end - 1}"
            )
    for counted, first in (
        ("cells_count", "key"),
        ("exemplars_count", "exemplar_key"),
        ("instances_count", "instance_key"),
    ):
        if int(getattr(blocks, counted).sum()) != len(getattr(blocks, first)):
            raise ValueError(f"partials record: {counted} does not add up to its rows")
    requests, failed = blocks.instance_requests, blocks.instance_failed
    if ((failed < 0) | (failed > requests) | (requests < 1)).any():
        raise ValueError(
            "partials record: an instance with more failures than requests, or negative ones"
        )


def _pack(column: npt.NDArray[np.generic]) -> bytes:
    """Two bytes of header (dtype width code, is_based), the base, then the narrowest unsigned offsets."""
    if column.dtype == np.uint64:
        return b"r" + column.astype("<u8").tobytes()
    wide = column.astype(np.int64)
    base = int(wide.min()) if len(wide) else 0
    span = int(wide.max()) - base if len(wide) else 0
    for dtype, most in _NARROW:
        if span <= most:
            header = b"n%d" % dtype.itemsize + base.to_bytes(8, "little", signed=True)
            return header + (wide - base).astype(dtype).tobytes()
    return b"w" + wide.astype("<i8").tobytes()


def _unpack(data: bytes, dtype: type) -> npt.NDArray[np.generic]:
    kind = data[:1]
    try:
        if kind == b"r":
            return np.frombuffer(data, "<u8", offset=1).astype(dtype)
        if kind == b"w":
            return np.frombuffer(data, "<i8", offset=1).astype(dtype)
        if kind == b"n" and data[1:2] in (b"1", b"2", b"4"):
            base = int.from_bytes(data[2:10], "little", signed=True)
            narrow = np.frombuffer(data, f"<u{data[1:2].decode()}", offset=10)
            return (narrow.astype(np.int64) + base).astype(dtype)
    except ValueError as problem:
        raise ValueError(f"partials record: a column is cut short ({problem})") from problem
    raise ValueError(f"partials record: unknown column form {kind!r}")
