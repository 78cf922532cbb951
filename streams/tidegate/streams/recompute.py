"""`tidegate replay --internal`: what follows from the internal log, recomputed, and compared with what was
published. That they are equal is the design's first law, so this is how it is tried on a live run.
"""

import argparse
import fnmatch
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from tidegate.schemas.decision import encode_decision
from tidegate.streams.comparison import (
    Appended,
    Comparison,
    Published,
    Recomputed,
    appended_of,
    boundary_of,
    compare,
)
from tidegate.streams.dump import DumpHeader, internal_log, read_dump
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_log import LogRecord, Span
from tidegate.streams.kafka_options import kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.rules.pipeline import Evaluator, Outputs
    from tidegate.rules.policy import Policy

__all__ = ["Comparison", "Recomputed", "compare", "recompute", "recompute_command"]


def recompute(
    header: DumpHeader, records: Iterable[LogRecord], policy: "Policy"
) -> tuple[Recomputed, Published]:
    """Feeds every partition's partials to an evaluator of its own; gives back what was published, too.
    `policy` is what workers were started with: what operators pushed is in the partials.

    A partition whose first records are past their retention begins from the oldest snapshot that the
    rest continues; raises Failure where there is none.
    """
    log = _Partials(header, policy)
    out, published = log.out, Published()
    for record in records:
        if record.topic == header.partials:
            log.feed(record)
        elif record.topic == header.snapshots:
            log.remember(record)
        elif record.topic == header.decisions:
            published.decisions.append(record)
        elif record.topic in header.appended:
            try:
                published.appended.append(appended_of(header, record))
            except msgspec.DecodeError as problem:
                where = f"{record.topic}[{record.partition}] offset {record.offset}"
                published.undecodable.append(f"{where}: can't be read ({problem})")
    out.decisions.sort(key=lambda decision: (decision.boundary, decision.scope))
    return out, published


class _Partials:
    """The evaluators of all partitions, made when their first record comes."""

    def __init__(self, header: DumpHeader, policy: "Policy") -> None:
        self.out = Recomputed()
        self._header, self._policy = header, policy
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
                self.out.values[key.decode(), boundary_of(value)] = value
        for one in self._appended(record.partition, outputs):
            self.out.appended[one.name] = one
        if outputs.boundary is not None and outputs.counters["boundaries"]:
            self.out.ends.setdefault(record.partition, []).append(outputs.boundary)

    def _appended(self, partition: int, outputs: "Outputs") -> Iterator[Appended]:
        """As evaluate sends them."""
        header = self._header
        for name, key, value in outputs.appended(partition):
            yield appended_of(header, LogRecord(getattr(header, name), 0, -1, 0, key, value))

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
            f"away, {result.expired:,} past their topic's retention, {result.before:,} from before "
            "the oldest snapshot\n"
        )
    return 1 if result.differences else 0


def _internal_log(args: argparse.Namespace) -> tuple[DumpHeader, Iterator[LogRecord]]:
    if len(args.files) > 1:
        raise UsageError("--internal takes one dump FILE, or none to read from Kafka")
    if args.files:
        return read_dump(args.files[0])
    return internal_log(kafka_config_of(args), topics_of(args))
