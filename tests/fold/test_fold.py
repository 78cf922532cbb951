"""What the fold makes of a record: one table of small records, and the same without compiled code."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.fold.oracle import fold as fold_by_oracle
from tidegate.rules import fold_kernel
from tidegate.rules.fold import fold
from tidegate.schemas.bins import BIN_VALUE_NS, EDGES_NS, bin_of_ns
from tidegate.schemas.cells import HAS_CALLS, INHERITED, OUTCOME_MASK, SELF_TIME, Cells
from tidegate.schemas.otlp import decode
from tidegate.schemas.outcome import Outcome

SERVER, CLIENT, CONSUMER = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_CONSUMER
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


class Record:
    """A request of one service, span by span."""

    def __init__(self, instance: str = "") -> None:
        self.request = ExportTraceServiceRequest()
        self.resource(instance)

    def resource(self, instance: str, service: str = "shop") -> None:
        """The spans that follow are its."""
        group = self.request.resource_spans.add()
        attributes = group.resource.attributes
        attributes.add(key="service.name").value.string_value = service
        if instance:
            attributes.add(key="service.instance.id").value.string_value = instance
        self.scope = group.scope_spans.add()

    def span(
        self,
        number: int,
        kind: "Span.SpanKind.ValueType",
        start_ms: int,
        end_ms: int,
        parent: int = 0,
        failed: bool = False,
        trace: int = 1,
        effect: str = "",
        callee: str = "cart",
    ) -> Span:
        span: Span = self.scope.spans.add(
            trace_id=trace.to_bytes(16),
            span_id=number.to_bytes(8),
            parent_span_id=parent.to_bytes(8) if parent else b"",
            kind=kind,
            start_time_unix_nano=START_NS + start_ms * MS,
            end_time_unix_nano=START_NS + end_ms * MS,
        )
        if failed:
            span.attributes.add(key="http.response.status_code").value.int_value = 500
        if effect:
            span.attributes.add(key="tidegate.effect").value.string_value = effect
        if kind == CLIENT:
            span.attributes.add(key="peer.service").value.string_value = callee
        return span

    def fold(self) -> Cells:
        columns = decode([self.request.SerializeToString()])
        cells, slow = fold(columns), fold_by_oracle(columns)
        assert cells.counters == slow.counters
        for name in ("bucket", "code", "bin", "weight"):
            assert getattr(cells, name).tolist() == getattr(slow, name).tolist()
        for name in ("record", "key", "bucket", "name", "requests", "failed"):
            quick_rows, slow_rows = getattr(cells.instances, name), getattr(slow.instances, name)
            assert quick_rows.tolist() == slow_rows.tolist()
        return cells


def self_ms(cells: Cells) -> list[float]:
    mine = (cells.code & SELF_TIME) != 0
    return [round(ns / MS) for ns in BIN_VALUE_NS[cells.bin[mine]].tolist()]


@pytest.mark.parametrize(
    ("calls_ms", "own_ms"),
    [
        ([(10, 30)], 80),
        ([(10, 30), (20, 50)], 60),
        ([(20, 50), (10, 30), (12, 14)], 60),
        ([(10, 30), (60, 70)], 70),
        ([(-50, 10), (95, 300)], 85),
        ([(200, 300)], 100),
        ([(60, 10)], 100),
    ],
)
def test_self_time_is_what_calls_leave(calls_ms: list[tuple[int, int]], own_ms: int) -> None:
    record = Record()
    for i, (start, end) in enumerate(calls_ms):
        record.span(10 + i, CLIENT, start, end, parent=1)
    record.span(1, SERVER, 0, 100)
    cells = record.fold()
    assert self_ms(cells) == [own_ms]
    assert (cells.code & HAS_CALLS != 0).sum() == 1


@pytest.mark.parametrize(
    ("failed", "call_failed", "inherited"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_a_failure_is_inherited_from_a_failed_call(
    failed: bool, call_failed: bool, inherited: bool
) -> None:
    record = Record()
    record.span(1, SERVER, 0, 100, failed=failed)
    record.span(2, CLIENT, 10, 20, parent=1, failed=call_failed)
    cells = record.fold()
    requests = cells.code[(cells.code & HAS_CALLS) != 0].tolist()
    assert len(requests) == 1
    assert bool(requests[0] & INHERITED) == inherited


def test_calls_of_another_trace_or_record_are_nobodys_children() -> None:
    record, other = Record(), Record()
    record.span(1, SERVER, 0, 100)
    record.span(2, CLIENT, 10, 20, parent=1, trace=2)
    other.span(3, CLIENT, 10, 20, parent=1)
    columns = decode([r.request.SerializeToString() for r in (record, other)])
    assert not (fold(columns).code & (SELF_TIME | HAS_CALLS)).any()


@pytest.mark.parametrize("same_half", ["first", "last"])
def test_traces_that_share_half_an_id_are_two(same_half: str) -> None:
    """The same two span ids in 400 traces: many meet in the fold's table, whatever half it hashes."""
    record, chance = Record(), random.Random(5)
    for i in range(400):
        half = chance.getrandbits(64)
        trace = (7 << 64) + half if same_half == "first" else (half << 64) + 7
        record.span(1, SERVER, 0, 1_000, trace=trace, failed=i % 2 == 0)
        record.span(2, CLIENT, 0, 100 + i, parent=1, trace=trace, failed=i % 2 == 0)
    cells = record.fold()
    assert cells.counters == {}
    assert self_ms(cells) == pytest.approx([900 - i for i in range(400)], rel=0.02)
    inherited = (cells.code & INHERITED) != 0
    assert inherited.sum() == 400  # of 200 requests, and what their calls say of them


