"""The command `tidegate-host`: the reporter as a process of its own, a sidecar say."""

import argparse
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tidegate.client.decider import wall_ms
from tidegate.client.host.cgroup import pod_cgroup
from tidegate.client.host.reading import read_host
from tidegate.client.host.reporter import EVERY_S_MAX, EVERY_S_MIN, HostReporter
from tidegate.client.kafka_config import load_kafka_config

__all__ = ["main"]

ENV_TOPIC_PREFIX = "TIDEGATE_TOPIC_PREFIX"
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
_DESCRIPTION = """\
Sends what the kernel says of this host to Kafka, as OTLP metrics that L5 reads: panic_on_oops, kernel
oopses, memory.events of a control group (cgroup v2), memory pressure. docs/host.md says how to run it
beside a service."""
_EPILOG = """\
examples:
  tidegate-host --brokers kafka:9092 --service shop/payments
  tidegate-host --once --json                                 what can be read here

exit status: 0 after a signal, or once the reading of --once is delivered; 1 failure; 2 wrong usage"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or Ctrl-C; returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        return _run(args, os.environ)
    except ValueError as problem:
        sys.stderr.write(f"tidegate-host: {problem}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate-host",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--service", default="", help="as its spans have it, namespace/name ($OTEL_SERVICE_NAME)"
    )
    parser.add_argument(
        "--instance",
        default="",
        help="as the service's Terminator has it (default: $OTEL_RESOURCE_ATTRIBUTES, or the host's name)",
    )
    parser.add_argument("--every", default="5s", metavar="TIME", help="5s, 500ms, 1m (default: 5s)")
    parser.add_argument("--once", action="store_true", help="one reading, then the end")
    parser.add_argument(
        "--json", action="store_true", help="print readings instead of sending them; needs no Kafka"
    )
    group = parser.add_argument_group("control group (default: this process's own)")
    group.add_argument("--cgroup", metavar="FOLDER", help="the one with this folder")
    group.add_argument("--pod-uid", metavar="UID", help="that of a Kubernetes pod (metadata.uid)")
    group.add_argument(
        "--cgroups",
        metavar="FOLDER",
        default="/sys/fs/cgroup",
        help="the host's cgroup v2 mount, in which --pod-uid is looked for (default: /sys/fs/cgroup)",
    )
    kafka = parser.add_argument_group("kafka")
    kafka.add_argument("--brokers", metavar="HOST:PORT,...", help="default: $TIDEGATE_BROKERS")
    kafka.add_argument(
        "--kafka-config",
        metavar="FILE",
        help="default: $TIDEGATE_KAFKA_CONFIG; see docs/security.md",
    )
    kafka.add_argument("--topic-prefix", metavar="TEXT", help=f"default: ${ENV_TOPIC_PREFIX}")
    return parser


def _run(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Raises ValueError for wrong usage."""
    every_s, cgroup = _seconds(args.every), _cgroup(args)
    if args.json:
        return _print(every_s, cgroup, is_once=args.once)
    prefix = args.topic_prefix
    reporter = HostReporter(
        load_kafka_config(args.kafka_config, environ, args.brokers),
        service=args.service,
        instance=args.instance,
        topic_prefix=environ.get(ENV_TOPIC_PREFIX, "") if prefix is None else prefix,
        every_s=every_s,
        cgroup=cgroup,
        environ=environ,
    )
    if args.once:
        reporter.report()
        reporter.close()
        return 0 if reporter.stats.delivered else 1
    who = reporter.identity
    logging.getLogger("tidegate.client").info(
        "host: %s of %s to %s every %g s", who.instance, who.service, reporter.topic, every_s
    )
    stop = _stop_on_signals()
    with reporter:
        stop.wait()
    return 0


def _print(every_s: float, cgroup: Path | None, *, is_once: bool) -> int:
    stop = _stop_on_signals()
    while True:
        line = {"time_ms": wall_ms(), **msgspec.to_builtins(read_host(cgroup=cgroup))}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
        if is_once or stop.wait(every_s):
            return 0


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _UNITS_S[found[2]] if found else -1.0
    if not EVERY_S_MIN <= seconds <= EVERY_S_MAX:
        raise ValueError(
            f"--every: {text!r} is no time between {EVERY_S_MIN * 1000:.0f}ms and {EVERY_S_MAX:.0f}s; "
            "give 5s, 500ms or 1m"
        )
    return seconds


def _cgroup(args: argparse.Namespace) -> Path | None:
    if args.cgroup and args.pod_uid:
        raise ValueError("--cgroup and --pod-uid both name a control group; give one of them")
    if args.cgroup:
        folder = Path(args.cgroup)
        if not folder.is_dir():
            raise ValueError(
                f"--cgroup: there is no folder {folder}; give one below /sys/fs/cgroup"
            )
        return folder
    if not args.pod_uid:
        return None
    found = pod_cgroup(Path(args.cgroups), args.pod_uid)
    if found is None:
        raise ValueError(
            f"--pod-uid: no control group of pod {args.pod_uid} below {args.cgroups}; mount the host's "
            "/sys/fs/cgroup and name it by --cgroups (docs/host.md)"
        )
    return found
