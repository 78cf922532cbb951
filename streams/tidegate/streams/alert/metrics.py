"""What `tidegate alert` tells Prometheus, and whether it is alive and ready."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from tidegate.streams.metrics import Page

__all__ = ["AlertMetrics"]

_BEAT_MAX_S = 60.0


class AlertMetrics:
    """Counters of one sender, in a registry of their own."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self.registry = CollectorRegistry()
        self.records = self._counter("records", "Records of the alerts topic that were read")
        self.undecodable = self._counter("undecodable_records", "Records that are no alert")
        self.skipped = self._counter("skipped", "Events that were sent nowhere", "why")
        self.sent = self._counter("sent", "Events that a channel took", "channel")
        self.retries = self._counter("retries", "Tries that failed and were repeated", "channel")
        self.dead_lettered = self._counter(
            "dead_lettered", "Events that a channel did not take", "channel"
        )
        self.waiting = Gauge(
            "tidegate_alert_waiting",
            "Events that wait for a channel",
            ("channel",),
            registry=self.registry,
        )
        self.folded = self._counter("folded", "Events that another message of their group told")
        self.deciding = Gauge(
            "tidegate_alert_deciding", "Incidents that wait for their cause", registry=self.registry
        )
        self.groups = Gauge(
            "tidegate_alert_groups", "Groups of one cause that stand", registry=self.registry
        )
        for name in channels:  # zero is shown, too: a rate can be taken of the first one
            for metric in (self.sent, self.retries, self.dead_lettered, self.waiting):
                metric.labels(name)
        self.policies: dict[str, str] = {}
        """What /healthz shows of a worker; a sender has none."""
        self.pages: dict[str, Page] = {}
        """As above."""
        self.is_assigned = False
        self._beat_s = time.monotonic()

    def beat(self) -> None:
        """The loop came round."""
        self._beat_s = time.monotonic()

    def not_ready(self) -> list[str]:
        """For /readyz: no partition yet, or another sender has them all."""
        return [] if self.is_assigned else ["alert"]

    def not_alive(self) -> list[str]:
        """For /healthz."""
        return ["alert"] if time.monotonic() - self._beat_s > _BEAT_MAX_S else []

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tidegate_alert_{name}", text, labels, registry=self.registry)
