"""The form of a policy file. Defaults stand in the pack `default`, not here: every field must be given
there, and other files are laid over it."""

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "PROFILE_NAMES",
    "AdaptiveProfile",
    "AlertSettings",
    "AlertTier",
    "Bands",
    "BaselineSettings",
    "BlastRadius",
    "CascadeIncident",
    "EvidenceSettings",
    "FindingSettings",
    "GraphSettings",
    "GuardedProfile",
    "Incidents",
    "InfrastructureIncident",
    "JitterIncident",
    "LatchedSettings",
    "LevelSettings",
    "Limits",
    "Match",
    "OutcomeWeights",
    "OverloadIncident",
    "Points",
    "PolicyFile",
    "ProfileSettings",
    "ReferenceProfile",
    "Rule",
    "Settings",
    "Tier",
    "TimeoutIncident",
    "Timing",
]

Ratio = Annotated[float, Meta(ge=0, le=1)]
Factor = Annotated[float, Meta(gt=0, le=1000)]
Positive = Annotated[float, Meta(gt=0)]
Seconds = Annotated[int, Meta(ge=1, le=7 * 86_400)]
Points = tuple[tuple[float, float], ...]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Bands = Annotated[tuple[Ratio, ...], Meta(min_length=4, max_length=4)]
"""Lower edges of closed, degraded_1, degraded_2, open; below: forced_open."""
Tier = Literal["P1", "P2", "none"]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are refused."""


class Timing(_Strict, frozen=True, kw_only=True):
    """Times of the log and of leases."""

    grace_ms: Annotated[int, Meta(ge=0, le=60_000)]
    """How long after its end a bucket stays open."""
    source_wait_ms: Annotated[int, Meta(ge=1_000, le=600_000)]
    """After this silence a source partition is left out of the watermark."""
    skew_max_ms: Annotated[int, Meta(ge=0, le=600_000)]
    """Buckets further in the broker's future are dropped."""
    key_ttl_s: Annotated[int, Meta(ge=600, le=7 * 86_400)]
    """A closed key unseen for this long ends."""
    lease_ms: Annotated[int, Meta(ge=10_000, le=600_000)]
    """How long clients obey a partition that went silent."""
    lease_every_s: Annotated[int, Meta(ge=1, le=60)]
    switch_lead_ms: Annotated[int, Meta(ge=500, le=60_000)]
    """How far ahead a control record takes effect, counted from when it was appended."""
    republish_s: Annotated[int, Meta(ge=1, le=3600)]


class Limits(_Strict, frozen=True, kw_only=True):
    """Bounds per evaluate partition; what goes beyond is counted under `(other)`."""

    services_max: Annotated[int, Meta(ge=1, le=500_000)]
    keys_max: Annotated[int, Meta(ge=1, le=1_000_000)]


class EvidenceSettings(_Strict, frozen=True, kw_only=True):
    """Numbers of the rule `sequential`."""

    false_alarm_days: Annotated[int, Meta(ge=1, le=3650)]
    """About one false onset in this time for the whole installation."""
    requests_min: Count
    """A key counts as having at least this many requests in that time."""
    keys_free: Count
    """More active keys than this raise the threshold by ln(keys / keys_free)."""
    mild_rarer: Annotated[float, Meta(ge=1, le=1000)]
    """Mild evidence must be this many times as rare by chance: its threshold is h + ln of it."""
    judged_requests_min: Count
    """The judged window is the smallest that holds this many requests."""

    sharp_p1_min: Ratio
    sharp_factor: Factor
    mild_p1_min: Ratio
    mild_factor: Factor
    p0_min: Annotated[float, Meta(gt=0, le=0.2)]
    p0_max: Annotated[float, Meta(gt=0, le=0.2)]
    p0_prior_requests: Positive
    p0_half_life_s: Seconds
    cap_factor: Annotated[float, Meta(gt=1, le=10)]
    end_factor: Ratio
    end_requests_min: Count
    end_probability: Annotated[float, Meta(gt=0, lt=0.5)]
    sharp_end_share: Ratio
    mild_end_share: Ratio


class BaselineSettings(_Strict, frozen=True, kw_only=True):
    """Numbers of baselines and of the target made from them."""

    target_floor_ms: Count
    p50_factor: Factor
    p95_factor: Factor
    half_life_s: Annotated[int, Meta(ge=30, le=7 * 86_400)]
    day_half_life_s: Annotated[int, Meta(ge=30, le=30 * 86_400)]
    qps_half_life_s: Annotated[int, Meta(ge=30, le=7 * 86_400)]
    drift_factor: Factor
    known_requests_min: Count
    known_after_s: Seconds
    bad_units: Annotated[int, Meta(ge=0, le=10)]
    """Out of 10 that a good request counts."""


