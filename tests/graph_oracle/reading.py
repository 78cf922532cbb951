"""Spans with their ids, by protobuf's own parser, and the parts of a recording that a boundary has seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.oracle.spans import FAILED, TIMEOUT, outcome_of, service_of, target_of

__all__ = ["EVERYTHING", "TraceSpan", "Window", "first_counted", "last_30s", "read"]

WINDOW_MS = 30_000
BUCKET_MS = 500


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """A request (SERVER, CONSUMER) or a call (CLIENT, PRODUCER)."""

    service: str
    is_call: bool
    target: str
    """Of calls, by what the span itself says; else ""."""
    outcome: int
    """0 to 5, as `schemas.outcome` numbers them."""
    start_ns: int
    end_ns: int
    trace: str
    span: str
    parent: str
    """Hex; "" without one."""

    @property
    def duration_ns(self) -> int:
        """Never negative."""
        return max(0, self.end_ns - self.start_ns)

    @property
    def is_failed(self) -> bool:
        """Throttled, a server's error or a time-out."""
        return self.outcome in FAILED

    @property
    def is_timeout(self) -> bool:
        """Nobody answered in time."""
        return self.outcome == TIMEOUT


@dataclass(frozen=True, slots=True)
class Window:
    """Spans that end in [start_ms, end_ms)."""

    start_ms: int
    end_ms: int

    def holds(self, span: TraceSpan) -> bool:
        """Whether the span ends in it."""
        return self.start_ms * 1_000_000 <= span.end_ns < self.end_ms * 1_000_000


EVERYTHING = Window(0, 1 << 43)


def last_30s(boundary_ms: int) -> Window:
    """The window that a boundary judges."""
    return Window(boundary_ms - WINDOW_MS, boundary_ms)


def read(records: Iterable[bytes]) -> list[TraceSpan]:
    """All spans of the records, in their order, those of INTERNAL and unknown kind left out."""
    return [span for value in records for span in _spans(value)]


def first_counted(times_ms: Sequence[int], *, grace_ms: int) -> list[int]:
    """Of records given by their Kafka times in order, the ends (ms) of the boundaries at which offline replay
    counts them first: what has come since time last moved on to another boundary is merged together, before all
    boundaries that this closes."""
    out: list[int] = []
    closed: int | None = None
    for index, time_ms in enumerate(times_ms):
        number = (time_ms - grace_ms) // BUCKET_MS
        if number != closed:
            first = number if closed is None else closed + 1
            out += [first * BUCKET_MS] * (index + 1 - len(out))
            closed = number
    if closed is not None:
        out += [(closed + 1) * BUCKET_MS] * (len(times_ms) - len(out))
    return out


def _spans(value: bytes) -> Iterable[TraceSpan]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(value)
    for resource in request.resource_spans:
        service = service_of(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                if span.kind >= Span.SPAN_KIND_SERVER:
                    yield _read(service, span)


def _read(service: str, span: Span) -> TraceSpan:
    is_call = span.kind in (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER)
    return TraceSpan(
        service=service,
        is_call=is_call,
        target=target_of(span) if is_call else "",
        outcome=outcome_of(span),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
    )
