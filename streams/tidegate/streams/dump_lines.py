"""Records of the internal log as lines of JSON, for people and jq: what is binary is decoded, columns of cells
are counted, policies are named by their label.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from tidegate.rules.policy import PolicyError, policy_from_content
from tidegate.rules.standing import Manifest
from tidegate.schemas.cells import SELF_TIME
from tidegate.schemas.control import ControlEntry
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.health import decode_health, numbers_of
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.schemas.partials import decode_partials
from tidegate.schemas.points import Metric, MetricPoint, Temporality
from tidegate.streams.dump import DumpHeader
from tidegate.streams.kafka_log import LogRecord

__all__ = ["line_of"]

_encoder = msgspec.json.Encoder()


def line_of(header: DumpHeader, record: LogRecord) -> bytes:
    """Without the newline. What can't be decoded is shown as `problem`, with its size."""
    line: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "append_ms": record.append_ms,
        "key": None if record.key is None else record.key.decode(errors="replace"),
    }
    try:
        line["value"] = None if record.value is None else _decoder(header, record)(record.value)
    except (ValueError, IndexError, PolicyError) as problem:
        line |= {"problem": str(problem), "bytes": len(record.value or b"")}
    return _encoder.encode(line)


def _decoder(header: DumpHeader, record: LogRecord) -> Callable[[bytes], Any]:
    if record.topic == header.partials:
        return _partials
    if record.topic == header.health:
        return _health
    if record.topic in (header.snapshots, header.graph_snapshots):
        is_manifest = b"/manifest" in (record.key or b"")
        return _manifest if is_manifest else lambda value: {"bytes": len(value)}
    return msgspec.json.decode


def _partials(value: bytes) -> dict[str, Any]:
    read, blocks = decode_partials(value)
    is_request = (blocks.code & SELF_TIME) == 0
    shown: dict[str, Any] = {
        "sources": [{"topic_id": s.topic_id, "partition": s.partition} for s in read.sources],
        "watermarks": [msgspec.structs.asdict(mark) for mark in read.watermarks],
        "control": [_entry(entry) for entry in read.control],
        "points": [_point(point) for point in read.points],
        "facts": [_asdict(fact) for fact in read.facts],
        "loops": [_asdict(loop) for loop in read.loops],
        "services": read.services,
        "blocks": len(blocks.offset),
        "requests": int(blocks.count[is_request].sum()),
    }
    return {name: part for name, part in shown.items() if part}


def _entry(entry: ControlEntry) -> dict[str, Any]:
    shown = {
        "topic_id": entry.topic_id,
        "seq": entry.seq,
        "effective_boundary": entry.effective_boundary,
        "record": msgspec.json.decode(entry.record),
    }
    return shown | ({"policy": policy_from_content(entry.policy).label} if entry.policy else {})


def _point(point: MetricPoint) -> dict[str, Any]:
    return msgspec.structs.asdict(point) | {
        "metric": _name(Metric, point.metric),
        "temporality": _name(Temporality, point.temporality),
    }


def _asdict(learned: Fact | Loop) -> dict[str, Any]:
    return msgspec.structs.asdict(learned)


def _name(kind: type[Metric] | type[Temporality], number: int) -> str | int:
    """A newer ingest may write what this version doesn't know."""
    return kind(number).name.lower() if number in list(kind) else number


def _health(value: bytes) -> dict[str, Any]:
    read = decode_health(value)
    if read.control:
        return {"control": [_entry(entry) for entry in read.control]}
    columns = {name: column.tolist() for name, column in numbers_of(read).items()}
    keys = zip(read.keys, read.score, read.level, read.findings, read.p95_us, strict=True)
    shown = {
        "partition": read.partition,
        "boundary": read.boundary,
        "part": read.part,
        "parts": read.parts,
        "policy": read.policy,
        "keys": [
            {
                "service": service,
                "target": target,
                "score": score,
                "level": LEVEL_NAMES[level],
                "findings": findings,
                "p95_us": p95_us,
                **{name: column[number] for name, column in columns.items()},
                **({"exemplars": read.exemplars[number]} if number in read.exemplars else {}),
            }
            for number, ((service, target), score, level, findings, p95_us) in enumerate(keys)
        ],
    }
    more = {
        "facts": [_asdict(fact) for fact in read.facts],
        "loops": [_asdict(loop) for loop in read.loops],
    }
    return shown | {name: part for name, part in more.items() if part}


def _manifest(value: bytes) -> dict[str, Any]:
    read = msgspec.msgpack.decode(value, type=Manifest)
    return {name: part for name, part in msgspec.structs.asdict(read).items() if _is_plain(part)}


def _is_plain(part: object) -> bool:
    return isinstance(part, int | str)
