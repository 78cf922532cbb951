"""What is published on the decisions topic: one `Decision` per scope, one `Lease` per partition.

JSON, key = scope, compacted. The published JSON Schema is generated from these types.
"""

from typing import Any, Literal

import msgspec

from tidegate.schemas.level import LEVEL_NAMES, Level

__all__ = [
    "DECISION_SCHEMA",
    "Actions",
    "Backoff",
    "Decision",
    "Finding",
    "Incident",
    "Lease",
    "LevelName",
    "Override",
    "Shed",
    "Signals",
    "decode_decision",
    "decode_lease",
    "encode_decision",
    "encode_lease",
    "json_schema",
]

DECISION_SCHEMA = 1
LevelName = Literal[
    "closed", "degraded_1", "degraded_2", "half_open", "cooling", "open", "forced_open", "locked"
]


class Actions(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller does, in numbers. A field that is null asks for nothing."""

    admit_ratio: float
    """Share of requests that pass, 0..1, chosen by a stable hash of the trace or session."""
    slow_over_ms: int | None = None
    """Deadline a caller sets on its calls; what it ends so it marks `cut`."""
    shed_if_no_deadline: float | None = None
    """Share to shed, 0..1, by callers that can't set deadlines (degraded_1)."""
    probe_per_s: float | None = None
    """Probes per second for the whole fleet while nothing else passes (half_open)."""
    probe_ratio: float | None = None
    """Share of requests that may probe, 0..1; a client lets through the larger of both."""
    callers: int | None = None
    """Among how many callers `probe_per_s` is shared."""
    heartbeats_pass: bool = False
    """Whether calls that the caller marks as heartbeat pass although nothing else does."""
    retry_ratio_max: float
    """Retries per request a client may send, 0..1."""
    retry_after_s: int | None = None
    """What `Retry-After` should say: remaining sleep plus a jitter hashed from the scope."""
    fallback: bool = False
    """Whether a refused request should be answered by the caller's fallback."""
    cache: bool = False
    """Whether callers should serve from a local cache (L1)."""
    qps_max: float | None = None
    """Requests per second that each instance of the service lets in (L2)."""
    relax_gc: bool = False
    """Whether the service should let its garbage collector run less often (L2)."""
    failover: bool = False
    """Whether callers should use the spare endpoint (L3)."""
    reject: bool = False
    """Whether the service answers 503 with `Retry-After` to everyone (L4)."""
    eject: list[str] = []
    """Instances of the service that callers should skip."""
    terminate: list[str] = []
    """Instances that should save a snapshot and exit (L5). Obeyed only by clients that opted in."""


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that were judged, over the judged window."""

    requests: int
    """Requests (edge: calls) in the judged window, own effects left out."""
    window_s: float
    """Length of the judged window in seconds: 5, 30 or 300."""
    error_ratio: float
    """Weighted error ratio, 0..1."""
    own_error_ratio: float
    """The part of it that no failed call of the service explains, 0..1."""
    p50_ms: float | None
    p95_ms: float | None
    """Of all durations in the judged window; null without any."""
    self_p95_ms: float | None
    """Of durations minus the calls made meanwhile (services only), over 30 s."""
    target_ms: float | None
    """Slower than this is bad; null while no baseline is known."""
    qps: float
    """Offered requests per second (admitted and shed)."""
    shed: int
    """Requests turned away by clients in the 30 s window."""
    evidence: Literal["none", "mild", "sharp"]
    evidence_since_ms: int | None
    """Since when badness is on evidence."""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that holds, L1 to L5."""

    rule: Literal["L1", "L2", "L3", "L4", "L5"]
    since_ms: int
    reason: str
    """For people: the numbers that make it hold."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is worth telling beside the level."""

    name: Literal["chronic", "drift", "hollow", "unknown_overload", "cycle"]
    """chronic: bad for so long that it is how the service is. drift: its recent habit is far from the
    day's. hollow: answers too quick to be true. unknown_overload: metrics come too seldom to tell L2.
    cycle: requests through this service come back to it."""
    since_ms: int
    reason: str


class RootCause(msgspec.Struct, frozen=True, kw_only=True):
    """Who is suspected, and why."""

    name: str
    """A service or virtual node."""
    share: float
    """Of what is bad in this graph, how much begins there, 0..1."""
    reason: str
    """The evidence, for people."""


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's level: obeyed above policy and incidents, in any mode, until it ends."""

    scope: str
    """As it was set: a scope or a pattern."""
    level: LevelName
    by: str
    reason: str
    until_ms: int
    """From then on nobody obeys it, with or without a worker."""


class Shed(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions turned away, or would have under `observe`, over the last 24 hours."""

    requests: int
    """Offered requests while the scope was not closed."""
    turned_away: int
    """Of these, by `admit_ratio`."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """The sleep of an open breaker."""

    attempt: int
    """How often it opened in a row, from 1."""
    until_ms: int
    """When it may be probed."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One scope's level and why. Newer `boundary` wins; anything else is ignored (fencing)."""

    schema: int = DECISION_SCHEMA
    scope: str
    level: LevelName
    score: float | None
    """0..1, 1 is healthy; thousandths; null before anything was judged."""
    mode: Literal["observe", "enforce"]
    """observe: advice that clients report and do not obey."""
    actions: Actions
    protocol: Literal["graded", "latched"] = "graded"
    incidents: list[Incident] = []
    findings: list[Finding] = []
    root_causes: list[RootCause] = []
    """Of a graph that isn't well: the likeliest first."""
    reason: str
    """For people: the terms of the score and the rule that moved the level."""
    signals: Signals
    exemplars: list[str] = []
    """Up to 5 trace ids (32 hex characters) of failed or slow requests."""
    window_start_ms: int
    window_end_ms: int
    since_ms: int
    """When the present level began."""
    boundary: int
    """window_end_ms / 500; grows for a scope."""
    partition: int
    """Evaluate partition, whose lease this decision lives by; the graph stage has the number after the last."""
    policy: str
    """NAME@VERSION of the policy in force."""
    targets: list[str] = []
    """Of an edge that goes by its callee's name: what callers' spans call it otherwise, sorted. Who asks for
    such a name means this decision."""
    override: Override | None = None
    shed_24h: Shed | None = None
    """null before anything was shed."""
    backoff: Backoff | None = None
    evidence_age_ms: int
    """P90 of (Kafka time - span end) of the service: how old its spans are when they arrive."""

    @property
    def severity(self) -> Level:
        """The level as a number that orders."""
        return Level(LEVEL_NAMES.index(self.level))


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Says that a partition is evaluated. Key `lease:PARTITION`, every 10 s of event time."""

    schema: int = DECISION_SCHEMA
    partition: int
    boundary: int
    window_end_ms: int
    lease_ms: int


_encoder = msgspec.json.Encoder(order="deterministic")
_decision_decoder = msgspec.json.Decoder(Decision)
_lease_decoder = msgspec.json.Decoder(Lease)


def encode_decision(decision: Decision) -> bytes:
    """One line of JSON, without the newline: fields in the type's order, always the same bytes."""
    return _encoder.encode(decision)


def decode_decision(data: bytes) -> Decision:
    """Raises msgspec.DecodeError (ValidationError) for anything that is no decision."""
    return _decision_decoder.decode(data)


def encode_lease(lease: Lease) -> bytes:
    """One line of JSON, without the newline."""
    return _encoder.encode(lease)


def decode_lease(data: bytes) -> Lease:
    """Raises msgspec.DecodeError for anything that is no lease."""
    return _lease_decoder.decode(data)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a decision, generated from the type."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(Decision),
    }
