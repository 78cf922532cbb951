"""Sends readings of the host to Kafka from a thread of its own. Never raises into the service and never
blocks it: what can't be read, queued or delivered is counted, and each trouble is said once.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidegate.client.decider import wall_ms
from tidegate.client.host.message import encode_reading
from tidegate.client.host.reading import read_host
from tidegate.client.identity import identity_of
from tidegate.schemas.topics import Topics

__all__ = ["EVERY_S", "EVERY_S_MAX", "EVERY_S_MIN", "HostReporter", "SentReadings"]

EVERY_S = 5.0
EVERY_S_MIN = 0.1
EVERY_S_MAX = 60.0
"""L5 takes what it last heard for true for two minutes at least: one report may be lost."""
CLOSE_S = 5.0
_SAID_MAX = 100
_log = logging.getLogger("tidegate.client")
_of_other_processes: list[Producer] = []
"""Kept: letting go of one waits for its threads, for ever where a fork didn't take them along."""


class SentReadings(NamedTuple):
    """What became of a reporter's readings."""

    delivered: int
    """Confirmed by all in-sync replicas."""
    failed: int
    """Not queued, or not delivered in time."""
    empty: int
    """Nothing of it can be read here."""
    pending: int
    """Queued."""


class HostReporter:
    """`start` it, and `close` it; or use it as a context manager. Start it after a fork: threads and
    connections don't survive one, and `close` in the other process does nothing."""

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        *,
        service: str = "",
        instance: str = "",
        topic_prefix: str = "",
        every_s: float = EVERY_S,
        cgroup: Path | None = None,
        root: Path = Path("/"),
        environ: Mapping[str, str] = os.environ,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        """config: librdkafka's settings (see `load_kafka_config`), or just the brokers; those given here
        win over ours. service, instance: see `identity_of`. cgroup, root: see `read_host`.

        Raises ValueError for settings that are wrong; a broker that doesn't answer is no error.
        """
        given = {"bootstrap.servers": config} if isinstance(config, str) else dict(config)
        if not given.get("bootstrap.servers"):
            raise ValueError('config: no brokers; give "HOST:PORT" or {"bootstrap.servers": ...}')
        if not EVERY_S_MIN <= every_s <= EVERY_S_MAX:
            raise ValueError(
                f"every_s: {every_s} is out of range; give {EVERY_S_MIN} to {EVERY_S_MAX:.0f}"
            )
        self.identity = identity_of(service, instance, environ)
        self.topic = Topics(prefix=topic_prefix).otlp_metrics
        self._every_s, self._cgroup, self._root, self._now_ms = every_s, cgroup, root, now_ms
        # A point that comes twice or after a newer one is dropped by whoever reads it, so nothing has to be
        # idempotent here.
        self._config = {
            "client.id": "tidegate-host",
            "acks": "all",
            "linger.ms": 0,
            "message.timeout.ms": 30_000,
            "queue.buffering.max.messages": 1_000,
            "partitioner": "murmur2_random",
            "log_level": 0,  # librdkafka would print each attempt; failures are counted
            **given,
            "error_cb": self._on_error,
        }
        self._thread: threading.Thread | None = None
        self._begin()

    @property
    def stats(self) -> SentReadings:
        """Counts of readings since the start."""
        with self._lock:
            return SentReadings(self._delivered, self._failed, self._empty, self._pending)

    def start(self) -> None:
        """Sends the first reading soon, and then one every `every_s`."""
        if self._pid != os.getpid():  # forked: thread and connections are the other process's
            _of_other_processes.append(self._producer)
            self._begin()
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="tidegate-host", daemon=True)
            try:
                thread.start()
            except RuntimeError as problem:  # the machine has no thread left
                self._say(f"no thread for the reporter: {problem}")
                self._count(failed=1)
            else:
                self._thread = thread

    def report(self) -> bool:
        """Reads and queues once. False where nothing was queued."""
        try:
            reading = read_host(self._root, cgroup=self._cgroup)
            for note in reading.notes:
                self._say(note)
            value = encode_reading(
                reading, attributes=self.identity.attributes, time_ms=self._now_ms()
            )
            if value is None:
                self._say("nothing of this host can be read: no reading is sent")
                self._count(empty=1)
                return False
            self._send(value)
        except Exception as problem:  # noqa: BLE001 - a reporter's fault must not end the service
            self._say(f"the host can't be reported: {problem!r}")
            self._count(failed=1)
            return False
        return True

    def close(self) -> None:
        """Ends the thread and delivers what is queued, for at most 5 s; the rest counts as failed."""
        if self._pid != os.getpid():
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_S)
        with contextlib.suppress(KafkaException):
            if self._producer.flush(CLOSE_S):
                self._producer.purge()
                self._producer.flush(1.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- inside ----

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = None
        self._delivered = self._failed = self._empty = self._pending = 0
        self._said: set[str] = set()
        self._troubles: set[str] = set()
        try:
            self._producer = Producer(self._config)
        except KafkaException as problem:
            raise ValueError(f"config: {problem.args[0].str()}") from problem

    def _run(self) -> None:
        while not self._stop.is_set():
            self.report()
            self._stop.wait(self._every_s)

    def _send(self, value: bytes) -> None:
        self._count(pending=1)
        try:
            self._producer.produce(
                self.topic, value, key=self.identity.service, on_delivery=self._on_delivery
            )
        except (BufferError, KafkaException):
            self._count(pending=-1)
            raise
        self._producer.poll(0)

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._count(pending=-1, delivered=1)
            self._troubles.clear()
            return
        self._count(pending=-1, failed=1)
        self._tell(f"a reading was not delivered to {self.topic}: {error.str()}", error)

    def _on_error(self, error: KafkaError) -> None:
        """Kafka's error events."""
        self._tell(f"readings wait: {error.str()}", error)

    def _tell(self, text: str, error: KafkaError) -> None:
        """Each of Kafka's troubles once until a reading is delivered; librdkafka puts times into texts."""
        if error.name() not in self._troubles:
            self._troubles.add(error.name())
            _log.warning("host: %s", text)

    def _say(self, text: str) -> None:
        """Each once."""
        if text not in self._said and len(self._said) < _SAID_MAX:
            self._said.add(text)
            _log.warning("host: %s", text)

    def _count(
        self, *, delivered: int = 0, failed: int = 0, empty: int = 0, pending: int = 0
    ) -> None:
        with self._lock:
            self._delivered += delivered
            self._failed += failed
            self._empty += empty
            self._pending += pending
