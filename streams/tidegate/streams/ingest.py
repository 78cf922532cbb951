"""ingest as a service inside the Faust app: spans in, blocks and watermarks out.

It keeps no state that matters, and consumes with confluent-kafka in a thread of its own: a record costs
Faust's own path 200 to 560 us, and here 1 to 5 us beside its decoding. The kernels release the GIL, so
the app's event loop goes on meanwhile.
"""

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from mode import Service

from tidegate.streams.logs import get_logger
from tidegate.streams.source_topics import (
    BrokerAwayError,
    SourceTopics,
    TopicFacts,
    TopicMissingError,
)
from tidegate.streams.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from tidegate.streams.ingest_session import IngestSession
    from tidegate.streams.metrics import WorkerMetrics

__all__ = ["Ingest"]

ALIVE_S = 90.0
_WAIT_S = 1.0
_WAIT_MAX_S = 10.0
_STOP_S = 20.0

log = get_logger("ingest")


class Ingest(Service):
    """Lives as long as the app. A life that ends badly is followed by the next one, from the committed
    offsets; only what no waiting can mend (a bug) ends the worker."""

    def __init__(
        self, settings: WorkerSettings, metrics: "WorkerMetrics", *, grace_ms: int, **service: Any
    ) -> None:
        super().__init__(**service)
        self._settings, self._worker_metrics, self._grace_ms = settings, metrics, grace_ms
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._session: IngestSession | None = None
        self._tick_s = time.monotonic()
        self._said = ""
        self._said_of_pairs = ""
        metrics.set_stage("ingest", is_ready=lambda: self.is_ready, is_alive=lambda: self.is_alive)

    @property
    def is_ready(self) -> bool:
        """Whether it owns its share of the spans and its broker answers."""
        return self._session is not None and self._session.is_ready

    @property
    def is_alive(self) -> bool:
        """Whether its thread went round lately."""
        return time.monotonic() - self._tick_s < ALIVE_S

    async def on_start(self) -> None:
        """Starts the thread."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                self._run()
            except BaseException as problem:  # handed to the app, which ends
                log.exception("ingest ends")
                asyncio.run_coroutine_threadsafe(self.crash(problem), loop)

        self._thread = threading.Thread(target=run, name="tidegate-ingest", daemon=True)
        self._thread.start()

    async def on_stop(self) -> None:
        """Lets the thread send and commit what it has taken."""
        self._halt.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_S)

    def _run(self) -> None:
        from tidegate.streams.ingest_session import IngestSession, SessionEndedError

        topics = SourceTopics(
            {
                **self._settings.kafka,
                "client.id": "tidegate-ingest",
                "reconnect.backoff.max.ms": 1_000,
                "error_cb": lambda _: None,
                "log_level": 0,
            }
        )
        wait_s = _WAIT_S
        while not self._halt.is_set():
            self._tick()
            names = self._settings.topics
            try:
                facts = topics.facts([names.otlp_spans, names.partials, names.dlq])
                facts |= self._pairs_facts(topics)
                self._session = IngestSession(
                    self._settings, self._worker_metrics, topics, facts, grace_ms=self._grace_ms
                )
                began_s = time.monotonic()
                self._say("", "")
                self._session.run(self._halt.is_set, self._tick)
            except TopicMissingError as problem:
                self._say(
                    "missing", f"missing topics: {problem}; make them with `tidegate topics create`"
                )
            except BrokerAwayError as problem:
                self._say("away", f"the broker does not answer; waiting for it ({problem})")
            except SessionEndedError as problem:
                self._worker_metrics.restarts.inc()
                self._say(
                    f"ended {problem}", f"beginning again from the committed offsets: {problem}"
                )
                wait_s = (
                    _WAIT_S if time.monotonic() - began_s > 60 else min(_WAIT_MAX_S, 2 * wait_s)
                )
            finally:
                self._session = None
            self._halt.wait(wait_s)

    def _pairs_facts(self, topics: SourceTopics) -> dict[str, TopicFacts]:
        """Of the pairs topic. Without it, or without the right to it, a worker of an older installation goes
        on: callees stay unnamed."""
        name = self._settings.topics.pairs
        try:
            return topics.facts([name])
        except TopicMissingError:
            text = f"topic {name} is missing: callees' names are not learned; make it with "
            text += "`tidegate topics create`, then restart this worker"
        except BrokerAwayError as problem:
            text = f"topic {name} can't be asked for: callees' names are not learned ({problem})"
        if text != self._said_of_pairs:
            log.warning(text)
            self._said_of_pairs = text
        return {}

    def _tick(self) -> None:
        self._tick_s = time.monotonic()

    def _say(self, what: str, text: str) -> None:
        """Once, not at every try."""
        if what and what != self._said:
            log.warning(text)
        self._said = what or self._said
