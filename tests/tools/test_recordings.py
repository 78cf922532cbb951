"""Recorded OTLP in every wrapping, whole, cut and damaged."""

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tidegate.streams import recordings
from tidegate.streams.errors import UsageError
from tidegate.streams.recordings import Problem, Recorded, open_recording, read_recording

JSON_REQUESTS = [
    b'{"resourceSpans":[]}',
    b'{"resourceSpans":[{"scopeSpans":[]}]}',
    b'{"resourceSpans":[],"x":"\xc3\xa9"}',
]
PROTO_REQUESTS = [b"\x0a\x02\x12\x00", b"\x0a\x00", b"\x0a\x04\x12\x02\x12\x00" * 300]


def lines(requests: list[bytes]) -> bytes:
    return b"".join(request + b"\n" for request in requests)


def messages(requests: list[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(request)) + request for request in requests)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_in_two_frames(data: bytes) -> bytes:
    middle = len(data) // 2
    return zstd(data[:middle]) + zstd(data[middle:])


def gzip_in_two_members(data: bytes) -> bytes:
    middle = len(data) // 2
    return gzip.compress(data[:middle]) + gzip.compress(data[middle:])


def zstd_streamed(data: bytes) -> bytes:
    """A frame that does not say how long it is, as a pipe makes it."""
    out = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(out, closefd=False) as writer:
        writer.write(data)
    return out.getvalue()


WRAPPINGS: list[Callable[[bytes], bytes]] = [
    bytes,
    gzip.compress,
    gzip_in_two_members,
    zstd,
    zstd_in_two_frames,
    zstd_streamed,
]


def read(data: bytes) -> tuple[list[Recorded], list[Problem]]:
    problems: list[Problem] = []
    found = list(read_recording(io.BytesIO(data), "x.otlp", on_problem=problems.append))
    return found, problems


def requests_of(data: bytes) -> list[bytes]:
    found, problems = read(data)
    assert problems == []
    return [recorded.data for recorded in found]


@pytest.mark.parametrize("wrap", WRAPPINGS)
def test_json_lines_come_out_as_they_are_whatever_they_are_wrapped_in(
    wrap: Callable[[bytes], bytes],
) -> None:
    assert requests_of(wrap(lines(JSON_REQUESTS))) == JSON_REQUESTS


@pytest.mark.parametrize("wrap", WRAPPINGS)
def test_messages_behind_their_length_come_out_whatever_they_are_wrapped_in(
    wrap: Callable[[bytes], bytes],
) -> None:
    assert requests_of(wrap(messages(PROTO_REQUESTS))) == PROTO_REQUESTS


@pytest.mark.parametrize("requests", [JSON_REQUESTS, PROTO_REQUESTS])
def test_messages_that_the_collector_compressed_one_by_one_are_unpacked(
    requests: list[bytes],
) -> None:
    assert requests_of(messages([zstd(request) for request in requests])) == requests


def test_a_bare_protobuf_message_is_one_request() -> None:
    assert requests_of(PROTO_REQUESTS[2]) == [PROTO_REQUESTS[2]]


def test_a_document_over_many_lines_is_one_request() -> None:
    document = b'{\n  "resourceSpans": [\n  ]\n}'
    assert requests_of(document + b"\n") == [document]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"  \r\n\t\n", gzip.compress(b"", mtime=0), zstd(b"")]
)
def test_an_empty_recording_has_no_request_and_no_problem(data: bytes) -> None:
    assert requests_of(data) == []


def test_byte_order_marks_and_windows_line_ends_do_no_harm() -> None:
    assert requests_of(b"\xef\xbb\xbf" + b"\r\n".join(JSON_REQUESTS)) == JSON_REQUESTS


def test_empty_messages_are_passed_over() -> None:
    assert requests_of(messages([b"", PROTO_REQUESTS[0], b""])) == [PROTO_REQUESTS[0]]


