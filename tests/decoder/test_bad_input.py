"""Bad bytes and odd spans: an error for the record or a counter, and the good part taken. Both decoders."""

import random
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.decoder.spans import mutated, request
from tests.decoder.test_meaning import client
from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.otlp import decode
from tidegate.schemas.otlp.decoding import decode_by_kernel
from tidegate.schemas.otlp.messages import parse
from tidegate.schemas.otlp.protobuf import decode_by_protobuf

Decode = Callable[[list[bytes]], SpanColumns]
DECODERS = pytest.mark.parametrize("decoded", [decode_by_kernel, decode_by_protobuf])
GOOD = client({"peer.service": "cart"})[0].SerializeToString()


def length_delimited(tag: int, content: bytes) -> bytes:
    size, out = len(content), bytearray([tag])
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(out) + bytes([size]) + content


def in_span(content: bytes) -> bytes:
    """A request of one span with these bytes."""
    return length_delimited(10, length_delimited(18, length_delimited(18, content)))


@DECODERS
@pytest.mark.parametrize(
    "record",
    [
        pytest.param(GOOD[:-1], id="cut short"),
        pytest.param(
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="length of eleven bytes"
        ),
        pytest.param(b"\x0a\xff\xff\xff\xff\x7f", id="length beyond the record"),
        pytest.param(b"\x0b", id="group without end"),
        pytest.param(b"\x0c", id="end of a group that never began"),
        pytest.param(b"\x07\x01", id="wire type that doesn't exist"),
        pytest.param(b"\x00\x00", id="field zero"),
        pytest.param(in_span(b"\x3b"), id="group in a span without end"),
        pytest.param(in_span(b"\x39\x01"), id="time cut short"),
        pytest.param(in_span(b"\x85\x01\0\0\0"), id="flags cut short"),
        pytest.param(in_span(b"\xa1\x01" + bytes(7)), id="unknown eight bytes cut short"),
        pytest.param(in_span(b"\xa0\x01\xff"), id="unknown number cut short"),
        pytest.param(in_span(b"\xa2\x01\x02a"), id="unknown text cut short"),
        pytest.param(in_span(length_delimited(74, b"\x12\x05ab")), id="value beyond its attribute"),
        pytest.param(b"{", id="JSON cut short"),
        pytest.param(b"{}", id="JSON without spans"),
        pytest.param(b'{"resourceMetrics": []}', id="metrics as JSON"),
        pytest.param(b'{"resourceSpans": 5}', id="JSON of a wrong type"),
        pytest.param(b'{"a":' * 5_000 + b"1" + b"}" * 5_000, id="JSON nested too deep"),
    ],
)
def test_an_undecodable_record_is_named_and_the_others_are_taken(
    decoded: Decode, record: bytes
) -> None:
    columns = decoded([GOOD, record, GOOD])
    assert list(columns.record_errors) == [1]
    assert columns.record_errors[1]
    assert columns.record.tolist() == [0, 2]
    assert [columns.targets[i] for i in columns.target] == ["cart", "cart"]


@DECODERS
@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"", id="no bytes"),
        pytest.param(b"\x12\x03abc", id="unknown field"),
        pytest.param(b"\x08\x05", id="wrong wire type"),
        pytest.param(b"\x1b\x1c", id="unknown group"),
        pytest.param(b'{"resourceSpans": []}', id="JSON of no span"),
        pytest.param(b'{"resourceSpans": null}', id="JSON of null"),
    ],
)
def test_what_protobuf_takes_for_an_empty_request_is_one(decoded: Decode, record: bytes) -> None:
    columns = decoded([record, GOOD])
    assert columns.record_errors == {}
    assert columns.record.tolist() == [1]


@DECODERS
def test_a_hundred_nested_values_are_skipped_or_refused_alike(decoded: Decode) -> None:
    value = b""
    for _ in range(90):
        value = length_delimited(0x2A, length_delimited(0x0A, value))
    attribute = length_delimited(74, length_delimited(10, b"deep") + length_delimited(18, value))
    columns = decoded([in_span(attribute), GOOD])
    assert 1 in columns.record.tolist()


@DECODERS
def test_names_that_are_no_utf8_are_mended_and_counted(decoded: Decode) -> None:
    record = GOOD.replace(b"cart", b"c\xffrt").replace(b"shop", b"sh\xc3p")
    columns = decoded([record])
    assert columns.record_errors == {}
    assert columns.services == ["sh\ufffdp"]
    assert columns.targets == ["c\ufffdrt"]
    assert columns.counters == {"names_not_utf8": 2}


@DECODERS
def test_ids_of_a_wrong_length_count_as_none(decoded: Decode) -> None:
    request, span = client({})
    span.trace_id, span.span_id, span.parent_span_id = b"123", b"1234567", b"123456789"
    columns = decoded([request.SerializeToString()])
    assert (columns.trace_hi[0], columns.trace_lo[0]) == (0, 0)
    assert (columns.span_id[0], columns.parent_id[0]) == (0, 0)
    assert columns.counters == {
        "invalid_trace_ids": 1,
        "invalid_span_ids": 1,
        "invalid_parent_ids": 1,
    }


@DECODERS
def test_ids_are_read_big_endian(decoded: Decode) -> None:
    request, span = client({})
    span.trace_id, span.span_id = bytes(range(16)), bytes(range(8))
    columns = decoded([request.SerializeToString()])
    assert int(columns.trace_hi[0]) == 0x0001020304050607
    assert int(columns.trace_lo[0]) == 0x08090A0B0C0D0E0F
    assert int(columns.span_id[0]) == 0x0001020304050607


@DECODERS
def test_a_name_of_any_length_is_cut_and_counted(decoded: Decode) -> None:
    request, _ = client({"peer.service": "ü" * 5_000})
    columns = decoded([request.SerializeToString()])
    assert columns.targets == ["ü" * 200]
    assert columns.counters == {"names_cut": 1}


@DECODERS
def test_five_hundred_attributes_are_looked_through(decoded: Decode) -> None:
    request, span = client({f"custom.{i}": "x" for i in range(499)})
    span.attributes.add(key="peer.service").value.string_value = "cart"
    assert decoded([request.SerializeToString()]).targets == ["cart"]


@DECODERS
def test_spans_may_come_before_their_resource(decoded: Decode) -> None:
    request, _ = client({})
    group = request.resource_spans[0]
    turned = length_delimited(18, group.scope_spans[0].SerializeToString()) + length_delimited(
        10, group.resource.SerializeToString()
    )
    assert decoded([length_delimited(10, turned)]).services == ["shop"]


def test_logs_on_the_spans_topic_are_refused() -> None:
    logs = ExportLogsServiceRequest()
    line = logs.resource_logs.add().scope_logs.add().log_records.add(severity_text="INFO")
    line.body.string_value = "hello"
    line.time_unix_nano = 10**18
    columns = decode([logs.SerializeToString(), GOOD])
    assert list(columns.record_errors) == [0]
    assert columns.record.tolist() == [1]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**48))
def test_text_as_bytes_changes_nothing_else_about_what_protobuf_takes(seed: int) -> None:
    r = random.Random(seed)
    record = mutated(r, request(r).SerializeToString())
    try:
        published = ExportTraceServiceRequest.FromString(record)
    except DecodeError:
        published = None
    try:
        ours = parse(record)
    except DecodeError:
        assert published is None
        return
    if published is not None:
        assert ours.SerializeToString() == published.SerializeToString()
    else:  # all that is wrong with it is text that is no UTF-8
        with pytest.raises(DecodeError):
            ExportTraceServiceRequest.FromString(ours.SerializeToString())
