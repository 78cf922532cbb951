"""`tidegate run`: a worker."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.streams.command_options import add_output_options, check_metrics_port
from tidegate.streams.errors import UsageError
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.streams.worker_settings import WorkerSettings

__all__ = ["add_parser", "worker_settings_of"]

_ROLES = ("all", "ingest", "evaluate", "graph")
_DESCRIPTION = """\
Runs a worker: ingest folds OTLP spans into blocks, evaluate scores them and publishes levels, the
graph stage judges what they mean together: inbound:NAME, graph:ENTRY, root causes. One process
does all three; --role splits them. Start more workers of the same kind, on this or other machines,
and they share the partitions (the graph stage has one); one that dies is replaced by the others.

A worker waits for its broker and its topics, says so once, and goes on when they are there. It
ends in good order on SIGTERM or Ctrl-C, and a worker that was killed loses and repeats nothing."""
_EXAMPLES = """\
examples:
  tidegate run --brokers localhost:9092
  tidegate run --brokers kafka-1:9093,kafka-2:9093 --kafka-config client.properties
  tidegate run --brokers localhost:9092 --role ingest --metrics-port 9464
  tidegate run --brokers localhost:9092 --policy shop.yaml --log-format json

exit status: 0 after a signal, 1 failure (topics that don't fit, a bug), 2 wrong usage"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate run`."""
    parser = subparsers.add_parser(
        "run", help="start a worker", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    add_kafka_options(parser)
    worker = parser.add_argument_group("worker")
    worker.add_argument(
        "--role",
        choices=_ROLES,
        default="all",
        help="what this worker does (default: %(default)s, that is ingest, evaluate and graph)",
    )
    worker.add_argument(
        "--policy",
        default="default",
        metavar="NAME|FILE",
        help="a built-in policy (default, reference) or a YAML file; the same for all workers "
        "(default: %(default)s)",
    )
    worker.add_argument(
        "--session-timeout-s",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="after this silence a worker's partitions go to others (default: %(default)s)",
    )
    worker.add_argument(
        "--delivery-timeout-s",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long a send may take while the broker is away (default: %(default)s)",
    )
    worker.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="a writable folder (default: a temporary one; nothing in it must be kept)",
    )
    add_output_options(parser)
    parser.set_defaults(handler=_run)


def _run(args: argparse.Namespace) -> int:
    settings = worker_settings_of(args)  # cheap checks first: Faust takes a second to load
    from tidegate.streams.logs import configure_logs, get_logger
    from tidegate.streams.policy_option import policy_named
    from tidegate.streams.worker_settings import check_timing

    policy = policy_named(args.policy)
    check_timing(settings, policy)
    configure_logs(args.log_format, args.log_level)
    get_logger("worker").info(
        "worker starts",
        brokers=settings.kafka["bootstrap.servers"],
        roles=sorted(settings.roles),
        policy=policy.label,
    )
    for warning in policy.warnings:
        get_logger("worker").warning(warning, policy=policy.label)
    from tidegate.schemas.compiling import FIRST_USE, is_first_use

    if is_first_use():
        get_logger("worker").info(FIRST_USE)
    from tidegate.streams.app import run_worker

    return run_worker(settings, policy)


def worker_settings_of(args: argparse.Namespace) -> "WorkerSettings":
    """The settings that arguments and environment ask for. Raises UsageError."""
    from tidegate.streams.worker_settings import ROLES, WorkerSettings

    check_metrics_port(args)
    for name in ("session_timeout_s", "delivery_timeout_s"):
        if not getattr(args, name) >= 1.0:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} {getattr(args, name):g}: give at least 1")
    if args.data_dir is not None and not Path(args.data_dir).is_dir():
        raise UsageError(f"--data-dir {args.data_dir}: is no folder; make it, or leave it out")
    session_timeout_ms = round(args.session_timeout_s * 1000)
    return WorkerSettings(
        kafka=kafka_config_of(args),
        topics=topics_of(args),
        roles=frozenset(ROLES if args.role == "all" else (args.role,)),
        data_dir=args.data_dir or "",
        session_timeout_ms=session_timeout_ms,
        heartbeat_ms=min(3_000, session_timeout_ms // 3),
        delivery_timeout_ms=round(args.delivery_timeout_s * 1000),
        metrics_host=args.metrics_host,
        metrics_port=args.metrics_port,
    )
