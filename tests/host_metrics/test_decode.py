"""OTLP metrics to points: the table of names, the real SDK's output, what is odd, and a plain recomputation."""

import json
import math
from collections import Counter, defaultdict

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics import Counter as SdkCounter
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from tests.host_metrics.making import CUMULATIVE, DELTA, Odd, point, request
from tests.streams.live import request as spans_request
from tidegate.client.host.message import encode_reading
from tidegate.client.host.reading import HostReading
from tidegate.schemas.otlp.metrics import EVENT, EVENTS, METRICS, VALUE_MAX, decode_metrics
from tidegate.schemas.otlp.protobuf import decode_by_protobuf
from tidegate.schemas.points import Metric, MetricPoint, Temporality

GO = "go.goroutine.count"
EVENTS_NAME = "tidegate.cgroup.memory.events"
PRESSURE = "tidegate.pressure.memory.full"


def of(*points: Odd) -> list[MetricPoint]:
    return [found for _, found in decode_metrics([request(points).SerializeToString()]).points]


def test_the_table_of_names_is_pinned_newest_first() -> None:
    """`go.*`: semantic conventions for Go runtime metrics; `process.runtime.go.*`: what the Go
    instrumentation sent before them; `tidegate.*`: our own reporter."""
    level, count = ("gauge", "sum"), ("sum",)
    assert [(name, r.metric, r.kinds) for name, r in METRICS.items()] == [
        ("go.goroutine.count", Metric.GOROUTINES, level),
        ("process.runtime.go.goroutines", Metric.GOROUTINES, level),
        ("go.memory.used", Metric.GO_MEMORY_BYTES, level),
        ("process.runtime.go.mem.heap_alloc", Metric.GO_MEMORY_BYTES, level),
        ("tidegate.host.panic_on_oops", Metric.PANIC_ON_OOPS, level),
        ("tidegate.host.kernel_oops", Metric.KERNEL_OOPS, count),
        ("tidegate.cgroup.memory.events", None, count),
        ("tidegate.pressure.memory.full", Metric.MEMORY_FULL_MILLI, level),
    ]
    assert EVENT == "event"
    assert dict(EVENTS) == {"high": 4, "max": 5, "oom_kill": 6}
    assert {r.metric for r in METRICS.values()} - {None} | set(EVENTS.values()) == set(Metric)


GOOD = [
    (Odd(), Metric.GOROUTINES, Temporality.NOW, 7),
    (Odd(value=7.4), Metric.GOROUTINES, Temporality.NOW, 7),
    (Odd(value=0), Metric.GOROUTINES, Temporality.NOW, 0),
    (Odd(kind="sum", is_monotonic=False), Metric.GOROUTINES, Temporality.NOW, 7),
    (Odd(kind="sum", start_ms=1_000), Metric.GOROUTINES, Temporality.NOW, 7),
    (Odd("process.runtime.go.goroutines"), Metric.GOROUTINES, Temporality.NOW, 7),
    (Odd("go.memory.used", value=1 << 40), Metric.GO_MEMORY_BYTES, Temporality.NOW, 1 << 40),
    (
        Odd("process.runtime.go.mem.heap_alloc", value=VALUE_MAX),
        Metric.GO_MEMORY_BYTES,
        Temporality.NOW,
        VALUE_MAX,
    ),
    (Odd("tidegate.host.panic_on_oops", value=1), Metric.PANIC_ON_OOPS, Temporality.NOW, 1),
    (Odd("tidegate.host.kernel_oops", "sum"), Metric.KERNEL_OOPS, Temporality.CUMULATIVE, 7),
    (
        Odd("tidegate.host.kernel_oops", "sum", temporality=DELTA),
        Metric.KERNEL_OOPS,
        Temporality.DELTA,
        7,
    ),
    *(
        (Odd(EVENTS_NAME, "sum", attributes={"event": name}), metric, Temporality.CUMULATIVE, 7)
        for name, metric in EVENTS.items()
    ),
    (Odd(PRESSURE, value=0.2), Metric.MEMORY_FULL_MILLI, Temporality.NOW, 200),
    (Odd(PRESSURE, value=0.9996), Metric.MEMORY_FULL_MILLI, Temporality.NOW, 1000),
    (Odd(PRESSURE, value=1), Metric.MEMORY_FULL_MILLI, Temporality.NOW, 1000),
]


