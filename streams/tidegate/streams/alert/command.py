"""`tidegate alert`, `tidegate alert check` and `tidegate alert test`."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from tidegate.streams.command_options import add_output_options, check_metrics_port
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.schemas.alert import Alert
    from tidegate.streams.alert.channel import Channel
    from tidegate.streams.alert.settings import Setup

__all__ = ["add_parser"]

_GROUP_WAIT_MAX_S = 300
_DESCRIPTION = """\
Sends each event on the alerts topic to the channels of its tier: Alertmanager, group robots of
WeCom and DingTalk, webhooks (CloudEvents), PagerDuty. Silenced events go nowhere. Alerts that the
dependency graph explains by one cause are told together, under that cause.

Runs until SIGTERM or Ctrl-C. An event is sent at least once to each channel: one that was not
finished when the sender was killed is sent again under the same key. What a channel does not take
after the last try goes to the dead-letter topic, and the others go on. Start a second sender and it
takes over when the first one dies. docs/alerts.md describes channels.yaml."""
_EXAMPLES = """\
examples:
  tidegate alert --brokers localhost:9092 --channels channels.yaml
  tidegate alert --brokers localhost:9092 --channels channels.yaml --dry-run
  tidegate alert --kafka-config kafka.properties --channels channels.yaml --metrics-port 9465
  tidegate alert check channels.yaml
  tidegate alert test channels.yaml --channel phone

exit status: 0 after a signal, 1 failure, 2 wrong usage"""
_CHECK_EXAMPLES = """\
examples:
  tidegate alert check channels.yaml
  tidegate alert check channels.yaml --without-secrets      where there are none: in CI

exit status: 0 nothing is wrong, 2 otherwise"""
_TEST_EXAMPLES = """\
examples:
  tidegate alert test channels.yaml --channel wecom

exit status: 0 the channel took both events, 1 it did not, 2 wrong usage"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate alert` and what is below it."""
    parser = subparsers.add_parser(
        "alert",
        help="send alerts to people: chats, phones, Alertmanager, webhooks",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--channels", metavar="FILE", help="channels.yaml: who is told what")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be sent as JSON lines, for the whole topic and then on and on; joins no "
        "group, commits nothing, needs no secrets",
    )
    parser.add_argument(
        "--group-wait",
        type=_wait_s,
        metavar="SECONDS",
        help="how long an incident waits for its cause before people are told; 0: each is told by itself "
        "(default: grouping.wait_s of channels.yaml)",
    )
    add_kafka_options(parser)
    add_output_options(parser)
    parser.set_defaults(handler=_run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="alert_command")
    check = commands.add_parser(
        "check",
        help="say what is wrong with a channels.yaml",
        description="Checks the whole file and looks its secrets up. Sends nothing.",
        epilog=_CHECK_EXAMPLES,
    )
    check.add_argument("file", metavar="FILE", help="channels.yaml")
    check.add_argument(
        "--without-secrets", action="store_true", help="don't look secrets and certificates up"
    )
    check.set_defaults(handler=_check)
    test = commands.add_parser(
        "test",
        help="send a test alert and its end to one channel",
        description="Sends an alert that says it is a test, and its end, so that nothing stays open. "
        "Each is tried once.",
        epilog=_TEST_EXAMPLES,
    )
    test.add_argument("file", metavar="FILE", help="channels.yaml")
    test.add_argument("--channel", required=True, metavar="NAME", help="a channel of the file")
    test.add_argument(
        "--tier",
        choices=("P1", "P2"),
        default="P2",
        help="of the test alert (default: %(default)s)",
    )
    test.set_defaults(handler=_test)


def _run(args: argparse.Namespace) -> int:
    from tidegate.streams.alert.settings import read_channels

    if args.channels is None:
        raise UsageError("no --channels FILE given; docs/alerts.md shows one")
    check_metrics_port(args)
    config, topics = kafka_config_of(args), topics_of(args)
    if args.dry_run:
        from tidegate.streams.alert.dry_run import dry_run

        dry_run(read_channels(args.channels, None), config, topics)
        return 0
    setup = read_channels(args.channels, os.environ)
    if args.group_wait is not None:
        from dataclasses import replace

        import msgspec

        wait = msgspec.structs.replace(setup.grouping, wait_s=args.group_wait)
        setup = replace(setup, grouping=wait)
    _send(args, setup)
    return 0


