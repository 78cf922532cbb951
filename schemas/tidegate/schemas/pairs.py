"""Records of `tidegate.pairs`: spans of the traces that are looked at to learn who answers whom.

msgpack outside, little-endian column bytes inside, as in records of partials. All spans of a trace go to
one partition, whatever records they came from; a span may come more than once.
"""

from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.schemas.outcome import Outcome, SpanKind

__all__ = ["PAIRS_FORMAT", "PAIR_ROW_BYTES", "PairSpans", "decode_pairs", "encode_pairs"]

PAIRS_FORMAT = 1


@dataclass(slots=True)
class PairSpans:
    """n spans. Of INTERNAL ones only ids and the service are told; the rest is 0, their target ""."""

    trace_hi: npt.NDArray[np.uint64]
    """First 8 bytes of the trace id, read big-endian, shape (n,) as all below."""
    trace_lo: npt.NDArray[np.uint64]
    span_id: npt.NDArray[np.uint64]
    """Never 0."""
    parent_id: npt.NDArray[np.uint64]
    """0 where it has none."""
    start_ns: npt.NDArray[np.int64]
    """Since the Unix epoch, not after the end."""
    end_ns: npt.NDArray[np.int64]
    service: npt.NDArray[np.int32]
    """Index into `services`."""
    target: npt.NDArray[np.int32]
    """Index into `targets`."""
    kind: npt.NDArray[np.uint8]
    """A SpanKind, but UNSPECIFIED."""
    outcome: npt.NDArray[np.uint8]
    """An Outcome."""
    services: list[str]
    targets: list[str]

    def __len__(self) -> int:
        return len(self.span_id)


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    format: int = PAIRS_FORMAT
    services: list[str]
    targets: list[str]
    columns: dict[str, bytes]


_DTYPES: dict[str, np.dtype[Any]] = {
    "trace_hi": np.dtype("<u8"),
    "trace_lo": np.dtype("<u8"),
    "span_id": np.dtype("<u8"),
    "parent_id": np.dtype("<u8"),
    "start_ns": np.dtype("<i8"),
    "end_ns": np.dtype("<i8"),
    "service": np.dtype("<i4"),
    "target": np.dtype("<i4"),
    "kind": np.dtype("<u1"),
    "outcome": np.dtype("<u1"),
}
PAIR_ROW_BYTES = sum(dtype.itemsize for dtype in _DTYPES.values())
"""Of one span in a record, without its names."""
assert set(_DTYPES) | {"services", "targets"} == {f.name for f in fields(PairSpans)}
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Record)


def encode_pairs(spans: PairSpans) -> bytes:
    """Deterministic bytes of one record. The caller keeps it below RECORD_BYTES_MAX."""
    columns = {
        name: getattr(spans, name).astype(dtype, copy=False).tobytes()
        for name, dtype in _DTYPES.items()
    }
    return _encoder.encode(_Record(services=spans.services, targets=spans.targets, columns=columns))


def decode_pairs(data: bytes) -> PairSpans:
    """Raises ValueError (msgspec.DecodeError is one) where the bytes are no pairs record of this format."""
    record = _decoder.decode(data)
    if record.format != PAIRS_FORMAT:
        raise ValueError(f"pairs format {record.format}; this version reads {PAIRS_FORMAT}")
    try:
        columns = {
            name: np.frombuffer(record.columns[name], dtype) for name, dtype in _DTYPES.items()
        }
    except KeyError as problem:
        raise ValueError(f"pairs record lacks {problem}") from problem
    except ValueError as problem:
        raise ValueError(f"pairs record: a column is cut short ({problem})") from problem
    spans = PairSpans(**columns, services=record.services, targets=record.targets)
    _check(spans)
    return spans


def _check(spans: PairSpans) -> None:
    count = len(spans)
    for name in _DTYPES:
        if len(getattr(spans, name)) != count:
            raise ValueError(f"pairs record: column {name} has a wrong length")
    for name, least, end in (
        ("service", 0, len(spans.services)),
        ("target", 0, len(spans.targets)),
        ("kind", SpanKind.INTERNAL, len(SpanKind)),
        ("outcome", 0, len(Outcome)),
    ):
        column = getattr(spans, name)
        if count and not least <= int(column.min()) <= int(column.max()) < end:
            raise ValueError(
                f"pairs record: column {name} holds what is not within {least}..{end - 1}"
            )
    if ((spans.start_ns < 0) | (spans.start_ns > spans.end_ns)).any():
        raise ValueError("pairs record: a span that ends before it starts")
    if (spans.span_id == 0).any():
        raise ValueError("pairs record: a span without an id")
