"""`tidegate graph`: the dependency graph with its health, as text or as a picture."""

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.graph_reading import add_reading_options, check_reading, views_of
from tidegate.streams.output import open_output

if TYPE_CHECKING:
    from tidegate.schemas.graph import GraphView
    from tidegate.streams.graph_formats import Selection

__all__ = ["FORMATS", "add_parser"]

FORMATS = ("text", "json", "dot", "mermaid", "svg")
NODES_MAX = 200
"""Default of --max-nodes, but for JSON: more can't be read in a picture."""

_STDOUT = "-"
_DESCRIPTION = """\
Shows which service calls which, and how well: for each entry (a service that gets requests from
outside) all that a request entering there may need, with what its callers see of each: level,
calls a second, errors, P95. Under an entry that isn't well stand its likeliest root causes.

Reads the newest graph from Kafka, or makes it from a recording (--file) through the same stages.
ENTRY shows only what these services reach. Large graphs are cut (--max-nodes): the worst nodes
stay, each with a way to it, and the output says how much was left out.

--format json is one object for jq; text, dot, mermaid and svg are the same facts for people."""
_EXAMPLES = """\
examples:
  tidegate graph --brokers localhost:9092
  tidegate graph web --brokers localhost:9092 --follow
  tidegate graph --file incident.jsonl.zst --at +90s
  tidegate graph web --file incident.jsonl.zst --format svg --out incident.svg
  tidegate graph --brokers localhost:9092 --format dot | dot -Tpng > graph.png
  tidegate graph --brokers localhost:9092 --format json | jq '.entries[] | select(.level != "closed")'
  curl -s http://worker:9100/graph | tidegate graph --view - --format mermaid

marks: [entry] gets requests from outside; [virtual] answers, but is no service that sends spans (a
database, a mesh, a dead service); [L3] times out or hangs; a finding's name (`tidegate findings`);
"itself": its own view, where it differs from its caller's."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate graph`."""
    parser = subparsers.add_parser(
        "graph",
        help="show the dependency graph with its health",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "entries", nargs="*", metavar="ENTRY", help="only what these services reach"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="of the output (default: %(default)s)"
    )
    parser.add_argument(
        "--out", default=_STDOUT, metavar="PATH", help="where it goes (default: stdout)"
    )
    parser.add_argument(
        "--max-nodes",
        type=int,
        metavar="N",
        help=f"show at most so many nodes (default: {NODES_MAX}; json: all)",
    )
    add_reading_options(parser)
    parser.set_defaults(handler=_graph)


def _graph(args: argparse.Namespace) -> int:
    check_reading(args)
    if args.max_nodes is not None and args.max_nodes < 1:
        raise UsageError(f"--max-nodes {args.max_nodes}: shows nothing; give 1 or more")
    if args.follow and args.format not in ("text", "json") and args.out == _STDOUT:
        raise UsageError(
            f"--follow with --format {args.format} needs --out PATH: the file is then written anew "
            "whenever the graph changes"
        )
    if args.follow:
        for number, view in enumerate(views_of(args)):
            _show_followed(view, args, is_first=number == 0)
        return 0
    # The file is opened first: a recording must not be read for nothing.
    with nullcontext() if args.out == _STDOUT else open_output(args.out) as out:
        shown = _selected(_last(views_of(args)), args)
        if out is None:
            _print(shown, args)
        else:
            out.write(_rendered(shown, args.format).encode())
    return 0


def _last(views: "Iterator[GraphView]") -> "GraphView":
    return deque(views, maxlen=1).pop()


def _show_followed(view: "GraphView", args: argparse.Namespace, *, is_first: bool) -> None:
    try:
        shown = _selected(view, args)
    except Failure as problem:
        if is_first:
            raise
        sys.stderr.write(f"tidegate: {problem}\n")  # it aged out, and may come back
        return
    if args.out != _STDOUT:
        with open_output(args.out) as out:
            out.write(_rendered(shown, args.format).encode())
        return
    if args.format == "text" and not is_first:
        if sys.stdout.isatty():
            from rich.console import Console

            Console().clear()
        else:
            sys.stdout.write("\n")
    _print(shown, args)
    sys.stdout.flush()


def _selected(view: "GraphView", args: argparse.Namespace) -> "Selection":
    from tidegate.streams.graph_formats import select

    nodes_max = args.max_nodes
    if nodes_max is None and args.format != "json":
        nodes_max = NODES_MAX
    return select(view, args.entries, nodes_max=nodes_max)


def _print(shown: "Selection", args: argparse.Namespace) -> None:
    if args.format == "text" and sys.stdout.isatty():
        from rich.console import Console

        from tidegate.streams.graph_formats import tree

        Console().print(tree(shown))
        return
    with open_output(_STDOUT) as out:
        out.write(_rendered(shown, args.format).encode())


def _rendered(shown: "Selection", form: str) -> str:
    from tidegate.schemas.graph import encode_view
    from tidegate.streams import graph_formats

    if form == "json":
        if shown.cut_text:
            sys.stderr.write(f"tidegate: {shown.cut_text}\n")
        return encode_view(shown.view).decode() + "\n"
    if form == "text":
        return graph_formats.plain_text(graph_formats.tree(shown))
    if form == "dot":
        return graph_formats.dot(shown)
    if form == "svg":
        return graph_formats.svg(shown)
    text = graph_formats.mermaid(shown)
    _tell_mermaids_limits(len(shown.view.edges), len(text))
    return text


def _tell_mermaids_limits(edges_count: int, chars_count: int) -> None:
    from tidegate.streams.graph_formats import MERMAID_CHARS_MAX, MERMAID_EDGES_MAX

    if edges_count > MERMAID_EDGES_MAX or chars_count > MERMAID_CHARS_MAX:
        sys.stderr.write(
            f"tidegate: Mermaid draws at most {MERMAID_EDGES_MAX} edges and {MERMAID_CHARS_MAX:,} "
            f"characters by default, and this has {edges_count:,} and {chars_count:,}; name an "
            "ENTRY, or give a smaller --max-nodes\n"
        )
