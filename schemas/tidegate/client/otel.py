"""Spans straight to Kafka: an exporter for the OpenTelemetry SDK (extra `tidegate-client[otel]`)."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Span

from tidegate.client.admission import Verdict

__all__ = ["EFFECT", "KafkaSpanExporter", "mark"]

EFFECT = "tidegate.effect"
RECORD_BYTES_MAX = 900_000
"""Kafka's default limit is 1 MB a message."""
QUEUE_BYTES_MAX = 32 * 1_048_576


def mark(span: Span, verdict: Verdict) -> None:
    """Puts the verdict's own effect on the span, so that it is not taken for evidence."""
    if verdict.effect is not None:
        span.set_attribute(EFFECT, verdict.effect)


class KafkaSpanExporter(SpanExporter):
    """Give it to a BatchSpanProcessor. Encodes with the SDK's official encoder, one record a batch (cut
    where it would pass 900 kB). The queue is bounded; what doesn't fit is dropped and counted."""

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        *,
        topic: str = "otlp_spans",
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        """config: librdkafka's settings, or just the brokers."""
        given = {"bootstrap.servers": config} if isinstance(config, str) else dict(config)
        self._topic = topic
        self._lock = threading.Lock()
        self.exported_spans = 0
        """Confirmed by Kafka."""
        self.dropped_spans = 0
        """Not queued, or not delivered."""
        self._is_shut = False
        self._producer = Producer(
            {
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 20,
                "partitioner": "murmur2_random",
                "message.max.bytes": 1_000_000,
                **given,
                "queue.buffering.max.kbytes": max(1, queue_bytes_max // 1024),
            }
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queues the spans; FAILURE where some had to be dropped."""
        if self._is_shut:
            self._drop(len(spans))
            return SpanExportResult.FAILURE
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
        """Delivers what is queued, for at most 10 s."""
        self._is_shut = True
        self.force_flush(10_000)

    def _send(self, spans: Sequence[ReadableSpan]) -> bool:
        if not spans:
            return True
        value = encode_spans(spans).SerializeToString()
        if len(value) > RECORD_BYTES_MAX and len(spans) > 1:
            half = len(spans) // 2
            first = self._send(spans[:half])
            return self._send(spans[half:]) and first
        count = len(spans)

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                with self._lock:
                    self.exported_spans += count
            else:
                self._drop(count)

        try:
            self._producer.produce(self._topic, value, on_delivery=delivered)
        except (BufferError, KafkaException):
            self._drop(count)
            return False
        return True

    def _drop(self, count: int) -> None:
        with self._lock:
            self.dropped_spans += count
