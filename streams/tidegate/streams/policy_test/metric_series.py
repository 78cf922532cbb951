"""Metrics as compact series: `go.goroutine.count=6000 every 5s for 30s; then 100 for 30s`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tidegate.rules.policy_yaml import nearest, shown
from tidegate.schemas.otlp.metrics import EVENTS, METRICS
from tidegate.schemas.points import Metric, MetricPoint, Temporality
from tidegate.streams.policy_test.series import Tell, split_segments
from tidegate.streams.policy_test.traffic import BASE_MS
from tidegate.streams.policy_test.values import steps_ms

__all__ = ["MetricSegment", "MetricSeries", "metric_names", "parse_metric"]

_EVERY_MS = 5_000
_VALUE_MAX = 1 << 53
_COUNTS = (Metric.KERNEL_OOPS, Metric.MEMORY_HIGH, Metric.MEMORY_MAX, Metric.OOM_KILL)
_MILLI = 1_000


@dataclass(frozen=True, slots=True)
class MetricSegment:
    """A value, told again and again for a time."""

    value: int
    every_ms: int
    for_ms: int


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """One metric of one instance."""

    service: str
    instance: str
    metric: Metric
    segments: tuple[MetricSegment, ...]

    @property
    def length_ms(self) -> int:
        """Until it falls silent."""
        return sum(segment.for_ms for segment in self.segments)

    def points(self) -> Iterator[tuple[int, MetricPoint]]:
        """(ms from the case's start, point), in order."""
        is_count = self.metric in _COUNTS
        begins_ms = 0
        for segment in self.segments:
            for at_ms in range(begins_ms, begins_ms + segment.for_ms, segment.every_ms):
                yield (
                    at_ms,
                    MetricPoint(
                        self.service,
                        self.instance,
                        int(self.metric),
                        int(Temporality.CUMULATIVE if is_count else Temporality.NOW),
                        BASE_MS if is_count else 0,
                        BASE_MS + at_ms,
                        segment.value,
                    ),
                )
            begins_ms += segment.for_ms


def metric_names() -> dict[str, Metric]:
    """What may stand before the `=`."""
    plain = {name: read.metric for name, read in METRICS.items() if read.metric is not None}
    counted = next(name for name, read in METRICS.items() if read.metric is None)
    return plain | {f"{counted}.{event}": metric for event, metric in EVENTS.items()}


def parse_metric(text: str, service: str, instance: str, tell: Tell) -> MetricSeries | None:
    """The series of a text, or None and what is wrong with it."""
    names = metric_names()
    metric: Metric | None = None
    segments: list[MetricSegment] = []
    now = MetricSegment(-1, _EVERY_MS, 0)
    for number, words in enumerate(split_segments(text, tell)):
        first, equals, value = words[0].partition("=")
        if number == 0 and (not equals or first not in names):
            near = nearest(first, tuple(names))
            hint = f"did you mean `{near}`?" if near else f"allowed: {', '.join(names)}"
            tell(f"{shown(words[0])} begins with no metric; {hint}")
            return None
        if number == 0:
            metric = names[first]
        elif equals:
            tell(f"{shown(words[0])}: the metric stands at the beginning only; give the value")
        try:
            now = _segment(now, [value if equals else first, *words[1:]], metric)
        except ValueError as problem:
            tell(str(problem))
            return None
        segments.append(now)
    if metric is None:
        return None
    return MetricSeries(service, instance, metric, tuple(segments))


def _segment(before: MetricSegment, words: list[str], metric: Metric | None) -> MetricSegment:
    out = replace(before, for_ms=0, value=_value(words[0], metric))
    match words[1:]:
        case ["every", every, "for", lasting]:
            out = replace(out, every_ms=steps_ms(every), for_ms=steps_ms(lasting))
        case ["for", lasting]:
            out = replace(out, for_ms=steps_ms(lasting))
        case rest:
            raise ValueError(f"{shown(' '.join(rest))}: write `VALUE every 5s for 30s`")
    if out.every_ms == 0 or out.for_ms == 0:
        raise ValueError("0s: give at least 500ms")
    return out


def _value(text: str, metric: Metric | None) -> int:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _VALUE_MAX:
        raise ValueError(f"{shown(text)} is no value; give a number from 0 to 2^53")
    if metric is Metric.MEMORY_FULL_MILLI:
        return round(number * _MILLI)
    if number != int(number):
        raise ValueError(f"{text} is no whole number")
    return int(number)
