"""Goldens disturbed in the ways the design names, at the level of the partials log: what was decided
stays the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.exactness.driving import (
    GRACE_MS,
    TOPIC_ID,
    Feed,
    Ingest,
    LogRecord,
    Published,
    evaluate,
    straight_log,
)
from tests.goldens.incidents import BASE_MS, incident_named
from tests.goldens.recording import Record, as_protobuf, records_of
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.partials import RECORD_BYTES_MAX, Source, decode_partials

POLICY = builtin_policy("default")
GOLDEN = incident_named("worker_gap")


def decisions(log: Sequence[LogRecord]) -> Published:
    return [row for row in evaluate(log, POLICY)[0] if row[1].startswith(("service", "edge"))]


@pytest.fixture(scope="module")
def records() -> Sequence[Record]:
    return records_of(GOLDEN)


@pytest.fixture(scope="module")
def straight(records: Sequence[Record]) -> Published:
    return decisions(straight_log(feeds_of(records))[0])


def feeds_of(records: Sequence[Record], *, sources_count: int = 1) -> list[Feed]:
    offsets = [0] * sources_count
    out = []
    for number, record in enumerate(records):
        partition = number * 7 % 10 % sources_count
        out.append(Feed(as_protobuf(record.spans), record.kafka_ms, partition, offsets[partition]))
        offsets[partition] += 1
    return out


@dataclass(slots=True)
class Step:
    """One flush: what was read before it, and what it says. Marks have their grace taken off."""

    feeds: list[Feed]
    marks_ms: dict[Source, int]
    append_ms: int
    topic_id: str = TOPIC_ID


def log_of(steps: Sequence[Step], *, listed: Callable[[Step], tuple[str, int]]) -> list[LogRecord]:
    log: list[list[LogRecord]] = [[]]
    ingest = Ingest(log)
    for step in steps:
        ingest.listed = (listed(step),)
        ingest.read(step.feeds, topic_id=step.topic_id)
        ingest.flush(step.marks_ms, append_ms=step.append_ms)
    return log[0]


def steps_of(feeds: Sequence[Feed], *, sources_count: int = 1) -> list[Step]:
    """A flush at each 500 ms of the records' time, as an undisturbed worker does."""
    sources = [Source(TOPIC_ID, p) for p in range(sources_count)]
    end_ms = max(feed.kafka_ms for feed in feeds) + GRACE_MS + BUCKET_MS
    first_ms = min(feed.kafka_ms for feed in feeds) // BUCKET_MS * BUCKET_MS
    out, at = [], 0
    for now_ms in range(first_ms, end_ms + BUCKET_MS, BUCKET_MS):
        taken = []
        while at < len(feeds) and feeds[at].kafka_ms < now_ms:
            taken.append(feeds[at])
            at += 1
        out.append(Step(taken, dict.fromkeys(sources, now_ms - GRACE_MS), now_ms))
    assert at == len(feeds)
    return out


def one_topic(sources_count: int) -> Callable[[Step], tuple[str, int]]:
    return lambda _: (TOPIC_ID, sources_count)


def test_a_gap_without_any_worker_is_caught_up_in_one_flush(
    records: Sequence[Record], straight: Published
) -> None:
    assert GOLDEN.gap_s is not None
    low_ms, high_ms = (BASE_MS + int(s * 1000) for s in GOLDEN.gap_s)
    steps: list[Step] = []
    held: list[Feed] = []
    for step in steps_of(feeds_of(records)):
        if low_ms <= step.append_ms < high_ms:
            held += step.feeds
        else:
            steps.append(replace(step, feeds=held + step.feeds))
            held = []
    assert len(steps) <= len(steps_of(feeds_of(records))) - 80
    assert decisions(log_of(steps, listed=one_topic(1))) == straight


def test_a_first_worker_that_finds_minutes_of_backlog_decides_all_of_them(
    records: Sequence[Record], straight: Published
) -> None:
    """No snapshot, and the first flush already reaches to the end."""
    steps = steps_of(feeds_of(records))
    whole = replace(steps[-1], feeds=[feed for step in steps for feed in step.feeds])
    log = log_of([whole], listed=one_topic(1))
    assert decisions(log) == straight
    assert evaluate(log, POLICY)[1]["late"] == 0


def test_partitions_far_ahead_of_others_change_nothing(
    records: Sequence[Record], straight: Published
) -> None:
    """Partition 1 is read 9 s before partition 0, partition 2 4 s before it."""
    ahead_ms = (0, 9_000, 4_000)
    feeds = feeds_of(records, sources_count=3)
    out = []
    at = [0, 0, 0]
    own = [[f for f in feeds if f.partition == p] for p in range(3)]
    for step in steps_of(feeds, sources_count=3):
        taken, marks = [], {}
        for p in range(3):
            time_ms = step.append_ms + ahead_ms[p] - 9_000
            while at[p] < len(own[p]) and own[p][at[p]].kafka_ms < time_ms:
                taken.append(own[p][at[p]])
                at[p] += 1
            marks[Source(TOPIC_ID, p)] = time_ms - GRACE_MS
        out.append(Step(taken, marks, step.append_ms))
    end_ms = out[-1].append_ms
    rest = [feed for p in range(3) for feed in own[p][at[p] :]]
    marks = {Source(TOPIC_ID, p): end_ms - GRACE_MS for p in range(3)}
    out.append(Step(rest, marks, end_ms + 9_000))
    assert decisions(log_of(out, listed=one_topic(3))) == straight


