"""Keys in lockstep: what they are told, the vectorised step, and a slow, obvious oracle beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tidegate.rules.incidents import (
    IncidentInputs,
    IncidentState,
    active,
    dependencies,
    rows_to_look_up,
    step,
)
from tidegate.rules.policy import builtin_policy
from tidegate.rules.policy_columns import IncidentColumns
from tidegate.rules.policy_types import Incidents

__all__ = ["DEFAULT", "REFERENCE", "SETTINGS", "START", "Driver", "Seen"]

START = 3_600_000_000
PACKS = ("default", "reference")
DEFAULT, REFERENCE = range(2)
SETTINGS = tuple(builtin_policy(name).settings[0].incidents for name in PACKS)
COLUMNS = IncidentColumns(
    **{
        f.name: np.concatenate(
            [getattr(builtin_policy(name).columns.incidents, f.name) for name in PACKS]
        )
        for f in fields(IncidentColumns)
    }
)


@dataclass(frozen=True)
class Seen:
    """What a boundary says about one key."""

    requests: int = 100
    timeout_ratio: float = 0.0
    fast_requests: int = 50
    p95_ms: float = 20.0
    target_ms: int = -1
    is_on_evidence: bool = False
    fast_qps: float = 10.0
    usual_qps: float = 10.0
    is_hard: bool = True


@dataclass
class Oracle:
    """One key, told everything in plain numbers."""

    settings: Incidents
    l1: bool = False
    l1_windows: int = 0
    l3: bool = False
    timing_out: bool = False
    hung_windows: int = 0
    l4: bool = False
    last_met: int = -1

    def jitter(self, x: Seen) -> None:
        s = self.settings.l1
        if x.fast_requests < s.requests_min or x.p95_ms < 0:
            return
        limit = max(s.p95_over_ms, x.target_ms) if s.is_over_target else s.p95_over_ms
        self.l1_windows = self.l1_windows + 1 if x.p95_ms > limit else 0
        if self.l1_windows == 0:
            self.l1 = False
        elif self.l1_windows >= s.windows:
            self.l1 = True

    def stall(self, x: Seen, caller: Seen | None) -> None:
        s = self.settings.l3
        is_hung = (
            s.stall_share > 0
            and x.usual_qps >= s.stall_qps_min
            and x.fast_qps < s.stall_share * x.usual_qps
            and caller is not None
            and caller.fast_requests > 0
            and (caller.usual_qps < 0 or caller.fast_qps >= caller.usual_qps / 2)
            and not (caller.is_on_evidence and caller.timeout_ratio <= s.timeout_ratio)
        )
        self.hung_windows = self.hung_windows + 1 if is_hung else 0

    def service_fault(self, x: Seen) -> None:
        s = self.settings.l3
        if x.requests > 0:
            self.timing_out = x.timeout_ratio > s.timeout_ratio
        if s.is_on_evidence and not x.is_on_evidence:
            self.timing_out = False
        self.l3 = self.timing_out or self.hung_windows >= 2

    def cascade(self, faults: int, boundary: int) -> None:
        s = self.settings.l4
        if faults >= s.dependencies_min:
            self.l4, self.last_met = True, boundary
        elif self.l4 and boundary - self.last_met > s.exit_stand_s * 2:
            self.l4 = False

    def active(self) -> tuple[str, ...]:
        return tuple(n for n in ("L1", "L3", "L4") if getattr(self, n.lower()))


class Driver:
    """Keys (service, target) with a pack each; every step is checked against the oracles."""

    def __init__(self, keys: Sequence[tuple[str, str]], packs: Sequence[int]) -> None:
        self.keys = list(keys)
        self.packs = np.array(packs, np.int64)
        self.state = IncidentState(len(keys) + 2)  # rows that aren't stepped must stay as they are
        self.live = np.arange(len(keys))[::-1] + 1  # slots say nothing about the order of scopes
        self.oracles = [Oracle(SETTINGS[p]) for p in packs]
        self.service_row = np.array(
            [self.keys.index((s, "")) if (s, "") in self.keys else -1 for s, _ in keys], np.int64
        )
        self.boundary = START
        self.inputs: IncidentInputs | None = None

    def step(self, *seen: Seen) -> list[tuple[str, ...]]:
        """One boundary; returns the incidents of each key."""
        self.boundary += 1
        self.inputs = self._inputs(seen)
        before = self.now()
        changed = step(
            self.state, self.live, self.inputs, COLUMNS, self.packs, self.boundary
        ).tolist()
        self._ask_oracles(seen)
        now = self.now()
        assert now == [oracle.active() for oracle in self.oracles]
        assert changed == [a != b for a, b in zip(before, now, strict=True)]
        for name, (_, unused, _) in IncidentState.spec.items():
            assert getattr(self.state, name)[0] == unused
        return now

    def hold(self, boundaries: int, *seen: Seen) -> list[tuple[str, ...]]:
        """The same for some boundaries."""
        for _ in range(boundaries):
            self.step(*seen)
        return self.now()

    def now(self) -> list[tuple[str, ...]]:
        return [active(self.state, slot) for slot in self.live.tolist()]

    def targets(self, row: int) -> list[str]:
        """Targets that count for the cascade of a service."""
        assert self.inputs is not None
        rows = dependencies(self.state, self.live, self.inputs, COLUMNS, self.packs, row)
        return [self.keys[r][1] for r in rows.tolist()]

    def turns(self) -> list[bool]:
        return [(self.boundary + 3 * row) % 10 == 0 for row in range(len(self.keys))]

    def _inputs(self, seen: Sequence[Seen]) -> IncidentInputs:
        def column(name: str, dtype: type) -> Any:
            return np.array([getattr(x, name) for x in seen], dtype)

        is_turn = np.array(self.turns(), np.bool_)
        fast_requests = column("fast_requests", np.int64)
        looked_up = rows_to_look_up(is_turn, fast_requests, COLUMNS, self.packs)
        p95 = np.full(len(seen), -1.0)
        p95[looked_up] = column("p95_ms", np.float64)[looked_up]
        return IncidentInputs(
            is_edge=np.array([target != "" for _, target in self.keys], np.bool_),
            requests=column("requests", np.int64),
            timeout_ratio=column("timeout_ratio", np.float64),
            fast_requests=fast_requests,
            is_fast_turn=is_turn,
            fast_p95_ms=p95,
            target_ms=column("target_ms", np.int64),
            is_on_evidence=column("is_on_evidence", np.bool_),
            fast_qps=column("fast_qps", np.float64),
            usual_qps=column("usual_qps", np.float64),
            service_row=self.service_row,
            is_hard=column("is_hard", np.bool_),
        )

    def _ask_oracles(self, seen: Sequence[Seen]) -> None:
        rows = range(len(self.keys))
        for row, oracle in enumerate(self.oracles):
            caller = int(self.service_row[row])
            if self.turns()[row]:
                oracle.jitter(seen[row])
                if self.keys[row][1]:
                    oracle.stall(seen[row], seen[caller] if caller >= 0 else None)
            if self.keys[row][1]:
                oracle.service_fault(seen[row])
        for row, oracle in enumerate(self.oracles):
            if self.keys[row][1]:
                continue
            faults = [
                edge
                for edge in rows
                if self.keys[edge][1]
                and self.keys[edge][0] == self.keys[row][0]
                and self.oracles[edge].l3
                and (seen[edge].is_hard or not oracle.settings.l4.is_hard_only)
            ]
            oracle.cascade(len(faults), self.boundary)
