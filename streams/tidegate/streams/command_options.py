"""What several commands have in common: how a subcommand is added, --json, and a long-running command's
metrics and log."""

import argparse

from tidegate.streams.errors import UsageError

__all__ = ["add_command", "add_json_option", "add_output_options", "check_metrics_port"]


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """A subcommand with a line for the list, a description and examples. (Its parser is made as its
    parent's: it keeps line breaks.)"""
    return commands.add_parser(name, help=text, description=description, epilog=examples)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Adds --metrics-port, --metrics-host, --log-format and --log-level."""
    out = parser.add_argument_group("output")
    out.add_argument(
        "--metrics-port",
        type=int,
        default=0,
        metavar="PORT",
        help="serve /metrics, /healthz and /readyz here (default: 0, not at all)",
    )
    out.add_argument(
        "--metrics-host",
        default="0.0.0.0",  # noqa: S104 - Prometheus scrapes from elsewhere
        metavar="ADDRESS",
        help="on this address (default: %(default)s)",
    )
    out.add_argument(
        "--log-format",
        choices=("console", "json"),
        default="console",
        help="of the log on stderr (default: %(default)s)",
    )
    out.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="of our own lines (default: %(default)s)",
    )


def check_metrics_port(args: argparse.Namespace) -> None:
    """Raises UsageError for what is no port."""
    if not 0 <= args.metrics_port <= 65_535:
        raise UsageError(f"--metrics-port {args.metrics_port}: is no port; give 0 to 65535")
