"""The Faust app of a worker, and running it: ingest as a service in it, the other stages as its agents.

No `faust` command is needed: `run_worker` starts the app, waits for a signal or the app's end, and
stops it. (Its worker would insist on port 6066, and a second worker on one machine would die of it.)
"""

import asyncio
import contextlib
import os
import signal
import tempfile
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

import faust
from faust.types import TP

from tidegate.streams.errors import Failure
from tidegate.streams.exactly import ExactApp, ExactTable, ExactTableManager
from tidegate.streams.faust_security import broker_credentials, broker_url
from tidegate.streams.logs import get_logger
from tidegate.streams.metrics import MetricsServer, WorkerMetrics
from tidegate.streams.source_topics import (
    BrokerAwayError,
    SourceTopics,
    TopicFacts,
    TopicForbiddenError,
    TopicMissingError,
)
from tidegate.streams.worker_settings import EVALUATE, GRAPH, INGEST, WorkerSettings

if TYPE_CHECKING:
    from tidegate.rules.policy import Policy
    from tidegate.schemas.topics import Topics
    from tidegate.streams.evaluate import Evaluation
    from tidegate.streams.log_stage import LogStage
    from tidegate.streams.pairing import PairingStage
    from tidegate.streams.sequencer import Sequencer

    Stage = Evaluation | Sequencer | PairingStage

__all__ = ["build_app", "run_worker"]

RECORD_BYTES_MAX = 1_048_576
"""Ours stay under 512 kB; see the topics' settings."""
HELD_RECORDS_MAX = 128
"""Of a log, waiting for its agent: up to 512 kB each."""
_RETRY_S = 1.0

log = get_logger("worker")


def build_app(
    settings: WorkerSettings,
    policy: "Policy",
    metrics: WorkerMetrics,
    facts: Mapping[str, TopicFacts],
    *,
    data_dir: str,
) -> ExactApp:
    """The app with the stages of this worker's roles. `facts` are those of `wait_for_topics`.

    Raises Failure where the topics don't fit together.
    """
    topics = settings.topics
    app = ExactApp(
        topics.evaluate_app_id,
        broker=broker_url(settings.kafka),
        broker_credentials=broker_credentials(settings.kafka),
        broker_client_id=f"tidegate-{uuid.uuid4().hex[:8]}",
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.heartbeat_ms / 1000,
        broker_rebalance_timeout=settings.session_timeout_ms / 1000,
        broker_request_timeout=max(30.0, settings.session_timeout_ms / 1000 + 5.0),
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=RECORD_BYTES_MAX,
        consumer_metadata_max_age_ms=30_000,
        producer_max_request_size=RECORD_BYTES_MAX,
        producer_compression_type="lz4" if _has_lz4() else None,
        producer_linger=0.002,
        producer_request_timeout=settings.delivery_timeout_ms / 1000,
        stream_buffer_maxsize=HELD_RECORDS_MAX,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        stream_processing_timeout=1e9,  # its watchdog only warns, of what is normal here
        agent_supervisor="mode.CrashingSupervisor",
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        store="memory://",
        datadir=data_dir,
        web_enabled=False,
        loghandlers=[],
        logging_config=None,
        autodiscover=False,
        Table=ExactTable,
        TableManager=ExactTableManager,
    )
    stages = _add_stages(app, settings, policy, metrics, facts)
    if stages:
        app.starts = _Starts(*stages)
    else:
        app.producer_only = True
    if INGEST in settings.roles:
        from tidegate.streams.ingest import Ingest
        from tidegate.streams.metrics_ingest import MetricsIngest

        app.add_dependency(Ingest(settings, metrics, grace_ms=policy.grace_ms))
        app.add_dependency(MetricsIngest(settings, metrics))
    return app