class BlastRadius(_Strict, frozen=True, kw_only=True):
    """How far one decision may reach; see the pack `default` for what each is for."""

    explained_share: Ratio
    """A worse edge that explains more than this share of a service's badness is the deeper cause."""
    deepest_wait_s: Seconds
    """How long that edge's own decision is given before the service may follow it."""
    self_slow_share: Ratio
    """A service is slow by itself when so many of its slow requests are slow without their calls."""
    instance_share: Ratio
    """One instance with more than this share of all failures is named instead of shedding everyone."""
    instances_min: Annotated[int, Meta(ge=2, le=1000)]
    instance_failures_min: Count
    panic_share: Ratio
    """More than this share of active keys that worsen together is suspect telemetry."""
    panic_keys_min: Count
    panic_within_s: Annotated[int, Meta(ge=1, le=60)]
    panic_hold_s: Annotated[int, Meta(ge=1, le=600)]
    panic_odd_share: Ratio
    """Telemetry is odd when this share of what arrived was late, skewed or undecodable, or a source is
    missing."""
    max_shed_share: Ratio
    """Share of a partition's offered requests that decisions may turn away together."""
    shed_keys_min: Count
    """... from so many active keys on: with fewer, one service is too large a share."""


class FindingSettings(_Strict, frozen=True, kw_only=True):
    """What is worth telling beside levels."""

    chronic_after_s: Seconds
    """On evidence for so long without ever having been off it."""
    hollow_factor: Ratio
    """Hollow: P50 under this share of the baseline's P05 ..."""
    hollow_requests_min: Count
    """... over at least so many requests in the judged window."""


class GraphSettings(_Strict, frozen=True, kw_only=True):
    """What the graph stage goes by: who is an entry, what is worth telling of how services call each other."""

    nodes_max: Annotated[int, Meta(ge=1, le=100_000)]
    """Services and virtual nodes; what goes beyond is counted and left out, as with edges."""
    edges_max: Annotated[int, Meta(ge=1, le=400_000)]
    edge_ttl_s: Seconds
    """An edge without a call for so long ends."""
    entry_share: Ratio
    """An entry: so much of its requests comes from none of the callers that are known."""
    entry_leave_share: Ratio
    """... and it is none any more below this."""
    entry_requests_min: Count
    """Before so many requests nobody is an entry."""
    entry_after_s: Seconds
    """Nor before so much time has passed since it was first seen."""
    optional_cost: Ratio
    """What an optional callee's failure takes from a request, at least: 0.02 of it."""
    fan_out_half_life_s: Seconds
    """Of the usual number of calls a request."""
    amplification_factor: Factor
    """Amplification: a request makes so many times as many calls as usual ..."""
    amplification_calls_min: Count
    """... over at least so many calls in 30 s, and as many requests learned from ..."""
    amplification_more: Ratio
    """... and at least so much of a call more for each request."""
    stands_s: Seconds
    """A finding needs to hold for so long, and as long to end."""
    timeouts_min: Count
    """A caller's deadline is known from so many time-outs."""
    network_ms: Annotated[int, Meta(ge=1, le=3_600_000)]
    """Network: the callers' P95 is so much above the callee's own ..."""
    network_share: Ratio
    """... and so much of it."""
    outlived_min: Count
    """So many callees that outlived their callers are worth telling."""
    observed_ttl_s: Seconds
    """A circle, or work for nobody, that was not seen for so long is over."""
    suspects_max: Annotated[int, Meta(ge=1, le=20)]
    """Root causes that a decision names."""
    suspect_share: Ratio
    """Who has less of what is bad is no suspect."""


class ReferenceProfile(_Strict, frozen=True, kw_only=True):
    """Numbers of the profile `reference`."""

    bands: Bands
    error_full: Positive
    """Error ratio at which the error term is 0."""
    latency_ms: Positive
    qps: Positive
    error_weight: Ratio
    latency_weight: Ratio
    traffic_weight: Ratio
    requests_min: Count
    """Unknown below this many in 30 s."""


class GuardedProfile(_Strict, frozen=True, kw_only=True):
    """Numbers of the profile `guarded`."""

    bands: Bands
    error_full: Positive
    error_weight: Ratio
    latency_weight: Ratio
    traffic_weight: Ratio
    error_cap: Points
    """(error ratio, at most this score)."""
    latency_cap: Points
    """(P95 / target, at most this score), linear in the logarithm."""


