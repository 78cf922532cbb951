"""The reporter's bytes through the decoder that workers read them by."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from tests.host.trees import BOOT_S, plant, v2
from tidegate.client.host import HostReading, encode_reading, read_host
from tidegate.client.host import reading as reading_module
from tidegate.client.identity import identity_of
from tidegate.schemas.otlp.metrics import EVENTS, METRICS, decode_metrics
from tidegate.schemas.points import Metric, MetricPoint, Temporality

TIME_MS = BOOT_S * 1000 + 90_000
NOW, CUMULATIVE = Temporality.NOW, Temporality.CUMULATIVE
COUNTS = st.none() | st.integers(0, 1 << 53)


def points(
    reading: HostReading, service: str = "shop/pay", time_ms: int = TIME_MS
) -> list[MetricPoint]:
    attributes = identity_of(service, "pay-1", {}).attributes
    value = encode_reading(reading, attributes=attributes, time_ms=time_ms)
    if value is None:
        return []
    batch = decode_metrics([value])
    assert not batch.record_errors
    assert not batch.counters
    return sorted((point for _, point in batch.points), key=lambda point: point.metric)


def point(
    metric: Metric, temporality: Temporality, value: int, start_ms: int = BOOT_S * 1000
) -> MetricPoint:
    start_ms = 0 if temporality is NOW else start_ms
    return MetricPoint("shop/pay", "pay-1", metric, temporality, start_ms, TIME_MS, value)


def test_a_whole_reading_comes_out_of_the_decoder_as_it_was_read(tmp_path: Path) -> None:
    assert points(read_host(plant(tmp_path, v2()))) == [
        point(Metric.PANIC_ON_OOPS, NOW, 1),
        point(Metric.KERNEL_OOPS, CUMULATIVE, 4),
        point(Metric.MEMORY_HIGH, CUMULATIVE, 3),
        point(Metric.MEMORY_MAX, CUMULATIVE, 2),
        point(Metric.OOM_KILL, CUMULATIVE, 1),
        point(Metric.MEMORY_FULL_MILLI, NOW, 125),
    ]


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (HostReading(), []),
        (HostReading(booted_ms=5, notes=["nothing"]), []),
        (HostReading(panic_on_oops=False), [point(Metric.PANIC_ON_OOPS, NOW, 0)]),
        (HostReading(kernel_oops=0), [point(Metric.KERNEL_OOPS, CUMULATIVE, 0, 0)]),
        (HostReading(memory_full_ratio=0.0), [point(Metric.MEMORY_FULL_MILLI, NOW, 0)]),
        # A clock that was set back since boot: a start after the time is no start.
        (
            HostReading(kernel_oops=1, booted_ms=TIME_MS + 9_000),
            [point(Metric.KERNEL_OOPS, CUMULATIVE, 1, TIME_MS)],
        ),
    ],
)
def test_what_is_unknown_is_not_sent_and_zero_is(
    reading: HostReading, expected: list[MetricPoint]
) -> None:
    assert points(reading) == expected


@given(
    panic=st.none() | st.booleans(),
    oops=COUNTS,
    events=st.dictionaries(st.sampled_from(reading_module.EVENTS), st.integers(0, 1 << 53)),
    ratio=st.none() | st.floats(0, 1),
    booted_ms=st.integers(0, TIME_MS * 2),
)
def test_every_reading_is_one_that_the_decoder_takes_whole(
    panic: bool | None,
    oops: int | None,
    events: dict[str, int],
    ratio: float | None,
    booted_ms: int,
) -> None:
    found = points(
        HostReading(
            panic_on_oops=panic,
            kernel_oops=oops,
            memory_events=events,
            memory_full_ratio=ratio,
            booted_ms=booted_ms,
        )
    )
    values = {Metric(one.metric): one.value for one in found}
    expected = {
        Metric.PANIC_ON_OOPS: panic,
        Metric.KERNEL_OOPS: oops,
        **{EVENTS[name]: count for name, count in events.items()},
        Metric.MEMORY_FULL_MILLI: None if ratio is None else round(ratio * 1000),
    }
    assert values == {metric: value for metric, value in expected.items() if value is not None}


def test_names_kinds_and_units_are_those_that_are_documented(tmp_path: Path) -> None:
    value = encode_reading(read_host(plant(tmp_path, v2())), attributes={}, time_ms=TIME_MS)
    request = ExportMetricsServiceRequest.FromString(value)
    (scope,) = request.resource_metrics[0].scope_metrics
    assert scope.scope.name == "tidegate.client.host"
    assert [(m.name, m.WhichOneof("data"), m.unit) for m in scope.metrics] == [
        ("tidegate.host.panic_on_oops", "gauge", "1"),
        ("tidegate.host.kernel_oops", "sum", "{oops}"),
        ("tidegate.cgroup.memory.events", "sum", "{event}"),
        ("tidegate.pressure.memory.full", "gauge", "1"),
    ]
    assert {m.name for m in scope.metrics} == {name for name in METRICS if "tidegate" in name}
    assert set(reading_module.EVENTS) == set(EVENTS)


@pytest.mark.parametrize(
    ("service", "instance", "environ", "expected"),
    [
        ("pay", "i1", {}, ("pay", "i1")),
        ("shop/pay", "i1", {}, ("shop/pay", "i1")),
        ("shop/eu/pay", "i1", {}, ("shop/eu/pay", "i1")),
        ("/pay", "i1", {}, ("/pay", "i1")),
        ("pay/", "i1", {}, ("pay/", "i1")),
        ("", "", {"OTEL_SERVICE_NAME": "pay", "OTEL_RESOURCE_ATTRIBUTES": "host.name=h"}, ("pay", "h")),
        (
            "",
            "",
            {
                "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop,service.name=pay%20one,"
                "host.name=h,service.instance.id=i2"
            },
            ("shop/pay one", "i2"),
        ),
        ("", "", {"OTEL_SERVICE_NAME": "a", "OTEL_RESOURCE_ATTRIBUTES": "service.name=b,k8s.pod.name=p"}, ("a", "p")),
        ("pay", "", {"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop,host.name=h"}, ("pay", "h")),
        ("pay", "", {"OTEL_RESOURCE_ATTRIBUTES": ",=,x,host.name=,host.name = h ,"}, ("pay", "h")),
        ("s" * 300, "i" * 300, {}, ("s" * 200, "i" * 200)),
        ("n" * 150 + "/" + "s" * 150, "i", {}, ("n" * 150 + "/" + "s" * 49, "i")),
    ],
)  # fmt: skip
def test_the_decoder_names_a_service_and_its_instance_as_we_do(
    service: str, instance: str, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    identity = identity_of(service, instance, environ)
    assert (identity.service, identity.instance) == expected
    reading = HostReading(kernel_oops=1)
    value = encode_reading(reading, attributes=identity.attributes, time_ms=TIME_MS)
    assert value is not None
    ((_, found),) = decode_metrics([value]).points
    assert (found.service, found.instance) == expected


def test_without_a_name_of_an_instance_it_is_the_hosts() -> None:
    assert identity_of("pay", "", {}).instance_key == "host.name"
    assert identity_of("pay", "", {}).instance


def test_without_a_service_nothing_begins() -> None:
    with pytest.raises(ValueError, match=r"service: no name; give it .*\$OTEL_SERVICE_NAME"):
        identity_of("", "i", {"OTEL_SERVICE_NAME": ""})
