"""What is known of every scope right now, from decisions, leases and health records: the model behind
`tidegate watch` and the demo's screen. Told everything, the time too; draws nothing.
"""

from collections import deque
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.schemas.cells import EFFECT_SHIFT, OUTCOME_MASK, SELF_TIME, WEIGHT_ONE
from tidegate.schemas.decision import Decision, Lease, decode_decision, decode_lease
from tidegate.schemas.health import HealthRecord
from tidegate.schemas.level import LEVEL_NAMES, Level
from tidegate.schemas.outcome import FAILED_OUTCOMES, Effect
from tidegate.schemas.scope import scope_of_key

__all__ = ["Board", "Row"]

Floats = npt.NDArray[np.float64]

RATE_BOUNDARIES = 10
"""Rates are shown over the last 10 boundaries, 5 s."""
_BOUNDARY_S = 0.5
_LEASE_KEY = b"lease:"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One scope, as it is shown."""

    scope: str
    level: str
    score: float | None
    error_ratio: float | None
    p95_ms: float | None
    qps: float | None
    """Requests (edge: calls) per second, those that clients turned away included."""
    since_ms: int | None
    """Since when it has this level."""
    mode: str
    admit_ratio: float | None
    reason: str
    boundary: int
    is_stale: bool
    """Its partition's lease has run out: nobody evaluates it, and clients fall back."""

    @property
    def severity(self) -> int:
        """The level as a number."""
        return LEVEL_NAMES.index(self.level)


@dataclass(slots=True)
class _Live:
    """What health says about a key. Rates come from the increments of the last boundaries."""

    level: int = 0
    score: int = -1
    p95_us: int = -1
    boundary: int = 0
    merged: deque[tuple[int, float, float, float]] = field(default_factory=deque)
    """(boundary, requests offered, admitted, failed)."""


class Board:
    """The newest decision of each scope and the newest score of each key."""

    def __init__(self) -> None:
        self._decisions: dict[str, Decision] = {}
        self._live: dict[str, _Live] = {}
        self._heard: dict[int, tuple[int, int]] = {}
        self._boundary: dict[int, int] = {}

    def apply_decision(self, key: bytes, value: bytes | None, *, now_ms: int) -> Decision | None:
        """Takes one record of the decisions topic; gives back the decision if it is news.

        A repeated or older one is not, as `boundary` says. Raises msgspec.DecodeError for bytes that
        are neither a decision nor a lease.
        """
        scope = key.decode(errors="replace")
        if value is None:
            self._decisions.pop(scope, None)
            self._live.pop(scope, None)
            return None
        if key.startswith(_LEASE_KEY):
            self._hear(decode_lease(value), now_ms)
            return None
        decision = decode_decision(value)
        known = self._decisions.get(scope)
        if known is not None and known.boundary >= decision.boundary:
            return None
        self._decisions[scope] = decision
        return decision

    def apply_health(self, record: HealthRecord) -> None:
        """Takes one part of a boundary of one partition; nothing of what the sequencer writes there."""
        if record.partition < 0:
            return
        newest = self._boundary.get(record.partition, 0)
        if record.boundary < newest:
            return  # published again after a takeover
        self._boundary[record.partition] = record.boundary
        offered, admitted, failed = (column.tolist() for column in _requests(record))
        for i, (service, target) in enumerate(record.keys):
            live = self._live.setdefault(scope_of_key(service, target), _Live())
            live.level, live.score = record.level[i], record.score[i]
            live.p95_us, live.boundary = record.p95_us[i], record.boundary
            if not live.merged or live.merged[-1][0] < record.boundary:
                live.merged.append((record.boundary, offered[i], admitted[i], failed[i]))

    def rows(self, *, now_ms: int) -> list[Row]:
        """Every known scope, worst first, then by name."""
        scopes = self._decisions.keys() | self._live.keys()
        rows = [self._row(scope, now_ms) for scope in scopes]
        rows.sort(key=lambda r: (-r.severity, 2.0 if r.score is None else r.score, r.scope))
        return rows

    def _row(self, scope: str, now_ms: int) -> Row:
        decision = self._decisions.get(scope)
        live = self._live.get(scope)
        level = Level(live.level).name.lower() if live else "closed"
        score = None if live is None or live.score < 0 else live.score / 1000
        p95_ms = None if live is None or live.p95_us < 0 else live.p95_us / 1000
        boundary = live.boundary if live else 0
        error_ratio, qps = self._rates(live)
        if decision is not None:
            if decision.boundary >= boundary:
                level, score = decision.level, decision.score
            boundary = max(boundary, decision.boundary)
            signals = decision.signals
            p95_ms = signals.p95_ms if p95_ms is None else p95_ms
            qps = signals.qps if qps is None else qps
            error_ratio = signals.error_ratio if error_ratio is None else error_ratio
        return Row(
            scope=scope,
            level=level,
            score=score,
            error_ratio=error_ratio,
            p95_ms=p95_ms,
            qps=qps,
            since_ms=decision.since_ms if decision else None,
            mode=decision.mode if decision else "",
            admit_ratio=decision.actions.admit_ratio if decision else None,
            reason=decision.reason if decision else "",
            boundary=boundary,
            is_stale=decision is not None and self._is_stale(decision.partition, now_ms),
        )

    def _rates(self, live: _Live | None) -> tuple[float | None, float | None]:
        """Failed share of those admitted, and requests per second, over the last 5 s of event time."""
        if live is None:
            return None, None
        oldest = max(self._boundary.values(), default=0) - RATE_BOUNDARIES
        while live.merged and live.merged[0][0] <= oldest:
            live.merged.popleft()
        if not live.merged:
            return None, 0.0
        _, offered, admitted, failed = (sum(column) for column in zip(*live.merged, strict=True))
        error_ratio = failed / admitted if admitted else None
        return error_ratio, offered / (RATE_BOUNDARIES * _BOUNDARY_S)

    def _hear(self, lease: Lease, now_ms: int) -> None:
        known = self._heard.get(lease.partition)
        if known is None or lease.boundary > known[0]:
            self._heard[lease.partition] = (lease.boundary, now_ms + lease.lease_ms)

    def _is_stale(self, partition: int, now_ms: int) -> bool:
        heard = self._heard.get(partition)
        return heard is not None and now_ms > heard[1]


def _requests(record: HealthRecord) -> tuple[Floats, Floats, Floats]:
    """Per key, by adjusted count, what this boundary merged: requests offered (turned away ones too),
    admitted (without own effects) and failed ones of these. Shape (keys,) each.
    """
    cells = record.cells
    key = np.frombuffer(cells["key"], "<u4")
    code = np.frombuffer(cells["code"], "<u2")
    weight = np.frombuffer(cells["weight"], "<i4") / WEIGHT_ONE
    count = np.frombuffer(cells["count"], "<i4") * weight
    count[(code & SELF_TIME) != 0] = 0
    is_admitted = (code >> EFFECT_SHIFT) & OUTCOME_MASK == Effect.NONE
    is_failed = is_admitted & np.isin(code & OUTCOME_MASK, list(FAILED_OUTCOMES))

    def per_key(of: npt.NDArray[np.bool_]) -> Floats:
        return np.bincount(key[of], count[of], len(record.keys)).astype(np.float64)

    return per_key(np.ones(len(key), np.bool_)), per_key(is_admitted), per_key(is_failed)
