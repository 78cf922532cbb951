"""OTLP metrics to the few points that rules read: goroutines, memory, and what a host says of itself.

Records come at most every few seconds from an instance, so protobuf's own parser reads them. What is odd
about a point is counted under a name and left out; the rest of its record is used. A name that is not in
the table is none of our business.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1 import metrics_pb2

from tidegate.schemas.conventions import INSTANCE
from tidegate.schemas.otlp.json import is_json, may_be_json
from tidegate.schemas.points import Metric, MetricPoint, Temporality
from tidegate.schemas.scope import NAME_CHARS_MAX, UNKNOWN_SERVICE

__all__ = ["EVENT", "EVENTS", "METRICS", "VALUE_MAX", "MetricBatch", "Readable", "decode_metrics"]

VALUE_MAX = 1 << 53
"""Doubles are whole numbers up to here; no count and no memory is larger."""
_NS_PER_MS = 1_000_000
_LEVEL = ("gauge", "sum")
_COUNT = ("sum",)
_NO_VALUE_FLAG = int(metrics_pb2.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK)
_DELTA = int(metrics_pb2.AGGREGATION_TEMPORALITY_DELTA)
_CUMULATIVE = int(metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE)
_STRANGE = "no metric has a name: traces or logs on the metrics topic?"


@dataclass(frozen=True, slots=True)
class Readable:
    """How points under a name are read."""

    metric: Metric | None
    """None: the attribute `event` says which."""
    kinds: tuple[str, ...]
    """Fields of OTLP's `Metric`. What is a level comes as a gauge or as a sum since the beginning (an
    UpDownCounter), what counts events as a sum that only grows."""
    adds_up: bool = True
    """Whether points of several attribute sets are parts of a whole; else the largest counts."""
    is_ratio: bool = False
    """0..1, kept in thousandths."""


METRICS: dict[str, Readable] = {
    "go.goroutine.count": Readable(Metric.GOROUTINES, _LEVEL),
    "process.runtime.go.goroutines": Readable(Metric.GOROUTINES, _LEVEL),
    "go.memory.used": Readable(Metric.GO_MEMORY_BYTES, _LEVEL),
    "process.runtime.go.mem.heap_alloc": Readable(Metric.GO_MEMORY_BYTES, _LEVEL),
    "tidegate.host.panic_on_oops": Readable(Metric.PANIC_ON_OOPS, _LEVEL, adds_up=False),
    "tidegate.host.kernel_oops": Readable(Metric.KERNEL_OOPS, _COUNT),
    "tidegate.cgroup.memory.events": Readable(None, _COUNT),
    "tidegate.pressure.memory.full": Readable(
        Metric.MEMORY_FULL_MILLI, _LEVEL, adds_up=False, is_ratio=True
    ),
}
"""By name, newest generation first: some SDKs send two at once, and then the newest wins."""
EVENT = "event"
EVENTS: dict[str, Metric] = {
    "high": Metric.MEMORY_HIGH,
    "max": Metric.MEMORY_MAX,
    "oom_kill": Metric.OOM_KILL,
}
"""Of cgroup v2's `memory.events`. `low`, `oom` and the like are read by no rule."""
_GENERATION = {name: number for number, name in enumerate(METRICS)}


@dataclass(slots=True)
class MetricBatch:
    """What a batch of records says."""

    points: list[tuple[int, MetricPoint]] = field(default_factory=list)
    """With the index of their record."""
    record_errors: dict[int, str] = field(default_factory=dict)
    """Index -> why nothing of the record can be read."""
    counters: Counter[str] = field(default_factory=Counter)
    """What was mended or left out."""


_Series = tuple[str, str, Metric]
"""(service, instance, metric)."""
_Moment = tuple[Temporality, int]
"""(temporality, time_ms)."""
_Parts = dict[bytes, tuple[int, int]]
"""Attribute set -> (value, start_ms)."""


@dataclass(slots=True)
class _Found:
    """What one record says of a series under one name."""

    readable: Readable
    moments: dict[_Moment, _Parts] = field(default_factory=dict)


_OfSeries = dict[_Series, dict[int, _Found]]
"""By series and generation of the name (0 is the newest)."""


def decode_metrics(values: Sequence[bytes]) -> MetricBatch:
    """Points of a batch of Kafka records (`ExportMetricsServiceRequest`, protobuf or JSON)."""
    out = MetricBatch()
    for number, value in enumerate(values):
        try:
            request = _parse(value)
        except (DecodeError, ValueError) as problem:
            out.record_errors[number] = str(problem) or "not an ExportMetricsServiceRequest"
            continue
        found: _OfSeries = {}
        for resource_metrics in request.resource_metrics:
            service, instance = _identity(resource_metrics.resource.attributes, out.counters)
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    if metric.name in METRICS:
                        _read(found, service, instance, metric, out.counters)
        out.points += [(number, point) for point in _points(found, out.counters)]
    return out


def _parse(record: bytes) -> Any:
    """Raises DecodeError or ValueError."""
    if is_json(record):
        return _from_json(record)
    try:
        request = ExportMetricsServiceRequest.FromString(record)
    except DecodeError:
        if not may_be_json(record):
            raise
        return _from_json(record)
    names = [m.name for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics]
    if names and not any(names):
        raise ValueError(_STRANGE)
    return request


