"""Reason texts: who or what decided, the terms of the score, since when, and the rule that moved the level."""

from collections.abc import Sequence
from typing import NamedTuple

from tidegate.rules.level import TEXTS
from tidegate.schemas.decision import Incident, Override, Signals

__all__ = ["Moved", "clock", "reason_of"]


class Moved(NamedTuple):
    """A change of level, or of the ramp's step."""

    rule: str
    before: str
    level: str


def reason_of(
    *,
    score: int,
    signals: Signals,
    moved: Moved | None,
    level: str,
    limit: str = "",
    is_held: bool = False,
    incidents: Sequence[Incident] = (),
    override: Override | None = None,
) -> str:
    """E.g. `score 0.39: error ratio 0.62 of 410 requests in 5 s (sharp evidence since 12:03:04),
    p95 84 ms, 412 qps; closed -> degraded_2: worse score confirmed`. With an override that comes first,
    then what would be without it."""
    told = []
    if override is not None:
        told.append(
            f"override {override.level} by {override.by} until {clock(override.until_ms)}: "
            f"{override.reason}; else {level}: "
        )
    told += [
        f"score {score / 1000:.2f}" if score >= 0 else "score unknown",
        f": error ratio {signals.error_ratio:.2f}",
        f" of {signals.requests} requests in {signals.window_s:g} s",
    ]
    if signals.evidence_since_ms is not None:
        told.append(f" ({signals.evidence} evidence since {clock(signals.evidence_since_ms)})")
    if signals.p95_ms is not None:
        told.append(f", p95 {_number(signals.p95_ms)} ms")
        if signals.target_ms is not None and signals.p95_ms > signals.target_ms:
            told.append(f" over the target of {_number(signals.target_ms)} ms")
    told.append(f", {_number(signals.qps)} qps")
    if signals.shed:
        told.append(f", {signals.shed} shed in 30 s")
    told += [f"; {incident.reason}" for incident in incidents]
    if moved is not None:
        way = f"{moved.before} -> {moved.level}" if moved.before != moved.level else moved.level
        told.append(f"; {way}: {TEXTS[moved.rule]}")
    if limit:
        told.append(f"; {limit}")
    if is_held:
        told.append("; levels are held: telemetry is suspect")
    return "".join(told)


def clock(ms: int) -> str:
    """Time of day in UTC."""
    seconds = ms // 1000 % 86_400
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.3g}"
