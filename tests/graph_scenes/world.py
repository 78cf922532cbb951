"""What a world consists of: services with operations, databases, who calls whom, traffic, faults.

Data only. Times of faults are seconds from the beginning; names are those in spans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["MESH", "Call", "Database", "Fault", "Flow", "Operation", "Service", "World"]

MESH = "mesh:15001"
"""The address of a sidecar: whoever is behind it, callers only see this."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that an operation makes once for each of its requests."""

    to: str
    """`SERVICE.OPERATION`, or the name of a database."""
    timeout_ms: int = 1_000
    """When the caller gives up. The callee isn't told."""
    share: float = 1.0
    """Of the requests that make it."""
    is_hard: bool = True
    """Whether its failure fails the request; else the caller falls back."""
    attempts_max: int = 1
    """The first one and retries, each a span of its own."""
    backoff_ms: float = 30.0
    """Before the first retry; doubled before each further one."""


@dataclass(frozen=True, slots=True)
class Operation:
    """How a kind of request is served: own work first, then calls."""

    own_ms: tuple[float, float]
    calls: tuple[Call, ...] = ()
    is_parallel: bool = False
    """All calls at once, and all are waited for; else one after the other until a hard one fails."""


@dataclass(frozen=True, slots=True)
class Service:
    """Something that sends spans."""

    operations: Mapping[str, Operation]
    error_share: float = 0.001
    """Of requests that fail on a good day."""
    workers: int = 0
    """How many requests are worked on at once; 0: any number."""
    queue_max: int = 0
    """How many wait for a worker; who comes then is answered 503."""


@dataclass(frozen=True, slots=True)
class Database:
    """Answers, and sends no spans."""

    system: str
    namespace: str
    own_ms: tuple[float, float]

    @property
    def target(self) -> str:
        """What its callers' spans make of it."""
        return f"{self.system}/{self.namespace}"


@dataclass(frozen=True, slots=True)
class Fault:
    """`dead`: the process ends at once, with all it was doing and all spans it had not exported; calls
    hang, a share is refused. `error`: a share of requests answers 500 at once. `slow`: own work takes
    `factor` times as long."""

    kind: Literal["dead", "error", "slow"]
    where: str
    start_s: float
    end_s: float
    share: float = 1.0
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Flow:
    """Requests from outside, whose callers send no spans."""

    to: str
    """`SERVICE.OPERATION`."""
    per_s: float


@dataclass(frozen=True, slots=True)
class World:
    """All of it."""

    seed: int
    seconds: float
    services: Mapping[str, Service]
    flows: tuple[Flow, ...]
    faults: tuple[Fault, ...] = ()
    databases: Mapping[str, Database] = field(default_factory=dict)
    naming: Literal["peer", "address"] = "peer"
    """How a call's span names its callee: by `peer.service`, or by `server.address` alone, so that only
    pairing can tell who answers."""
    behind_mesh: frozenset[str] = frozenset()
    """Services that are reached at MESH, by address."""
    network_us: tuple[int, int] = (200, 600)
    """Each way."""

    def target(self, callee: str) -> str:
        """What a call's span says about whom it is for."""
        if callee in self.databases:
            return self.databases[callee].target
        if callee in self.behind_mesh:
            return MESH
        return callee if self.naming == "peer" else f"{callee}.svc.local"