def _from_json(record: bytes) -> Any:
    request = ExportMetricsServiceRequest()
    try:
        # What JSON does not know (NaN, Infinity) as text, as protobuf's parser wants it.
        raw = json.loads(record.decode("utf-8", "replace"), parse_constant=str)
        if not isinstance(raw, dict):
            raise ValueError("OTLP/JSON is an object")  # noqa: TRY004 - the bytes are wrong, not a type
        json_format.ParseDict(raw, request, ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError, OverflowError) as problem:
        raise ValueError(f"not OTLP/JSON: {problem}") from None
    if not {"resourceMetrics", "resource_metrics"} & raw.keys():
        raise ValueError("OTLP/JSON without resourceMetrics: traces or logs on the metrics topic?")
    return request


def _identity(attributes: Iterable[Any], counters: Counter[str]) -> tuple[str, str]:
    """(service, instance), named as the spans' decoder names them."""
    found = {a.key: text for a in attributes if (text := _text(a.value)) is not None}
    service, namespace = found.get("service.name", ""), found.get("service.namespace", "")
    if not service:
        counters["unknown_service"] += 1
        service, namespace = UNKNOWN_SERVICE, ""
    if namespace:
        service = f"{namespace}/{service}"
    instance = next((found[key] for key in INSTANCE if found.get(key)), "")
    if cut := sum(len(name) > NAME_CHARS_MAX for name in (service, instance)):
        counters["names_cut"] += cut
    return service[:NAME_CHARS_MAX], instance[:NAME_CHARS_MAX]


def _text(value: Any) -> str | None:
    kind = value.WhichOneof("value")
    if kind in ("string_value", "int_value", "bool_value", "double_value"):
        return str(getattr(value, kind))
    return None


def _read(
    found: _OfSeries,
    service: str,
    instance: str,
    metric: Any,
    counters: Counter[str],
) -> None:
    """Takes what is usable of a metric."""
    readable = METRICS[metric.name]
    kind = metric.WhichOneof("data")
    if kind is not None and kind not in readable.kinds:
        counters["wrong_type"] += 1
        return
    points = getattr(metric, kind).data_points if kind is not None else ()
    if not points:
        counters["no_points"] += 1
        return
    temporality = _temporality(readable, metric.sum if kind == "sum" else None, counters)
    if temporality is None:
        return
    for point in points:
        which = readable.metric if readable.metric is not None else _event(point, counters)
        value = _value(readable, point, counters) if which is not None else None
        if which is None or value is None:
            continue
        time_ms = point.time_unix_nano // _NS_PER_MS
        start_ms = 0
        if temporality is not Temporality.NOW:
            start_ms = point.start_time_unix_nano // _NS_PER_MS
            if start_ms > time_ms:
                counters["start_after_time"] += 1
                start_ms = 0
        of_series = found.setdefault((service, instance, which), {})
        moments = of_series.setdefault(_GENERATION[metric.name], _Found(readable)).moments
        parts = moments.setdefault((temporality, time_ms), {})
        attributes = b"".join(
            sorted(a.SerializeToString(deterministic=True) for a in point.attributes)
        )
        parts[attributes] = max((value, start_ms), parts.get(attributes, (-1, 0)))


def _temporality(readable: Readable, total: Any, counters: Counter[str]) -> Temporality | None:
    """What the values of a gauge (`total` is None) or sum are."""
    if total is None:
        return Temporality.NOW
    is_level = "gauge" in readable.kinds
    if total.aggregation_temporality == _CUMULATIVE and is_level:
        return Temporality.NOW
    if total.aggregation_temporality not in (_DELTA, _CUMULATIVE):
        counters["no_temporality"] += 1
    elif is_level:
        counters["delta_of_level"] += 1  # how high it was to begin with, nobody says
    elif not total.is_monotonic:
        counters["not_monotonic"] += 1
    elif total.aggregation_temporality == _DELTA:
        return Temporality.DELTA
    else:
        return Temporality.CUMULATIVE
    return None


def _event(point: Any, counters: Counter[str]) -> Metric | None:
    for attribute in point.attributes:
        if attribute.key == EVENT:
            return EVENTS.get(attribute.value.string_value)
    counters["no_event"] += 1
    return None


def _value(readable: Readable, point: Any, counters: Counter[str]) -> int | None:
    """The whole number that a point says, if it says one and when."""
    value: float | int = 0
    kind = point.WhichOneof("value")
    if kind is not None:
        value = getattr(point, kind)
    problem = ""
    if point.flags & _NO_VALUE_FLAG:
        problem = "no_recorded_value"
    elif kind is None:
        problem = "no_value"
    elif not math.isfinite(value):
        problem = "not_finite"
    elif value < 0:
        problem = "negative"
    elif value > (1 if readable.is_ratio else VALUE_MAX):
        problem = "too_large"
    elif not point.time_unix_nano:
        problem = "no_time"
    if problem:
        counters[problem] += 1
        return None
    return round(value * 1000 if readable.is_ratio else value)


def _points(found: _OfSeries, counters: Counter[str]) -> Iterable[MetricPoint]:
    for (service, instance, metric), generations in found.items():
        newest = generations[min(generations)]
        for (temporality, time_ms), parts in newest.moments.items():
            values = [value for value, _ in parts.values()]
            value = sum(values) if newest.readable.adds_up else max(values)
            if value > VALUE_MAX:
                counters["too_large"] += 1
                continue
            yield MetricPoint(
                service,
                instance,
                int(metric),
                int(temporality),
                min((start for _, start in parts.values() if start), default=0),
                time_ms,
                value,
            )
