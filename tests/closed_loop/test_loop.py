"""The loop itself: what it feeds as columns means what real OTLP bytes mean, and it is a function of its seed."""

from collections.abc import Sequence
from functools import cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tests.closed_loop.cases import policy_named
from tests.closed_loop.loop import Load, Loop
from tests.closed_loop.shop import SHAPES, Fault, Steady
from tests.closed_loop.spans import RawSpan, ns_of
from tidegate.rules.pipeline import Offline
from tidegate.schemas.outcome import Effect, Outcome

STATUS = {Outcome.OK: 200, Outcome.SERVER_ERROR: 500, Outcome.TIMEOUT: 504}


@cache
def _run(number: int = 1) -> Loop:
    """number: the same run again."""
    faults = (Fault("slow", 70.0, 80.0, factor=20.0), Fault("error", 80.0, 95.0, share=0.8))
    backend = Steady(SHAPES["jitter"], 0.003, faults)
    load = Load(service="pay", caller="web", backend=backend, per_s=8.0)
    loop = Loop(policy_named("default"), [load], fed=[])
    loop.run(140.0)
    return loop


def _pair(key: str, value: str | int) -> KeyValue:
    made = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=key, value=made)


def _as_otlp(spans: Sequence[RawSpan]) -> bytes:
    made = ExportTraceServiceRequest()
    for raw in spans:
        attributes = [_pair("http.response.status_code", STATUS[raw.outcome])]
        if raw.effect != Effect.NONE:
            attributes.append(_pair("tidegate.effect", raw.effect.name.lower()))
        if raw.target:
            attributes.append(_pair("peer.service", raw.target))
        span = Span(
            trace_id=(1).to_bytes(8, "big") + raw.trace.to_bytes(8, "big"),
            span_id=raw.span.to_bytes(8, "big"),
            parent_span_id=raw.parent.to_bytes(8, "big") if raw.parent else b"",
            kind=int(raw.kind),  # type: ignore[arg-type] # the numbers are OTLP's
            start_time_unix_nano=ns_of(raw.start_ms),
            end_time_unix_nano=ns_of(raw.end_ms),
            attributes=attributes,
        )
        resource = ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])
        resource.resource.attributes.append(_pair("service.name", raw.service))
        made.resource_spans.append(resource)
    value: bytes = made.SerializeToString(deterministic=True)
    return value


def test_the_same_spans_as_otlp_bytes_give_the_same_decisions() -> None:
    loop = _run()
    assert loop.fed is not None
    offline, decisions = Offline(loop.policy), []
    for records, at_ms in loop.fed:
        decisions += offline.feed([(_as_otlp(spans), at_ms) for spans in records]).decisions
    assert len({level for known in loop.levels.values() for _, level in known}) >= 4
    assert decisions == loop.decisions


def test_all_effects_of_a_client_are_met_in_the_loop() -> None:
    fed = _run().fed or []
    met = {span.effect for records, _ in fed for spans in records for span in spans}
    assert met >= {Effect.NONE, Effect.SHED, Effect.CUT, Effect.PROBE}


def test_the_loop_is_a_function_of_its_seed() -> None:
    one, other = _run(), _run(2)
    assert one.decisions == other.decisions
    assert one.tally == other.tally
