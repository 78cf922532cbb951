"""Decisions, leases and health records as workers publish them, for tests of what reads them."""

import numpy as np
from msgspec.structs import replace

from tidegate.client import testing
from tidegate.schemas.cells import EFFECT_SHIFT, WEIGHT_ONE
from tidegate.schemas.decision import Decision, LevelName
from tidegate.schemas.health import NUMBERS, Health, HealthRecord, decode_health, encode_health
from tidegate.schemas.level import level_named
from tidegate.schemas.outcome import Effect, Outcome

T_MS = 1_700_000_000_000
B = T_MS // 500


def decision(
    scope: str,
    level: LevelName,
    *,
    boundary: int = B,
    score: float = 0.5,
    partition: int = 0,
    mode: str = "enforce",
) -> Decision:
    """A plausible one."""
    end_ms = boundary * 500
    plain = testing.decision(
        scope,
        level,
        boundary=boundary,
        partition=partition,
        enforce=mode == "enforce",
        admit_ratio=0.0 if level == "open" else 1.0,
    )
    return replace(
        plain,
        score=score,
        reason=f"score {score}: because of a test",
        signals=replace(
            plain.signals,
            error_ratio=0.25,
            own_error_ratio=0.25,
            p95_ms=40.0,
            self_p95_ms=None,
            target_ms=100.0,
            evidence="sharp",
            evidence_since_ms=end_ms,
        ),
        window_start_ms=end_ms - 30_000,
        policy="test@1",
        evidence_age_ms=700,
    )


def health(
    *,
    boundary: int = B,
    partition: int = 0,
    keys: list[tuple[str, str]],
    level: str = "closed",
    score: int = 900,
    ok: int = 0,
    failed: int = 0,
    shed: int = 0,
) -> HealthRecord:
    """One boundary in which every key merged these requests."""
    n = len(keys)
    shed_code = (Effect.SHED << EFFECT_SHIFT) | Outcome.SERVER_ERROR
    key = np.repeat(np.arange(n, dtype=np.uint32), 3)
    record = Health(
        partition=partition,
        boundary=boundary,
        policy="test@1",
        keys=keys,
        score=np.full(n, score, np.int32),
        level=np.full(n, level_named(level), np.uint8),
        findings=np.zeros(n, np.uint8),
        p95_us=np.full(n, 80_000, np.int64),
        key=key,
        age=np.zeros(3 * n, np.uint16),
        code=np.tile(np.array([Outcome.OK, Outcome.SERVER_ERROR, shed_code], np.uint16), n),
        bin=np.full(3 * n, 300, np.uint16),
        count=np.tile(np.array([ok, failed, shed], np.int32), n),
        weight=np.full(3 * n, WEIGHT_ONE, np.int32),
        numbers={name: np.zeros(n, dtype) for name, dtype in NUMBERS.items()},
    )
    (data,) = encode_health(record)
    return decode_health(data)
