"""What these tests share: OTLP requests of metrics, and points, in few words."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from tidegate.schemas.points import Metric, MetricPoint, Temporality

__all__ = ["CUMULATIVE", "DELTA", "Odd", "point", "request"]

DELTA, CUMULATIVE = 1, 2
"""OTLP's numbers."""


@dataclass
class Odd:
    """A point of a metric as a producer may send it; `kind` names OTLP's field."""

    name: str = "go.goroutine.count"
    kind: str = "gauge"
    value: float | int | None = 7
    time_ms: int = 5_000
    start_ms: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    flags: int = 0
    temporality: int = CUMULATIVE
    is_monotonic: bool = True


def request(
    points: Iterable[Odd], *, service: str = "pay", instance: str = "pay-1"
) -> ExportMetricsServiceRequest:
    """Each point in a metric of its own, all of one instance."""
    out = ExportMetricsServiceRequest()
    resource = out.resource_metrics.add()
    for key, text in (("service.name", service), ("service.instance.id", instance)):
        if text:
            attribute = resource.resource.attributes.add()
            attribute.key, attribute.value.string_value = key, text
    metrics = resource.scope_metrics.add().metrics
    for odd in points:
        metric = metrics.add()
        metric.name = odd.name
        data = getattr(metric, odd.kind)
        if odd.kind == "sum":
            data.aggregation_temporality = odd.temporality
            data.is_monotonic = odd.is_monotonic
        one = data.data_points.add()
        one.time_unix_nano = odd.time_ms * 1_000_000
        one.start_time_unix_nano = odd.start_ms * 1_000_000
        one.flags = odd.flags
        for key, text in odd.attributes.items():
            attribute = one.attributes.add()
            attribute.key, attribute.value.string_value = key, text
        if odd.kind not in ("gauge", "sum"):
            one.count = 1
        elif isinstance(odd.value, float):
            one.as_double = odd.value
        elif odd.value is not None:
            one.as_int = odd.value
    return out


def point(
    metric: Metric,
    time_s: float,
    value: int,
    *,
    service: str = "pay",
    instance: str = "pay-1",
    temporality: Temporality | None = None,
    start_s: float = 0,
) -> MetricPoint:
    """Levels are of now and counts cumulative, if nothing is said."""
    levels = (
        Metric.GOROUTINES,
        Metric.GO_MEMORY_BYTES,
        Metric.PANIC_ON_OOPS,
        Metric.MEMORY_FULL_MILLI,
    )
    if temporality is None:
        temporality = Temporality.NOW if metric in levels else Temporality.CUMULATIVE
    return MetricPoint(
        service,
        instance,
        int(metric),
        int(temporality),
        round(start_s * 1000),
        round(time_s * 1000),
        value,
    )