class AdaptiveProfile(_Strict, frozen=True, kw_only=True):
    """Numbers of the profile `adaptive`."""

    bands: Bands
    error_full: Positive
    latency_zero_factor: Annotated[float, Meta(gt=1, le=1000)]
    """P95 at this many times its baseline: the latency term is 0."""
    traffic_free: Ratio
    """Deviation of QPS from its baseline that costs nothing."""
    traffic_zero: Annotated[float, Meta(gt=0, le=100)]
    """Deviation at which the traffic term is 0."""
    error_weight: Ratio
    latency_weight: Ratio
    traffic_weight: Ratio
    requests_min: Count
    """Unknown below this many in 30 s."""


class ProfileSettings(_Strict, frozen=True, kw_only=True):
    """The numbers of each profile."""

    reference: ReferenceProfile
    guarded: GuardedProfile
    adaptive: AdaptiveProfile


PROFILE_NAMES: tuple[str, ...] = ProfileSettings.__struct_fields__
"""In the order of `score.PROFILES`."""
if TYPE_CHECKING:
    ProfileName = str
else:
    ProfileName = Literal[PROFILE_NAMES]


class OutcomeWeights(_Strict, frozen=True, kw_only=True):
    """What each outcome counts in the weighted error ratio."""

    ok: Ratio
    client_error: Ratio
    cancelled: Ratio
    throttled: Ratio
    server_error: Ratio
    timeout: Ratio


class LevelSettings(_Strict, frozen=True, kw_only=True):
    """The graded protocol's numbers; see the pack `default` for what each is for."""

    confirm_boundaries: Annotated[int, Meta(ge=1, le=120)]
    confirm_once_below_rps: Annotated[float, Meta(ge=0)]
    open_stand_s: Seconds
    open_requests_min: Count
    open_bad_run: Count
    open_bad_run_below_rps: Annotated[float, Meta(ge=0)]
    hysteresis_s: Seconds
    relapse_within_s: Seconds
    hysteresis_max_s: Seconds
    calm_reset_s: Seconds
    idle_step_s: Seconds
    sleep_s: Seconds
    sleep_max_s: Seconds
    wake_score: Ratio
    probe_ratio: Ratio
    probe_per_s: Positive
    probe_requests_min: Count
    probe_good_share: Ratio
    probe_bad_share: Ratio
    probe_patience_requests: Count
    probe_patience_s: Seconds
    ramp: tuple[Ratio, ...]
    ramp_step_s: Seconds
    ramp_requests_min: Count
    ramp_patience_s: Seconds
    degraded_1_shed: Ratio
    degraded_2_admit: Ratio
    retry_ratio_closed: Ratio
    retry_ratio_degraded_1: Ratio
    retry_jitter_s: Annotated[int, Meta(ge=1, le=600)]
    """`Retry-After` is the remaining sleep plus up to this, hashed from the scope."""
    sleep_jitter: Ratio
    """Doubled sleeps are longer by up to this share, hashed from the scope."""


class LatchedSettings(_Strict, frozen=True, kw_only=True):
    """The latched protocol's numbers."""

    failed_buckets: Annotated[int, Meta(ge=1, le=600)]
    """Buckets in a row with nothing but failures: closed -> half_open."""
    error_ratio: Ratio
    """An error ratio above this over 30 s: closed -> half_open ..."""
    requests_min: Count
    """... from this many requests on."""
    half_open_requests: Count
    """Answers that decide half_open."""
    backoff_s: Seconds
    backoff_max_s: Seconds
    cooling_probes: Count
    """Good probes in a row that make the health check good."""
    cooling_probe_per_s: Positive
    """Probes per second for the whole fleet while cooling: the health check."""


class JitterIncident(_Strict, frozen=True, kw_only=True):
    """L1: P95 above a limit in successive fast windows (5 s) that don't overlap. Action: `cache`."""

    p95_over_ms: Count
    is_over_target: bool
    """Whether the target counts where it is higher."""
    windows: Annotated[int, Meta(ge=1, le=60)]
    requests_min: Count
    """A fast window with fewer requests says nothing."""


class OverloadIncident(_Strict, frozen=True, kw_only=True):
    """L2: too many goroutines for a time. Action: `qps_max`, `relax_gc`."""

    goroutines_over: Count
    for_s: Seconds
    memory_growth_over_mib: Annotated[int, Meta(ge=1, le=1_000_000)] | None
    """Also wants this growth of `go.memory.used` within the time; null: doesn't."""
    points_min: Annotated[int, Meta(ge=1, le=100)]
    """Fewer points within the time: unknown, which is said."""
    qps_max: Positive


class TimeoutIncident(_Strict, frozen=True, kw_only=True):
    """L3: calls of an edge that time out, over 30 s. Action: `failover`."""

    timeout_ratio: Ratio
    is_on_evidence: bool
    """Whether the edge must be on evidence."""
    stall_share: Ratio
    """Also when calls end at under this share of their usual rate while their caller gets requests; 0:
    never."""
    stall_caller_share: Ratio
    """A caller with at least this share of its usual requests still gets requests."""
    stall_windows: Annotated[int, Meta(ge=1, le=60)]
    """Fast windows in a row for which a stall must stand."""
    stall_qps_min: Positive
    """Usual rate below which a stall isn't told from chance."""