def test_a_bad_line_is_named_and_the_rest_is_read() -> None:
    found, problems = read(JSON_REQUESTS[0] + b"\nnot json\n\n" + JSON_REQUESTS[1] + b"\n")
    assert [(r.data, r.where) for r in found] == [
        (JSON_REQUESTS[0], "line 1"),
        (JSON_REQUESTS[1], "line 4"),
    ]
    (problem,) = problems
    assert str(problem) == (
        "x.otlp: line 2: found 'not json'; the line is skipped; "
        "expected one OTLP request as a JSON object per line"
    )


def test_a_last_line_without_its_end_is_a_problem_and_costs_only_itself() -> None:
    found, problems = read(lines(JSON_REQUESTS[:2]) + b'{"resourceSp')
    assert [r.data for r in found] == JSON_REQUESTS[:2]
    assert [(p.where, p.found) for p in problems] == [("line 3", "the last line has no end")]


def test_a_last_line_without_newline_is_read() -> None:
    assert requests_of(lines(JSON_REQUESTS)[:-1]) == JSON_REQUESTS


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_message_that_is_cut_is_named_with_its_offset(cut: int) -> None:
    whole = messages(PROTO_REQUESTS[:1])
    found, problems = read(whole + messages([b"\x0a\x02\x12\x00"])[:cut])
    assert [r.data for r in found] == PROTO_REQUESTS[:1]
    assert [p.where for p in problems] == [f"offset {len(whole)}"]


@pytest.mark.parametrize("wrap", WRAPPINGS[1:])
def test_a_compressed_file_that_is_cut_yields_what_comes_before_and_one_problem(
    wrap: Callable[[bytes], bytes],
) -> None:
    requests = [b'{"resourceSpans":[],"n":"%s"}' % str(i * 7919).encode() for i in range(40_000)]
    packed = wrap(lines(requests))
    found, problems = read(packed[: len(packed) * 9 // 10])
    assert [r.data for r in found] == requests[: len(found)]
    assert 0 < len(found) < len(requests)
    assert len(problems) == 1
    assert "cut short or damaged" in str(problems[0])


def test_a_length_that_no_message_has_ends_the_reading() -> None:
    found, problems = read(messages(PROTO_REQUESTS[:1]) + b"\xff" * 100)
    assert len(found) == 1
    assert "a message of 4294967295 bytes" in problems[0].found


def test_a_message_that_claims_to_be_zstd_and_is_not_costs_only_itself() -> None:
    found, problems = read(
        messages([b"\x28\xb5\x2f\xfd broken", zstd(PROTO_REQUESTS[0]), PROTO_REQUESTS[1]])
    )
    assert [r.data for r in found] == PROTO_REQUESTS[:2]
    assert len(problems) == 1


def test_longer_records_than_allowed_are_skipped_without_being_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recordings, "RECORD_BYTES_MAX", 1_000)
    long_line = b'{"x":"' + b"y" * 3_000_000 + b'"}'
    found, problems = read(lines([JSON_REQUESTS[0], long_line, JSON_REQUESTS[1]]))
    assert [r.data for r in found] == JSON_REQUESTS[:2]
    assert [p.where for p in problems] == ["line 2"]
    _, problems = read(messages([zstd(b"z" * 2_000)]))
    assert "can't be unpacked" in problems[0].found


@given(data=st.binary(max_size=300))
def test_no_bytes_make_reading_raise(data: bytes) -> None:
    for wrap in (bytes, gzip.compress, zstd):
        read(wrap(data))
    read(b"\x1f\x8b" + data)
    read(b"\x28\xb5\x2f\xfd" + data)
    read(b"{" + data)


@given(requests=st.lists(st.binary(min_size=1, max_size=50).filter(lambda b: b[:1] not in b"\x28")))
def test_what_was_written_behind_lengths_is_what_is_read(requests: list[bytes]) -> None:
    assert requests_of(messages(requests)) == requests


def test_a_file_that_can_not_be_opened_is_wrong_usage_and_says_what_was_expected(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match=r"No such file.*expected a recording"):
        open_recording(f"{tmp_path}/missing")
    with pytest.raises(UsageError, match="is a folder"):
        open_recording(str(tmp_path))
