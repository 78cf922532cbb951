"""Records of `tidegate.health`: per evaluate partition and boundary, what was merged and what came of it.

The form the graph stage needs: the *increments* of that boundary (cells merged since the one before,
equal ones added up), so that it can pool them as it likes; scores and levels beside them, for people.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["HEALTH_FORMAT", "Health", "HealthRecord", "decode_health", "encode_health"]

HEALTH_FORMAT = 2
CELLS_PER_PART_MAX = 24_576


class HealthRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The wire form of one part. Parts of a boundary are numbered from 0; an empty boundary has one."""

    format: int = HEALTH_FORMAT
    partition: int
    boundary: int
    part: int
    parts: int
    policy: str
    keys: list[tuple[str, str]]
    """(service, target), sorted; every key that merged something or isn't closed."""
    score: list[int]
    """Thousandths, -1 where unknown; one per key, as the next two."""
    level: list[int]
    findings: list[int]
    """Bits: 1 chronic, 2 drift, 4 hollow."""
    p95_us: list[int]
    """Over 30 s; -1 where unknown, or not looked up at this boundary (of closed keys it is every 5 s)."""
    cells: dict[str, bytes]
    """key u32, age u16 (boundary - 1 - bucket), code u16, bin u16, count i32, weight i32; little-endian."""


_CELL_DTYPES = {
    "key": "<u4",
    "age": "<u2",
    "code": "<u2",
    "bin": "<u2",
    "count": "<i4",
    "weight": "<i4",
}


@dataclass(slots=True)
class Health:
    """One boundary of one partition, whole. k keys, n cells."""

    partition: int
    boundary: int
    policy: str
    keys: list[tuple[str, str]]
    score: npt.NDArray[np.int32]
    level: npt.NDArray[np.uint8]
    findings: npt.NDArray[np.uint8]
    p95_us: npt.NDArray[np.int64]
    key: npt.NDArray[np.uint32]
    age: npt.NDArray[np.uint16]
    code: npt.NDArray[np.uint16]
    bin: npt.NDArray[np.uint16]
    count: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int32]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(HealthRecord)


def encode_health(health: Health) -> list[bytes]:
    """The parts of a boundary, each below 512 kB: keys are spread over parts, cells follow their key."""
    starts = _part_starts(health)
    parts = len(starts) - 1
    out = []
    for part in range(parts):
        lo, hi = starts[part], starts[part + 1]
        inside = (health.key >= lo) & (health.key < hi)
        cells = {
            name: (getattr(health, name)[inside] - (lo if name == "key" else 0))
            .astype(dtype)
            .tobytes()
            for name, dtype in _CELL_DTYPES.items()
        }
        out.append(
            _encoder.encode(
                HealthRecord(
                    partition=health.partition,
                    boundary=health.boundary,
                    part=part,
                    parts=parts,
                    policy=health.policy,
                    keys=health.keys[lo:hi],
                    score=health.score[lo:hi].tolist(),
                    level=health.level[lo:hi].tolist(),
                    findings=health.findings[lo:hi].tolist(),
                    p95_us=health.p95_us[lo:hi].tolist(),
                    cells=cells,
                )
            )
        )
    return out


def decode_health(data: bytes) -> HealthRecord:
    """Raises msgspec.DecodeError for anything that is no health record."""
    return _decoder.decode(data)


_KEYS_PER_PART_MAX = 2_000


def _part_starts(health: Health) -> list[int]:
    """First key of each part, and the end. A part holds up to 2,000 keys and about 24,576 cells: one key
    alone has at most some thousand distinct cells a boundary, so a part stays below 512 kB."""
    cells_per_key = np.bincount(health.key, minlength=len(health.keys))
    starts, cells = [0], 0
    for i, n in enumerate(cells_per_key.tolist()):
        if i > starts[-1] and (
            cells + n > CELLS_PER_PART_MAX or i - starts[-1] >= _KEYS_PER_PART_MAX
        ):
            starts.append(i)
            cells = 0
        cells += n
    starts.append(len(health.keys))
    return starts
