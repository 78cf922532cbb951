"""For services with the OpenTelemetry SDK (extra `tidegate-client[otel]`): spans straight to Kafka, the
mark that keeps own effects out of the evidence, and what baggage says of a request.

Never raises into the SDK's export thread; what can't be kept or delivered is counted.
"""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tidegate.client.admission import Priority, Request, Verdict, priority_named

__all__ = [
    "EFFECT",
    "PRIORITY_KEY",
    "SESSION_KEYS",
    "ExportedSpans",
    "KafkaSpanExporter",
    "mark",
    "request_of",
]

EFFECT = "tidegate.effect"
PRIORITY_KEY = "tidegate.priority"
SESSION_KEYS = ("tidegate.session", "session.id", "user.id", "enduser.id")
"""Baggage that names a session, first one first; the last three by OpenTelemetry's conventions."""

RECORD_BYTES_MAX = 900_000
"""Kafka's default limit is 1 MiB a record, its headers and batch included."""
QUEUE_BYTES_MAX = 32 * 1_048_576
SHUTDOWN_S = 10.0


def mark(
    span: trace.Span, verdict: Verdict, *, is_cut: bool = False, is_fallback: bool = False
) -> None:
    """Puts the verdict's own effect on the span, so that it is not taken for evidence.

    is_cut: the caller's own deadline ended the call. is_fallback: the caller's fallback answered.
    """
    effect = verdict.effect_when(is_cut=is_cut, is_fallback=is_fallback)
    if effect is not None:
        span.set_attribute(EFFECT, effect)


def request_of(
    context: Context | None = None,
    *,
    is_retry: bool = False,
    is_heartbeat: bool = False,
    can_set_deadline: bool = True,
) -> Request:
    """What the present trace and its baggage say of a request, for `Client.admit_request`."""
    session = next((text for key in SESSION_KEYS if (text := _text(key, context))), "")
    name = _text(PRIORITY_KEY, context)
    return Request(
        trace_id=trace.get_current_span(context).get_span_context().trace_id,
        session=session,
        priority=priority_named(name) if name else Priority.CRITICAL,
        is_retry=is_retry,
        is_heartbeat=is_heartbeat,
        can_set_deadline=can_set_deadline,
    )


def _text(key: str, context: Context | None) -> str:
    value = baggage.get_baggage(key, context)
    return "" if value is None else str(value)


class ExportedSpans(NamedTuple):
    """What became of the spans that an exporter was given."""

    delivered: int
    """Confirmed by all in-sync replicas."""
    dropped: int
    """Not queued: the queue was full, the span alone is too large, or the exporter was shut."""
    failed: int
    """Queued, but not delivered in time."""
    pending: int
    """Queued."""


class KafkaSpanExporter(SpanExporter):
    """Give it to a BatchSpanProcessor. Encodes with the SDK's official encoder, one record a batch, cut
    where it would pass 900 kB. The queue is bounded; a full one drops, it never blocks."""

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        *,
        topic: str = "otlp_spans",
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        """config: librdkafka's settings, or just the brokers; those given here win over ours.

        Raises ValueError for settings that are wrong; a broker that doesn't answer is no error.
        """
        given = {"bootstrap.servers": config} if isinstance(config, str) else dict(config)
        if not given.get("bootstrap.servers"):
            raise ValueError('config: no brokers; give "HOST:PORT" or {"bootstrap.servers": ...}')
        self._topic = topic
        self._lock = threading.Lock()
        self._delivered = self._dropped = self._failed = self._pending = 0
        self._is_shut = False
        self._config = {
            "client.id": "tidegate-span-exporter",
            "acks": "all",
            # A retry after a broker's death must not count a batch twice.
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 20,
            "message.timeout.ms": 60_000,
            # No key is set; whoever sets one by a wrapper gets the partition that Java would choose.
            "partitioner": "murmur2_random",
            "message.max.bytes": 1_000_000,
            "log_level": 0,  # librdkafka would print each attempt; failures are counted
            **given,
            "queue.buffering.max.kbytes": max(1, queue_bytes_max // 1024),
        }
        try:
            self._producer = Producer(self._config)
        except KafkaException as problem:
            raise ValueError(f"config: {problem.args[0].str()}") from problem

    @property
    def stats(self) -> ExportedSpans:
        """Counts of spans since the start."""
        with self._lock:
            return ExportedSpans(self._delivered, self._dropped, self._failed, self._pending)

    @property
    def exported_spans(self) -> int:
        """Confirmed by Kafka."""
        return self.stats.delivered

    @property
    def dropped_spans(self) -> int:
        """Lost, before the queue or after it."""
        stats = self.stats
        return stats.dropped + stats.failed

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queues the spans; FAILURE where some had to be dropped."""
        if self._is_shut:
            self._count(dropped=len(spans))
            return SpanExportResult.FAILURE
        self._producer.poll(0)  # what was delivered makes room
        is_whole = self._send(spans)
        self._producer.poll(0)
        return SpanExportResult.SUCCESS if is_whole else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Waits for what is queued; False where something is left."""
        try:
            return self._producer.flush(timeout_millis / 1000) == 0
        except KafkaException:  # a fatal error: nothing will be delivered any more
            return False

    def shutdown(self) -> None:
        """Delivers what is queued, for at most 10 s; the rest counts as failed."""
        if self._is_shut:
            return
        self._is_shut = True
        if not self.force_flush(int(SHUTDOWN_S * 1000)):
            with contextlib.suppress(KafkaException):
                self._producer.purge()
                self._producer.flush(1.0)

    # ---- inside ----

    def _send(self, spans: Sequence[ReadableSpan]) -> bool:
        if not spans:
            return True
        value = encode_spans(spans).SerializeToString()
        if len(value) > RECORD_BYTES_MAX and len(spans) > 1:
            half = len(spans) // 2
            first = self._send(spans[:half])
            return self._send(spans[half:]) and first
        count = len(spans)
        self._count(pending=count)

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                self._count(pending=-count, delivered=count)
            else:
                self._count(pending=-count, failed=count)

        try:
            self._producer.produce(self._topic, value, on_delivery=delivered)
        except BufferError:
            self._count(pending=-count, dropped=count)
            return False
        except KafkaException as problem:
            self._count(pending=-count, dropped=count)
            if problem.args[0].fatal():
                self._renew()
            return False
        return True

    def _renew(self) -> None:
        """After a fatal error a producer delivers nothing any more: its records fail, a new one begins."""
        with contextlib.suppress(KafkaException):
            self._producer.purge()
            self._producer.flush(1.0)
        with contextlib.suppress(KafkaException):
            self._producer = Producer(self._config)

    def _count(
        self, *, delivered: int = 0, dropped: int = 0, failed: int = 0, pending: int = 0
    ) -> None:
        with self._lock:
            self._delivered += delivered
            self._dropped += dropped
            self._failed += failed
            self._pending += pending
