"""Reason texts: the terms of the score, since when, and the rule that moved the level."""

from tidegate.rules.level import TEXTS
from tidegate.schemas.decision import Signals

__all__ = ["reason_of"]


def reason_of(
    *, score: int, signals: Signals, rule: str, before: str, level: str, is_changed: bool
) -> str:
    """E.g. `score 0.39: error ratio 0.62 of 410 requests in 5 s (sharp evidence since 12:03:04),
    p95 84 ms, 412 qps; closed -> degraded_2: worse score confirmed`."""
    told = [
        f"score {score / 1000:.2f}" if score >= 0 else "score unknown",
        f": error ratio {signals.error_ratio:.2f}",
        f" of {signals.requests} requests in {signals.window_s:g} s",
    ]
    if signals.evidence_since_ms is not None:
        told.append(f" ({signals.evidence} evidence since {_clock(signals.evidence_since_ms)})")
    if signals.p95_ms is not None:
        told.append(f", p95 {_number(signals.p95_ms)} ms")
        if signals.target_ms is not None and signals.p95_ms > signals.target_ms:
            told.append(f" over the target of {_number(signals.target_ms)} ms")
    told.append(f", {_number(signals.qps)} qps")
    if signals.shed:
        told.append(f", {signals.shed} shed in 30 s")
    if is_changed:
        moved = f"{before} -> {level}" if before != level else level
        told.append(f"; {moved}: {TEXTS[rule]}")
    return "".join(told)


def _clock(ms: int) -> str:
    """Time of day in UTC."""
    seconds = ms // 1000 % 86_400
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.3g}"
