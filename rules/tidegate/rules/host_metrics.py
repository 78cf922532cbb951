"""What instances last said of themselves: newest point of each series (service, instance, metric), and
what a boundary adds to it.

Inside a boundary points are taken in the order of series and time, so the order of arrival doesn't matter;
one that is not newer than its series' last is dropped, so neither does how often a point came. Points of
the future wait for their boundary and are not saved: the log has them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.points import Metric, MetricPoint, Temporality

__all__ = ["SERIES_MAX", "SERIES_TTL_MS", "WAITING_MAX", "HostMetrics", "Reading", "Series"]

SERIES_MAX = 10_000
"""Per partition: what this module and `host_incidents` keep of one is under 2 kB."""
SERIES_TTL_MS = 3_600_000
"""A series unseen for so long ends; points this old say nothing any more."""
WAITING_MAX = 100_000
"""Points, about 250 bytes each. Of more the newest are kept: a rule by which the same ones remain whether
older ones were merged before or never read (after a restart)."""
_SWEEP_BOUNDARIES = 120
_METRICS = frozenset(int(metric) for metric in Metric)


class Series(msgspec.Struct, array_like=True):
    """The newest point of a series."""

    time_ms: int
    value: int
    temporality: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A point that was taken, and what its series rose by."""

    service: str
    instance: str
    metric: int
    time_ms: int
    value: int
    increase: int
    """0 for levels, and for the first point of a cumulative series: since when it counts is unknown."""


class HostMetrics:
    """All series of one evaluate partition."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, int], Series] = {}
        self.readings: list[Reading] = []
        """What the newest boundary took, in the order of series and time."""
        self.counters: Counter[str] = Counter()
        """stale_points, old_points, overflow_series, waiting_overflow, unknown_metrics: the caller takes
        them and clears."""
        self._waiting: dict[MetricPoint, int] = {}
        """Point -> log offset of the first record that held it."""

    def offer(self, points: Iterable[MetricPoint], *, offset: int) -> None:
        """Keeps points of the record at this log offset until a boundary passes their time."""
        for point in points:
            if point.metric in _METRICS:
                self._waiting.setdefault(point, offset)
            else:
                self.counters["unknown_metrics"] += 1
        if len(self._waiting) > 2 * WAITING_MAX:
            self._trim()

    def start_offset(self, otherwise: int) -> int:
        """From where the log must be read again for what waits; at most `otherwise`."""
        return min(otherwise, *self._waiting.values()) if self._waiting else otherwise

    def merge(self, boundary: int) -> None:
        """Takes what waited and lies before the boundary's time."""
        if len(self._waiting) > WAITING_MAX:
            self._trim()
        end_ms = boundary * BUCKET_MS
        due = [point for point in self._waiting if point.time_ms < end_ms]
        for point in due:
            del self._waiting[point]
        self.feed(due, boundary)
        if boundary % _SWEEP_BOUNDARIES == 0:
            self._sweep(end_ms)

    def feed(self, points: Iterable[MetricPoint], boundary: int) -> None:
        """Takes points, in any order and any number of copies, as those of this boundary."""
        oldest_ms = boundary * BUCKET_MS - SERIES_TTL_MS
        self.readings = []
        for point in sorted(points, key=_order):
            if point.time_ms < oldest_ms:
                self.counters["old_points"] += 1
            else:
                self._take(point)

    def state(self) -> list[Any]:
        """Plain values in the order of series. Points that wait are not among them."""
        return [[*key, *msgspec.to_builtins(one)] for key, one in sorted(self.series.items())]

    def load(self, saved: list[Any]) -> None:
        """Fills an empty one."""
        for service, instance, metric, *rest in saved:
            self.series[service, instance, metric] = msgspec.convert(rest, Series)

    def _take(self, point: MetricPoint) -> None:
        key = (point.service, point.instance, point.metric)
        last = self.series.get(key)
        if last is None and len(self.series) >= SERIES_MAX:
            self.counters["overflow_series"] += 1
            return
        if last is not None and point.time_ms <= last.time_ms:
            self.counters["stale_points"] += 1
            return
        if last is not None and point.time_ms - last.time_ms > SERIES_TTL_MS:
            last = None  # as if it had been swept in time
        increase = _increase(point, last)
        self.series[key] = Series(point.time_ms, point.value, point.temporality)
        self.readings.append(Reading(*key, point.time_ms, point.value, increase))

    def _trim(self) -> None:
        newest = sorted(self._waiting, key=lambda p: (p.time_ms, _order(p)), reverse=True)
        for point in newest[WAITING_MAX:]:
            del self._waiting[point]
            self.counters["waiting_overflow"] += 1

    def _sweep(self, now_ms: int) -> None:
        ended = [k for k, one in self.series.items() if now_ms - one.time_ms > SERIES_TTL_MS]
        for key in ended:
            del self.series[key]


def _order(point: MetricPoint) -> tuple[str, str, int, int, int, int, int]:
    """Of several points of one time the one that began last, or else is largest, comes first."""
    return (
        point.service,
        point.instance,
        point.metric,
        point.time_ms,
        -point.start_ms,
        -point.value,
        point.temporality,
    )


def _increase(point: MetricPoint, last: Series | None) -> int:
    """What was added since the series' last point. A sum that is smaller, or began after that point, was
    reset: all of it is new. (Another beginning before that point is none: a host's uptime, from which some
    take theirs, is off by a millisecond each time.)"""
    if point.temporality == Temporality.DELTA:
        return point.value
    if point.temporality != Temporality.CUMULATIVE or last is None:
        return 0
    if last.temporality != Temporality.CUMULATIVE:
        return 0
    if point.value < last.value or point.start_ms > last.time_ms:
        return point.value
    return point.value - last.value
