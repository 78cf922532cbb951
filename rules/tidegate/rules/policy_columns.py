"""A policy's settings as columns, so that a step over many keys gathers them by index."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.rules.policy_types import PROFILE_NAMES, LevelSettings, Settings, Timing
from tidegate.schemas.bins import bin_of_ns
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.level import Level
from tidegate.schemas.outcome import Outcome

__all__ = [
    "PROFILE_NAMES",
    "PROTOCOL_NAMES",
    "TIER_NAMES",
    "AlertColumns",
    "IncidentColumns",
    "LatchedColumns",
    "SettingsColumns",
    "columns_of",
]

PROTOCOL_NAMES = ("graded", "latched")
TIER_NAMES = ("none", "P2", "P1")
"""Alert tiers by number: the larger one calls louder."""
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LatchedColumns:
    """`settings.latched`, one row per distinct settings."""

    failed_buckets: Ints
    error_ratio: Floats
    requests_min: Ints
    half_open_requests: Ints
    backoff_boundaries: Ints
    backoff_max_boundaries: Ints
    cooling_probes: Ints


@dataclass(frozen=True, slots=True)
class IncidentColumns:
    """`settings.incidents`, one row per distinct settings; -1 for null."""

    l1_p95_over_ms: Ints
    l1_is_over_target: Mask
    l1_windows: Ints
    l1_requests_min: Ints
    l2_goroutines_over: Ints
    l2_for_boundaries: Ints
    l2_memory_growth_over_mib: Ints
    l2_points_min: Ints
    l3_timeout_ratio: Floats
    l3_is_on_evidence: Mask
    l3_stall_share: Floats
    l3_stall_caller_share: Floats
    l3_stall_windows: Ints
    l3_stall_qps_min: Floats
    l4_dependencies_min: Ints
    l4_is_hard_only: Mask
    l4_hard_share: Floats
    l4_exit_stand_boundaries: Ints
    l5_panic_on_oops: Mask
    l5_memory_high: Mask
    l5_memory_max: Mask
    l5_oom_kill: Mask
    l5_kernel_oops: Mask
    l5_memory_full_over: Floats
    l5_hold_boundaries: Ints


@dataclass(frozen=True, slots=True)
class AlertColumns:
    """`settings.alerts`, one row per distinct settings; tiers are indices into TIER_NAMES."""

    p1_p95_over_ms: Ints
    p1_error_ratio_over: Floats
    p2_p95_over_ms: Ints
    p2_error_ratio_over: Floats
    z: Floats
    bad_min: Ints
    resolve_after_boundaries: Ints
    repeat_boundaries: Ints
    l2: Ints
    l3: Ints
    l4: Ints
    l5: Ints
    chronic: Ints
    drift: Ints
    hollow: Ints
    telemetry: Ints


@dataclass(frozen=True, slots=True)
class SettingsColumns:
    """One row per distinct settings. Times in boundaries (500 ms) where the name says so."""

    protocol: npt.NDArray[np.int64]
    """Index into PROTOCOL_NAMES."""
    is_hollow_bad: npt.NDArray[np.bool_]
    admit_ratio: Floats
    """Shape (settings, levels): share of requests that pass at a level."""
    ramp_admit: Floats
    """Shape (settings, steps + 1): the same by step of the ramp, from 1."""
    latched: LatchedColumns
    incidents: IncidentColumns
    alerts: AlertColumns
    profile: npt.NDArray[np.int64]
    """Index into PROFILE_NAMES."""
    enforce: npt.NDArray[np.bool_]
    target_ms: npt.NDArray[np.int64]
    """-1: learned."""
    target_bin: npt.NDArray[np.int64]
    """The same as a bin of durations; -1: learned."""
    expected_qps: npt.NDArray[np.float64]
    """-1: none, the traffic term is 1."""
    outcome_weights: npt.NDArray[np.float64]
    """Shape (settings, 8): by Outcome, padded with zeros."""
    is_failed: npt.NDArray[np.bool_]
    """Shape (settings, 8): weight at least `failed_weight_min`."""
    key_ttl_boundaries: npt.NDArray[np.int64]
    confirm_boundaries: npt.NDArray[np.int64]
    confirm_once_below_rps: npt.NDArray[np.float64]
    open_stand_boundaries: npt.NDArray[np.int64]
    open_requests_min: npt.NDArray[np.int64]
    open_bad_run: npt.NDArray[np.int64]
    open_bad_run_below_rps: npt.NDArray[np.float64]
    hysteresis_boundaries: npt.NDArray[np.int64]
    relapse_within_boundaries: npt.NDArray[np.int64]
    hysteresis_max_boundaries: npt.NDArray[np.int64]
    calm_reset_boundaries: npt.NDArray[np.int64]
    idle_step_boundaries: npt.NDArray[np.int64]
    sleep_boundaries: npt.NDArray[np.int64]
    sleep_max_boundaries: npt.NDArray[np.int64]
    sleep_jitter: npt.NDArray[np.float64]
    wake_score: npt.NDArray[np.int64]
    """Thousandths."""
    probe_requests_min: npt.NDArray[np.int64]
    probe_good_share: npt.NDArray[np.float64]
    probe_bad_share: npt.NDArray[np.float64]
    probe_patience_requests: npt.NDArray[np.int64]
    probe_patience_boundaries: npt.NDArray[np.int64]
    ramp_steps: npt.NDArray[np.int64]
    ramp_step_boundaries: npt.NDArray[np.int64]
    ramp_requests_min: npt.NDArray[np.int64]
    ramp_patience_boundaries: npt.NDArray[np.int64]


def columns_of(settings: tuple[Settings, ...], timing: Timing) -> SettingsColumns:
    """One row per settings, in their order."""
    weights = np.zeros((len(settings), 8))
    for row, s in enumerate(settings):
        for outcome in Outcome:
            weights[row, outcome] = getattr(s.outcome_weights, outcome.name.lower())
    ramp_max = max(len(s.level.ramp) for s in settings)
    special: dict[str, Any] = {
        "profile": [PROFILE_NAMES.index(s.profile) for s in settings],
        "enforce": [s.mode == "enforce" for s in settings],
        "target_bin": [-1 if s.target_ms is None else _bin_of_ms(s.target_ms) for s in settings],
        "target_ms": [-1 if s.target_ms is None else s.target_ms for s in settings],
        "expected_qps": [-1.0 if s.expected_qps is None else s.expected_qps for s in settings],
        "outcome_weights": weights,
        "is_failed": weights >= np.array([[s.failed_weight_min] for s in settings]),
        "admit_ratio": [_admit_ratios(s.level) for s in settings],
        "ramp_admit": [
            [0.0, *s.level.ramp] + [1.0] * (ramp_max - len(s.level.ramp)) for s in settings
        ],
        "protocol": [PROTOCOL_NAMES.index(s.protocol) for s in settings],
        "is_hollow_bad": [s.is_hollow_bad for s in settings],
        "key_ttl_boundaries": [timing.key_ttl_s * 1000 // BUCKET_MS for _ in settings],
        "wake_score": [round(s.level.wake_score * 1000) for s in settings],
        "ramp_steps": [len(s.level.ramp) for s in settings],
    }
    out: dict[str, Any] = {
        "latched": _section(LatchedColumns, [s.latched for s in settings]),
        "incidents": _section(IncidentColumns, [s.incidents for s in settings]),
        "alerts": _section(AlertColumns, [s.alerts for s in settings]),
    }
    for column in fields(SettingsColumns):
        name = column.name
        if name in special:
            out[name] = np.array(special[name])
        elif name not in out:
            out[name] = np.array([_leaf(s.level, name) for s in settings])
    return SettingsColumns(**out)


def _bin_of_ms(ms: int) -> int:
    return int(bin_of_ns(np.array([ms * 1_000_000]))[0])


def _admit_ratios(level: LevelSettings) -> list[float]:
    """By level. A degraded_1 sheds where deadlines can't be set: how much that is nobody knows here."""
    by_level = {
        Level.CLOSED: 1.0,
        Level.DEGRADED_1: 1.0,
        Level.DEGRADED_2: level.degraded_2_admit,
        Level.HALF_OPEN: level.probe_ratio,
    }
    return [by_level.get(one, 0.0) for one in Level]


_Columns = TypeVar("_Columns", LatchedColumns, IncidentColumns, AlertColumns)


def _section(kind: type[_Columns], rows: Sequence[msgspec.Struct]) -> _Columns:
    """`l1_windows` is the setting `l1.windows`, and so on."""
    return kind(**{f.name: np.array([_leaf(row, f.name) for row in rows]) for f in fields(kind)})


def _leaf(section: object, name: str) -> float | int | bool:
    first, _, rest = name.partition("_")
    inner = getattr(section, first, None)
    if rest and isinstance(inner, msgspec.Struct):
        return _leaf(inner, rest)
    if name.endswith("_boundaries") and name != "confirm_boundaries":
        return int(getattr(section, name.removesuffix("_boundaries") + "_s") * 1000 // BUCKET_MS)
    value = getattr(section, name)
    if value is None:
        return -1
    return TIER_NAMES.index(value) if isinstance(value, str) else value
