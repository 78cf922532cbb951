"""The quick reader of OTLP/JSON equals protobuf's JSON parser on what it takes, and leaves the rest to it."""

import base64
import json
import random

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decoder.spans import comparable, request
from tidegate.schemas.otlp.decoding import decode_by_kernel
from tidegate.schemas.otlp.json_quick import protobuf_from_json
from tidegate.schemas.otlp.protobuf import decode_by_protobuf


def as_json(seed: int) -> bytes:
    """As the Collector's file exporter writes it: hex ids, enums as numbers."""
    raw = json_format.MessageToDict(
        request(random.Random(seed)), use_integers_for_enums=True, preserving_proto_field_name=False
    )
    raw.setdefault("resourceSpans", [])
    for group in raw["resourceSpans"]:
        for scope in group.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
                for link in span.get("links", []):
                    link.clear()
    return json.dumps(raw).encode()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**48))
def test_json_reads_the_same_quickly_and_slowly(seed: int) -> None:
    record = as_json(seed)
    quick, slow = decode_by_kernel([record]), decode_by_protobuf([record])
    assert quick.record_errors == slow.record_errors
    assert comparable(quick) == comparable(slow)


ODD = [
    '{"resource_spans":[{"scope_spans":[{"spans":[{"name":"a","kind":2,"end_time_unix_nano":"5"}]}]}]}',
    '{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SPAN_KIND_SERVER","endTimeUnixNano":7}]}]}]}',
    '{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"2","endTimeUnixNano":"7"}]}]}]}',
    '{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":2.0,"endTimeUnixNano":7e3}]}]}]}',
    '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz","kind":2}]}]}]}',
    '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"ABCDEF","kind":2,"status":null}]}]}]}',
    (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":2,"attributes":[{"key":"x","value":'
        '{"doubleValue":NaN}}]}]}]}]}'
    ),
    (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":2,"attributes":[{"key":"http.status_code",'
        '"value":{"intValue":"500"}},{"key":"http.status_code","value":{"intValue":503}}]}]}]}]}'
    ),
    (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":2,"attributes":[null,{"key":"error","value":'
        '{"boolValue":true,"stringValue":"x"}}]}]}]}]}'
    ),
    '{"resourceSpans":[{"scopeSpans":[{"spans":[{"endTimeUnixNano":"99999999999999999999"}]}]}]}',
    '{"resourceSpans":null}',
    '{"resourceMetrics":[]}',
    "{}",
    "{",
    '{"resourceSpans":[',
    '{"resourceSpans":{}}',
]


@pytest.mark.parametrize("text", ODD)
def test_odd_json_is_read_as_protobufs_parser_reads_it(text: str) -> None:
    record = text.encode()
    quick, slow = decode_by_kernel([record]), decode_by_protobuf([record])
    assert list(quick.record_errors) == list(slow.record_errors)
    assert comparable(quick) == comparable(slow)


def test_the_ordinary_is_taken_quickly() -> None:
    taken = [protobuf_from_json(as_json(seed)) is not None for seed in range(300)]
    assert sum(taken) > 100