@pytest.mark.parametrize(("odd", "metric", "temporality", "value"), GOOD)
def test_what_is_well_formed_becomes_a_point(
    odd: Odd, metric: Metric, temporality: Temporality, value: int
) -> None:
    batch = decode_metrics([request([odd]).SerializeToString()])
    assert batch.points == [(0, MetricPoint("pay", "pay-1", metric, temporality, 0, 5_000, value))]
    assert not batch.counters
    assert not batch.record_errors


ODD = [
    ("wrong_type", Odd(kind="histogram")),
    ("wrong_type", Odd(kind="exponential_histogram")),
    ("wrong_type", Odd(kind="summary")),
    ("wrong_type", Odd("tidegate.host.kernel_oops", "gauge")),
    ("wrong_type", Odd(EVENTS_NAME, "gauge", attributes={"event": "max"})),
    ("no_value", Odd(value=None)),
    ("no_recorded_value", Odd(flags=1)),
    ("no_recorded_value", Odd(value=None, flags=1)),
    ("not_finite", Odd(value=math.nan)),
    ("not_finite", Odd(value=math.inf)),
    ("not_finite", Odd(value=-math.inf)),
    ("negative", Odd(value=-1)),
    ("negative", Odd(value=-0.1)),
    ("negative", Odd(EVENTS_NAME, "sum", -1, attributes={"event": "max"})),
    ("too_large", Odd(value=VALUE_MAX + 1)),
    ("too_large", Odd(value=1e300)),
    ("too_large", Odd(PRESSURE, value=23.5)),
    ("no_time", Odd(time_ms=0)),
    ("no_temporality", Odd(kind="sum", temporality=0)),
    ("no_temporality", Odd("tidegate.host.kernel_oops", "sum", temporality=0)),
    ("no_temporality", Odd("tidegate.host.kernel_oops", "sum", temporality=9)),
    ("delta_of_level", Odd(kind="sum", temporality=DELTA)),
    ("not_monotonic", Odd("tidegate.host.kernel_oops", "sum", is_monotonic=False)),
    ("no_event", Odd(EVENTS_NAME, "sum")),
]


@pytest.mark.parametrize(("counter", "odd"), ODD)
def test_what_is_odd_is_counted_by_name_and_the_rest_of_its_record_is_used(
    counter: str, odd: Odd
) -> None:
    good = Odd("tidegate.host.panic_on_oops", value=1, time_ms=9_000)
    batch = decode_metrics([request([good, odd, odd]).SerializeToString()])
    assert batch.counters == {counter: 2}
    assert [found for _, found in batch.points] == [point(Metric.PANIC_ON_OOPS, 9, 1)]


def test_names_and_events_that_no_rule_reads_cost_nothing() -> None:
    strange = Odd("http.server.request.duration", "histogram")
    others = [
        Odd(EVENTS_NAME, "sum", attributes={"event": name}) for name in ("low", "oom", "", "Max")
    ]
    batch = decode_metrics([request([strange, *others]).SerializeToString()])
    assert batch == type(batch)()


def test_a_metric_without_points_is_counted() -> None:
    out = request([])
    metrics = out.resource_metrics[0].scope_metrics[0].metrics
    metrics.add(name=GO)
    metrics.add(name=GO).gauge.SetInParent()
    assert decode_metrics([out.SerializeToString()]).counters == {"no_points": 2}


def test_parts_of_memory_are_added_up_by_time_and_an_attribute_set_counts_once() -> None:
    def used(kind: str, value: int, time_ms: int = 5_000) -> Odd:
        return Odd("go.memory.used", "sum", value, time_ms, attributes={"go.memory.type": kind})

    found = of(used("stack", 3), used("other", 10), used("other", 9), used("stack", 4, 6_000))
    assert found == [point(Metric.GO_MEMORY_BYTES, 5, 13), point(Metric.GO_MEMORY_BYTES, 6, 4)]


