"""Leases, and what a client does without one. Pure: told the time.

A partition's decisions are obeyed while somebody is known to evaluate it. When its lease runs out the
client falls back to its configured level, by a ramp with jitter, so that a fleet doesn't jump at once.
"""

from typing import Literal

import msgspec

from tidegate.client.hashing import position_of
from tidegate.schemas.decision import Actions

__all__ = [
    "FALLBACKS",
    "JITTER_MS",
    "LEASE_MS",
    "RAMP_MS",
    "FallbackLevel",
    "PartitionLease",
    "blend",
    "is_late",
    "jitter_ms",
    "ramp",
]

LEASE_MS = 45_000
"""Until a lease record of the partition says otherwise (design section 9)."""
RAMP_MS = 30_000
JITTER_MS = 10_000
"""A client begins its ramp up to so long after the lease's end, by a hash of its id."""

FallbackLevel = Literal["closed", "degraded_1", "degraded_2", "open"]

FALLBACKS: dict[FallbackLevel, Actions] = {
    "closed": Actions(admit_ratio=1.0, retry_ratio_max=0.1),
    "degraded_1": Actions(admit_ratio=1.0, shed_if_no_deadline=0.1, retry_ratio_max=0.1),
    "degraded_2": Actions(admit_ratio=0.7, retry_ratio_max=0.0, fallback=True),
    "open": Actions(admit_ratio=0.0, retry_ratio_max=0.0, retry_after_s=30, fallback=True),
}
"""What a client does on its own at each level it may be configured to fall back to: the table of
design section 6. Levels that only a worker can lead out of are none."""


class PartitionLease:
    """Until when a partition is known to be evaluated."""

    __slots__ = ("boundary", "epoch", "is_said", "lease_ms", "until_ms")

    def __init__(self) -> None:
        self.lease_ms = LEASE_MS
        self.until_ms = 0
        self.boundary = -1
        """Of the newest lease record; one that isn't newer is ignored (fencing)."""
        self.epoch = 0
        """Raised when the lease comes back after the ramp had ended: decisions of an older epoch are
        not obeyed any more until they are published again."""
        self.is_said = False
        """Whether its end has been told."""

    def extend(self, heard_ms: int, lease_ms: int, *, is_live: bool) -> None:
        """A sign of life. Not live: read at start, when compaction may have removed those between."""
        if is_live and 0 < self.until_ms < heard_ms - JITTER_MS - RAMP_MS:
            self.epoch += 1
        self.lease_ms = lease_ms
        self.until_ms = max(self.until_ms, heard_ms + lease_ms)


def is_late(*, kafka_ms: int, window_end_ms: int, lease_ms: int) -> bool:
    """Whether a record was appended so long after its window that its writer was catching up."""
    return kafka_ms - window_end_ms > lease_ms


def jitter_ms(client_id: str, partition: int) -> int:
    """How long after the lease's end this client begins its ramp, 0..10 s."""
    return int(position_of(f"{client_id}/{partition}") * JITTER_MS)


def ramp(over_ms: int, begins_ms: int) -> float:
    """How far a client has fallen back, 0..1, so many ms after the lease's end."""
    return min(1.0, max(0.0, (over_ms - begins_ms) / RAMP_MS))


def blend(actions: Actions, fallback: Actions, fraction: float) -> Actions:
    """Between what was decided and the fallback. Shares move by and by; what is no share (deadline,
    probes, heartbeats) stays as decided until the ramp's end."""
    if fraction <= 0.0:
        return actions
    if fraction >= 1.0:
        return fallback
    shed = _between(
        actions.shed_if_no_deadline or 0.0, fallback.shed_if_no_deadline or 0.0, fraction
    )
    return msgspec.structs.replace(
        actions,
        admit_ratio=_between(actions.admit_ratio, fallback.admit_ratio, fraction),
        retry_ratio_max=_between(actions.retry_ratio_max, fallback.retry_ratio_max, fraction),
        shed_if_no_deadline=shed or None,
    )


def _between(decided: float, fallback: float, fraction: float) -> float:
    return decided + (fallback - decided) * fraction
