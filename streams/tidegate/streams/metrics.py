"""What a worker tells Prometheus, and whether it is alive and ready: `/metrics`, `/healthz`, `/readyz`; and
whatever else it is given to answer.
"""

import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from tidegate.streams.errors import Failure

__all__ = [
    "Answer",
    "MetricsServer",
    "Page",
    "Served",
    "StageMetrics",
    "StageName",
    "WorkerMetrics",
]

_TEXT = "text/plain; charset=utf-8"
StageName = Literal["evaluate", "graph"]
"""Of the stages that read a log."""
_STEP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)


class Answer(NamedTuple):
    """Of a page."""

    status: int
    body: bytes
    content_type: str


Page = Callable[[], Answer]
"""Called in a thread of its own for each request."""


class WorkerMetrics:
    """Counters and gauges of one worker process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._stages: dict[str, Callable[[], bool]] = {}
        self._alive: dict[str, Callable[[], bool]] = {}
        # ingest
        self.records = self._counter("ingest_records", "Records of the spans topic that were read")
        self.bytes = self._counter("ingest_bytes", "Their bytes")
        self.spans = self._counter("ingest_spans", "Spans that were decoded")
        self.undecodable = self._counter("undecodable_records", "Records that can't be decoded")
        self.dead_lettered = self._counter(
            "dead_lettered_records", "Records delivered to the dead-letter topic"
        )
        self.oddities = self._counter(
            "decoder_oddities", "What the decoder mended or skipped", ("kind",)
        )
        self.expired = self._counter(
            "expired_records", "Records that retention removed before they were read"
        )
        self.flushes = self._counter("ingest_flushes", "Flushes that were delivered")
        self.restarts = self._counter(
            "ingest_restarts", "Times ingest began again from the committed offsets"
        )
        self.metric_records = self._counter(
            "metric_records", "Records of the metrics topic that were passed on"
        )
        self.metric_points = self._counter("metric_points", "Points that rules read, passed on")
        self.metric_oddities = self._counter(
            "metric_oddities", "What was mended or left out of metrics", ("kind",)
        )
        self.metric_restarts = self._counter(
            "metric_restarts", "Times the reading of metrics began again"
        )
        self.lag = self._gauge(
            "lag_records", "Records of a source partition not read yet", ("topic", "partition")
        )
        self.source_delay_s = self._gauge(
            "source_watermark_delay_seconds",
            "Clock minus the watermark that ingest sent",
            ("topic", "partition"),
        )
        # evaluate and the graph stage
        self.log_records = self._counter(
            "log_records", "Records of its log that a stage has fed", ("stage",)
        )
        self.evaluated = self._counter(
            "evaluate",
            "What evaluate counted: requests, late, skewed, duplicate_blocks, ...",
            ("kind",),
        )
        self.graph = self._counter("graph", "What the graph stage counted", ("kind",))
        self.late = self._counter("late_spans", "Spans older than the window when they came")
        self.skewed = self._counter("skewed_spans", "Spans too far in the future, dropped")
        self.duplicates = self._counter("duplicate_blocks", "Blocks that had been merged before")
        self.overflow = self._counter(
            "overflow_spans", "Spans counted under `other` beyond a limit", ("limit",)
        )
        self.shed = self._counter("shed_spans", "Requests that clients turned away")
        self.decisions = self._counter(
            "decisions", "Records published on the decisions topic", ("stage",)
        )
        self.alerts = self._counter("alerts", "Alerts published", ("stage",))
        self.policies: dict[str, str] = {}
        """NAME@VERSION in force, by what of this worker goes by it: `partition 3`, `the graph`."""
        self.pages: dict[str, Page] = {}
        """By path: what this worker answers beside its metrics."""
        self.snapshots = self._counter(
            "snapshots", "Snapshots whose manifest was delivered", ("stage",)
        )
        self.rebuilds = self._counter("rebuilds", "Partitions whose memory was rebuilt", ("stage",))
        self.watermark_delay_s = self._gauge(
            "watermark_delay_seconds", "Clock minus a stage's watermark", ("stage", "partition")
        )
        self.boundary = self._gauge(
            "boundary", "Newest boundary that was stepped", ("stage", "partition")
        )
        self.step_s = Histogram(
            "tidegate_boundary_step_seconds",
            "Time of feeding a record that crossed a boundary, per boundary",
            ("stage",),
            registry=self.registry,
            buckets=_STEP_BUCKETS_S,
        )

    def of_stage(self, stage: StageName) -> "StageMetrics":
        """Those that the stages which read a log have in common."""
        return StageMetrics(self, stage)

    def count(self, counters: Mapping[str, int]) -> None:
        """Takes the counters of evaluate's outputs; the named ones have a metric of their own too."""
        own = {
            "late": self.late,
            "skewed": self.skewed,
            "duplicate_blocks": self.duplicates,
            "shed": self.shed,
        }
        for kind, value in counters.items():
            if not value:
                continue
            self.evaluated.labels(kind).inc(value)
            if kind in own:
                own[kind].inc(value)
            elif kind.startswith("overflow"):
                self.overflow.labels(kind.removeprefix("overflow_")).inc(value)

    def count_graph(self, counters: Mapping[str, int]) -> None:
        """Takes the counters of the graph stage's outputs."""
        for kind, value in counters.items():
            if value:
                self.graph.labels(kind).inc(value)

    def set_stage(
        self, name: str, *, is_ready: Callable[[], bool], is_alive: Callable[[], bool]
    ) -> None:
        """A stage of this worker and how to ask it."""
        self._stages[name] = is_ready
        self._alive[name] = is_alive

    def not_ready(self) -> list[str]:
        """Stages that aren't ready: their broker is away, a topic is missing, memory is being rebuilt."""
        return [name for name, is_ready in self._stages.items() if not is_ready()]

    def not_alive(self) -> list[str]:
        """Stages that stand still."""
        return [name for name, is_alive in self._alive.items() if not is_alive()]

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"tidegate_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"tidegate_{name}", text, labels, registry=self.registry)


