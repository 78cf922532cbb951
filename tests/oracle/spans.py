"""Spans of a record, by protobuf's own parser, read with as little cleverness as possible.

It knows the attribute names that the goldens and the generated streams use, not all generations: the
decoder's own tests hold the kernel against all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = [
    "FAILED",
    "TIMEOUT",
    "OracleSpan",
    "outcome_of",
    "service_of",
    "spans_of_record",
    "target_of",
]

OK, CLIENT_ERROR, CANCELLED, THROTTLED, SERVER_ERROR, TIMEOUT = range(6)
FAILED = (THROTTLED, SERVER_ERROR, TIMEOUT)
_EFFECTS = {"": 0, "shed": 1, "cut": 2, "fallback": 3, "probe": 4}


@dataclass(frozen=True, slots=True)
class OracleSpan:
    """A request or a call."""

    key: tuple[str, str]
    """(service, target); target "" for requests."""
    bucket: int
    outcome: int
    effect: int
    duration_ns: int
    weight: int
    """64 = 1."""
    is_inherited: bool
    self_ns: int
    """Duration less what was spent in calls, where the record holds them."""


def spans_of_record(value: bytes) -> list[OracleSpan]:
    """What counts of one record; INTERNAL spans don't."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(value)
    found = [
        (service_of(resource.resource.attributes), span)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    calls: dict[tuple[bytes, bytes], list[Span]] = {}
    for _, span in found:
        if span.kind == Span.SPAN_KIND_CLIENT and span.parent_span_id:
            calls.setdefault((span.trace_id, span.parent_span_id), []).append(span)
    return [
        _read(service, span, calls.get((span.trace_id, span.span_id), []))
        for service, span in found
        if span.kind >= Span.SPAN_KIND_SERVER
    ]


def _read(service: str, span: Span, calls: Sequence[Span]) -> OracleSpan:
    is_call = span.kind in (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER)
    attributes = _attributes(span.attributes)
    outcome = outcome_of(span)
    effect = _EFFECTS[attributes.get("tidegate.effect", "")]
    is_judged = not is_call and effect == 0
    return OracleSpan(
        key=(service, target_of(span) if is_call else ""),
        bucket=span.end_time_unix_nano // 500_000_000,
        outcome=outcome,
        effect=effect,
        duration_ns=_duration_ns(span),
        weight=_weight(span.trace_state),
        is_inherited=is_judged
        and outcome in FAILED
        and any(outcome_of(call) in FAILED for call in calls),
        self_ns=_duration_ns(span) - (_covered_ns(span, calls) if is_judged else 0),
    )


def _duration_ns(span: Span) -> int:
    return max(0, span.end_time_unix_nano - span.start_time_unix_nano)


def _covered_ns(span: Span, calls: Sequence[Span]) -> int:
    """Length of the union of the calls' times, inside the span's."""
    covered, until = 0, span.start_time_unix_nano
    for call in sorted(calls, key=lambda call: call.start_time_unix_nano):
        start = max(until, call.start_time_unix_nano)
        end = min(call.end_time_unix_nano, span.end_time_unix_nano)
        if end > start:
            covered, until = covered + end - start, end
    return covered


def service_of(attributes: object) -> str:
    """The name of a resource's service."""
    found = _attributes(attributes)
    name, namespace = found.get("service.name", ""), found.get("service.namespace", "")
    if not name:
        return "unknown_service"
    return f"{namespace}/{name}" if namespace else name


def _attributes(attributes: object) -> dict[str, str]:
    out = {}
    for attribute in attributes:  # type: ignore[attr-defined] # protobuf's container
        value = attribute.value
        out[attribute.key] = value.string_value or str(value.int_value or "")
    return out


def target_of(span: Span) -> str:
    """Whom a call is for, by what its span says."""
    found = _attributes(span.attributes)
    if "peer.service" in found:
        return found["peer.service"]
    if "db.system.name" in found:
        return "/".join(t for t in (found["db.system.name"], found.get("db.namespace")) if t)
    return found.get("server.address") or span.name


def outcome_of(span: Span) -> int:
    """One of six, 0 to 5, as `schemas.outcome` numbers them."""
    found = _attributes(span.attributes)
    http = int(found.get("http.response.status_code", 0))
    if http:
        by_code = {408: TIMEOUT, 504: TIMEOUT, 429: THROTTLED, 499: CANCELLED}
        rest = SERVER_ERROR if http >= 500 else CLIENT_ERROR if http >= 400 else OK
        return by_code.get(http, rest)
    if span.status.code != 2:
        return OK
    return TIMEOUT if "timeout" in found.get("error.type", "") else SERVER_ERROR


def _weight(trace_state: str) -> int:
    """Adjusted count of `ot=th:...` alone: 2^56 / (2^56 - threshold)."""
    if not trace_state:
        return 64
    threshold = int(trace_state.removeprefix("ot=th:").ljust(14, "0"), 16)
    kept = 2**56 - threshold
    return (2**56 * 64 + kept // 2) // kept
