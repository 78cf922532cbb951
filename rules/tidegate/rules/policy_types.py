"""The form of a policy file. Defaults stand in the pack `default`, not here: every field must be given
there, and other files are laid over it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "BaselineSettings",
    "EvidenceSettings",
    "LevelSettings",
    "Limits",
    "Match",
    "OutcomeWeights",
    "Points",
    "PolicyFile",
    "ProfileSettings",
    "Rule",
    "Settings",
    "Timing",
]

Ratio = Annotated[float, Meta(ge=0, le=1)]
Factor = Annotated[float, Meta(gt=0, le=1000)]
Positive = Annotated[float, Meta(gt=0)]
Seconds = Annotated[int, Meta(ge=1, le=7 * 86_400)]
Points = tuple[tuple[float, float], ...]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]


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
    republish_s: Annotated[int, Meta(ge=1, le=3600)]


class Limits(_Strict, frozen=True, kw_only=True):
    """Bounds per evaluate partition; what goes beyond is counted under `(other)`."""

    services_max: Annotated[int, Meta(ge=1, le=500_000)]
    keys_max: Annotated[int, Meta(ge=1, le=1_000_000)]


class EvidenceSettings(_Strict, frozen=True, kw_only=True):
    """Numbers of the rule `sequential`."""

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
    drift_factor: Factor
    known_requests_min: Count
    known_after_s: Seconds
    bad_units: Annotated[int, Meta(ge=0, le=10)]
    """Out of 10 that a good request counts."""


class ReferenceProfile(_Strict, frozen=True, kw_only=True):
    """Numbers of the profile `reference`."""

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

    error_full: Positive
    error_weight: Ratio
    latency_weight: Ratio
    traffic_weight: Ratio
    error_cap: Points
    """(error ratio, at most this score)."""
    latency_cap: Points
    """(P95 / target, at most this score), linear in the logarithm."""


class ProfileSettings(_Strict, frozen=True, kw_only=True):
    """Bands, and the numbers of each profile."""

    bands: Annotated[tuple[Ratio, ...], Meta(min_length=4, max_length=4)]
    """Lower edges of closed, degraded_1, degraded_2, open."""
    reference: ReferenceProfile
    guarded: GuardedProfile


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


class Settings(_Strict, frozen=True, kw_only=True):
    """What may differ by service or edge."""

    profile: Literal["reference", "guarded"]
    mode: Literal["observe", "enforce"]
    target_ms: Annotated[int, Meta(ge=1, le=3_600_000)] | None
    """Slower than this is bad; null: learned."""
    expected_qps: Positive | None
    outcome_weights: OutcomeWeights
    level: LevelSettings


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
    profiles: ProfileSettings
    settings: Settings
    services: list[Rule] = []
    """First match wins."""
