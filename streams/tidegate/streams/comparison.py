"""What a live run published, against what follows from its internal log: every published record must be a
recomputed one, byte for byte, however often it was written, and every recomputed one must be there.

Pure. It tells apart what is not published yet, what compaction or retention has removed, and what lies
before the snapshot from which the log can be recomputed.
"""

import hashlib
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from tidegate.schemas.decision import Decision
from tidegate.schemas.scope import OVERRIDE_ALL
from tidegate.streams.dump import DumpHeader
from tidegate.streams.kafka_log import LogRecord

__all__ = [
    "NEVER",
    "SEQUENCER",
    "Appended",
    "Comparison",
    "Name",
    "Published",
    "Recomputed",
    "appended_of",
    "boundary_of",
    "compare",
]


SEQUENCER = -1
"""Partition of what the sequencer writes into health: that follows from the control topic."""
NEVER = 1 << 62
"""A boundary after all others."""


class _Stamp(msgspec.Struct, frozen=True):
    """The part of what is published that says which one it is."""

    boundary: int
    partition: int
    number: int = 0
    """Of an alert's event."""
    part: int = 0
    """Of a boundary's health."""


class _ViewStamp(msgspec.Struct, frozen=True):
    """As _Stamp, of a graph: there is one."""

    boundary: int
    part: int


_view_stamp = msgspec.json.Decoder(_ViewStamp)
_json_stamp = msgspec.json.Decoder(_Stamp)
_packed_stamp = msgspec.msgpack.Decoder(_Stamp)
_DIGEST_BYTES = 16


class Name(NamedTuple):
    """What names a record of a topic that is only appended to: readers take each name once."""

    topic: str
    key: str
    boundary: int
    number: int
    """An alert's event, a part of a boundary's health or graph, else 0."""


class Appended(NamedTuple):
    """A record of alerts, of the shadow, of health or of the graph."""

    name: Name
    partition: int
    """Of evaluate; the graph stage's number follows the last; SEQUENCER."""
    topic_partition: int
    offset: int
    value: bytes
    """Of health only a digest: an hour of it holds every cell, and must not stay in memory."""


@dataclass(slots=True)
class Recomputed:
    """What follows from the partials, all partitions, and from health."""

    decisions: list[Decision] = field(default_factory=list)
    """Ordered by boundary, then scope."""
    values: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """(key, boundary) -> value, of decisions and leases."""
    tombstones: set[str] = field(default_factory=set)
    appended: dict[Name, Appended] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    """Of evaluate."""
    graph_counters: Counter[str] = field(default_factory=Counter)
    begins_after: dict[int, int] = field(default_factory=dict)
    """Partition -> boundary of the snapshot it begins from, where its log is cut."""
    ends: dict[int, list[int]] = field(default_factory=dict)
    """Partition -> the last boundary of each record that stepped one. A worker publishes all of a record
    before it takes the next."""
    left_out: list[str] = field(default_factory=list)
    """What can't be recomputed, and why, for people."""


@dataclass(slots=True)
class Published:
    """What stands on the topics, in the order it was read."""

    decisions: list[LogRecord] = field(default_factory=list)
    appended: list[Appended] = field(default_factory=list)
    undecodable: list[str] = field(default_factory=list)
    """Of these topics: where, and what is wrong."""


@dataclass(slots=True)
class Comparison:
    """Differences as lines for people; empty when the published ones are what follows from the log."""

    differences: list[str] = field(default_factory=list)
    compared: int = 0
    pending: int = 0
    """Recomputed for boundaries after the last that their partition published: not written yet."""
    before: int = 0
    """Published before the boundary from which their partition can be recomputed."""
    compacted: int = 0
    """Not found among the published where compaction may have removed them for a newer one."""
    expired: int = 0
    """Not found where the topic's retention has removed what is as old."""


def boundary_of(value: bytes) -> int:
    """Of a decision or lease. Raises msgspec.DecodeError."""
    return _json_stamp.decode(value).boundary


def appended_of(header: DumpHeader, record: LogRecord) -> Appended:
    """A record of the broker, or one that was recomputed (offset -1). Raises msgspec.DecodeError for what
    is none of ours."""
    value = record.value or b""
    key = (record.key or b"").decode(errors="replace")
    if record.topic == header.graph:
        view = _view_stamp.decode(value)
        name = Name(record.topic, key, view.boundary, view.part)
        return Appended(name, header.partitions_count, record.partition, record.offset, value)
    is_health = record.topic == header.health
    stamp = (_packed_stamp if is_health else _json_stamp).decode(value)
    number = stamp.part if is_health else stamp.number if record.topic == header.alerts else 0
    if is_health:
        value = hashlib.blake2b(value, digest_size=_DIGEST_BYTES).digest()
    name = Name(record.topic, key, stamp.boundary, number)
    return Appended(name, stamp.partition, record.partition, record.offset, value)


def compare(header: DumpHeader, recomputed: Recomputed, published: Published) -> Comparison:
    """All topics."""
    result = Comparison(differences=list(published.undecodable))
    done = _Decisions(header, recomputed, published.decisions, result).compare()
    _compare_appended(header, recomputed, published.appended, done, result)
    return result


