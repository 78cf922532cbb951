"""`tidegate watch`: follows decisions and scores; a live table, lines of text, or JSON lines."""

import argparse
import fnmatch
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.schemas.decision import Decision
    from tidegate.streams.board import Board, Row
    from tidegate.streams.kafka_log import LogRecord

__all__ = ["Follower", "add_parser"]

TICK_S = 0.25

_DESCRIPTION = """\
Follows the levels that are decided: every service and every dependency, worst first, with the
score of the last 500 ms. Where the output is no terminal, a line for each change instead.

With --json a decision a line: the newest of each scope first, then each as it is published."""
_EXAMPLES = """\
examples:
  tidegate watch --brokers localhost:9092
  tidegate watch --brokers localhost:9092 --scope 'edge:web->*'
  tidegate watch --brokers localhost:9092 --once
  tidegate watch --kafka-config kafka.properties --json | jq 'select(.level != "closed")'"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate watch`."""
    parser = subparsers.add_parser(
        "watch",
        help="follow levels and scores as a live table",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "--scope", metavar="GLOB", help="only scopes that match, such as 'service:*'"
    )
    parser.add_argument("--json", action="store_true", help="decisions as JSON lines")
    parser.add_argument("--once", action="store_true", help="print what is known now, then exit")
    add_kafka_options(parser)
    parser.set_defaults(handler=_watch)


class Follower:
    """Keeps a Board up to date from the decisions and health topics.

    Decisions are read from the beginning (the topic is compacted), scores from now on.
    """

    def __init__(self, config: dict[str, str], *, decisions: str, health: str) -> None:
        """Raises Failure where the broker doesn't answer or a topic is missing."""
        from tidegate.streams.board import Board
        from tidegate.streams.kafka_log import Span, log_spans

        self.board: Board = Board()
        self._config = config
        self._decisions_topic = decisions
        spans = log_spans(config, [decisions, health])
        self._behind = {(s.topic, s.partition) for s in spans if s.topic == decisions}
        self._spans = [
            s if s.topic == decisions else Span(s.topic, s.partition, s.end, s.end) for s in spans
        ]

    @property
    def is_caught_up(self) -> bool:
        """Whether all decisions have been read that were there at the start."""
        return not self._behind

    def ticks(self) -> "Iterator[list[Decision]]":
        """New decisions, at least every TICK_S a list, for ever."""
        from tidegate.streams.kafka_log import follow_log

        for records, ended in follow_log(self._config, self._spans, tick_s=TICK_S):
            now_ms = _now_ms()
            news = [self._apply(record, now_ms) for record in records]
            self._behind -= ended
            yield [decision for decision in news if decision is not None]

    def _apply(self, record: "LogRecord", now_ms: int) -> "Decision | None":
        from tidegate.schemas.health import decode_health

        try:
            if record.topic == self._decisions_topic:
                return self.board.apply_decision(record.key or b"", record.value, now_ms=now_ms)
            if record.value is not None:
                self.board.apply_health(decode_health(record.value))
        except ValueError as problem:
            where = f"{record.topic}[{record.partition}] offset {record.offset}"
            sys.stderr.write(f"tidegate: {where}: {problem}; skipped\n")
        return None


def _watch(args: argparse.Namespace) -> int:
    config, topics = kafka_config_of(args), topics_of(args)
    follower = Follower(config, decisions=topics.decisions, health=topics.health)
    if args.json:
        _json_lines(follower, args.scope, is_once=args.once)
    elif args.once:
        _table_once(follower, args.scope)
    elif sys.stdout.isatty():
        _live_table(follower, args.scope)
    else:
        _text_lines(follower, args.scope)
    return 0


def _json_lines(follower: Follower, scope: str | None, *, is_once: bool) -> None:
    from tidegate.schemas.decision import encode_decision

    newest: dict[str, Decision] = {}
    is_told = False
    for news in follower.ticks():
        told = news
        if not is_told:
            newest.update({decision.scope: decision for decision in news})
            if not follower.is_caught_up:
                continue
            told, is_told = [newest[name] for name in sorted(newest)], True
        for decision in told:
            if _matches(decision.scope, scope):
                sys.stdout.write(encode_decision(decision).decode() + "\n")
        sys.stdout.flush()
        if is_once:
            return


def _table_once(follower: Follower, scope: str | None) -> None:
    from rich.console import Console

    from tidegate.streams.level_table import level_table

    for _ in follower.ticks():
        if follower.is_caught_up:
            break
    console = Console()
    rows = _rows(follower.board, scope)
    console.print(
        level_table(rows, width=console.width) if rows else "no decision was published yet"
    )


def _text_lines(follower: Follower, scope: str | None) -> None:
    from tidegate.streams.level_table import change_line

    is_told = False
    for news in follower.ticks():
        if not follower.is_caught_up:
            continue
        changed = {decision.scope for decision in news}
        rows = _rows(follower.board, scope)
        for row in rows:
            if row.scope in changed or not is_told:
                sys.stdout.write(change_line(row) + "\n")
        is_told = True
        sys.stdout.flush()


def _live_table(follower: Follower, scope: str | None) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from tidegate.streams.level_table import clock_text, level_table

    console = Console()
    with Live(console=console, screen=False, auto_refresh=False) as live:
        drawn_s = 0.0
        for _ in follower.ticks():
            if time.monotonic() - drawn_s < TICK_S:
                continue
            drawn_s = time.monotonic()
            rows = _rows(follower.board, scope)
            worse = sum(row.severity > 0 for row in rows)
            head = Text(f"{clock_text(_now_ms())}  {len(rows)} scopes, {worse} not closed")
            if not rows:
                head.append("; nothing was decided yet (is a worker running?)", style="dim")
            table = level_table(rows, rows_max=max(console.height - 5, 5), width=console.width)
            live.update(Group(head, table), refresh=True)


def _rows(board: "Board", scope: str | None) -> "list[Row]":
    return [row for row in board.rows(now_ms=_now_ms()) if _matches(row.scope, scope)]


def _matches(text: str, scope: str | None) -> bool:
    return scope is None or fnmatch.fnmatchcase(text, scope)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
