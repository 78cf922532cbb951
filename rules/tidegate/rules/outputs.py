"""What a partition's evaluator gives out for one record of its log."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tidegate.rules.in_force import Due
from tidegate.rules.standing import Snapshot
from tidegate.schemas.alert import Alert, encode_alert
from tidegate.schemas.decision import Decision, Lease, encode_decision, encode_lease
from tidegate.schemas.graph import GraphView, parts_of
from tidegate.schemas.health import Health, encode_health
from tidegate.schemas.scope import lease_key

__all__ = ["AppendedTo", "Outputs"]

AppendedTo = Literal["alerts", "shadow", "health", "graph"]
"""As `schemas.topics.Topics` calls them."""


@dataclass(slots=True)
class Outputs:
    """Everything in the order of boundaries; at one boundary decisions by scope, tombstones, the lease."""

    decisions: list[Decision] = field(default_factory=list)
    tombstones: list[tuple[int, str]] = field(default_factory=list)
    """(boundary, scope) of keys that were dropped."""
    shadow: list[Decision] = field(default_factory=list)
    """Of a policy that is tried beside the one in force: never obeyed."""
    alerts: list[Alert] = field(default_factory=list)
    applied: list[tuple[int, Due]] = field(default_factory=list)
    """(boundary, entry) of what operators asked for, in force from that boundary on."""
    leases: list[Lease] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    views: list[GraphView] = field(default_factory=list)
    """Of the graph stage: the graph as it is, now and then."""
    snapshot: Snapshot | None = None
    """The last one that became due."""
    counters: Counter[str] = field(default_factory=Counter)
    """Deltas by name: late, skewed, duplicate_blocks, overflow, ..."""
    boundary: int | None = None
    """The newest boundary that was stepped, now or before."""
    watermark_ms: int | None = None

    def add(self, other: "Outputs") -> None:
        """Takes over what came out later."""
        self.decisions += other.decisions
        self.tombstones += other.tombstones
        self.shadow += other.shadow
        self.alerts += other.alerts
        self.applied += other.applied
        self.leases += other.leases
        self.health += other.health
        self.views += other.views
        self.snapshot = other.snapshot or self.snapshot
        self.counters.update(other.counters)
        self.boundary, self.watermark_ms = other.boundary, other.watermark_ms

    def add_beside(self, other: "Outputs") -> None:
        """Takes over what another stage made of the same time."""
        self.decisions += other.decisions
        self.tombstones += other.tombstones
        self.shadow += other.shadow
        self.alerts += other.alerts
        self.leases += other.leases
        self.views += other.views
        others = {f"graph_{name}": n for name, n in other.counters.items() if name != "boundaries"}
        self.counters.update(others)

    def appended(self, partition: int) -> Iterator[tuple[AppendedTo, bytes, bytes]]:
        """(topic, key, value) of what goes to topics that keep every record, in publishing order."""
        yield from (("alerts", a.id.encode(), encode_alert(a)) for a in self.alerts)
        yield from (("shadow", d.scope.encode(), encode_decision(d)) for d in self.shadow)
        for health in self.health:
            yield from (("health", str(partition).encode(), p) for p in encode_health(health))
        for view in self.views:
            yield from (
                ("graph", f"part:{i}".encode(), part) for i, part in enumerate(parts_of(view))
            )

    def records(self) -> list[tuple[bytes, bytes | None]]:
        """(key, value) for the decisions topic, in publishing order; None is a tombstone. A lease comes
        after the decisions of its boundary: who reads it has read them."""
        rows: list[tuple[int, int, str, bytes | None]] = []
        rows += [(d.boundary, 0, d.scope, encode_decision(d)) for d in self.decisions]
        rows += [(boundary, 1, scope, None) for boundary, scope in self.tombstones]
        rows += [(x.boundary, 2, lease_key(x.partition), encode_lease(x)) for x in self.leases]
        rows.sort(key=lambda row: row[:3])
        return [(scope.encode(), value) for _, _, scope, value in rows]
