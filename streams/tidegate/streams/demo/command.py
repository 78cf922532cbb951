"""`tidegate demo`: parses, starts and ends everything. Whatever happens, nothing it started is left."""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from tidegate.streams.demo.story import SECONDS_MIN, Story
from tidegate.streams.errors import Failure, UsageError

if TYPE_CHECKING:
    from tidegate.schemas.topics import Topics
    from tidegate.streams.demo.screen import Screen
    from tidegate.streams.demo.shop import Shop
    from tidegate.streams.demo.worker import WorkerProcess
    from tidegate.streams.watch import Follower

__all__ = ["POLICY_FILE", "add_parser"]

POLICY_FILE = Path(__file__).parent / "policy.yaml"
SECONDS_DEFAULT = 80
PREPARE_S = 180.0
"""The first worker ever on a machine compiles its kernels, which takes most of a minute on a slow one."""
PARTITIONS = 2

_DESCRIPTION = """\
Shows the main job: a small shop, instrumented with the OpenTelemetry SDK, exports its spans to
Kafka; a worker judges them; thin clients in the shop obey. After 12 s payments fails and a
database gets slow, for 13 s; then everything recovers. Needs no Kafka, no Java, no Docker: the
broker runs inside this process (or use --brokers). Uses a policy that enforces and sleeps
8 s where the default pack only observes and would sleep 30 s.

Ends by itself with status 0; with 1 if levels have not recovered in the time given."""
_EXAMPLES = """\
examples:
  tidegate demo
  tidegate demo --seconds 120
  tidegate demo --json | jq -r '[.scope, .level, .reason] | @tsv'
  tidegate demo --brokers localhost:9092      on a real broker, with topics of its own"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="see the main job on an embedded broker",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS_DEFAULT,
        metavar="N",
        help=f"how long the shop is open, from the first judged second on; at least {SECONDS_MIN} "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="decisions as JSON lines on stdout, instead of a screen"
    )
    parser.add_argument(
        "--brokers", metavar="HOST:PORT,...", help="a real broker instead of the embedded one"
    )
    parser.add_argument(
        "--kafka-config", metavar="FILE", help="its settings; see `tidegate run --help`"
    )
    parser.set_defaults(handler=_demo)


def _demo(args: argparse.Namespace) -> int:
    if not args.seconds >= SECONDS_MIN:
        raise UsageError(
            f"--seconds {args.seconds:g}: give at least {SECONDS_MIN}; a breaker that opened needs "
            "that long to sleep, probe and close again"
        )
    ended_by: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended_by.append(number)
        signal.raise_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        with contextlib.ExitStack() as stack:
            return _show(args, stack)
    except KeyboardInterrupt:
        if ended_by:
            return 128 + ended_by[0]
        raise


def _show(args: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    from tidegate.streams.demo.worker import WorkerProcess
    from tidegate.streams.watch import Follower

    try:
        from tidegate.streams.demo.gate import ClientGate, kafka_exporter
        from tidegate.streams.demo.shop import Shop
    except ModuleNotFoundError as problem:
        if not (problem.name or "").startswith("opentelemetry"):
            raise
        raise Failure(
            f"the demo needs {problem.name}; install it with: pip install 'tidegate-client[otel]'"
        ) from problem
    screen = stack.enter_context(_screen(is_json=args.json))
    config, topics = _broker(args, stack, screen)
    screen.say("Starting a worker; on its first run it compiles its kernels, which takes a while.")
    worker = stack.enter_context(
        WorkerProcess(_worker_arguments(args, config["bootstrap.servers"], topics))
    )
    follower = Follower(config, decisions=topics.decisions, health=topics.health)
    gate = stack.enter_context(ClientGate(config, topics))
    shop = Shop(lambda _service: kafka_exporter(config, topics.otlp_spans), gate)
    stack.callback(shop.close)
    is_recovered = asyncio.run(_run(args.seconds, worker, follower, shop, screen))
    if not is_recovered:
        raise Failure(
            "not every level is back to closed; give it more time with --seconds 120, or see "
            "whether this machine is too busy"
        )
    screen.say(_EPILOGUE)
    return 0


_EPILOGUE = """\

