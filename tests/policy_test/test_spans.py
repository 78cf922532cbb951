"""Packed spans against protobuf's own parser, and what the decoder makes of each form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tidegate.schemas.otlp import decode
from tidegate.schemas.outcome import Effect, Outcome
from tidegate.streams.policy_test.spans import TRACE_PREFIX, record_of, span_packer

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300)
ids = st.integers(1, 2**64 - 1)
times_ns = st.integers(1, 2**63)


@given(
    service=names,
    target=st.one_of(st.just(""), names),
    outcome=st.sampled_from(Outcome),
    effect=st.sampled_from(Effect),
    kept=st.sampled_from([1.0, 0.5, 0.1, 0.001]),
    span=st.tuples(ids, ids, st.one_of(st.just(0), ids), times_ns, times_ns),
)
def test_protobuf_reads_back_what_was_packed(
    service: str, target: str, outcome: Outcome, effect: Effect, kept: float, span: tuple[int, ...]
) -> None:
    trace, number, parent, start_ns, end_ns = span
    pack = span_packer(service, target, outcome, effect, kept, has_parent=parent != 0)
    record = record_of([(service, "pod-1", [pack(trace, number, parent, start_ns, end_ns)])])
    read = ExportTraceServiceRequest.FromString(record)
    (resource,) = read.resource_spans
    assert [(a.key, a.value.string_value) for a in resource.resource.attributes] == [
        ("service.name", service),
        ("service.instance.id", "pod-1"),
    ]
    (found,) = resource.scope_spans[0].spans
    assert found.trace_id == TRACE_PREFIX + trace.to_bytes(8, "little")
    assert found.span_id == number.to_bytes(8, "little")
    assert found.parent_span_id == (parent.to_bytes(8, "little") if parent else b"")
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (start_ns, end_ns)
    assert bool(found.trace_state) == (kept < 1)
    # No unknown fields: writing again gives the same bytes.
    assert read.SerializeToString(deterministic=True) == record


@pytest.mark.parametrize("target", ["", "payments"])
@pytest.mark.parametrize("effect", [Effect.NONE, Effect.PROBE, Effect.CUT])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_decoder_reads_the_outcome_and_effect_that_were_meant(
    outcome: Outcome, effect: Effect, target: str
) -> None:
    pack = span_packer("shop", target, outcome, effect, 1.0, has_parent=False)
    columns = decode([record_of([("shop", "", [pack(1, 2, 0, 10**18, 10**18 + 10**6)])])])
    assert columns.outcome.tolist() == [outcome]
    assert columns.effect.tolist() == [effect]
    assert not any(columns.counters.values())


def test_a_record_without_spans_is_empty() -> None:
    assert record_of([]) == b""
