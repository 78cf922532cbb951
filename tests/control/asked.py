"""Records as operators ask for them, with the time written down; and the topic that holds them."""

from collections.abc import Iterable, Sequence

from tidegate.schemas.control import (
    Abort,
    ControlRecord,
    LatchReset,
    OverrideClear,
    OverrideSet,
    PolicyPush,
    Promote,
    Relearn,
    SilenceClear,
    SilenceSet,
    encode_control,
)
from tidegate.streams.control_topic import Accepted, ControlLog, Refused

T_MS = 1_800_000_000_000
LEAD_MS = 2_000
TOPIC_ID = "control-topic-id"
WHO = {"by": "kim", "reason": "a test", "asked_ms": T_MS}


def policy_text(name: str, mode: str = "observe") -> str:
    return f"name: {name}\nsettings:\n  mode: {mode}\n"


def push(name: str = "shop", rollout: str = "full", **more: object) -> PolicyPush:
    if rollout == "grey":
        more = {"share": 0.1, **more}
    return PolicyPush(text=policy_text(name), rollout=rollout, **more, **WHO)  # type: ignore[arg-type]  # fields by name


def bad_push() -> PolicyPush:
    return PolicyPush(text="name: bad\nsettings:\n  mood: good\n  mode: strict\n", **WHO)  # type: ignore[arg-type]  # fields by name


def override(scope: str = "service:a", *, until_ms: int = T_MS + 600_000) -> OverrideSet:
    return OverrideSet(scope=scope, level="open", until_ms=until_ms, **WHO)  # type: ignore[arg-type]  # fields by name


def clear(scope: str = "service:a") -> OverrideClear:
    return OverrideClear(scope=scope, **WHO)  # type: ignore[arg-type]  # fields by name


def silence(scope: str = "service:a", *, until_ms: int = T_MS + 600_000) -> SilenceSet:
    return SilenceSet(scope=scope, from_ms=T_MS, until_ms=until_ms, **WHO)  # type: ignore[arg-type]  # fields by name


def silence_clear(scope: str = "service:a") -> SilenceClear:
    return SilenceClear(scope=scope, **WHO)  # type: ignore[arg-type]  # fields by name


def latch(scope: str = "service:a", action: str = "lock") -> LatchReset:
    return LatchReset(scope=scope, action=action, **WHO)  # type: ignore[arg-type]  # fields by name


def relearn(scope: str = "service:a") -> Relearn:
    return Relearn(scope=scope, **WHO)  # type: ignore[arg-type]  # fields by name


def promote() -> Promote:
    return Promote(**WHO)  # type: ignore[arg-type]  # fields by name


def abort() -> Abort:
    return Abort(**WHO)  # type: ignore[arg-type]  # fields by name


def read(
    records: Iterable[ControlRecord | bytes],
    *,
    every_ms: int = 1_000,
    times_ms: Sequence[int] | None = None,
) -> list[Accepted | Refused]:
    """What the log makes of them: offsets from 0, appended in steps from T_MS on, or at `times_ms`."""
    control = ControlLog(switch_lead_ms=LEAD_MS)
    return [
        control.take(
            record if isinstance(record, bytes) else encode_control(record),
            offset=offset,
            append_ms=T_MS + offset * every_ms if times_ms is None else times_ms[offset],
        )
        for offset, record in enumerate(records)
    ]


def accepted(
    records: Iterable[ControlRecord | bytes],
    *,
    every_ms: int = 1_000,
    times_ms: Sequence[int] | None = None,
) -> list[Accepted]:
    """Those that count."""
    return [
        one
        for one in read(records, every_ms=every_ms, times_ms=times_ms)
        if isinstance(one, Accepted)
    ]