class _Decisions:
    """The decisions topic: compacted, decisions and leases by (key, boundary), and tombstones."""

    def __init__(
        self,
        header: DumpHeader,
        recomputed: Recomputed,
        records: list[LogRecord],
        result: Comparison,
    ) -> None:
        self._recomputed, self._records, self._result = recomputed, records, result
        self._values: set[tuple[str, int]] = set()
        self._newest: dict[str, int] = {}
        self._done: dict[int, int] = {}
        self._tombstones: set[str] = set()
        # Whether compaction has removed nothing: no offset is missing.
        self._is_whole = len(records) == sum(
            span.end for span in header.spans if span.topic == header.decisions
        )

    def compare(self) -> dict[int, int]:
        """Partition -> its newest published boundary."""
        for record in self._records:
            key = (record.key or b"").decode(errors="replace")
            if key == OVERRIDE_ALL:
                continue  # the kill switch: an operator's command wrote it
            self._take(record, key)
        self._missing()
        for key in sorted(self._recomputed.tombstones - self._tombstones):
            if key not in self._newest and not self._is_whole:
                self._result.compacted += 1
            else:
                self._result.differences.append(f"{key}: its tombstone was not published")
        return self._done

    def _take(self, record: LogRecord, key: str) -> None:
        result, recomputed = self._result, self._recomputed
        where = f"{record.topic}[{record.partition}] offset {record.offset}: {key}"
        if record.value is None:
            self._tombstones.add(key)
            if key not in recomputed.tombstones and not recomputed.begins_after:
                result.differences.append(f"{where}: a tombstone that does not follow from the log")
            return
        try:
            stamp = _json_stamp.decode(record.value)
        except msgspec.DecodeError as problem:
            result.differences.append(f"{where}: is no decision ({problem})")
            return
        self._values.add((key, stamp.boundary))
        self._newest[key] = max(self._newest.get(key, 0), stamp.boundary)
        self._done[stamp.partition] = max(self._done.get(stamp.partition, 0), stamp.boundary)
        if stamp.boundary <= recomputed.begins_after.get(stamp.partition, 0):
            result.before += 1
            return
        result.compared += 1
        expected = recomputed.values.get((key, stamp.boundary))
        _tell(result, f"{where}: boundary {stamp.boundary}", record.value, expected)

    def _missing(self) -> None:
        result = self._result
        by_boundary = sorted(self._recomputed.values.items(), key=lambda item: item[0][::-1])
        for (key, boundary), value in by_boundary:
            if (key, boundary) in self._values:
                continue
            if boundary > self._done.get(_json_stamp.decode(value).partition, 0):
                result.pending += 1
            elif not self._is_whole and self._newest.get(key, 0) > boundary:
                result.compacted += 1
            else:
                result.differences.append(f"{key}: boundary {boundary} was not published")


def _compare_appended(
    header: DumpHeader,
    recomputed: Recomputed,
    records: list[Appended],
    done: dict[int, int],
    result: Comparison,
) -> None:
    """Alerts, shadow and health: nothing is missing, but what is old. The graph: but what is newer."""
    seen: set[Name] = set()
    newest: dict[str, int] = {}
    firsts: dict[tuple[str, int, int], int] = {}
    for one in records:
        name = one.name
        seen.add(name)
        if name.topic == header.graph:
            newest[name.key] = max(newest.get(name.key, 0), name.boundary)
        firsts.setdefault((name.topic, one.topic_partition, one.partition), name.boundary)
        if name.boundary <= recomputed.begins_after.get(one.partition, 0):
            result.before += 1
            continue
        result.compared += 1
        expected = recomputed.appended.get(name)
        where = f"{name.topic}[{one.topic_partition}] offset {one.offset}: {_text(name)}"
        _tell(result, where, one.value, None if expected is None else expected.value)
    graphs_count = sum(one.name.topic == header.graph for one in records)
    graphs_end = sum(span.end for span in header.spans if span.topic == header.graph)
    is_graph_whole = graphs_count == graphs_end
    cut: dict[str, list[int]] = {}
    for span in header.spans:
        if span.low:
            cut.setdefault(span.topic, []).append(span.partition)
    whole = {p: _whole_until(recomputed.ends.get(p, []), done.get(p, 0)) for p in recomputed.ends}
    for name, lost in sorted(recomputed.appended.items(), key=lambda item: item[0][::-1]):
        if name in seen:
            continue
        if name.boundary > whole.get(lost.partition, 0):
            result.pending += 1
        elif not is_graph_whole and name.boundary < newest.get(name.key, 0):
            result.compacted += 1
        elif any(
            name.boundary <= firsts.get((name.topic, p, lost.partition), name.boundary)
            for p in cut.get(name.topic, [])
        ):
            result.expired += 1
        else:
            result.differences.append(f"{name.topic}: {_text(name)} was not published")


def _whole_until(ends: list[int], done: int) -> int:
    """Up to which boundary a worker has published everything, whose newest decision or lease is of `done`:
    that boundary's record may still be on its way to the other topics."""
    place = bisect_left(ends, done)
    return ends[place - 1] if place else 0


def _text(name: Name) -> str:
    return f"{name.key}: boundary {name.boundary}, number {name.number}"


def _tell(result: Comparison, where: str, value: bytes, expected: bytes | None) -> None:
    if expected is None:
        result.differences.append(f"{where} does not follow from the log")
    elif expected != value:
        shown = "" if len(value) == _DIGEST_BYTES else _both(value, expected)
        result.differences.append(f"{where} differs{shown}")


def _both(value: bytes, expected: bytes) -> str:
    return (
        f"\n  published  {value.decode(errors='replace')}"
        f"\n  recomputed {expected.decode(errors='replace')}"
    )
