"""Requests and failures by instance: what the fold counts, for which spans, and how rows are made."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fold.oracle import fold as fold_by_oracle
from tests.fold.test_fold import CLIENT, CONSUMER, MS, SERVER, START_NS, Record
from tidegate.rules.fold import fold
from tidegate.schemas.cells import Cells
from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.otlp import decode
from tidegate.schemas.outcome import Effect, Outcome, SpanKind
from tidegate.schemas.scope import NAME_CHARS_MAX

BUCKET = START_NS // (500 * MS)


def rows(cells: Cells) -> list[tuple[int, str, int, str, int, int]]:
    """(record, service, buckets after START_NS, instance, requests, failed)."""
    seen = cells.instances
    assert all(cells.keys[k][1] == "" for k in seen.key.tolist())
    return [
        (record, cells.keys[key][0], bucket - BUCKET, seen.names[name], requests, failed)
        for record, key, bucket, name, requests, failed in zip(
            *(c.tolist() for c in (seen.record, seen.key, seen.bucket, seen.name)),
            *(c.tolist() for c in (seen.requests, seen.failed)),
            strict=True,
        )
    ]


def test_requests_are_counted_by_instance_and_bucket() -> None:
    record = Record("shop-1")
    record.span(1, SERVER, 0, 100)
    record.span(2, CONSUMER, 0, 200, failed=True)
    record.span(3, SERVER, 0, 700)
    record.span(4, SERVER, 0, 300)  # back in the first bucket: its row goes on
    record.resource("shop-2")
    record.span(5, SERVER, 0, 100, failed=True)
    record.resource("pay-1", service="pay")
    record.span(6, SERVER, 0, 100)
    assert rows(record.fold()) == [
        (0, "shop", 0, "shop-1", 3, 1),
        (0, "shop", 1, "shop-1", 1, 0),
        (0, "shop", 0, "shop-2", 1, 1),
        (0, "pay", 0, "pay-1", 1, 0),
    ]


@pytest.mark.parametrize(
    ("outcome", "failed"),
    [
        (200, 0),
        (404, 0),
        (499, 0),
        (429, 1),
        (500, 1),
        (504, 1),
    ],
)
def test_a_request_fails_by_its_outcome(outcome: int, failed: int) -> None:
    record = Record("shop-1")
    span = record.span(1, SERVER, 0, 100)
    span.attributes.add(key="http.response.status_code").value.int_value = outcome
    assert rows(record.fold()) == [(0, "shop", 0, "shop-1", 1, failed)]


@pytest.mark.parametrize("effect", ["shed", "cut", "fallback", "probe"])
def test_own_effects_calls_and_repeats_are_no_requests(effect: str) -> None:
    record = Record("shop-1")
    record.span(1, SERVER, 0, 100, effect=effect, failed=True)
    record.span(2, CLIENT, 0, 100, failed=True)
    record.span(3, SERVER, 0, 100)
    record.span(3, SERVER, 0, 100)  # the same once more
    assert rows(record.fold()) == [(0, "shop", 0, "shop-1", 1, 0)]


def test_without_an_instance_there_is_no_row() -> None:
    record = Record()
    record.span(1, SERVER, 0, 100, failed=True)
    record.resource("shop-2")
    record.span(2, SERVER, 0, 100)
    record.resource("")
    record.span(3, SERVER, 0, 100, failed=True)
    assert rows(record.fold()) == [(0, "shop", 0, "shop-2", 1, 0)]


def test_a_long_name_is_cut_by_the_decoder() -> None:
    record = Record("i" * 5_000)
    record.span(1, SERVER, 0, 100)
    assert [row[3] for row in rows(record.fold())] == ["i" * NAME_CHARS_MAX]


def test_records_count_for_themselves_and_part_again() -> None:
    one, other = Record("shop-1"), Record("shop-1")
    for number in range(1, 6):
        one.span(number, SERVER, 0, 100)
    other.span(9, SERVER, 0, 100, failed=True)
    data = [r.request.SerializeToString() for r in (one, Record(), other)]
    cells = fold(decode(data))
    assert rows(cells) == [(0, "shop", 0, "shop-1", 5, 0), (2, "shop", 0, "shop-1", 1, 1)]
    assert rows(cells.of_records(0, 2)) == rows(cells)[:1]
    assert rows(cells.of_records(1, 3)) == [(1, "shop", 0, "shop-1", 1, 1)]
    assert rows(cells.of_records(1, 2)) == []


def test_rows_are_not_changed_by_the_batch_after() -> None:
    record, other = Record("shop-1"), Record("shop-2")
    record.span(1, SERVER, 0, 100)
    for number in range(1, 4):
        other.span(number, SERVER, 0, 900, failed=True)
    first = record.fold()
    other.fold()
    assert rows(first) == [(0, "shop", 0, "shop-1", 1, 0)]


small = st.integers(0, 2)
spans = st.lists(
    st.tuples(
        st.sampled_from([SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.CLIENT, SpanKind.PRODUCER]),
        st.sampled_from(list(Outcome)),
        st.sampled_from([Effect.NONE] * 4 + list(Effect)),
        small,  # record
        small,  # service
        st.integers(-1, 40),  # instance
        st.integers(0, 3),  # bucket
        st.integers(0, 3),  # trace
        st.integers(0, 9),  # span id
        st.integers(0, 9),  # its parent's
    ),
    max_size=60,
)


Made = tuple[int, int, int, int, int, int, int, int, int, int]
"""As `spans` draws them."""


def columns_of(made: list[Made]) -> SpanColumns:
    made = sorted(made, key=lambda span: span[3])
    table = np.array(made, np.int64).reshape(-1, 10).T
    kind, outcome, effect, record, service, instance, bucket, trace, span_id, parent_id = table
    end_ns = START_NS + bucket * 500 * MS
    is_call = np.isin(kind, [SpanKind.CLIENT, SpanKind.PRODUCER])
    return SpanColumns(
        records_count=3,
        record=record.astype(np.int32),
        service=service.astype(np.int32),
        instance=instance.astype(np.int32),
        kind=kind.astype(np.uint8),
        outcome=outcome.astype(np.uint8),
        effect=effect.astype(np.uint8),
        start_ns=(end_ns - 7 * MS).astype(np.uint64),
        end_ns=end_ns.astype(np.uint64),
        trace_hi=(trace & 1).astype(np.uint64),
        trace_lo=(trace >> 1).astype(np.uint64),
        span_id=span_id.astype(np.uint64),
        parent_id=parent_id.astype(np.uint64),
        target=np.where(is_call, 0, -1).astype(np.int32),
        weight=np.full(len(made), 64, np.int32),
        services=[f"s-{i}" for i in range(4_000)],
        instances=[f"i-{i}" for i in range(4_000)],
        targets=["db"],
    )


@settings(max_examples=300, deadline=None)
@given(spans)
def test_whatever_the_spans_the_fold_equals_its_oracle(made: list[Made]) -> None:
    """Few ids, so that parents and repeats are common."""
    quick, slow = fold(columns_of(made)), fold_by_oracle(columns_of(made))
    assert quick.code.tolist() == slow.code.tolist()
    assert quick.counters == slow.counters
    assert rows(quick) == rows(slow)


@pytest.mark.parametrize("varied", ["service", "instance", "bucket"])
def test_many_rows_of_a_record_are_kept_apart(varied: str) -> None:
    """Rows that differ in one thing only, numbered far apart: they meet in the fold's table."""
    chance = random.Random(7)
    numbers = list(range(4_000))
    first: list[Made] = [
        (SpanKind.SERVER, 0, 0, 0, i, -1, 0, 0, i + 1, 0)
        for i in numbers  # numbers the keys
    ]
    chance.shuffle(numbers)
    some = numbers[:500] * 2
    second: list[Made] = [
        (
            *(SpanKind.SERVER, Outcome.TIMEOUT * (n % 3 == 0), 0, 1),
            i if varied == "service" else 0,
            i if varied == "instance" else 0,
            i if varied == "bucket" else 0,
            *(0, n + 1, 0),
        )
        for n, i in enumerate(some)
    ]
    columns = columns_of([*first, *second])
    quick, slow = fold(columns), fold_by_oracle(columns)
    assert len(quick.instances.key) == 500
    assert rows(quick) == rows(slow)
