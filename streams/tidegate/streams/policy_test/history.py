"""What came out of a run, and how it looked at any boundary. Moments are ms from the case's start."""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass

from tidegate.rules.outputs import Outputs
from tidegate.schemas.alert import Alert
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import Decision
from tidegate.schemas.scope import scope_of_key
from tidegate.streams.policy_test.traffic import BASE_MS

__all__ = ["AlertView", "Change", "History", "ScopeView", "moment_of"]


def moment_of(boundary: int) -> int:
    """Of a boundary: the end of its window."""
    return boundary * BUCKET_MS - BASE_MS


@dataclass(frozen=True, slots=True)
class ScopeView:
    """A scope at one moment."""

    decision: Decision
    """The newest one that was published by then."""
    score: float | None
    """Of that very moment."""
    changes: int
    """Of its level so far."""
    has_ended: bool = False
    """Whether its tombstone came; the decision is the last one before."""


@dataclass(frozen=True, slots=True)
class AlertView:
    """Alerts at one moment."""

    standing: tuple[Alert, ...]
    """The last event of each that has started and not been resolved."""
    events: tuple[Alert, ...]
    """What was said at this very moment."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of a scope's time line."""

    at_ms: int
    level: str
    score: float | None
    reason: str


@dataclass(slots=True)
class _Track:
    """A scope's decisions, one list each, in order; None: it ended."""

    at_ms: list[int]
    decisions: list[Decision | None]
    changes: list[int]

    def add(self, at_ms: int, decision: Decision | None) -> None:
        before = self.decisions[-1] if self.decisions else None
        moved = before is not None and decision is not None and before.level != decision.level
        self.at_ms.append(at_ms)
        self.decisions.append(decision)
        self.changes.append((self.changes[-1] if self.changes else 0) + moved)


class History:
    """Filled by `add` in the order in which outputs come."""

    def __init__(self) -> None:
        self.moments: list[int] = []
        """Of every boundary that was stepped."""
        self.alerts: list[Alert] = []
        self._live: dict[str, _Track] = {}
        self._shadow: dict[str, _Track] = {}
        self._scores: defaultdict[str, tuple[list[int], list[float | None]]] = defaultdict(
            lambda: ([], [])
        )

    def add(self, out: Outputs) -> None:
        """What one feed gave out."""
        for tracks, decisions in ((self._live, out.decisions), (self._shadow, out.shadow)):
            for decision in decisions:
                track = tracks.setdefault(decision.scope, _Track([], [], []))
                track.add(moment_of(decision.boundary), decision)
        for boundary, scope in out.tombstones:
            self._live.setdefault(scope, _Track([], [], [])).add(moment_of(boundary), None)
        for health in out.health:
            at_ms = moment_of(health.boundary)
            if at_ms > 0:
                self.moments.append(at_ms)
            for key, score in zip(health.keys, health.score.tolist(), strict=True):
                times, scores = self._scores[scope_of_key(*key)]
                now = score / 1_000 if score >= 0 else None
                if not scores or scores[-1] != now:
                    times.append(at_ms)
                    scores.append(now)
        self.alerts += out.alerts

    def scopes(self, *, is_shadow: bool = False) -> tuple[str, ...]:
        """All that were ever decided."""
        return tuple(sorted(self._shadow if is_shadow else self._live))

    def view(self, scope: str, at_ms: int, *, is_shadow: bool = False) -> ScopeView | None:
        """None before the scope's first decision."""
        track = (self._shadow if is_shadow else self._live).get(scope)
        number = bisect_right(track.at_ms, at_ms) - 1 if track else -1
        if track is None or number < 0:
            return None
        decision = track.decisions[number]
        if decision is None:
            before = track.decisions[number - 1] if number else None
            if before is None:
                return None
            return ScopeView(before, None, track.changes[number], has_ended=True)
        score = decision.score
        if not is_shadow:
            times, scores = self._scores[scope]
            last = bisect_right(times, at_ms) - 1
            score = scores[last] if last >= 0 else score
        return ScopeView(decision, score, track.changes[number])

    def alerts_at(self, at_ms: int) -> AlertView:
        """What stands, and what was said."""
        standing: dict[str, Alert] = {}
        events = []
        for alert in self.alerts:
            when = moment_of(alert.boundary)
            if when > at_ms:
                break
            if when == at_ms:
                events.append(alert)
            if alert.event == "resolve":
                standing.pop(alert.id, None)
            else:
                standing[alert.id] = alert
        return AlertView(tuple(standing.values()), tuple(events))

    def time_line(self, scope: str, *, is_shadow: bool = False) -> list[Change]:
        """The scope's first decision, and each that changed its level."""
        track = (self._shadow if is_shadow else self._live).get(scope)
        out: list[Change] = []
        if track is None:
            return out
        for at_ms, decision in zip(track.at_ms, track.decisions, strict=True):
            level = "ended" if decision is None else decision.level
            if not out or out[-1].level != level:
                score, reason = (
                    (None, "") if decision is None else (decision.score, decision.reason)
                )
                out.append(Change(at_ms, level, score, reason))
        return out
