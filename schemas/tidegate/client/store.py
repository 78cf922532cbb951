"""What a client has heard: the newest decision of each scope, and the lease of each partition.

Told the time; does no I/O. A decision is obeyed while its partition's lease runs. When that runs out the
client falls back to letting calls pass, by a ramp with jitter, so that a whole fleet doesn't jump at once.
"""

from collections import Counter
from collections.abc import Callable

import msgspec

from tidegate.client.admission import share_of
from tidegate.schemas.decision import (
    DECISION_SCHEMA,
    Decision,
    Lease,
    decode_decision,
    decode_lease,
)
from tidegate.schemas.scope import OVERRIDE_ALL

__all__ = ["LEASE_MS", "RAMP_MS", "Entry", "Store"]

LEASE_MS = 45_000
"""Until a lease record says otherwise."""
RAMP_MS = 30_000
JITTER_MS = 10_000
_LEASE_PREFIX = b"lease:"


class Entry:
    """A scope's newest decision, and whether it may be obeyed at all."""

    __slots__ = ("decision", "is_dead")

    def __init__(self, decision: Decision, *, is_dead: bool) -> None:
        self.decision = decision
        self.is_dead = is_dead
        """For display only: it was published too late, or its lease was over before it was read."""


class _Lease:
    __slots__ = ("until_ms", "was_lost")

    def __init__(self) -> None:
        self.until_ms = 0
        self.was_lost = False


class Store:
    """Fed with the records of the decisions topic, in order. Not locked: one writer, many readers."""

    def __init__(self, *, client_id: str = "", wanted: Callable[[str], bool] | None = None) -> None:
        """wanted: keeps only the scopes it says yes to."""
        self.entries: dict[str, Entry] = {}
        self.override: Decision | None = None
        self.counters: Counter[str] = Counter()
        self._leases: dict[int, _Lease] = {}
        self._lease_ms = LEASE_MS
        self._client_id = client_id
        self._wanted = wanted
        self._is_caught_up = False

    def apply(self, key: bytes, value: bytes | None, *, kafka_ms: int, now_ms: int) -> str | None:
        """Takes one record. Returns the scope whose decision changed, None where nothing did.

        What can't be read is counted and ignored: one bad record must not stop a client."""
        if value is None:
            return self._drop(key.decode(errors="replace"))
        try:
            if key.startswith(_LEASE_PREFIX):
                self._apply_lease(decode_lease(value), kafka_ms, now_ms)
                return None
            decision = decode_decision(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.counters["undecodable"] += 1
            return None
        if decision.schema != DECISION_SCHEMA:
            self.counters["unknown_schema"] += 1
            return None
        return self._apply_decision(decision, kafka_ms, now_ms)

    def caught_up(self, now_ms: int) -> None:
        """Everything that was there at the start has been read: decisions without a lease are over."""
        if self._is_caught_up:
            return
        self._is_caught_up = True
        for entry in self.entries.values():
            lease = self._leases.get(entry.decision.partition)
            if lease is None or lease.until_ms < now_ms:
                entry.is_dead = True
                self.counters["expired_at_start"] += 1

    def relaxed(self, partition: int, now_ms: int) -> float:
        """0 while the partition's lease runs; then, after a jitter, a ramp to 1 in 30 s."""
        lease = self._leases.get(partition)
        if lease is None:
            return 1.0
        over_ms = now_ms - lease.until_ms
        if over_ms <= 0:
            return 0.0
        if not lease.was_lost:
            lease.was_lost = True
            self.counters["leases_lost"] += 1
        jitter_ms = int(share_of(f"{self._client_id}/{partition}") * JITTER_MS)
        return min(1.0, max(0.0, (over_ms - jitter_ms) / RAMP_MS))

    def is_stale(self, partition: int, now_ms: int) -> bool:
        """Whether nobody is known to evaluate the partition."""
        lease = self._leases.get(partition)
        return lease is None or lease.until_ms < now_ms

    def _apply_lease(self, lease: Lease, kafka_ms: int, now_ms: int) -> None:
        if kafka_ms - lease.window_end_ms > lease.lease_ms:
            self.counters["late_leases"] += 1
            return
        self._lease_ms = lease.lease_ms
        self._extend(lease.partition, lease.lease_ms, kafka_ms, now_ms)

    def _apply_decision(self, decision: Decision, kafka_ms: int, now_ms: int) -> str | None:
        scope = decision.scope
        if scope == OVERRIDE_ALL:
            if self.override is None or decision.boundary > self.override.boundary:
                self.override = decision
                return scope
            return None
        if self._wanted is not None and not self._wanted(scope):
            return None
        old = self.entries.get(scope)
        if old is not None and decision.boundary <= old.decision.boundary:
            self.counters["not_newer"] += 1
            return None
        is_late = kafka_ms - decision.window_end_ms > self._lease_ms
        if is_late:
            self.counters["late_decisions"] += 1
        else:
            self._extend(decision.partition, self._lease_ms, kafka_ms, now_ms)
        self.entries[scope] = Entry(decision, is_dead=is_late)
        return scope

    def _extend(self, partition: int, lease_ms: int, kafka_ms: int, now_ms: int) -> None:
        """A lease runs from its receipt; for records read at start from their Kafka time."""
        heard_ms = now_ms if self._is_caught_up else min(kafka_ms, now_ms)
        lease = self._leases.setdefault(partition, _Lease())
        if self._is_caught_up and 0 < lease.until_ms < now_ms:
            self._bury(partition)
        lease.until_ms = max(lease.until_ms, heard_ms + lease_ms)
        lease.was_lost = False

    def _bury(self, partition: int) -> None:
        """The partition is evaluated again after a gap: what was decided before it holds no more; what
        still holds is published again within 30 s."""
        for entry in self.entries.values():
            if entry.decision.partition == partition:
                entry.is_dead = True

    def _drop(self, scope: str) -> str | None:
        if scope == OVERRIDE_ALL:
            had, self.override = self.override is not None, None
            return scope if had else None
        return scope if self.entries.pop(scope, None) is not None else None