class StageMetrics:
    """One stage's."""

    def __init__(self, metrics: WorkerMetrics, stage: StageName) -> None:
        self._metrics, self._stage = metrics, stage
        self.records = metrics.log_records.labels(stage)
        self.decisions = metrics.decisions.labels(stage)
        self.alerts = metrics.alerts.labels(stage)
        self.snapshots = metrics.snapshots.labels(stage)
        self.rebuilds = metrics.rebuilds.labels(stage)
        self.step_s = metrics.step_s.labels(stage)
        self.count = metrics.count if stage == "evaluate" else metrics.count_graph
        self._named: set[str] = set()

    def in_force(self, partition: int, label: str) -> None:
        """The policy that a partition of the log goes by."""
        name = "the graph" if self._stage == "graph" else f"partition {partition}"
        self._metrics.policies[name] = label
        self._named.add(name)

    def forget_policies(self) -> None:
        """The partitions may be another worker's now."""
        for name in self._named:
            self._metrics.policies.pop(name, None)
        self._named.clear()

    def reached(self, partition: int, *, boundary: int | None, watermark_ms: int | None) -> None:
        """How far a partition of the log has come."""
        labels = self._stage, str(partition)
        if boundary is not None:
            self._metrics.boundary.labels(*labels).set(boundary)
        if watermark_ms is not None:
            delay_s = time.time() - watermark_ms / 1000
            self._metrics.watermark_delay_s.labels(*labels).set(delay_s)


class Served(Protocol):
    """What a server of metrics and health asks for."""

    registry: CollectorRegistry
    policies: dict[str, str]
    pages: dict[str, Page]

    def not_ready(self) -> list[str]:
        """Stages that aren't ready."""
        ...

    def not_alive(self) -> list[str]:
        """Stages that stand still."""
        ...


def _by_number(item: tuple[str, str]) -> tuple[int, str]:
    """`partition 9` before `partition 10`."""
    return len(item[0]), item[0]


class MetricsServer:
    """Serves a worker's metrics on a port of its own, in a thread of its own: it answers while the event
    loop is busy, and a frozen loop shows in `/healthz`."""

    def __init__(self, metrics: Served, *, host: str, port: int) -> None:
        self._metrics = metrics
        self._host, self._wanted_port = host, port
        self._server: ThreadingHTTPServer | None = None
        self.started_s = time.monotonic()

    @property
    def port(self) -> int:
        """The port that was bound; 0 before `start`."""
        return self._server.server_port if self._server is not None else 0

    def start(self) -> None:
        """Raises Failure where the port is taken."""
        metrics = self._metrics

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if path == "/metrics":
                    self._answer(200, generate_latest(metrics.registry), CONTENT_TYPE_LATEST)
                elif path in ("/healthz", "/readyz"):
                    is_health = path == "/healthz"
                    bad = metrics.not_alive() if is_health else metrics.not_ready()
                    word = "stands still" if is_health else "not ready"
                    text = "".join(f"{name}: {word}\n" for name in bad) or "ok\n"
                    in_force = sorted(metrics.policies.items(), key=_by_number) if is_health else []
                    text += "".join(f"policy of {what}: {name}\n" for what, name in in_force)
                    self._answer(503 if bad else 200, text.encode(), _TEXT)
                elif path in metrics.pages:
                    self._answer(*metrics.pages[path]())
                else:
                    known = ", ".join(["/metrics", "/healthz", "/readyz", *sorted(metrics.pages)])
                    self._answer(404, f"{known}\n".encode(), _TEXT)

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Scrapes are no news."""

        try:
            self._server = ThreadingHTTPServer((self._host, self._wanted_port), Handler)
        except OSError as problem:
            raise Failure(
                f"--metrics-port {self._wanted_port}: can't listen on {self._host} "
                f"({problem.strerror}); give another port, or 0 for none"
            ) from problem
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, name="tidegate-metrics", daemon=True
        ).start()

    def stop(self) -> None:
        """Closes the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