def test_requests_with_an_effect_have_no_self_time() -> None:
    record = Record()
    record.span(1, SERVER, 0, 100, effect="shed")
    record.span(2, CLIENT, 10, 20, parent=1)
    assert self_ms(record.fold()) == []


def test_a_span_given_twice_counts_once() -> None:
    record = Record()
    for _ in range(3):
        record.span(1, SERVER, 0, 100)
        record.span(2, CLIENT, 0, 50, parent=1)
    cells = record.fold()
    assert len(cells.key) == 3  # request, self time, call
    assert cells.counters == {"duplicate_spans": 4}


def test_a_request_and_a_call_may_share_an_id() -> None:
    record = Record()
    record.span(7, CLIENT, 0, 100)
    record.span(7, SERVER, 10, 90)
    record.span(8, CLIENT, 20, 30, parent=7)
    cells = record.fold()
    assert cells.counters == {}
    assert self_ms(cells) == [70]


def test_spans_without_an_id_are_never_duplicates() -> None:
    record = Record()
    for _ in range(3):
        record.span(1, SERVER, 0, 100).span_id = b""
    assert len(record.fold().key) == 3


@pytest.mark.parametrize(
    ("start_ns", "end_ns"),
    [(START_NS, 0), (0, START_NS), (START_NS, 2**63), (START_NS, 2**64 - 1)],
)
def test_times_that_cannot_be_are_left_out_and_counted(start_ns: int, end_ns: int) -> None:
    record = Record()
    span = record.span(1, SERVER, 0, 100)
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    record.span(2, CLIENT, 0, 50, parent=1)
    cells = record.fold()
    assert len(cells.key) == 1
    assert cells.counters == {"invalid_times": 1}


def test_an_end_before_the_start_is_no_time_at_all() -> None:
    record = Record()
    record.span(1, SERVER, 100, 0)
    cells = record.fold()
    assert cells.bin.tolist() == [0]
    assert cells.bucket.tolist() == [START_NS // (500 * MS)]
    assert cells.counters == {"end_before_start": 1}


def test_keys_are_the_service_and_its_targets() -> None:
    record = Record()
    record.span(1, SERVER, 0, 100)
    record.span(2, CONSUMER, 0, 100)
    record.span(3, CLIENT, 0, 100, callee="cart")
    record.span(4, CLIENT, 0, 100, callee="pay")
    cells = record.fold()
    assert [cells.keys[k] for k in cells.key] == [
        ("shop", ""),
        ("shop", ""),
        ("shop", "cart"),
        ("shop", "pay"),
    ]


def test_exemplars_are_the_slowest_failed_and_the_slowest_slow_one_of_a_key() -> None:
    record = Record()
    record.span(1, SERVER, 0, 49, trace=1)  # neither failed nor slow
    record.span(2, SERVER, 0, 60, trace=2)
    record.span(3, SERVER, 0, 90, trace=3)
    record.span(4, SERVER, 0, 5, failed=True, trace=4)
    record.span(5, SERVER, 0, 1, failed=True, trace=5)
    record.span(6, SERVER, 0, 5, failed=True, trace=6)  # as slow: the larger trace id
    record.span(7, SERVER, 0, 500, failed=True, effect="cut", trace=7)
    record.span(8, SERVER, 0, 900, trace=8).trace_id = b""  # nothing to look up
    offered = record.fold().exemplars
    assert offered.trace_lo.tolist() == [3, 6]
    assert (offered.code & OUTCOME_MASK).tolist() == [Outcome.OK, Outcome.SERVER_ERROR]


def test_the_kernels_bins_are_those_of_the_table() -> None:
    edges = EDGES_NS.tolist()
    durations = sorted(
        {0, 1, 2**62, 2**63 - 1, *edges, *(e + 1 for e in edges), *(e - 1 for e in edges)}
    )
    expected = bin_of_ns(np.array(durations, np.int64)).tolist()
    assert [int(fold_kernel._bin_of(d)) for d in durations] == expected


def test_a_parent_of_twenty_thousand_calls_is_no_trap() -> None:
    record = Record()
    record.span(1, SERVER, 0, 30_000)
    for i in range(20_000):
        record.span(i + 2, CLIENT, (i * 7_919) % 20_000, (i * 7_919) % 20_000 + 1, parent=1)
    columns = decode([record.request.SerializeToString()])
    assert self_ms(fold(columns)) == pytest.approx([10_000], rel=0.01)


def test_without_numba_the_cells_are_the_same() -> None:
    program = """
import random, sys
import numpy
numpy.seterr(over="ignore")  # 64-bit hashes wrap
from tests.decoder.spans import request
from tests.decoder.test_kernel import offers_of, rows_of
from tidegate.rules.fold import fold
from tidegate.schemas.otlp import decode
data = [request(random.Random(i)).SerializeToString() for i in range(40)]
cells = fold(decode(data))
print(hash((tuple(rows_of(cells)), tuple(offers_of(cells)), tuple(sorted(cells.counters.items())))))
"""
    made = []
    for more in ({}, {"TIDEGATE_NUMBA": "0", "NUMBA_DISABLE_JIT": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": "0", **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2_000:]
        made.append(done.stdout)
    assert made[0] == made[1]
