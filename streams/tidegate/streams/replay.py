"""`tidegate replay`: decisions of recorded traffic, offline, through the very stages that run live.

The output is a function of the input's bytes and the policy: no clock is read but for the speed on
stderr. With `--internal` the input is the internal log of a live run (see `recompute`).
"""

import argparse
import fnmatch
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_options import add_kafka_options
from tidegate.streams.output import open_output

if TYPE_CHECKING:
    from tidegate.rules.outputs import Outputs
    from tidegate.streams.recordings import Problem
    from tidegate.streams.replay_input import InputCounts, ReplayInput

__all__ = ["DecisionWriter", "ProblemPrinter", "add_parser", "check_files", "progress"]

PROBLEMS_SHOWN_MAX = 10
_STDOUT = "-"

_DESCRIPTION = """\
Decides recorded traffic offline and writes one decision (JSON) a line, ordered by boundary, then
scope. The same input and policy always give the same bytes.

FILE is OTLP as the Collector's file exporter writes it: JSON lines or length-delimited
protobuf; plain, gzip or zstd; told from the content, not the name. `-` reads standard input.
Several files are merged by time. Bad lines are named on stderr, counted and skipped.

With --internal the input is the internal log of a live run instead: read from Kafka, or from
FILE as `tidegate dump` wrote it. --compare then tells where the decisions that were published
differ from those recomputed, and exits with 1 if any does."""
_EXAMPLES = """\
examples:
  tidegate replay traces.jsonl.zst
  tidegate replay day1.binpb day2.binpb --out decisions.jsonl --policy shop.yaml
  tidegate replay traces.jsonl --scope 'edge:*->payments' | jq .level
  zcat traces.jsonl.gz | tidegate replay - --policy reference
  tidegate replay --internal --brokers localhost:9092 --compare
  tidegate replay --internal incident.dump --compare"""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did, on stderr: for people, or as JSON with --json."""

    records: int
    spans: int
    undecodable: int
    """Records, or pieces of a file, that could not be read."""
    late: int
    """Spans that were older than the window when their record came."""
    decisions: int
    event_s: float
    """Seconds of recorded time."""
    elapsed_s: float
    counters: dict[str, int]
    """Every other loss or oddity that was counted, by name."""

    def text(self) -> str:
        """One or two lines for people."""
        speed = self.event_s / self.elapsed_s if self.elapsed_s else 0.0
        line = (
            f"{self.records:,} records, {self.spans:,} spans, {self.undecodable:,} undecodable, "
            f"{self.late:,} late, {self.decisions:,} decisions; {self.event_s:,.1f} s of recorded "
            f"time in {self.elapsed_s:,.1f} s ({speed:,.0f} times real time, "
            f"{self.spans / self.elapsed_s if self.elapsed_s else 0:,.0f} spans/s)"
        )
        others = ", ".join(f"{name} {count:,}" for name, count in sorted(self.counters.items()))
        return f"{line}\nalso counted: {others}" if others else line


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate replay`."""
    parser = subparsers.add_parser(
        "replay", help="decide recorded traffic offline", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="recordings, or - for standard input"
    )
    parser.add_argument(
        "--out", default=_STDOUT, metavar="PATH", help="where decisions go (default: stdout)"
    )
    parser.add_argument(
        "--policy",
        default="default",
        metavar="NAME|FILE",
        help="a built-in policy (default, reference) or a YAML file (default: %(default)s)",
    )
    parser.add_argument(
        "--scope",
        metavar="GLOB",
        help="write only decisions whose scope matches, such as 'service:*' or 'edge:cart->*'",
    )
    parser.add_argument("--json", action="store_true", help="summary on stderr as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    internal = parser.add_argument_group("recomputing a live run")
    internal.add_argument(
        "--internal", action="store_true", help="read the internal log: of Kafka, or a dump FILE"
    )
    internal.add_argument(
        "--compare",
        action="store_true",
        help="print differences to the published decisions instead of decisions; exit 1 on any",
    )
    add_kafka_options(parser)
    parser.set_defaults(handler=_replay)


class DecisionWriter:
    """Writes decisions as lines, those whose scope matches, and counts what came out."""

    def __init__(self, out: BinaryIO, scope: str | None) -> None:
        self._out = out
        self._scope = scope
        self.decisions = 0
        self.counters: Counter[str] = Counter()

    def write(self, outputs: "Outputs") -> None:
        """Writes one feed's decisions, which come ordered by boundary and scope."""
        from tidegate.schemas.decision import encode_decision

        self.counters.update(outputs.counters)
        for decision in outputs.decisions:
            if self._scope is None or fnmatch.fnmatchcase(decision.scope, self._scope):
                self._out.write(encode_decision(decision) + b"\n")
                self.decisions += 1


def _replay(args: argparse.Namespace) -> int:
    if args.internal:
        from tidegate.streams.recompute import recompute_command

        return recompute_command(args)
    if args.compare:
        raise UsageError("--compare needs --internal: recordings hold no published decisions")
    if args.brokers:
        raise UsageError("--brokers needs --internal; a recording is read from FILE")
    if not args.files:
        raise UsageError("no FILE given; name recordings, or - for standard input")
    check_files(args.files)
    from tidegate.streams.policy_option import policy_named

    policy = policy_named(args.policy)
    with open_output(args.out) as out:
        from tidegate.rules.pipeline import Offline
        from tidegate.schemas.compiling import FIRST_USE, is_first_use
        from tidegate.streams.replay_input import ReplayInput

        if is_first_use() and not args.quiet and not args.json:
            sys.stderr.write(f"tidegate: {FIRST_USE}\n")
        offline = Offline(policy)
        source = ReplayInput(args.files, on_problem=ProblemPrinter())
        writer = DecisionWriter(out, args.scope)
        started = time.monotonic()
        with progress(source, is_shown=not args.quiet and sys.stderr.isatty()):
            for columns, times_ms in source:
                writer.write(offline.feed_columns(columns, times_ms))
            writer.write(offline.finish())
        elapsed_s = time.monotonic() - started
    writer.counters.update(offline.counters)
    summary = _summary(source.counts, writer, elapsed_s)
    if not args.quiet:
        text = msgspec.json.encode(summary).decode() if args.json else summary.text()
        sys.stderr.write(text + "\n")
    if source.counts.undecodable and not source.counts.spans:
        raise Failure(
            f"{', '.join(args.files)}: nothing could be read; expected OTLP traces as the "
            "Collector's file exporter writes them"
        )
    return 0


def check_files(files: Sequence[str]) -> None:
    """Raises UsageError for recordings that can't be opened or are named twice: told before anything is loaded."""
    from tidegate.streams.recordings import STDIN, open_recording

    for file in files:
        if files.count(file) > 1:
            raise UsageError(f"{file} is named twice; its spans would count twice")
        if file != STDIN:
            open_recording(file).close()


def _summary(counts: "InputCounts", writer: DecisionWriter, elapsed_s: float) -> Summary:
    counters = {name: n for name, n in writer.counters.items() if n and name not in _SUMMED}
    return Summary(
        records=counts.records,
        spans=counts.spans,
        undecodable=counts.undecodable,
        late=writer.counters["late"],
        decisions=writer.decisions,
        event_s=round(counts.event_s, 3),
        elapsed_s=round(elapsed_s, 3),
        counters=counters,
    )


_SUMMED = frozenset({"boundaries", "cells", "late", "requests", "undecodable"})
"""Said by name elsewhere, or no loss and no oddity."""


class ProblemPrinter:
    """Names the first problems on stderr, and then says once that it goes on counting."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, problem: "Problem") -> None:
        """Takes one more."""
        self._shown += 1
        if self._shown <= PROBLEMS_SHOWN_MAX:
            sys.stderr.write(f"tidegate: {problem}\n")
        elif self._shown == PROBLEMS_SHOWN_MAX + 1:
            sys.stderr.write("tidegate: more like these are counted, not shown\n")


@contextmanager
def progress(source: "ReplayInput", *, is_shown: bool) -> Iterator[None]:
    """A bar on stderr by bytes of the files, drawn ten times a second from a thread of rich's own."""
    if not is_shown:
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    counts = source.counts

    class Figures(ProgressColumn):
        """Bytes and spans so far, read when drawn."""

        def render(self, task: Task) -> Text:
            bar.update(task.id, completed=counts.bytes_read, refresh=False)
            return Text(f"{counts.spans:,} spans, {counts.event_s:,.0f} s of recorded time")

    sizes = [Path(file).stat().st_size for file in source.files if file != _STDOUT]
    total = sum(sizes) if len(sizes) == len(source.files) else None
    bar = Progress(
        "replay",
        BarColumn(),
        Figures(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        bar.add_task("replay", total=total)
        yield
