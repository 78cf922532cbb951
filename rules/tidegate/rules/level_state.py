"""What the graded protocol keeps of every key, what it is told at a boundary, and what it says."""

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.state_columns import StateColumns

__all__ = ["LevelChanges", "LevelInputs", "LevelState"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class LevelState(StateColumns):
    """Per slot. Boundaries are absolute, -1 none; a run is a count of boundaries or requests."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "level": (np.uint8, 0, 0),
        "since_boundary": (np.int64, -1, 0),
        "counts_from": (np.int64, 0, 0),
        "asked_at": (np.int64, -1, 0),
        "seen_requests": (np.int64, 0, 0),
        "seen_bad": (np.int64, 0, 0),
        "ramp_step": (np.int8, 0, 0),
        "worse_run": (np.int16, 0, 0),
        "worse_least": (np.uint8, 0, 0),
        "open_since": (np.int64, -1, 0),
        "open_requests": (np.int64, 0, 0),
        "bad_run": (np.int64, 0, 0),
        "better_since": (np.int64, -1, 0),
        "bettered_at": (np.int64, -1, 0),
        "hysteresis": (np.int64, 0, 0),
        "sleep": (np.int64, 0, 0),
        "attempt": (np.int32, 0, 0),
        "until_boundary": (np.int64, -1, 0),
        "slow_over_ms": (np.int64, -1, 0),
        "is_slow_caused": (np.bool_, 0, 0),
        "is_stirred": (np.bool_, 0, 0),
    }
    level: npt.NDArray[np.uint8]
    since_boundary: Ints
    """When the present level began; the key's first boundary for one that was always closed."""
    counts_from: Ints
    """Bucket from which on requests count for whatever a change of level or step began anew; 0: all."""
    asked_at: Ints
    """The last boundary that merged requests, own effects left out."""
    seen_requests: Ints
    """Requests and probes in buckets from counts_from on."""
    seen_bad: Ints
    ramp_step: npt.NDArray[np.int8]
    """0 while probing, then 1.. the step of the ramp."""
    worse_run: npt.NDArray[np.int16]
    worse_least: npt.NDArray[np.uint8]
    """The least severe level that every boundary of the run asked for."""
    open_since: Ints
    open_requests: Ints
    bad_run: Ints
    better_since: Ints
    bettered_at: Ints
    hysteresis: Ints
    """In boundaries; 0: the policy's."""
    sleep: Ints
    """Length of the last sleep in boundaries; 0: none yet."""
    attempt: npt.NDArray[np.int32]
    until_boundary: Ints
    slow_over_ms: Ints
    """Frozen when the level left closed; -1 none."""
    is_slow_caused: Mask
    is_stirred: Mask
    """Whether anything is counted or remembered: a closed key that isn't needs no step."""


@dataclass(slots=True)
class LevelInputs:
    """What a boundary says about m keys, shapes (m,)."""

    wanted: npt.NDArray[np.uint8]
    """Severity that the score asks for; the present level where the score is unknown."""
    score: npt.NDArray[np.int32]
    """Thousandths, -1 unknown; held where nothing was merged."""
    requests: Ints
    """Merged at this boundary, own effects left out."""
    bad: Ints
    after_requests: Ints
    """Of these, those in buckets from `counts_from` on."""
    after_bad: Ints
    after_probes: Ints
    """Probes and heartbeats in these buckets."""
    after_probes_bad: Ints
    fast_requests: Ints
    """In the fast window, own effects left out."""
    qps: Floats
    idle_boundaries: Ints
    """Since the key last merged anything."""
    age_boundaries: Ints
    """Age of the service's evidence."""
    p90_ms: Ints
    """Of the judged window; -1 unknown."""
    target_ms: Ints
    is_slow_caused: Mask
    jitter: Ints
    """Stable hash of the scope."""

    def take(self, rows: Ints) -> "LevelInputs":
        """The same of some keys."""
        return LevelInputs(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(slots=True)
class LevelChanges:
    """By key: what happened."""

    changed: Mask
    """Level or step of the ramp."""
    rule: Ints
    """Index into RULES, 0 = nothing."""
    before: npt.NDArray[np.uint8]
    resets_evidence: Mask