All levels are back to closed. What to try next:
  tidegate replay traces.jsonl          decide your own recorded traffic (Collector's file exporter)
  tidegate topics create --brokers …    then `tidegate run` and `tidegate watch`, on your Kafka
  README.md                             six lines that ask for decisions in your service"""


async def _run(
    seconds: float, worker: "WorkerProcess", follower: "Follower", shop: "Shop", screen: "Screen"
) -> bool:
    """Opens the shop, tells the story, and says whether everything is closed at its end."""
    story = Story(seconds)
    clock = asyncio.get_running_loop().time
    customers = asyncio.create_task(shop.run())
    started_s, opened_s = clock(), None
    try:
        ticks = follower.ticks()
        while True:
            for decision in await asyncio.to_thread(next, ticks):
                screen.changed(decision)
            worker.check()
            if customers.done():
                customers.result()
            rows = follower.board.rows(now_ms=time.time_ns() // 1_000_000)
            now_s = clock()
            if opened_s is None:
                if any(row.score is not None for row in rows):
                    opened_s = now_s
                    screen.say(f"Ready after {now_s - started_s:.0f} s.")
                elif now_s - started_s > PREPARE_S:
                    raise Failure(
                        f"nothing was judged within {PREPARE_S:.0f} s; the worker's last words:\n"
                        + worker.last_words()
                    )
                continue
            elapsed_s = now_s - opened_s
            shop.faults = story.faults(elapsed_s)
            screen.draw(elapsed_s, story.caption(elapsed_s), rows, shop.traffic.counts(now_s))
            if story.is_over(elapsed_s):
                return all(row.severity == 0 for row in rows)
    finally:
        customers.cancel()
        await asyncio.gather(customers, return_exceptions=True)


def _screen(*, is_json: bool) -> "Screen":
    from tidegate.streams.demo.screen import JsonLines, LiveScreen, TextLines

    if is_json:
        return JsonLines()
    return LiveScreen() if sys.stdout.isatty() else TextLines()


def _broker(
    args: argparse.Namespace, stack: contextlib.ExitStack, screen: "Screen"
) -> tuple[dict[str, str], "Topics"]:
    """Settings of the broker, embedded or given, with the topics made."""
    from tidegate.schemas.topics import Topics

    if not args.brokers and not args.kafka_config:
        from tidegate.streams.embedded import EmbeddedBroker

        topics = Topics()
        specs = topics.specs(partitions_count=PARTITIONS)
        broker = EmbeddedBroker({spec.name: spec.partitions_count for spec in specs})
        stack.enter_context(broker)
        screen.say(f"A broker runs inside this process, at {broker.bootstrap}.")
        return {"bootstrap.servers": broker.bootstrap}, topics
    import os

    from tidegate.client.kafka_config import KafkaConfigError, load_kafka_config

    try:
        config = load_kafka_config(args.kafka_config, os.environ, args.brokers)
    except KafkaConfigError as problem:
        raise UsageError(str(problem)) from problem
    topics = Topics(prefix=f"tidegate-demo-{uuid.uuid4().hex[:8]}.")
    stack.enter_context(_topics(config, topics))
    screen.say(f"Made topics {topics.prefix}* at {config['bootstrap.servers']}.")
    return config, topics


@contextlib.contextmanager
def _topics(config: dict[str, str], topics: "Topics") -> Iterator[None]:
    """Makes the demo's topics on a real broker, and deletes them afterwards."""
    from confluent_kafka.admin import AdminClient

    from tidegate.streams.topics_admin import create_topics

    create_topics(config, topics, partitions_count=PARTITIONS)
    try:
        yield
    finally:
        names = [spec.name for spec in topics.specs(partitions_count=PARTITIONS)]
        # The futures end with their client: it must live until they are done.
        admin = AdminClient({**config, "log_level": "0"})
        for name, future in admin.delete_topics(names).items():
            problem = future.exception(timeout=15)
            if problem is not None:
                sys.stderr.write(f"tidegate: topic {name} is left behind: {problem}\n")


def _worker_arguments(args: argparse.Namespace, brokers: str, topics: "Topics") -> list[str]:
    arguments = ["run", "--brokers", brokers, "--policy", str(POLICY_FILE)]
    if args.kafka_config:
        arguments += ["--kafka-config", args.kafka_config]
    if topics.prefix:
        arguments += ["--topic-prefix", topics.prefix]
    return arguments