def test_of_a_switch_and_of_pressure_the_largest_counts() -> None:
    found = of(
        *(Odd("tidegate.host.panic_on_oops", value=v, attributes={"a": f"{v}"}) for v in (0, 1, 0)),
        *(Odd(PRESSURE, value=v, attributes={"a": f"{v}"}) for v in (0.7, 0.5)),
    )
    assert [(p.metric, p.value) for p in found] == [
        (Metric.PANIC_ON_OOPS, 1),
        (Metric.MEMORY_FULL_MILLI, 700),
    ]


def test_a_sum_of_parts_that_is_too_large_is_counted() -> None:
    parts = [Odd("go.memory.used", value=VALUE_MAX, attributes={"a": f"{i}"}) for i in range(3)]
    batch = decode_metrics([request(parts).SerializeToString()])
    assert (batch.points, batch.counters) == ([], {"too_large": 1})


@pytest.mark.parametrize("is_turned", [False, True])
def test_of_two_generations_of_names_in_a_record_the_newest_wins(is_turned: bool) -> None:
    both = [Odd(value=7), Odd("process.runtime.go.goroutines", value=9)]
    assert of(*(both[::-1] if is_turned else both)) == [point(Metric.GOROUTINES, 5, 7)]
    broken = [Odd(value=math.nan), Odd("process.runtime.go.goroutines", value=9)]
    assert of(*broken) == [point(Metric.GOROUTINES, 5, 9)]


def test_the_beginning_of_a_count_is_kept_where_it_can_be_one() -> None:
    def oops(start_ms: int) -> Odd:
        return Odd("tidegate.host.kernel_oops", "sum", start_ms=start_ms)

    assert of(oops(4_000)) == [point(Metric.KERNEL_OOPS, 5, 7, start_s=4)]
    batch = decode_metrics([request([oops(6_000)]).SerializeToString()])
    assert [found.start_ms for _, found in batch.points] == [0]
    assert batch.counters == {"start_after_time": 1}


IDENTITIES: list[dict[str, str | int | bool | float]] = [
    {"service.name": "pay", "service.instance.id": "a"},
    {"service.name": "pay", "service.namespace": "shop", "host.name": "h", "k8s.pod.name": "p"},
    {"service.name": "pay", "k8s.pod.name": "p"},
    {"service.name": "", "service.namespace": "shop"},
    {"host.name": "h"},
    {"service.name": 7, "service.instance.id": True, "host.name": 1.5},
    {"service.name": "s" * 300, "service.namespace": "n" * 300, "service.instance.id": "i" * 201},
    {"service.name": "ä" * 199},
    {},
]


@pytest.mark.parametrize("attributes", IDENTITIES)
def test_service_and_instance_are_named_as_those_of_spans(
    attributes: dict[str, str | int | bool | float],
) -> None:
    fields: dict[type, str] = {
        str: "stringValue",
        int: "intValue",
        bool: "boolValue",
        float: "doubleValue",
    }
    resource = {
        "attributes": [{"key": k, "value": {fields[type(v)]: v}} for k, v in attributes.items()]
    }
    metric = {"name": GO, "gauge": {"dataPoints": [{"timeUnixNano": "5000000", "asInt": "7"}]}}
    span = {"kind": 2, "traceId": "01" * 16, "spanId": "01" * 8, "endTimeUnixNano": "5000000"}
    metrics = [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]
    spans = [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]
    batch = decode_metrics([json.dumps({"resourceMetrics": metrics}).encode()])
    columns = decode_by_protobuf([json.dumps({"resourceSpans": spans}).encode()])
    [(_, found)] = batch.points
    assert found.service == columns.services[columns.service[0]]
    assert found.instance == (columns.instances or [""])[0]
    assert batch.counters == columns.counters


