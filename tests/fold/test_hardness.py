"""What a failed call's code says of the request that made it."""

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.fold.test_fold import CLIENT, CONSUMER, SERVER, Record
from tidegate.rules.fold import fold
from tidegate.schemas.cells import HAS_PARENT, PARENT_FAILED, Cells
from tidegate.schemas.otlp import decode

INTERNAL, PRODUCER = Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_PRODUCER
UNKNOWN, GOOD, BAD = 0, HAS_PARENT, HAS_PARENT | PARENT_FAILED


def said(cells: Cells) -> list[int]:
    """Of every call, what is known of its request."""
    is_call = [cells.keys[k][1] != "" for k in cells.key.tolist()]
    return [code & (HAS_PARENT | PARENT_FAILED) for code in cells.code[is_call].tolist()]


@pytest.mark.parametrize("call", [CLIENT, PRODUCER])
@pytest.mark.parametrize("request_kind", [SERVER, CONSUMER])
@pytest.mark.parametrize("is_request_first", [True, False])
@pytest.mark.parametrize(
    ("call_failed", "request_failed", "expected"),
    [(True, True, BAD), (True, False, GOOD), (False, True, UNKNOWN), (False, False, UNKNOWN)],
)
def test_a_failed_call_knows_whether_its_request_failed(
    call: "Span.SpanKind.ValueType",
    request_kind: "Span.SpanKind.ValueType",
    is_request_first: bool,
    call_failed: bool,
    request_failed: bool,
    expected: int,
) -> None:
    record = Record()
    if is_request_first:
        record.span(1, request_kind, 0, 100, failed=request_failed)
    record.span(2, call, 10, 20, parent=1, failed=call_failed)
    if not is_request_first:
        record.span(1, request_kind, 0, 100, failed=request_failed)
    assert said(record.fold()) == [expected]


@pytest.mark.parametrize("effect", ["shed", "cut", "fallback", "probe"])
@pytest.mark.parametrize("of_call", [True, False])
def test_own_effects_of_either_say_nothing(effect: str, of_call: bool) -> None:
    record = Record()
    record.span(1, SERVER, 0, 100, failed=True, effect="" if of_call else effect)
    record.span(2, CLIENT, 10, 20, parent=1, failed=True, effect=effect if of_call else "")
    assert said(record.fold()) == [UNKNOWN]


def test_only_a_direct_request_of_the_same_trace_and_record_is_known() -> None:
    record, other = Record(), Record()
    record.span(1, SERVER, 0, 100, failed=True)
    record.span(2, INTERNAL, 0, 100, parent=1, failed=True)
    record.span(3, CLIENT, 10, 20, parent=2, failed=True)  # by way of an INTERNAL span
    record.span(4, CLIENT, 10, 20, parent=1, failed=True, trace=2)
    record.span(5, CLIENT, 10, 20, parent=3, failed=True)  # of a call
    record.span(6, CLIENT, 10, 20, parent=6, failed=True)  # of itself
    record.span(7, CLIENT, 10, 20, failed=True)
    assert said(record.fold()) == [UNKNOWN] * 5
    other.span(8, CLIENT, 10, 20, parent=1, failed=True)
    cells = fold(decode([r.request.SerializeToString() for r in (record, other)]))
    assert said(cells) == [UNKNOWN] * 6


def test_a_request_that_is_left_out_is_not_known() -> None:
    record = Record()
    record.span(1, SERVER, 0, 100, failed=True).end_time_unix_nano = 0
    record.span(2, CLIENT, 10, 20, parent=1, failed=True)
    assert said(record.fold()) == [UNKNOWN]


def test_a_producers_message_takes_no_part_in_its_requests_own_time() -> None:
    record = Record()
    record.span(1, SERVER, 0, 100, failed=True)
    record.span(2, PRODUCER, 10, 90, parent=1, failed=True)
    cells = record.fold()
    assert said(cells) == [BAD]
    assert len(cells.key) == 2  # no self time: only CLIENT spans are waited for


def test_a_requests_code_never_speaks_of_a_parent() -> None:
    record = Record()
    record.span(1, SERVER, 0, 100, failed=True)
    record.span(2, SERVER, 10, 90, parent=1, failed=True)
    record.span(3, CLIENT, 10, 90, parent=2, failed=True)
    cells = record.fold()
    assert [bool(code & HAS_PARENT) for code in cells.code.tolist()] == [False] * 3 + [True]
