"""The `tidegate` command: parses arguments, calls the command's handler, turns errors into exit statuses.

0 done, 1 failure, 2 wrong usage, 130 Ctrl-C. A command is a module with `add_parser(subparsers)`, which
adds one parser and sets its `handler`, a function (args) -> exit status or None. Command modules import
what they need inside their handlers: `tidegate --help` loads neither numba nor Faust.
"""

import argparse
import difflib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from tidegate.streams.errors import Failure, UsageError

__all__ = ["COMMAND_MODULES", "build_parser", "main"]

COMMAND_MODULES = {
    "demo": "demo",
    "topics": "topics_admin",
    "run": "run",
    "watch": "watch",
    "graph": "graph_command",
    "findings": "findings_command",
    "replay": "replay",
    "dump": "dump",
    "policy": "policy_command",
    "override": "override_command",
    "silence": "silence_command",
    "test": "policy_test",
    "alert": "alert",
}
"""Command to module of `tidegate.streams`, in the order in which `--help` lists them."""

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE

_DESCRIPTION = """\
Graded circuit-breaker decisions from OpenTelemetry traces on Kafka.

Services put OTLP spans on Kafka; workers fold them into 30-second windows, score every
service and every dependency, and publish a level for each; a thin client obeys it."""
_EXAMPLES = """\
examples:
  tidegate demo                                       the main job, no Kafka needed
  tidegate topics create --brokers localhost:9092     make the topics
  tidegate run --brokers localhost:9092               start a worker
  tidegate watch --brokers localhost:9092             follow levels as a table
  tidegate graph --brokers localhost:9092             who calls whom, and how well
  tidegate replay traces.jsonl.zst --out decisions.jsonl

exit status: 0 done, 1 failure, 2 wrong usage, 130 interrupted
`tidegate COMMAND --help` says more about a command."""


class _Parser(argparse.ArgumentParser):
    """Raises UsageError instead of exiting, and takes no shortened options: a script that says
    `--s` today must not mean something else tomorrow.
    """

    def __init__(self, **settings: object) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        settings.setdefault("allow_abbrev", False)
        super().__init__(**settings)  # type: ignore[arg-type]  # argparse's own keywords, unchanged

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. Prints at most one line about what went wrong,
    unless `--debug` is given.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in arguments
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except UsageError as problem:
        return _fail(problem, EXIT_USAGE, is_debug=is_debug)
    except Failure as problem:
        return _fail(problem, EXIT_FAILURE, is_debug=is_debug)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, say) has gone; Python would complain again when it flushes at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as problem:  # noqa: BLE001 - the last resort: users get a line, not a traceback
        text = f"unexpected {type(problem).__name__}: {problem}"
        if not is_debug:
            text += "; please report it with the output of the same command and --debug"
        return _fail(problem, EXIT_FAILURE, is_debug=is_debug, text=text)
    return status


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or just one command of it. Loads the modules, but nothing heavy."""
    parser = _Parser(prog="tidegate", description=_DESCRIPTION, epilog=_EXAMPLES)
    parser.add_argument("--version", action="version", version=f"tidegate {_version()}")
    _add_debug(parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name in COMMAND_MODULES if command is None else [command]:
        module = importlib.import_module(f"tidegate.streams.{COMMAND_MODULES[name]}")
        module.add_parser(subparsers)
    for subparser in _subcommands(parser).values():
        _add_debug_below(subparser)
    return parser


def _run(arguments: list[str]) -> int:
    command = next((text for text in arguments if not text.startswith("-")), None)
    if command is not None and command not in COMMAND_MODULES:
        near = difflib.get_close_matches(command, COMMAND_MODULES, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(COMMAND_MODULES)}"
        raise UsageError(f"unknown command {command!r}; {hint}")
    parser = build_parser(command)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UsageError(_unknown_text(parser, args.command, unknown))
    handler = getattr(args, "handler", None)
    if handler is None:
        command = f"tidegate {args.command}" if args.command else "tidegate"
        raise UsageError(f"what should `{command}` do? see `{command} --help`")
    status = handler(args)
    return 0 if status is None else int(status)


def _fail(problem: BaseException, status: int, *, is_debug: bool, text: str | None = None) -> int:
    if is_debug:
        traceback.print_exception(problem)
    print(f"tidegate: {text or problem}", file=sys.stderr)
    return status


def _unknown_text(parser: argparse.ArgumentParser, command: str | None, unknown: list[str]) -> str:
    prog = f"tidegate {command}" if command else "tidegate"
    first = unknown[0].partition("=")[0]
    if not first.startswith("-"):
        return f"{prog}: unexpected argument {unknown[0]!r}; see `{prog} --help`"
    known = _subcommands(parser).get(command or "", parser)
    options = [text for action in known._actions for text in action.option_strings]  # noqa: SLF001 - argparse has no public list
    near = difflib.get_close_matches(first, options, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{prog}: unknown option {first}; {hint}see `{prog} --help`"


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no other way
            return dict(action.choices)
    return {}


def _add_debug_below(parser: argparse.ArgumentParser) -> None:
    _add_debug(parser)
    for command in _subcommands(parser).values():
        _add_debug_below(command)


def _add_debug(parser: argparse.ArgumentParser) -> None:
    """`--debug` may stand before or after the command's name; `main` looks for it by itself, since it
    matters where parsing fails too.
    """
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error",
    )


def _version() -> str:
    try:
        return metadata.version("tidegate")
    except metadata.PackageNotFoundError:
        return "0 (not installed)"


if __name__ == "__main__":
    sys.exit(main())
