"""`tidegate replay --internal`: decisions recomputed from the internal log, and compared with those
published. That they are equal is the design's first law, so this is how it is tried on a live run.
"""

import argparse
import fnmatch
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from tidegate.schemas.decision import Decision, encode_decision
from tidegate.streams.dump import DumpHeader, internal_log, read_dump
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_log import LogRecord, Span
from tidegate.streams.kafka_options import kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.rules.pipeline import Evaluator
    from tidegate.rules.policy import Policy

__all__ = ["Comparison", "compare", "recompute", "recompute_command"]

_LEASE_PREFIX = "lease:"


class _Stamp(msgspec.Struct, frozen=True):
    """The part of a decision or lease that says which one it is."""

    boundary: int
    partition: int


_stamp_decoder = msgspec.json.Decoder(_Stamp)
Published = dict[tuple[str, int], bytes]
"""(key, boundary) -> value, of decisions and leases."""


@dataclass(slots=True)
class Recomputed:
    """What follows from the partials, all partitions."""

    decisions: list[Decision] = field(default_factory=list)
    """Ordered by boundary, then scope."""
    values: Published = field(default_factory=dict)
    tombstones: set[str] = field(default_factory=set)
    counters: Counter[str] = field(default_factory=Counter)
    begins_after: dict[int, int] = field(default_factory=dict)
    """Partition -> boundary of the snapshot it begins from, where its log is cut."""


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


def recompute(
    header: DumpHeader, records: Iterable[LogRecord], policy: "Policy"
) -> tuple[Recomputed, list[LogRecord]]:
    """Feeds every partition's partials to an evaluator of its own; gives back the records of the
    decisions topic as they are. A partition whose first records are past their retention begins from
    the oldest snapshot that the rest continues; raises Failure where there is none.
    """
    log = _Partials(header, policy)
    out, published = log.out, []
    for record in records:
        if record.topic == header.decisions:
            published.append(record)
        elif record.topic == header.snapshots:
            log.remember(record)
        else:
            log.feed(record)
    out.decisions.sort(key=lambda decision: (decision.boundary, decision.scope))
    return out, published


class _Partials:
    """The evaluators of all partitions, made when their first record comes."""

    def __init__(self, header: DumpHeader, policy: "Policy") -> None:
        self.out = Recomputed()
        self._policy = policy
        self._spans = {s.partition: s for s in header.spans if s.topic == header.partials}
        self._snapshots: dict[bytes, bytes] = {}
        self._evaluators: dict[int, tuple[Evaluator, int]] = {}
        """With the offset from which on each is fed."""

    def remember(self, record: LogRecord) -> None:
        """A snapshot that was deleted since is as good as the others: it is older."""
        if record.key is not None and record.value is not None:
            self._snapshots[record.key] = record.value

    def feed(self, record: LogRecord) -> None:
        """One record of partials."""
        if record.partition not in self._evaluators:
            self._evaluators[record.partition] = self._begin(self._spans[record.partition])
        evaluator, start_offset = self._evaluators[record.partition]
        if record.value is None or record.offset < start_offset:
            return
        outputs = evaluator.feed(record.value, offset=record.offset, append_ms=record.append_ms)
        self.out.decisions += outputs.decisions
        self.out.counters.update(outputs.counters)
        for key, value in outputs.records():
            if value is None:
                self.out.tombstones.add(key.decode())
            else:
                self.out.values[key.decode(), _stamp_decoder.decode(value).boundary] = value

    def _begin(self, span: Span) -> "tuple[Evaluator, int]":
        from tidegate.rules.pipeline import Evaluator
        from tidegate.rules.standing import Manifest
        from tidegate.streams.snapshot_table import newest_first

        number, count = span.partition, len(self._spans)
        if span.low == 0:
            return Evaluator(number, self._policy, partitions_count=count), 0
        for stored in reversed(list(newest_first(self._snapshots, number))):
            manifest = msgspec.msgpack.decode(stored.manifest, type=Manifest)
            if not span.low <= manifest.start_offset <= manifest.offset < span.end:
                continue
            try:
                evaluator = Evaluator.restore(
                    number, self._policy, stored.manifest, stored.chunks, partitions_count=count
                )
            except ValueError:
                continue  # half deleted: a newer one will do
            self.out.begins_after[number] = manifest.boundary
            return evaluator, manifest.start_offset
        raise Failure(
            f"{span.topic}[{number}]: begins at offset {span.low}, since older records are past their "
            "retention, and no snapshot was found that the rest continues; try again later, or dump "
            "while the log is whole"
        )