class CascadeIncident(_Strict, frozen=True, kw_only=True):
    """L4: several dependencies of one service at L3 together. Action: `reject`."""

    dependencies_min: Annotated[int, Meta(ge=1, le=1000)]
    is_hard_only: bool
    """Whether only dependencies count whose failure fails the request."""
    hard_share: Ratio
    """P(request fails given the call fails), lower bound, above which a dependency is hard."""
    exit_stand_s: Seconds
    """Damped exit: the condition must be gone for so long."""
    retry_after_s: Annotated[int, Meta(ge=1, le=86_400)]
    probe_per_s: Annotated[float, Meta(gt=0, le=1_000_000)]
    """So many requests of all callers together pass all the same: where nothing does, nobody learns that the
    dependencies are well again."""


class InfrastructureIncident(_Strict, frozen=True, kw_only=True):
    """L5: the host is broken. Action: `terminate`, for clients that opted in. Each condition is on or off."""

    panic_on_oops: bool
    """`panic_on_oops` = 1."""
    memory_high: bool
    """cgroup v2 `memory.events` high rising."""
    memory_max: bool
    oom_kill: bool
    kernel_oops: bool
    """A kernel oops counted."""
    memory_full_over: Ratio
    """PSI: share of time in which all tasks stalled on memory (avg10) above this; 0: off."""
    hold_s: Seconds
    """How long a counted event stands."""
    terminate_max: Annotated[int, Meta(ge=1, le=10_000)]
    """At most so many instances are asked to end at a time."""


class Incidents(_Strict, frozen=True, kw_only=True):
    """Conditions of L1 to L5."""

    l1: JitterIncident
    l2: OverloadIncident
    l3: TimeoutIncident
    l4: CascadeIncident
    l5: InfrastructureIncident


class AlertTier(_Strict, frozen=True, kw_only=True):
    """Over 5 minutes: P95 or error ratio above a limit."""

    p95_over_ms: Count
    error_ratio_over: Ratio


class AlertSettings(_Strict, frozen=True, kw_only=True):
    """When people are called."""

    p1: AlertTier
    p2: AlertTier
    z: Annotated[float, Meta(ge=0, le=10)]
    """Wilson's lower bound at this many standard deviations must be above the limit; 0: the ratio itself."""
    bad_min: Count
    """... with at least so many bad requests."""
    resolve_after_s: Seconds
    """Resolved when the condition has been gone for so long."""
    repeat_s: Seconds
    """Told again, and escalated from P2 to P1, while it lasts."""
    l2: Tier
    l3: Tier
    l4: Tier
    l5: Tier
    chronic: Tier
    drift: Tier
    hollow: Tier
    telemetry: Tier
    """Of the partition as a whole, where the panic guard holds levels: the setting of all, not of a service."""


class Settings(_Strict, frozen=True, kw_only=True):
    """What may differ by service or edge."""

    profile: ProfileName
    protocol: Literal["graded", "latched"]
    mode: Literal["observe", "enforce"]
    target_ms: Annotated[int, Meta(ge=1, le=3_600_000)] | None
    """Slower than this is bad; null: learned."""
    expected_qps: Positive | None
    is_hollow_bad: bool
    """Whether requests of a hollow service count as failed."""
    outcome_weights: OutcomeWeights
    failed_weight_min: Annotated[float, Meta(gt=0, le=1)]
    """A request failed if its outcome weighs at least this."""
    level: LevelSettings
    latched: LatchedSettings
    incidents: Incidents
    alerts: AlertSettings


class Match(_Strict, frozen=True, kw_only=True):
    """Which keys a rule is for."""

    service: str
    """Pattern (fnmatch) of the service; of an edge's caller."""
    target: str | None = None
    """Pattern of an edge's target; given, the rule is for edges only."""


class Rule(_Strict, frozen=True, kw_only=True):
    """Settings of the keys that match, laid over the defaults."""

    match: Match
    settings: Settings


class PolicyFile(_Strict, frozen=True, kw_only=True):
    """A whole policy."""

    name: Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9._-]+$")]
    warning: str | None = None
    """Printed by whoever enforces this policy."""
    timing: Timing
    limits: Limits
    evidence: EvidenceSettings
    baseline: BaselineSettings
    blast_radius: BlastRadius
    findings: FindingSettings
    graph: GraphSettings
    profiles: ProfileSettings
    settings: Settings
    services: list[Rule] = []
    """First match wins."""