def _add_stages(
    app: ExactApp,
    settings: WorkerSettings,
    policy: "Policy",
    metrics: WorkerMetrics,
    facts: Mapping[str, TopicFacts],
) -> "list[Stage]":
    """The agents of the roles, and their answers over HTTP."""
    from tidegate.streams.graph_pages import graph_pages
    from tidegate.streams.log_stage import evaluate_stage, graph_stage

    topics = settings.topics
    count = facts[topics.partials].partitions_count
    stages: list[Stage] = []
    if EVALUATE in settings.roles:
        stage = evaluate_stage(topics, policy, partitions_count=count)
        stages.append(_add_log_stage(app, topics, stage, metrics, facts))
        if topics.control in facts:
            stages.append(_add_sequencer(app, settings, policy, metrics, facts))
        if topics.pairs in facts:
            from tidegate.streams.pairing import add_pairing

            stages.append(add_pairing(app, settings, metrics, facts))
    graph = None
    if GRAPH in settings.roles and topics.graph in facts:
        stage = graph_stage(topics, policy, partitions_count=count)
        graph = _add_log_stage(app, topics, stage, metrics, facts)
        stages.append(graph)
    metrics.pages |= graph_pages(graph, topics.graph)
    return stages


def _add_log_stage(
    app: ExactApp,
    topics: "Topics",
    stage: "LogStage",
    metrics: WorkerMetrics,
    facts: Mapping[str, TopicFacts],
) -> "Evaluation":
    from tidegate.streams.evaluate import Evaluation

    count = facts[stage.log].partitions_count
    found = facts[stage.changelog].partitions_count
    if found != count:
        raise Failure(
            f"topic {stage.changelog} has {found} partitions and {stage.log} has {count}; they must be "
            "equal: `tidegate topics check` says how to mend it"
        )
    log_topic = app.raw_topic(stage.log, partitions_count=count)
    table = app.Table(stage.table, key_type=bytes, value_type=bytes, partitions=count, default=None)
    evaluation = Evaluation(app, table, topics, stage, metrics)

    @app.agent(log_topic, name=stage.name)
    async def feed(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.noack().events():
            await evaluation.take(event.message)

    return evaluation


def _add_sequencer(
    app: ExactApp,
    settings: WorkerSettings,
    policy: "Policy",
    metrics: WorkerMetrics,
    facts: Mapping[str, TopicFacts],
) -> "Sequencer":
    from tidegate.streams.sequencer import Sequencer

    topics = settings.topics
    control = app.raw_topic(topics.control, partitions_count=1)
    broker = _source_topics(settings)
    sequencer = Sequencer(
        app,
        topics,
        metrics,
        policy,
        partitions_count=facts[topics.partials].partitions_count,
        topic_id=lambda: broker.facts([topics.control])[topics.control].topic_id,
    )

    @app.agent(control, name="sequencer")
    async def sequence(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.noack().events():
            await sequencer.take(event.message)

    return sequencer


class _Starts:
    """From where partitions are read, asked of every stage."""

    def __init__(self, *stages: "Stage") -> None:
        self.stages = stages

    def start_offsets(self) -> Mapping[TP, int]:
        return {tp: at for stage in self.stages for tp, at in stage.start_offsets().items()}


def run_worker(settings: WorkerSettings, policy: "Policy") -> int:
    """Runs until SIGTERM or SIGINT: 0. Raises Failure where the worker ends by itself."""
    return asyncio.run(_run(settings, policy))


async def _run(settings: WorkerSettings, policy: "Policy") -> int:
    metrics = WorkerMetrics()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, number)
    metrics.set_stage("topics", is_ready=lambda: False, is_alive=lambda: True)
    server = MetricsServer(metrics, host=settings.metrics_host, port=settings.metrics_port)
    if settings.metrics_port:
        server.start()
    try:
        with contextlib.ExitStack() as stack:
            data_dir = settings.data_dir or stack.enter_context(
                tempfile.TemporaryDirectory(prefix="tidegate-")
            )
            facts = await _topics_or_stop(settings, stop)
            if facts is None:
                return 0
            app = build_app(settings, policy, metrics, facts, data_dir=data_dir)
            # Only now: before, no other stage would be asked whether it is ready.
            metrics.set_stage("topics", is_ready=lambda: True, is_alive=lambda: True)
            await _live(app, stop)
    finally:
        server.stop()
    return 0


async def _live(app: ExactApp, stop: asyncio.Event) -> None:
    app.finalize()
    waits = [
        asyncio.create_task(app.start()),
        asyncio.create_task(stop.wait()),
        asyncio.create_task(app.ended.wait()),
    ]
    starting, stopping, ending = waits
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            log.info("worker started")
            await asyncio.wait([stopping, ending], return_when=asyncio.FIRST_COMPLETED)
        if app.ended.is_set():
            reason = app.crash_reason
            assert reason is not None
            raise reason
        log.info("worker stops")
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        await app.stop()


async def _topics_or_stop(
    settings: WorkerSettings, stop: asyncio.Event
) -> dict[str, TopicFacts] | None:
    """Facts of all topics that the roles need; waits for missing ones, and says so once."""
    broker = _source_topics(settings)
    needed, said = _needed_topics(settings), ""
    while not stop.is_set():
        try:
            facts = await asyncio.to_thread(broker.facts, needed)
            return facts | await asyncio.to_thread(_optional_facts, broker, settings)
        except TopicMissingError as problem:
            text = f"missing topics: {', '.join(sorted(problem.names))}; waiting for them. Make them with `tidegate topics create`"
        except BrokerAwayError as problem:
            servers = settings.kafka["bootstrap.servers"]
            text = f"{servers}: no Kafka broker answers ({problem}); waiting for it. Check --brokers and --kafka-config"
        if text != said:
            log.warning(text)
            said = text
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _RETRY_S)
    return None


