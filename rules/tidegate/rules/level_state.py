"""What the protocols keep of every key, what they are told at a boundary, and what they say."""

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.level import PROTOCOLS, RULE_NUMBERS, RULES, SWITCHES
from tidegate.rules.policy import SettingsColumns
from tidegate.rules.state_columns import StateColumns
from tidegate.schemas.level import Level

__all__ = ["LevelChanges", "LevelInputs", "LevelState", "Moment", "Moves"]

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
    """Requests and probes in buckets from counts_from on; under `cooling` good answers in a row."""
    seen_bad: Ints
    ramp_step: npt.NDArray[np.int8]
    """0 while probing, then 1.. the step of the ramp."""
    worse_run: npt.NDArray[np.int16]
    worse_least: npt.NDArray[np.uint8]
    """The least severe level that every boundary of the run asked for."""
    open_since: Ints
    open_requests: Ints
    bad_run: Ints
    """graded: requests in a row, all bad. latched: buckets in a row with nothing but bad ones, where a bucket
    is what one boundary merged: spans come late, so no bucket is ever known to be whole."""
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
    window_error_ratio: Floats
    """Weighted, of the 30 s window, own effects left out. Asked only of closed keys under the latched
    protocol that merged bad requests; 0 elsewhere will do."""
    window_requests: Floats
    """In that window, adjusted for sampling, own effects left out; of the same keys."""
    is_chronic: Mask
    """Bad for so long that it is how the key is: at most degraded_1 (graded)."""
    may_worsen: Mask
    """False: the panic guard holds whatever would make it worse. Getting better is never held."""
    worst: npt.NDArray[np.uint8]
    """Blast radius: no score makes it worse than this. A key that already is recovers by its own rules."""
    operator: npt.NDArray[np.int8]
    """OperatorEvent."""

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
    refused_count: int
    """Events that no transition answers, of all keys: a lock of a graded key, say."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The keys of one protocol that a boundary steps, and what it says about them; shapes (m,)."""

    state: LevelState
    slots: Ints
    inputs: LevelInputs
    columns: SettingsColumns
    settings: Ints
    """Index into the columns, by key."""
    boundary: int

    def wakes_at(self, length: Ints, first: Ints) -> Ints:
        """When a sleep of so many boundaries ends. Doubled ones are spread by scope: breakers that
        opened together must not probe together."""
        share = (length * self.columns.sleep_jitter[self.settings]).astype(np.int64)
        spread = np.where(length > first, share + 1, 1)
        ends: Ints = self.boundary + length + self.inputs.jitter % spread
        return ends


class Moves:
    """What a boundary moves under one protocol, shapes (m,). The first guard that holds wins."""

    def __init__(self, before: npt.NDArray[np.uint8]) -> None:
        self.before = before
        self.rule = np.zeros(len(before), np.int64)
        self.to = before.copy()
        self.resets_evidence = np.zeros(len(before), np.bool_)
        self.refused_count = 0

    def happens(self, mask: Mask, guard: str, to: npt.NDArray[np.uint8] | Level) -> None:
        """These keys move to `to`, unless they have moved."""
        chosen = mask & (self.rule == 0)
        self.rule[chosen] = RULE_NUMBERS[guard]
        self.to[chosen] = to[chosen] if isinstance(to, np.ndarray) else to

    def refuse(self, mask: Mask) -> None:
        """Counts these as events that no transition answers."""
        self.refused_count += int(np.count_nonzero(mask))

    def settle(self, protocol: str) -> None:
        """Takes back, and counts, whatever the protocol's table does not have."""
        refused = (self.rule > 0) & ~_ALLOWED[protocol][self.before, self.rule, self.to]
        self.rule[refused], self.to[refused] = 0, self.before[refused]
        self.refuse(refused)

    def by(self, guard: str) -> Mask:
        """Which keys this guard moved."""
        moved: Mask = self.rule == RULE_NUMBERS[guard]
        return moved


def _allowed(protocol: str) -> Mask:
    """Shape (level, rule, level)."""
    out = np.zeros((len(Level), len(RULES), len(Level)), np.bool_)
    for t in (*PROTOCOLS[protocol], *SWITCHES[protocol]):
        out[t.state, RULE_NUMBERS[t.guard], t.to] = True
    return out


_ALLOWED = {protocol: _allowed(protocol) for protocol in PROTOCOLS}
