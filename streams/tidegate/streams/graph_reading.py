"""Where `tidegate graph` and `tidegate findings` take their views from: Kafka, recordings, a saved view."""

import argparse
import re
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.schemas.graph import GraphView, Parts, decode_view
from tidegate.streams.control_options import duration_ms_of, duration_text, local_text, now_ms
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.rules.outputs import Outputs
    from tidegate.streams.kafka_log import LogRecord
    from tidegate.streams.replay_input import InputCounts

__all__ = ["Assembly", "add_reading_options", "check_reading", "views_of"]

TICK_S = 0.25
STALE_MS = 120_000
"""A live view older than this is told as old: a graph stage publishes every few seconds."""

_STDIN = "-"
_WAIT_MAX_MS = 24 * 3_600_000
_SINCE_START = re.compile(r"\+(.+)")


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Adds --file, --at, --policy, --quiet, --view, --follow, --wait and Kafka's options."""
    files = parser.add_argument_group("from files instead of Kafka")
    files.add_argument(
        "--file",
        nargs="+",
        action="extend",
        metavar="RECORDING",
        help="replay recordings (as `tidegate replay` reads them; - is standard input)",
    )
    files.add_argument(
        "--at",
        metavar="TIME",
        help="of recordings: as it was then; +90s after the recording's start, or a date and time "
        "(2026-01-31T22:00:05, local unless it has an offset); default: at the end",
    )
    files.add_argument(
        "--policy",
        metavar="NAME|FILE",
        help="that judges recordings: a built-in policy or a YAML file (default: default)",
    )
    files.add_argument("--quiet", action="store_true", help="of recordings: no progress bar")
    files.add_argument(
        "--view",
        metavar="FILE",
        help="a graph that `tidegate graph --format json` wrote or a worker's HTTP port answered "
        "(- is standard input)",
    )
    live = parser.add_argument_group("live")
    live.add_argument("--follow", action="store_true", help="print anew whenever it changes")
    live.add_argument(
        "--wait",
        metavar="DURATION",
        help="how long to wait for a first graph (default: 15s)",
    )
    add_kafka_options(parser)


def check_reading(args: argparse.Namespace) -> None:
    """Raises UsageError for options that contradict each other."""
    if args.file and args.view:
        raise UsageError("--file and --view are two sources; give one")
    is_live = not (args.file or args.view)
    if not is_live and (args.brokers or args.follow or args.wait):
        option = "--brokers" if args.brokers else "--follow" if args.follow else "--wait"
        source = "--file" if args.file else "--view"
        raise UsageError(f"{option} reads from Kafka and {source} from a file; give one of them")
    for option, value in (("--at", args.at), ("--policy", args.policy), ("--quiet", args.quiet)):
        if value and not args.file:
            remedy = "Kafka keeps the newest graph only" if is_live else "a saved graph is as it is"
            raise UsageError(f"{option} goes with --file RECORDING ({remedy})")


def views_of(args: argparse.Namespace) -> Iterator[GraphView]:
    """Views, oldest first: of recordings all up to --at; of Kafka the newest, and with --follow each one
    that differs, for ever. Raises UsageError, and Failure where there is none.
    """
    if args.file:
        return _recorded(args)
    if args.view:
        return iter([_saved(args.view)])
    return _live(args)


class Assembly:
    """Puts views together from the records of the topic, which come one part at a time."""

    def __init__(self) -> None:
        self.view: GraphView | None = None
        """The newest that is whole."""
        self._parts = Parts()

    def apply(self, record: "LogRecord") -> None:
        """Takes one record; what is no part of a graph is named on stderr and skipped."""
        import msgspec

        if record.value is None:
            return
        try:
            part = decode_view(record.value)
        except msgspec.DecodeError as problem:
            where = f"{record.topic}[{record.partition}] offset {record.offset}"
            sys.stderr.write(f"tidegate: {where}: {problem}; skipped\n")
            return
        self.view = self._parts.add(part) or self.view


def _live(args: argparse.Namespace) -> Iterator[GraphView]:
    wait_ms = duration_ms_of("--wait", args.wait or "15s", max_ms=_WAIT_MAX_MS)
    config, topic = kafka_config_of(args), topics_of(args).graph
    told: GraphView | None = None
    for view in _followed(config, topic, wait_ms=wait_ms):
        if told is None:
            _tell_age(view)
        if told is None or not _is_same(view, told):
            yield view
        if not args.follow:
            return
        told = view


def _followed(config: Mapping[str, str], topic: str, *, wait_ms: int) -> Iterator[GraphView]:
    """The newest view once all of the topic was read, then each new one."""
    from tidegate.streams.kafka_log import follow_log, log_spans

    assembly, told = Assembly(), None
    spans = log_spans(config, [topic])
    behind = {(span.topic, span.partition) for span in spans}
    until_s = time.monotonic() + wait_ms / 1000
    for records, ended in follow_log(config, spans, tick_s=TICK_S):
        for record in records:
            assembly.apply(record)
        behind -= ended
        if assembly.view is not None and not behind and assembly.view is not told:
            told = assembly.view
            yield told
        if told is None and time.monotonic() > until_s:
            raise Failure(_none_text(topic, wait_ms, is_behind=bool(behind)))


