"""Records of `tidegate.health`: per evaluate partition and boundary, what was merged and what came of it.

The form the graph stage needs: the *increments* of that boundary (cells merged since the one before,
equal ones added up), so that it can pool them as it likes; scores and levels beside them, for people.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.schemas.control import ControlEntry
from tidegate.schemas.facts import Fact, Loop

__all__ = [
    "HEALTH_FORMAT",
    "IN_L3",
    "IN_L4",
    "IS_ANSWERED",
    "IS_STALLED",
    "NUMBERS",
    "ON_EVIDENCE",
    "Health",
    "HealthRecord",
    "cells_of",
    "decode_health",
    "encode_control_for_graph",
    "encode_health",
    "numbers_of",
]

HEALTH_FORMAT = 3
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
    partitions: int = 1
    """How many evaluate partitions there are."""
    numbers: dict[str, bytes] = {}
    """One element per key, little-endian: see NUMBERS."""
    exemplars: dict[int, list[str]] = {}
    """Trace ids, by number of the key: of those that aren't closed."""
    facts: list[Fact] = []
    """In force from this boundary on; in the first part."""
    loops: list[Loop] = []
    ended: list[tuple[str, str]] = []
    """Keys that ended, or have another name; in the first part."""
    control: list[ControlEntry] = []
    """Control entries, ascending by `seq`; such a record has partition and boundary -1 and nothing else."""
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


NUMBERS: dict[str, str] = {
    "since": "<i8",
    "requests": "<i4",
    "qps": "<i8",
    "usual_qps": "<i8",
    "error": "<i2",
    "own_error": "<i2",
    "slow": "<i2",
    "timeout": "<i2",
    "p99_us": "<i8",
    "target_ms": "<i8",
    "hard": "<i2",
    "marks": "<u2",
}
"""What is known of each key. since: boundary at which its level began. requests: in the 30 s window. qps,
usual_qps: per 1,000 s, -1 unknown. error, own_error (without what it inherited), slow: thousandths of the
judged window, 0 without evidence. timeout: thousandths of the 30 s window. p99_us: as p95_us. target_ms: -1
unknown. hard: thousandths, a lower bound of P(request fails given the call fails); -1 where too few failed
to tell. marks: bits, as below."""
ON_EVIDENCE, IN_L3, IS_STALLED, IN_L4, IS_ANSWERED = 1, 2, 4, 8, 16
"""IS_STALLED: at L3 because its calls don't end. IS_ANSWERED: an edge whose callee is known by a fact."""


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
    numbers: dict[str, npt.NDArray[np.generic]]
    """By the names of NUMBERS, shapes (k,)."""
    partitions: int = 1
    exemplars: dict[int, list[str]] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)


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
                    partitions=health.partitions,
                    numbers={
                        name: health.numbers[name][lo:hi].astype(dtype).tobytes()
                        for name, dtype in NUMBERS.items()
                    },
                    exemplars={
                        number - lo: traces
                        for number, traces in health.exemplars.items()
                        if lo <= number < hi
                    },
                    facts=[] if part else health.facts,
                    loops=[] if part else health.loops,
                    ended=[] if part else health.ended,
                    cells=cells,
                )
            )
        )
    return out


def encode_control_for_graph(control: Sequence[ControlEntry]) -> bytes:
    """A record that carries what operators ask for to the graph stage."""
    return _encoder.encode(
        HealthRecord(
            partition=-1,
            boundary=-1,
            part=0,
            parts=1,
            policy="",
            keys=[],
            score=[],
            level=[],
            findings=[],
            p95_us=[],
            cells={},
            control=list(control),
        )
    )


def decode_health(data: bytes) -> HealthRecord:
    """Raises ValueError (msgspec.DecodeError is one) for anything that is no health record of this format."""
    record = _decoder.decode(data)
    if record.format != HEALTH_FORMAT:
        raise ValueError(f"health format {record.format}; this version reads {HEALTH_FORMAT}")
    return record


def numbers_of(record: HealthRecord) -> dict[str, npt.NDArray[np.generic]]:
    """The columns of NUMBERS, one element per key. Raises ValueError where one is missing or too short."""
    found = {}
    for name, dtype in NUMBERS.items():
        column: npt.NDArray[np.generic] = np.frombuffer(record.numbers.get(name, b""), dtype)
        if len(column) != len(record.keys):
            raise ValueError(f"health record: column {name} has a wrong length")
        found[name] = column
    return found


def cells_of(record: HealthRecord) -> dict[str, npt.NDArray[np.generic]]:
    """The columns of cells. Raises ValueError where they don't fit together."""
    found: dict[str, npt.NDArray[np.generic]] = {
        name: np.frombuffer(record.cells.get(name, b""), dtype)
        for name, dtype in _CELL_DTYPES.items()
    }
    if len({len(column) for column in found.values()}) > 1:
        raise ValueError("health record: columns of cells differ in length")
    if len(found["key"]) and int(found["key"].max()) >= len(record.keys):
        raise ValueError("health record: a cell of no key")
    return found


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