def _wait_s(text: str) -> float:
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= _GROUP_WAIT_MAX_S:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no wait; give seconds from 0 to {_GROUP_WAIT_MAX_S}"
        )
    return wait_s


def _send(args: argparse.Namespace, setup: "Setup") -> None:
    import asyncio

    from tidegate.streams.alert.metrics import AlertMetrics
    from tidegate.streams.logs import configure_logs, get_logger
    from tidegate.streams.metrics import MetricsServer

    config, topics = kafka_config_of(args), topics_of(args)
    configure_logs(args.log_format, args.log_level)
    # After that: modules make their loggers when they are loaded.
    from tidegate.streams.alert.running import run_sender

    get_logger("alert").info(
        "alert sender starts",
        brokers=config["bootstrap.servers"],
        channels=sorted(setup.channels),
        tiers={tier: list(names) for tier, names in setup.tiers.items()},
    )
    metrics = AlertMetrics(tuple(setup.channels))
    server = MetricsServer(
        metrics,
        host=args.metrics_host,
        port=args.metrics_port,
    )
    if args.metrics_port:
        server.start()
    try:
        asyncio.run(run_sender(setup, config, topics, metrics))
    finally:
        server.stop()


def _check(args: argparse.Namespace) -> int:
    from tidegate.streams.alert.settings import read_channels

    setup = read_channels(args.file, None if args.without_secrets else os.environ)
    for tier, names in setup.tiers.items():
        told = ", ".join(f"{name} ({setup.channels[name].kind.name})" for name in names)
        sys.stdout.write(f"{tier}: {told or 'nobody'}\n")
    return 0


def _test(args: argparse.Namespace) -> int:
    import asyncio
    from difflib import get_close_matches

    from tidegate.streams.alert.settings import read_channels

    setup = read_channels(args.file, os.environ)
    channel = setup.channels.get(args.channel)
    if channel is None:
        near = get_close_matches(args.channel, setup.channels, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(setup.channels)}"
        raise UsageError(f"--channel {args.channel}: is no channel of {args.file}; {hint}")
    asyncio.run(_try(setup, channel, _test_alerts(args.tier)))
    return 0


async def _try(setup: "Setup", channel: "Channel", alerts: "list[Alert]") -> None:
    import msgspec

    from tidegate.streams.alert.posting import Poster, UndeliveredError

    once = msgspec.structs.replace(setup.tries, tries_max=1)
    poster = Poster(channel, once, on_retry=lambda _, __: None)
    try:
        for alert in alerts:
            try:
                await poster.post(alert, read_s=time.monotonic())
            except UndeliveredError as problem:
                raise Failure(
                    f"{channel.name}: {alert.event} was not taken: {problem.reason}; check the "
                    "channel's address and secrets"
                ) from None
            sys.stdout.write(f"{channel.name}: {alert.event} taken\n")
    finally:
        await poster.close()


def _test_alerts(tier: str) -> "list[Alert]":
    import msgspec

    from tidegate.schemas.alert import Alert

    now_ms = time.time_ns() // 1_000_000
    start = msgspec.convert(
        {
            "id": f"{now_ms:016x}",
            "number": 1,
            "event": "start",
            "tier": tier,
            "rule": "test",
            "scope": "service:tidegate-test",
            "since_ms": now_ms,
            "at_ms": now_ms,
            "boundary": now_ms // 500,
            "partition": 0,
            "title": "TEST: this is a test of Tidegate's alerts, nothing is wrong",
            "reason": "sent by `tidegate alert test`",
            "level": "closed",
            "policy": "test",
        },
        Alert,
    )
    return [start, msgspec.structs.replace(start, number=2, event="resolve")]
