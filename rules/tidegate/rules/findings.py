"""Findings: what is worth telling beside the level. Chronic, drift, hollow.

*Chronic*: on evidence for half an hour without ever having been off it, from the first minute on: that is how
the key is, so it is at most degraded_1 and what is usual for it is learnt all the same. (An outage of half an
hour of what was well before is none: it would let everyone run into what is down.) *Drift*: the recent habit is far from the day's. *Hollow*: answers are
suddenly far too quick, without an error: a failure in disguise.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.policy_types import FindingSettings
from tidegate.rules.state_columns import StateColumns
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import Finding

__all__ = ["Findings", "end_hollow", "findings_of", "note_chronic", "note_drift", "note_hollow"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Findings(StateColumns):
    """Per slot: the boundary since which each holds, -1 where it doesn't."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "chronic_since": (np.int64, -1, 0),
        "drift_since": (np.int64, -1, 0),
        "hollow_since": (np.int64, -1, 0),
        "hollow_p50_us": (np.int64, -1, 0),
        "hollow_usual_us": (np.int64, -1, 0),
    }
    chronic_since: Ints
    drift_since: Ints
    hollow_since: Ints
    hollow_p50_us: Ints
    """What was found, and against what."""
    hollow_usual_us: Ints


def note_chronic(
    findings: Findings,
    slots: Ints,
    evidence_since: Ints,
    was_never_well: Mask,
    s: FindingSettings,
    boundary: int,
) -> tuple[Ints, Ints]:
    """(slots where it begins, slots where it changes). evidence_since: by key, -1 off evidence.
    was_never_well: no baseline was ever known, so it came on evidence within its first minute."""
    long_on = (
        was_never_well
        & (evidence_since >= 0)
        & (boundary - evidence_since >= s.chronic_after_s * 1000 // BUCKET_MS)
    )
    was = findings.chronic_since[slots] >= 0
    begins = slots[long_on & ~was]
    findings.chronic_since[begins] = boundary
    ends = slots[was & (evidence_since < 0)]
    findings.chronic_since[ends] = -1
    return begins, np.concatenate((begins, ends))


def end_hollow(
    findings: Findings, slots: Ints, is_over: Mask, s: FindingSettings, boundary: int
) -> tuple[Ints, Ints]:
    """(slots where it has lasted so long that it is usual, slots where it ends). is_over: by key."""
    since = findings.hollow_since[slots]
    lasted = (since >= 0) & (boundary - since >= s.chronic_after_s * 1000 // BUCKET_MS)
    ends = slots[(since >= 0) & (is_over | lasted)]
    findings.hollow_since[ends] = -1
    findings.hollow_p50_us[ends] = -1
    findings.hollow_usual_us[ends] = -1
    return slots[lasted], ends


def note_drift(findings: Findings, slots: Ints, is_drifting: Mask, boundary: int) -> Ints:
    """Slots where it begins or ends."""
    return _note(findings.drift_since, slots, is_drifting, boundary)


def note_hollow(
    findings: Findings,
    slots: Ints,
    requests: Ints,
    p50_us: Ints,
    usual_p05_us: Ints,
    s: FindingSettings,
    boundary: int,
) -> Ints:
    """Slots where it begins or ends; too few requests hold it. p50_us: of not-failed durations, -1 without
    any. usual_p05_us: of the baseline, -1 unknown."""
    told = (requests >= s.hollow_requests_min) & (p50_us >= 0) & (usual_p05_us > 0)
    slots, p50_us, usual = slots[told], p50_us[told], usual_p05_us[told]
    holds = p50_us < usual * s.hollow_factor
    findings.hollow_p50_us[slots] = np.where(holds, p50_us, -1)
    findings.hollow_usual_us[slots] = np.where(holds, usual, -1)
    return _note(findings.hollow_since, slots, holds, boundary)


def _note(since: Ints, slots: Ints, holds: Mask, boundary: int) -> Ints:
    was = since[slots] >= 0
    since[slots] = np.where(holds, np.where(was, since[slots], boundary), -1)
    changed: Ints = slots[holds != was]
    return changed


def findings_of(findings: Findings, slot: int, *, p95_us: int, day_factor: float) -> list[Finding]:
    """What a decision shows, by name."""
    out = []
    if (since := int(findings.chronic_since[slot])) >= 0:
        told = "bad for so long that it is usual: at most degraded_1, and learnt anew"
        out.append(Finding(name="chronic", since_ms=since * BUCKET_MS, reason=told))
    if (since := int(findings.drift_since[slot])) >= 0:
        told = (
            f"its usual P95 of {p95_us / 1000:.0f} ms has moved away from the day's: the target "
            f"stays at {day_factor:g} times what the day gives"
        )
        out.append(Finding(name="drift", since_ms=since * BUCKET_MS, reason=told))
    if (since := int(findings.hollow_since[slot])) >= 0:
        p50, usual = int(findings.hollow_p50_us[slot]), int(findings.hollow_usual_us[slot])
        told = (
            f"answers too quick to be true: P50 {p50 / 1000:.3g} ms, while its quickest twentieth "
            f"usually takes {usual / 1000:.3g} ms; it may be failing without saying so"
        )
        out.append(Finding(name="hollow", since_ms=since * BUCKET_MS, reason=told))
    return out
