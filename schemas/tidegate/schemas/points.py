"""Points of the metrics that rules read (L2, L5), from `otlp_metrics` to evaluate.

They ride in records of `tidegate.partials` beside blocks, named by their own series and time instead of
an offset: a point whose time is not newer than its series' last one has been merged already.
"""

from enum import IntEnum

import msgspec

__all__ = ["Metric", "MetricPoint", "Temporality"]


class Metric(IntEnum):
    """The numbers are wire format: never renumber, only append."""

    GOROUTINES = 0
    """`go.goroutine.count`, `process.runtime.go.goroutines`: now."""
    GO_MEMORY_BYTES = 1
    """`go.memory.used`, `process.runtime.go.mem.heap_alloc`: now."""
    PANIC_ON_OOPS = 2
    """`tidegate.host.panic_on_oops`: 0 or 1."""
    KERNEL_OOPS = 3
    """`tidegate.host.kernel_oops`: count."""
    MEMORY_HIGH = 4
    """`tidegate.cgroup.memory.events` with `event` = `high`: count, as the two below."""
    MEMORY_MAX = 5
    OOM_KILL = 6
    MEMORY_FULL_MILLI = 7
    """`tidegate.pressure.memory.full`: share of time (avg10) in thousandths, now."""


class Temporality(IntEnum):
    """What a point's value is."""

    NOW = 0
    """A gauge, or a sum that may fall: the value at its time."""
    DELTA = 1
    """What was added between start and time."""
    CUMULATIVE = 2
    """What was added since start; a new start, or a smaller value, is a reset."""


class MetricPoint(msgspec.Struct, frozen=True, array_like=True):
    """One point of one series (service, instance, metric)."""

    service: str
    instance: str
    """`service.instance.id`, else `host.name`, else `k8s.pod.name`; "" where the resource names none."""
    metric: int
    """A `Metric`."""
    temporality: int
    """A `Temporality`."""
    start_ms: int
    """0 where the producer gives none."""
    time_ms: int
    value: int
    """Rounded to a whole number."""