def compare(header: DumpHeader, recomputed: Recomputed, published: list[LogRecord]) -> Comparison:
    """Every published record must follow from the log, byte for byte, however often it was written; and
    every one that follows must have been published, but for those that are pending or compacted.
    """
    result = Comparison()
    values: Published = {}
    newest: dict[str, int] = {}
    done: dict[int, int] = {}
    tombstones = set()
    is_cut = bool(recomputed.begins_after)
    for record in published:
        key = (record.key or b"").decode(errors="replace")
        where = f"{record.topic}[{record.partition}] offset {record.offset}: {key}"
        if record.value is None:
            tombstones.add(key)
            if key not in recomputed.tombstones and not is_cut:
                result.differences.append(f"{where}: a tombstone that does not follow from the log")
            continue
        try:
            stamp = _stamp_decoder.decode(record.value)
        except msgspec.DecodeError as problem:
            result.differences.append(f"{where}: is no decision ({problem})")
            continue
        values[key, stamp.boundary] = record.value
        newest[key] = max(newest.get(key, 0), stamp.boundary)
        done[stamp.partition] = max(done.get(stamp.partition, 0), stamp.boundary)
        if stamp.boundary <= recomputed.begins_after.get(stamp.partition, 0):
            result.before += 1
            continue
        expected = recomputed.values.get((key, stamp.boundary))
        result.compared += 1
        if expected is None:
            result.differences.append(
                f"{where}: boundary {stamp.boundary} does not follow from the log"
            )
        elif expected != record.value:
            result.differences.append(
                f"{where}: boundary {stamp.boundary} differs\n"
                f"  published  {record.value.decode(errors='replace')}\n"
                f"  recomputed {expected.decode(errors='replace')}"
            )
    _missing(header, recomputed, published, values, newest, done, result)
    for key in sorted(recomputed.tombstones - tombstones):
        if key not in newest and not _is_whole(header, published):
            result.compacted += 1
        else:
            result.differences.append(f"{key}: its tombstone was not published")
    return result


def _missing(
    header: DumpHeader,
    recomputed: Recomputed,
    published: list[LogRecord],
    values: Published,
    newest: dict[str, int],
    done: dict[int, int],
    result: Comparison,
) -> None:
    is_whole = _is_whole(header, published)
    for (key, boundary), value in sorted(recomputed.values.items(), key=lambda item: item[0][::-1]):
        if (key, boundary) in values:
            continue
        if boundary > done.get(_stamp_decoder.decode(value).partition, 0):
            result.pending += 1
        elif not is_whole and newest.get(key, 0) > boundary:
            result.compacted += 1
        else:
            result.differences.append(f"{key}: boundary {boundary} was not published")


def _is_whole(header: DumpHeader, published: list[LogRecord]) -> bool:
    """Whether compaction has removed nothing: no offset is missing."""
    expected = sum(span.end for span in header.spans if span.topic == header.decisions)
    return len(published) == expected


def recompute_command(args: argparse.Namespace) -> int:
    """`tidegate replay --internal`."""
    from tidegate.streams.output import open_output
    from tidegate.streams.policy_option import policy_named

    policy = policy_named(args.policy)
    header, records = _internal_log(args)
    recomputed, published = recompute(header, records, policy)
    if not args.compare:
        with open_output(args.out) as out:
            for decision in recomputed.decisions:
                if args.scope is None or fnmatch.fnmatchcase(decision.scope, args.scope):
                    out.write(encode_decision(decision) + b"\n")
        return 0
    result = compare(header, recomputed, published)
    with open_output(args.out) as out:
        for line in result.differences:
            out.write(line.encode() + b"\n")
    if not args.quiet:
        sys.stderr.write(
            f"{result.compared:,} published records compared, {len(result.differences):,} "
            f"differences, {result.pending:,} not published yet, {result.compacted:,} compacted "
            f"away, {result.before:,} from before the oldest snapshot\n"
        )
    return 1 if result.differences else 0


def _internal_log(args: argparse.Namespace) -> tuple[DumpHeader, Iterator[LogRecord]]:
    if len(args.files) > 1:
        raise UsageError("--internal takes one dump FILE, or none to read from Kafka")
    if args.files:
        return read_dump(args.files[0])
    return internal_log(kafka_config_of(args), topics_of(args))