def _needed_topics(settings: WorkerSettings) -> list[str]:
    """Those without which a worker waits. One that does everything goes on without the graph stage: its
    topics may be missing in an installation that an older version made."""
    topics, roles = settings.topics, settings.roles
    names = {topics.partials: None}
    if INGEST in roles:
        names |= dict.fromkeys([topics.otlp_spans, topics.dlq])
    if EVALUATE in roles:
        names |= dict.fromkeys([topics.snapshots_changelog, topics.shadow])
    if roles & {EVALUATE, GRAPH}:
        names |= dict.fromkeys([topics.decisions, topics.health, topics.alerts])
    if GRAPH in roles and EVALUATE not in roles:
        names |= dict.fromkeys(_graph_topics(topics))
    return list(names)


def _graph_topics(topics: "Topics") -> list[str]:
    return [topics.graph, topics.graph_snapshots_changelog]


def _optional_facts(broker: SourceTopics, settings: WorkerSettings) -> dict[str, TopicFacts]:
    """Of the topics that workers do without; says what they do without. All of a group, or none."""
    topics, roles = settings.topics, settings.roles
    groups = []
    if EVALUATE in roles:
        groups.append(([topics.control], "policies and overrides can't be pushed"))
        groups.append(([topics.pairs], "callees' names are not learned"))
    if roles >= {EVALUATE, GRAPH}:
        names = _graph_topics(topics)
        groups.append((names, "this worker goes on without the graph stage"))
    found: dict[str, TopicFacts] = {}
    for names, without in groups:
        try:
            found |= broker.facts(names)
        except (TopicMissingError, TopicForbiddenError) as problem:
            what, remedy = "missing", "make it with `tidegate topics create`"
            if isinstance(problem, TopicForbiddenError):
                what, remedy = "forbidden", "allow what `tidegate topics acls` lists"
            for name in problem.names:
                log.warning(
                    f"topic {name} is {what}: {without}; {remedy}, then restart this worker"
                )
    return found


def _source_topics(settings: WorkerSettings) -> SourceTopics:
    return SourceTopics({**settings.kafka, "error_cb": lambda _: None, "log_level": 0})


def _on_signal(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        os._exit(128 + number)  # asked twice: whoever asks knows why
    stop.set()


def _has_lz4() -> bool:
    """Whether it is there: aiokafka compresses with a package that it doesn't require."""
    from aiokafka.codec import has_lz4

    return bool(has_lz4())
