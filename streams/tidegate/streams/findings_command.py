"""`tidegate findings`: what is wrong with how services call each other, worst waste first."""

import argparse
import difflib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tidegate.schemas.graph import FINDING_NAMES, GraphFinding, GraphView
from tidegate.streams.errors import UsageError
from tidegate.streams.graph_reading import add_reading_options, check_reading, views_of

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["add_parser", "newest_of"]

_DESCRIPTION = """\
Lists what is wrong with how services call each other, not with one of them now, the most wasted
work first:

  cycle           requests really go round, through the same service again
  amplification   more calls per request than usual, as with retries
  gives_up_early  a caller gives up before its callee can answer
  deadline_grows  a time-out further down is longer than the one above it
  outlives        a callee works on after its caller has left
  network         much of the time is neither caller's nor callee's: network or queues

Reads the newest graph from Kafka, or makes it from a recording (--file) through the same stages;
of a recording every finding that was seen, as it was last."""
_EXAMPLES = """\
examples:
  tidegate findings --brokers localhost:9092
  tidegate findings --file incident.jsonl.zst --name outlives,gives_up_early
  tidegate findings --brokers localhost:9092 --json | jq 'select(.waste_s_per_min > 10) | .path'

exit status: 0 with and without findings; without any, stderr says so"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate findings`."""
    parser = subparsers.add_parser(
        "findings",
        help="list cycles, retry storms and time-outs that waste work",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "--name",
        action="append",
        metavar="NAME,...",
        help=f"only these: {', '.join(FINDING_NAMES)}",
    )
    parser.add_argument("--json", action="store_true", help="findings as JSON lines")
    add_reading_options(parser)
    parser.set_defaults(handler=_findings)


def _findings(args: argparse.Namespace) -> int:
    check_reading(args)
    names = _names_of(args.name)
    if args.follow:
        _follow(views_of(args), names, is_json=args.json)
        return 0
    _print(newest_of(views_of(args)), names, is_json=args.json)
    return 0


def newest_of(views: Iterable[GraphView]) -> list[GraphFinding]:
    """Every finding that was seen, by name and path, as it was last."""
    newest: dict[tuple[str, ...], GraphFinding] = {}
    for view in views:
        newest.update({_key(finding): finding for finding in view.findings})
    return list(newest.values())


def _follow(views: Iterator[GraphView], names: Sequence[str], *, is_json: bool) -> None:
    """As JSON each finding when it is new or changes, else the whole table."""
    told: list[GraphFinding] | None = None
    for view in views:
        found = _chosen(view.findings, names)
        if found == told:
            continue
        if is_json:
            _print([each for each in found if each not in (told or [])], names, is_json=True)
        else:
            if told is not None:
                sys.stdout.write("\n")
            _print(found, names, is_json=False)
        told = found
        sys.stdout.flush()


def _names_of(given: Sequence[str] | None) -> list[str]:
    names = [name.strip() for text in given or [] for name in text.split(",")]
    for name in names:
        if name not in FINDING_NAMES:
            near = difflib.get_close_matches(name, FINDING_NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FINDING_NAMES)}"
            raise UsageError(f"--name: {name!r} is no finding; {hint}")
    return names


def _key(finding: GraphFinding) -> tuple[str, ...]:
    return (finding.name, *finding.path)


def _chosen(findings: Iterable[GraphFinding], names: Sequence[str]) -> list[GraphFinding]:
    chosen = [finding for finding in findings if not names or finding.name in names]
    return sorted(chosen, key=lambda each: (-each.waste_s_per_min, _key(each)))


def _print(findings: Iterable[GraphFinding], names: Sequence[str], *, is_json: bool) -> None:
    chosen = _chosen(findings, names)
    if not chosen:
        named = f" named {', '.join(names)}" if names else ""
        sys.stderr.write(f"tidegate: no finding{named}\n")
        return
    if is_json:
        import msgspec

        encoder = msgspec.json.Encoder(order="deterministic")
        sys.stdout.buffer.write(b"".join(encoder.encode(each) + b"\n" for each in chosen))
        return
    table = _table(chosen)
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(table)
    else:
        from tidegate.streams.graph_formats import plain_text

        sys.stdout.buffer.write(plain_text(table).encode())


def _table(findings: Sequence[GraphFinding]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    from tidegate.streams.graph_formats.labels import shown
    from tidegate.streams.level_table import clock_text

    table = Table(box=None, pad_edge=False)
    table.add_column("waste", justify="right", no_wrap=True)
    table.add_column("finding", no_wrap=True)
    table.add_column("since", no_wrap=True)
    table.add_column("path", overflow="fold")
    table.add_column("reason", overflow="fold")
    for each in findings:
        waste = f"{each.waste_s_per_min:,.1f} s/min" if each.waste_s_per_min else "–"
        path = " -> ".join(shown(name) for name in each.path)
        cells = [waste, each.name, clock_text(each.since_ms), path, shown(each.reason)]
        table.add_row(*(Text(cell) for cell in cells))
    return table
