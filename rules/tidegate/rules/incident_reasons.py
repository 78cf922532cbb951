"""What people read about an incident: the numbers that make it hold. Only for keys that are published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidegate.rules.incidents import IncidentState
from tidegate.rules.policy_types import Incidents
from tidegate.rules.reason import clock
from tidegate.rules.window import FAST_BUCKETS
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import Incident

__all__ = ["reasons"]

NAMES_MAX = 10
"""Dependencies that are named: a text must not fill a record."""
_FAST_S = FAST_BUCKETS * BUCKET_MS // 1000


@dataclass(frozen=True, slots=True)
class _Key:
    state: IncidentState
    slot: int
    settings: Incidents
    dependencies: Sequence[str]


def reasons(
    state: IncidentState, slot: int, settings: Incidents, dependencies: Sequence[str] = ()
) -> list[Incident]:
    """L1, L3 and L4 of one key, those that it has, in this order. dependencies: targets of the edges at L3
    that count for its cascade (`incidents.dependencies`)."""
    key = _Key(state, slot, settings, dependencies)
    return [
        Incident(
            rule=rule,  # type: ignore[arg-type]  # a name of the same closed set
            since_ms=since * BUCKET_MS,
            reason=f"{rule}: {text(key)}",
        )
        for rule, column, text in _TEXTS
        if (since := int(getattr(state, column)[slot])) >= 0
    ]


def _jitter(key: _Key) -> str:
    p95, limit = float(key.state.l1_p95_ms[key.slot]), int(key.state.l1_limit_ms[key.slot])
    windows = int(key.state.l1_windows[key.slot])
    return f"P95 {p95:.0f} ms over {limit} ms, in {windows} windows of {_FAST_S} s in a row"


def _service_fault(key: _Key) -> str:
    told = []
    if key.state.l3_is_timing_out[key.slot]:
        percent = int(float(key.state.l3_timeout_ratio[key.slot]) * 100.0 + 0.5)
        told.append(f"{percent} % of {int(key.state.l3_calls[key.slot])} calls timed out in 30 s")
    if key.state.l3_stall_windows[key.slot] >= key.settings.l3.stall_windows:
        now, usual = key.state.l3_fast_qps[key.slot], key.state.l3_usual_qps[key.slot]
        told.append(
            f"{now:.3g} calls/s ended in {_FAST_S} s, usual are {usual:.3g}, while the caller gets "
            "requests"
        )
    return "; ".join(told)


def _cascade(key: _Key) -> str:
    names = sorted(key.dependencies)
    shown = ", ".join(names[:NAMES_MAX])
    if len(names) > NAMES_MAX:
        shown += f" and {len(names) - NAMES_MAX} more"
    counted = "1 dependency" if len(names) == 1 else f"{len(names)} dependencies"
    told = f"{counted} at L3" + (f": {shown}" if names else "")
    gone = int(key.state.l4_gone_since[key.slot])
    if gone < 0:
        return told
    wanted = key.settings.l4
    return f"{told}; under {wanted.dependencies_min} since {clock(gone * BUCKET_MS)}, ends after {wanted.exit_stand_s} s"


_TEXTS: tuple[tuple[str, str, Callable[[_Key], str]], ...] = (
    ("L1", "l1_since", _jitter),
    ("L3", "l3_since", _service_fault),
    ("L4", "l4_since", _cascade),
)
