"""A policy's settings as columns, so that a step over many keys gathers them by index."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules.policy_types import Settings, Timing
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.outcome import Outcome

__all__ = ["FAILED_WEIGHT_MIN", "PROFILE_NAMES", "SettingsColumns", "columns_of"]

PROFILE_NAMES = ("reference", "guarded")
FAILED_WEIGHT_MIN = 0.5
"""A request failed if its outcome weighs at least this."""


@dataclass(frozen=True, slots=True)
class SettingsColumns:
    """One row per distinct settings. Times in boundaries (500 ms) where the name says so."""

    profile: npt.NDArray[np.int64]
    """Index into PROFILE_NAMES."""
    enforce: npt.NDArray[np.bool_]
    target_ms: npt.NDArray[np.int64]
    """-1: learned."""
    expected_qps: npt.NDArray[np.float64]
    """-1: none, the traffic term is 1."""
    outcome_weights: npt.NDArray[np.float64]
    """Shape (settings, 8): by Outcome, padded with zeros."""
    is_failed: npt.NDArray[np.bool_]
    """Shape (settings, 8): weight at least 0.5."""
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
    special: dict[str, Any] = {
        "profile": [PROFILE_NAMES.index(s.profile) for s in settings],
        "enforce": [s.mode == "enforce" for s in settings],
        "target_ms": [-1 if s.target_ms is None else s.target_ms for s in settings],
        "expected_qps": [-1.0 if s.expected_qps is None else s.expected_qps for s in settings],
        "outcome_weights": weights,
        "is_failed": weights >= FAILED_WEIGHT_MIN,
        "key_ttl_boundaries": [timing.key_ttl_s * 1000 // BUCKET_MS for _ in settings],
        "wake_score": [round(s.level.wake_score * 1000) for s in settings],
        "ramp_steps": [len(s.level.ramp) for s in settings],
    }
    out = {}
    for column in fields(SettingsColumns):
        name = column.name
        if name in special:
            values = special[name]
        elif name.endswith("_boundaries") and name != "confirm_boundaries":
            seconds = name.removesuffix("_boundaries") + "_s"
            values = [getattr(s.level, seconds) * 1000 // BUCKET_MS for s in settings]
        else:
            values = [getattr(s.level, name) for s in settings]
        out[name] = np.array(values)
    return SettingsColumns(**out)
