"""A reading as OTLP: `ExportMetricsServiceRequest`, the metrics that Tidegate's L5 reads.

Names and kinds are those of `tidegate.schemas.points`; a test pins them to the decoder.
"""

from collections.abc import Mapping

from tidegate.client.host.reading import HostReading

try:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        AGGREGATION_TEMPORALITY_CUMULATIVE,
        Metric,
    )
except ImportError as problem:
    raise ImportError(
        "tidegate.client.host needs OTLP's messages; install its extra: "
        "pip install 'tidegate-client[host]'"
    ) from problem

__all__ = ["encode_reading"]

SCOPE = "tidegate.client.host"
_NS_PER_MS = 1_000_000


def encode_reading(
    reading: HostReading, *, attributes: Mapping[str, str], time_ms: int
) -> bytes | None:
    """attributes: of the resource, who is speaking. None where the reading says nothing.

    Sums begin with the machine's boot. A control group is younger, but nobody says how much, and a start
    that is too late would pass for a reset, and its whole count for new events.
    """
    metrics = _metrics(reading, time_ms * _NS_PER_MS, min(reading.booted_ms, time_ms) * _NS_PER_MS)
    if not metrics:
        return None
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    for key, text in attributes.items():
        of_resource.resource.attributes.add(key=key).value.string_value = text
    of_scope = of_resource.scope_metrics.add()
    of_scope.scope.name = SCOPE
    of_scope.metrics.extend(metrics)
    encoded: bytes = request.SerializeToString()
    return encoded


def _metrics(reading: HostReading, time_ns: int, start_ns: int) -> list[Metric]:
    found = []
    if reading.panic_on_oops is not None:
        metric = Metric(name="tidegate.host.panic_on_oops", unit="1")
        metric.gauge.data_points.add(time_unix_nano=time_ns, as_int=int(reading.panic_on_oops))
        found.append(metric)
    if reading.kernel_oops is not None:
        metric = _sum("tidegate.host.kernel_oops", "{oops}")
        _count(metric, reading.kernel_oops, time_ns, start_ns)
        found.append(metric)
    if reading.memory_events:
        metric = _sum("tidegate.cgroup.memory.events", "{event}")
        for event, count in reading.memory_events.items():
            _count(metric, count, time_ns, start_ns, event=event)
        found.append(metric)
    if reading.memory_full_ratio is not None:
        metric = Metric(name="tidegate.pressure.memory.full", unit="1")
        metric.gauge.data_points.add(time_unix_nano=time_ns, as_double=reading.memory_full_ratio)
        found.append(metric)
    return found


def _sum(name: str, unit: str) -> Metric:
    metric = Metric(name=name, unit=unit)
    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.sum.is_monotonic = True
    return metric


def _count(metric: Metric, count: int, time_ns: int, start_ns: int, *, event: str = "") -> None:
    point = metric.sum.data_points.add(
        time_unix_nano=time_ns, start_time_unix_nano=start_ns, as_int=count
    )
    if event:
        point.attributes.add(key="event").value.string_value = event
