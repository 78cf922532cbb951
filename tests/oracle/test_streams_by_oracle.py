"""Any stream of spans, however it comes: out of order, late, twice, from other partitions, from a
producer whose clock is an hour ahead. Counts are exactly those of the raw spans.
"""

from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.exactness.driving import TOPIC_ID, Feed, Ingest, LogRecord, published_of
from tests.oracle.checking import CheckedEvaluator, check_log
from tests.oracle.recompute import Oracle
from tests.oracle.spans import spans_of_record
from tidegate.rules.outputs import Outputs
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.partials import Source

T_MS = 1_750_000_000_000
POLICY = builtin_policy("default")
SERVICES, TARGETS = ("web", "pay"), ("", "", "pay", "db")
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Made:
    """A span to be, times in ms after T_MS."""

    service: str
    target: str
    end_ms: int
    duration_ns: int
    code: int
    effect: str
    threshold: str
    """Of `ot=th`, "" for unsampled."""
    is_child: bool
    """Of the SERVER span before it in its record."""


@dataclass(frozen=True)
class Batch:
    """A record, and when it is read: at flush number `at`."""

    at: int
    spans: tuple[Made, ...]


@st.composite
def made(draw: st.DrawFn, now_ms: int) -> Made:
    # Every edge of the fast window and the window, each a bucket before and after.
    edges = [b * 500 for e in (11, 61) for b in (e - 1, e, e + 1)]
    age_ms = draw(st.sampled_from([-400, 0, 50, 600, 3_000, 20_000, 45_000, *edges]))
    if draw(st.integers(0, 30)) == 0:
        age_ms = -HOUR_MS
    return Made(
        draw(st.sampled_from(SERVICES)),
        draw(st.sampled_from(TARGETS)),
        now_ms - age_ms + draw(st.integers(0, 499)),
        draw(st.integers(0, 10**9) | st.integers(0, 3_000) | st.integers(0, 4 * 10**12)),
        draw(st.sampled_from([200, 200, 200, 404, 429, 499, 500, 503, 504, 0])),
        draw(st.sampled_from(["", "", "", "", "shed", "cut", "fallback", "probe"])),
        draw(st.sampled_from(["", "", "", "8", "c", "fd70a4"])),
        draw(st.booleans()),
    )


@st.composite
def batches(draw: st.DrawFn) -> list[Batch]:
    out = []
    for _ in range(draw(st.integers(1, 25))):
        at = draw(st.integers(0, 140))
        out.append(Batch(at, tuple(draw(st.lists(made(at * 500), min_size=1, max_size=8)))))
    return sorted(out, key=lambda batch: batch.at)


def record(batch: Batch, number: int) -> bytes:
    request = ExportTraceServiceRequest()
    parent = b""
    for i, one in enumerate(batch.spans):
        resource = request.resource_spans.add()
        attribute = resource.resource.attributes.add()
        attribute.key, attribute.value.string_value = "service.name", one.service
        end_ns = (T_MS + one.end_ms) * 1_000_000
        span = resource.scope_spans.add().spans.add(
            trace_id=(number + 1).to_bytes(16, "big"),
            span_id=(number * 100 + i + 1).to_bytes(8, "big"),
            name="op",
            kind=Span.SPAN_KIND_CLIENT if one.target else Span.SPAN_KIND_SERVER,
            start_time_unix_nano=end_ns - one.duration_ns,
            end_time_unix_nano=end_ns,
            trace_state=f"ot=th:{one.threshold}" if one.threshold else "",
        )
        if one.target and one.is_child:
            span.parent_span_id = parent
        if not one.target:
            parent = span.span_id
        for key, text in (("peer.service", one.target), ("tidegate.effect", one.effect)):
            if text:
                attribute = span.attributes.add()
                attribute.key, attribute.value.string_value = key, text
        if one.code:
            attribute = span.attributes.add()
            attribute.key, attribute.value.int_value = "http.response.status_code", one.code
        else:
            span.status.code = 2
    value: bytes = request.SerializeToString()
    return value


def log_of(
    feeds: list[tuple[int, Feed]], *, flushes: int = 150, sources: int = 1
) -> list[LogRecord]:
    """What ingest writes when it reads these feeds before flush number `at`."""
    log: list[list[LogRecord]] = [[]]
    ingest = Ingest(log, listed=((TOPIC_ID, sources),))
    for flush in range(flushes):
        ingest.read([feed for at, feed in feeds if at == flush])
        now_ms = T_MS + flush * 500
        marks = {Source(TOPIC_ID, p): now_ms - 500 for p in range(sources)}
        ingest.flush(marks, append_ms=now_ms)
    return log[0]


def checked(
    feeds: list[tuple[int, Feed]], log: list[LogRecord]
) -> tuple[CheckedEvaluator, Outputs, Oracle]:
    oracle = Oracle({(TOPIC_ID, f.partition, f.offset): spans_of_record(f.value) for _, f in feeds})
    evaluator, out = check_log(log, oracle, POLICY, every=3)
    return evaluator, out, oracle


quick = settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking runs whole streams anew
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@quick
@given(batches())
def test_counts_and_quantiles_are_those_of_the_raw_spans(rows: list[Batch]) -> None:
    feeds = [(b.at, Feed(record(b, i), T_MS + b.at * 500, 0, i)) for i, b in enumerate(rows)]
    evaluator, out, oracle = checked(feeds, log_of(feeds))
    assert evaluator.seen.boundaries > 140
    assert out.counters["skewed"] == oracle.skewed
    assert out.counters["late"] == oracle.late


@quick
@given(batches(), st.randoms(use_true_random=False))
def test_a_block_delivered_twice_counts_once(rows: list[Batch], chance: object) -> None:
    """As after a failed delivery or a rebalance: the same source records again, in other batches."""
    feeds = [(b.at, Feed(record(b, i), T_MS + b.at * 500, 0, i)) for i, b in enumerate(rows)]
    again = [
        (min(149, at + chance.choice([0, 1, 7, 80])), feed)  # type: ignore[attr-defined] # a Random
        for at, feed in feeds
        if chance.random() < 0.6  # type: ignore[attr-defined]  # Hypothesis's Random
    ]
    twice = sorted([*feeds, *again], key=lambda pair: pair[0])
    _, out, oracle = checked(feeds, log_of(twice))
    assert out.counters["duplicate_blocks"] == oracle.duplicates == len(again)
    assert out.counters["requests"] + out.counters["late"] >= len(oracle.merged)
    assert len(oracle.merged) + oracle.late + oracle.skewed + len(oracle._waiting) >= sum(
        len(spans) for spans in oracle.records.values()
    )


@quick
@given(batches(), st.integers(2, 4), st.randoms(use_true_random=False))
def test_other_partitions_and_another_order_change_nothing(
    rows: list[Batch], sources: int, chance: object
) -> None:
    """The same records over several partitions, each flush's read in any order."""
    feeds = [(b.at, Feed(record(b, i), T_MS + b.at * 500, 0, i)) for i, b in enumerate(rows)]
    offsets = [0] * sources
    spread = []
    for at, feed in feeds:
        partition = chance.randrange(sources)  # type: ignore[attr-defined]  # Hypothesis's Random
        spread.append((at, Feed(feed.value, feed.kafka_ms, partition, offsets[partition])))
        offsets[partition] += 1
    chance.shuffle(spread)  # type: ignore[attr-defined]  # Hypothesis's Random
    _, straight, _ = checked(feeds, log_of(feeds))
    _, other, _ = checked(spread, log_of(spread, sources=sources))
    assert published_of(other) == published_of(straight)
