"""`tidegate replay --internal`: what follows from the internal log, recomputed, and compared with what was
published. That they are equal is the design's first law, so this is how it is tried on a live run.
"""

import argparse
import fnmatch
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from tidegate.schemas.decision import encode_decision
from tidegate.streams.comparison import (
    NEVER,
    SEQUENCER,
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
    from tidegate.rules.pipeline import Outputs
    from tidegate.rules.policy import Policy
    from tidegate.streams.log_stage import AnyEvaluator, Evaluators

__all__ = ["Comparison", "Recomputed", "compare", "recompute", "recompute_command"]


def recompute(
    header: DumpHeader, records: Iterable[LogRecord], policy: "Policy"
) -> tuple[Recomputed, Published]:
    """Feeds every partition's partials to an evaluator of its own, and health to the graph stage's; gives
    back what was published, too. `policy` is what workers were started with: what operators pushed is in
    these logs.

    A log whose first records are past their retention begins from the oldest snapshot that the rest
    continues. Raises Failure where partials have none; without one for health the graph stage is left out,
    and `left_out` says so.
    """
    from tidegate.streams.log_stage import evaluators_of_graph, evaluators_of_partials

    out, published = Recomputed(), Published()
    count = header.partitions_count
    of_partials = evaluators_of_partials(policy, partitions_count=count)
    of_graph = evaluators_of_graph(policy, partitions_count=count)
    partials = _Log(header, header.partials, of_partials, out, out.counters)
    health = _Log(header, header.health, of_graph, out, out.graph_counters)
    for record in records:
        if record.topic == header.partials:
            partials.feed(record)
        elif record.topic == header.snapshots:
            partials.remember(record)
        elif record.topic == header.graph_snapshots:
            health.remember(record)
        elif record.topic == header.decisions:
            published.decisions.append(record)
        if record.topic == header.health:
            health.feed(record)
        if record.topic in header.appended:
            try:
                one = appended_of(header, record)
            except msgspec.DecodeError as problem:
                where = f"{record.topic}[{record.partition}] offset {record.offset}"
                published.undecodable.append(f"{where}: can't be read ({problem})")
                continue
            if one.partition != SEQUENCER:
                published.appended.append(one)
    out.decisions.sort(key=lambda decision: (decision.boundary, decision.scope))
    return out, published


class _Log:
    """The evaluators of all partitions of a log, made when their first record comes."""

    def __init__(
        self,
        header: DumpHeader,
        topic: str,
        evaluators: "Evaluators",
        out: Recomputed,
        counters: Counter[str],
    ) -> None:
        self._out, self._counters = out, counters
        self._header, self._makes = header, evaluators
        self._spans = {s.partition: s for s in header.spans if s.topic == topic}
        self._snapshots: dict[bytes, bytes] = {}
        self._evaluators: dict[int, tuple[AnyEvaluator, int] | None] = {}
        """With the offset from which on each is fed; None for one that can't begin."""

    def remember(self, record: LogRecord) -> None:
        """A snapshot that was deleted since is as good as the others: it is older."""
        if record.key is not None and record.value is not None:
            self._snapshots[record.key] = record.value

    def feed(self, record: LogRecord) -> None:
        """One record of the log."""
        number = self._makes.first_number + record.partition
        if number not in self._evaluators:
            self._evaluators[number] = self._begin(self._spans[record.partition], number)
        found = self._evaluators[number]
        if found is None or record.value is None or record.offset < found[1]:
            return
        evaluator, out = found[0], self._out
        outputs = evaluator.feed(record.value, offset=record.offset, append_ms=record.append_ms)
        out.decisions += outputs.decisions
        self._counters.update(outputs.counters)
        for key, value in outputs.records():
            if value is None:
                out.tombstones.add(key.decode())
            else:
                out.values[key.decode(), boundary_of(value)] = value
        for one in self._appended(number, outputs):
            out.appended[one.name] = one
        if outputs.boundary is not None and outputs.counters["boundaries"]:
            out.ends.setdefault(number, []).append(outputs.boundary)

    def _appended(self, number: int, outputs: "Outputs") -> Iterator[Appended]:
        """As workers send them."""
        header = self._header
        for name, key, value in outputs.appended(number):
            yield appended_of(header, LogRecord(getattr(header, name), 0, -1, 0, key, value))

    def _begin(self, span: Span, number: int) -> "tuple[AnyEvaluator, int] | None":
        from tidegate.rules.standing import Manifest
        from tidegate.streams.snapshot_table import newest_first

        if span.low == 0:
            return self._makes.begin(number), 0
        for stored in reversed(list(newest_first(self._snapshots, number))):
            manifest = msgspec.msgpack.decode(stored.manifest, type=Manifest)
            if not span.low <= manifest.start_offset <= manifest.offset < span.end:
                continue
            try:
                evaluator = self._makes.restore(number, stored.manifest, stored.chunks)
            except ValueError:
                continue  # half deleted: a newer one will do
            self._out.begins_after[number] = manifest.boundary
            return evaluator, manifest.start_offset
        problem = (
            f"{span.topic}[{span.partition}]: begins at offset {span.low}, since older records are past "
            "their retention, and no snapshot was found that the rest continues"
        )
        if span.topic == self._header.partials:
            raise Failure(f"{problem}; try again later, or dump while the log is whole")
        # Of an installation that has no graph stage, or had none until now.
        self._out.begins_after[number] = NEVER
        self._out.left_out.append(f"{problem}: the graph stage is left out")
        return None


def recompute_command(args: argparse.Namespace) -> int:
    """`tidegate replay --internal`."""
    from tidegate.streams.output import open_output
    from tidegate.streams.policy_option import policy_named

    policy = policy_named(args.policy)
    header, records = _internal_log(args)
    recomputed, published = recompute(header, records, policy)
    for told in recomputed.left_out:
        sys.stderr.write(f"tidegate: {told}\n")
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
