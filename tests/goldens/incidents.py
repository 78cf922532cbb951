"""What happens in each golden: seeds, rates, faults, as a table. All times are seconds from its start.

Every golden begins with a calm of at least 70 s. A baseline is known from 60 to 90 s on (it is computed
every 30 s): before, slowness can't be judged.
"""

from dataclasses import dataclass

__all__ = ["BASE_MS", "INCIDENTS", "Call", "Fault", "Incident", "Service", "incident_named"]

BASE_MS = 1_750_000_000_000
"""Start of every recording; a multiple of 500, as any other base must be."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a service makes while it serves a request."""

    target: str
    """Another service of the shop, or a name that only its callers know (a database, a bank)."""
    share: float = 1.0
    """Of the requests that make it."""
    is_hard: bool = True
    """Whether its failure fails the request."""
    own_ms: tuple[float, float] = (1.0, 4.0)
    """Time it takes where the target is no service of the shop."""


@dataclass(frozen=True, slots=True)
class Service:
    """How a service serves: its own time (uniform), then its calls, one after the other."""

    name: str
    own_ms: tuple[float, float]
    calls: tuple[Call, ...] = ()
    error_share: float = 0.0
    """Of healthy requests that fail all the same."""
    heavy_share: float = 0.0
    """Of requests that take `heavy_factor` times their own time: healthy jitter."""
    heavy_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a service (or target) from `start_s` to `end_s`.

    `error`: a share answers HTTP 500 at once. `slow`: its own time is multiplied. `dead`: it answers
    nothing and sends no spans; its callers' connections are refused, a quarter of them time out after a
    second. `throttle`: a share answers 429. `surge`: not about a service: traffic is multiplied.
    """

    kind: str
    target: str
    start_s: float
    end_s: float
    share: float = 1.0
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Incident:
    """One golden."""

    name: str
    seed: int
    seconds: float
    rps: float
    """Requests a second to `web`."""
    services: tuple[Service, ...]
    faults: tuple[Fault, ...] = ()
    policies: tuple[str, ...] = ("default",)
    gap_s: tuple[float, float] | None = None
    """When no worker runs, in tests that can do without one: what Kafka holds then is the backlog."""


_DB = "postgresql:shop"
_SHOP = (
    Service("web", (4, 9), (Call("cart", is_hard=True), Call("pay", share=0.5))),
    Service("cart", (3, 8), (Call(_DB),)),
    Service("pay", (10, 25), (Call("bank.example", share=1.0, own_ms=(12, 30)),)),
)
_JITTERY = (
    Service(
        "web",
        (20, 60),
        (Call("cart"), Call("pay", share=0.5)),
        error_share=0.005,
        heavy_share=0.04,
        heavy_factor=6,
    ),
    Service("cart", (10, 50), (Call(_DB, own_ms=(2, 30)),), heavy_share=0.08, heavy_factor=5),
    Service("pay", (60, 240), error_share=0.01, heavy_share=0.02, heavy_factor=4),
)
_SMALL = (Service("web", (4, 9), (Call("pay"),)), Service("pay", (10, 25)))

INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "error_burst",
        seed=11,
        seconds=200,
        rps=14,
        services=_SHOP,
        faults=(Fault("error", "pay", 75, 100, share=0.7),),
        policies=("default", "reference", "adaptive"),
    ),
    Incident(
        "slow_down",
        seed=12,
        seconds=220,
        rps=14,
        services=_SHOP,
        faults=(Fault("slow", _DB, 95, 125, factor=250),),
        policies=("default", "reference"),
    ),
    Incident(
        "total_outage",
        seed=13,
        seconds=210,
        rps=14,
        services=_SHOP,
        faults=(Fault("dead", "pay", 75, 110),),
    ),
    Incident(
        "traffic_surge",
        seed=14,
        seconds=180,
        rps=8,
        services=_SHOP,
        faults=(
            Fault("surge", "", 75, 95, factor=4),
            Fault("surge", "", 95, 115, factor=8),
            Fault("throttle", "pay", 95, 115, share=0.6),
            Fault("slow", "pay", 95, 115, factor=3),
        ),
    ),
    Incident(
        "flapping",
        seed=15,
        seconds=240,
        rps=12,
        services=_SHOP,
        faults=tuple(
            Fault("error", "pay", at, at + 6, share=0.8) for at in (75.0, 89.0, 103.0, 117.0, 131.0)
        ),
    ),
    Incident(
        "worker_gap",
        seed=16,
        seconds=190,
        rps=14,
        services=_SHOP,
        faults=(Fault("error", "cart", 80, 100, share=0.9),),
        gap_s=(70, 115),
    ),
    Incident("healthy_jitter", seed=17, seconds=240, rps=10, services=_JITTERY),
    Incident(
        "low_traffic",
        seed=18,
        seconds=600,
        rps=0.1,
        services=_SMALL,
        faults=(Fault("error", "pay", 200, 300),),
    ),
)


def incident_named(name: str) -> Incident:
    """One of the table. KeyError for a name that isn't there."""
    return {incident.name: incident for incident in INCIDENTS}[name]