@pytest.mark.parametrize("is_delta", [False, True])
def test_what_the_real_sdk_sends_is_read(is_delta: bool) -> None:
    wanted = AggregationTemporality.DELTA if is_delta else AggregationTemporality.CUMULATIVE
    reader = InMemoryMetricReader(
        preferred_temporality={SdkCounter: wanted, ObservableCounter: wanted}
    )
    resource = Resource({"service.name": "pay", "service.instance.id": "pay-7"})
    provider = MeterProvider([reader], resource=resource)
    meter = provider.get_meter("tests")
    goroutines = meter.create_up_down_counter(GO)
    events = meter.create_counter(EVENTS_NAME)
    meter.create_counter("http.server.active_requests").add(3)
    meter.create_histogram("http.server.request.duration").record(0.2)
    full = [0.25]

    def observe(_: CallbackOptions) -> list[Observation]:
        return [Observation(full[0])]

    meter.create_observable_gauge(PRESSURE, [observe])
    found = []
    for turn in (1, 2):
        goroutines.add(1_000)
        events.add(turn, {"event": "max"})
        events.add(5, {"event": "low"})
        full[0] = 0.25 * turn
        data = reader.get_metrics_data()
        assert data is not None
        batch = decode_metrics([encode_metrics(data).SerializeToString()])
        assert not batch.record_errors
        assert not batch.counters
        assert {(p.service, p.instance) for _, p in batch.points} == {("pay", "pay-7")}
        found.append({p.metric: (p.temporality, p.value) for _, p in batch.points})
        starts = {bool(p.start_ms) for _, p in batch.points if p.temporality != Temporality.NOW}
        assert starts == {True}
    provider.shutdown()
    counted = Temporality.DELTA if is_delta else Temporality.CUMULATIVE
    assert found == [
        {
            Metric.GOROUTINES: (Temporality.NOW, 1_000 * turn),
            Metric.MEMORY_MAX: (counted, [1, 2][turn - 1] if is_delta else [1, 3][turn - 1]),
            Metric.MEMORY_FULL_MILLI: (Temporality.NOW, 250 * turn),
        }
        for turn in (1, 2)
    ]


def test_what_our_own_reporter_sends_is_read() -> None:
    events = {"high": 3, "max": 2, "oom_kill": 1}
    reading = HostReading(
        panic_on_oops=True,
        kernel_oops=4,
        memory_events=events,
        memory_full_ratio=0.25,
        booted_ms=1_000,
    )
    attributes = {"service.name": "pay", "service.instance.id": "pay-1"}
    data = encode_reading(reading, attributes=attributes, time_ms=5_000)
    assert data is not None
    batch = decode_metrics([data])
    counts = {Metric.KERNEL_OOPS: 4, **{EVENTS[name]: count for name, count in events.items()}}
    assert {found for _, found in batch.points} == {
        point(Metric.PANIC_ON_OOPS, 5, 1),
        point(Metric.MEMORY_FULL_MILLI, 5, 250),
        *(point(metric, 5, count, start_s=1) for metric, count in counts.items()),
    }
    assert not batch.counters


def test_otlp_json_says_the_same_as_protobuf() -> None:
    out = request([odd for odd, *_ in GOOD] + [odd for _, odd in ODD])
    as_json = json_format.MessageToJson(out).encode()
    as_protobuf = out.SerializeToString()
    first, second = decode_metrics([as_protobuf]), decode_metrics([b" \n" + as_json])
    assert first == second
    assert first.points
    snake = json_format.MessageToJson(out, preserving_proto_field_name=True).encode()
    assert decode_metrics([snake]) == first
    bare = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"go.goroutine.count","gauge":'
    bare += b'{"dataPoints":[{"asDouble":NaN,"timeUnixNano":1},{"asInt":3,"timeUnixNano":5000000}]}}]}]}]}'
    batch = decode_metrics([bare])
    assert batch.points == [(0, MetricPoint("unknown_service", "", 0, 0, 0, 5, 3))]
    assert batch.counters == {"not_finite": 1, "unknown_service": 1}


LOGS = ExportLogsServiceRequest()
LOGS.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5)
BAD = [
    (b"\xff\xfe garbage", "Error parsing"),
    (b"\x0a\xff", "Error parsing"),
    (request([Odd()]).SerializeToString()[:-3], "Error parsing"),
    (spans_request([("web", "", 5_000, 3, 200)]), "Error parsing"),
    (LOGS.SerializeToString(), "no metric has a name: traces or logs on the metrics topic?"),
    (b"{ no json", "Expecting property name"),
    (b'{"resourceMetrics": 7}', "not OTLP/JSON"),
    (b'{"resourceSpans": []}', "OTLP/JSON without resourceMetrics"),
    (b"{}", "OTLP/JSON without resourceMetrics"),
    (b" [1]", "OTLP/JSON is an object"),
    (b'{"resourceMetrics":' + b"[" * 100_000, ""),
    (b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"\\ud800"}]}]}]}', ""),
    (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asDouble":1e999}]}}]}]}]}',
        "not OTLP/JSON",
    ),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_bytes_that_are_no_metrics_are_told_by_their_record(bad: bytes, reason: str) -> None:
    good = request([Odd()]).SerializeToString()
    batch = decode_metrics([good, bad, good])
    if bad == b" [1]":
        reason = "Error parsing"  # protobuf's word: an array is not looked at as JSON
    assert list(batch.record_errors) == [1]
    assert reason in batch.record_errors[1]
    assert batch.record_errors[1]
    assert [index for index, _ in batch.points] == [0, 2]


