"""OTLP/JSON gives the same columns as protobuf's form, and what is odd in it costs no record."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decoder.spans import comparable, request
from tests.decoder.test_meaning import client
from tidegate.schemas.otlp import decode

FIXTURES = Path(__file__).parents[3] / "shared" / "incidents" / "fixtures"
IDS = ("traceId", "spanId", "parentSpanId")


def as_json(message: Any) -> dict[str, Any]:
    """As OTLP writes it: protobuf's JSON, but ids in hex."""
    import base64

    def hexed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: base64.b64decode(v).hex() if k in IDS else hexed(v) for k, v in value.items()
            }
        return [hexed(v) for v in value] if isinstance(value, list) else value

    found: dict[str, Any] = hexed(json_format.MessageToDict(message))
    return found | {"resourceSpans": found.get("resourceSpans", [])}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**48))
def test_json_and_protobuf_say_the_same(seed: int) -> None:
    made = request(random.Random(seed))
    written = json.dumps(as_json(made)).encode()
    assert comparable(decode([written])) == comparable(decode([made.SerializeToString()]))


def one(**changes: Any) -> bytes:
    request, _ = client({"http.response.status_code": 500})
    whole = as_json(request)
    whole["resourceSpans"][0]["scopeSpans"][0]["spans"][0].update(changes)
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("changes", "column", "value"),
    [
        ({"kind": 2}, "kind", 2),
        ({"kind": "SPAN_KIND_SERVER"}, "kind", 2),
        ({"kind": "2"}, "kind", 2),
        ({"startTimeUnixNano": "123"}, "start_ns", 123),
        ({"startTimeUnixNano": 123}, "start_ns", 123),
        ({"startTimeUnixNano": 1e18}, "start_ns", 10**18),
        ({"startTimeUnixNano": "soon"}, "start_ns", 0),
        ({"startTimeUnixNano": None}, "start_ns", 0),
        ({"startTimeUnixNano": float("nan")}, "start_ns", 0),
        ({"startTimeUnixNano": -1}, "start_ns", 2**64 - 1),
        ({"startTimeUnixNano": 10**40}, "start_ns", 0),
        ({"spanId": "00000000000000FF"}, "span_id", 255),
        ({"spanId": "not hex at all"}, "span_id", 0),
        ({"parentSpanId": None}, "parent_id", 0),
        ({"unknownField": {"a": [None, 1]}}, "outcome", 4),
        ({"attributes": [{"key": "x", "value": {"doubleValue": float("nan")}}]}, "outcome", 0),
        ({"attributes": [{"key": "http.status_code", "value": {"intValue": "500"}}]}, "outcome", 4),
        ({"attributes": [None, {"key": "x", "value": None}]}, "outcome", 0),
        ({"name": "\ud800 half a character"}, "outcome", 4),
    ],
)
def test_odd_values_in_json_cost_no_record(
    changes: dict[str, Any], column: str, value: int
) -> None:
    columns = decode([one(**changes)])
    assert columns.record_errors == {}
    assert getattr(columns, column).tolist() == [value]


def test_snake_case_and_white_space_are_read() -> None:
    request, _ = client({})
    whole = json_format.MessageToDict(request, preserving_proto_field_name=True)
    span = whole["resource_spans"][0]["scope_spans"][0]["spans"][0]
    span["trace_id"], span["span_id"] = "ab" * 16, "cd" * 8
    columns = decode([b" \r\n\t" + json.dumps(whole, indent=1).encode()])
    assert columns.services == ["shop"]
    assert int(columns.span_id[0]) == 0xCDCDCDCDCDCDCDCD


@pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="../shared/incidents/fixtures isn't beside this checkout"
)
def test_recorded_json_is_read_or_named() -> None:
    lines = [
        line
        for file in sorted(FIXTURES.rglob("*.json*"))
        for line in (
            [file.read_bytes()] if file.suffix == ".json" else file.read_bytes().split(b"\n")
        )
        if line.strip()
    ]
    columns = decode(lines)
    assert len(columns.record) > 50
    assert len(columns.record_errors) < len(lines) / 4