def _none_text(topic: str, wait_ms: int, *, is_behind: bool) -> str:
    waited = duration_text(wait_ms)
    if is_behind:
        return f"topic {topic}: could not be read to its end within {waited}; --wait waits longer"
    return (
        f"topic {topic}: holds no graph yet (waited {waited}); check that a worker with the role "
        "graph runs (`tidegate run`), that spans arrive (`tidegate watch`), that --topic-prefix is "
        "the workers', and the topics (`tidegate topics check`)"
    )


def _is_same(view: GraphView, other: GraphView) -> bool:
    """But for when it was taken."""
    from msgspec.structs import replace

    return view == replace(other, boundary=view.boundary, window_end_ms=view.window_end_ms)


def _tell_age(view: GraphView) -> None:
    age_ms = now_ms() - view.window_end_ms
    if age_ms > STALE_MS:
        sys.stderr.write(
            f"tidegate: this graph is {duration_text(age_ms)} old: no worker with the role graph "
            "seems to run (`tidegate run`)\n"
        )


def _saved(path: str) -> GraphView:
    import msgspec

    try:
        data = sys.stdin.buffer.read() if path == _STDIN else Path(path).read_bytes()
    except OSError as problem:
        raise UsageError(
            f"{path}: {problem.strerror or problem}; give a file with a graph as JSON, or - for "
            "standard input"
        ) from problem
    expected = "expected what `tidegate graph --format json` writes"
    try:
        view = decode_view(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: is no graph ({problem}); {expected}") from problem
    if view.parts != 1:
        raise UsageError(f"{path}: is part {view.part} of {view.parts} of a graph; {expected}")
    return view


def _recorded(args: argparse.Namespace) -> Iterator[GraphView]:
    from tidegate.streams.policy_option import policy_named
    from tidegate.streams.replay import ProblemPrinter, check_files, progress

    moment = _Moment(args.at)
    check_files(args.file)
    policy = policy_named(args.policy or "default")

    from tidegate.rules.pipeline import Offline
    from tidegate.schemas.compiling import FIRST_USE, is_first_use
    from tidegate.streams.replay_input import ReplayInput

    if is_first_use() and not args.quiet:
        sys.stderr.write(f"tidegate: {FIRST_USE}\n")
    offline = Offline(policy)
    source = ReplayInput(args.file, on_problem=ProblemPrinter())

    def fed() -> "Iterator[Outputs]":
        for columns, times_ms in source:
            yield offline.feed_columns(columns, times_ms)
        yield offline.finish()

    found: GraphView | None = None
    first_ms: int | None = None
    with progress(source, is_shown=not args.quiet and sys.stderr.isatty()):
        for view in (view for outputs in fed() for view in outputs.views):
            first_ms = view.window_end_ms if first_ms is None else first_ms
            if moment.is_past(view.window_end_ms, source.counts.first_ms):
                break
            found = view
            yield view
    if found is None:
        raise Failure(_empty_text(args, source.counts, first_ms))


class _Moment:
    """What --at means. Raises UsageError for what is no time."""

    def __init__(self, text: str | None) -> None:
        self._after_ms: int | None = None
        self._at_ms: int | None = None
        if text is None:
            return
        since_start = _SINCE_START.fullmatch(text)
        if since_start:
            self._after_ms = duration_ms_of("--at", since_start[1], max_ms=366 * 86_400_000)
            return
        try:
            self._at_ms = int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
        except (ValueError, OverflowError, OSError) as problem:
            raise UsageError(
                f"--at: {text!r} is no time; give +90s after the recording's start, or a date and "
                "time: 2026-01-31T22:00:05"
            ) from problem

    def is_past(self, time_ms: int, start_ms: int | None) -> bool:
        """Whether a view's time lies behind it, in a recording that starts then."""
        if self._after_ms is not None:
            return start_ms is not None and time_ms > start_ms + self._after_ms
        return self._at_ms is not None and time_ms > self._at_ms


def _empty_text(args: argparse.Namespace, counts: "InputCounts", first_ms: int | None) -> str:
    files = ", ".join(args.file)
    if first_ms is not None:
        return f"--at {args.at}: {files} has its first graph at {local_text(first_ms)}; give a later time"
    if counts.undecodable and not counts.spans:
        return (
            f"{files}: nothing could be read; expected OTLP traces as the Collector's file exporter "
            "writes them"
        )
    return (
        f"{files}: no graph came of {counts.records:,} records with {counts.spans:,} spans over "
        f"{counts.event_s:,.1f} s; it takes SERVER or CLIENT spans over some seconds"
    )