def test_an_ingest_host_three_seconds_ahead_closes_no_bucket_early(
    records: Sequence[Record], straight: Published
) -> None:
    fast = [
        replace(step, marks_ms={source: ms + 3_000 for source, ms in step.marks_ms.items()})
        for step in steps_of(feeds_of(records))
    ]
    log = log_of(fast, listed=one_topic(1))
    assert decisions(log) == straight
    assert evaluate(log, POLICY)[1]["late"] == 0


def test_a_producer_an_hour_ahead_is_counted_and_changes_nothing(
    records: Sequence[Record], straight: Published
) -> None:
    """Every tenth record also holds spans of the same services with a clock that is an hour fast."""
    hour_us, added, mixed = 3_600_000_000, 0, []
    for number, record in enumerate(records):
        spans = list(record.spans)
        if number % 10 == 0:
            ahead = [
                replace(
                    span,
                    start_us=span.start_us + hour_us,
                    end_us=span.end_us + hour_us,
                    span=span.span + 2**40,
                    parent=0,
                    status=500,
                )
                for span in spans
            ]
            added += len(ahead)
            spans += ahead
        mixed.append(Record(tuple(spans), record.kafka_ms))
    log = straight_log(feeds_of(mixed))[0]
    rows, counters = evaluate(log, POLICY)
    assert [row for row in rows if row[1].startswith(("service", "edge"))] == straight
    assert counters["skewed"] == added > 500


def test_ninety_six_before_ninety_five_counts_both(
    records: Sequence[Record], straight: Published
) -> None:
    """Two owners, each in order, not in order together; and everything of the last 2 s once more."""
    feeds = feeds_of(records)
    swapped = [f for pair in zip(feeds[1::2], feeds[::2], strict=False) for f in pair]
    swapped += feeds[len(feeds) // 2 * 2 :]
    steps = steps_of(feeds)
    order = {feed.offset: i for i, feed in enumerate(swapped)}
    for number, step in enumerate(steps):
        step.feeds.sort(key=lambda feed: order[feed.offset])
        again = [feed for old in steps[max(0, number - 4) : number] for feed in old.feeds[:2]]
        if number % 3 == 0:
            step.feeds += [feed for feed in again if feed.kafka_ms > step.append_ms - 2_000]
    log = log_of(steps, listed=one_topic(1))
    assert evaluate(log, POLICY)[1]["duplicate_blocks"] > 100
    assert decisions(log) == straight


def test_a_topic_deleted_and_made_anew_goes_on_at_offset_zero(
    records: Sequence[Record], straight: Published
) -> None:
    """Kafka names the new one by another id: nothing of it is taken for a duplicate. The old source is
    waited for, then left out."""
    steps = steps_of(feeds_of(records))
    half = len(steps) // 2
    first = sum(len(step.feeds) for step in steps[:half])
    for step in steps[half:]:
        step.topic_id = "anew"
        step.feeds = [replace(feed, offset=feed.offset - first) for feed in step.feeds]
        step.marks_ms = {Source("anew", 0): ms for ms in step.marks_ms.values()}
    end_ms = steps[-1].append_ms
    for late_s in range(1, 30):  # time goes on, so that the last decisions come out
        mark = {Source("anew", 0): end_ms - GRACE_MS}
        steps.append(Step([], mark, end_ms + late_s * 1000, "anew"))
    log = log_of(steps, listed=lambda step: (step.topic_id, 1))
    rows, counters = evaluate(log, POLICY)
    assert counters["duplicate_blocks"] == counters["late"] == 0
    assert [row for row in rows if row[1].startswith(("service", "edge"))] == straight


def large_record(spans_count: int) -> bytes:
    """One record of one service, whose block is cut into parts."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", "large"
    spans = resource.scope_spans.add().spans
    for i in range(spans_count):
        end_ns = (BASE_MS + i % 1_000) * 1_000_000
        # Durations over three decades: with them and two buckets, few cells are equal.
        spans.add(
            trace_id=(i + 1).to_bytes(16, "big"),
            span_id=(i + 1).to_bytes(8, "big"),
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=end_ns - 1_000_000 - i * 7_919 % 10**9,
            end_time_unix_nano=end_ns,
        )
    value: bytes = request.SerializeToString()
    return value


def test_a_block_over_a_megabyte_comes_in_parts_and_counts_once_each() -> None:
    spans_count = 250_000
    log: list[list[LogRecord]] = [[]]
    ingest = Ingest(log)
    ingest.read([Feed(large_record(spans_count), BASE_MS + 1_000)])
    ingest.flush({}, append_ms=BASE_MS + 1_000)
    ingest.flush({Source(TOPIC_ID, 0): BASE_MS + 2_000}, append_ms=BASE_MS + 2_600)
    parts = log[0]
    blocks = [decode_partials(record.value)[1] for record in parts]
    parts_count = sum(len(b.parts) for b in blocks)
    assert {int(count) for b in blocks for count in b.parts} == {parts_count}
    assert parts_count > len(parts) > 3
    assert sum(len(record.value) for record in parts) > 1_048_576
    assert max(len(record.value) for record in parts) < RECORD_BYTES_MAX
    # Every part comes twice, the second time in another order.
    twice = [*parts[:-1], *reversed(parts[:-1]), parts[-1]]
    evaluator = Evaluator(0, POLICY, partitions_count=1)
    counters = {"requests": 0, "duplicate_blocks": 0}
    for offset, record in enumerate(twice):
        out = evaluator.feed(record.value, offset=offset, append_ms=record.append_ms)
        for name in counters:
            counters[name] += out.counters[name]
    assert counters == {"requests": spans_count, "duplicate_blocks": parts_count}
    slot = evaluator.state.traffic.keys.by_key["large", ""]
    assert evaluator.state.traffic.windows.window[slot, :6].sum() == spans_count