def test_an_empty_record_says_nothing_and_is_no_error() -> None:
    assert decode_metrics([b"", ExportMetricsServiceRequest().SerializeToString()]).points == []
    assert decode_metrics([]).points == []


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    batch = decode_metrics([data, b"{" + data])
    assert set(batch.record_errors) <= {0, 1}


ODDS = st.builds(
    Odd,
    name=st.sampled_from([*METRICS, "other"]),
    kind=st.sampled_from(["gauge", "sum", "sum", "histogram"]),
    value=st.one_of(st.none(), st.integers(-2, 9), st.floats(), st.floats(0, 1)),
    time_ms=st.sampled_from([0, 5_000, 6_000]),
    start_ms=st.sampled_from([0, 1_000, 5_500]),
    attributes=st.dictionaries(
        st.sampled_from(["event", "a"]), st.sampled_from(["high", "max", "low", "x"])
    ),
    flags=st.sampled_from([0, 0, 0, 1]),
    temporality=st.sampled_from([0, DELTA, CUMULATIVE]),
    is_monotonic=st.booleans(),
)


@given(st.lists(ODDS, max_size=12))
def test_points_equal_a_plain_reading(odds: list[Odd]) -> None:
    batch = decode_metrics([request(odds).SerializeToString()])
    assert Counter(found for _, found in batch.points) == Counter(plainly_read(odds))


def plainly_read(odds: list[Odd]) -> list[MetricPoint]:
    """What the words say, one after the other."""
    names = list(METRICS)
    parts: dict[tuple[int, int, int, int], dict[str, tuple[int, int]]] = defaultdict(dict)
    newest: dict[int, int] = {}
    for odd in odds:
        if odd.name not in METRICS or odd.kind == "histogram":
            continue
        is_count = "oops" in odd.name.removesuffix("panic_on_oops") or "events" in odd.name
        if is_count and (odd.kind != "sum" or not odd.is_monotonic):
            continue
        if odd.kind == "sum" and (not odd.temporality or (not is_count and odd.temporality == 1)):
            continue
        metric = METRICS[odd.name].metric
        if "events" in odd.name:
            metric = {"high": Metric.MEMORY_HIGH, "max": Metric.MEMORY_MAX}.get(
                odd.attributes.get("event", "")
            )
        limit = 1 if "pressure" in odd.name else 2**53
        if metric is None or odd.flags or odd.value is None or not odd.time_ms:
            continue
        if not 0 <= odd.value <= limit:
            continue
        value = round(odd.value * 1000) if limit == 1 else round(odd.value)
        start_ms = odd.start_ms if is_count and odd.start_ms <= odd.time_ms else 0
        generation = names.index(odd.name)
        newest[metric] = min(generation, newest.get(metric, generation))
        of_time = parts[metric, generation, odd.temporality if is_count else 0, odd.time_ms]
        set_name = repr(sorted(odd.attributes.items()))
        of_time[set_name] = max((value, start_ms), of_time.get(set_name, (-1, 0)))
    out = []
    for (metric_number, generation, temporality, time_ms), of_sets in parts.items():
        if newest[metric_number] == generation:
            add = max if metric_number in (Metric.PANIC_ON_OOPS, Metric.MEMORY_FULL_MILLI) else sum
            value = add([value for value, _ in of_sets.values()])
            starts = [start for _, start in of_sets.values() if start]
            start_ms = min(starts) if starts else 0
            out.append(
                MetricPoint("pay", "pay-1", metric_number, temporality, start_ms, time_ms, value)
            )
    return out
