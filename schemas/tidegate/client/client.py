"""The thin client: follows the decisions topic in a thread, answers from memory.

It never raises into the caller's request because Kafka is away, and never blocks it: without decisions
calls pass.
"""

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from tidegate.client.admission import PASS, AdmissionState, Priority, Request, Verdict, admit
from tidegate.client.store import Store
from tidegate.schemas.decision import Decision
from tidegate.schemas.scope import service_scope
from tidegate.schemas.topics import Topics

__all__ = ["Answer", "Client", "Decider", "OnChange"]

OnChange = Callable[[str, Decision | None], None]
"""Called with a scope and its new decision (None: it ended), in the client's thread."""

_log = logging.getLogger("tidegate.client")
_POLL_S = 0.1
_RETRY_S = 1.0
_STATES_MAX = 100_000
_TOPIC_GONE = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its public name
)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a scope."""

    scope: str
    level: str
    """The level that is obeyed: `closed` where nothing is known, or is known too late."""
    decision: Decision | None
    """The newest decision, to show; None where there is none."""
    is_stale: bool
    """Nobody is known to evaluate the scope any more, or its decision came too late."""


class Decider:
    """Answers from a store. `Client` feeds one from Kafka, `testing.FeedClient` from a test."""

    def __init__(
        self,
        *,
        client_id: str | None = None,
        wanted: Callable[[str], bool] | None = None,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._now_ms = now_ms
        self._store = Store(client_id=client_id or uuid.uuid4().hex, wanted=wanted)
        self._states: dict[str, AdmissionState] = {}
        self._listeners: list[OnChange] = []

    def decide(self, scope: str) -> Answer:
        """What is known of `payments` (a service) or of a full scope (`edge:web->payments`)."""
        if ":" not in scope:
            scope = service_scope(scope)
        now_ms = self._now_ms()
        override = self._store.override
        if override is not None:
            return Answer(scope=scope, level=override.level, decision=override, is_stale=False)
        entry = self._store.entries.get(scope)
        if entry is None:
            return Answer(scope=scope, level="closed", decision=None, is_stale=False)
        decision = entry.decision
        stale = entry.is_dead or self._store.is_stale(decision.partition, now_ms)
        return Answer(
            scope=scope,
            level="closed" if stale else decision.level,
            decision=decision,
            is_stale=stale,
        )

    def admit(
        self,
        *scopes: str,
        trace_id: str | bytes = "",
        session: str | bytes = "",
        priority: Priority = Priority.CRITICAL,
        is_retry: bool = False,
        is_heartbeat: bool = False,
        can_set_deadline: bool = True,
    ) -> Verdict:
        """Whether a request may be made; with several scopes (service, edge) the strictest verdict."""
        request = Request(
            trace_id=trace_id,
            session=session,
            priority=priority,
            is_retry=is_retry,
            is_heartbeat=is_heartbeat,
            can_set_deadline=can_set_deadline,
        )
        strictest = PASS
        for scope in scopes:
            verdict = self._admit(scope if ":" in scope else service_scope(scope), request)
            if _rank(verdict) > _rank(strictest):
                strictest = verdict
        return strictest

    def _admit(self, scope: str, request: Request) -> Verdict:
        now_ms, store = self._now_ms(), self._store
        relaxed = 0.0
        if store.override is not None:
            decision = store.override
        else:
            entry = store.entries.get(scope)
            if entry is None or entry.is_dead:
                return PASS
            decision = entry.decision
            relaxed = store.relaxed(decision.partition, now_ms)
            if relaxed >= 1.0:
                return PASS
        state = self._states.get(scope)
        if state is None:
            if len(self._states) >= _STATES_MAX:
                self._states.clear()  # only probes' and retries' tokens: they begin anew
            state = self._states.setdefault(scope, AdmissionState())
        return admit(decision, request, state, now_ms, relaxed=relaxed)

    def on_change(self, listener: OnChange) -> None:
        """Adds a listener for changed decisions."""
        self._listeners.append(listener)

    def stats(self) -> dict[str, int]:
        """Counters by name: scopes, not_newer, late_decisions, leases_lost, undecodable, ..."""
        return {"scopes": len(self._store.entries), **self._store.counters}

    def _apply(self, key: bytes, value: bytes | None, kafka_ms: int) -> None:
        scope = self._store.apply(key, value, kafka_ms=kafka_ms, now_ms=self._now_ms())
        if scope is None:
            return
        entry = self._store.entries.get(scope)
        decision = self._store.override if entry is None else entry.decision
        for listener in self._listeners:
            try:
                listener(scope, decision)
            except Exception:  # noqa: BLE001 - a listener's fault must not end the client
                _log.exception("on_change listener failed for %s", scope)


def _rank(verdict: Verdict) -> tuple[bool, bool, bool]:
    """Strictness: refused, would be refused, given a deadline or a mark."""
    return (
        not verdict.passes,
        not verdict.would_pass,
        verdict.deadline_ms is not None or verdict.effect is not None,
    )


class Client(Decider):
    """Follows the decisions topic from its beginning, all partitions, without a consumer group."""

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        *,
        topic_prefix: str = "",
        client_id: str | None = None,
        wanted: Callable[[str], bool] | None = None,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """config: librdkafka's settings, or just the brokers (see `load_kafka_config`).

        wanted: keeps only scopes it says yes to, so that a service holds what concerns it.
        """
        super().__init__(client_id=client_id, wanted=wanted, now_ms=now_ms)
        brokers = {"bootstrap.servers": config} if isinstance(config, str) else dict(config)
        self._topic = Topics(prefix=topic_prefix).decisions
        self._config = {
            "group.id": f"tidegate-client-{uuid.uuid4().hex}",  # librdkafka wants one; it isn't joined
            **brokers,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 10_000,
        }
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="tidegate-client", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Waits until everything that was there at the start is known. False after `timeout` s: calls
        pass meanwhile, and the client goes on trying."""
        return self._ready.wait(timeout)

    def close(self) -> None:
        """Ends the thread. What is known stays readable."""
        self._stop.set()
        self._thread.join(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            consumer: Consumer | None = None
            try:
                consumer = Consumer(self._config, logger=_log)
                self._follow(consumer)
            except (KafkaException, RuntimeError) as problem:
                self._say(f"{self._topic}: {problem}; trying again")
            finally:
                if consumer is not None:
                    with contextlib.suppress(KafkaException, RuntimeError):
                        consumer.close()
            self._stop.wait(_RETRY_S)

    def _follow(self, consumer: Consumer) -> None:
        """Reads until stopped; returns where the topic went away or changed."""
        partitions = self._partitions(consumer)
        if not partitions:
            return
        consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in partitions])
        unread = set(partitions)
        checked_s = time.monotonic()
        while not self._stop.is_set():
            message = consumer.poll(_POLL_S)
            if message is None:
                if time.monotonic() - checked_s > 10.0:
                    checked_s = time.monotonic()
                    if self._partitions(consumer) not in ([], partitions):
                        return
                continue
            error = message.error()
            if error is None:
                self._apply(message.key() or b"", message.value(), message.timestamp()[1])
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                unread.discard(message.partition())
                if not unread and not self._ready.is_set():
                    self._store.caught_up(self._now_ms())
                    self._ready.set()
            elif error.code() in _TOPIC_GONE:
                self._say(f"{self._topic}: is not there any more; waiting for it")
                return
            elif error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # no group is used
                self._say(f"{self._topic}: {error.str()}")

    def _partitions(self, consumer: Consumer) -> list[int]:
        try:
            found = consumer.list_topics(self._topic, timeout=5).topics.get(self._topic)
        except KafkaException as problem:
            self._say(f"Kafka does not answer ({problem.args[0].str()}); calls pass meanwhile")
            return []
        if found is None or found.error is not None or not found.partitions:
            self._say(f"{self._topic}: no such topic yet; `tidegate topics create` makes it")
            return []
        return sorted(found.partitions)

    def _say(self, text: str) -> None:
        """Each message once."""
        if text not in self._said and len(self._said) < 1_000:
            self._said.add(text)
            _log.warning(text)
